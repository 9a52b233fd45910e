"""Which split an image goes into: given lists first, else seeded and stratified draws."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from shared.models.data import Split, SplitFractions

_HELD_OUT: tuple[Split, ...] = ("val", "gate", "test")
_NOTHING_HERE = -1
_UNLABELLED = -2


@dataclass(frozen=True)
class Candidate:
    """One image that needs a split.

    Attributes:
        id: of the image.
        group: shared by near-duplicates; its own id where it has none.
        classes: of its boxes; None where it is unlabelled.
        wanted: split that the source gives it.
    """

    id: str
    group: str
    classes: frozenset[int] | None
    wanted: Split | None


@dataclass(frozen=True)
class SplitPlan:
    """What the draw must respect.

    Attributes:
        fractions: of the project.
        seed: of the project.
        declared: splits that the source's lists name.
        forced: one split for every image, asked for by the caller.
        settled: split of groups that have members from before.
        drawn: images drawn into each split before.
    """

    fractions: SplitFractions
    seed: int
    declared: frozenset[Split] = frozenset()
    forced: Split | None = None
    settled: Mapping[str, Split] = field(default_factory=dict)
    drawn: Mapping[Split, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """The split of every candidate; `drawn` ones count in the next draw of the project."""

    splits: dict[str, Split]
    drawn: bool


def assign_splits(candidates: Sequence[Candidate], plan: SplitPlan) -> Assignment:
    """Give every candidate a split.

    Lists are honoured, and what they do not name is train. A held-out split they do not have is
    drawn in equal parts from their val, so that train and test stay as given (a val without gate is
    halved); where they have no val, val and gate are drawn from their train by the project's
    fractions. Without lists everything is drawn by the fractions. A group of near-duplicates
    goes through a draw as one, and joins its members from before in a split that is drawn.
    """
    if plan.forced is not None:
        return Assignment({c.id: plan.forced for c in candidates}, drawn=False)
    if not plan.declared & set(_HELD_OUT):
        return Assignment(draw(candidates, _shares(plan, _HELD_OUT), plan), drawn=True)
    splits: dict[str, Split] = {c.id: c.wanted or "train" for c in candidates}
    missing = [split for split in _HELD_OUT if split not in plan.declared]
    origin: Split = "val" if "val" in plan.declared else "train"
    if missing:
        share = 1 / (len(missing) + 1)
        shares = (
            dict.fromkeys((origin, *missing), share) if origin == "val" else _shares(plan, missing)
        )
        chosen = [c for c in candidates if splits[c.id] == origin]
        splits |= draw(chosen, shares, replace(plan, drawn={}))
    return Assignment(splits, drawn=False)


def draw(
    candidates: Sequence[Candidate], shares: Mapping[Split, float], plan: SplitPlan
) -> dict[str, Split]:
    """Draw a split for each candidate, by groups, stratified by the rarest class of each group.

    The groups stand in a row, stratum by stratum, shuffled within; each goes to the split that is
    furthest behind its share so far, so that shares hold in every stratum and in the whole.

    Args:
        candidates: to draw.
        shares: of each split; they sum to 1.
        plan: its seed, settled groups and earlier draws count.
    """
    units: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in sorted(candidates, key=lambda c: c.id):
        units[candidate.group].append(candidate)
    counts = Counter({split: plan.drawn.get(split, 0) for split in shares})
    splits: dict[str, Split] = {}
    for group in _in_strata(units, plan.seed):
        members = units[group]
        total = counts.total() + len(members)
        behind = {s: share * total - counts[s] for s, share in shares.items() if share > 0}
        split = plan.settled.get(group)
        if split is None or split not in shares:
            split = _first_largest(behind)
        counts[split] += len(members)
        splits |= {member.id: split for member in members}
    return splits


def _first_largest(values: Mapping[Split, float]) -> Split:
    return max(values.items(), key=lambda item: item[1])[0]


def _in_strata(units: Mapping[str, Sequence[Candidate]], seed: int) -> list[str]:
    frequency = Counter(
        class_id for members in units.values() for c in members for class_id in c.classes or ()
    )
    strata: dict[tuple[int, int], list[str]] = defaultdict(list)
    for group, members in units.items():
        strata[_stratum(members, frequency)].append(group)
    row: list[str] = []
    generator = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
    for stratum in sorted(strata):
        groups = sorted(strata[stratum])
        generator.shuffle(groups)
        row.extend(groups)
    return row


def _stratum(members: Sequence[Candidate], frequency: Mapping[int, int]) -> tuple[int, int]:
    classes = {class_id for c in members for class_id in c.classes or ()}
    if classes:
        return min((frequency[class_id], class_id) for class_id in classes)
    unlabelled = all(c.classes is None for c in members)
    return (2**62, _UNLABELLED if unlabelled else _NOTHING_HERE)


def _shares(plan: SplitPlan, held_out: Sequence[Split]) -> dict[Split, float]:
    shares: dict[Split, float] = {split: getattr(plan.fractions, split) for split in held_out}
    return {"train": 1 - sum(shares.values()), **shares}
