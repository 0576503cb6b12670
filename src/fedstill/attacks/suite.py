"""All attacks on one run, with the same attacker, data and effort for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

from fedstill.attacks.auditing import audit
from fedstill.attacks.batches import batch_curve
from fedstill.attacks.membership import evidence, membership
from fedstill.attacks.properties import play_with, told
from fedstill.attacks.reconstruction import reconstruct
from fedstill.attacks.reports import AttackReport
from fedstill.attacks.scores import query
from fedstill.attacks.sights import ATTACKERS, Sight, sight
from fedstill.attacks.worlds import play
from fedstill.errors import ConfigError
from fedstill.federation import Federation
from fedstill.labels import Party
from fedstill.privacy.spending import Unit
from fedstill.round import Effect, Event
from fedstill.tasks.base import Prepared

Attack = Literal["membership", "reconstruction", "property", "audit"]
ATTACKS: tuple[Attack, ...] = get_args(Attack)
LEAST_PAIRS = 4
"""Of worlds: with fewer there are no shadows left to compare with."""


def attack(
    federation: Federation,
    seen: Iterable[Event | Effect],
    *,
    attacks: Sequence[Attack] = ATTACKS,
    worlds: int = 16,
    seed: int = 0,
    tick: Callable[[str], None] = lambda _: None,
) -> AttackReport:
    """Attack a run as an honest but curious coordinator, as a participant, and as who sees opened sums alone.

    Parameters
    ----------
    federation:
        The federation that was run.
    seen:
        What happened, as `Federation.run` tells its observer, or as `transports.log.read_events` reads it.
    attacks:
        Which ones.
    worlds:
        Runs with half of the data that are played for membership and audit together, even; half as many for each
        property.
    seed:
        Of what is there in them.
    tick:
        Told what was done, after every run that is played (`effort` of them).

    Raises
    ------
    ConfigError
        Where there is no exchange to attack, or too few worlds.
    """
    if not federation.coordinator.rounds:
        raise ConfigError(
            f"'{federation.strategy.name}' exchanges nothing",
            where="strategy",
            remedy="Attack a run of an algorithm with rounds",
        )
    if worlds % 2 or worlds < 2 * LEAST_PAIRS:
        raise ConfigError(
            f"{worlds} worlds are no pairs, or too few",
            where="worlds",
            remedy=f"Use an even number from {2 * LEAST_PAIRS}",
        )
    report = AttackReport(
        strategy=federation.strategy.name,
        participants=len(federation.members),
        worlds=worlds,
        seed=seed,
        unit=federation.task.units[0],
    )
    prepared = federation.prepare()
    if {"membership", "audit"} & set(attacks):
        _of_units(federation, prepared, report, attacks, seed, tick)
    if "reconstruction" in attacks:
        _reconstruct(federation, prepared, report, sight(federation, seen), seed)
    if "property" in attacks:
        report.property = {}
        for name, change in federation.task.properties.items():
            played = play_with(federation, prepared, change, worlds // 4, seed, lambda name=name: tick(name))  # type: ignore[misc]
            report.property[name] = {by: told(played, attacker, seed) for by, attacker in ATTACKERS.items()}
    return report


def _reconstruct(
    federation: Federation, prepared: Mapping[Party, Prepared], report: AttackReport, seen: Sight, seed: int
) -> None:
    task, transfer = federation.task, federation.transfer
    speak = [party for party, said in seen.said.items() if said]
    report.reconstruction = {}
    for by, attacker in ATTACKERS.items():
        said = {party: attacker(seen, party) for party in speak}
        if sum(bool(one) for one in said.values()) > 1:  # an attack learns from the others
            found = reconstruct(said, prepared, transfer, task, federation.makes, seed=seed)
            report.reconstruction[by] = found
    if federation.strategy.parametric:
        recipe = federation.strategy.recipe
        points = batch_curve(prepared, transfer, task, federation.makes, seed=seed, recipe=recipe)
        report.reconstruction_by_days = list(points)


def effort(federation: Federation, attacks: Sequence[Attack], worlds: int) -> int:
    """How many runs are played."""
    of_units = bool({"membership", "audit"} & set(attacks))
    of_properties = ("property" in attacks) * len(federation.task.properties)
    return worlds * of_units + worlds // 4 * 2 * of_properties


def _of_units(
    federation: Federation,
    prepared: Mapping[Party, Prepared],
    report: AttackReport,
    attacks: Sequence[Attack],
    seed: int,
    tick: Callable[[str], None],
) -> None:
    played = play(federation, prepared, report.worlds // 2, seed, lambda: tick("membership"))
    speak = [party for party in prepared if any(world.sight.said[party] for world in played)]
    queries = {party: query(federation, party, prepared[party].site.rows) for party in speak}
    found = {by: evidence(queries, played, attacker) for by, attacker in ATTACKERS.items()}
    if "membership" in attacks:
        report.membership = {by: membership(one, seed) for by, one in found.items()}
    if "audit" in attacks:
        epsilon, delta = _promised(federation, speak)
        report.audit = {by: audit(one, delta, epsilon) for by, one in found.items()}


def _promised(federation: Federation, speak: Iterable[Party]) -> tuple[float, float]:
    """The largest budget of all who speak, for the unit that is attacked; infinite where one has none for it."""
    of = {one.name: one.privacy.budget for one in federation.members}
    budgets = [of[party] for party in speak]
    covered = (federation.task.units[0], Unit.PARTICIPANT)
    epsilon = max((one.epsilon if one.unit in covered else math.inf for one in budgets), default=math.inf)
    return epsilon, min((one.delta for one in budgets), default=1e-5)
