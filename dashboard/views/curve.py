"""Learning curve: what the labels bought, measured on images no one chose by."""

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.data import learning_curve, long_curve
from dashboard.session import Desk
from dashboard.views.simulated import section

COLOURS = alt.Scale(domain=["mAP50", "mAP50-95"], range=["#0072B2", "#D55E00"])


def page(desk: Desk) -> None:
    """Show the learning curve."""
    st.title("Learning curve")
    st.caption("Quality on the test split, which neither selection nor calibration nor gate sees.")
    production = desk.client.aliases(desk.name).production
    curve = learning_curve(
        desk.client.rounds(desk.name), desk.client.dataset_versions(desk.name), production
    )
    if curve.empty:
        st.info(
            "No round has measured a model yet. The first point comes when a round is done.",
            icon=":material/show_chart:",
        )
    else:
        _own(desk, curve)
    section(desk, curve)


def _own(desk: Desk, curve: pd.DataFrame) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("By labelled images")
        st.altair_chart(chart(curve, "labelled images"), alt="Quality by labelled images")
    with right:
        st.subheader("By boxes")
        st.altair_chart(chart(curve, "boxes"), alt="Quality by boxes")
    if curve["production"].any():
        st.caption("◆ in production")
    st.subheader("Rounds")
    _table(desk, curve)


def chart(curve: pd.DataFrame, cost: str) -> alt.LayerChart:
    """Return quality over what was paid for it: `labelled images` or `boxes`."""
    base = alt.Chart(long_curve(curve)).encode(
        x=alt.X(f"{cost}:Q", title=cost, scale=alt.Scale(zero=False, nice=True)),
        y=alt.Y("quality:Q", title="test", scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("metric:N", title=None, scale=COLOURS, legend=alt.Legend(orient="top")),
        tooltip=[
            alt.Tooltip("round:Q"),
            alt.Tooltip("strategy:N"),
            alt.Tooltip("metric:N"),
            alt.Tooltip("quality:Q", format=".3f"),
            alt.Tooltip("labelled images:Q"),
            alt.Tooltip("boxes:Q"),
            alt.Tooltip("model version:Q"),
        ],
    )
    points = base.mark_point(filled=True, opacity=1).encode(
        shape=alt.Shape(
            "production:N",
            scale=alt.Scale(domain=[False, True], range=["circle", "diamond"]),
            legend=None,
        ),
        size=alt.condition("datum.production", alt.value(260), alt.value(70)),
    )
    return alt.layer(base.mark_line(), points).properties(height=340)


def _table(desk: Desk, curve: pd.DataFrame) -> None:
    st.dataframe(
        curve,
        hide_index=True,
        column_config={
            "mAP50": st.column_config.NumberColumn(format="%.3f"),
            "mAP50-95": st.column_config.NumberColumn(format="%.3f"),
        },
    )
    st.download_button(
        "Download as CSV",
        curve.to_csv(index=False),
        f"{desk.name}-learning-curve.csv",
        "text/csv",
        icon=":material/download:",
    )
