"""The form that starts a round."""

from typing import Literal, get_args

import streamlit as st

from dashboard.session import Desk, attempt
from shared.models.rounds import (
    Aggregation,
    CoreSetStrategy,
    KMeansStrategy,
    Purpose,
    RandomStrategy,
    RoundCreate,
    Strategy,
    TrainingParams,
    UncertaintyStrategy,
)

StrategyName = Literal["random", "entropy", "margin", "bald", "coreset", "kmeans"]
MEANINGS: dict[StrategyName, str] = {
    "bald": "BALD: where the model disagrees with itself",
    "entropy": "Entropy: where it is least sure",
    "margin": "Margin: where two classes are close",
    "coreset": "Core-set: what looks unlike the labelled ones",
    "kmeans": "k-means: a spread over all images",
    "random": "Random: the baseline",
}
NEED_A_MODEL: frozenset[StrategyName] = frozenset({"bald", "entropy", "margin"})


def round_form(desk: Desk, *, cold: bool) -> None:
    """Show the form; `cold` is before any model, when no strategy that asks a model can be used."""
    names = [name for name in MEANINGS if not (cold and name in NEED_A_MODEL)]
    if cold:
        names.sort(key=lambda name: name != "kmeans")
    with st.form("start-round"):
        top = st.columns([2, 1])
        name = top[0].selectbox("Which images", names, format_func=lambda n: MEANINGS[n])
        aggregation = top[1].selectbox(
            "From boxes to image",
            get_args(Aggregation),
            disabled=cold,
            help="For BALD, entropy and margin.",
        )
        row = st.columns(3)
        budget = row[0].number_input("Images to label", 1, 100_000, 40)
        epochs = row[1].number_input("Epochs", 1, 1000, TrainingParams().epochs)
        purpose = row[2].selectbox(
            "Labels are for",
            get_args(Purpose),
            help="Rounds for val, gate and test choose at random and train nothing.",
        )
        promote = st.checkbox("Promote the model by itself when it passes the gate", value=True)
        if not st.form_submit_button(
            "Start the round", type="primary", icon=":material/play_arrow:"
        ):
            return
    request = RoundCreate(
        strategy=strategy_of(name, aggregation) if purpose == "train" else RandomStrategy(),
        budget=int(budget),
        purpose=purpose,
        training=TrainingParams(epochs=int(epochs)),
        auto_promote=promote,
    )
    if attempt(lambda: desk.client.create_round(desk.name, request), "The round has begun"):
        st.rerun()


def strategy_of(name: StrategyName, aggregation: Aggregation) -> Strategy:
    """Return the strategy that the form's choices mean."""
    match name:
        case "random":
            return RandomStrategy()
        case "coreset":
            return CoreSetStrategy()
        case "kmeans":
            return KMeansStrategy()
        case _:
            return UncertaintyStrategy(strategy=name, aggregation=aggregation)
