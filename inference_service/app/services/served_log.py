"""Log of served predictions: a line in a local file at once, Parquet in the store soon after."""

import fcntl
import json
import os
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import structlog

from shared.errors import BackendUnavailable
from shared.objects.port import ObjectStore
from shared.served import SCALARS, DriftRow, ServedPrediction, write_served

log = structlog.stdlib.get_logger()


class ServedLog:
    """Spools lines to a file that it holds locked; files nobody holds are taken over."""

    def __init__(self, folder: Path, store: ObjectStore, max_rows: int = 500) -> None:
        """Spool under `folder` and write to `store`, at the latest every `max_rows` lines."""
        self._folder = folder
        self._store = store
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._spool: IO[str] | None = None
        self._n_rows = 0
        self._full = threading.Event()
        self._stop = False
        self._thread: threading.Thread | None = None

    def start(self, flush_s: float) -> None:
        """Write what a killed process left, and then every `flush_s` seconds."""
        self._thread = threading.Thread(target=self._run, args=(flush_s,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write everything, and end."""
        self._stop = True
        self._full.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def append(self, project: str, model_version: int, served: ServedPrediction) -> None:
        """Add a prediction; once this returns, killing the process does not lose it.

        Raises:
            OSError: it could not be written, as on a full disk.
        """
        line = json.dumps(_to_json(project, model_version, served))
        with self._lock:
            if self._spool is None:
                self._spool = self._new_spool()
            try:
                self._spool.write(line + "\n")
                self._spool.flush()
            except OSError:
                self._drop(self._spool)
                raise
            self._n_rows += 1
            if self._n_rows >= self._max_rows:
                self._full.set()

    def flush(self) -> None:
        """Write every spooled line to the store; what the store does not take stays spooled."""
        with self._flushing:
            with self._lock:
                spool, self._spool, self._n_rows = self._spool, None, 0
            if spool is not None:
                spool.close()
            for path in sorted(self._folder.glob("*.jsonl")):
                self._write_out(path)

    def _run(self, flush_s: float) -> None:
        while not self._stop:
            try:
                self.flush()
            # The outer shell of a thread that must not end: what failed is tried again, and logged.
            except Exception:
                log.exception("served.flush_failed")
            self._full.wait(flush_s)
            self._full.clear()

    def _drop(self, spool: IO[str]) -> None:
        """Leave a spool that may end in half a line to the next flush; nothing is added to it."""
        self._spool = None
        # Closing writes what is buffered, and fails as writing did; the file is closed nonetheless.
        with suppress(OSError):
            spool.close()

    def _new_spool(self) -> IO[str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Named as a spool only once it is locked, so that nobody takes it over in between.
        path = self._folder / f"{uuid.uuid4().hex}.new"
        spool = path.open("w")
        fcntl.flock(spool, fcntl.LOCK_EX)
        path.rename(path.with_suffix(".jsonl"))
        return spool

    def _write_out(self, path: Path) -> None:
        try:
            with path.open(errors="replace") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another process may have written it since it was opened.
                if os.fstat(file.fileno()).st_nlink:
                    self._write(path, file)
                path.unlink()
        except (BlockingIOError, FileNotFoundError):
            return  # another process holds it, or has just written it
        except BackendUnavailable as exc:
            log.warning("served.waiting", path=str(path), reason=str(exc))

    def _write(self, path: Path, lines: IO[str]) -> None:
        for (project, version), served in _parsed(path, lines).items():
            write_served(self._store, project, version, served)


def _parsed(
    path: Path, lines: Iterable[str]
) -> Mapping[tuple[str, int], Sequence[ServedPrediction]]:
    """Return the predictions by project and model version, without the lines nobody can read."""
    groups: dict[tuple[str, int], list[ServedPrediction]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            group, served = (str(row["project"]), int(row["model_version"])), _from_json(row)
        # Torn by a kill or a full disk, when its request was never answered; or damaged since.
        except (ValueError, KeyError, TypeError) as exc:
            log.warning("served.bad_line", path=str(path), line=number, reason=str(exc))
            continue
        groups[group].append(served)
    return groups


def _to_json(project: str, model_version: int, served: ServedPrediction) -> dict[str, object]:
    row = served.row
    return {
        "project": project,
        "model_version": model_version,
        "prediction_id": served.prediction_id,
        "time": served.time.isoformat(),
        "image_id": served.image_id,
        "batch": served.batch,
        **{name: getattr(row, name) for name in SCALARS},
        "class_counts": row.class_counts,
        "embedding": row.embedding.tolist(),
    }


def _from_json(row: Mapping[str, Any]) -> ServedPrediction:
    return ServedPrediction(
        prediction_id=row["prediction_id"],
        time=datetime.fromisoformat(row["time"]),
        image_id=row["image_id"],
        batch=row["batch"],
        row=DriftRow(
            **{name: row[name] for name in SCALARS},
            class_counts=tuple(row["class_counts"]),
            embedding=np.asarray(row["embedding"], dtype=np.float32),
        ),
    )
