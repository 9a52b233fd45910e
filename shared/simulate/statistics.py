"""What cells say: curves, paired differences to random, labels saved, and a verdict in words."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.models.simulations import (
    Arm,
    Axis,
    Interval,
    Saving,
    SimulationResults,
    Size,
    savings_text,
)
from shared.simulate.advice import advise
from shared.simulate.options import BASELINE, FULL_POOL, LEVEL
from shared.simulate.records import CellRecord, Point

FloatArray = NDArray[np.float64]
Curve = tuple[FloatArray, FloatArray]

N_RESAMPLES = 2000
N_GRID = 101


def summarise(records: Sequence[CellRecord]) -> SimulationResults:
    """Return what the cells say.

    Raises:
        ValueError: there are no cells of random to compare with.
    """
    arms = by_arm(_of_one_length([r for r in records if r.cell.repeat == 0]))
    if BASELINE not in arms:
        msg = f"no finished cell of {BASELINE!r}, so there is nothing to compare with"
        raise ValueError(msg)
    names = sorted(arms, key=lambda name: (name != BASELINE, name))
    found = tuple(_arm(name, arms[name], arms[BASELINE]) for name in names)
    settings = records[0].settings
    return SimulationResults(
        dataset=records[0].dataset,
        settings=settings,
        noise_map50=training_noise(records),
        arms=found,
        advice=advise(found, "boxes" if settings.get("budget_unit") == "boxes" else "images"),
    )


def _of_one_length(records: Sequence[CellRecord]) -> list[CellRecord]:
    """Leave out models of the whole pool that were trained for a shorter curve than others were."""
    longest = max((r.cell.n_rounds for r in records if r.cell.full_pool), default=0)
    return [r for r in records if not r.cell.full_pool or r.cell.n_rounds == longest]


def by_arm(records: Sequence[CellRecord]) -> dict[str, dict[int, tuple[Point, ...]]]:
    """Return the points of each arm by seed."""
    arms: dict[str, dict[int, tuple[Point, ...]]] = defaultdict(dict)
    for record in records:
        arms[record.cell.arm][record.cell.seed] = record.points
    return arms


def training_noise(records: Sequence[CellRecord]) -> float | None:
    """Return the standard deviation of mAP50 between two trainings on the same labels, if known.

    From pairs that differ in nothing but the training seed: the root mean square of their
    differences, divided by the square root of 2.
    """
    first = {(r.cell.arm, r.cell.seed): r for r in records if r.cell.repeat == 0}
    differences: list[float] = []
    for again in (r for r in records if r.cell.repeat):
        one = first.get((again.cell.arm, again.cell.seed))
        if one is None:
            continue
        # The start is trained once; a choice that looked at the model goes another way.
        pairs = zip(one.points[1:], again.points[1:], one.selected, again.selected, strict=False)
        differences += [a.map50 - b.map50 for a, b, s, t in pairs if sorted(s) == sorted(t)]
    if not differences:
        return None
    return float(np.sqrt(np.mean(np.square(differences)) / 2))


def interval(values: Sequence[float]) -> Interval:
    """Return mean and 95 % interval by Student's t; values are one a seed."""
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean=mean, error=None, low=None, high=None, n=n)
    error = float(np.std(values, ddof=1) / np.sqrt(n))
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return Interval(mean=mean, error=error, low=mean - half, high=mean + half, n=n)


def curve(points: Sequence[Point], axis: Axis) -> Curve:
    """Return labels and mAP50 of one run, each of shape (R,), by growing labels."""
    labels = np.array([p.n_images if axis == "images" else p.n_boxes for p in points], dtype=float)
    order = np.argsort(labels, kind="stable")
    return labels[order], np.array([p.map50 for p in points])[order]


def mean_height(one: Curve, low: float, high: float) -> float:
    """Return the mean of a curve between two numbers of labels, linear between its points."""
    grid = np.linspace(low, high, N_GRID)
    return float(np.trapezoid(np.interp(grid, *one), grid) / (high - low))


def mean_curve(runs: Sequence[Curve]) -> Curve:
    """Return the mean of runs over seeds, step by step: labels and mAP50, shape (R,) each."""
    n = min(len(labels) for labels, _ in runs)
    return (
        np.mean([labels[:n] for labels, _ in runs], axis=0),
        np.mean([map50[:n] for _, map50 in runs], axis=0),
    )


def labels_needed(baseline: Curve, map50: float) -> float | None:
    """Return how many labels the baseline needs for this mAP50; None if it never gets there.

    The baseline's curve is taken as it is at its best so far, so that noise does not let it fall.
    """
    labels, heights = baseline[0], np.maximum.accumulate(baseline[1])
    if map50 > heights[-1]:
        return None
    above = int(np.argmax(heights >= map50))
    if above == 0:
        return float(labels[0])
    share = (map50 - heights[above - 1]) / (heights[above] - heights[above - 1])
    return float(labels[above - 1] + share * (labels[above] - labels[above - 1]))


def savings(
    arm: Mapping[int, tuple[Point, ...]], baseline: Mapping[int, tuple[Point, ...]], axis: Axis
) -> tuple[Saving, ...]:
    """Return the labels saved at each size after the start, from the seeds that both have."""
    seeds = sorted(set(arm) & set(baseline))
    if not seeds:
        return ()
    ours = [curve(arm[seed], axis) for seed in seeds]
    theirs = [curve(baseline[seed], axis) for seed in seeds]
    rng = np.random.default_rng(0)
    draws = rng.integers(len(seeds), size=(N_RESAMPLES, len(seeds))) if len(seeds) > 1 else ()
    resampled = [
        (mean_curve([ours[i] for i in draw]), mean_curve([theirs[i] for i in draw]))
        for draw in draws
    ]
    mine, random = mean_curve(ours), mean_curve(theirs)
    found = []
    for step in range(1, len(mine[0])):
        again = [_saved(m, b, step) for m, b in resampled]
        shares = [share for share, _ in again]
        n_beyond = sum(needed is None for _, needed in again)
        ends = np.quantile(shares, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)) if shares else None
        saved, needs = _saved(mine, random, step)
        found.append(
            Saving(
                at=float(mine[0][step]),
                map50=float(mine[1][step]),
                random_needs=needs,
                saved=saved,
                low=None if ends is None else float(ends[0]),
                high=None if ends is None else float(ends[1]),
                bound=needs is None,
                high_bound=n_beyond > len(again) * (1 - LEVEL) / 2,
            )
        )
    return tuple(found)


def _saved(arm: Curve, baseline: Curve, step: int) -> tuple[float, float | None]:
    needs = labels_needed(baseline, float(arm[1][step]))
    longest = float(baseline[0][-1])
    return 1 - float(arm[0][step]) / (longest if needs is None else needs), needs


def _arm(
    name: str, runs: Mapping[int, tuple[Point, ...]], baseline: Mapping[int, tuple[Point, ...]]
) -> Arm:
    compared = name not in REFERENCES
    by_images = _difference(runs, baseline, "images") if compared else None
    by_boxes = _difference(runs, baseline, "boxes") if compared else None
    saved_images = savings(runs, baseline, "images") if compared else ()
    saved_boxes = savings(runs, baseline, "boxes") if compared else ()
    return Arm(
        name=name,
        n_seeds=len(runs),
        sizes=_sizes(runs),
        auc_images=_auc(runs, baseline, "images"),
        auc_boxes=_auc(runs, baseline, "boxes"),
        difference_images=by_images,
        difference_boxes=by_boxes,
        saved_images=saved_images,
        saved_boxes=saved_boxes,
        verdict=verdict(name, by_images, by_boxes, saved_images, saved_boxes),
    )


def _sizes(runs: Mapping[int, tuple[Point, ...]]) -> tuple[Size, ...]:
    n_steps = min(len(points) for points in runs.values())
    sizes = []
    for step in range(n_steps):
        points = [points[step] for points in runs.values()]
        sizes.append(
            Size(
                n_images=round(float(np.mean([p.n_images for p in points]))),
                n_boxes=float(np.mean([p.n_boxes for p in points])),
                map50=interval([p.map50 for p in points]),
                map50_95=interval([p.map50_95 for p in points]),
            )
        )
    return tuple(sizes)


def _common(one: Curve, other: Curve) -> tuple[float, float] | None:
    low, high = max(one[0][0], other[0][0]), min(one[0][-1], other[0][-1])
    return (float(low), float(high)) if high > low else None


def _difference(
    runs: Mapping[int, tuple[Point, ...]], baseline: Mapping[int, tuple[Point, ...]], axis: Axis
) -> Interval | None:
    """Return the mean height above random over the labels that both reached, paired by seed."""
    differences = []
    for seed in sorted(set(runs) & set(baseline)):
        ours, theirs = curve(runs[seed], axis), curve(baseline[seed], axis)
        common = _common(ours, theirs)
        if common is not None:
            differences.append(mean_height(ours, *common) - mean_height(theirs, *common))
    return interval(differences) if differences else None


def _auc(
    runs: Mapping[int, tuple[Point, ...]], baseline: Mapping[int, tuple[Point, ...]], axis: Axis
) -> Interval | None:
    areas = []
    for seed in sorted(set(runs) & set(baseline)):
        ours = curve(runs[seed], axis)
        common = _common(ours, curve(baseline[seed], axis))
        if common is not None:
            areas.append(mean_height(ours, *common))
    return interval(areas) if areas else None


REFERENCES = {BASELINE: "the baseline", FULL_POOL: "every label there is, for reference"}


def verdict(
    name: str,
    by_images: Interval | None,
    by_boxes: Interval | None,
    saved_images: Sequence[Saving],
    saved_boxes: Sequence[Saving],
) -> str:
    """Return what may be said of an arm, in words."""
    if name in REFERENCES:
        return REFERENCES[name]
    by = [
        _judgement("by images", by_images, saved_images),
        _judgement("by boxes", by_boxes, saved_boxes),
    ]
    return "; ".join(by)


def _judgement(axis: str, difference: Interval | None, saved: Sequence[Saving]) -> str:
    if difference is None:
        return f"{axis}: no common range with random"
    if difference.low is None or difference.high is None:
        return f"{axis}: {difference.mean:+.3f} mAP50 in a single seed, which shows nothing yet"
    amount = (
        f"{difference.mean:+.3f} mAP50 (95 % interval {difference.low:+.3f} to "
        f"{difference.high:+.3f}, {difference.n} paired seeds)"
    )
    if difference.low <= 0 <= difference.high:
        return f"{axis}: not distinguishable from random, {amount}"
    if difference.high < 0:
        return f"{axis}: worse than random, {amount}"
    found = f"{axis}: better than random, {amount}"
    return f"{found}; labels at equal mAP50: {savings_text(saved)}" if saved else found
