import pytest

from labeling_service.tests.core.strategies.support import box, choose, ids, image


def test_wrong_in_class_and_place_together_comes_first() -> None:
    images = [
        image("right", box(certainty=1.0, localisation=0.0)),
        image("place", box(certainty=1.0, localisation=0.5)),
        image("class", box(certainty=0.5, localisation=0.0)),
        image("both", box(certainty=0.5, localisation=0.5)),
    ]
    chosen = choose("error_based", images, 4)
    assert ids(chosen) == ["both", "class", "place", "right"]
    values = [0.5, 1 - 0.5**0.6, 1 - 0.5**0.4, 0.0]
    assert [c.value for c in chosen] == pytest.approx(values, abs=1e-6)
    assert chosen[0].reason == "expected errors 0.500, sum over 1 box"


def test_errors_add_up_over_the_boxes() -> None:
    one = image("one", box(certainty=0.25))
    three = image("three", *[box(certainty=0.5)] * 3)
    assert ids(choose("error_based", [one, three], 2)) == ["three", "one"]
    assert ids(choose("error_based:max", [one, three], 2)) == ["one", "three"]


def test_an_error_in_a_rare_class_counts_more_if_asked_for() -> None:
    images = [image(n, box(class_id=i, certainty=0.5)) for i, n in enumerate(["cat", "dog", "owl"])]
    assert ids(choose("error_based:class_weighted", images, 3)) == ["owl", "dog", "cat"]
