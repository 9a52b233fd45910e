"""The files of a batch: its lines in pieces, what became of each piece, the calibration."""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from itertools import islice
from typing import BinaryIO

from shared.errors import TooLarge, ValidationFailed
from shared.objects.port import ObjectStore

# Done again as a whole after a kill: some ten seconds of work.
PIECE_LINES = 256
MAX_LINES = 1_000_000
MAX_LINE_BYTES = 64 << 10


def keep_lines(store: ObjectStore, project: str, batch_id: str, file: BinaryIO) -> tuple[int, ...]:
    """Store the lines of a file in pieces, and return how many each has.

    Raises:
        ValidationFailed: no lines.
        TooLarge: too many.
    """
    sizes: list[int] = []
    numbered = _numbered(file)
    while lines := list(islice(numbered, PIECE_LINES)):
        if sum(sizes) + len(lines) > MAX_LINES:
            msg = f"a batch has at most {MAX_LINES} lines"
            raise TooLarge(msg)
        store.put(input_key(project, batch_id, len(sizes)), b"".join(lines))
        sizes.append(len(lines))
    if not sizes:
        msg = "a batch without lines: give one JSON object a line, with image_id, url or key"
        raise ValidationFailed(msg)
    return tuple(sizes)


def delete_files(
    store: ObjectStore,
    project: str,
    batch_id: str,
    on_deleted: Callable[[float], None] = lambda _fraction: None,
) -> int:
    """Delete all files of a batch, and return how many there were."""
    keys = list(store.list(f"{folder(project, batch_id)}/"))
    for n_deleted, key in enumerate(keys, 1):
        store.delete(key)
        on_deleted(n_deleted / len(keys))
    return len(keys)


def folder(project: str, batch_id: str) -> str:
    """Return where the files of a batch lie."""
    return f"projects/{project}/batches/{batch_id}"


def input_key(project: str, batch_id: str, piece: int) -> str:
    """Return the key of some lines of a batch, as they came."""
    return f"{folder(project, batch_id)}/input/{piece:06}.jsonl"


def outcome_key(project: str, batch_id: str, piece: int) -> str:
    """Return the key of what became of some lines: one file, so that it is whole or not there."""
    return f"{folder(project, batch_id)}/outcomes/{piece:06}.jsonl"


def calibration_key(project: str, batch_id: str) -> str:
    """Return the key of the calibration that holds for a batch; without one it is empty."""
    return f"{folder(project, batch_id)}/calibration.json"


def _numbered(file: BinaryIO) -> Iterator[bytes]:
    """Yield each line with its number and a tab before it; empty ones ask for nothing."""
    file.seek(0)
    if file.read(len(BOM_UTF8)) != BOM_UTF8:
        file.seek(0)
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES + 1)
        if line.strip():
            yield b"%d\t%s\n" % (number, line.rstrip(b"\r\n"))
