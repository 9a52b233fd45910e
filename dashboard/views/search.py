"""Search: what looks alike, every image on a plane, and near-duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import streamlit as st
from PIL import Image

from dashboard.drawing import Shape, cut_out, draw, fit, open_upright, shapes_of
from dashboard.session import SEARCH_IMAGE, Desk, content, plain_words, short_name, thumbnail
from dashboard.views import duplicates, image_map
from dashboard.views.try_it import KINDS
from shared.errors import AppError, Conflict, NotFound
from shared.models.data import ImageView
from shared.models.geometry import Xyxy
from shared.models.search import SimilarImage, SimilarImages, SimilarObject, SimilarObjects

N_COLUMNS = 5
BOUNDS_WH = (620, 520)
# What the index has of an image: so many boxes, of at least this score.
MOST_BOXES, LEAST_SCORE = 32, 0.1
WHOLE, REGION = "the whole image", "a region of it"
NAME, N_UPLOADS, VIEW = "search-name", "search-uploads", "search-view"
View = Literal["Similar", "Map", "Near-duplicates"]


@dataclass(frozen=True)
class Part:
    """What of it: a predicted box by its number, a region, or (neither) all of it."""

    box: int | None = None
    region: Xyxy | None = None


@dataclass(frozen=True)
class Query:
    """What is looked for: a stored image, or a picture that was dropped in."""

    picture: Image.Image
    data: bytes
    name: str
    image_id: str | None = None
    shapes: Sequence[Shape] = ()


def page(desk: Desk) -> None:
    """Show the way of searching that was chosen."""
    st.title("Search")
    if desk.project.n_images == 0:
        st.info("This project has no images yet.", icon=":material/add_photo_alternate:")
        return
    st.session_state.setdefault(VIEW, "Similar")
    chosen = st.segmented_control(
        "Search", get_args(View), key=VIEW, required=True, label_visibility="collapsed"
    )
    view: View = chosen or "Similar"
    with plain_words("search"):
        if view == "Map":
            image_map.show(desk, _look_for)
        elif view == "Near-duplicates":
            duplicates.show(desk)
        else:
            _similar(desk)


def _similar(desk: Desk) -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        query = _query(desk)
        if query is None:
            st.caption(
                "Drop a picture, name an image of the project, or choose “Find similar” on the "
                "Images page."
            )
            return
        part = _part(desk, query)
        picture = query.picture.resize(fit(query.picture.size, BOUNDS_WH))
        classes = desk.project.classes
        drawn = draw(picture, _drawn(query, part, classes), [*classes, "region"])
        st.image(drawn, caption=query.name)
        k = st.slider("How many", 5, 100, 15, 5)
    with right:
        try:
            found = _search(desk, query, part, k)
        except AppError as exc:
            st.info(f"Nothing to show: {exc}", icon=":material/search_off:")
            return
        _results(desk, found)


def _query(desk: Desk) -> Query | None:
    # A chooser cannot be emptied: to look for something else it is another one.
    number = st.session_state.setdefault(N_UPLOADS, 0)
    file = st.file_uploader("A picture of your own", type=KINDS, key=f"search-file-{number}")
    if file is not None:
        data = file.getvalue()
        try:
            return Query(open_upright(data), data, file.name)
        except OSError:
            st.error(f"{file.name} is not a picture that can be read.")
            return None
    image = _stored_image(desk)
    return _stored(desk, image) if image else None


def _stored_image(desk: Desk) -> ImageView | None:
    name = st.text_input("Or an image of the project, by a part of its name", key=NAME).strip()
    if name:
        found = desk.client.images(desk.name, name=name, limit=20).images
        if not found:
            st.warning(f"No image has “{name}” in its name.")
            return None
        return st.selectbox("Image", found, format_func=lambda i: i.name)
    wanted = st.session_state.get(SEARCH_IMAGE) or st.query_params.get("image")
    if not wanted:
        return None
    try:
        return desk.client.image(desk.name, wanted)
    except NotFound:
        # Of another project, which was looked at before.
        st.session_state.pop(SEARCH_IMAGE, None)
        st.query_params.pop("image", None)
        return None


def _stored(desk: Desk, image: ImageView) -> Query:
    st.query_params["image"] = image.id
    data = content(desk.client, desk.name, image.id)
    try:
        version = desk.client.similar_images(desk.name, image.id, k=1).model_version
        seen = desk.client.image_predictions(desk.name, image.id, version, LEAST_SCORE)
        shapes = shapes_of(seen.detections[:MOST_BOXES])
    except (NotFound, Conflict):
        # The search says why, beside the picture.
        shapes = []
    return Query(open_upright(data), data, image.name, image.id, shapes)


def _part(desk: Desk, query: Query) -> Part:
    boxes = [
        f"box {n + 1}: {desk.project.classes[shape.class_id]} {shape.score or 0:.2f}"
        for n, shape in enumerate(query.shapes)
    ]
    chosen = st.selectbox("Look for what is like", [WHOLE, *boxes, REGION])
    if chosen == WHOLE:
        return Part()
    if chosen != REGION:
        return Part(box=boxes.index(chosen))
    left, right = st.slider("Left to right", 0.0, 1.0, (0.25, 0.75), 0.01)
    top, bottom = st.slider("Top to bottom", 0.0, 1.0, (0.25, 0.75), 0.01)
    return Part(region=(left, top, right, bottom))


def _drawn(query: Query, part: Part, classes: Sequence[str]) -> Sequence[Shape]:
    if part.region is not None:
        return [Shape(len(classes), part.region)]
    return query.shapes if part.box is None else [query.shapes[part.box]]


def _search(desk: Desk, query: Query, part: Part, k: int) -> SimilarImages | SimilarObjects:
    client, name = desk.client, desk.name
    if part.region is not None:
        return client.objects_like(name, query.data, part.region, name=query.name, k=k)
    if query.image_id is None:
        return client.images_like(name, query.data, name=query.name, k=k)
    if part.box is not None:
        return client.similar_objects(name, query.image_id, part.box, k=k)
    return client.similar_images(name, query.image_id, k=k)


def _results(desk: Desk, found: SimilarImages | SimilarObjects) -> None:
    results = found.images if isinstance(found, SimilarImages) else found.objects
    kind = "images" if isinstance(found, SimilarImages) else "predicted boxes"
    st.caption(
        f"Nearest first, of {found.n_searched} {kind} that model v{found.model_version} scored. "
        "The number is the cosine distance; a click looks for what is like that image."
    )
    for start in range(0, len(results), N_COLUMNS):
        row = results[start : start + N_COLUMNS]
        for column, result in zip(st.columns(N_COLUMNS), row, strict=False):
            with column:
                _result(desk, result)


def _result(desk: Desk, result: SimilarImage) -> None:
    picture: Image.Image | bytes
    if isinstance(result, SimilarObject):
        whole = open_upright(content(desk.client, desk.name, result.image_id))
        picture = cut_out(whole, result.xyxy)
        words = f"{desk.project.classes[result.class_id]} {result.score:.2f}"
        key = f"like-{result.image_id}-{result.box}"
    else:
        picture = thumbnail(desk.client, desk.name, result.image_id)
        words, key = result.split, f"like-{result.image_id}"
    name = short_name(desk.client, desk.name, result.image_id)
    st.image(picture, caption=name, width="stretch")
    st.button(
        f"{result.distance:.3f} · {words}",
        key=key,
        on_click=_look_for,
        args=(result.image_id,),
        type="tertiary",
    )


def _look_for(image_id: str) -> None:
    st.session_state[SEARCH_IMAGE] = image_id
    st.session_state[NAME] = ""
    st.session_state[N_UPLOADS] += 1
    st.session_state[VIEW] = "Similar"
