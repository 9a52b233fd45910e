"""What every format is read into, and written from."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from data_service.app.core.boxes import RawBox
from data_service.app.core.tree import FileTree
from shared.models.data import Format, Rejection, RejectionReason, Split
from shared.models.geometry import Annotation


@dataclass(frozen=True)
class RawImage:
    """One image of a source and what its annotation file says.

    Attributes:
        path: of the image in the source.
        boxes: None is unlabelled; empty is 'nothing here'.
        split: that the source puts it into, if it does.
        box_size: width and height the boxes refer to; None for normalised ones, (0, 0) where the
            file does not say, so that it is the image's own.
    """

    path: str
    boxes: tuple[RawBox, ...] | None = None
    split: Split | None = None
    box_size: tuple[int, int] | None = None


@dataclass
class Parsed:
    """A whole source as read.

    Attributes:
        format: it was read as.
        classes: in the order to pin.
        images: in the order of their paths.
        declared: splits that the source's lists name, even those without an image.
        rejected: what could not be read.
    """

    format: Format
    classes: tuple[str, ...] = ()
    images: list[RawImage] = field(default_factory=list)
    declared: frozenset[Split] = frozenset()
    rejected: list[Rejection] = field(default_factory=list)

    def reject(self, name: str, reason: RejectionReason, detail: str) -> None:
        """Note one thing that was not taken."""
        self.rejected.append(Rejection(name=name, reason=reason, detail=detail))


class ListedSplits:
    """Which split each image is in, by lists that may contradict each other."""

    def __init__(self, parsed: Parsed) -> None:
        """Note contradictions in `parsed`."""
        self._parsed = parsed
        self._splits: dict[str, Split] = {}
        self.declared: set[Split] = set()

    def put(self, image: str, split: Split) -> None:
        """Put an image into a split; one that is in train too is held out."""
        self.declared.add(split)
        before = self._splits.get(image)
        if before is None or before == split:
            self._splits[image] = split
            return
        kept = split if before == "train" else before
        self._splits[image] = kept
        detail = f"listed in {before} and in {split}; put into {kept}"
        self._parsed.reject(image, "bad_annotation", detail)

    def get(self, image: str) -> Split | None:
        """Return the split of an image, if a list names it."""
        return self._splits.get(image)


@dataclass(frozen=True)
class ExportItem:
    """One labelled image to write.

    Attributes:
        image_id: of the bytes to put beside the annotations.
        file_name: no other item has its stem.
    """

    image_id: str
    file_name: str
    width: int
    height: int
    split: Split
    annotations: tuple[Annotation, ...]

    @property
    def stem(self) -> str:
        """Return the file name without extension."""
        return PurePosixPath(self.file_name).stem


@dataclass(frozen=True)
class ExportFile:
    """One file of an archive: text, or the bytes of an image."""

    path: str
    text: str | None = None
    image_id: str | None = None


def lines_of(tree: FileTree, name: str, parsed: Parsed) -> list[str]:
    """Return the lines of a list; one that cannot be read is named and has none."""
    try:
        return tree.read(name).decode("utf-8-sig", "replace").splitlines()
    except OSError as exc:
        parsed.reject(name, "unreadable", f"{type(exc).__name__}: {exc.strerror}")
        return []


def decode_text(data: bytes) -> str:
    """Return the text of a small file.

    Raises:
        ValueError: it is no UTF-8.
    """
    return data.decode("utf-8-sig")


def unique_names(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a file name per image id; the second with a stem gets the beginning of its id.

    Args:
        names: image id and the name to give it, with extension.
    """
    taken: set[str] = set()
    chosen: dict[str, str] = {}
    for image_id, name in names:
        path = PurePosixPath(name)
        stem = path.stem if path.stem.lower() not in taken else f"{path.stem}-{image_id[:12]}"
        taken.add(stem.lower())
        chosen[image_id] = f"{stem}{path.suffix}"
    return chosen
