"""Images: the pool and the held-out splits, with labels and predicted boxes."""

from collections.abc import Sequence
from typing import Literal, get_args

import streamlit as st

from dashboard.data import selection_reasons
from dashboard.drawing import Shape, draw, fit, open_upright, shapes_of
from dashboard.session import (
    SEARCH_IMAGE,
    SEARCH_PAGE,
    Desk,
    content,
    labels,
    plain_words,
    thumbnail,
)
from shared.errors import Conflict, NotFound
from shared.models.data import ImageView, Split
from shared.models.rounds import RoundView

PAGE_SIZE = 24
N_COLUMNS = 6
BOUNDS_WH = (1100, 560)
CURSORS = "image-cursors"
Labelled = Literal["all", "labelled", "not labelled"]
IS_LABELLED: dict[Labelled, bool | None] = {"all": None, "labelled": True, "not labelled": False}


def page(desk: Desk) -> None:
    """Show the images."""
    st.title("Images")
    if desk.project.n_images == 0:
        st.info(
            "This project has no images yet: `fovea ingest path/to/images`.",
            icon=":material/add_photo_alternate:",
        )
        return
    rounds = desk.client.rounds(desk.name)
    row = st.columns([1, 1.4, 1.6, 1.6])
    split = row[0].selectbox("Split", ["all", *get_args(Split)])
    labelled: Labelled = row[1].selectbox("Labels", get_args(Labelled))
    view = row[2].selectbox(
        "Chosen by round",
        [None, *rounds[::-1]],
        format_func=lambda r: "any or none" if r is None else f"Round {r.index}",
    )
    name = row[3].text_input("Name contains", disabled=view is not None)
    if view is None:
        shown = _from_pool(
            desk, None if split == "all" else split, IS_LABELLED[labelled], name.strip() or None
        )
    else:
        shown = _from_round(desk, view, split, IS_LABELLED[labelled])
    _grid(desk, shown, selection_reasons(rounds))


def _from_pool(
    desk: Desk, split: Split | None, labelled: bool | None, name: str | None
) -> Sequence[ImageView]:
    filters = (desk.name, split, labelled, name)
    if st.session_state.get("image-filters") != filters:
        st.session_state["image-filters"] = filters
        st.session_state[CURSORS] = [None]
    cursors: list[str | None] = st.session_state[CURSORS]
    page_ = desk.client.images(
        desk.name, split=split, labelled=labelled, cursor=cursors[-1], limit=PAGE_SIZE, name=name
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Back",
            icon=":material/chevron_left:",
            disabled=len(cursors) == 1,
            on_click=_go_back,
            args=(cursors,),
        )
        st.button(
            "More",
            icon=":material/chevron_right:",
            disabled=page_.next_cursor is None,
            on_click=cursors.append,
            args=(page_.next_cursor,),
        )
        st.caption(f"Page {len(cursors)}")
    return page_.images


def _go_back(cursors: list[str | None]) -> None:
    cursors.pop()


def _from_round(
    desk: Desk, view: RoundView, split: str, labelled: bool | None
) -> Sequence[ImageView]:
    n_pages = max(1, -(-len(view.selected) // PAGE_SIZE))
    number = st.pagination(n_pages, key=f"pages-{view.id}") if n_pages > 1 else 1
    chosen = sorted(view.selected, key=lambda s: s.rank)[(number - 1) * PAGE_SIZE :][:PAGE_SIZE]
    found = [desk.client.image(desk.name, s.image_id) for s in chosen]
    return [
        image
        for image in found
        if split in {"all", image.split} and labelled in {None, image.labelled}
    ]


def _grid(desk: Desk, images: Sequence[ImageView], reasons: dict[str, str]) -> None:
    if not images:
        st.info("No image fits these filters.", icon=":material/filter_alt_off:")
        return
    for start in range(0, len(images), N_COLUMNS):
        for column, image in zip(
            st.columns(N_COLUMNS), images[start : start + N_COLUMNS], strict=False
        ):
            with column:
                st.image(thumbnail(desk.client, desk.name, image.id), width="stretch")
                sign = ":material/label:" if image.labelled else ":material/label_off:"
                if st.button(
                    image.name.rsplit("/", 1)[-1],
                    key=f"open-{image.id}",
                    icon=sign,
                    width="stretch",
                    help=f"{image.name} · {image.split}",
                ):
                    _look(desk, image, reasons.get(image.id))


@st.dialog("Image", width="large")
def _look(desk: Desk, image: ImageView, reason: str | None) -> None:
    with plain_words("image"):
        st.caption(f"{image.name} · {image.split} · {image.width} x {image.height}")
        if reason:
            st.markdown(f":material/lightbulb: {reason}")
        row = st.columns([1, 1, 2, 1], vertical_alignment="bottom")
        with_labels = row[0].toggle("Labels", value=True)
        with_predictions = row[1].toggle("Predictions", value=True)
        score = row[2].slider("Hide predictions below score", 0.0, 1.0, 0.25, 0.05)
        if SEARCH_PAGE in st.session_state and row[3].button(
            "Find similar", icon=":material/search:"
        ):
            st.session_state[SEARCH_IMAGE] = image.id
            st.switch_page(st.session_state[SEARCH_PAGE])
        given = labels(desk, image.id)
        shapes = shapes_of(given or ()) if with_labels else []
        predicted = _predicted(desk, image.id, score) if with_predictions else []
        picture = open_upright(content(desk.client, desk.name, image.id))
        # In its final size before it is drawn on, so that lines and words are equally thick in all.
        picture = picture.resize(fit(picture.size, BOUNDS_WH))
        with st.container(horizontal_alignment="center"):
            st.image(draw(picture, [*predicted, *shapes], desk.project.classes))
        n_labels = "not labelled" if given is None else f"{len(given)} labels (dashed)"
        st.caption(f"{n_labels} · {len(predicted)} predictions (solid, with score)")


def _predicted(desk: Desk, image_id: str, score: float) -> list[Shape]:
    try:
        seen = desk.client.image_predictions(desk.name, image_id, min_score=score)
    except (NotFound, Conflict) as exc:
        st.caption(f"No predictions: {exc}")
        return []
    return shapes_of([d for d in seen.detections if d.score >= score])
