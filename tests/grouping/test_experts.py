from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstill.grouping.aggregates import mean, median
from fedstill.grouping.experts import (
    RAREST,
    certainty,
    class_mixes,
    couple,
    credibility,
    experts,
    restored,
    unlikeness,
)
from fedstill.labels import SoftLabels, Space

P, Q = Space.PROBABILITIES, Space.QUANTILES


def say(rows, weight=None, space=P):
    return SoftLabels.of(np.arange(len(rows)), np.asarray(rows, np.float32), space, weight)


def alike(values):
    """Every member counts 1 on every item."""
    return np.ones(np.shape(values)[:2])


def rows(positive):
    return positive / positive.sum(axis=-1, keepdims=True)


@st.composite
def votes(draw, least=1):
    seed, members, items, k = (draw(st.integers(*bounds)) for bounds in ((0, 999), (least, 6), (1, 6), (2, 5)))
    random = np.random.default_rng(seed)
    weight = random.choice([0.0, 0.5, 1.0], size=(members, items))
    values = random.dirichlet(np.full(k, draw(st.sampled_from([0.05, 0.5, 5.0]))), size=(members, items))
    return [say(one, by) for one, by in zip(values, weight, strict=True)]


def test_what_two_members_know_is_chained():
    # One has seen classes 0 and 1 and says 2 : 1. The other has seen 1 and 2 and says 2 : 1. So it is 4 : 2 : 1.
    values = np.array([[[2 / 3, 1 / 3, 0]], [[0, 2 / 3, 1 / 3]]])
    mixes = rows(np.array([[1, 1, 1e-9], [1e-9, 1, 1]]))
    np.testing.assert_allclose(couple(values, alike(values), mixes), [[4 / 7, 2 / 7, 1 / 7]], atol=1e-4)


def test_the_own_mix_of_classes_is_taken_out():
    # Who says of an item what it says of all has seen nothing special in it.
    values = np.array([[[0.8, 0.2]]])
    np.testing.assert_allclose(couple(values, alike(values), np.array([[0.8, 0.2]])), [[0.5, 0.5]])


def test_members_who_cannot_know_do_not_outvote_one_who_can():
    # Three that have never seen class 2 are sure of class 0, where they see a difference of 0 to 1 alone; the fourth
    # has seen 0 and 2.
    blind, able = [1, 1, 0], [1, 0, 1]
    values = np.array([[[0.97, 0.03, 0]]] * 3 + [[[0.05, 0, 0.95]]])
    mixes = rows(np.maximum(np.array([blind, blind, blind, able], float), RAREST))
    assert values.mean(axis=0).argmax() == 0
    assert couple(values, alike(values), mixes).argmax() == 2


@given(st.integers(0, 999), st.integers(1, 6), st.integers(2, 5))
def test_true_posteriors_give_back_the_likelihood(seed, members, k):
    # Bayes: with p_i = pi_i L / sum, and the pi_i known, L is what fits; that is the model.
    random = np.random.default_rng(seed)
    likelihood, mixes = random.dirichlet(np.ones(k), size=4), rows(random.uniform(0.1, 1, size=(members, k)))
    values = rows(mixes[:, None, :] * likelihood)
    np.testing.assert_allclose(couple(values, alike(values), mixes), likelihood, atol=1e-3)


@given(st.integers(0, 999))
def test_coupled_distributions_are_where_the_slope_is_zero(seed):
    random = np.random.default_rng(seed)
    values, mixes = random.dirichlet(np.ones(3), size=(4, 5)), random.dirichlet(np.full(3, 5.0), size=4)
    shares = random.uniform(0.5, 1, size=(4, 5))
    expected = rows(mixes[:, None, :] * couple(values, shares, mixes))
    np.testing.assert_allclose(np.einsum("in,inc->nc", shares, values - expected), 0, atol=0.01)


def test_a_mix_of_classes_is_the_mean_over_items_that_a_member_speaks_about():
    values = np.array([[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]])
    np.testing.assert_allclose(class_mixes(values, np.array([[1.0, 1.0, 0.0]])), [[0.75, 0.25]])
    np.testing.assert_allclose(class_mixes(values, np.array([[1.0, 0.0, 0.0]])), [[1, RAREST]], rtol=1e-3)
    np.testing.assert_allclose(class_mixes(values, np.zeros((1, 3))), [[0.5, 0.5]])  # silent: nothing is known


def test_certainty_goes_from_no_idea_to_sure():
    np.testing.assert_allclose(certainty(np.array([[[0.5, 0.5], [1, 0]]])), [[RAREST, 1]])


def test_credibility_falls_with_what_cannot_be_explained():
    mixes, likely = np.array([[0.5, 0.5]] * 2), np.array([[0.5, 0.5]])
    values = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])  # the second is log 2 nats away: (1/2)^2
    np.testing.assert_allclose(credibility(values, alike(values), mixes, likely), [1, 0.25])


def test_mixes_are_unlike_from_0_to_1():
    half = np.array([0.5, 0.5])
    assert unlikeness(np.array([[0.7, 0.3]] * 2), half) == 0
    assert unlikeness(np.eye(2), half) == 1
    # Of four classes, each member knows two: log 2 of log 4.
    assert unlikeness(np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]), half) == pytest.approx(np.sqrt(0.5))
    assert unlikeness(np.eye(2), np.array([1.0, 0.0])) == 0  # who weighs nothing differs from nobody


def test_the_mix_put_back_is_that_of_members_who_are_alike():
    np.testing.assert_allclose(restored(np.array([[0.7, 0.3]] * 3), np.array([1.0, 2.0, 0.0])), [0.7, 0.3])


def test_the_mix_put_back_is_even_where_members_have_no_class_in_common():
    np.testing.assert_allclose(restored(np.eye(2), np.ones(2)), [0.5, 0.5])
    np.testing.assert_allclose(restored(np.eye(2), np.zeros(2)), [0.5, 0.5])  # nobody speaks: nothing divides by 0


def test_a_power_makes_the_result_more_decided():
    cast = [say([[0.8, 0.2], [0.2, 0.8]])]
    np.testing.assert_allclose(experts(cast, power=1).values, cast[0].values, atol=1e-6)
    np.testing.assert_allclose(experts(cast, power=2).values, [[16 / 17, 1 / 17], [1 / 17, 16 / 17]], atol=1e-6)
    assert np.isfinite(experts(cast, power=1e4).values).all()
    with pytest.raises(ValueError, match="power"):
        experts(cast, power=0)


@given(votes())
def test_who_agrees_gets_the_same_back(cast):
    teacher = experts([cast[0]] * 3, np.array([1.0, 2.0, 0.5]), power=1)
    spoken = cast[0].weight > 0
    assert teacher.weight.tolist() == spoken.astype(float).tolist()
    np.testing.assert_allclose(teacher.values[spoken], cast[0].values[spoken], atol=1e-5)


@given(votes(least=2))
def test_the_order_of_members_does_not_matter(cast):
    np.testing.assert_allclose(experts(cast).values, experts(cast[::-1]).values, atol=1e-6)


@settings(max_examples=50)
@given(votes())
def test_rows_are_probabilities_and_silence_has_no_weight(cast):
    teacher = experts(cast)
    assert np.all(teacher.values >= 0)
    np.testing.assert_allclose(teacher.values.sum(axis=1), 1, atol=1e-5)
    spoken = np.sum([vote.weight for vote in cast], axis=0) > 0
    assert teacher.weight.tolist() == spoken.astype(float).tolist()


def test_whoever_weighs_nothing_has_no_say():
    cast = [say([[0.9, 0.1], [0.2, 0.8]]), say([[0.3, 0.7], [0.6, 0.4]])]
    np.testing.assert_allclose(experts(cast, np.array([1.0, 0.0]), power=1).values, cast[0].values, atol=1e-6)


def test_an_abstaining_vote_may_hold_anything():
    cast = [say([[0.9, 0.1], [0.2, 0.8]]), say([[0.3, 0.7], [np.nan, np.nan]], weight=[1, 0])]
    assert np.isfinite(experts(cast).values).all()


def test_quantiles_are_refused():
    with pytest.raises(ValueError, match="know classes"):
        experts([say([[1.0, 2.0]], space=Q)])


def bell(members, seed=0, items=600):
    """Members that know a few of six classes on a line exactly; what they say of items of all classes."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 6, items)
    x = truth + random.normal(0, 0.3, items)
    likelihood = np.exp(-((x[:, None] - np.arange(6)) ** 2) / (2 * 0.3**2))
    mixes = np.zeros((len(members), 6))
    for mix, known in zip(mixes, members, strict=True):
        mix[list(known)] = 1 / len(known)
    said = rows(mixes[:, None, :] * likelihood + 1e-12 * mixes[:, None, :])
    return truth, [say(one) for one in said]


RING = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5))
CROWD = RING[:1] * 5 + RING[1:]
"""Five members that know classes 0 and 1 alone, and one for each other pair of neighbours."""


def right(teacher, truth):
    return float((teacher.values.argmax(axis=1) == truth).mean())


def test_a_crowd_that_knows_two_classes_does_not_hide_the_others():
    # As good as a model that knows all six; the mean and the median are led astray by the crowd.
    truth, cast = bell(CROWD)
    _, [whole] = bell([range(6)])
    assert right(experts(cast), truth) > right(whole, truth) - 0.02
    assert right(mean(cast), truth) < 0.6
    assert right(median(cast), truth) < 0.6


@pytest.mark.parametrize("lie", [lambda values: values[:, ::-1], lambda values: np.roll(values, 1, axis=0)])
def test_two_liars_in_the_crowd_do_little(lie):
    truth, cast = bell(CROWD)
    broken = [say(lie(vote.values)) for vote in cast[:2]] + cast[2:]
    assert right(experts(broken), truth) > right(experts(cast), truth) - 0.1
