"""Runs as they could have been: the same federation with half of everybody's days, drawn by coins.

An attacker who tells whether a day was there is only told apart from one who guesses where the day was there in some
runs and missing in others, and chance alone decided. Worlds come in pairs: what is there in one is missing in the
other. So each day is there in half of all, and still is when a pair is left out: an average over the rest has nothing
to tell about the pair.

A day is there or not as something to learn from: its rows are. Rows of other days that look back on it stay, or a day
would be known by the rows that are missing next to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedstill.attacks.sights import Sight, sight
from fedstill.federation import Federation
from fedstill.labels import Array, Party
from fedstill.round import Effect, Event
from fedstill.tasks.base import Prepared


@dataclass(frozen=True, eq=False)
class World:
    """A run, and what was there in it.

    Attributes
    ----------
    there:
        Of each participant, which of its units were there: boolean, shape (units,), in the order of `np.unique` of
        `Site.units`; or, of a property, whether the participant has it, shape (1,).
    sight:
        What was said.
    """

    there: Mapping[Party, Array]
    sight: Sight


Tick = Callable[[], None]
"""Told after every world that was played."""


def halves(units: Mapping[Party, int], pairs: int, seed: int) -> list[dict[Party, Array]]:
    """Twice as many draws as pairs: a fair coin for each unit of each participant, then the other side of them all."""
    drawn = []
    for number in range(pairs):
        there = {
            party: np.random.default_rng([seed, number, index]).random(n) < 0.5
            for index, (party, n) in enumerate(sorted(units.items()))
        }
        drawn += [there, {party: ~half for party, half in there.items()}]
    return drawn


def play(
    federation: Federation,
    prepared: Mapping[Party, Prepared],
    pairs: int,
    seed: int,
    tick: Tick = lambda: None,
) -> list[World]:
    """Run the federation in so many pairs of worlds, each with half of everybody's units."""
    units = {party: np.unique(one.site.units) for party, one in prepared.items()}
    worlds = []
    for number, there in enumerate(halves({party: len(own) for party, own in units.items()}, pairs, seed)):
        half = {
            party: replace(one, site=one.site.of_units(units[party][there[party]])) for party, one in prepared.items()
        }
        worlds.append(World(there, heard(federation, half, f"/{seed}/{number}")))
        tick()
    return worlds


def heard(federation: Federation, prepared: Mapping[Party, Prepared], chance: str) -> Sight:
    """What is said in a run with these data."""
    events: list[Event | Effect] = []
    federation.answers(prepared, events.append, chance)
    return sight(federation, events)
