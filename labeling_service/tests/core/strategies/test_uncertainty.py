from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling_service.app.core.strategies.candidates import Candidate
from labeling_service.app.core.strategies.uncertainty import (
    choose_uncertain,
    image_value,
)

NO_EMBEDDING = np.zeros(0, np.float32)


def candidate(image_id: str, **columns: list[float]) -> Candidate:
    n = len(columns.get("scores", []))
    arrays: dict[str, Any] = {
        name: np.array(columns.get(name, [0.0] * n), np.float32)
        for name in ("scores", "entropy", "margin", "bald")
    }
    return Candidate(image_id, embedding=NO_EMBEDDING, **arrays)


def test_an_image_without_boxes_has_the_value_zero_and_says_so() -> None:
    [chosen] = choose_uncertain([candidate("a")], 1, "entropy", "max")
    assert chosen.value == 0.0
    assert chosen.reason == "entropy 0.000: no box scores above 0.05"


@pytest.mark.parametrize(("aggregation", "value"), [("max", 0.75), ("mean", 0.5), ("sum", 1.0)])
@pytest.mark.parametrize("measure", ["entropy", "bald"])
def test_boxes_are_aggregated_to_the_image(measure: Any, aggregation: Any, value: float) -> None:
    image = candidate("a", scores=[0.9, 0.06], **{measure: [0.25, 0.75]})
    assert image_value(image, measure, aggregation) == value


def test_a_low_margin_is_uncertain() -> None:
    sure = candidate("sure", scores=[0.9], margin=[0.875])
    unsure = candidate("unsure", scores=[0.9], margin=[0.125])
    chosen = choose_uncertain([sure, unsure], 2, "margin", "max")
    assert [(c.image_id, c.value) for c in chosen] == [("unsure", 0.875), ("sure", 0.125)]
    assert chosen[0].reason == "1 - margin 0.875, max over 1 box"


def test_boxes_with_a_score_of_at_most_five_percent_do_not_count() -> None:
    noise = candidate("noise", scores=[0.05, 0.001], entropy=[1.0, 1.0])
    real = candidate("real", scores=[0.3, 0.001], entropy=[0.5, 1.0])
    chosen = choose_uncertain([noise, real], 2, "entropy", "sum")
    assert [(c.image_id, c.value) for c in chosen] == [("real", 0.5), ("noise", 0.0)]


def test_the_reason_has_measure_value_and_boxes() -> None:
    image = candidate("a", scores=[0.9, 0.5, 0.4], bald=[0.25, 0.5, 0.125])
    [chosen] = choose_uncertain([image], 1, "bald", "max")
    assert chosen.reason == "BALD 0.500 nats, max over 3 boxes"


def test_ties_go_by_image_id() -> None:
    images = [candidate(i, scores=[0.9], entropy=[0.5]) for i in "cab"]
    assert [c.image_id for c in choose_uncertain(images, 2, "entropy", "mean")] == ["a", "b"]


@settings(max_examples=50)
@given(
    values=st.lists(st.floats(0, 2, width=32), min_size=1, max_size=20),
    n=st.integers(1, 25),
    aggregation=st.sampled_from(["max", "mean", "sum"]),
)
def test_chosen_images_are_at_least_as_uncertain_as_the_others(
    values: list[float], n: int, aggregation: Any
) -> None:
    images = [candidate(f"{i:03}", scores=[0.9], entropy=[v]) for i, v in enumerate(values)]
    chosen = choose_uncertain(images, n, "entropy", aggregation)
    ids = {c.image_id for c in chosen}
    assert len(chosen) == len(ids) == min(n, len(images))
    left = [v for i, v in enumerate(values) if f"{i:03}" not in ids]
    assert min(c.value or 0.0 for c in chosen) >= max(left, default=0.0)
    assert chosen == choose_uncertain(images[::-1], n, "entropy", aggregation)
