"""Vector store on LanceDB: files in a folder, exact search, several processes at once."""

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from shared.errors import BackendUnavailable
from shared.vectors.encoding import (
    checked_matrix,
    checked_vector,
    encoded_namespace,
    last_of_each_id,
    nearest,
    tags,
    tie_at_the_end,
)
from shared.vectors.port import Neighbour, Scalar, Vector, VectorRecord

# Every write adds a fragment and a version; merging them now and then keeps reads fast.
_WRITES_BETWEEN_MERGES = 32
_KEEP_VERSIONS = timedelta(minutes=10)
_SPARE = 16


class LanceDBStore:
    """One table per namespace; writers take a file lock, readers see the newest version."""

    def __init__(self, folder: Path) -> None:
        """Keep the tables under `folder`, made at the first use."""
        self.folder = folder.resolve()
        self._opened: tuple[int, Any] | None = None
        self._open_lock = threading.Lock()

    def upsert(self, namespace: str, records: Sequence[VectorRecord]) -> None:
        """Insert or replace by id, in one version: readers see all of it or nothing."""
        name = encoded_namespace(namespace)
        if not records:
            return
        records = last_of_each_id(records)
        with self._writing(name):
            table = self._table(name)
            matrix = checked_matrix(records, None if table is None else _dimension(table))
            rows = _rows(records, matrix)
            if table is None:
                self._connection().create_table(name, rows)
                return
            merge = table.merge_insert("id")
            merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
            if table.version % _WRITES_BETWEEN_MERGES == 0:
                table.optimize(cleanup_older_than=_KEEP_VERSIONS)

    def query(
        self,
        namespace: str,
        vector: Vector,
        k: int,
        where: Mapping[str, Scalar] | None = None,
    ) -> list[Neighbour]:
        """Return the k nearest records by an exact search."""
        table = self._table(encoded_namespace(namespace))
        if table is None or k < 1:
            return []
        point = checked_vector(vector, "the query", _dimension(table))
        limit, n = k + _SPARE, table.count_rows()
        while True:
            search = table.search(point).distance_type("cosine").limit(limit)
            if where:
                search = search.where(_condition(where))
            found = [_neighbour(row) for row in search.select(_ANSWER_COLUMNS).to_list()]
            if limit >= n or not tie_at_the_end(found, k):
                return nearest(found, k)
            limit *= 4

    def scan(self, namespace: str, page_size: int = 1000) -> Iterator[list[VectorRecord]]:
        """Yield every record once, in pages, ordered by id, as the table was when asked."""
        table = self._table(encoded_namespace(namespace))
        if table is None:
            return
        ids = table.search().select(["id"]).with_row_id(True).to_arrow().sort_by("id")
        row_ids = ids["_rowid"].to_pylist()
        for start in range(0, len(row_ids), page_size):
            page = table.take_row_ids(row_ids[start : start + page_size]).to_arrow()
            yield _records(page.sort_by("id"))

    def count(self, namespace: str) -> int:
        """Return how many records there are; 0 for an unknown namespace."""
        table = self._table(encoded_namespace(namespace))
        return 0 if table is None else int(table.count_rows())

    def delete(self, namespace: str, ids: Sequence[str]) -> None:
        """Remove records; ids that are not there are fine."""
        name = encoded_namespace(namespace)
        if not ids:
            return
        with self._writing(name):
            table = self._table(name)
            if table is not None:
                table.delete(f"id IN ({', '.join(_quoted(i) for i in ids)})")

    def drop(self, namespace: str) -> None:
        """Remove the namespace; one that is not there is fine."""
        name = encoded_namespace(namespace)
        with self._writing(name):
            self._connection().drop_table(name, ignore_missing=True)

    def check(self) -> None:
        """List the tables, and see that the folder can be written."""
        with self._writing("check"):
            self._connection().list_tables(limit=1)

    def _connection(self) -> Any:
        # LanceDB's threads do not survive a fork: each process opens its own.
        with self._open_lock:
            if self._opened is None or self._opened[0] != os.getpid():
                import lancedb

                self._opened = (os.getpid(), lancedb.connect(str(self.folder)))
            return self._opened[1]

    def _table(self, name: str) -> Any | None:
        try:
            return self._connection().open_table(name)
        except ValueError as exc:
            if "was not found" in str(exc):
                return None
            raise

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Hold the namespace's lock: two inserts of one new id at once would both stay."""
        try:
            locks = self.folder / ".locks"
            locks.mkdir(parents=True, exist_ok=True)
            lock = (locks / name).open("w")
        except OSError as exc:
            msg = f"vector store (lancedb:{self.folder}): {exc}"
            raise BackendUnavailable(msg) from exc
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


_ANSWER_COLUMNS = ["id", "metadata", "_distance"]


def _rows(records: Sequence[VectorRecord], matrix: Any) -> Any:
    import pyarrow as pa

    dimension = matrix.shape[1]
    columns = {
        "id": pa.array([r.id for r in records], pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), dimension),
        "metadata": pa.array([json.dumps(dict(r.metadata)) for r in records], pa.string()),
        "tags": pa.array([tags(r.metadata) for r in records], pa.list_(pa.string())),
    }
    return pa.table(columns)


def _records(table: Any) -> list[VectorRecord]:
    vectors = table["vector"].combine_chunks()
    matrix = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    texts = zip(table["id"].to_pylist(), table["metadata"].to_pylist(), strict=True)
    return [
        VectorRecord(i, vector, json.loads(metadata))
        for (i, metadata), vector in zip(texts, matrix, strict=True)
    ]


def _neighbour(row: Mapping[str, Any]) -> Neighbour:
    return Neighbour(row["id"], float(row["_distance"]), json.loads(row["metadata"]))


def _dimension(table: Any) -> int:
    return int(table.schema.field("vector").type.list_size)


def _condition(where: Mapping[str, Scalar]) -> str:
    return " AND ".join(f"array_has(tags, {_quoted(tag)})" for tag in tags(where))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
