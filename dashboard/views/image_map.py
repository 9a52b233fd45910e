"""The map: every scored image on a plane, and what lies where."""

import re
from collections.abc import Sequence
from typing import get_args

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.session import Desk, LookFor, short_name, thumbnail
from shared.errors import AppError, Conflict, NotFound
from shared.map_colours import MapColour, colours_of, palette_of
from shared.models.search import EmbeddingMap, MapCreate, MapMethod

MOST_SHOWN, N_COLUMNS = 24, 8
AREA = "map-area"
# `job 'a1' (inference.map) failed: NothingScored: ` is before what a person needs.
OF_A_JOB = re.compile(r"^job '[^']*' \([^)]*\) \w+: ([A-Z]\w*: )?")


def show(desk: Desk, look_for: LookFor) -> None:
    """Show the newest map, and let a new one be made; `look_for` opens what is like an image."""
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
    _say_if_old(desk, found)
    table = points(desk, found, by)
    drawn = chart(table, by, desk.project.classes)
    event = st.altair_chart(drawn, on_select="rerun", key=AREA, alt="Map of the images")
    _selected(desk, table, event["selection"].get("area", {}), look_for)


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
        names = table["colour"].unique().tolist()
        colours = palette_of(names, classes if by == "class" else ())
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


def _selected(
    desk: Desk, table: pd.DataFrame, area: dict[str, list[float]], look_for: LookFor
) -> None:
    if not area:
        return
    (left, right), (low, high) = area["x"], area["y"]
    inside = table[table["x"].between(left, right) & table["y"].between(low, high)]
    st.subheader(f"{len(inside)} images in this area")
    st.caption("A click on a name looks for what is like that image.")
    n_pages = -(-len(inside) // MOST_SHOWN)
    # Another area has pages of its own, and starts at its first.
    key = f"map-pages-{left}-{right}-{low}-{high}"
    number = st.pagination(n_pages, key=key) if n_pages > 1 else 1
    ids = inside["image_id"].tolist()[(number - 1) * MOST_SHOWN :][:MOST_SHOWN]
    for start in range(0, len(ids), N_COLUMNS):
        row = ids[start : start + N_COLUMNS]
        for column, image_id in zip(st.columns(N_COLUMNS), row, strict=False):
            with column:
                st.image(thumbnail(desk.client, desk.name, image_id), width="stretch")
                st.button(
                    short_name(desk.client, desk.name, image_id),
                    key=f"on-map-{image_id}",
                    help="Find similar",
                    on_click=look_for,
                    args=(image_id,),
                    type="tertiary",
                )


def _say_if_old(desk: Desk, found: EmbeddingMap) -> None:
    n_seen = max(_n_seen(desk, found, version) for version in (found.model_version, None))
    if n_seen > found.n_images:
        st.info(
            f"This map is old: it is of {found.n_images} images, and by now a model has looked at "
            f"{n_seen}. “Make the map anew” takes them in.",
            icon=":material/history:",
        )


def _n_seen(desk: Desk, found: EmbeddingMap, version: int | None) -> int:
    """Return how many images a version (of None: the newest) has looked at by now."""
    any_image = found.points[0].image_id
    try:
        return desk.client.similar_images(
            desk.name, any_image, k=1, model_version=version
        ).n_searched
    except (NotFound, Conflict):
        return 0


def _make(desk: Desk, method: MapMethod) -> None:
    with st.status("Laying the images out…") as status:
        try:
            job = desk.client.make_map(desk.name, MapCreate(method=method))
            desk.client.wait_job(
                job.id, on_change=lambda j: status.update(label=j.message or "Waiting…")
            )
        except AppError as exc:
            reason = OF_A_JOB.sub("", str(exc))
            status.update(label=f"No map: {reason}", state="error", expanded=False)
            return
        status.update(label="The map is ready", state="complete")
