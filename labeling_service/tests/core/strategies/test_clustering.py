import numpy as np
import pytest

from labeling_service.app.core.strategies.clustering import MANY_CLUSTERS, cluster, members_of


@pytest.mark.parametrize("n", [3, MANY_CLUSTERS, MANY_CLUSTERS + 20])
def test_well_separated_groups_are_found_by_either_algorithm(n: int) -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(n), 5)
    points = (100.0 * np.eye(n)[truth] + rng.normal(size=(5 * n, n))).astype(np.float32)
    found = cluster(points, n, seed=1)
    assert set(found.tolist()) == set(range(found.max() + 1))
    # A start of k-means++ may join two groups and split another.
    undivided = [set(truth[found == c].tolist()) for c in range(found.max() + 1)]
    assert sum(len(groups) == 1 for groups in undivided) >= 0.8 * n
    assert found.tolist() == cluster(points, n, seed=1).tolist()


def test_there_are_no_more_clusters_than_distinct_points() -> None:
    points = np.array([[0.0], [0.0], [1.0]], np.float32)
    assert sorted(np.bincount(cluster(points, 3, seed=0))) == [1, 2]


def test_members_are_the_rows_of_each_cluster_in_rising_order() -> None:
    found = members_of(np.array([1, 0, 1, 3, 0]))
    assert [rows.tolist() for rows in found] == [[1, 4], [0, 2], [], [3]]
