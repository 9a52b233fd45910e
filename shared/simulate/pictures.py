"""Curves of a simulation, by images and by boxes, with their intervals."""

from pathlib import Path

from shared.demo.pictures import COLOURS
from shared.models.simulations import Arm, Axis, SimulationResults, Size
from shared.simulate.options import BASELINE, FULL_POOL

GREY = "#555555"
MARGIN = 0.15


def draw_curves(results: SimulationResults, axis: Axis, path: Path) -> None:
    """Draw test mAP50 by labels: one line an arm, its 95 % interval over seeds as a band.

    An arm of fewer seeds than random has other starts, so that only its differences compare: it is
    dashed, without a band.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    colours = iter(COLOURS * 3)
    n_seeds = max((arm.n_seeds for arm in results.arms if arm.name == BASELINE), default=0)
    for arm in results.arms:
        if arm.name == FULL_POOL:
            full = arm.sizes[-1].map50.mean
            label = f"whole pool ({full:.3f}, {_seeds(arm)})"
            axes.axhline(full, color=GREY, linestyle=":", label=label)
            continue
        colour = GREY if arm.name == BASELINE else next(colours)
        x = [_labels(size, axis) for size in arm.sizes]
        y = [size.map50.mean for size in arm.sizes]
        whole = arm.n_seeds >= n_seeds
        label = f"{arm.name} ({_seeds(arm)}{'' if whole else ': other starts'})"
        style = {"linewidth": 1.8} if whole else {"linewidth": 1.0, "linestyle": "--", "alpha": 0.7}
        axes.plot(x, y, marker="o", color=colour, label=label, **style)
        if whole:
            axes.fill_between(x, _low(arm), _high(arm), color=colour, alpha=0.15, linewidth=0)
    means = [size.map50.mean for arm in results.arms for size in arm.sizes]
    # Bands of two seeds reach far beyond what a quality can be.
    limits = max(0.0, min(means) - MARGIN), min(1.0, max(means) + MARGIN)
    axes.set(xlabel=f"labelled {axis}", ylabel="mAP50 on test", ylim=limits)
    axes.set_title(f"{results.dataset.name}: what selection buys, by {axis}", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=120)


def _seeds(arm: Arm) -> str:
    return f"{arm.n_seeds} seed{'s' if arm.n_seeds > 1 else ''}"


def _labels(size: Size, axis: Axis) -> float:
    return float(size.n_images) if axis == "images" else size.n_boxes


def _low(arm: Arm) -> list[float]:
    return [s.map50.mean if s.map50.low is None else s.map50.low for s in arm.sizes]


def _high(arm: Arm) -> list[float]:
    return [s.map50.mean if s.map50.high is None else s.map50.high for s in arm.sizes]
