"""From the boxes of a file to normalised annotations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.models.data import Rejection, RejectionReason
from shared.models.geometry import Annotation, Source, has_area, rounded

# How far a box may stick out, as a share of the image: rounding of the tool that wrote it.
CLIP_TOLERANCE = 0.01
_ASPECT_TOLERANCE = 0.01
# Of any image format; larger numbers cannot be divided by.
_MAX_SIDE = 2**32 - 1

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class RawBox:
    """One box as a file has it.

    Attributes:
        class_name: as the file names it.
        xyxy: in pixels, or normalised when the image has no `box_size`.
        label: how to name the box in a report, `box 13`.
    """

    class_name: str
    xyxy: Box
    label: str


@dataclass(frozen=True)
class PictureSize:
    """Size of the upright picture, and how the file was turned to become upright."""

    width: int
    height: int
    orientation: int = 1


class BadBox(Exception):
    """The box cannot be taken."""

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        """Keep both for the report."""
        super().__init__(detail)
        self.reason: RejectionReason = reason
        self.detail = detail


class OtherSize(Exception):
    """The annotation file speaks of an image of another shape."""


def checked_box(xyxy: Box) -> Box:
    """Return a normalised box, clipped and rounded to six decimals.

    Raises:
        BadBox: it has no area, or sticks out by more than 1 % of the image.
    """
    x1, y1, x2, y2 = xyxy
    if x1 >= x2 or y1 >= y2:
        raise BadBox("degenerate_box", "has no area")
    if min(xyxy) < -CLIP_TOLERANCE or max(xyxy) > 1 + CLIP_TOLERANCE:
        raise BadBox("out_of_range_box", "sticks out by more than 1 % of the image")
    a, b, c, d = (min(max(value, 0.0), 1.0) for value in xyxy)
    if not has_area((a, b, c, d)):
        raise BadBox("degenerate_box", "has no area inside the image")
    return rounded((a, b, c, d))


def annotations_of(
    name: str,
    boxes: Sequence[RawBox],
    to_unit: "UnitTransform",
    class_ids: Mapping[str, int],
    source: Source = "human",
) -> tuple[list[Annotation], list[Rejection]]:
    """Return the boxes that can be taken and a rejection for every other one."""
    taken: list[Annotation] = []
    rejected: list[Rejection] = []
    for box in boxes:
        values = ", ".join(f"{v:g}" for v in box.xyxy)
        what = f"{box.label} ({box.class_name}: {values})"
        if box.class_name not in class_ids:
            detail = f"{what}: class {box.class_name!r} is not one of the project's"
            rejected.append(Rejection(name=name, reason="unknown_class", detail=detail))
            continue
        try:
            xyxy = checked_box(to_unit(box.xyxy))
        except BadBox as exc:
            detail = f"{what} {exc.detail}"
            rejected.append(Rejection(name=name, reason=exc.reason, detail=detail))
            continue
        class_id = class_ids[box.class_name]
        taken.append(Annotation(class_id=class_id, xyxy=xyxy, source=source))
    return taken, rejected


@dataclass(frozen=True)
class UnitTransform:
    """Takes a box of a file to the upright picture, normalised."""

    width: float
    height: float
    orientation: int

    def __call__(self, xyxy: Box) -> Box:
        """Return the box normalised and upright; a box without area stays one."""
        x1, y1, x2, y2 = xyxy
        unit = (x1 / self.width, y1 / self.height, x2 / self.width, y2 / self.height)
        return unit if x1 >= x2 or y1 >= y2 else upright_box(unit, self.orientation)


def unit_transform(picture: PictureSize, box_size: tuple[int, int] | None) -> UnitTransform:
    """Return how boxes that refer to an image of `box_size` come into the picture.

    None means normalised and upright (YOLO), (0, 0) pixels of the picture. Where the size says that
    the tool did not turn the photograph as its EXIF asks, the boxes are turned with it. A file that
    speaks of the same picture at another scale is fine.

    Raises:
        OtherSize: the shape is another one, or that of no image.
    """
    if box_size is None:
        return UnitTransform(1.0, 1.0, 1)
    width, height = box_size
    if width <= 0 or height <= 0 or (width, height) == (picture.width, picture.height):
        return UnitTransform(picture.width, picture.height, 1)
    if picture.orientation >= 5 and (height, width) == (picture.width, picture.height):
        return UnitTransform(width, height, picture.orientation)
    if max(width, height) > _MAX_SIDE:
        msg = f"is for {width}x{height}, no image is larger than {_MAX_SIDE} on a side"
        raise OtherSize(msg)
    if abs(width * picture.height / (height * picture.width) - 1) > _ASPECT_TOLERANCE:
        msg = f"is for {width}x{height}, the image is {picture.width}x{picture.height}"
        raise OtherSize(msg)
    return UnitTransform(width, height, 1)


def upright_box(xyxy: Box, orientation: int) -> Box:
    """Turn a normalised box as an image of this EXIF orientation is turned to be upright."""
    x1, y1, x2, y2 = xyxy
    turned: dict[int, Box] = {
        2: (1 - x2, y1, 1 - x1, y2),
        3: (1 - x2, 1 - y2, 1 - x1, 1 - y1),
        4: (x1, 1 - y2, x2, 1 - y1),
        5: (y1, x1, y2, x2),
        6: (1 - y2, x1, 1 - y1, x2),
        7: (1 - y2, 1 - x2, 1 - y1, 1 - x1),
        8: (y1, 1 - x2, y2, 1 - x1),
    }
    return turned.get(orientation, xyxy)
