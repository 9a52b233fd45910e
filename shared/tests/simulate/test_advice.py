"""Advice: the right strategy, how sure, and no more than was measured."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from shared.models.simulations import Arm, Interval, Size
from shared.simulate.advice import advise, chances
from shared.simulate.statistics import Difference, interval, summarise, verdict
from shared.tests.simulate.cells import record
from shared.tests.simulate.test_statistics import arms

START = Size(n_images=10, n_boxes=20, map50=interval([0.4]), map50_95=interval([0.2]))
GAINS = [0.03, 0.05, 0.02, 0.04, 0.06]


def arm(name: str, images: Interval | None, boxes: Interval | None = None) -> Arm:
    return Arm(
        name=name,
        n_seeds=images.n if images else 1,
        sizes=(START,),
        auc_images=None,
        auc_boxes=None,
        difference_images=images,
        difference_boxes=boxes,
        saved_images=(),
        saved_boxes=(),
        verdict="",
    )


def test_chance_is_that_of_the_paired_t_test() -> None:
    p = float(ttest_1samp(GAINS, 0.0).pvalue)
    assert chances({"a": interval(GAINS)}) == {"a": pytest.approx(p, abs=1e-9)}
    losses = [-gain for gain in GAINS]
    assert chances({"a": interval(losses)}) == {"a": pytest.approx(p, abs=1e-9)}
    assert chances({"a": interval([0.1])}) == {}


def test_chance_counts_all_that_were_tried() -> None:
    noise, less = [0.05, -0.03, 0.04, -0.02, 0.03], [0.05, -0.005, 0.06, 0.02, 0.07]
    each = {"noise": noise, "proven": GAINS, "less": less, "single": [0.2]}
    p = {name: float(ttest_1samp(v, 0.0).pvalue) for name, v in each.items() if len(v) > 1}
    assert p["proven"] < p["less"] < p["noise"]
    assert chances({name: interval(values) for name, values in each.items()}) == {
        "proven": pytest.approx(3 * p["proven"]),
        "less": pytest.approx(2 * p["less"]),
        "noise": pytest.approx(p["noise"]),
    }


def test_the_strategy_that_beats_random_is_advised_with_its_size_and_confidence() -> None:
    found = advise([arm("random", None), arm("entropy", interval(GAINS))], "images")
    assert found.strategy == "entropy"
    assert found.confidence is not None
    assert found.confidence > 0.99
    assert found.words == (
        "choose by entropy: +0.040 mAP50 at equal images over 5 paired seeds, as by chance "
        "alone in under 1 % of simulations"
    )


def test_what_is_ahead_on_few_seeds_hides_nothing_that_is_proven() -> None:
    few = arm("badge", interval([0.01, 0.12]))
    found = advise([arm("random", None), few, arm("entropy", interval(GAINS))], "images")
    assert found.strategy == "entropy"
    assert found.words.endswith("; badge is ahead of it (+0.065, n = 2), but unproven")
    alone = advise([few, arm("entropy", interval([0.001, -0.001, 0.0]))], "images")
    assert alone.strategy == "random"
    assert "the nearest is badge" in alone.words


def test_what_is_paid_for_decides() -> None:
    by_boxes = [
        arm("a", interval(GAINS), interval([-0.01, 0.0, -0.02])),
        arm("b", None, interval(GAINS)),
    ]
    assert advise(by_boxes, "boxes").strategy == "b"
    assert advise(by_boxes, "images").strategy == "a"


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([0.04, -0.03, 0.01], "at equal boxes it is not distinguishable from random (+0.007)"),
        ([-0.04, -0.05, -0.06], "at equal boxes it is worse than random (-0.050)"),
    ],
)
def test_images_that_are_saved_at_the_cost_of_boxes_are_said_to_be(
    boxes: list[float], words: str
) -> None:
    found = advise([arm("entropy", interval(GAINS), interval(boxes))], "images")
    assert found.strategy == "entropy"
    assert found.words.endswith(words)
    both = advise([arm("entropy", interval(GAINS), interval(GAINS))], "images")
    assert "equal boxes" not in both.words


def test_noise_is_called_noise_and_random_advised() -> None:
    found = advise([arm("entropy", interval([0.05, -0.03, 0.04]))], "images")
    assert found.strategy == "random"
    assert "no strategy is distinguishable from random here; the nearest is entropy" in found.words
    # Mean .02, deviation .0436: 2.08 * .0436 / sqrt(21) < .02, and 2.09 * .0436 / sqrt(20) > .02.
    assert "about 21 seeds would settle a difference of this size" in found.words


def test_what_is_worse_everywhere_gives_random_without_a_call_for_more_seeds() -> None:
    found = advise([arm("entropy", interval([-0.05, -0.03, -0.04]))], "images")
    assert found.strategy == "random"
    assert found.confidence == 0.0
    assert found.words.endswith("over 3 paired seeds, behind it")


def test_one_seed_shows_nothing() -> None:
    found = advise([arm("entropy", interval([0.2]))], "images")
    assert (found.strategy, found.confidence) == ("random", None)
    assert "shows nothing yet" in found.words


def test_references_are_never_advised() -> None:
    best = interval([0.5, 0.51, 0.52])
    names = ("full pool", "random, balanced batches")
    found = advise(
        [*(arm(name, best) for name in names), arm("entropy", interval(GAINS))], "images"
    )
    assert found.strategy == "entropy"
    assert advise([arm(name, best) for name in names], "images").strategy == "random"


def test_a_simulation_ends_with_its_advice() -> None:
    results = summarise(arms(offset=0.1, spread=0.01))
    assert results.advice.strategy == "entropy"
    assert results.advice.axis == "images"
    in_boxes = [r.model_copy(update={"settings": {"budget_unit": "boxes"}}) for r in arms(0.1)]
    assert summarise(in_boxes).advice.axis == "boxes"


def test_strategies_tried_by_chance_are_not_advised() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        cells = [arm(f"s{i}", interval(rng.normal(0, 0.03, 5).tolist())) for i in range(4)]
        wrong += advise(cells, "images").strategy != "random"
    # At a confidence of 95 % for the best of all together.
    assert wrong <= 20


def test_a_start_alone_gives_no_advice() -> None:
    cells = [record(name, 0, [(10, 20, 0.4)]) for name in ("random", "entropy")]
    assert "nothing but random was measured" in summarise(cells).advice.words


@pytest.mark.parametrize("n_tried", [1, 3, 6])
def test_verdicts_and_advice_never_contradict_each_other(n_tried: int) -> None:
    rng = np.random.default_rng(3)
    found = set()
    for spread in np.linspace(0.005, 0.08, 40):
        cells = arms(offset=0.03, spread=float(spread), n_seeds=5)
        for other in range(1, n_tried):
            cells += [
                c.model_copy(update={"cell": c.cell.model_copy(update={"strategy": f"s{other}"})})
                for c in arms(offset=float(rng.normal(0, 0.01)), spread=float(spread), n_seeds=5)
                if c.cell.strategy != "random"
            ]
        results = summarise(cells)
        better = [a.name for a in results.arms if "by images: better than" in a.verdict]
        assert (results.advice.strategy in better) == bool(better)
        found.add(bool(better))
    assert found == {True, False}


def test_one_of_many_with_an_interval_above_0_is_not_called_better() -> None:
    gains = interval([0.02, 0.05, 0.01, 0.07, 0.06])
    assert gains.low is not None
    assert gains.low > 0
    alone, of_six = (
        verdict("s", (Difference(gains, n * chances({"s": gains})["s"], n), None), ((), ()))
        for n in (1, 6)
    )
    assert alone.startswith("by images: better than random")
    assert of_six.startswith(
        "by images: not distinguishable from random where 6 strategies are tried, +0.042"
    )
