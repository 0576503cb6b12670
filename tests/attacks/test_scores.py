"""Attacks on numbers made up so that what they should find is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fedstill.attacks.auditing import audit, lower_bound, p_value
from fedstill.attacks.membership import Evidence, auc, membership, tpr
from fedstill.attacks.scores import by_direction, by_loss
from fedstill.attacks.worlds import halves

WORLDS, UNITS = 16, 300


def made(strength: float, seed: int = 0, numbers: int = 400) -> Evidence:
    """Releases in which every unit that was there adds a direction of its own; its fit falls alike."""
    random = np.random.default_rng(seed)
    there = np.stack([drawn["a"] for drawn in halves({"a": UNITS}, WORLDS // 2, seed)])
    effect = random.normal(size=(UNITS, numbers))
    told = strength * there @ effect + np.sqrt(UNITS) * random.normal(size=(WORLDS, numbers))
    fit = random.normal(size=UNITS) - strength * there + random.normal(size=(WORLDS, UNITS))
    return Evidence(told, fit, there)


def test_worlds_come_in_pairs_of_opposites():
    drawn = halves({"a": 50, "b": 7}, 3, seed=4)
    assert len(drawn) == 6
    for one, other in zip(drawn[::2], drawn[1::2], strict=True):
        assert all((one[party] != other[party]).all() for party in ("a", "b"))
    assert sum(there["a"].sum() for there in drawn) == 3 * 50
    again = halves({"a": 50, "b": 7}, 3, seed=4)
    assert all((one["a"] == other["a"]).all() for one, other in zip(drawn, again, strict=True))


def test_the_area_under_the_curve_by_hand():
    there = np.array([True, True, False, False])
    assert auc(np.array([4.0, 2.0, 3.0, 1.0]), there) == 3 / 4
    assert auc(np.zeros(4), there) == 1 / 2
    assert math.isnan(auc(np.zeros(2), np.ones(2, bool)))


def test_true_positives_at_a_rate_of_false_ones_by_hand():
    others, members = np.arange(100.0), np.array([98.5, 99.5, 97.5, 10.0])
    scores, there = np.concatenate([others, members]), np.arange(104) >= 100
    assert tpr(scores, there, 0.001) == 1 / 4  # no false positive allowed: above 99
    assert tpr(scores, there, 0.01) == 2 / 4  # one: above 98
    assert tpr(scores, there, 1.0) == 1.0


def test_what_moves_with_a_unit_is_found_and_noise_is_not():
    seen = {"a": made(0.5), "b": made(0.5, seed=1)}
    found = membership(seen, seed=0)
    assert found.auc.low is not None
    assert found.auc.low > 0.55
    assert (found.members, found.others) == (WORLDS * UNITS, WORLDS * UNITS)
    nothing = membership({"a": made(0.0), "b": made(0.0, seed=1)}, seed=0)
    assert nothing.auc.estimate == pytest.approx(0.5, abs=0.02)
    assert nothing.tpr_at_fpr_1_percent.estimate == pytest.approx(0.01, abs=0.006)


@pytest.mark.parametrize("score", [by_direction, by_loss])
def test_chance_alone_scores_nothing_on_average(score):
    """The worlds that are left when a pair is taken out have each unit in half of them, so nothing can be biased."""
    areas = []
    for seed in range(20):
        one = made(0.0, seed, numbers=UNITS)
        for pair in range(0, WORLDS, 2):
            shadows = [world for world in range(WORLDS) if world not in (pair, pair + 1)]
            values = score(one.told, one.there, shadows, [pair, pair + 1])
            areas += [auc(values[i], one.there[pair + i]) for i in (0, 1)]
    assert np.mean(areas) == pytest.approx(0.5, abs=4 * np.std(areas) / np.sqrt(len(areas)))
    assert np.std(areas) < 0.06


def test_a_loss_that_always_falls_with_a_unit_is_a_likelihood_ratio():
    """Two units, without spread in the first shadows: by hand (x - middle)(with - without)/variance."""
    there = np.array([[True, True], [False, False], [True, False], [False, True], [True, True], [False, False]])
    loss = np.where(there, 1.0, 3.0) + np.array([[0.5], [-0.5], [-0.5], [0.5], [0.0], [0.0]])
    found = by_loss(loss, there, [0, 1, 2, 3], [4, 5])
    with_it, without = np.array([1.0, 1.5]), np.array([3.0, 2.5])
    spread = (loss[:4] - np.where(there[:4], with_it, without)) ** 2
    expected = (loss[4:] - 2.0) * (with_it - without) / spread.mean()
    np.testing.assert_allclose(found, expected)


def test_all_right_guesses_rule_out_what_makes_them_unlikely():
    """Ten of ten right, without delta: chance^10 = 0.05."""
    chance = 0.05 ** (1 / 10)
    assert lower_bound(100, 10, 10, 0.0, 0.05) == pytest.approx(math.log(chance / (1 - chance)), abs=1e-4)
    assert lower_bound(100, 10, 5, 0.0, 0.05) == 0.0
    assert lower_bound(100, 10, 10, 0.01, 0.05) < lower_bound(100, 10, 10, 0.0, 0.05)


def test_delta_counts_for_the_worst_number_of_guesses_by_hand():
    """Two of two right at epsilon 0: 1/4, and 2 units x 2 delta x max(1/2, 3/4 / 2)."""
    assert p_value(2, 2, 2, 0.0, 0.01) == pytest.approx(1 / 4 + 2 * 2 * 0.01 * 0.5)
    assert p_value(2, 2, 2, 0.0, 0.0) == pytest.approx(1 / 4)
    assert p_value(2, 2, 0, 0.0, 0.01) == 1.0


def test_randomised_response_is_not_accused_of_more_than_it_has():
    """Each unit says with chance e^eps / (1 + e^eps) whether it is there: the bound holds, and comes near."""
    epsilon, bounds = 1.0, []
    for seed in range(100):
        right = np.random.default_rng(seed).binomial(1000, 1 / (1 + math.exp(-epsilon)))
        bounds.append(lower_bound(1000, 1000, int(right), 0.0, 0.05))
    wrong = int((np.array(bounds) > epsilon).sum())
    assert stats.binom.sf(wrong - 1, 100, 0.05) > 0.001
    assert 0.7 < np.median(bounds) < epsilon


def test_an_audit_finds_what_is_told_openly_and_keeps_silent_about_noise():
    open_book = made(0.0)
    telling = Evidence(open_book.told, open_book.fit - 20 * open_book.there, open_book.there)
    found = audit({"a": telling}, 1e-5, math.inf)
    assert found.low > 4
    assert found.high is None
    assert found.right > 0.98 * found.guesses
    assert found.units == UNITS * WORLDS // 4  # one of each audited pair
    quiet = audit({"a": made(0.0, seed=2)}, 1e-5, 2.0)
    assert quiet.low < 0.5
    assert quiet.high == 2.0


def test_what_every_world_says_alike_is_no_fault():
    there = made(0.0).there
    flat = Evidence(np.ones((WORLDS, 5)), np.zeros((WORLDS, UNITS)), there)
    silent = Evidence(np.zeros((WORLDS, 0)), np.zeros((WORLDS, UNITS)), there)
    for one in (flat, silent):
        found = membership({"a": one}, seed=0)
        assert found.auc.estimate == 0.5
        assert found.tpr_at_fpr_1_percent.estimate == 0.0
