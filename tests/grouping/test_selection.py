from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstill.errors import ConfigError
from fedstill.grouping.selection import SELECTIONS, voice
from fedstill.labels import SoftLabels, Space

P, Q = Space.PROBABILITIES, Space.QUANTILES
INF = np.inf


def say(rows, weight=None, space=Q):
    return SoftLabels.of(np.arange(len(rows)), np.asarray(rows, np.float32), space, weight)


A, B = say([[1.0], [2.0]]), say([[5.0], [6.0]])


def test_client_is_the_best_on_average():
    assert voice([A, B], np.array([[-1.0, -9.0], [-3.0, -3.0]]), "client") is B


def test_client_counts_only_items_it_speaks_about():
    half = say([[5.0], [6.0]], [1, 0])
    # Mean -3 of A against -2 of the one item; A must not win for B's silence, nor the silence count as -inf.
    chosen = voice([A, half], np.array([[-3.0, -3.0], [-2.0, -INF]]), "client")
    assert chosen is half
    assert chosen.weight.tolist() == [1, 0]


def test_client_means_are_weighed():
    heavy = say([[5.0], [6.0]], [3, 1])
    # (3 * -1 + 1 * -5) / 4 = -2 beats -2.5; unweighed it would be -3.
    assert voice([A, heavy], np.array([[-2.5, -2.5], [-1.0, -5.0]]), "client") is heavy


def test_item_takes_each_from_the_best():
    half = say([[5.0], [6.0]], [0.5, 2])
    result = voice([A, half], np.array([[-2.0, -1.0], [-1.0, -2.0]]), "item")
    assert result.values.tolist() == [[5], [2]]
    assert result.weight.tolist() == [0.5, 1]


def test_item_passes_over_those_who_abstain_whatever_their_reliability():
    silent = say([[np.nan], [6.0]], [0, 1])
    result = voice([silent, A], np.array([[np.nan, -1.0], [-INF, -2.0]]), "item")
    assert result.values.tolist() == [[1], [6]]
    assert result.weight.tolist() == [1, 1]


def test_mean_and_median_do_not_read_reliability():
    votes, ranks = [A, B, say([[90.0], [100.0]])], np.array([[0.0, 0.0], [-1.0, -1.0], [-2.0, -2.0]])
    assert voice(votes, ranks, "mean").values.tolist() == [[32], [36]]
    assert voice(votes, ranks, "median").values.tolist() == [[5], [6]]


@pytest.mark.parametrize("select", ["client", "item"])
def test_the_first_wins_a_tie(select):
    ranks = np.full((2, 2), -1.0)
    assert voice([A, B], ranks, select).values.tolist() == [[1], [2]]
    assert voice([B, A], ranks, select).values.tolist() == [[5], [6]]


@pytest.mark.parametrize("select", ["client", "item"])
def test_a_speaker_of_no_reliability_comes_before_the_silent(select):
    silent = say([[9.0], [9.0]], [0, 0])
    ranks = np.full((2, 2), -INF)
    assert voice([silent, A], ranks, select).values.tolist() == [[1], [2]]


@pytest.mark.parametrize("select", SELECTIONS)
def test_a_group_of_one(select):
    result = voice([A], np.array([[-1.0, -1.0]]), select)
    assert result.values.tolist() == A.values.tolist()
    assert result.weight.tolist() == [1, 1]


@pytest.mark.parametrize("select", SELECTIONS)
def test_a_silent_group_abstains(select):
    silent = say([[0.5, 0.5]], [0], P)
    result = voice([silent, silent], np.full((2, 1), -INF), select)
    assert result.weight.tolist() == [0]
    assert result.values.tolist() == [[0.5, 0.5]]


@given(seed=st.integers(0, 10_000), select=st.sampled_from(sorted(SELECTIONS)))
@settings(deadline=None)
def test_abstentions_and_order_have_no_influence(seed, select):
    rng = np.random.default_rng(seed)
    members, n, k = 4, 5, 3
    votes = [say(np.sort(rng.normal(size=(n, k)), axis=1), rng.choice([0.0, 1.0, 2.0], n)) for _ in range(members)]
    ranks = -rng.random((members, n))
    expected = voice(votes, ranks, select)
    spoken = expected.weight > 0
    order = rng.permutation(members)
    shuffled = voice([votes[i] for i in order], ranks[order], select)
    np.testing.assert_allclose(shuffled.values[spoken], expected.values[spoken], atol=1e-6)
    silent = say(np.full((n, k), 1e30), np.zeros(n))
    more = voice([silent, *votes], np.vstack([np.zeros(n), ranks]), select)
    np.testing.assert_array_equal(more.weight, expected.weight)
    np.testing.assert_array_equal(more.values[spoken], expected.values[spoken])


def test_what_does_not_fit():
    with pytest.raises(ConfigError, match=r"select: there is no 'clients'. Did you mean 'client'"):
        voice([A], np.zeros((1, 2)), "clients")
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        voice([A], np.zeros((1, 3)), "item")
    with pytest.raises(ValueError, match="NaN"):
        voice([A], np.full((1, 2), np.nan), "item")
