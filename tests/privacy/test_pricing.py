"""Prices against what is known exactly, against the other accountant, and against simulated neighbours."""

from __future__ import annotations

import builtins
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from fedstill.errors import BudgetSpent, MissingExtra
from fedstill.privacy import pricing
from fedstill.privacy.pricing import epsilon, epsilon_rdp, multiplier_for
from fedstill.privacy.spending import Gaussian, Nothing, SampledGaussian, Unprotected

DELTA = 1e-5


def analytic(shift: float, delta: float) -> float:
    """Epsilon of neighbours so many standard deviations apart (Balle and Wang, ICML 2018, theorem 8)."""

    def beyond(epsilon: float) -> float:
        behind = math.exp(epsilon + norm.logcdf(-shift / 2 - epsilon / shift))
        return float(norm.cdf(shift / 2 - epsilon / shift) - behind - delta)

    return brentq(beyond, 0, 100 * shift + shift**2) if beyond(0) > 0 else 0.0


def test_what_is_free_and_what_is_open_needs_no_library():
    code = """
import sys
from fedstill.privacy.pricing import epsilon, epsilon_rdp
from fedstill.privacy.spending import Gaussian, Nothing, Unprotected
for price in (epsilon, epsilon_rdp):
    assert price([], 1e-5) == price([Nothing()] * 10, 1e-5) == 0
    assert price([Nothing(), Gaussian(1.0), Unprotected()], 1e-5) == float("inf")
assert "dp_accounting" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    real = builtins.__import__

    def absent(name, *others):
        if name == "dp_accounting":
            raise ImportError("there is none")
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=r"pip install 'fedstill\[privacy\]'"):
        epsilon([Gaussian(0.123456)], DELTA)


@pytest.fixture(scope="module", autouse=True)
def dp():
    return pytest.importorskip("dp_accounting")


@pytest.mark.parametrize(
    ("multiplier", "known"), [(7.03, 0.5), (3.73, 1.0), (1.99, 2.0), (1.08, 4.0), (0.6, 8.0), (0.1, 91.8)]
)
def test_a_gaussian_costs_what_is_known_exactly(multiplier, known):
    exact = analytic(1 / multiplier, DELTA)
    assert exact == pytest.approx(known, rel=0.01)
    assert exact <= epsilon([Gaussian(multiplier)], DELTA) <= 1.001 * exact
    assert exact <= epsilon_rdp([Gaussian(multiplier)], DELTA) <= 1.15 * exact


def test_the_known_price_of_training():
    """8760 rows, batches of 256 drawn by Poisson sampling, 20 epochs, multiplier 1.5."""
    rate = 256 / 8760
    event = SampledGaussian(rate, 1.5, math.ceil(20 / rate))
    assert epsilon([event], DELTA) == pytest.approx(2.4542, rel=1e-3)


def test_gaussians_compose_to_a_gaussian():
    """Squares of shifts add: 1/4 + 9 x 1/36 + 1/2 = 1."""
    parts = [Gaussian(2.0), Gaussian(6.0, 9), SampledGaussian(1.0, 2.0, 2, reach=1)]
    assert epsilon(parts, DELTA) == epsilon([Gaussian(1.0)], DELTA)
    assert epsilon([SampledGaussian(1.0, 3.0, 1, reach=3)], DELTA) == epsilon([Gaussian(1.0)], DELTA)


def test_equal_events_count_together_in_any_order():
    one, other = SampledGaussian(0.05, 2.0, 20), SampledGaussian(0.02, 3.0, 30, reach=2)
    whole = [Gaussian(3.0, 4), SampledGaussian(0.05, 2.0, 60), SampledGaussian(0.02, 3.0, 60, reach=2)]
    assert epsilon([Gaussian(3.0)] * 4 + [one] * 3 + [other] * 2, DELTA) == epsilon(whole, DELTA)
    assert epsilon([other, one, Nothing(), one, *[Gaussian(3.0)] * 4, other, one], DELTA) == epsilon(whole, DELTA)


def test_more_of_anything_costs_more():
    base = SampledGaussian(0.03, 2.0, 100)
    more = [SampledGaussian(0.05, 2.0, 100), SampledGaussian(0.03, 1.5, 100), SampledGaussian(0.03, 2.0, 150)]
    more += [SampledGaussian(0.03, 2.0, 100, reach=2)]
    assert all(epsilon([one], DELTA) > 1.02 * epsilon([base], DELTA) for one in more)
    assert epsilon([base, Gaussian(20.0)], DELTA) > epsilon([base], DELTA)
    assert epsilon([base], 1e-7) > epsilon([base], DELTA)


def simulated(rate: float, multiplier: float, reach: int, epsilon: float, rng: np.random.Generator) -> float:
    """The greater delta of one step at this epsilon, of a unit more and of a unit less, from drawn outcomes."""
    drawn = np.arange(reach + 1)
    chance = np.array([math.comb(reach, n) * rate**n * (1 - rate) ** (reach - n) for n in drawn])

    def log_density(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.log(norm.pdf(x[:, None], drawn, multiplier) @ weights)

    without = (drawn == 0).astype(float)
    found = []
    for here, there in ((chance, without), (without, chance)):
        x = rng.choice(drawn, size=400_000, p=here) + rng.normal(scale=multiplier, size=400_000)
        loss = log_density(x, here) - log_density(x, there)
        found.append(np.maximum(0, 1 - np.exp(epsilon - loss)).mean())
    return max(found)


@pytest.mark.parametrize(
    ("rate", "multiplier", "reach"), [(0.1, 1.0, 1), (0.1, 1.0, 3), (0.3, 2.0, 5), (0.05, 3.0, 20)]
)
def test_a_unit_of_many_blocks_costs_what_its_outcomes_show(rate, multiplier, reach):
    """At the epsilon that is asked for delta, neighbours differ by delta: no less is safe, no more is paid."""
    delta = 0.01
    price = epsilon([SampledGaussian(rate, multiplier, 1, reach)], delta)
    assert simulated(rate, multiplier, reach, price, np.random.default_rng(0)) == pytest.approx(delta, rel=0.05)


@pytest.mark.parametrize("reach", [1, 2, 9, 48])
def test_both_ways_to_a_price_agree(reach):
    event = SampledGaussian(0.03, 2.0 * math.sqrt(reach), 300, reach)
    assert epsilon([event], DELTA) < epsilon_rdp([event], DELTA) < 1.25 * epsilon([event], DELTA)


def test_divergences_are_those_of_the_library_where_it_has_them(dp):
    """At whole orders; at others its numerics are an upper bound, and a loose one."""
    rate, multiplier = 0.03, 1.5
    accountant = dp.rdp.RdpAccountant(orders=pricing._ORDERS)
    accountant.compose(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier)))
    found = pricing._divergence(SampledGaussian(rate, multiplier, 1))
    whole = np.round(pricing._ORDERS) == pricing._ORDERS
    assert whole.sum() >= 9
    np.testing.assert_allclose(found[whole], accountant.rdp[whole], rtol=1e-8)
    assert np.all(found <= accountant.rdp * (1 + 1e-8))


def test_divergences_of_a_mixture_that_can_be_computed_by_hand():
    """Of order 2 with noise of 1: E[L^2] is the mean of exp(i * j) over two independent draws i and j."""
    chance = {0: 0.81, 1: 0.18, 2: 0.01}
    mean = sum(p * q * math.exp(i * j) for i, p in chance.items() for j, q in chance.items())
    found = pricing._divergence(SampledGaussian(0.1, 1.0, 1, reach=2))
    assert found[pricing._ORDERS == 2] == pytest.approx(math.log(mean))


def test_absurd_numbers_have_a_price(dp):
    """From above, at least: never less than it is, never an exception of the library."""
    assert epsilon([Gaussian(1e-30)], DELTA) > 1e59
    assert epsilon([Gaussian(0.01)], DELTA) == epsilon_rdp([Gaussian(0.01)], DELTA) > analytic(100.0, DELTA)
    assert epsilon([SampledGaussian(0.5, 1e-9, 1, reach=10**6)], DELTA) == math.inf
    tiny = SampledGaussian(0.002, 6e8, 59, reach=4)  # at which the library ends in a RecursionError
    assert epsilon([tiny, Gaussian(1.0)], DELTA) == pytest.approx(epsilon([Gaussian(1.0)], DELTA))


def test_where_the_library_gives_up_the_other_bound_is_the_price(dp, monkeypatch):
    def gives_up(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr(dp.pld.PLDAccountant, "get_epsilon", gives_up)
    assert epsilon([Gaussian(1.2345)], DELTA) == epsilon_rdp([Gaussian(1.2345)], DELTA)


def test_the_least_noise_for_a_budget():
    for budget, known in ((0.5, 7.03), (1.0, 3.73), (8.0, 0.6)):
        found = multiplier_for(Gaussian, budget, DELTA)
        assert found == pytest.approx(known, rel=0.01)
        assert epsilon([Gaussian(found)], DELTA) <= budget < epsilon([Gaussian(found / 1.005)], DELTA)


def test_the_least_noise_after_what_was_spent_before():
    spent = [Gaussian(2.0), Nothing()]

    def training(multiplier: float) -> SampledGaussian:
        return SampledGaussian(0.03, multiplier, 100, reach=3)

    found = multiplier_for(training, 3.0, DELTA, spent)
    assert epsilon([*spent, training(found)], DELTA) <= 3.0
    assert epsilon([*spent, training(found / 1.005)], DELTA) > 3.0
    assert found > multiplier_for(training, 3.0, DELTA)


def test_no_noise_is_enough_where_all_is_spent():
    with pytest.raises(BudgetSpent, match=r"no noise is enough: of epsilon 1, 2 is spent already. Raise the budget"):
        multiplier_for(Gaussian, 1.0, DELTA, [Gaussian(1.995)])
    with pytest.raises(BudgetSpent, match="no noise"):
        multiplier_for(lambda _: Unprotected(), 1.0, DELTA)
    with pytest.raises(ValueError, match="infinite"):
        multiplier_for(Gaussian, math.inf, DELTA)
