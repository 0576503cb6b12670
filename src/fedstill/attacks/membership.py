"""Membership: whether an attacker can tell that a participant learned from a given day.

Every world of `worlds.play` is attacked with all others but its opposite as shadows. The attacker has two statistics
(`scores`), and takes the one that does better, which is generous to it by very little with thousands of trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fedstill.attacks.reports import Estimate, Membership
from fedstill.attacks.scores import Query, by_direction, by_loss
from fedstill.attacks.sights import Attacker, stacked
from fedstill.attacks.worlds import World
from fedstill.evaluation.bootstrap import interval
from fedstill.labels import Array, Party

RESAMPLES = 200
RATES = (0.001, 0.01)
"""False-positive rates at which the true-positive rate is told."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was seen of one participant: numbers of each world (worlds, f), a fit (worlds, units), and the truth."""

    told: Array
    fit: Array
    there: Array

    def scores(self, statistic: str, shadows: Sequence[int], tested: Sequence[int]) -> Array:
        """Higher where a unit was rather there, shape (tested, units)."""
        if statistic == "direction":
            return by_direction(self.told, self.there, shadows, tested)
        return by_loss(self.fit, self.there, shadows, tested)


STATISTICS = ("direction", "loss")


def evidence(queries: Mapping[Party, Query], worlds: Sequence[World], attacker: Attacker) -> dict[Party, Evidence]:
    """What an attacker has seen of each participant, by what may be asked about it."""
    found = {}
    for party, ask in queries.items():
        saids = [attacker(world.sight, party) for world in worlds]
        there = np.stack([world.there[party] for world in worlds])
        found[party] = Evidence(stacked(saids), np.stack([ask(said) for said in saids]), there)
    return found


def membership(seen: Mapping[Party, Evidence], seed: int) -> Membership:
    """How well the attack does over all participants and worlds."""
    tried = {statistic: _trials(seen, statistic) for statistic in STATISTICS}
    statistic = max(STATISTICS, key=lambda name: auc(*_flat(tried[name])))
    cells = tried[statistic]
    scores, there = _flat(cells)
    random = np.random.default_rng(seed)
    drawn = [_flat([cells[i] for i in random.integers(0, len(cells), len(cells))]) for _ in range(RESAMPLES)]

    def estimate(function: Callable[[Array, Array], float]) -> Estimate:
        return Estimate(function(scores, there), *interval(np.array([function(*one) for one in drawn])))

    strict, loose = (estimate(lambda s, t, rate=rate: tpr(s, t, rate)) for rate in RATES)  # type: ignore[misc]
    return Membership(statistic, estimate(auc), strict, loose, int(there.sum()), int((~there).sum()))


def _trials(seen: Mapping[Party, Evidence], statistic: str) -> list[tuple[Array, Array]]:
    """Scores and truth of each participant in each world."""
    cells = []
    for one in seen.values():
        worlds = range(len(one.there))
        for pair in range(0, len(one.there), 2):
            tested = [pair, pair + 1]
            scores = one.scores(statistic, [world for world in worlds if world not in tested], tested)
            cells += [(scores[i], one.there[world]) for i, world in enumerate(tested)]
    return cells


def _flat(cells: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    return np.concatenate([scores for scores, _ in cells]), np.concatenate([there for _, there in cells])


def auc(scores: Array, there: Array) -> float:
    """Area under the ROC curve: how often a unit that was there scores higher than one that was not."""
    ranks = stats.rankdata(scores)
    members, others = int(there.sum()), int((~there).sum())
    if not members or not others:
        return float("nan")
    return float((ranks[there].sum() - members * (members + 1) / 2) / (members * others))


def tpr(scores: Array, there: Array, rate: float) -> float:
    """The share of what was there that is found where at most this share of what was not is taken for it."""
    others = np.sort(scores[~there])[::-1]
    if not len(others) or len(others) == len(scores):
        return float("nan")
    allowed = int(rate * len(others))
    return float((scores[there] > others[allowed]).mean()) if allowed < len(others) else 1.0
