"""Shapley values and leave-one-out: games known from books, and the axioms."""

from __future__ import annotations

import itertools
from math import factorial

import numpy as np
import pytest

from fedstill.evaluation.contributions import EXACT, leave_one_out, sampled, shapley, shared_out


def alone(worth):
    """A game of one user, from a coalition's worth."""
    return lambda coalition: np.array([worth(coalition)], np.float64)


def drawn(players, users=2, seed=0):
    """A game in which every coalition's worth is drawn at random, and nobody's is 0."""
    random = np.random.default_rng(seed)
    coalitions = [frozenset(some) for k in range(len(players) + 1) for some in itertools.combinations(players, k)]
    worth = {one: random.normal(size=users) if one else np.zeros(users) for one in coalitions}
    return worth.__getitem__


GLOVES = alone(lambda coalition: "left" in coalition and bool({"right", "other"} & coalition))
"""A pair of gloves is worth 1; two have a right one each (Shapley and Shubik 1969)."""


def test_gloves():
    """The left one completes a pair in four of six orders, each right one in one."""
    players = ("left", "right", "other")
    np.testing.assert_allclose(shapley(GLOVES, players)[:, 0], [2 / 3, 1 / 6, 1 / 6])
    assert leave_one_out(GLOVES, players)[:, 0].tolist() == [1, 0, 0]


def test_a_majority_of_unequal_votes():
    """Weights 3, 2, 2 of which 4 are needed: any two carry it, so all have the same power."""
    weight = {"a": 3, "b": 2, "c": 2}
    votes = alone(lambda coalition: sum(weight[one] for one in coalition) >= 4)
    np.testing.assert_allclose(shapley(votes, "abc")[:, 0], [1 / 3] * 3)


def test_values_are_means_over_all_orders():
    players, game = "abcd", drawn("abcd")
    sums = dict.fromkeys(players, np.zeros(2))
    for order in itertools.permutations(players):
        for place, player in enumerate(order):
            sums[player] = sums[player] + game(frozenset(order[: place + 1])) - game(frozenset(order[:place]))
    np.testing.assert_allclose(shapley(game, players), [sums[player] / factorial(4) for player in players])


@pytest.mark.parametrize("seed", range(5))
def test_axioms(seed):
    """Efficiency, symmetry, null player and additivity, in games of five."""
    players, game, other = "abcde", drawn("abcd", seed=seed), drawn("abcde", seed=seed + 100)

    def ignoring(coalition):  # e adds nothing to nobody, and whoever of a and b is there counts as both by turns
        swapped = frozenset({"a": "b", "b": "a"}.get(one, one) for one in coalition)
        return (game(coalition - {"e"}) + game(swapped - {"e"})) / 2

    values = shapley(ignoring, players)
    np.testing.assert_allclose(values.sum(axis=0), ignoring(frozenset(players)), atol=1e-12)
    np.testing.assert_allclose(values[0], values[1], atol=1e-12)
    np.testing.assert_allclose(values[4], 0, atol=1e-12)
    both = shapley(lambda coalition: ignoring(coalition) + other(coalition), players)
    np.testing.assert_allclose(both, values + shapley(other, players), atol=1e-12)


def test_a_sample_comes_near_within_its_error():
    players, game = "abcdef", drawn("abcdef")
    values, error = sampled(game, players, pairs=300)
    exact = shapley(game, players)
    assert (np.abs(values - exact).mean(axis=1) < 4 * error).all()
    assert (error > 0).all()
    assert sampled(game, players, pairs=1200)[1] == pytest.approx(error / 2, rel=0.2)
    np.testing.assert_allclose(values.sum(axis=0), game(frozenset(players)))


def test_a_sample_of_what_simply_adds_up_is_exact():
    weight = dict(zip("abcdefghij", range(10), strict=True))
    values, error = sampled(alone(lambda coalition: sum(weight[one] for one in coalition)), "abcdefghij", pairs=2)
    assert values[:, 0].tolist() == list(range(10))
    assert error.tolist() == [0] * 10


def test_a_pair_of_orders_is_exact_where_only_pairs_of_players_matter():
    """An order and its reverse have each pair of players once this way and once that."""
    friends = alone(lambda coalition: len(coalition) ** 2)
    values, error = sampled(friends, "abcdefghij", pairs=2)
    np.testing.assert_allclose(values[:, 0], 10)
    np.testing.assert_allclose(error, 0, atol=1e-12)


def test_an_order_is_cut_short_where_little_is_left_to_add():
    """Whoever comes first brings 1, the second 0.01 more, the others nothing."""
    asked = set()

    def worth(coalition):
        asked.add(coalition)
        return min(len(coalition), 1) + 0.01 * (len(coalition) > 1)

    values, _ = sampled(alone(worth), "abcdefghij", pairs=5, tolerance=0.02)
    assert values.sum() == pytest.approx(1)
    assert max(len(coalition) for coalition in asked - {frozenset("abcdefghij")}) == 1


def test_a_report_has_each_participants_value_for_each():
    asked = []

    def game(coalition):  # a helps itself by 4 and b by 2; b harms a by 1; c does nothing
        asked.append(coalition)
        return np.array([0.04 * ("a" in coalition) - 0.01 * ("b" in coalition), 0.02 * ("a" in coalition), 0])

    found = shared_out(game, "bac", ("a", "b", "c"), "what is saved")
    assert [one.name for one in found.participants] == ["a", "c", "b"]
    best, none, worst = found.participants
    assert best.helps == pytest.approx({"a": 0.04, "b": 0.02, "c": 0})
    assert (best.shapley, best.left_out, best.error) == pytest.approx((0.02, 0.02, 0))
    assert none.helps == pytest.approx({"a": 0, "b": 0, "c": 0})
    assert worst.helps == pytest.approx({"a": -0.01, "b": 0, "c": 0})
    assert found.together == pytest.approx(sum(one.shapley for one in found.participants))
    assert (found.coalitions, len(asked)) == (8, 8)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found.table().splitlines() if line[0] == "|"]
    assert lines[1] == ["a", "2.00", "0.00", "2.00", "b 2.00", "c 0.00"]
    assert lines[3][:4] == ["b", "-0.33", "0.00", "-0.33"]
    assert lines[-1][:2] == ["together", "1.67"]


def test_more_players_than_are_counted_out_are_sampled():
    players = [f"p{i}" for i in range(EXACT + 1)]
    whole = alone(lambda coalition: len(coalition) ** 3)
    found = shared_out(whole, players, ["all"], "", pairs=20, seed=1)
    assert found.coalitions < 2 ** len(players)
    assert all(one.error > 0 for one in found.participants)
    assert sum(one.shapley for one in found.participants) == pytest.approx(found.together)
    again = shared_out(whole, players, ["all"], "", pairs=20, seed=1)
    assert again == found
    assert shared_out(whole, players, ["all"], "", pairs=20, seed=2) != found


def test_one_alone_contributes_all():
    found = shared_out(alone(len), ["only"], ["only"], "")
    assert (found.participants[0].shapley, found.together) == (1, 1)
    assert "only" in found.table()
