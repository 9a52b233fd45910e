"""The evidence: known cells give known differences, savings and words."""

import numpy as np
import pytest

from shared.models.simulations import Saving, savings_text
from shared.simulate.options import BASELINE, FULL_POOL
from shared.simulate.records import CellRecord
from shared.simulate.statistics import (
    interval,
    labels_needed,
    mean_height,
    summarise,
    training_noise,
)
from shared.tests.simulate.cells import record

SLOW = [(10, 20, 0.4), (20, 40, 0.5), (30, 60, 0.6), (40, 80, 0.7)]


def arms(offset: float, spread: float = 0.0, n_seeds: int = 6) -> list[CellRecord]:
    """Return random, and a strategy `offset` above it after the start, different in each seed."""
    rng = np.random.default_rng(1)
    cells = []
    for seed in range(n_seeds):
        shift = float(rng.normal(0, 0.05))
        cells.append(record("random", seed, [(i, b, m + shift) for i, b, m in SLOW]))
        gain = offset + float(rng.normal(0, spread)) if spread else offset
        chosen = [
            (i, b, m + shift + (gain if step else 0)) for step, (i, b, m) in enumerate(SLOW[:3])
        ]
        cells.append(record("entropy", seed, chosen))
    return cells


def test_a_constant_gain_is_found_whatever_the_seeds_do() -> None:
    results = summarise(arms(offset=0.1))
    entropy = results.arms[1]
    assert entropy.name == "entropy"
    # From the start on the gain grows linearly to the first round, then stays: (0.05 + 0.1) / 2.
    assert entropy.difference_images is not None
    assert entropy.difference_images.mean == pytest.approx(0.075, abs=1e-3)
    assert entropy.difference_images.low == pytest.approx(0.075, abs=1e-3)
    # With 20 images it is where random is with 30, with 30 where random is with 40.
    assert [s.saved for s in entropy.saved_images] == pytest.approx([1 / 3, 1 / 4])
    assert [s.random_needs for s in entropy.saved_images] == pytest.approx([30, 40])
    assert not any(s.bound for s in entropy.saved_images)
    assert "better than random" in entropy.verdict
    assert "labels at equal mAP50: 25% fewer at 30 (25% to 25%)" in entropy.verdict


def test_noise_is_not_taken_for_a_gain() -> None:
    entropy = summarise(arms(offset=0.0, spread=0.05)).arms[1]
    assert entropy.verdict.startswith("by images: not distinguishable from random")
    assert entropy.difference_images is not None
    low, high = entropy.difference_images.low, entropy.difference_images.high
    assert low is not None
    assert high is not None
    assert low < 0 < high


def test_a_loss_is_called_one() -> None:
    assert summarise(arms(offset=-0.1)).arms[1].verdict.startswith("by images: worse than random")


def test_one_seed_shows_nothing() -> None:
    entropy = summarise(arms(offset=0.1, n_seeds=1)).arms[1]
    assert "a single seed, which shows nothing yet" in entropy.verdict
    assert entropy.saved_images[0].low is None


def test_more_boxes_for_the_same_images_are_counted() -> None:
    cells = []
    for seed in range(3):
        cells.append(record("random", seed, SLOW))
        crowded = [(10, 20, 0.4), (20, 60, 0.6), (30, 80, 0.7)]
        cells.append(record("entropy", seed, crowded))
    entropy = summarise(cells).arms[1]
    assert entropy.difference_images is not None
    assert entropy.difference_images.mean > 0.05
    assert entropy.difference_boxes is not None
    assert entropy.difference_boxes.mean == pytest.approx(0, abs=1e-9)
    assert [s.saved for s in entropy.saved_boxes] == pytest.approx([0, 0])


def test_beyond_the_end_of_random_a_saving_is_only_a_bound() -> None:
    entropy = summarise(arms(offset=0.3)).arms[1]
    assert entropy.saved_images[-1].bound
    assert entropy.saved_images[-1].random_needs is None
    assert entropy.saved_images[-1].saved == pytest.approx(1 - 30 / 40)
    assert "at least 25% fewer at 30" in entropy.verdict


def saving(
    at: float,
    saved: float,
    *,
    bound: bool = False,
    high_bound: bool = False,
    ends: tuple[float | None, float | None] = (None, None),
) -> Saving:
    low, high = ends
    return Saving(
        at=at,
        map50=0.5,
        random_needs=None,
        saved=saved,
        low=low,
        high=high,
        bound=bound,
        high_bound=high_bound,
    )


@pytest.mark.parametrize(
    ("savings", "words"),
    [
        ([], ""),
        ([saving(60, 0.3), saving(90, 0.46)], "46% fewer at 90"),
        (
            [saving(90, 0.46), saving(120, 0.33, bound=True)],
            "46% fewer at 90, at least 33% fewer at 120",
        ),
        # Noise let it fall below what it was at 60.
        ([saving(60, 0.3, bound=True), saving(90, 0.2)], "20% fewer at 90"),
        ([saving(90, -1.0)], "100% more at 90"),
        ([saving(90, 0.46, ends=(0.31, 0.5))], "46% fewer at 90 (31% to 50%)"),
        (
            [saving(90, 0.46, ends=(0.31, 0.5), high_bound=True)],
            "46% fewer at 90 (31% to 50% or more)",
        ),
        (
            [saving(120, 0.33, bound=True, ends=(-0.37, 0.33))],
            "at least 33% fewer at 120 (interval from 37% more)",
        ),
        ([saving(100, -0.001, ends=(0.0, 0.3))], "0% fewer at 100 (0% to 30%)"),
        ([saving(180, -0.06, ends=(-0.28, -0.01))], "6% more at 180 (1% to 28%)"),
        ([saving(120, 0.26, ends=(-0.34, 0.33))], "26% fewer at 120 (34% more to 33% fewer)"),
        ([saving(400, -0.3, bound=True)], "unknown at 400, random's curve ends before"),
    ],
)
def test_what_is_saved_is_told_at_the_size_that_random_reaches_and_beyond(
    savings: list[Saving], words: str
) -> None:
    assert savings_text(savings) == words


def test_an_upper_end_beyond_the_end_of_random_is_open() -> None:
    # Random gains 0.1 from 30 to 40 images, where it ends: some of the gains are larger.
    saving = summarise(arms(offset=0.08, spread=0.05)).arms[1].saved_images[-1]
    assert not saving.bound
    assert saving.high == pytest.approx(1 / 4)
    assert saving.high_bound
    assert not summarise(arms(offset=0.05)).arms[1].saved_images[-1].high_bound


def test_whole_pools_that_were_trained_for_a_shorter_curve_do_not_count() -> None:
    def whole(seed: int, n_rounds: int, map50: float) -> CellRecord:
        done = record(BASELINE, seed, [(10, 20, 0.4), (200, 400, map50)])
        cell = done.cell.model_copy(update={"full_pool": True, "n_rounds": n_rounds})
        return done.model_copy(update={"cell": cell})

    cells = [*arms(offset=0.1), whole(0, 1, 0.5), whole(1, 5, 0.8), whole(2, 5, 0.9)]
    pool = next(arm for arm in summarise(cells).arms if arm.name == FULL_POOL)
    assert pool.n_seeds == 2
    assert pool.sizes[-1].map50.mean == pytest.approx(0.85)


def test_without_random_there_is_nothing_to_say() -> None:
    with pytest.raises(ValueError, match="'random'"):
        summarise([record("entropy", 0, SLOW)])


def test_noise_comes_from_pairs_on_the_same_labels_alone() -> None:
    first = record("random", 0, SLOW)
    again = record("random", 0, [(i, b, m + 0.02) for i, b, m in SLOW], repeat=1)
    other = record("random", 1, [(i, b, m + 9) for i, b, m in SLOW], repeat=1)
    assert training_noise([first, again, other]) == pytest.approx(0.02 / np.sqrt(2))
    assert training_noise([first]) is None


def test_the_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.303, standard error 1 / sqrt(3)
    assert found.mean == pytest.approx(2)
    assert found.high == pytest.approx(2 + 4.3027 / np.sqrt(3), abs=1e-3)


def test_a_dip_of_random_is_no_loss_of_what_it_reached() -> None:
    dipping = (np.array([10.0, 20, 30]), np.array([0.5, 0.4, 0.6]))
    assert labels_needed(dipping, 0.45) == 10
    assert labels_needed(dipping, 0.55) == pytest.approx(25)
    assert labels_needed(dipping, 0.61) is None


def test_the_mean_height_of_a_line_is_its_middle() -> None:
    line = (np.array([0.0, 10.0]), np.array([0.0, 1.0]))
    assert mean_height(line, 2, 6) == pytest.approx(0.4, abs=1e-6)


def test_ends_of_a_saving_are_those_of_the_paired_difference() -> None:
    cells = arms(offset=0.05, spread=0.03)
    first, last = summarise(cells).arms[1].saved_images
    random = {c.cell.seed: c for c in cells if c.cell.strategy == "random"}
    chosen = {c.cell.seed: c for c in cells if c.cell.strategy == "entropy"}
    for step, saving in ((1, first), (2, last)):
        gain = interval(
            [chosen[s].points[step].map50 - random[s].points[step].map50 for s in random]
        )
        assert gain.low is not None
        assert saving.low is not None
        # Random gains 0.1 with 10 images, so that a gain of 0.05 is worth 5.
        at = 10 * (step + 1)
        assert saving.random_needs == pytest.approx(at + 100 * gain.mean)
        assert saving.low == pytest.approx(1 - at / (at + 100 * gain.low))


def test_intervals_of_savings_hold_nothing_saved_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        cells = []
        for seed in range(3):
            for name in ("random", "entropy"):
                noise = rng.normal(0, 0.02, 4)
                points = [(i, b, m + float(e)) for (i, b, m), e in zip(SLOW, noise, strict=True)]
                cells.append(record(name, seed, points))
        saving = summarise(cells).arms[1].saved_images[1]
        assert saving.low is not None
        assert saving.high is not None
        held += saving.low <= 0 <= saving.high
    assert held >= 180


def test_a_start_without_a_box_gives_no_saving_without_end() -> None:
    cells = []
    for seed, boxes in enumerate([0, 3, 5]):
        points = [(10, boxes, 0.5), (20, boxes + 9, 0.4), (30, boxes + 20, 0.6)]
        cells += [record(name, seed, points) for name in ("random", "entropy")]
    for saving in summarise(cells).arms[1].saved_boxes:
        assert saving.saved <= 1
        assert saving.low is not None


def test_random_has_its_area_over_the_labels_that_all_reached() -> None:
    long = [*SLOW, (50, 100, 0.9), (60, 120, 1.0)]
    cells = [
        record(name, seed, p) for seed in (0, 1) for name, p in (("random", long), ("a", SLOW))
    ]
    random, other = summarise(cells).arms
    assert random.auc_images is not None
    assert other.auc_images is not None
    assert random.auc_images.mean == pytest.approx(other.auc_images.mean) == pytest.approx(0.55)
