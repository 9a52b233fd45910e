import pytest

from calibration_service.app.core.bootstrap import compare
from calibration_service.app.core.boxes import EvidenceImage
from calibration_service.tests.synthetic import LEFT, NOWHERE, image


def _unheard(fraction: float) -> None:
    del fraction


def _images(n_found: int, n: int = 40) -> list[EvidenceImage]:
    """Return n images with one cat each, of which the first n_found are seen."""
    hit, miss = (LEFT, 0, 0.9), (NOWHERE, 0, 0.5)
    return [image([hit if i < n_found else miss], [(LEFT, 0)], f"{i}") for i in range(n)]


def test_a_model_does_not_differ_from_itself() -> None:
    compared = compare(_images(20), _images(20), 2, _unheard, n_resamples=50)
    assert (compared.map50.difference, compared.map50.low, compared.map50.high) == (0, 0, 0)


def test_a_clearly_better_model_is_better_in_every_draw() -> None:
    compared = compare(_images(36), _images(18), 2, _unheard, n_resamples=200)
    assert compared.map50.difference == pytest.approx(0.45, abs=0.02)
    assert 0.2 < compared.map50.low < compared.map50.difference < compared.map50.high < 0.7


def test_one_image_more_proves_nothing() -> None:
    compared = compare(_images(21), _images(20), 2, _unheard, n_resamples=200)
    assert compared.map50.difference == pytest.approx(0.025, abs=0.01)
    assert compared.map50.low <= 0 < compared.map50.high


def test_the_same_images_give_the_same_interval() -> None:
    first = compare(_images(30), _images(20), 1, _unheard, n_resamples=50)
    assert first == compare(_images(30), _images(20), 1, _unheard, n_resamples=50)


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="both models need the same images: 40 and 39"):
        compare(_images(1), _images(1)[1:], 1, _unheard)
    with pytest.raises(ValueError, match="the same images: 0 and 0"):
        compare([], [], 1, _unheard)


def test_progress_reaches_one() -> None:
    heard: list[float] = []
    compare(_images(1, n=3), _images(1, n=3), 1, heard.append, n_resamples=4)
    assert heard == [0.25, 0.5, 0.75, 1.0]
