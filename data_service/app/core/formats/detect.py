"""Which format a source is in."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from data_service.app.core.formats import coco, images, voc, yolo
from data_service.app.core.formats.parsed import ExportFile, ExportItem, Parsed
from data_service.app.core.tree import FileTree
from shared.models.data import Format

ExportFormat = Literal["yolo", "coco", "voc"]
Writer = Callable[[Sequence[ExportItem], Sequence[str]], Iterator[ExportFile]]

WRITERS: dict[ExportFormat, Writer] = {"yolo": yolo.write, "coco": coco.write, "voc": voc.write}
_READERS: dict[Format, Callable[[FileTree], Parsed]] = {
    "yolo": yolo.read,
    "coco": coco.read,
    "voc": voc.read,
    "images": images.read,
}


def read_source(tree: FileTree, given: Format | Literal["auto"]) -> Parsed:
    """Read a source in the given format, or in the one it is recognised to be."""
    return _READERS[recognise(tree) if given == "auto" else given](tree)


def recognise(tree: FileTree) -> Format:
    """Return the format of a source: COCO and VOC are unmistakable, YOLO's text files are not."""
    if coco.recognises(tree):
        return "coco"
    if voc.recognises(tree):
        return "voc"
    return "yolo" if yolo.recognises(tree) else "images"
