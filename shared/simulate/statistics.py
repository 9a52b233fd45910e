"""What cells say: curves, paired differences to random, labels saved, and a verdict in words."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
from shared.simulate.advice import RARE, advise, chances, is_choice
from shared.simulate.options import BASELINE, FULL_POOL, LEVEL
from shared.simulate.records import CellRecord, Point

FloatArray = NDArray[np.float64]
Curve = tuple[FloatArray, FloatArray]

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
    evidence = Evidence(_evidence(arms, "images"), _evidence(arms, "boxes"))
    found = tuple(_arm(name, arms, evidence) for name in names)
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
    """Return the labels saved at each size after the start, from the seeds that both have.

    The interval is that of the paired difference in mAP50 at that size (Student's t), carried to
    labels along random's mean curve. So it holds 0 where the difference does; how sure that curve
    itself is does not count.
    """
    seeds = sorted(set(arm) & set(baseline))
    if not seeds:
        return ()
    ours = [curve(arm[seed], axis) for seed in seeds]
    theirs = [curve(baseline[seed], axis) for seed in seeds]
    mine, random = mean_curve(ours), mean_curve(theirs)
    found = []
    for step in range(1, len(mine[0])):
        at, height = float(mine[0][step]), float(mine[1][step])
        pairs = zip(ours, theirs, strict=True)
        gain = interval([float(o[1][step] - np.interp(o[0][step], *t)) for o, t in pairs])
        saved, needs = _saved(at, random, height)
        ends = [
            None if end is None else _saved(at, random, height - gain.mean + end)
            for end in (gain.low, gain.high)
        ]
        found.append(
            Saving(
                at=at,
                map50=height,
                random_needs=needs,
                saved=saved,
                low=ends[0] and ends[0][0],
                high=ends[1] and ends[1][0],
                bound=needs is None,
                high_bound=ends[1] is not None and ends[1][1] is None,
            )
        )
    return tuple(found)


def _saved(at: float, baseline: Curve, map50: float) -> tuple[float, float | None]:
    """Return the share of labels saved, and how many the baseline needs, None if too many."""
    needs = labels_needed(baseline, map50)
    longest = float(baseline[0][-1])
    # A start without a box on it costs no boxes: nothing is less than that.
    return 1 - at / max(longest if needs is None else needs, 1.0), needs


class Difference(NamedTuple):
    """How far an arm is from random, and how likely chance alone does that, as far as known."""

    size: Interval
    chance: float | None
    n_tried: int


class Evidence(NamedTuple):
    """The arms' differences to random at equal images and at equal boxes, by name."""

    images: Mapping[str, Difference]
    boxes: Mapping[str, Difference]


def _evidence(
    arms: Mapping[str, Mapping[int, tuple[Point, ...]]], axis: Axis
) -> dict[str, Difference]:
    sizes = {
        name: size
        for name, runs in arms.items()
        if name not in REFERENCES and (size := _difference(runs, arms[BASELINE], axis))
    }
    together = chances({name: size for name, size in sizes.items() if is_choice(name)})
    found = {}
    for name, size in sizes.items():
        # References are no candidates: each is judged alone.
        among = together if is_choice(name) else chances({name: size})
        found[name] = Difference(size, among.get(name), len(among))
    return found


def _arm(name: str, arms: Mapping[str, Mapping[int, tuple[Point, ...]]], evidence: Evidence) -> Arm:
    runs, baseline = arms[name], arms[BASELINE]
    compared = name not in REFERENCES
    by_images, by_boxes = evidence.images.get(name), evidence.boxes.get(name)
    saved_images = savings(runs, baseline, "images") if compared else ()
    saved_boxes = savings(runs, baseline, "boxes") if compared else ()
    # Random goes on alone: over its own end its area is that of no other.
    beside = [runs for other, runs in arms.items() if is_choice(other)]
    return Arm(
        name=name,
        n_seeds=len(runs),
        sizes=_sizes(runs),
        auc_images=_auc(runs, [baseline, *beside], "images"),
        auc_boxes=_auc(runs, [baseline, *beside], "boxes"),
        difference_images=by_images.size if by_images else None,
        difference_boxes=by_boxes.size if by_boxes else None,
        saved_images=saved_images,
        saved_boxes=saved_boxes,
        verdict=verdict(name, (by_images, by_boxes), (saved_images, saved_boxes)),
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
    runs: Mapping[int, tuple[Point, ...]],
    others: Sequence[Mapping[int, tuple[Point, ...]]],
    axis: Axis,
) -> Interval | None:
    """Return the mean height over the labels that all arms of a seed reached."""
    areas = []
    for seed in sorted(runs):
        ours = curve(runs[seed], axis)
        theirs = [curve(other[seed], axis)[0] for other in others if seed in other]
        low = max(labels[0] for labels in [ours[0], *theirs])
        high = min(labels[-1] for labels in [ours[0], *theirs])
        if high > low:
            areas.append(mean_height(ours, float(low), float(high)))
    return interval(areas) if areas else None


REFERENCES = {BASELINE: "the baseline", FULL_POOL: "every label there is, for reference"}


def verdict(
    name: str,
    differences: tuple[Difference | None, Difference | None],
    saved: tuple[Sequence[Saving], Sequence[Saving]],
) -> str:
    """Return what may be said of an arm, in words: by images, and by boxes."""
    if name in REFERENCES:
        return REFERENCES[name]
    axes = zip(("by images", "by boxes"), differences, saved, strict=True)
    return "; ".join(_judgement(axis, found, labels) for axis, found, labels in axes)


def _judgement(axis: str, difference: Difference | None, saved: Sequence[Saving]) -> str:
    if difference is None:
        return f"{axis}: no common range with random"
    size, chance, n_tried = difference
    if chance is None or size.low is None or size.high is None:
        return f"{axis}: {size.mean:+.3f} mAP50 in a single seed, which shows nothing yet"
    amount = (
        f"{size.mean:+.3f} mAP50 (95 % interval {size.low:+.3f} to "
        f"{size.high:+.3f}, {size.n} paired seeds)"
    )
    if chance > RARE:
        # The interval is that of one strategy alone.
        apart = size.low > 0 or size.high < 0
        of_all = f" where {n_tried} strategies are tried" if apart else ""
        return f"{axis}: not distinguishable from random{of_all}, {amount}"
    if size.mean < 0:
        return f"{axis}: worse than random, {amount}"
    found = f"{axis}: better than random, {amount}"
    return f"{found}; labels at equal mAP50: {savings_text(saved)}" if saved else found
