"""What events cost together: the epsilon at a delta, by dp-accounting (the extra `privacy`).

Prices are those of privacy loss distributions (Koskela et al., AISTATS 2020; Doroshenko et al., PETS 2022), rounded
upwards, of both directions: one unit more and one unit less (ADD_OR_REMOVE_ONE). They hold for events that were
settled before; where noise is chosen by what an earlier release has shown, this is proven for Gaussian events alone
(Smith and Thakurta, 2022).

A unit with a part in several blocks is priced by the mixture of Gaussians of Ganesh (arXiv:2401.10294): in a step
Binomial(reach, rate) of its blocks are drawn, and each moves the sum by at most 1. dp-accounting's PLDAccountant has
that for both directions. Its RdpAccountant has no mixtures, so the check by Rényi divergences has its own integral.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from fedstill.errors import BudgetSpent, MissingExtra
from fedstill.privacy.spending import Event, Gaussian, Nothing, SampledGaussian, Unprotected

MOST_EPSILON = 100.0
"""Above this, where nobody is protected, the quick bound by Rényi divergences is the price."""

_ORDERS = 1 + 2 ** np.linspace(-3, 10, 40)
"""Of Rényi divergences: enough of them, since an epsilon changes little from one to the next."""

_PRECISION = 0.002
"""Of a calibrated multiplier, as a power of 2."""

_Array = npt.NDArray[np.float64]


class _Total(NamedTuple):
    """What events come to: Gaussians compose to one (Dong et al., Gaussian differential privacy, 2022).

    `shift` is how far apart neighbours are over the noise of that one; `sampled` are single steps, and how many.
    """

    shift: float
    sampled: tuple[tuple[SampledGaussian, int], ...]


def epsilon(events: Iterable[Event], delta: float) -> float:
    """What events cost together, from above.

    Parameters
    ----------
    events:
        In any order; equal ones are counted together, so that thousands take no longer than one of each.
    delta:
        Between 0 and 1.

    Returns
    -------
    The epsilon: 0 where all is free, infinite where something is unprotected.

    Raises
    ------
    MissingExtra
        Where dp-accounting is needed and not installed.

    Notes
    -----
    Losses are rounded up on a grid, which makes a price less than 0.1 % too high; by some per cent where hundreds of
    thousands of steps lose less than 0.0001 each.
    """
    return _price(events, delta, _by_distribution)


def epsilon_rdp(events: Iterable[Event], delta: float) -> float:
    """The same by Rényi differential privacy (Mironov, CSF 2017): another bound from above, mostly 5 to 20 % higher.

    Raises
    ------
    MissingExtra
        As `epsilon`.
    """
    return _price(events, delta, _by_divergence)


def multiplier_for(
    event_of: Callable[[float], Event], budget_epsilon: float, delta: float, already: Sequence[Event] = ()
) -> float:
    """Find the smallest noise multiplier, to 0.3 %, with which an event stays within a budget.

    Parameters
    ----------
    event_of:
        Gives the event of a multiplier.
    budget_epsilon, delta:
        The budget: a finite epsilon.
    already:
        What was spent before.

    Raises
    ------
    BudgetSpent
        Where no noise is enough.
    MissingExtra
        As `epsilon`.
    ValueError
        Where the budget is infinite: it asks for no noise.
    """
    from scipy.optimize import brentq

    if not math.isfinite(budget_epsilon):
        raise ValueError("an infinite budget asks for no noise")

    def beyond(power: float) -> float:
        """By how much 2 ** power is too little noise; not above where it is hopeless, for the search to stay calm."""
        return min(epsilon([*already, event_of(2.0**power)], delta) - budget_epsilon, 3 * budget_epsilon)

    def bound(power: float) -> float:
        return epsilon_rdp([*already, event_of(2.0**power)], delta)

    before = epsilon(already, delta)
    powers = range(-10, 30) if before < budget_epsilon else ()
    # The bound is quicker, and seldom wrong about the power of 2.
    high = next((power for power in powers if bound(power) <= budget_epsilon and beyond(power) <= 0), None)
    if high is None:
        raise BudgetSpent(
            f"no noise is enough: of epsilon {budget_epsilon:g}, {before:.3g} is spent already",
            remedy="Raise the budget, or do less",
        )
    low = high - 1
    while low > -12 and beyond(low) <= 0:
        low -= 1
    power = brentq(beyond, low, high, xtol=_PRECISION) if beyond(low) > 0 else low
    while beyond(power) > 0:
        power += _PRECISION
    return float(2.0**power)


def _price(events: Iterable[Event], delta: float, by: Callable[[_Total, float], float]) -> float:
    """Price what events come to, by one of the two ways; nothing and everything need neither."""
    squares, steps = [], Counter[SampledGaussian]()
    for event, times in Counter(events).items():
        match event:
            case Unprotected():
                return math.inf
            case Nothing():
                pass
            case Gaussian():
                squares.append(times * event.times / event.multiplier**2)
            case SampledGaussian() if event.rate == 1 or event.multiplier > 1e4 * event.reach:
                # All blocks, always, are what Gaussian says; below so much noise it does not matter which are drawn.
                squares.append(times * event.steps * (event.reach / event.multiplier) ** 2)
            case SampledGaussian():
                steps[msgspec.structs.replace(event, steps=1)] += times * event.steps
    total = _Total(math.sqrt(math.fsum(squares)), tuple(sorted(steps.items(), key=repr)))
    return by(total, delta) if squares or steps else 0.0


@lru_cache(maxsize=4096)
def _by_distribution(total: _Total, delta: float) -> float:
    bound = _by_divergence(total, delta)
    if bound > MOST_EPSILON:
        return bound
    dp = _library()
    accountant = dp.pld.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE, _width(total, bound))
    try:
        if total.shift:
            accountant.compose(dp.GaussianDpEvent(1 / total.shift))
        for event, steps in total.sampled:
            accountant.compose(_step(dp, event), steps)
        return float(accountant.get_epsilon(delta))
    except (ArithmeticError, RecursionError, ValueError):  # its numerics give up where numbers are absurd
        return bound


def _width(total: _Total, bound: float) -> float:
    """Of the grid of losses: a tenth of a step's (root mean square), so that their sum is as good as exact.

    No finer than memory and time allow, which go with the length of the grid.
    """
    squares, steps = total.shift**2, int(total.shift > 0)
    for event, count in total.sampled:
        squares += count * (event.reach * event.rate / event.multiplier) ** 2
        steps += count
    return min(5e-3, max(math.sqrt(squares / steps) / 10, bound * 5e-5, 1e-5))


@lru_cache(maxsize=4096)
def _by_divergence(total: _Total, delta: float) -> float:
    spent = _ORDERS * total.shift**2 / 2
    for event, steps in total.sampled:
        spent = spent + steps * _divergence(event)
    return float(_library().rdp.compute_epsilon(_ORDERS, spent, delta)[0])


def _step(dp: Any, event: SampledGaussian) -> Any:
    """One step as dp-accounting has it: how many blocks of a unit are drawn, with what probability."""
    if event.reach == 1:
        return dp.PoissonSampledDpEvent(event.rate, dp.GaussianDpEvent(event.multiplier))
    drawn, probability = _drawn(event)
    return dp.dp_event.MixtureOfGaussiansDpEvent(event.multiplier, drawn.tolist(), probability.tolist())


def _drawn(event: SampledGaussian) -> tuple[_Array, _Array]:
    """How many blocks of a unit a step draws, and with what probability; without what never happens (1e-30)."""
    from scipy.stats import binom

    drawn = np.arange(event.reach + 1)
    probability = binom.pmf(drawn, event.reach, event.rate)
    return drawn[probability > 1e-30].astype(np.float64), probability[probability > 1e-30]


@lru_cache(maxsize=4096)
def _divergence(event: SampledGaussian) -> _Array:
    """Rényi divergence of one step at each order, the greater one of both directions.

    With noise N(0, 1) it is log E[L^order] / (order - 1) of the likelihood ratio L of the mixture where a unit is
    more, and log E[L^(1 - order)] / (order - 1) where it is less. The expectations are integrals of smooth functions
    that vanish at both ends, for which the trapezoidal rule is exact to many digits (Trefethen and Weideman, 2014).
    """
    from scipy.special import logsumexp

    drawn, probability = _drawn(event)
    shift = drawn / event.multiplier
    orders = _ORDERS[_ORDERS * shift[-1] < 1000]  # further out the grid gets too long, and these orders say too little
    if not len(orders):
        return np.full(len(_ORDERS), np.inf)
    far = 40 + orders[-1] * shift[-1]
    x, step = np.linspace(-far, far, int(far / 0.025), retstep=True)
    likelihood = logsumexp(np.log(probability) + np.multiply.outer(x, shift) - shift**2 / 2, axis=1)
    noise = math.log(step / math.sqrt(2 * math.pi)) - x**2 / 2
    both = logsumexp(noise + np.multiply.outer([orders, 1 - orders], likelihood), axis=2)
    spent = np.maximum(both.max(axis=0), 0) / (orders - 1)
    return np.pad(spent, (0, len(_ORDERS) - len(orders)), constant_values=np.inf)


def _library() -> Any:
    """Import dp-accounting, which takes more than a second."""
    try:
        import dp_accounting
    except ImportError as error:
        raise MissingExtra(
            f"privacy is priced by dp-accounting, which cannot be used: {error}",
            remedy="Run: pip install 'fedstill[privacy]'",
        ) from error
    return dp_accounting
