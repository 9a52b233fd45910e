"""Boxes on pictures: class colours, sizes, and exact conversion between pixels and [0, 1]."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

from shared.map_colours import PALETTE
from shared.models.geometry import Annotation, Detection, Xyxy, has_area

MAX_ENLARGEMENT = 4.0

Size = tuple[int, int]
Xywh = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shape:
    """One box to draw: a label when it has no score, a prediction otherwise."""

    class_id: int
    xyxy: Xyxy
    score: float | None = None


def class_colour(class_id: int) -> str:
    """Return the colour of a class, `#RRGGBB`: the same on every page; they repeat after twelve."""
    return PALETTE[class_id % len(PALETTE)]


def ink_on(colour: str) -> str:
    """Return black or white, whichever reads better on `#RRGGBB`."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#FFFFFF"


def shapes_of(boxes: Sequence[Annotation | Detection]) -> list[Shape]:
    """Return labels and predictions as what can be drawn."""
    return [Shape(b.class_id, b.xyxy, b.score if isinstance(b, Detection) else None) for b in boxes]


def fit(size_wh: Size, bounds_wh: Size) -> Size:
    """Return the size in which a picture fills `bounds_wh`, sides in proportion, at least 1 pixel.

    Small pictures are enlarged, at most four times.
    """
    width, height = size_wh
    scale = min(bounds_wh[0] / width, bounds_wh[1] / height, MAX_ENLARGEMENT)
    return max(1, round(width * scale)), max(1, round(height * scale))


def to_pixels(xyxy: Xyxy, size_wh: Size) -> Xywh:
    """Return a normalised box as x, y, width, height in pixels of a picture of `size_wh`."""
    width, height = size_wh
    x1, y1, x2, y2 = xyxy
    return x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height


def to_normalised(xywh: Sequence[float], size_wh: Size) -> Xyxy | None:
    """Return a box of pixels normalised to [0, 1] and cut at the border; None if nothing is left.

    A side may be negative, as when the mouse was dragged up or to the left.
    """
    width, height = size_wh
    x, y, box_width, box_height = xywh
    left, right = sorted((x / width, (x + box_width) / width))
    top, bottom = sorted((y / height, (y + box_height) / height))
    # Seven digits are finer than a thousandth of a pixel and hide the float noise of x + (x2 - x1).
    x1, y1, x2, y2 = (round(min(max(v, 0.0), 1.0), 7) for v in (left, top, right, bottom))
    xyxy = (x1, y1, x2, y2)
    return xyxy if has_area(xyxy) else None


def open_upright(content: bytes) -> Image.Image:
    """Return a picture file as RGB, turned as its EXIF orientation says.

    Raises:
        OSError: it is not a picture Pillow reads, or larger than it dares to.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except Image.DecompressionBombError as exc:
        raise OSError(*exc.args) from exc


def draw(image: Image.Image, shapes: Sequence[Shape], classes: Sequence[str]) -> Image.Image:
    """Return a copy with the boxes: predictions solid with score, labels dashed."""
    canvas = image.copy()
    pen = ImageDraw.Draw(canvas)
    line = max(2, round(max(canvas.size) / 350))
    font = ImageFont.load_default(size=max(12, round(max(canvas.size) / 55)))
    for shape in shapes:
        left, top, width, height = to_pixels(shape.xyxy, canvas.size)
        corners = (left, top, left + width, top + height)
        colour = class_colour(shape.class_id)
        if shape.score is None:
            for segment in _dashes(corners, 4 * line):
                pen.line(segment, fill=colour, width=line)
        else:
            pen.rectangle(corners, outline=colour, width=line)
        # Labels have their words below, so that they stay clear of a prediction's above.
        below = shape.score is None
        _caption(pen, corners, shape_caption(shape, classes), Style(colour, font, below))
    return canvas


def cut_out(image: Image.Image, xyxy: Xyxy, margin: float = 0.3) -> Image.Image:
    """Return what is in a normalised box and `margin` of its longer side around it, square."""
    left, top, width, height = to_pixels(xyxy, image.size)
    half = max(width, height, 2.0) * (0.5 + margin)
    x, y = left + width / 2, top + height / 2
    # Beyond the border it is black.
    return image.crop((round(x - half), round(y - half), round(x + half), round(y + half)))


def shape_caption(shape: Shape, classes: Sequence[str]) -> str:
    """Return what stands beside a box: its class, and its score if it is a prediction."""
    known = shape.class_id < len(classes)
    name = classes[shape.class_id] if known else f"class {shape.class_id}"
    return name if shape.score is None else f"{name} {shape.score:.2f}"


@dataclass(frozen=True)
class Style:
    """How a caption looks and on which side of its box it stands."""

    colour: str
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont
    below: bool


def _caption(pen: ImageDraw.ImageDraw, corners: Xywh, text: str, style: Style) -> None:
    x1, y1, x2, y2 = pen.textbbox((0, 0), text, font=style.font)
    width, height = x2 - x1 + 6, y2 - y1 + 6
    canvas_width, canvas_height = pen.im.size
    left = min(max(corners[0], 0.0), max(canvas_width - width, 0.0))
    above, under = corners[1] - height, corners[3]
    fits_under = under + height <= canvas_height
    top = under if (style.below and fits_under) or above < 0 else above
    top = min(top, canvas_height - height)
    pen.rectangle((left, top, left + width, top + height), fill=style.colour)
    ink = ink_on(style.colour)
    pen.text((left + 3 - x1, top + 3 - y1), text, fill=ink, font=style.font)


def _dashes(corners: Xywh, length: int) -> Iterator[Xywh]:
    x1, y1, x2, y2 = corners
    sides = ((x1, y1, x2, y1), (x2, y1, x2, y2), (x2, y2, x1, y2), (x1, y2, x1, y1))
    for ax, ay, bx, by in sides:
        side = abs(bx - ax) + abs(by - ay)
        dx, dy = ((bx - ax) / side, (by - ay) / side) if side else (0.0, 0.0)
        start = 0.0
        while start < side:
            end = min(start + length, side)
            yield ax + dx * start, ay + dy * start, ax + dx * end, ay + dy * end
            start += 1.6 * length
