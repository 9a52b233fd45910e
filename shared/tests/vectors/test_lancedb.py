import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.errors import BackendUnavailable
from shared.vectors.contract import VectorStoreContract
from shared.vectors.lancedb_store import LanceDBStore
from shared.vectors.port import VectorRecord

WRITER = """
import sys
from pathlib import Path
import numpy as np
from shared.vectors.lancedb_store import LanceDBStore
from shared.vectors.port import VectorRecord

store = LanceDBStore(Path(sys.argv[1]))
for n in range(40):
    own = VectorRecord(f"{sys.argv[2]}-{n}", np.array([1, n], np.float32))
    same = VectorRecord(f"same-{n}", np.array([1, n], np.float32))
    store.upsert("digits-v1", [own, same])
"""


@pytest.fixture
def store(tmp_path: Path) -> LanceDBStore:
    return LanceDBStore(tmp_path / "vectors")


class TestLanceDBStore(VectorStoreContract):
    pass


def test_two_writer_processes_neither_lose_nor_double(store: LanceDBStore, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "vectors")]
    writers = [subprocess.Popen([*command, name]) for name in ("a", "b")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    ids = [record.id for page in store.scan("digits-v1") for record in page]
    expected = [f"{name}-{n}" for name in ("a", "b", "same") for n in range(40)]
    assert ids == sorted(expected)


def test_a_scan_does_not_see_later_writes(store: LanceDBStore) -> None:
    store.upsert("a", [VectorRecord(i, np.ones(2, np.float32)) for i in "xyz"])
    pages = store.scan("a", page_size=1)
    assert [r.id for r in next(pages)] == ["x"]
    store.delete("a", ["y"])
    store.upsert("a", [VectorRecord("xx", np.ones(2, np.float32))])
    assert [r.id for page in pages for r in page] == ["y", "z"]


def test_what_one_store_wrote_another_reads_at_once(store: LanceDBStore, tmp_path: Path) -> None:
    other = LanceDBStore(tmp_path / "vectors")
    assert other.count("a") == 0
    store.upsert("a", [VectorRecord("x", np.ones(2, np.float32))])
    assert other.count("a") == 1
    store.delete("a", ["x"])
    assert other.count("a") == 0


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = LanceDBStore(tmp_path / "file")
    with pytest.raises(BackendUnavailable, match=r"vector store \(lancedb:.*/file\)"):
        store.check()
