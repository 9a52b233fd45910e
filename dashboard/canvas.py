"""The picture that is drawn on: the front end of streamlit-image-annotation, called directly.

The package's own Python function has a fixed palette, never enlarges a small picture, and turns
both axes back into pixels by the ratio of the widths alone, which is wrong by the rounding of the
height. Its front end does none of this: it gets our colours and a picture in its final size.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypedDict, cast

import streamlit.components.v1 as components
from PIL import Image
from streamlit.elements.lib.image_utils import image_to_url
from streamlit.elements.lib.layout_utils import LayoutConfig

from dashboard.drawing import Shape, class_colour, to_normalised, to_pixels
from shared.errors import BackendUnavailable
from shared.models.geometry import Annotation

# What the front end leaves of a click without a drag.
SLIP_PX = 5.0
# What a box that nobody touched may differ by when it comes back.
SAME_PX = 0.01


class DrawnBox(TypedDict):
    """A box as the front end returns it: x, y, width, height in pixels of the shown picture."""

    bbox: list[float]
    label_id: int
    label: str


class Component(Protocol):
    """The declared component: the boxes once "Complete" was pressed, None before."""

    def __call__(
        self, *, key: str, default: None = None, **arguments: object
    ) -> list[DrawnBox] | None:
        """Show it."""


def annotate(
    picture: Image.Image, shapes: Sequence[Shape], classes: Sequence[str], key: str
) -> tuple[Annotation, ...] | None:
    """Show a picture to draw boxes on.

    Args:
        picture: in the size in which it is to be shown.
        shapes: the boxes to begin with; later changes of them under the same key have no effect.
        classes: the class map, not empty.
        key: one per task and size of the picture.

    Returns:
        The person's boxes as of the last "Complete"; None as long as it was not pressed.
    """
    drawn = _component()(
        image_url=_picture_url(picture, key),
        image_size=list(picture.size),
        label_list=list(classes),
        bbox_info=[
            {
                "bbox": list(to_pixels(shape.xyxy, picture.size)),
                "label_id": shape.class_id,
                "label": classes[shape.class_id],
            }
            for shape in shapes
            if shape.class_id < len(classes)
        ],
        color_map={name: class_colour(i) for i, name in enumerate(classes)},
        line_width=2.0,
        use_space=True,
        key=key,
    )
    return None if drawn is None else annotations_of(drawn, picture.size, shapes)


def annotations_of(
    drawn: Sequence[Mapping[str, object]],
    size_wh: tuple[int, int],
    begun_with: Sequence[Shape] = (),
) -> tuple[Annotation, ...]:
    """Return drawn boxes as a person's labels, without slips of the mouse or boxes outside.

    Args:
        drawn: as the front end returns them.
        size_wh: of the shown picture, in pixels.
        begun_with: the boxes it began with: one of them is no slip, however small.
    """
    begun = [to_pixels(shape.xyxy, size_wh) for shape in begun_with]
    labels = []
    for item in cast(Sequence[DrawnBox], drawn):
        small = abs(item["bbox"][2]) <= SLIP_PX and abs(item["bbox"][3]) <= SLIP_PX
        if small and not any(_same(item["bbox"], box) for box in begun):
            continue
        xyxy = to_normalised(item["bbox"], size_wh)
        if xyxy is not None:
            labels.append(Annotation(class_id=item["label_id"], xyxy=xyxy, source="human"))
    return tuple(labels)


def _same(box: Sequence[float], other: Sequence[float]) -> bool:
    return all(abs(a - b) <= SAME_PX for a, b in zip(box, other, strict=True))


@cache
def _component() -> Component:
    spec = find_spec("streamlit_image_annotation")
    if spec is None or spec.origin is None:
        msg = "streamlit-image-annotation is not installed"
        raise BackendUnavailable(msg)
    path = Path(spec.origin).parent / "Detection" / "frontend" / "build"
    return cast(Component, components.declare_component("fovea_boxes", path=path))


def _picture_url(picture: Image.Image, key: str) -> str:
    layout = LayoutConfig(width=picture.width, height=picture.height)
    return image_to_url(picture, layout, True, "RGB", "PNG", f"picture-{key}")
