"""Shapes what simulations came to into what the page shows."""

import pandas as pd

from shared.models.simulations import Arm, Axis, SimulationResults, told_saving
from shared.simulate.options import BASELINE

COST = {"images": "labelled images", "boxes": "boxes"}
CURVE_COLUMNS = ("arm", "mean", "low", "high", "paired")
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

    A single seed has no interval: both ends are its mean. `paired` tells whether an arm has all
    seeds of random; one of fewer has other starts, so that only its differences compare.
    """
    rows = []
    n_seeds = max((arm.n_seeds for arm in results.arms if arm.name == BASELINE), default=0)
    for arm in results.arms:
        for size in arm.sizes:
            paid = size.n_images if axis == "images" else size.n_boxes
            mean, low, high = size.map50.mean, size.map50.low, size.map50.high
            ends = mean if low is None else low, mean if high is None else high
            rows.append((arm.name, mean, *ends, arm.n_seeds >= n_seeds, paid))
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
        *(
            s.text() if (s := told_saving(each)) else ""
            for each in (arm.saved_images, arm.saved_boxes)
        ),
    )
