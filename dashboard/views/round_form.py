"""The form that starts a round."""

from typing import get_args

import streamlit as st

from dashboard.session import Desk, attempt
from shared.models.rounds import BudgetUnit, Purpose, RoundCreate, TrainingParams
from shared.models.strategies import COLD_START, Measure, parse_strategy

MEANINGS = {
    "class_weighted_entropy": "Class-weighted entropy: unsure boxes, of rare classes the more",
    "class_weighted_diverse": "The same, then spread: fewer boxes to draw",
    "entropy": "Entropy: where it is least sure",
    "bald": "BALD: where the model disagrees with itself",
    "margin": "Margin: where two classes are close",
    "certainty": "Certainty: where no class is likely",
    "variance": "Variance: where its probabilities change",
    "localisation": "Localisation: where its boxes move",
    "inconsistency": "Inconsistency: where a flipped or smaller view disagrees (slow)",
    "error_based": "Expected errors: wrong in class or place",
    "badge": "BADGE: large and differing gradients",
    "class_balanced": "Class-balanced: what evens out the labels",
    "coreset": "Core-set: what looks unlike the labelled ones",
    "kmeans": "k-means: a spread over all images",
    "typiclust": "TypiClust: typical images of regions without labels",
    "random": "Random: the baseline",
}
AGGREGATIONS = ("max", "mean", "sum", "top3", "class_weighted")


def round_form(desk: Desk, *, cold: bool) -> None:
    """Show the form; `cold` is before any model, when no strategy that asks a model can be used."""
    names = [name for name in MEANINGS if not cold or name in COLD_START]
    if cold:
        names.sort(key=lambda name: name != "kmeans")
    with st.form("start-round"):
        top = st.columns([2, 1])
        name = top[0].selectbox("Which images", names, format_func=lambda n: MEANINGS[n])
        aggregation = top[1].selectbox(
            "From boxes to image",
            AGGREGATIONS,
            disabled=cold,
            help="For the measures of single boxes: entropy to inconsistency.",
        )
        written = st.text_input(
            "Or written on one line",
            placeholder="0.8 entropy:sum + 0.2 random",
            help="Any strategy with its options, or a mix; stands in for the two above.",
        )
        row = st.columns(4)
        budget = row[0].number_input("How many", 1, 100_000, 40)
        unit = row[1].selectbox(
            "Of",
            get_args(BudgetUnit),
            help="Boxes are those that the model expects, at least 1 an image.",
        )
        epochs = row[2].number_input("Epochs", 1, 1000, TrainingParams().epochs)
        purpose = row[3].selectbox(
            "Labels are for",
            get_args(Purpose),
            help="Rounds for val, gate and test choose at random and train nothing.",
        )
        promote = st.checkbox("Promote the model by itself when it passes the gate", value=True)
        if not st.form_submit_button(
            "Start the round", type="primary", icon=":material/play_arrow:"
        ):
            return
    text = written.strip() or strategy_text(name, aggregation)

    def create() -> None:
        request = RoundCreate(
            strategy=parse_strategy(text if purpose == "train" else "random"),
            budget=int(budget),
            budget_unit=unit,
            purpose=purpose,
            training=TrainingParams(epochs=int(epochs)),
            auto_promote=promote,
        )
        desk.client.create_round(desk.name, request)

    if attempt(create, "The round has begun"):
        st.rerun()


def strategy_text(name: str, aggregation: str) -> str:
    """Return the strategy that the form's choices mean, on one line."""
    return f"{name}:{aggregation}" if name in get_args(Measure) else name
