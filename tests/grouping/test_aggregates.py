from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import (
    AGGREGATES,
    group_weights,
    mean,
    median,
    medians_of_others,
    resolve,
    stack,
    trimmed,
    weighted,
)
from fedstill.labels import SoftLabels, Space

P, Q = Space.PROBABILITIES, Space.QUANTILES
NEEDS_WIDTH = ("certainty", "precision")


def say(rows, space=Q, weight=None):
    return SoftLabels.of(np.arange(len(rows)), np.asarray(rows, np.float32), space, weight)


def points(*values):
    """One voter a value: a single item, a single quantile."""
    return [say([[value]]) for value in values]


def number(labels):
    assert labels.values.shape == (1, 1)
    return float(labels.values[0, 0])


@st.composite
def quantile_votes(draw, least=1):
    k, n, voters = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(least, 7))
    cell = st.floats(-1e6, 1e6, width=32)
    block = draw(st.lists(cell, min_size=voters * n * k, max_size=voters * n * k))
    weight = draw(st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.0]), min_size=voters * n, max_size=voters * n))
    values = np.sort(np.array(block, np.float32).reshape(voters, n, k), axis=2)
    return [say(v, Q, w) for v, w in zip(values, np.array(weight).reshape(voters, n), strict=True)]


def test_mean_counts_items_by_their_weight_and_ignores_voices():
    votes = [say([[0.0], [0.0]], weight=[1, 3]), say([[8.0], [8.0]], weight=[1, 1])]
    assert mean(votes, np.array([1.0, 100.0])).values.tolist() == [[4.0], [2.0]]


@pytest.mark.parametrize("rule", [mean, median, trimmed, weighted])
@pytest.mark.parametrize("size", [9, 10, 11])
def test_some_items_at_a_time_give_what_all_give(monkeypatch, rule, size):
    drawn = np.random.default_rng(size)
    votes = [say(np.sort(drawn.normal(size=(size, 3))), weight=drawn.integers(0, 3, size)) for _ in range(5)]
    voices = drawn.random(5)
    whole = rule(votes, voices)
    monkeypatch.setattr("fedstill.grouping.votes.BLOCK_ITEMS", 5)
    parts = rule(votes, voices)
    for name in ("items", "values", "weight"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name))
    with pytest.raises(ValueError, match="vote 1"):
        rule([votes[0], say([[0.0, 0.0, 0.0]] * (size - 1))], np.ones(2))


def test_weighted_counts_voice_times_item():
    votes = [say([[0.0], [0.0]], weight=[1, 3]), say([[8.0], [8.0]], weight=[1, 1])]
    assert weighted(votes, np.array([1.0, 3.0])).values.tolist() == [[6.0], [4.0]]


def test_median_is_the_ordinary_one_for_equal_weights():
    assert number(median(points(9, 1, 4))) == 4
    assert number(median(points(9, 1, 4, 6))) == 5


def test_median_by_weight():
    # Half of the weight (2) is passed by the voter at 3 alone.
    assert number(median(points(1, 2, 3), np.array([0.5, 0.5, 3.0]))) == 3
    # Half (2) is reached exactly by the voter at 1: midpoint to the next.
    assert number(median(points(1, 2, 3), np.array([2.0, 1.0, 1.0]))) == 1.5


@pytest.mark.parametrize("voters", range(2, 41, 2))
@pytest.mark.parametrize("weight", [0.1, 0.3, 0.7])
def test_median_midpoint_survives_rounding_of_weights(voters, weight):
    # Ten tenths do not sum to 1 in binary, from above or below; the midpoint must be found all the same.
    assert number(median(points(*range(voters)), np.full(voters, weight))) == (voters - 1) / 2


def test_median_of_probabilities_sums_to_one():
    votes = [say([row], P) for row in ([0.8, 0.2, 0.0], [0.6, 0.0, 0.4], [0.2, 0.4, 0.4])]
    # Columns: 0.6, 0.2, 0.4, and these over their sum 1.2.
    assert median(votes).values[0] == pytest.approx([0.5, 1 / 6, 1 / 3])


@pytest.mark.parametrize("rule", [median, trimmed])
def test_three_sure_of_three_classes_fall_back_to_the_mean(rule):
    votes = [say([row], P) for row in np.eye(3)]
    assert rule(votes).values[0] == pytest.approx([1 / 3] * 3)


def test_trimmed_cuts_a_fifth_from_each_end():
    assert number(trimmed(points(-100, 1, 2, 3, 1000))) == 2
    # Of 4 voters 0.8 goes at each end; 0.2 of the outer ones stays: (0.2*0 + 2 + 4 + 0.2*100) / 2.4.
    assert number(trimmed(points(0, 2, 4, 100))) == pytest.approx(26 / 2.4)


def test_trimmed_by_weight():
    # Weights 1, 3, 1 of 5: one unit goes at each end, which is both outer voters.
    assert number(trimmed(points(-50, 7, 90), np.array([1.0, 3.0, 1.0]))) == 7


def test_trimmed_leaves_one_and_keeps_two_apart():
    assert number(trimmed(points(5))) == 5
    assert number(trimmed(points(2, 4))) == 3


def test_trimmed_whole_outliers_do_not_come_back_by_rounding():
    votes = points(*[1.0] * 8, 1e30, -1e30)
    assert number(trimmed(votes, np.full(10, 0.1), share=0.1)) == 1


@pytest.mark.parametrize("share", [-0.1, 0.5, float("nan")])
def test_trimmed_share_out_of_range(share):
    with pytest.raises(ValueError, match="share"):
        trimmed(points(1, 2), share=share)


@given(st.integers(1, 4), st.lists(st.floats(-1e3, 1e3, width=32), min_size=10, max_size=10))
@settings(deadline=None)
def test_trimmed_agrees_with_scipy_where_whole_votes_go(cut, values):
    expected = trim_mean(np.array(values), cut / 10)
    assert number(trimmed(points(*values), share=cut / 10)) == pytest.approx(expected, rel=1e-5, abs=1e-3)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=9))
@settings(deadline=None)
def test_median_agrees_with_numpy(values):
    assert number(median(points(*values))) == np.float32(np.median(np.array(values)))


@given(quantile_votes())
@settings(deadline=None)
def test_results_lie_within_the_votes_that_speak(votes):
    values, weights = stack(votes)
    speaks = (weights > 0)[..., None]
    low = np.min(np.where(speaks, values, np.inf), axis=0)
    high = np.max(np.where(speaks, values, -np.inf), axis=0)
    for name, rule in AGGREGATES.items():
        if name in NEEDS_WIDTH and values.shape[2] == 1:
            continue
        result = rule(votes, np.ones(len(votes)))
        spoken = speaks.any(axis=0)[:, 0]
        assert result.weight.tolist() == spoken.astype(float).tolist()
        assert np.isfinite(result.values).all()
        assert (low[spoken] <= result.values[spoken]).all()
        assert (result.values[spoken] <= high[spoken]).all()
        assert (np.diff(result.values, axis=1) >= 0).all()


@given(quantile_votes(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_of_voters_does_not_matter(votes, random):
    order = list(range(len(votes)))
    random.shuffle(order)
    weights = np.arange(1.0, len(votes) + 1)
    for name, rule in AGGREGATES.items():
        if name in NEEDS_WIDTH and votes[0].values.shape[1] == 1:
            continue
        one = rule(votes, weights)
        other = rule([votes[i] for i in order], weights[order])
        # Weiszfeld nears the median of wild votes slowly, by one order or another.
        atol = 1e-3 if name != "geometric-median" else 1e-5 * max(np.abs(vote.values).max() for vote in votes) + 1e-3
        np.testing.assert_allclose(one.values, other.values, rtol=1e-5, atol=atol, err_msg=name)


@given(
    st.lists(st.floats(-10, 10, width=32), min_size=5, max_size=5),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
@settings(deadline=None)
def test_one_wild_voter_of_six_is_bounded_by_the_others(honest, wild):
    for rule in (median, lambda votes: trimmed(votes, share=0.2)):
        result = number(rule(points(*honest, wild)))
        assert min(honest) <= result <= max(honest)


@pytest.mark.parametrize("rule", AGGREGATES.values(), ids=AGGREGATES.keys())
@pytest.mark.parametrize("space", [P, Q])
def test_an_abstention_has_no_influence(rule, space):
    rows = {P: [[0.7, 0.3], [0.1, 0.9]], Q: [[1.0, 2.0], [3.0, 4.0]]}[space]
    others = [say(rows, space), say(rows[::-1], space)]
    silent = say([[np.nan, 1e38], [np.inf, -1e38]], space, [0, 0])
    alone, together = rule(others, np.ones(2)), rule([*others, silent], np.ones(3))
    np.testing.assert_array_equal(alone.values, together.values)
    np.testing.assert_array_equal(alone.weight, together.weight)


@pytest.mark.parametrize("rule", AGGREGATES.values(), ids=AGGREGATES.keys())
def test_where_nobody_speaks_the_result_abstains_with_a_valid_row(rule):
    for space, row in ((P, [0.5, 0.5]), (Q, [0.0, 0.0])):
        votes = [say([[np.nan, np.nan], [0.25, 0.75]], space, [0, 1])] * 3
        result = rule(votes, np.ones(3))
        assert result.weight.tolist() == [0, 1]
        assert result.values.tolist() == [row, [0.25, 0.75]]


def test_a_voice_of_weight_zero_says_nothing():
    votes = points(1, 100)
    for rule in (weighted, median, trimmed):
        assert number(rule(votes, np.array([1.0, 0.0]))) == 1
        assert rule(votes, np.zeros(2)).weight.tolist() == [0]


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, np.nan], [[1.0, 1.0]]])
def test_voice_weights_that_do_not_fit(weights):
    with pytest.raises(ValueError, match="weights must be 2"):
        weighted(points(1, 2), np.array(weights))


def test_votes_that_do_not_fit():
    one = say([[1.0, 2.0]])
    with pytest.raises(ValueError, match="at least one vote"):
        mean([])
    with pytest.raises(ValueError, match="vote 1 has another space"):
        mean([one, say([[1.0, 2.0]], P)])
    with pytest.raises(ValueError, match="vote 1 has another space or shape"):
        mean([one, say([[1.0]])])
    with pytest.raises(ValueError, match="vote 1 is about other items"):
        mean([one, SoftLabels.of(np.array([7]), one.values, Q)])


def test_inputs_are_left_alone():
    vote = say([[np.nan], [2.0]], weight=[0, 1])
    mean([vote, vote])
    assert np.isnan(vote.values[0, 0])


def test_medians_of_others_leave_each_out():
    values, weights = stack(points(1, 2, 10, 20))
    assert medians_of_others(values, weights)[:, 0, 0].tolist() == [10, 10, 2, 2]


@given(quantile_votes(least=2))
@settings(deadline=None)
def test_medians_of_others_agree_with_the_median_without_the_member(votes):
    found = medians_of_others(*stack(votes))
    for i in range(len(votes)):
        rest = median([*votes[:i], *votes[i + 1 :]])
        spoken = rest.weight > 0
        np.testing.assert_array_equal(found[i][spoken].astype(np.float32), rest.values[spoken])


def test_resolve():
    assert resolve("median") is median
    with pytest.raises(ConfigError, match=r"no 'medain'.*Did you mean 'median'.*precision, trimmed, weighted"):
        resolve("medain")


def test_group_weights():
    groups = ((0, 1, 2), (3,))
    assert group_weights(groups, "equal").tolist() == [0.5, 0.5]
    assert group_weights(groups, "size").tolist() == [0.75, 0.25]
    assert group_weights(groups, "size", [10, 10, 10, 70]).tolist() == [0.3, 0.7]


def test_group_weights_that_cannot_be():
    with pytest.raises(ConfigError, match="Did you mean 'size'"):
        group_weights(((0,),), "sizes")
    with pytest.raises(ValueError, match="recipe must ask"):
        group_weights(((0,), (1,)), "size", [5, 0])
    with pytest.raises(ValueError, match="at least one group"):
        group_weights((), "equal")
