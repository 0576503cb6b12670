"""Rows, floors and losses: numbers by hand, and scikit-learn's as the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, mean_pinball_loss

from fedstill.labels import Outputs, Space
from fedstill.sites import Floor, Rows, loss, losses
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
    one, other = (Rows(np.full((n, 2), n, np.float32), np.full(n, float(n)), np.zeros(n)) for n in (1, 2))
    both = Rows.stack([one, other])
    assert len(both) == 3
    assert both.X.tolist() == [[1, 1], [2, 2], [2, 2]]
    assert both.y.tolist() == [1, 2, 2]
    assert both.block is None


def test_blocks():
    """Rows of days 7, 9, 7, 7: the mean over day 7 is (1 + 3 + 5) / 3, over day 9 it is 10."""
    values = np.array([1.0, 10.0, 3.0, 5.0])
    assert Rows(np.zeros((4, 1)), values, np.array([7, 9, 7, 7])).block_means(values).tolist() == [3, 10]
    assert Rows(np.zeros((4, 1)), values).block_means(values).tolist() == values.tolist()
