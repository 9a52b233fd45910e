import pytest

from labeling_service.tests.core.strategies.support import choose, ids, image
from shared.predictions import ScoredImage


def line(name: str, *places: float) -> list[ScoredImage]:
    return [image(f"{name}{place:.0f}", at=[place]) for place in places]


LEFT = line("left", -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)
RIGHT = line("right", 997.0, 998.0, 999.0, 1000.0, 1001.0, 1002.0, 1003.0)
OUTLIERS = line("outlier", -5000.0, -5001.0)


def test_the_most_typical_of_each_cluster_comes_the_largest_cluster_first() -> None:
    chosen = choose("typiclust", [*LEFT, *RIGHT], 2)
    assert ids(chosen) == ["left0", "right1000"]
    # Six neighbours at 1, 1, 2, 2, 3 and 3: 2 on average.
    assert chosen[1].value == pytest.approx(0.5, abs=1e-4)
    assert chosen[1].reason == (
        "typicality 0.500 in a cluster of 7 images, no of them labelled or chosen"
    )


def test_a_cluster_with_labels_waits_for_those_without() -> None:
    chosen = choose("typiclust", [*LEFT, *RIGHT], 1, labelled=[image("labelled", at=[0.5])])
    assert ids(chosen) == ["right1000"]


def test_a_few_outliers_come_after_everything_else() -> None:
    chosen = choose("typiclust", [*OUTLIERS, *LEFT, *RIGHT], 3)
    assert ids(chosen)[:2] == ["left0", "right1000"]
    assert not ids(chosen)[2].startswith("outlier")


def test_more_images_than_clusters_go_round_again() -> None:
    chosen = choose("typiclust", [image(f"{n}", at=[1.0]) for n in range(5)], 4)
    assert ids(chosen) == ["0", "1", "2", "3"]


def test_a_large_budget_still_gives_every_image_once() -> None:
    pool = [image(f"{n:03}", at=[float(n), float(n % 7)]) for n in range(150)]
    assert len(set(ids(choose("typiclust", pool, 120)))) == 120
