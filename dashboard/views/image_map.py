"""The map: every scored image on a plane, and what lies where."""

from collections.abc import Sequence
from typing import get_args

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.drawing import class_colour
from dashboard.session import Desk, thumbnail
from shared.errors import AppError, NotFound
from shared.map_colours import GREY, NOT_CHOSEN, NOTHING, MapColour, colours_of
from shared.models.search import EmbeddingMap, MapCreate, MapMethod

MOST_SHOWN, N_COLUMNS = 24, 8
AREA = "map-area"


def show(desk: Desk) -> None:
    """Show the newest map, and let a new one be made."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    with row:
        by: MapColour = st.selectbox("Colour", get_args(MapColour), width=200)
        method: MapMethod = st.selectbox("Layout", get_args(MapMethod), width=200)
        clicked = st.button("Make the map anew", icon=":material/refresh:")
    if clicked:
        _make(desk, method)
    try:
        found = desk.client.newest_map(desk.name)
    except NotFound:
        st.info(
            "There is no map yet. It needs images that a model has scored: after the first round, "
            "or by `fovea score`.",
            icon=":material/scatter_plot:",
        )
        return
    st.caption(
        f"{len(found.points)} of {found.n_images} images as model v{found.model_version} sees "
        f"them, {found.method.upper()}, made {found.made_at:%d %b %Y %H:%M} UTC. Near each other "
        "is alike; drag over an area to see its images."
    )
    table = points(desk, found, by)
    drawn = chart(table, by, desk.project.classes)
    event = st.altair_chart(drawn, on_select="rerun", key=AREA, alt="Map of the images")
    _selected(desk, table, event["selection"].get("area", {}))


def points(desk: Desk, found: EmbeddingMap, by: MapColour) -> pd.DataFrame:
    """Return one row a point: `x`, `y`, `image_id`, `split`, and `colour`."""
    rounds = {}
    if by == "round":
        rounds = {s.image_id: r.index for r in desk.client.rounds(desk.name) for s in r.selected}
    table = pd.DataFrame([point.model_dump(exclude={"class_id"}) for point in found.points])
    return table.assign(colour=colours_of(found, by, desk.project.classes, rounds))


def chart(table: pd.DataFrame, by: MapColour, classes: Sequence[str]) -> alt.Chart:
    """Return the map; a class has the colour that it has on every page."""
    axis = {"title": None, "axis": None, "scale": alt.Scale(zero=False)}
    colour = alt.Color("colour:Q", title="entropy", scale=alt.Scale(scheme="viridis"))
    if by != "uncertainty":
        colours = _colours(table["colour"].unique().tolist(), classes)
        scale = alt.Scale(domain=list(colours), range=list(colours.values()))
        colour = alt.Color("colour:N", title=by, scale=scale)
    return (
        alt.Chart(table)
        .mark_circle(size=60 if len(table) < 2000 else 16, opacity=0.8)
        .encode(
            x=alt.X("x:Q", **axis),
            y=alt.Y("y:Q", **axis),
            color=colour,
            tooltip=["colour", "split", alt.Tooltip("uncertainty:Q", format=".2f"), "image_id"],
        )
        .add_params(alt.selection_interval(name="area"))
        .properties(height=560)
    )


def _colours(names: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """Return the colour of each name: classes in their order, rounds in theirs, grey last."""
    order = {name: n for n, name in enumerate(classes)}
    grey = (NOTHING, NOT_CHOSEN)
    names = sorted(names, key=lambda n: (n in grey, order.get(n, 0), len(n), n))
    return {
        name: GREY if name in grey else class_colour(order.get(name, n))
        for n, name in enumerate(names)
    }


def _selected(desk: Desk, table: pd.DataFrame, area: dict[str, list[float]]) -> None:
    if not area:
        return
    (left, right), (low, high) = area["x"], area["y"]
    inside = table[table["x"].between(left, right) & table["y"].between(low, high)]
    st.subheader(f"{len(inside)} images in this area")
    if len(inside) > MOST_SHOWN:
        st.caption(f"{MOST_SHOWN} of them")
    ids = inside["image_id"].tolist()[:MOST_SHOWN]
    for start in range(0, len(ids), N_COLUMNS):
        row = ids[start : start + N_COLUMNS]
        for column, image_id in zip(st.columns(N_COLUMNS), row, strict=False):
            column.image(thumbnail(desk.client, desk.name, image_id), width="stretch")


def _make(desk: Desk, method: MapMethod) -> None:
    with st.status("Laying the images out…") as status:
        try:
            job = desk.client.make_map(desk.name, MapCreate(method=method))
            desk.client.wait_job(
                job.id, on_change=lambda j: status.update(label=j.message or "Waiting…")
            )
        except AppError as exc:
            status.update(label=f"No map: {exc}", state="error", expanded=False)
            return
        status.update(label="The map is ready", state="complete")
