"""Stretched quantiles: factors by hand, shares that come true, and no factor that runs away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill.calibrate import DOUBT, NARROW, Stretch, stretch
from fedstill.labels import Outputs, Space
from fedstill.sites import Rows
from fedstill.testing.fakes import CLASSES, QUANTILES

SEEDS = st.integers(0, 2**32 - 1)
FIVE = Outputs(Space.QUANTILES, (0.05, 0.25, 0.5, 0.75, 0.95))


def held(y, block=None):
    """Rows with these targets."""
    y = np.asarray(y, float)
    return Rows(np.zeros((len(y), 1), np.float32), y, None if block is None else np.asarray(block))


def says(row, n):
    return np.tile(np.array(row, np.float32), (n, 1))


# Factors.


def test_factors_by_hand():
    """Ten rows are as much as the doubt, so that factors go half of the way.

    Targets are 0, 1 ... 9 above the median, of which nine in ten lie below 8.1; the 0.9 quantile says 2 above it, so
    4.05 times its distance is needed, and half of the way from 1 is 2.525. Below the median lies nothing: the 0.1
    quantile needs no distance, and half of the way is 0.5.
    """
    found = stretch(QUANTILES, held(np.arange(10) + 5.0), says([1, 5, 7], 10))
    assert DOUBT == 10
    assert found.median == 1
    assert found.factors == pytest.approx((0.5, 1.0, 2.525))
    assert found.apply(np.array([[1.0, 5.0, 7.0], [-2.0, 0.0, 4.0]])) == pytest.approx(
        np.array([[3.0, 5.0, 10.05], [-1.0, 0.0, 10.1]])
    )


def test_factors_are_of_each_row_s_own_width():
    """Errors of one and of ten widths in narrow and wide rows are alike: all are 3 widths."""
    width = np.array([1.0, 10.0] * 5)
    said = np.column_stack([-width, 0 * width, width])
    assert stretch(QUANTILES, held(3 * width), said).factors == pytest.approx((0.5, 1.0, 2.0))


@pytest.mark.parametrize(("blocks", "factor"), [(1, 1 + 2 / 11), (10, 2.0), (90, 2.8)])
def test_days_count_not_rows(blocks, factor):
    """All are off by 3 widths. One day is 1/11 of the evidence, ten are half of it, ninety 9/10."""
    day = np.arange(180) % blocks
    found = stretch(QUANTILES, held([3.0] * 180, day), says([-1, 0, 1], 180))
    assert found.factors[2] == pytest.approx(factor)


def test_quantiles_that_are_right_stay():
    """Targets are evenly spread from -1 to 1: nine in ten lie below 0.8, and nine in ten above -0.8."""
    found = stretch(QUANTILES, held(np.linspace(-1, 1, 201)), says([-0.8, 0, 0.8], 201))
    assert found.factors == pytest.approx((1, 1, 1))


@given(SEEDS, st.floats(0.2, 5), st.floats(0.2, 5))
def test_shares_come_true(seed, below, above):
    """With 5000 days the doubt is small: whatever widths were said, so many targets lie below as the level says.

    The median is left as it was said.
    """
    random = np.random.default_rng(seed)
    middle, width, z = random.normal(0, 3, 5000), random.uniform(0.5, 2, 5000), random.normal(0, 1, 5000)
    y = middle + width * np.where(z < 0, below * z, above * z)
    said = middle[:, None] + width[:, None] * np.array([-1.6, -0.7, 0, 0.7, 1.6])
    after = stretch(FIVE, held(y), said).apply(said)
    for column in (0, 1, 3, 4):
        assert (y < after[:, column]).mean() == pytest.approx(FIVE.levels[column], abs=0.01)
    assert after[:, 2].tolist() == middle.tolist()


# Applied.


def test_the_median_stays_and_what_would_cross_is_put_in_order():
    """Factors 1 and 3 turn -2, -1 into -2, -3."""
    found = Stretch((1.0, 3.0, 1.0, 3.0, 1.0), 2).apply(np.array([[8.0, 9.0, 10.0, 11.0, 12.0]]))
    assert found.tolist() == [[7, 8, 10, 12, 13]]


@given(SEEDS)
def test_rows_rise_around_their_median(seed):
    random = np.random.default_rng(seed)
    values = np.sort(random.normal(size=(20, 5)), axis=1)
    after = Stretch(tuple(random.uniform(0, 4, 5)), 2).apply(values)
    assert (np.diff(after, axis=1) >= 0).all()
    assert after[:, 2].tolist() == values[:, 2].tolist()


def test_ones_change_nothing():
    values = says([1, 2, 4], 3)
    after = Stretch((1.0, 1.0, 1.0), 1).apply(values)
    assert after.dtype == np.float32
    assert after.tolist() == values.tolist()


# Where there is nothing to learn.


def test_classes_a_single_quantile_and_no_rows_are_not_stretched():
    assert stretch(CLASSES, Rows(np.zeros((2, 1)), np.array([0, 1])), says([1, 0, 0], 2)) is None
    assert stretch(Outputs(Space.QUANTILES, (0.5,)), held([1.0, 2.0]), says([1], 2)) is None
    assert stretch(QUANTILES, held([]), np.empty((0, 3), np.float32)) is None


DEGENERATE = {
    "no width": (np.linspace(-1, 1, 1000), says([0, 0, 0], 1000)),
    "no width, and targets that do not vary": (np.ones(1000), says([0, 0, 0], 1000)),
    "hardly any width": (np.linspace(-1, 1, 1000), says([-1e-30, 0, 1e-30], 1000)),
    "far off": (np.linspace(-1, 1, 1000), says([1e6, 1e6, 1e6], 1000)),
    "right, without any error": (np.zeros(1000), says([0, 0, 0], 1000)),
    "one row": (np.ones(1), says([0, 0, 0], 1)),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.filterwarnings("error")
def test_a_width_of_nothing_does_not_blow_up(name):
    """A tenth of the targets lies beyond the quantile, so it is at most √10 times their size, and that 100 widths."""
    y, said = DEGENERATE[name]
    found = stretch(QUANTILES, held(y), said)
    assert all(0 <= factor <= 10**0.5 / NARROW for factor in found.factors)
    assert np.isfinite(found.apply(says([-1, 0, 1], 2))).all()
    assert found.apply(np.zeros((1, 3))).tolist() == [[0, 0, 0]]  # what has no width gets none
