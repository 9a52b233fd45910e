import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from labeling_service.app.core.strategies import kcenter
from labeling_service.app.core.strategies.kcenter import FloatArray, Picks, k_center


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small arrays go through many blocks and shortlists."""
    monkeypatch.setattr(kcenter, "BLOCK_ROWS", 300)
    monkeypatch.setattr(kcenter, "BLOCK_CENTRES", 7)
    monkeypatch.setattr(kcenter, "BLOCK_PAIRS", 50)
    monkeypatch.setattr(kcenter, "SHORTLIST_MIN", 16)


def clustered(n: int, d: int, n_clusters: int, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    means = 2 * rng.standard_normal((n_clusters, d))
    spreads = rng.uniform(0.1, 1.0, n_clusters)
    cluster = rng.integers(0, n_clusters, n)
    points = means[cluster] + spreads[cluster, None] * rng.standard_normal((n, d))
    return points.astype(np.float32)


def plain_greedy(points: FloatArray, centres: FloatArray | None, k: int) -> Picks:
    """The same by full sweeps, in double precision."""
    points64 = points.astype(np.float64)

    def to(centre: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(points64 - centre, axis=1))

    nearest = np.full(len(points), np.inf)
    rows: list[int] = []
    distances: list[float] = []
    for centre in () if centres is None else centres.astype(np.float64):
        nearest = np.minimum(nearest, to(centre))
    for _ in range(min(k, len(points))):
        to_mean = to(points64.mean(axis=0))
        first = not rows and centres is None
        row = int(np.argmin(to_mean) if first else np.argmax(nearest))
        rows.append(row)
        distances.append(float((to_mean if first else nearest)[row]))
        nearest = np.minimum(nearest, to(points64[row]))
        nearest[rows] = -1.0
    return Picks(np.array(rows, np.int64), np.array(distances))


def assert_same(found: Picks, expected: Picks) -> None:
    assert found.indices.tolist() == expected.indices.tolist()
    assert found.distances == pytest.approx(expected.distances, rel=1e-12, abs=1e-12)


def test_nothing_is_chosen_from_no_points_and_none_for_k_0() -> None:
    for points, k in ((np.zeros((0, 3), np.float32), 4), (np.ones((5, 3), np.float32), 0)):
        picks = k_center(points, None, k)
        assert picks.indices.shape == (0,)
        assert picks.indices.dtype == np.int64
        assert picks.distances.shape == (0,)


def test_the_farthest_from_the_centres_comes_first() -> None:
    points = np.array([[1], [10], [6]], np.float32)
    picks = k_center(points, np.zeros((1, 1), np.float32), 3)
    assert picks.indices.tolist() == [1, 2, 0]
    assert picks.distances.tolist() == [10.0, 4.0, 1.0]


def test_without_centres_it_starts_at_the_point_nearest_to_the_mean() -> None:
    points = np.array([[0], [4], [8]], np.float32)
    for centres in (None, np.zeros((0, 1), np.float32)):
        picks = k_center(points, centres, 2)
        assert picks.indices.tolist() == [1, 0]  # 0 and 8 are equally far: the lower row
        assert picks.distances.tolist() == [0.0, 4.0]


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(clustered(3000, 24, 40), id="clusters"),
        pytest.param(clustered(3000, 24, 3), id="fewer clusters than picks"),
        pytest.param(clustered(2000, 48, 1), id="no clusters"),
        pytest.param(clustered(2000, 2, 10), id="two dimensions"),
        pytest.param(clustered(1000, 24, 10) + np.float32(1000), id="far from the origin"),
        pytest.param(clustered(1000, 24, 10) * np.float32(1e-25), id="squares underflow"),
    ],
)
def test_the_choice_is_that_of_the_plain_greedy(points: FloatArray) -> None:
    assert_same(k_center(points, None, 150), plain_greedy(points, None, 150))


def test_the_choice_beside_centres_is_that_of_the_plain_greedy() -> None:
    points = clustered(3000, 24, 40)
    points, centres = points[400:], points[:400]
    assert_same(k_center(points, centres, 150), plain_greedy(points, centres, 150))


def test_one_far_outlier_does_not_blur_the_others() -> None:
    points = clustered(800, 24, 10)
    points[17] *= 1e6
    assert_same(k_center(points, None, 60), plain_greedy(points, None, 60))


def test_copies_come_last_and_in_the_order_of_their_rows() -> None:
    points = np.repeat(clustered(60, 8, 5), 20, axis=0)
    picks = k_center(points, None, 700)
    assert_same(picks, plain_greedy(points, None, 700))
    assert (picks.distances[1:60] > 0).all()
    assert picks.distances[60:].tolist() == [0.0] * 640


def test_equal_points_are_chosen_by_row() -> None:
    picks = k_center(np.full((500, 4), 3.3, np.float32), None, 300)
    assert picks.indices.tolist() == list(range(300))


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, (40, 2), elements=st.sampled_from([-1.0, 0.0, 0.1, 0.5, 2.0])),
    st.integers(1, 40),
    st.booleans(),
)
def test_ties_go_to_the_lower_row(points: FloatArray, k: int, covered: bool) -> None:
    centres = np.array([[0.1, 2.0]], np.float32) if covered else None
    assert_same(k_center(points, centres, k), plain_greedy(points, centres, k))


def test_more_than_there_is_gives_every_point_once() -> None:
    points = clustered(90, 5, 4)
    picks = k_center(points, None, 200)
    assert sorted(picks.indices.tolist()) == list(range(90))
    assert (np.diff(picks.distances[1:]) <= 0).all()


def test_the_choice_does_not_depend_on_the_number_of_threads() -> None:
    points = clustered(3000, 64, 30)
    found = []
    for n_threads in (1, 2, 4):
        with threadpool_limits(n_threads):
            found.append(k_center(points, None, 200))
    for other in found[1:]:
        assert other.indices.tolist() == found[0].indices.tolist()
        assert other.distances.tolist() == found[0].distances.tolist()


def test_the_arrays_are_left_as_they_are() -> None:
    points, centres = clustered(400, 6, 5), clustered(30, 6, 5, seed=1)
    before = points.copy(), centres.copy()
    k_center(points, centres, 50)
    assert np.array_equal(points, before[0])
    assert np.array_equal(centres, before[1])


def test_what_does_not_fit_is_refused_by_name() -> None:
    points = clustered(20, 3, 2)
    with pytest.raises(ValueError, match="centres have 2 features, points 3"):
        k_center(points, np.zeros((4, 2), np.float32), 1)
    with pytest.raises(ValueError, match=r"points must be float32 \(n, D\): float64 \(20, 3\)"):
        k_center(points.astype(np.float64), None, 1)
    with pytest.raises(ValueError, match=r"centres must be float32 \(n, D\): float32 \(3,\)"):
        k_center(points, points[0], 1)
    with pytest.raises(ValueError, match="k must not be negative: -1"):
        k_center(points, None, -1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_row(value: float) -> None:
    good, bad = clustered(20, 3, 2), clustered(20, 3, 2)
    bad[13, 1] = value
    with pytest.raises(ValueError, match="points row 13 holds a value that is not finite"):
        k_center(bad, None, 1)
    with pytest.raises(ValueError, match="centres row 13 holds a value that is not finite"):
        k_center(good, bad, 1)


def test_values_too_large_to_be_squared_are_refused() -> None:
    points = clustered(20, 3, 2)
    points[4] = 1e25
    with pytest.raises(ValueError, match="points hold values too large to be squared"):
        k_center(points, None, 1)
