import numpy as np
import pytest

from labeling_service.app.core.strategies.classes import Classes
from labeling_service.tests.core.strategies.support import CLASSES, Box, box, image, with_nan


def test_a_class_counts_by_one_over_its_labels_plus_one() -> None:
    # 9, 4 and 0 labels: 1/10, 1/5 and 1, of mean 1.
    assert CLASSES.weights("rarity").tolist() == pytest.approx([3 / 13, 6 / 13, 30 / 13])


def test_a_class_counts_by_what_its_precision_lacks_and_an_unmeasured_one_as_the_mean() -> None:
    # AP50 0.9, 0.5 and unknown, so 0.7: 0.1, 0.5 and 0.3, of mean 1.
    assert CLASSES.weights("difficulty").tolist() == pytest.approx([1 / 3, 5 / 3, 1])


def test_both_multiply() -> None:
    assert CLASSES.weights("both").tolist() == pytest.approx([3 / 41, 30 / 41, 90 / 41])


@pytest.mark.parametrize("by", ["rarity", "difficulty", "both"])
def test_nothing_known_means_equal_weights(by: str) -> None:
    nothing = Classes(("a", "b"), (0, 0), (None, None))
    assert nothing.weights(by).tolist() == [1.0, 1.0]  # type: ignore[arg-type]


def test_a_class_that_is_always_found_keeps_some_weight() -> None:
    found = Classes(("a", "b"), (5, 5), (1.0, 0.95))
    assert found.weights("difficulty").tolist() == pytest.approx([1.0, 1.0])


def test_shares_leave_the_background_out() -> None:
    shares = CLASSES.shares(image("a", Box(0.2, shares=(0.5, 0.5, 0.0)), box(0.9, class_id=2)))
    assert shares == pytest.approx(np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), abs=1e-3)
    assert CLASSES.shares(image("empty")).shape == (0, 3)


def test_shares_of_no_probabilities_are_not_finite() -> None:
    assert np.isnan(CLASSES.shares(with_nan(image("a", box()), "class_probabilities"))).all()
    assert np.isnan(CLASSES.shares(image("a", box(0.0)))).all()
