"""What every object store must do; an adapter's tests are its `store` fixture and a subclass."""

import io
import threading

import pytest

from shared.objects.port import BadKey, ObjectNotFound, ObjectStore

_MIB = 1024 * 1024


class ObjectStoreContract:
    """Subclass it and give a fixture `store`: an empty store."""

    def test_an_empty_store_lists_nothing(self, store: ObjectStore) -> None:
        assert list(store.list()) == []

    def test_what_was_put_is_what_is_got(self, store: ObjectStore) -> None:
        store.put("projects/digits/images/ab/abc.jpg", b"\x00\xffjpeg", "image/jpeg")
        assert store.get("projects/digits/images/ab/abc.jpg") == b"\x00\xffjpeg"
        assert store.exists("projects/digits/images/ab/abc.jpg")
        assert store.size("projects/digits/images/ab/abc.jpg") == 6

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        store.put("empty", b"")
        assert store.get("empty") == b""
        assert store.size("empty") == 0

    def test_put_replaces(self, store: ObjectStore) -> None:
        store.put("a", b"a long first value")
        store.put("a", b"second")
        assert store.get("a") == b"second"
        assert list(store.list()) == ["a"]

    def test_a_stream_is_stored_whole_and_left_open(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * 4 * 1024 * 33  # 33 MiB: several parts on S3
        stream = io.BytesIO(data)
        store.put("big.bin", stream)
        assert not stream.closed
        assert store.size("big.bin") == 33 * _MIB
        assert store.get("big.bin") == data

    def test_a_stream_is_read_in_pieces(self, store: ObjectStore) -> None:
        store.put("a.txt", b"0123456789")
        with store.open("a.txt") as stream:
            assert stream.read(4) == b"0123"
            assert stream.read(4) == b"4567"
            assert stream.read() == b"89"
            assert stream.read() == b""

    @pytest.mark.parametrize("read", ["get", "size", "open"])
    def test_a_missing_key_is_not_found_with_its_name(self, store: ObjectStore, read: str) -> None:
        with pytest.raises(ObjectNotFound, match=r"unknown object: 'no/such.jpg'") as caught:
            _read(store, read, "no/such.jpg")
        assert caught.value.status == 404
        assert not store.exists("no/such.jpg")

    @pytest.mark.parametrize("read", ["get", "size", "open"])
    def test_a_folder_of_keys_is_no_object(self, store: ObjectStore, read: str) -> None:
        store.put("a/b", b"1")
        with pytest.raises(ObjectNotFound, match="unknown object: 'a'"):
            _read(store, read, "a")
        assert not store.exists("a")
        store.delete("a")
        assert store.get("a/b") == b"1"

    def test_delete_removes_and_may_be_repeated(self, store: ObjectStore) -> None:
        store.put("a", b"1")
        store.delete("a")
        store.delete("a")
        store.delete("never/there")
        assert not store.exists("a")

    def test_keys_are_listed_sorted_by_prefix(self, store: ObjectStore) -> None:
        for key in ("a/b", "a-b", "a/b.jpg", "a/B", "b/1", "a.b", "a/c/d"):
            store.put(key, b"")
        assert list(store.list()) == ["a-b", "a.b", "a/B", "a/b", "a/b.jpg", "a/c/d", "b/1"]
        assert list(store.list("a/")) == ["a/B", "a/b", "a/b.jpg", "a/c/d"]
        assert list(store.list("a/b")) == ["a/b", "a/b.jpg"]
        assert list(store.list("a/c")) == ["a/c/d"]
        assert list(store.list("zzz/none")) == []

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/x",
            "../x",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            "a\\b",
            "a\n",
            "a" * 256,
            "a/" * 512 + "a",
        ],
    )
    def test_an_unsafe_key_is_refused_everywhere(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(BadKey):
            store.put(key, b"1")
        with pytest.raises(BadKey):
            store.signed_url(key, 60)
        with pytest.raises(BadKey):
            store.exists(key)
        with pytest.raises(BadKey):
            store.delete(key)
        for read in ("get", "size", "open"):
            with pytest.raises(BadKey):
                _read(store, read, key)

    @pytest.mark.parametrize("prefix", ["/x", "../x", "a/../b"])
    def test_an_unsafe_prefix_is_refused(self, store: ObjectStore, prefix: str) -> None:
        with pytest.raises(BadKey):
            list(store.list(prefix))

    def test_readers_see_the_old_or_the_new_object_whole(self, store: ObjectStore) -> None:
        old, new = b"o" * _MIB, b"n" * _MIB
        store.put("a", old)
        seen: set[bytes] = set()
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                seen.add(store.get("a"))

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for value in (new, old) * 10:
            store.put("a", value)
        stop.set()
        for reader in readers:
            reader.join()
        assert seen <= {old, new}
        assert seen

    def test_a_store_that_is_up_passes_its_check(self, store: ObjectStore) -> None:
        store.check()


def _read(store: ObjectStore, how: str, key: str) -> None:
    if how == "get":
        store.get(key)
    elif how == "size":
        store.size(key)
    else:
        with store.open(key):
            pass
