"""Density ratios: against ratios that are known, and what participants make of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from fedstill.density import certainty, density_ratio


def draw(seed, n, centre=0.0, f=1, spread=1.0):
    return np.random.default_rng(seed).normal(centre, spread, size=(n, f))


def test_the_ratio_of_two_normals():
    """N(0, 1) over N(1, 1) is exp(1/2 - x)."""
    ratio = density_ratio(draw(1, 500), draw(2, 500, centre=1.0))
    at = np.linspace(-0.5, 1.5, 9)[:, None]
    assert ratio(at) == pytest.approx(np.exp(0.5 - at[:, 0]), rel=0.35)
    wide = np.linspace(-1, 3, 41)[:, None]
    assert spearmanr(ratio(wide), -wide[:, 0]).statistic > 0.95


def test_the_closed_form_is_the_least_of_its_objective():
    """KuLSIF minimises sum r(other)^2 / 2n - sum r(own) / m + penalty |r|^2 / 2: no other coefficients do better."""
    own, other = draw(1, 12), draw(2, 9, spread=0.6)
    m, n, penalty = 12, 9, 9.0**-0.9
    both = np.concatenate([own, other])
    scaled = (both - both.mean()) / both.std()
    gaps = np.abs(scaled - scaled.T)
    kernel = np.exp(-(gaps**2) / (2 * np.median(gaps[np.triu_indices(21, 1)]) ** 2))

    def objective(c):
        values = kernel @ c
        return (values[m:] ** 2).sum() / (2 * n) - values[:m].sum() / m + penalty * (c @ kernel @ c) / 2

    # Where it is not negative, the estimate at the samples tells its coefficients.
    found = density_ratio(own, other)(both)
    assert found.min() > 0
    coefficients = np.linalg.lstsq(kernel, found, rcond=None)[0]
    random = np.random.default_rng(0)
    least = objective(coefficients)
    assert all(objective(coefficients + 0.05 * random.normal(size=21)) > least for _ in range(50))


def test_one_that_is_the_other_has_a_ratio_near_one():
    rows = draw(3, 600, f=4)
    assert density_ratio(rows[:300], rows[300:])(rows[300:]).mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("f", [1, 5, 30])
def test_items_far_from_own_rows_do_not_count(f):
    """Half of the items lie like the own rows, half some way off; about an eighth of the first are given up."""
    own = draw(1, 1000, f=f)
    items = np.concatenate([draw(2, 400, f=f), draw(3, 400, centre=6 / np.sqrt(f), f=f)])
    hard = certainty(own, items, soft=False, cutoff=0.125)
    assert set(hard.tolist()) == {0, 1}
    assert hard[:400].mean() == pytest.approx(0.875, abs=0.07)
    assert hard[400:].mean() < 0.02
    soft = certainty(own, items, soft=True, cutoff=0.125)
    assert soft.max() <= 1
    assert soft[:400].mean() > 0.9
    assert soft[400:].mean() < 0.3


def test_the_cutoff_is_a_quantile_of_own_rows():
    own, items = draw(1, 1000), draw(2, 1000)
    kept = [certainty(own, items, soft=False, cutoff=cutoff).mean() for cutoff in (0, 0.25, 0.5)]
    assert kept[0] > kept[1] > kept[2]
    assert kept[1:] == pytest.approx([0.75, 0.5], abs=0.15)


def test_neither_scale_nor_constant_columns_matter():
    own, items = draw(1, 200, f=2), draw(2, 100, centre=0.5, f=2)
    plain = certainty(own, items, soft=True, cutoff=0.1)
    stretch, shift = np.array([1000.0, 0.01]), np.array([5.0, -3.0])
    stretched = certainty(own * stretch + shift, items * stretch + shift, soft=True, cutoff=0.1)
    np.testing.assert_allclose(stretched, plain, atol=1e-6)
    padded = [np.column_stack([rows, np.full(len(rows), 7.0)]) for rows in (own, items)]
    np.testing.assert_allclose(certainty(*padded, soft=True, cutoff=0.1), plain, atol=1e-6)


@pytest.mark.parametrize("n_own", [1, 2, 4, 5, 6])
@pytest.mark.parametrize("soft", [False, True])
def test_few_rows_are_no_failure(n_own, soft):
    for items in (draw(2, 1), draw(2, 3), np.zeros((3, 1))):
        found = certainty(draw(1, n_own), items, soft=soft, cutoff=0.125)
        assert found.shape == (len(items),)
        assert np.isfinite(found).all()
        assert (found >= 0).all()


def test_it_is_the_same_every_time_and_does_not_grow_with_the_rows():
    own, items = draw(1, 20_000, f=3), draw(2, 3000, f=3)
    first = certainty(own, items, soft=True, cutoff=0.1)
    np.testing.assert_array_equal(first, certainty(own, items, soft=True, cutoff=0.1))


def test_float32_rows_will_do():
    own, items = draw(1, 100).astype(np.float32), draw(2, 50).astype(np.float32)
    assert certainty(own, items, soft=True, cutoff=0.1).dtype == np.float64


def test_a_narrow_own_density_in_a_broad_transfer_set():
    """Where own rows are denser than the transfer set the soft weight is cut at 1; the wide kernel blurs the edge."""
    own, items = draw(1, 500, spread=0.2), draw(2, 500, spread=2.0)
    expected = norm.pdf(items[:, 0], 0, 0.2) > norm.pdf(items[:, 0], 0, 2.0)
    soft = certainty(own, items, soft=True, cutoff=0.125)
    assert soft[expected].mean() > 0.95
    assert soft[~expected].mean() < 0.4
