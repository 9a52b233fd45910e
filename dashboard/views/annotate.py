"""Annotate: one image after the other, boxes drawn beforehand where a model saw some."""

import html

import streamlit as st

from dashboard.canvas import annotate
from dashboard.data import current_round
from dashboard.drawing import Size, class_colour, fit, ink_on, open_upright, shapes_of
from dashboard.session import Desk, content, plain_words
from dashboard.views.answering import Seat, answer, seat_at, take_next
from shared.models.geometry import Annotation
from shared.models.rounds import TaskView

WAIT_S = 5.0
SIZES: dict[str, Size] = {
    "small": (700, 400),
    "medium": (1000, 560),
    "large": (1400, 800),
    "huge": (2400, 1400),
}


def page(desk: Desk) -> None:
    """Show the next task."""
    annotator = _annotator()
    if not annotator:
        st.title("Annotate")
        st.info(
            "Write your name at the left; it is kept with your labels.", icon=":material/person:"
        )
        return
    if not desk.project.classes:
        st.info(
            "This project has no classes yet. `fovea project create NAME --classes cat,dog` gives "
            "them, or the first images that come with labels.",
            icon=":material/category:",
        )
        return
    seat = seat_at(desk, annotator)
    if seat.task is None and not take_next(seat):
        _nothing_to_do(seat)
        return
    _work(seat)


def _annotator() -> str:
    remembered = st.session_state.get("annotator-name") or st.query_params.get("annotator", "")
    name = st.sidebar.text_input("Your name", value=remembered, max_chars=100).strip()
    st.session_state["annotator-name"] = name
    if name:
        st.query_params["annotator"] = name
    return name


def _work(seat: Seat) -> None:
    task = seat.task
    assert task is not None  # noqa: S101 - the page has just taken one
    desk = seat.desk
    size = st.sidebar.select_slider("Picture size", list(SIZES), "medium", key="picture-size")
    at_once = st.sidebar.toggle(
        "Save on Complete", key="save-at-once", help="One press less: Complete saves by itself."
    )
    _hints()
    _header(seat, task)
    picture = open_upright(content(desk.client, desk.name, task.image_id))
    shown = picture.resize(fit(picture.size, SIZES[size]))
    begin = seat.drafts.get(task.id)
    boxes = annotate(
        shown,
        shapes_of(task.pre_annotations if begin is None else begin),
        desk.project.classes,
        key=f"boxes-{task.id}-{size}",
    )
    if boxes is not None:
        seat.drafts[task.id] = boxes
    if boxes and at_once and seat.problem is None:
        answer(seat, task.id, "labelled", boxes)
        st.rerun()
    _actions(seat, task, seat.drafts.get(task.id))


def _header(seat: Seat, task: TaskView) -> None:
    view = seat.desk.client.round(task.project, task.round_id)
    done = view.n_done / view.n_tasks if view.n_tasks else 0.0
    st.progress(done, f"Round {view.index}: {view.n_done} of {view.n_tasks} images done")
    n = len(task.pre_annotations)
    drawn = f" · {n} box{'es' if n != 1 else ''} drawn by the model" if n else ""
    st.markdown(f":material/lightbulb: **Why this image:** {task.reason}{drawn}")
    chips = "".join(
        f'<span style="background:{class_colour(i)};color:{ink_on(class_colour(i))};'
        f'border-radius:.4rem;padding:.1rem .5rem;font-size:.85rem">{html.escape(name)}</span>'
        for i, name in enumerate(seat.desk.project.classes)
    )
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:.35rem">{chips}</div>')


def _actions(seat: Seat, task: TaskView, boxes: tuple[Annotation, ...] | None) -> None:
    if seat.problem:
        st.error(
            f"Not saved: {seat.problem} Your boxes are still here; save again, or go on.",
            icon=":material/error:",
        )
    n = len(boxes or ())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Save" if boxes is None else f"Save {n} box{'es' if n != 1 else ''}",
            key=f"save-{task.id}",
            type="primary",
            icon=":material/check:",
            disabled=not boxes,
            on_click=answer,
            args=(seat, task.id, "labelled", boxes or ()),
            shortcut="S",
        )
        st.button(
            "Nothing here",
            key=f"nothing-{task.id}",
            icon=":material/hide_image:",
            on_click=answer,
            args=(seat, task.id, "labelled", ()),
            help="Saves that there is nothing of any class in this picture.",
            shortcut="N",
        )
        st.button(
            "Skip",
            key=f"skip-{task.id}",
            icon=":material/skip_next:",
            on_click=answer,
            args=(seat, task.id, "skipped", ()),
            help="Leaves this picture out of the data set.",
            shortcut="K",
        )
        if seat.previous:
            st.button(
                "Back",
                key=f"back-{task.id}",
                icon=":material/undo:",
                on_click=seat.go_back,
                help="Opens the image before this one again, with the boxes you saved.",
            )
        if seat.problem:
            st.button(
                "Take another image", key=f"drop-{task.id}", on_click=seat.drop, args=(task.id,)
            )
        st.caption(_advice(boxes))


def _advice(boxes: tuple[Annotation, ...] | None) -> str:
    if boxes is None:
        return "Press **Complete** beside the picture when the boxes are right, then save."
    if not boxes:
        return "No boxes: draw some and press **Complete** again, or say **Nothing here**."
    return "Changed a box since? Press **Complete** again before you save."


def _nothing_to_do(seat: Seat) -> None:
    """Say why there is no task, and look again by itself."""

    @st.fragment(run_every=WAIT_S)
    def wait() -> None:
        with plain_words("wait"):
            if take_next(seat):
                st.rerun(scope="app")
            view = current_round(seat.desk.client.rounds(seat.desk.name))
            if view is None:
                st.info("No round has been started yet: see the Loop page.")
            elif view.state == "labelling":
                st.success(
                    f"Every image of round {view.index} is done or with somebody else "
                    f"({view.n_done} of {view.n_tasks}). Thank you!",
                    icon=":material/celebration:",
                )
            else:
                st.info(
                    f"Nothing to label now: round {view.index} is {view.state}.",
                    icon=":material/hourglass_empty:",
                )
            st.caption("The next image comes by itself as soon as there is one.")

    wait()


def _hints() -> None:
    with st.sidebar.expander("How to draw", expanded=True):
        st.markdown(
            "- **Drag** in the picture: a new box of the chosen class\n"
            "- **Click** a box: move it, pull its corners, choose another class\n"
            "- **Mode Del**, then click: remove a box\n"
            "- `Space` after a click in the picture: Complete\n"
            "- After a click beside the picture: `S` save, `N` nothing here, `K` skip"
        )
