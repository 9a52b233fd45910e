from collections import Counter

import pytest

from data_service.app.services.splits import Candidate, SplitPlan, assign_splits
from shared.models.data import Split, SplitFractions

FRACTIONS = SplitFractions(val=0.1, gate=0.1, test=0.1)


def candidates(n: int, rare_every: int = 10, *, wanted: Split | None = None) -> list[Candidate]:
    return [
        Candidate(f"{i:04}", f"{i:04}", frozenset({0, 1} if i % rare_every == 0 else {0}), wanted)
        for i in range(n)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_draws_hold_the_fractions_in_every_stratum(seed: int) -> None:
    images = candidates(400)
    splits = assign_splits(images, SplitPlan(FRACTIONS, seed)).splits
    assert Counter(splits.values()) == {"train": 280, "val": 40, "gate": 40, "test": 40}
    rare = Counter(splits[c.id] for c in images if c.classes == frozenset({0, 1}))
    assert rare == {"train": 28, "val": 4, "gate": 4, "test": 4}


def test_the_same_seed_draws_the_same_and_another_seed_does_not() -> None:
    first = assign_splits(candidates(100), SplitPlan(FRACTIONS, 1)).splits
    assert assign_splits(candidates(100)[::-1], SplitPlan(FRACTIONS, 1)).splits == first
    assert assign_splits(candidates(100), SplitPlan(FRACTIONS, 2)).splits != first


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_cross_a_draw(seed: int) -> None:
    images = [Candidate(f"{i:04}", f"g{i // 3}", None, None) for i in range(300)]
    splits = assign_splits(images, SplitPlan(FRACTIONS, seed)).splits
    for i in range(0, 300, 3):
        assert len({splits[f"{j:04}"] for j in range(i, i + 3)}) == 1
    assert 27 <= Counter(splits.values())["val"] <= 33


def test_unlabelled_images_are_drawn_all_the_same() -> None:
    images = [Candidate(f"{i:03}", f"{i:03}", None, None) for i in range(50)]
    splits = assign_splits(images, SplitPlan(FRACTIONS, 0)).splits
    assert Counter(splits.values()) == {"train": 35, "val": 5, "gate": 5, "test": 5}


def test_lists_without_gate_halve_val_and_leave_train_and_test() -> None:
    train = [c for c in candidates(100, wanted="train") if c.id < "0060"]
    val = [c for c in candidates(100, wanted="val") if "0060" <= c.id < "0080"]
    test = [c for c in candidates(100, wanted="test") if c.id >= "0080"]
    plan = SplitPlan(FRACTIONS, 0, declared=frozenset({"train", "val", "test"}))
    splits = assign_splits([*train, *val, *test], plan).splits
    assert Counter(splits.values()) == {"train": 60, "val": 10, "gate": 10, "test": 20}
    assert all(splits[c.id] == "train" for c in train)
    assert all(splits[c.id] == "test" for c in test)


def test_lists_with_every_split_are_kept_even_when_one_is_empty() -> None:
    declared: frozenset[Split] = frozenset({"train", "val", "gate", "test"})
    images = candidates(20, wanted="val")
    splits = assign_splits(images, SplitPlan(FRACTIONS, 0, declared)).splits
    assert set(splits.values()) == {"val"}


def test_lists_without_val_draw_val_and_gate_from_train() -> None:
    images = [*candidates(100, wanted="train"), Candidate("t", "t", frozenset({0}), "test")]
    plan = SplitPlan(FRACTIONS, 0, declared=frozenset({"train", "test"}))
    splits = assign_splits(images, plan).splits
    assert Counter(splits.values()) == {"train": 80, "val": 10, "gate": 10, "test": 1}


def test_what_no_list_names_is_train() -> None:
    images = [*candidates(10), Candidate("v", "v", None, "val"), Candidate("g", "g", None, "gate")]
    plan = SplitPlan(FRACTIONS, 0, declared=frozenset({"train", "val", "gate", "test"}))
    splits = assign_splits(images, plan).splits
    assert Counter(splits.values()) == {"train": 10, "val": 1, "gate": 1}


def test_a_group_from_before_keeps_its_split() -> None:
    images = [Candidate("new", "old", None, None)]
    plan = SplitPlan(FRACTIONS, 0, settled={"old": "test"})
    assert assign_splits(images, plan).splits == {"new": "test"}


def test_many_small_draws_reach_the_fractions() -> None:
    drawn: Counter[Split] = Counter()
    for i in range(100):
        plan = SplitPlan(FRACTIONS, 0, drawn=dict(drawn))
        drawn.update(assign_splits([Candidate(f"{i}", f"{i}", None, None)], plan).splits.values())
    assert drawn == {"train": 70, "val": 10, "gate": 10, "test": 10}


def test_a_forced_split_takes_all() -> None:
    plan = SplitPlan(FRACTIONS, 0, declared=frozenset({"val"}), forced="test")
    assert set(assign_splits(candidates(5, wanted="val"), plan).splits.values()) == {"test"}


def test_a_draw_over_lists_joins_groups_from_before() -> None:
    images = [Candidate(f"{i}", f"g{i}", None, "val") for i in range(8)]
    declared: frozenset[Split] = frozenset({"train", "val", "test"})
    before: dict[Split, int] = {"train": 99, "val": 99}
    for split in ("val", "gate"):
        settled: dict[str, Split] = {f"g{i}": split for i in range(4)}
        plan = SplitPlan(FRACTIONS, 0, declared, settled=settled, drawn=before)
        splits = assign_splits(images, plan).splits
        assert [splits[f"{i}"] for i in range(4)] == [split] * 4
        assert set(splits.values()) == {"val", "gate"}


def test_a_group_from_before_in_a_split_that_is_not_drawn_is_drawn() -> None:
    images = [Candidate("new", "old", None, "val")]
    plan = SplitPlan(FRACTIONS, 0, frozenset({"train", "val", "test"}), settled={"old": "train"})
    assert assign_splits(images, plan).splits["new"] in {"val", "gate"}
