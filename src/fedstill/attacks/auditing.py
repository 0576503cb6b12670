"""An audit: a lower bound on epsilon, from how often guesses about what was there are right.

Steinke, Nasr and Jagielski, Privacy Auditing with One (1) Training Run, NeurIPS 2023, arXiv:2305.08846. Each unit is
there or not by a coin, independently; a guesser that has seen the releases says of the surest ones whether they were
there, and keeps silent about the others. Whatever it does, with (epsilon, 0)-differential privacy the number of right
ones among r guesses is no higher than a binomial of r trials with chance e^epsilon / (1 + e^epsilon) (theorem 5.2,
with a correction for delta). So many right guesses rule all smaller epsilons out.

Half of the pairs of worlds are shadows. Of each other pair one world is audited, since the coins of the second are
those of the first; all audited runs and participants together are one mechanism, in which each unit has a part in one
release alone. A bound of 0 says that the attack found nothing, not that there is nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import optimize, stats

from fedstill.attacks.membership import STATISTICS, Evidence
from fedstill.attacks.reports import Audit
from fedstill.labels import Array, Party

SHARES = (0.002, 0.02, 0.2, 1.0)
"""Of all units, how many a guesser says something about; each is tried."""
CONFIDENCE = 0.95
MOST = 50.0
"""No bound above this is looked for."""


def audit(seen: Mapping[Party, Evidence], delta: float, promised: float) -> Audit:
    """The highest lower bound on epsilon that holds with 95 % confidence, over both statistics and all shares.

    Parameters
    ----------
    seen:
        What was seen of each participant.
    delta:
        At which delta.
    promised:
        The upper bound that the ledgers state; infinite where nothing protects.
    """
    tries = len(STATISTICS) * len(SHARES)
    found = []
    for statistic in STATISTICS:
        scores, there = _audited(seen, statistic)
        order = np.argsort(scores)
        for share in SHARES:
            half = max(int(share * len(scores)) // 2, 1)
            right = int((~there[order[:half]]).sum() + there[order[-half:]].sum())
            low = lower_bound(len(scores), 2 * half, right, delta, (1 - CONFIDENCE) / tries)
            found.append(Audit(_guess(2 * half, right), low, promised, 2 * half, right, len(scores)))
    return max(found, key=lambda one: (one.low, one.estimate))


def _audited(seen: Mapping[Party, Evidence], statistic: str) -> tuple[Array, Array]:
    """Scores and truth of all units that are audited."""
    scores, truths = [], []
    for one in seen.values():
        pairs = len(one.there) // 2
        shadows = list(range(2 * max(pairs // 2, 1)))
        tested = list(range(len(shadows), len(one.there), 2))
        scores.append(one.scores(statistic, shadows, tested).ravel())
        truths.append(one.there[tested].ravel())
    return np.concatenate(scores), np.concatenate(truths)


def lower_bound(units: int, guesses: int, right: int, delta: float, level: float) -> float:
    """The largest epsilon that so many right guesses rule out at this level of significance; 0 where there is none."""

    def over(epsilon: float) -> float:
        return p_value(units, guesses, right, epsilon, delta) - level

    if over(0.0) >= 0:
        return 0.0
    return MOST if over(MOST) < 0 else float(optimize.brentq(over, 0.0, MOST, xtol=1e-6))


def p_value(units: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The chance, at most, of so many right guesses or more with (epsilon, delta)-differential privacy.

    With delta a unit may be betrayed outright. That is worth 2 delta for each unit, and i right guesses more with a
    chance of 1/i of that: so the chance that i more would have been enough counts, over i, for the worst i.
    """
    chance = 1 / (1 + math.exp(-epsilon))
    tail = float(stats.binom.sf(right - 1, guesses, chance))
    if delta <= 0 or right == 0:
        return min(tail, 1.0)
    missed = np.cumsum(stats.binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    worst = float((missed / np.arange(1, right + 1)).max())
    return min(tail + 2 * units * delta * worst, 1.0)


def _guess(guesses: int, right: int) -> float:
    """The epsilon at which so many right guesses are to be expected, not below 0."""
    return max(0.0, math.log((right + 0.5) / (guesses - right + 0.5)))
