import numpy as np
import pytest

from labeling_service.app.core.strategies import typiclust
from labeling_service.tests.core.strategies.support import choose, ids, image, order, read
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


def test_a_near_duplicate_covers_nothing() -> None:
    # Of the left all but one look alike, so that it is as good as two images.
    groups = {i.image_id: "burst" for i in LEFT[1:]}
    chosen = choose("typiclust", [*LEFT, *RIGHT], 2, groups=groups)
    assert ids(chosen) == ["left0", "right1000"]
    pool = read("typiclust", [*LEFT, *RIGHT], groups=groups).pool
    found = order("typiclust", pool, 2)
    assert [pool.ids[c.row] for c in found[:4]] == ["left0", "right1000", "left-4", "right1001"]
    look_alikes = found[9:]
    assert {pool.ids[c.row] for c in look_alikes} == set(groups) - {"left0"}
    assert look_alikes[0].reason.endswith("in a cluster of 9 images, 2 of them labelled or chosen")


def cloud(n: int) -> list[ScoredImage]:
    rng = np.random.default_rng(0)
    return [image(f"{i:03}", at=place.tolist()) for i, place in enumerate(rng.normal(size=(n, 3)))]


def test_in_a_large_cluster_neighbours_are_of_a_seeded_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = cloud(200)
    whole = choose("typiclust", images, 1)
    monkeypatch.setattr(typiclust, "MAX_LOOKED_AT", 60)
    batches = [choose("typiclust", images, 1, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert batches[0] == batches[1]
    assert len({batch[0].value for batch in batches}) == 4
    # Of fewer images the nearest are farther.
    assert all((batch[0].value or 0) < (whole[0].value or 0) for batch in batches)


def test_an_image_of_the_sample_is_not_its_own_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    members = np.arange(3, 200)
    whole = typiclust.neighbour_distances(points, members, seed=0)
    monkeypatch.setattr(typiclust, "MAX_LOOKED_AT", 196)
    sampled = typiclust.neighbour_distances(points, members, seed=0)
    assert whole.shape == sampled.shape == (197, 20)
    # One image is not in the sample: whoever had it for a neighbour has a farther one.
    same = np.isclose(sampled, whole, atol=1e-3).all(axis=1)
    assert 150 < same.sum() < 197
    assert (sampled > whole - 1e-3).all()
