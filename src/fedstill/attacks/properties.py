"""Properties of a participant as a whole: whether it works at night, whether it closes in August, what it has few of.

No privacy of days hides them, since they are in many days. In every world each participant has a property or not, by a
coin: its own data are changed so that it has it, as little as a real one would change them. The attacker learns what
the property does to what is said from all other participants, whose data it is assumed to have, and has never seen the
target with or without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedstill.attacks.membership import RESAMPLES, auc
from fedstill.attacks.reports import Estimate, Property
from fedstill.attacks.scores import discriminant
from fedstill.attacks.sights import Attacker, stacked
from fedstill.attacks.worlds import Tick, World, halves, heard
from fedstill.evaluation.bootstrap import interval
from fedstill.federation import Federation
from fedstill.labels import Array, Party
from fedstill.tasks.base import Change, Prepared


def play_with(
    federation: Federation,
    plain: Mapping[Party, Prepared],
    change: Change,
    pairs: int,
    seed: int,
    tick: Tick = lambda: None,
) -> list[World]:
    """Run the federation in so many pairs of worlds, in each of which half of the participants have the property."""
    changed = {
        one.name: federation.agreement.prepare(replace(one, data=change(one.data))) for one in federation.members
    }
    worlds = []
    for number, there in enumerate(halves(dict.fromkeys(plain, 1), pairs, seed)):
        mixed = {party: changed[party] if there[party][0] else one for party, one in plain.items()}
        worlds.append(World(there, heard(federation, mixed, f"/property/{seed}/{number}")))
        tick()
    return worlds


def told(worlds: Sequence[World], attacker: Attacker, seed: int) -> Property:
    """How well the property is told of each participant by an attacker who knows all others."""
    parties = sorted(worlds[0].there)
    seen = {party: stacked([attacker(world.sight, party) for world in worlds]) for party in parties}
    has = {party: np.array([world.there[party][0] for world in worlds]) for party in parties}
    scores = {party: _scores(seen, has, party) for party in parties}
    random = np.random.default_rng(seed)
    drawn = [random.choice(parties, len(parties)) for _ in range(RESAMPLES)]

    def estimate(function: Callable[[Array, Array], float]) -> Estimate:
        def over(chosen: Sequence[Party]) -> float:
            return function(np.concatenate([scores[p] for p in chosen]), np.concatenate([has[p] for p in chosen]))

        return Estimate(over(parties), *interval(np.array([over(list(chosen)) for chosen in drawn])))

    return Property(estimate(auc), estimate(_accuracy), sum(len(one) for one in has.values()))


def _scores(seen: Mapping[Party, Array], has: Mapping[Party, Array], target: Party) -> Array:
    """The discriminant of everybody else's releases, asked about the target's, shape (worlds,)."""
    others = [party for party in seen if party != target and seen[party].shape == seen[target].shape]
    if not others or not seen[target].size:
        return np.zeros(len(has[target]))
    known, there = (np.concatenate([part[party] for party in others]) for part in (seen, has))
    return discriminant(known, there[:, None], seen[target])[0][:, 0]


def _accuracy(scores: Array, there: Array) -> float:
    return float(((scores > 0) == there).mean())
