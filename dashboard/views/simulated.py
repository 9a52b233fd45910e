"""What selection saves: replay simulations beside the project's own curve."""

from math import ceil

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.session import Desk
from dashboard.simulation import COST, curves, verdicts
from shared.map_colours import PALETTE
from shared.models.simulations import Axis, SimulationView
from shared.simulate.options import BASELINE, FULL_POOL

OWN = "this project"
LEGEND_COLUMNS = 2
NEUTRAL = {BASELINE: "#6B7785", FULL_POOL: "#B0B7BF", OWN: "#111111"}


def section(desk: Desk, own: pd.DataFrame) -> None:
    """Show the simulations that are kept with the project; `own` is its learning curve."""
    st.subheader("What selection saves")
    kept = desk.client.simulations(desk.name)
    if not kept:
        st.caption(
            "Nothing has been replayed for this project yet. `fovea strategy advise` replays its "
            "own labels with several strategies beside random choice; `fovea simulate --project "
            f"{desk.name}` does it with another labelled set."
        )
        return
    view = kept[0]
    if len(kept) > 1:
        view = st.selectbox("Simulation", kept, format_func=_title)
    else:
        st.caption(_title(view))
    words = view.results.advice.words
    st.info(f"{words[0].upper()}{words[1:]}.", icon=":material/lightbulb:")
    left, right = st.columns(2, gap="large")
    with left:
        st.altair_chart(chart(view, own, "images"), alt="Simulated quality by labelled images")
    with right:
        st.altair_chart(chart(view, own, "boxes"), alt="Simulated quality by boxes")
    st.caption(
        "Lines are means over paired seeds, bands their 95 % intervals; those with dots on dashes "
        "have fewer seeds and other starts, so that only their differences compare. The project's "
        "own rounds are measured on its own test images and trained by its own settings: compare "
        "the shapes."
    )
    st.dataframe(verdicts(view.results), hide_index=True)
    st.markdown("\n".join(f"- **{arm.name}**: {arm.verdict}" for arm in view.results.arms))


def chart(view: SimulationView, own: pd.DataFrame, axis: Axis) -> alt.LayerChart:
    """Return mAP50 over what was paid, one line an arm, and the project's own rounds."""
    cost = COST[axis]
    table = curves(view.results, axis)
    names = list(dict.fromkeys(table["arm"]))
    mine = own.assign(arm=OWN, mean=own["mAP50"])[["arm", cost, "mean"]]
    choices = iter(PALETTE * len(names))
    colours = {name: NEUTRAL.get(name) or next(choices) for name in [*names, OWN]}
    shown = [*names, OWN] if len(mine) else names
    x = alt.X(f"{cost}:Q", title=cost, scale=alt.Scale(zero=False, nice=True))
    colour = alt.Color(
        "arm:N",
        title=None,
        scale=alt.Scale(domain=shown, range=[colours[name] for name in shown]),
        legend=alt.Legend(orient="top", columns=LEGEND_COLUMNS, labelLimit=260, symbolOpacity=1),
    )
    y = alt.Y("mean:Q", title="mAP50 on test", scale=alt.Scale(zero=False, nice=True))
    tips = [
        alt.Tooltip("arm:N"),
        alt.Tooltip(f"{cost}:Q", format=".0f"),
        alt.Tooltip("mean:Q", title="mAP50", format=".3f"),
    ]
    # The whole pool lies far to the right of what is compared: it is a height, not a curve.
    line_of = alt.Chart(table[table["arm"] != FULL_POOL]).encode(x=x, color=colour)
    paired = line_of.transform_filter(alt.datum.paired)
    band = paired.mark_area(opacity=0.13).encode(y=alt.Y("low:Q", title=""), y2="high:Q")
    dashed = alt.StrokeDash(
        "paired:N", legend=None, scale=alt.Scale(domain=[True, False], range=[[1, 0], [4, 4]])
    )
    line = line_of.mark_line(point=True).encode(y=y, tooltip=tips, strokeDash=dashed)
    top = alt.Chart(table[table["arm"] == FULL_POOL].groupby("arm", as_index=False).last())
    height = top.mark_rule(strokeDash=[2, 3], size=2).encode(y=y, color=colour, tooltip=tips)
    real = (
        alt.Chart(mine)
        .encode(x=x, y=y, color=colour, tooltip=tips)
        .mark_line(point=alt.OverlayMarkDef(shape="diamond", size=90), strokeDash=[6, 3])
    )
    layers = (band, line, height, real) if len(mine) else (band, line, height)
    # The legend takes of the height.
    return alt.layer(*layers).properties(height=420 + 22 * ceil(len(shown) / LEGEND_COLUMNS))


def _title(view: SimulationView) -> str:
    facts = view.results.dataset
    return f"{view.name}: {facts.name}, {facts.n_pool} pool and {facts.n_test} test images"
