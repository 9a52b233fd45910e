"""From measured arms to a recommendation: which strategy, and how sure."""

import math
from collections.abc import Mapping, Sequence

from shared.models.simulations import Advice, Arm, Axis, Interval
from shared.simulate.options import BALANCED, BASELINE, FULL_POOL, LEVEL

# Below this confidence a difference is called noise.
ENOUGH = 0.95


def advise(arms: Sequence[Arm], axis: Axis) -> Advice:
    """Return what to choose by, labels being paid by `axis`.

    Of the strategies that beat random beyond noise the one with the largest mean difference is
    advised; where none does, random is, which costs nothing to compute.

    Args:
        arms: of one simulation, the references among them.
        axis: what a budget counts.
    """
    tried = {arm.name: _difference(arm, axis) for arm in arms if is_choice(arm.name)}
    known = {name: difference for name, difference in tried.items() if difference is not None}
    if not known:
        words = f"nothing but {BASELINE} was measured over a common range of {axis}"
        return Advice(strategy=BASELINE, axis=axis, confidence=None, words=words)
    first = max(known, key=lambda name: known[name].mean)
    # What was tried on few seeds, and may be first by luck, hides nothing that is proven.
    proven = [n for n in known if (beats(known[n], len(tried)) or 0.0) >= ENOUGH]
    name = max(proven or [first], key=lambda name: known[name].mean)
    best = known[name]
    amount = f"{best.mean:+.3f} mAP50 at equal {axis} over {best.n} paired seeds"
    confidence = beats(best, len(tried))
    if confidence is None:
        words = (
            f"{name} is first by {best.mean:+.3f} mAP50 at equal {axis}, in a single seed, which "
            "shows nothing yet: give more --seeds"
        )
        return Advice(strategy=BASELINE, axis=axis, confidence=None, words=words)
    luck = _luck(confidence, len(tried))
    if confidence >= ENOUGH:
        words = (
            f"choose by {name}: {amount}, which {luck}"
            f"{_by_boxes(arms, name) if axis == 'images' else ''}{_unproven(first, name, known)}"
        )
        return Advice(strategy=name, axis=axis, confidence=confidence, words=words)
    words = (
        f"no strategy is distinguishable from random here; the nearest is {name}, {amount}, "
        f"{f'which {luck}' if best.mean > 0 else 'behind it'}{_more_seeds(best, len(tried))}"
    )
    return Advice(strategy=BASELINE, axis=axis, confidence=confidence, words=words)


def beats(difference: Interval, n_tried: int) -> float | None:
    """Return the confidence that a paired difference to random is above 0, None from one seed.

    1 - p of the two-sided paired t-test; p is multiplied by the number of strategies tried, since
    the best of many looks good by chance (Bonferroni). For one strategy it is 95 % or more where
    the difference's interval of 95 % lies above 0.
    """
    from scipy.stats import t

    if difference.error is None:
        return None
    if difference.mean <= 0:
        return 0.0
    if difference.error == 0:
        return 1.0
    p = 2 * float(t.sf(difference.mean / difference.error, difference.n - 1))
    return max(0.0, 1 - n_tried * p)


def loses(difference: Interval, n_tried: int) -> float | None:
    """Return the confidence that a paired difference to random is below 0, None from one seed."""
    return beats(difference.model_copy(update={"mean": -difference.mean}), n_tried)


def _by_boxes(arms: Sequence[Arm], name: str) -> str:
    """Return a warning where images are saved but boxes, the work of drawing, may not be."""
    boxes = next(arm.difference_boxes for arm in arms if arm.name == name)
    if boxes is None or boxes.low is None or boxes.high is None or boxes.low > 0:
        return ""
    verdict = "worse than" if boxes.high < 0 else "not distinguishable from"
    return f"; at equal boxes it is {verdict} random ({boxes.mean:+.3f})"


def _unproven(first: str, advised: str, known: Mapping[str, Interval]) -> str:
    """Return a word on a strategy that is ahead of the advised one, but not beyond noise."""
    if first == advised:
        return ""
    found = known[first]
    return f"; {first} is ahead of it ({found.mean:+.3f}, n = {found.n}), but unproven"


def _more_seeds(best: Interval, n_tried: int) -> str:
    """Return about how many seeds would tell a difference of this size from 0."""
    if best.mean <= 0 or best.error is None:
        return ""
    from scipy.stats import t

    deviation = best.error * math.sqrt(best.n)
    # The next draw's interval is as likely to end above 0 as below.
    for n in range(best.n + 1, 101):
        if t.isf((1 - LEVEL) / 2 / n_tried, n - 1) * deviation / math.sqrt(n) <= best.mean:
            return f"; about {n} seeds would settle a difference of this size"
    return ""


def is_choice(name: str) -> bool:
    """Tell whether an arm is a strategy that is compared, and no reference."""
    return name not in {BASELINE, FULL_POOL} and not name.endswith(f", {BALANCED}")


def _difference(arm: Arm, axis: Axis) -> Interval | None:
    return arm.difference_images if axis == "images" else arm.difference_boxes


def _luck(confidence: float, n_tried: int) -> str:
    """Return in words how often chance alone would do as well."""
    often = 1 - confidence
    share = "under 1 %" if often < 0.01 else f"{often:.0%}".replace("%", " %")
    best = f"the best of {n_tried} strategies" if n_tried > 1 else "a strategy"
    return f"{best} reaches by chance alone in {share} of simulations"
