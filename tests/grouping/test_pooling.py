"""Aggregates by how sure a voice is, the linear pool, and the geometric median."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import AGGREGATES, mean, median, resolve, weighted
from fedstill.grouping.pooling import certainty, geometric_median, mixture, precision
from fedstill.labels import Outputs, SoftLabels, Space

P, Q = Space.PROBABILITIES, Space.QUANTILES
LEVELS = (0.1, 0.5, 0.9)
RULES = {name: AGGREGATES[name] for name in ("certainty", "geometric-median", "mixture", "precision")}


def say(rows, space=Q, weight=None):
    return SoftLabels.of(np.arange(len(rows)), np.asarray(rows, np.float32), space, weight)


def row(result):
    assert result.values.shape[0] == 1
    return result.values[0].tolist()


def normal(mu, sigma, levels=LEVELS):
    return say([[NormalDist(mu, sigma).inv_cdf(level) for level in levels]])


# Certainty.


def test_certainty_of_forecasts_goes_by_inverse_width():
    """Widths 1 and 2: weights 2 : 1, and so (2 x 0 + 3) / 3 and (2 x 1 + 5) / 3."""
    assert row(certainty([say([[0, 1]]), say([[3, 5]])])) == pytest.approx([1, 7 / 3])


def test_certainty_of_classes_is_the_softmax_of_inverse_entropy():
    sure, unsure = np.array([0.9, 0.1]), np.array([0.6, 0.4])
    inverse = [-1 / (p @ np.log(p)) for p in (sure, unsure)]
    parts = np.exp(inverse) / np.exp(inverse).sum()
    assert row(certainty([say([sure], P), say([unsure], P)])) == pytest.approx(parts @ [sure, unsure], abs=1e-6)


def test_certainty_does_not_overflow():
    votes = [say([[1.0, 0.0]], P), say([[0.0, 1.0]], P), say([[0.5, 0.5]], P)]
    assert row(certainty(votes)) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(("rule", "most"), [(certainty, 3), (precision, 9)])
def test_nobody_is_taken_for_surer_than_a_bound(rule, most):
    """Three voices are 1 wide; a fourth claims to know it exactly, and counts for 3 (9) of them."""
    honest, sure = [say([[0, 0.5, 1]])] * 3, say([[10, 10, 10]])
    assert row(rule([*honest, sure]))[1] == pytest.approx((3 * 0.5 + most * 10) / (3 + most))


@pytest.mark.parametrize("rule", [certainty, precision])
def test_those_who_are_equally_sure_count_alike(rule):
    for space, rows in ((Q, [[0, 0, 0], [4, 4, 4]]), (Q, [[0, 1, 2], [4, 5, 6]]), (P, [[0.9, 0.1, 0], [0, 0.1, 0.9]])):
        votes = [say([one], space) for one in rows]
        assert row(rule(votes)) == pytest.approx(row(mean(votes)), abs=1e-6)


@pytest.mark.parametrize("rule", [certainty, precision])
def test_a_single_level_has_no_width(rule):
    with pytest.raises(ConfigError, match="single quantile level"):
        rule([say([[1.0]])])


# Precision.


def test_precision_weighs_by_inverse_variance():
    """Normal 0 +- 1 and 10 +- 2: weights 4 : 1, so mu = 2 and sigma = 6/5."""
    votes = [normal(0, 1), normal(10, 2)]
    expected = [NormalDist(2, 1.2).inv_cdf(level) for level in LEVELS]
    assert row(precision(votes, levels=LEVELS)) == pytest.approx(expected, abs=1e-6)


def test_precision_reads_the_levels():
    """Quantiles -1, 0, 1 are wide at 0.4, 0.5, 0.6 and narrow at 0.1, 0.5, 0.9; alike for all, so only shapes count."""
    lopsided, even = say([[-1, 0, 3]]), say([[9, 10, 11]])
    outer = row(precision([lopsided, even], levels=(0.1, 0.5, 0.9)))
    skew = row(precision([lopsided, even], levels=(0.1, 0.2, 0.9)))
    assert outer[1] == pytest.approx(8)  # sigmas are as 4 : 2, weights as 1 : 4
    assert skew[1] != pytest.approx(8, abs=0.05)


def test_precision_of_classes():
    """Variances 1 - 0.82 = 0.18 and 1 - 0.5 = 0.5: the weights are as 0.5 : 0.18."""
    expected = (0.5 * np.array([0.9, 0.1]) + 0.18 * np.array([0.5, 0.5])) / 0.68
    assert row(precision([say([[0.9, 0.1]], P), say([[0.5, 0.5]], P)])) == pytest.approx(expected, abs=1e-6)


# Mixture.


def test_mixture_is_wider_than_the_mean_of_quantiles_where_voices_differ():
    votes = [say([[0, 1, 2]]), say([[10, 11, 12]])]
    assert row(mean(votes)) == [5, 6, 7]
    low, middle, high = row(mixture(votes, levels=LEVELS))
    # 0.1 of the whole is 0.2 of the first: 0.1 on 0, then 0.1 of the 0.4 between 0 and 1. The median is anywhere from
    # 2 to 10.
    assert (low, middle, high) == pytest.approx((0.25, 6, 11.75))


def test_mixture_counts_voices_by_weight():
    """Two thirds of the weight are at 0, 1, 2: half of the whole is three quarters of it, 0.25 / 0.4 from 1 to 2."""
    votes = [say([[0, 1, 2]]), say([[10, 11, 12]])]
    assert row(mixture(votes, np.array([2.0, 1.0]), levels=LEVELS))[1] == pytest.approx(1.625)


def test_mixture_of_classes_is_the_mean():
    votes = [say([[0.9, 0.1]], P), say([[0.5, 0.5]], P)]
    assert row(mixture(votes)) == row(mean(votes))


def test_mixture_nears_the_mixture_of_two_normals():
    """With many levels the piecewise reading does not show: the quantiles are those of the mixed distribution."""
    levels = [i / 200 for i in range(1, 200)]
    votes = [normal(0, 1, levels), normal(3, 2, levels)]
    found = row(mixture(votes, levels=levels))

    def cdf(x):
        return (NormalDist(0, 1).cdf(x) + NormalDist(3, 2).cdf(x)) / 2

    for place in (19, 99, 179):
        assert found[place] == pytest.approx(brentq(lambda x, p=place: cdf(x) - levels[p], -20, 20), abs=0.01)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9))
@settings(deadline=None)
def test_mixture_of_points_at_one_half_is_the_median(values):
    """What is known by its median alone stands there as a point."""
    votes = [say([[value]]) for value in values]
    rounding = 1e-9 * max(1, *map(abs, values))  # it interpolates between the points, so the largest counts
    assert row(mixture(votes, levels=[0.5])) == pytest.approx(row(median(votes)), abs=rounding)


def test_mixture_survives_a_wild_scale():
    """A voice at 1e30 does not cost the others their digits."""
    votes = [say([[0.1, 0.2, 0.3]])] * 9 + [say([[1e30, 2e30, 3e30]])]
    assert row(mixture(votes, levels=LEVELS))[1] == pytest.approx(0.2 + 0.1 * (0.5 / 0.9 - 0.5) / 0.4)


# Geometric median.


def test_geometric_median_of_a_triangle():
    """The Fermat point of an even triangle is its middle; where a corner has 120 degrees or more, that corner."""
    even = [say([[0, 5]]), say([[2, 5]]), say([[1, 5 + 3**0.5]])]
    assert row(geometric_median(even)) == pytest.approx([1, 5 + 3**-0.5], abs=1e-5)
    flat = [say([corner]) for corner in ([-10, 0], [0, 1], [10, 11])]
    assert row(geometric_median(flat)) == pytest.approx([0, 1], abs=1e-3)


@pytest.mark.parametrize("space", [P, Q])
def test_geometric_median_is_least_in_total_distance(space):
    random = np.random.default_rng(3)
    rows = np.sort(random.random((6, 3)), axis=1)
    rows = rows / rows.sum(axis=1, keepdims=True) if space is P else rows
    weights = np.array([1.0, 2.0, 1.0, 0.5, 1.0, 1.0])

    def total(point):
        return weights @ np.linalg.norm(rows - point, axis=1)

    found = geometric_median([say([one], space) for one in rows], weights).values[0]
    best = minimize(total, rows.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    assert total(found) == pytest.approx(best.fun, rel=1e-6)


def test_geometric_median_withstands_less_than_half():
    honest = [say([[i / 10, 1 + i / 10]]) for i in range(3)]
    wild = [say([[1e6, 1e6]]), say([[1e6, 2e6]])]
    assert np.abs(geometric_median([*honest, *wild]).values).max() < 3
    assert np.abs(mean([*honest, *wild]).values).max() > 1e5


# All.


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("space", [P, Q])
@given(seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=25)
def test_one_voice_in_is_the_same_voice_out(rule, space, seed):
    """Alone, said by several, and beside voices without weight."""
    random = np.random.default_rng(seed)
    rows = np.sort(random.normal(size=(4, 3)) * 10.0 ** random.integers(-3, 4), axis=1)
    rows = np.exp(rows / np.abs(rows).max()) if space is P else rows
    rows = rows / rows.sum(axis=1, keepdims=True) if space is P else rows
    vote, other = say(rows, space), say(rows[::-1], space, [0, 0, 0, 0])
    for votes in ([vote], [vote] * 5, [other, vote]):
        np.testing.assert_allclose(rule(votes, np.ones(len(votes))).values, vote.values, rtol=1e-6)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@given(seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=25)
def test_probabilities_stay_probabilities(rule, seed):
    random = np.random.default_rng(seed)
    rows = random.dirichlet([0.1] * 4, size=(5, 3))
    weights = random.integers(0, 2, size=(5, 3))
    result = rule([say(one, P, weight) for one, weight in zip(rows, weights, strict=True)], random.random(5))
    np.testing.assert_allclose(result.values.sum(axis=1), 1, atol=1e-6)
    assert (result.values >= 0).all()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_voice_of_weight_zero_says_nothing(rule):
    votes = [say([[0, 1, 2]]), say([[50, 60, 90]])]
    assert row(rule(votes, np.array([1.0, 0.0]))) == [0, 1, 2]
    assert rule(votes, np.zeros(2)).weight.tolist() == [0]


def test_resolve_hands_over_the_levels():
    votes = [say([[0, 1, 2]]), say([[0, 4, 9]])]
    outputs = Outputs(Q, (0.3, 0.5, 0.7))
    assert row(resolve("mixture", outputs)(votes, np.ones(2))) == row(mixture(votes, levels=outputs.columns))
    assert row(resolve("mixture")(votes, np.ones(2))) == row(mixture(votes, levels=(1 / 6, 0.5, 5 / 6)))
    assert resolve("weighted", outputs) is weighted
    with pytest.raises(ValueError, match="levels must be 3"):
        mixture(votes, levels=(0.5, 0.1, 0.9))
