from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, squareform
from sklearn.cluster import KMeans

from fedstill.errors import ConfigError
from fedstill.grouping import clustering
from fedstill.grouping.clustering import METHODS, cluster

SEARCHING = ["agglomerative", "kmeans", "spectral"]
FINDING = [*SEARCHING, "affinity"]


def line(*places):
    """Distances between points on a line."""
    return np.abs(np.subtract.outer(np.array(places, float), np.array(places, float)))


def equal(size, distance=1.0):
    return np.where(np.eye(size) == 1, 0.0, distance)


def cloud(seed, size):
    rng = np.random.default_rng(seed)
    at = rng.normal(size=(size, 2)) + 4 * rng.integers(0, 3, (size, 1))
    d = np.linalg.norm(at[:, None] - at[None], axis=2)
    return (d + d.T) / 2


THREE = line(0, 10, 0.1, 20, 10.1, 20.2, 0.2)
THREE_GROUPS = ((0, 2, 6), (1, 4), (3, 5))


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("method", FINDING)
def test_three_plain_groups_are_found(method):
    assert cluster(THREE, method) == THREE_GROUPS


@pytest.mark.parametrize("method", SEARCHING)
def test_number_is_kept(method):
    assert cluster(THREE, method, number=3) == THREE_GROUPS
    for number in range(1, 8):
        assert len(cluster(THREE, method, number=number)) == number


@pytest.mark.parametrize("method", SEARCHING)
def test_more_groups_than_participants_leaves_everyone_alone(method):
    assert cluster(line(0, 1, 5), method, number=99) == ((0,), (1,), (2,))


def test_none_and_each():
    assert cluster(THREE, "none") == (tuple(range(7)),)
    assert cluster(THREE, "each") == tuple((i,) for i in range(7))


def test_threshold_is_the_largest_mean_distance_that_joins():
    d = line(0, 1, 3)
    # 0 and 1 join at 1; their mean distance to the third is (3 + 2) / 2 = 2.5.
    assert cluster(d, "agglomerative", threshold=0.9) == ((0,), (1,), (2,))
    assert cluster(d, "agglomerative", threshold=1.0) == ((0, 1), (2,))
    assert cluster(d, "agglomerative", threshold=2.4) == ((0, 1), (2,))
    assert cluster(d, "agglomerative", threshold=2.5) == ((0, 1, 2),)


@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(0, 8))
@settings(deadline=None)
def test_agglomerative_agrees_with_scipy(seed, size, threshold):
    d = cloud(seed, size)
    labels = fcluster(linkage(squareform(d), "average"), threshold, criterion="distance")
    expected = sorted(tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels))
    assert cluster(d, "agglomerative", threshold=threshold) == tuple(expected)


@pytest.mark.parametrize("method", METHODS)
def test_one_participant(method):
    assert cluster(np.zeros((1, 1)), method) == ((0,),)


@pytest.mark.parametrize("method", SEARCHING)
def test_one_participant_with_options(method):
    assert cluster(np.zeros((1, 1)), method, number=3) == ((0,),)
    assert cluster(np.zeros((1, 1)), "agglomerative", threshold=0.0) == ((0,),)


@pytest.mark.parametrize("method", FINDING)
def test_two_participants_show_no_structure(method):
    assert cluster(line(0, 1), method) == ((0, 1),)


@pytest.mark.parametrize("method", SEARCHING)
def test_two_participants_part_when_told_to(method):
    assert cluster(line(0, 1), method, number=2) == ((0,), (1,))


@pytest.mark.parametrize("method", FINDING)
@pytest.mark.parametrize("size", [2, 3, 6])
@pytest.mark.parametrize("distance", [0.0, 1.0, 1e-200])
def test_all_at_one_distance_are_one_group(method, size, distance):
    assert cluster(equal(size, distance), method) == (tuple(range(size)),)


@pytest.mark.parametrize("method", SEARCHING)
def test_all_at_one_distance_can_be_told_to_part(method):
    groups = cluster(equal(5), method, number=2)
    assert len(groups) == 2
    assert sorted(sum(groups, ())) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", SEARCHING)
def test_identical_participants_are_not_parted(method):
    assert cluster(np.zeros((4, 4)), method, number=3) == ((0, 1, 2, 3),)
    assert cluster(line(0, 5, 0, 5, 0), method, number=4) == ((0, 2, 4), (1, 3))


@pytest.mark.parametrize("method", FINDING)
def test_the_unit_of_the_distances_does_not_matter(method):
    for scale in (1e-180, 1e-3, 1e180):
        assert cluster(THREE * scale, method) == THREE_GROUPS


def test_no_split_without_a_silhouette_above_the_bound():
    # Points spread evenly over many directions: every pair at 1 up to 5 %.
    rng = np.random.default_rng(0)
    noise = np.triu(1 + 0.05 * rng.random((12, 12)), 1)
    for method in SEARCHING:
        assert cluster(noise + noise.T, method) == (tuple(range(12)),)


def test_affinity_that_does_not_converge_leaves_everyone_alone(monkeypatch):
    monkeypatch.setattr(clustering, "AFFINITY_ROUNDS", 2)
    assert cluster(THREE, "affinity") == tuple((i,) for i in range(7))


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 10))
@settings(deadline=None, max_examples=30)
def test_a_partition_that_does_not_depend_on_order(method, seed, size):
    d = cloud(seed, size)
    groups = cluster(d, method)
    assert groups == cluster(d, method)
    assert sorted(sum(groups, ())) == list(range(size))
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    order = np.random.default_rng(seed + 1).permutation(size)
    shuffled = cluster(d[np.ix_(order, order)], method)
    assert sorted(tuple(sorted(order[list(group)].tolist())) for group in shuffled) == list(groups)


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_is_as_good_as_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(12, 3))
    d = cdist(points, points)
    squares = 0.0
    for group in cluster((d + d.T) / 2, "kmeans", number=4):
        members = points[list(group)]
        squares += np.square(members - members.mean(axis=0)).sum()
    peer = KMeans(n_clusters=4, n_init=10, random_state=0).fit(points)
    assert squares <= 1.05 * peer.inertia_


def test_unknown_method():
    with pytest.raises(ConfigError, match=r"clustering: there is no 'kmean'. Did you mean 'kmeans'"):
        cluster(THREE, "kmean")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("kmeans", {"threshold": 1.0}, "'kmeans' does not read 'threshold'.*agglomerative"),
        ("affinity", {"number": 2}, "'affinity' does not read 'number'.*agglomerative, kmeans, spectral"),
        ("agglomerative", {"number": 2, "threshold": 1.0}, "both"),
        ("agglomerative", {"number": 0}, "'number' is 0"),
        ("agglomerative", {"threshold": -1.0}, "'threshold' is -1.0"),
        ("agglomerative", {"threshold": float("nan")}, "'threshold' is nan"),
    ],
)
def test_options_that_cannot_be(method, options, message):
    with pytest.raises(ConfigError, match=message):
        cluster(THREE, method, **options)


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((0, 0)),
        np.zeros((2, 3)),
        np.zeros(4),
        equal(2, -1.0),
        equal(2, np.nan),
        equal(2, np.inf),
        np.ones((2, 2)),
        np.array([[0.0, 1.0], [2.0, 0.0]]),
    ],
)
def test_what_is_no_matrix_of_distances(matrix):
    with pytest.raises(ValueError, match="distances must be"):
        cluster(matrix, "agglomerative")
