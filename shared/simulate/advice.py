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
    tried = {arm.name: _difference(arm, axis) for arm in arms if _is_choice(arm.name)}
    known = {name: difference for name, difference in tried.items() if difference is not None}
    if not known:
        words = f"nothing but {BASELINE} was measured over a common range of {axis}"
        return Advice(strategy=BASELINE, axis=axis, confidence=None, words=words)
    first = max(known, key=lambda name: known[name].mean)
    # What was tried on few seeds, and may be first by luck, hides nothing that is proven.
    proven = [n for n in known if (beats(known[n], len(known)) or 0.0) >= ENOUGH]
    name = max(proven or [first], key=lambda name: known[name].mean)
    best = known[name]
    amount = f"{best.mean:+.3f} mAP50 at equal {axis} over {best.n} paired seeds"
    confidence = beats(best, len(known))
    if confidence is None:
        words = (
            f"{name} is first by {best.mean:+.3f} mAP50 at equal {axis}, in a single seed, which "
            "shows nothing yet: give more --seeds"
        )
        return Advice(strategy=BASELINE, axis=axis, confidence=None, words=words)
    if confidence >= ENOUGH:
        words = (
            f"choose by {name}: {amount}, confidence {_percent(confidence)} that it beats random"
            f"{_by_boxes(arms, name) if axis == 'images' else ''}{_unproven(first, name, known)}"
        )
        return Advice(strategy=name, axis=axis, confidence=confidence, words=words)
    words = (
        f"no strategy is distinguishable from random here; the nearest is {name}, {amount}, "
        f"confidence {_percent(confidence)}{_more_seeds(best)}"
    )
    return Advice(strategy=BASELINE, axis=axis, confidence=confidence, words=words)


def beats(difference: Interval, n_tried: int) -> float | None:
    """Return the confidence that a paired difference to random is above 0, None from one seed.

    1 - p of the one-sided paired t-test; p is multiplied by the number of strategies tried, since
    the best of many looks good by chance (Bonferroni).
    """
    from scipy.stats import t

    if difference.error is None:
        return None
    if difference.error == 0:
        return float(difference.mean > 0)
    p = float(t.sf(difference.mean / difference.error, difference.n - 1))
    return max(0.0, 1 - n_tried * p)


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


def _more_seeds(best: Interval) -> str:
    """Return about how many seeds would tell a difference of this size from 0."""
    if best.mean <= 0 or best.error is None:
        return ""
    from scipy.stats import t

    deviation = best.error * math.sqrt(best.n)
    # The next draw's interval is as likely to end above 0 as below.
    for n in range(best.n + 1, 101):
        if t.ppf((1 + LEVEL) / 2, n - 1) * deviation / math.sqrt(n) <= best.mean:
            return f"; about {n} seeds would settle a difference of this size"
    return ""


def _is_choice(name: str) -> bool:
    return name not in {BASELINE, FULL_POOL} and not name.endswith(f", {BALANCED}")


def _difference(arm: Arm, axis: Axis) -> Interval | None:
    return arm.difference_images if axis == "images" else arm.difference_boxes


def _percent(confidence: float) -> str:
    return "over 99 %" if confidence > 0.99 else f"{confidence:.0%}".replace("%", " %")
