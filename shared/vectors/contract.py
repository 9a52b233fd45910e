"""What every vector store must do; an adapter's tests are its `store` fixture and a subclass."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from shared.vectors.encoding import BadNamespace, BadVector
from shared.vectors.port import Scalar, Vector, VectorRecord, VectorStore, WrongDimension

_ODD_IDS = ["é", "it's", 'a"b', "a b", "日本", "x'); DROP", "%", "0" * 64]


def _v(*values: float) -> Vector:
    return np.array(values, dtype=np.float32)


class VectorStoreContract:
    """Subclass it and give a fixture `store`: an empty store."""

    def test_an_unknown_namespace_is_empty(self, store: VectorStore) -> None:
        assert store.count("nobody-v1") == 0
        assert store.query("nobody-v1", _v(1, 0), 3) == []
        assert list(store.scan("nobody-v1")) == []
        store.delete("nobody-v1", ["a"])
        store.drop("nobody-v1")

    def test_no_records_and_no_ids_are_fine(self, store: VectorStore) -> None:
        store.upsert("a", [])
        assert store.count("a") == 0
        store.upsert("a", [VectorRecord("x", _v(1, 0))])
        store.delete("a", [])
        assert store.count("a") == 1

    def test_what_was_put_is_scanned_with_its_metadata(self, store: VectorStore) -> None:
        metadata: dict[str, Scalar] = {"split": "train", "n": 3, "score": 0.5, "labelled": True}
        store.upsert("digits-v1", [VectorRecord("a", _v(0.5, -0.25, 2), metadata)])
        ((record,),) = store.scan("digits-v1")
        assert record.id == "a"
        assert record.vector.dtype == np.float32
        np.testing.assert_array_equal(record.vector, _v(0.5, -0.25, 2))
        assert record.metadata == metadata

    def test_distance_is_cosine_nearest_first(self, store: VectorStore) -> None:
        store.upsert(
            "a",
            [
                VectorRecord("opposite", _v(-3, 0)),
                VectorRecord("same", _v(7, 0)),
                VectorRecord("across", _v(0, 0.1)),
                VectorRecord("between", _v(2, 2)),
            ],
        )
        found = store.query("a", _v(1, 0), 4)
        assert [n.id for n in found] == ["same", "between", "across", "opposite"]
        expected = [0.0, 1 - 0.5**0.5, 1.0, 2.0]
        np.testing.assert_allclose([n.distance for n in found], expected, atol=1e-5)

    def test_k_beyond_what_is_there_gives_all(self, store: VectorStore) -> None:
        store.upsert("a", [VectorRecord(i, _v(1, 0)) for i in "xy"])
        assert [n.id for n in store.query("a", _v(1, 0), 100)] == ["x", "y"]
        assert store.query("a", _v(1, 0), 0) == []

    def test_ties_are_in_order_of_id_even_past_k(self, store: VectorStore) -> None:
        ids = [f"{n:03d}" for n in range(150)]
        shuffled = np.random.default_rng(0).permutation(ids)
        store.upsert("a", [VectorRecord(str(i), _v(1, 2, 3)) for i in shuffled])
        store.upsert("a", [VectorRecord("far", _v(-1, 0, 0)), VectorRecord("zz", _v(2, 4, 6))])
        assert [n.id for n in store.query("a", _v(1, 2, 3), 3)] == ["000", "001", "002"]

    def test_upsert_replaces_by_id(self, store: VectorStore) -> None:
        store.upsert("a", [VectorRecord("x", _v(1, 0), {"n": 1}), VectorRecord("y", _v(0, 1))])
        for _ in range(2):
            store.upsert("a", [VectorRecord("x", _v(-1, 0), {"n": 2})])
        assert store.count("a") == 2
        last = store.query("a", _v(1, 0), 2)[-1]
        assert (last.id, last.metadata) == ("x", {"n": 2})

    def test_of_one_id_twice_in_a_batch_the_last_stays(self, store: VectorStore) -> None:
        store.upsert("a", [VectorRecord("x", _v(1, 0), {"n": i}) for i in (1, 2)])
        assert [n.metadata for n in store.query("a", _v(1, 0), 5)] == [{"n": 2}]

    def test_a_filter_asks_for_equal_key_type_and_value(self, store: VectorStore) -> None:
        store.upsert(
            "a",
            [
                VectorRecord("1", _v(1, 0), {"split": "train", "n": 1}),
                VectorRecord("2", _v(1, 0), {"split": "val", "n": 1}),
                VectorRecord("3", _v(1, 0), {"split": "train", "n": True}),
                VectorRecord("4", _v(1, 0), {"split": "it's", "n": 1.5}),
                VectorRecord("5", _v(1, 0), {"Split": "train"}),
                VectorRecord("6", _v(1, 0), {"split": "Train"}),
                VectorRecord("7", _v(1, 0)),
            ],
        )

        def ids(**where: str | int | float | bool) -> list[str]:
            return [n.id for n in store.query("a", _v(1, 0), 10, where)]

        assert ids(split="train") == ["1", "3"]
        assert ids(split="train", n=1) == ["1"]
        assert ids(n=True) == ["3"]
        assert ids(n=1.5) == ["4"]
        assert ids(split="it's") == ["4"]
        assert ids(split="none") == []
        assert ids(other=1) == []

    def test_a_filter_is_applied_before_k(self, store: VectorStore) -> None:
        near = [VectorRecord(f"{n:03d}", _v(1, 0), {"split": "train"}) for n in range(60)]
        store.upsert("a", [*near, VectorRecord("far", _v(0, 1), {"split": "val"})])
        assert [n.id for n in store.query("a", _v(1, 0), 1, {"split": "val"})] == ["far"]

    def test_a_wrong_dimension_is_refused(self, store: VectorStore) -> None:
        store.upsert("a", [VectorRecord("x", _v(1, 0))])
        with pytest.raises(WrongDimension, match="wrong dimension of 'y': 3, the name"):
            store.upsert("a", [VectorRecord("y", _v(1, 0, 0))])
        with pytest.raises(WrongDimension, match="wrong dimension of the query: 1"):
            store.query("a", _v(1), 1)
        with pytest.raises(WrongDimension):
            store.upsert("b", [VectorRecord("x", _v(1, 0)), VectorRecord("y", _v(1, 0, 0))])
        assert (store.count("a"), store.count("b")) == (1, 0)

    @pytest.mark.parametrize("values", [(0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0)])
    def test_a_vector_without_direction_is_refused(
        self, store: VectorStore, values: tuple[float, float]
    ) -> None:
        with pytest.raises(BadVector, match="'x'"):
            store.upsert("a", [VectorRecord("x", _v(*values))])
        assert store.count("a") == 0

    def test_odd_ids_stay_what_they_are(self, store: VectorStore) -> None:
        store.upsert("a", [VectorRecord(i, _v(1, n)) for n, i in enumerate(_ODD_IDS)])
        assert [r.id for page in store.scan("a") for r in page] == sorted(_ODD_IDS)
        store.delete("a", _ODD_IDS[:-1])
        assert [n.id for n in store.query("a", _v(1, 0), 10)] == ["0" * 64]

    def test_a_scan_gives_every_record_once_in_pages(self, store: VectorStore) -> None:
        ids = [f"{n:04d}" for n in range(250)]
        for start in (200, 100, 0):
            some = ids[start : start + 100]
            store.upsert("a", [VectorRecord(i, _v(1, int(i))) for i in reversed(some)])
        pages = list(store.scan("a", page_size=100))
        assert [len(page) for page in pages] == [100, 100, 50]
        assert [r.id for page in pages for r in page] == ids
        assert all(r.vector[1] == int(r.id) for page in pages for r in page)

    def test_delete_removes_and_may_be_repeated(self, store: VectorStore) -> None:
        store.upsert("a", [VectorRecord(i, _v(1, 0)) for i in "xyz"])
        store.delete("a", ["x", "nobody"])
        store.delete("a", ["x"])
        assert store.count("a") == 2
        assert [n.id for n in store.query("a", _v(1, 0), 5)] == ["y", "z"]

    def test_namespaces_do_not_see_each_other(self, store: VectorStore) -> None:
        names = ["digits-v1", "digits_v1", "digits-v10", "Digits-v1", "digits/v1", "digits v1"]
        for n, name in enumerate(names):
            store.upsert(name, [VectorRecord("x", np.ones(n + 1, np.float32), {"name": name})])
        for n, name in enumerate(names):
            (found,) = store.query(name, np.ones(n + 1, np.float32), 5)
            assert found.metadata == {"name": name}
        store.drop(names[0])
        assert [store.count(name) for name in names] == [0, 1, 1, 1, 1, 1]

    def test_a_dropped_namespace_may_start_again_with_another_dimension(
        self, store: VectorStore
    ) -> None:
        store.upsert("a", [VectorRecord("x", _v(1, 0))])
        store.drop("a")
        store.drop("a")
        store.upsert("a", [VectorRecord("y", _v(1, 0, 0))])
        assert [n.id for n in store.query("a", _v(1, 0, 0), 5)] == ["y"]

    def test_a_namespace_without_a_name_is_refused(self, store: VectorStore) -> None:
        with pytest.raises(BadNamespace):
            store.upsert("", [VectorRecord("x", _v(1, 0))])

    def test_long_namespaces_are_kept_apart(self, store: VectorStore) -> None:
        long = "a" + "-" * 62
        for namespace in (f"{long}-v1", f"{long}-v1-boxes", f"{long}-v2"):
            store.upsert(namespace, [VectorRecord(namespace, _v(1, 0))])
        assert [n.id for n in store.query(f"{long}-v1", _v(1, 0), 5)] == [f"{long}-v1"]

    def test_writers_at_once_neither_lose_nor_double(self, store: VectorStore) -> None:
        def write(start: int) -> None:
            for n in range(start, start + 10):
                store.upsert("a", [VectorRecord(str(n), _v(1, n)), VectorRecord("same", _v(1, 0))])

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(write, (0, 10, 20)))
        assert store.count("a") == 31

    def test_a_store_that_is_up_passes_its_check(self, store: VectorStore) -> None:
        store.check()
