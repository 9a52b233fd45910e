"""Shapes what simulations came to into what the page shows."""

import pandas as pd

from shared.models.simulations import Arm, Axis, SimulationResults, savings_text

COST = {"images": "labelled images", "boxes": "boxes"}
CURVE_COLUMNS = ("arm", "mean", "low", "high")
VERDICT_COLUMNS = (
    "arm",
    "seeds",
    "images",
    "boxes",
    "mAP50",
    "vs random, equal images",
    "vs random, equal boxes",
    "images at equal mAP50",
    "boxes at equal mAP50",
)


def curves(results: SimulationResults, axis: Axis) -> pd.DataFrame:
    """Return one row per arm and size: arm, labels, mAP50 and the ends of its interval.

    A single seed has no interval: both ends are its mean.
    """
    rows = []
    for arm in results.arms:
        for size in arm.sizes:
            paid = size.n_images if axis == "images" else size.n_boxes
            mean, low, high = size.map50.mean, size.map50.low, size.map50.high
            rows.append(
                (arm.name, mean, mean if low is None else low, mean if high is None else high, paid)
            )
    return pd.DataFrame(rows, columns=[*CURVE_COLUMNS, COST[axis]])


def verdicts(results: SimulationResults) -> pd.DataFrame:
    """Return one row per arm: where it ended, and how far that is from random."""
    return pd.DataFrame([_row(arm) for arm in results.arms], columns=list(VERDICT_COLUMNS))


def _row(arm: Arm) -> tuple[object, ...]:
    last = arm.sizes[-1]
    return (
        arm.name,
        arm.n_seeds,
        last.n_images,
        round(last.n_boxes),
        last.map50.text(),
        *(d.text("+") if d else "" for d in (arm.difference_images, arm.difference_boxes)),
        savings_text(arm.saved_images),
        savings_text(arm.saved_boxes),
    )
