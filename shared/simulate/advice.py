"""From measured arms to a recommendation: which strategy, and how sure."""

import math
from collections.abc import Mapping, Sequence

from shared.models.simulations import Advice, Arm, Axis, Interval
from shared.simulate.options import BALANCED, BASELINE, FULL_POOL, LEVEL

# What chance alone does more often is called noise.
RARE = 1 - LEVEL


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
    by_chance = chances(known)
    # What was tried on few seeds, and may be first by luck, hides nothing that is proven.
    proven = [n for n, chance in by_chance.items() if chance <= RARE and known[n].mean > 0]
    name = max(proven or [first], key=lambda name: known[name].mean)
    best = known[name]
    amount = f"{best.mean:+.3f} mAP50 at equal {axis} over {best.n} paired seeds"
    if name not in by_chance:
        words = (
            f"{name} is first by {best.mean:+.3f} mAP50 at equal {axis}, in a single seed, which "
            "shows nothing yet: give more --seeds"
        )
        return Advice(strategy=BASELINE, axis=axis, confidence=None, words=words)
    luck = f"as by chance alone in {_share(by_chance[name])} of simulations{_of_all(by_chance)}"
    confidence = 1 - by_chance[name] if best.mean > 0 else 0.0
    if proven:
        words = (
            f"choose by {name}: {amount}, {luck}"
            f"{_by_boxes(arms, name) if axis == 'images' else ''}{_unproven(first, name, known)}"
        )
        return Advice(strategy=name, axis=axis, confidence=confidence, words=words)
    words = (
        f"no strategy is distinguishable from random here; the nearest is {name}, {amount}, "
        f"{luck if best.mean > 0 else 'behind it'}{_more_seeds(best, len(by_chance))}"
    )
    return Advice(strategy=BASELINE, axis=axis, confidence=confidence, words=words)


def chances(differences: Mapping[str, Interval]) -> dict[str, float]:
    """Return how likely chance alone moves each so far from random; none from a single seed.

    p of the two-sided paired t-test, corrected since the best of many looks good by chance. Of one
    strategy alone it is below 5 % where the difference's interval of 95 % does not hold 0.

    Source:
        Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    each = {name: _p(d, d.error) for name, d in differences.items() if d.error is not None}
    corrected: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(each, key=lambda name: each[name])):
        highest = max(highest, min(1.0, (len(each) - rank) * each[name]))
        corrected[name] = highest
    return corrected


def _p(difference: Interval, error: float) -> float:
    from scipy.stats import t

    if error == 0:
        return float(difference.mean == 0)
    return 2 * float(t.sf(abs(difference.mean) / error, difference.n - 1))


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


def _share(chance: float) -> str:
    if chance > 0.5:
        return "over half"
    return "under 1 %" if chance < 0.01 else f"{chance:.0%}".replace("%", " %")


def _of_all(by_chance: Mapping[str, float]) -> str:
    return f", all {len(by_chance)} strategies counted" if len(by_chance) > 1 else ""
