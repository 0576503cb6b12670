"""Rows, folds, floors and losses: numbers by hand, and scikit-learn's as the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, mean_pinball_loss

from fedstill.labels import Outputs, Space
from fedstill.sites import Floor, Rows, Site, dealt, loss, losses, stretches
from fedstill.testing.fakes import CLASSES, QUANTILES

SEEDS = st.integers(0, 2**32 - 1)


def test_pinball_by_hand():
    """At level 0.1 a forecast 2 too low costs 0.2, 2 too high 1.8; at 0.5 both cost 1; at 0.9 it is turned round."""
    y, told = np.array([2.0, -2.0]), np.zeros((2, 3))
    np.testing.assert_allclose(losses(QUANTILES, y, told), [(0.2 + 1 + 1.8) / 3, (1.8 + 1 + 0.2) / 3])
    upper = Outputs(Space.QUANTILES, (0.9,))
    np.testing.assert_allclose(losses(upper, y, told[:, :1]), [1.8, 0.2])
    assert loss(upper, y, told[:, :1]) == pytest.approx(1.0)


def test_log_loss_by_hand():
    """Minus the logarithm of what was given to the class; impossible costs much but not all there is."""
    told = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [1, 0, 0]], np.float32)
    np.testing.assert_allclose(losses(CLASSES, np.array([0, 2, 1]), told), np.log([2, 4, 1e12]))


@given(SEEDS, st.integers(1, 20))
def test_pinball_is_scikit_learns(seed, n):
    random = np.random.default_rng(seed)
    y, told = random.normal(size=n), random.normal(size=(n, 3)).astype(np.float32)
    theirs = [mean_pinball_loss(y, told[:, i], alpha=level) for i, level in enumerate(QUANTILES.columns)]
    assert loss(QUANTILES, y, told) == pytest.approx(np.mean(theirs), rel=1e-6)


@given(SEEDS, st.integers(1, 20))
def test_log_loss_is_scikit_learns(seed, n):
    random = np.random.default_rng(seed)
    y, told = random.integers(3, size=n), random.dirichlet([1, 1, 1], n)
    assert loss(CLASSES, y, told) == pytest.approx(log_loss(y, told, labels=[0, 1, 2]), rel=1e-6, abs=1e-9)


@pytest.mark.filterwarnings("error")
def test_no_rows_have_no_loss():
    """A site may hold nothing back: its loss is NaN, without a word from NumPy."""
    assert math.isnan(loss(QUANTILES, np.empty(0), np.empty((0, 3))))
    assert math.isnan(loss(CLASSES, np.empty(0, int), np.empty((0, 3))))


def test_the_floor_of_a_forecast():
    """The spread of 0, 10 ... 100 around its own median: its quantiles are 10, 50, 90, so the floor is -40, 0, 40.

    The median is taken away, as the floor is the seasonal-naive rule itself: its residual is 0.
    """
    floor = Floor.fit(QUANTILES, np.arange(0, 101, 10.0))
    assert floor.values == pytest.approx((-40, 0, 40))
    told = floor.predict(np.zeros((2, 7)))
    assert told.dtype == np.float32
    assert told.tolist() == [[-40, 0, 40], [-40, 0, 40]]


def test_the_floor_of_classes():
    """Counts 3, 1, 0, each one more by Laplace's rule: 4, 2, 1 of 7."""
    floor = Floor.fit(CLASSES, np.array([0, 0, 1, 0]))
    np.testing.assert_allclose(floor.predict(np.zeros((1, 2))), [[4 / 7, 2 / 7, 1 / 7]], rtol=1e-6)
    assert floor.predict(np.zeros((0, 2))).shape == (0, 3)


@given(SEEDS)
def test_the_floor_of_classes_is_near_the_best_constant(seed):
    """No constant has less log-loss than the shares; Laplace's rule costs little more."""
    y = np.random.default_rng(seed).integers(3, size=200)
    shares = np.bincount(y, minlength=3) / 200
    best = loss(CLASSES, y, np.tile(shares, (200, 1)))
    assert best <= loss(CLASSES, y, Floor.fit(CLASSES, y).predict(y)) < best + 0.01


def test_rows_of_many_sites():
    """Days of the same name are one day; where a part has none, the whole has none."""
    one, other = (Rows(np.full((n, 2), n, np.float32), np.full(n, float(n)), np.arange(n)) for n in (1, 2))
    both = Rows.stack([one, other])
    assert len(both) == 3
    assert both.X.tolist() == [[1, 1], [2, 2], [2, 2]]
    assert both.y.tolist() == [1, 2, 2]
    assert both.block.tolist() == [0, 0, 1]
    assert both.block_means(both.y).tolist() == [1.5, 2]
    assert Rows.stack([one, Rows(other.X, other.y)]).block is None


def test_rows_that_are_chosen_keep_their_blocks():
    rows = Rows(np.arange(4.0)[:, None], 10 * np.arange(4.0), np.array([7, 7, 8, 9]))
    some = rows.where(np.array([True, False, True, False]))
    assert (some.X.ravel().tolist(), some.y.tolist(), some.block.tolist()) == ([0, 2], [0, 20], [7, 8])
    assert Rows(rows.X, rows.y).where(rows.y > 10).block is None


def test_blocks():
    """Rows of days 7, 9, 7, 7: the mean over day 7 is (1 + 3 + 5) / 3, over day 9 it is 10."""
    values = np.array([1.0, 10.0, 3.0, 5.0])
    assert Rows(np.zeros((4, 1)), values, np.array([7, 9, 7, 7])).block_means(values).tolist() == [3, 10]
    assert Rows(np.zeros((4, 1)), values).block_means(values).tolist() == values.tolist()


# Folds.


def test_a_site_s_folds():
    """Rows 1 and 3 are fold 0, row 0 is fold 1, row 2 is never held back."""
    site = Site("plant", Rows(np.arange(4.0)[:, None], np.arange(4.0)), Floor((0,)), np.array([1, 0, -1, 0]))
    assert list(site.folds) == [0, 1]
    assert site.held_back([0]).y.tolist() == [1, 3]
    assert site.held_back([1, 0]).y.tolist() == [0, 1, 3]  # in the order of the rows
    assert site.held_back([]).y.tolist() == []
    assert site.without(0).y.tolist() == [0, 2]
    assert site.without(1).y.tolist() == [1, 2, 3]


def test_a_site_that_holds_nothing_back():
    """Also one that has no rows at all."""
    for n in (0, 3):
        site = Site("plant", Rows(np.zeros((n, 1)), np.arange(float(n))), Floor((0,)), np.full(n, -1))
        assert list(site.folds) == []
        assert len(site.held_back(site.folds)) == 0
        assert len(site.without(0)) == n


@pytest.mark.parametrize(
    ("folds", "longest", "expected"),
    [
        (2, 14, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
        (4, 14, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]),  # a quarter of ten is at most three
        (4, 2, [0, 0, 1, 1, 2, 2, 3, 3, 0, 0]),  # no more than two at once, so the first fold comes again
        (2, 1, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]),
        (20, 14, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),  # no more folds than days
    ],
)
def test_stretches_by_hand(folds, longest, expected):
    assert stretches(np.arange(10), folds, longest).tolist() == expected


def test_all_rows_of_a_day_are_in_its_fold_in_whatever_order():
    assert stretches(np.array([3, 0, 1, 1, 2, 0, 3]), 2, 14).tolist() == [1, 0, 0, 0, 1, 0, 1]


@given(st.integers(2, 500), st.integers(2, 20), st.integers(1, 30))
def test_stretches_are_whole_short_and_dealt_out_in_turn(n, folds, longest):
    found = stretches(np.arange(n), folds, longest)
    assert sorted(set(found)) == list(range(found.max() + 1))  # every day in one fold, and no fold is empty
    assert 1 <= found.max() < folds
    begins = np.flatnonzero(np.diff(found)) + 1
    lengths = np.diff([0, *begins, n])
    assert lengths.max() <= longest
    assert len(set(lengths[:-1])) <= 1  # all alike but the last
    turns = found[[0, *begins]]
    assert turns.tolist() == [turn % (found.max() + 1) for turn in range(len(turns))]


@pytest.mark.parametrize("folds", [2, 3, 4])
def test_a_year_has_every_fold_in_every_quarter(folds):
    found = stretches(np.arange(365), folds, 14)
    for quarter in np.array_split(found, 4):
        assert set(quarter) == set(range(folds))


def test_classes_are_dealt_out_in_turn():
    """The three of class 0 go to the folds 0, 1, 0; then it is fold 1's turn for the two of class 1."""
    assert dealt(np.array([0, 1, 0, 1, 0]), 2).tolist() == [0, 1, 1, 0, 0]


@given(SEEDS, st.integers(2, 60), st.integers(2, 20))
def test_each_class_is_in_every_fold_where_it_has_rows_for_it(seed, n, folds):
    y = np.random.default_rng(seed).choice(4, n, p=[0.6, 0.3, 0.1, 0])
    found, folds = dealt(y, folds), min(folds, n)
    sizes = np.bincount(found, minlength=folds)
    assert (len(sizes), sizes.sum()) == (folds, n)
    assert sizes.max() - sizes.min() <= 1
    for label in range(4):
        counts = np.bincount(found[y == label], minlength=folds)
        assert counts.max() - counts.min() <= 1
        assert (counts > 0).all() == ((y == label).sum() >= folds)


@pytest.mark.parametrize(("n", "folds"), [(10, 1), (1, 4), (0, 4)])
def test_fewer_than_two_folds_hold_nothing_back(n, folds):
    assert stretches(np.arange(n), folds, 14).tolist() == [-1] * n
    assert dealt(np.zeros(n, int), folds).tolist() == [-1] * n
