"""What an honest but curious party of a run has seen by its end, whoever it is.

The coordinator sees every answer. A participant sees what it was taught. Where answers are sealed, only their sums are
ever opened; that view is computed here from the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedstill.federation import Federation
from fedstill.labels import Array, Parameters, Party, Release, SoftLabels
from fedstill.messages import Answer, Kind, Recipe, Teach
from fedstill.round import Effect, Event, Received, Send, Started, Ticked
from fedstill.strategy import weighted_mean


@dataclass(frozen=True, eq=False)
class Said:
    """What an attacker saw of one answer: the round, the release, and the parameters that it started from, if any."""

    round: int
    release: Release
    start: Parameters | None
    recipe: Recipe


@dataclass(frozen=True, eq=False)
class Sight:
    """All that was said in a run, in order of rounds: by each participant, and to it."""

    said: Mapping[Party, Sequence[Said]]
    taught: Mapping[Party, Sequence[Said]]


Attacker = Callable[[Sight, Party], Sequence[Said]]
"""What an attacker has seen that follows from a participant's data."""


def sight(federation: Federation, seen: Iterable[Event | Effect]) -> Sight:
    """Go through the events of a run once more, and write down what was said.

    Parameters
    ----------
    federation:
        The federation that was run.
    seen:
        What happened, as an observer of the run is told it, or as `transports.log.read_events` reads it.
    """
    coordinator, coder = federation.coordinator, federation.agreement.coder
    memory = federation.strategy.memory
    start = memory if federation.strategy.parametric and isinstance(memory, Mapping) else None
    starts: dict[Party, Parameters | None] = dict.fromkeys(federation.plan.parties, start)
    said: dict[Party, list[Said]] = {party: [] for party in federation.plan.parties}
    taught: dict[Party, list[Said]] = {party: [] for party in federation.plan.parties}
    decoded: dict[bytes, Release] = {}
    state = coordinator.start()
    for event in seen:
        if not isinstance(event, Started | Received | Ticked):
            continue
        before = state
        state, effects = coordinator.step(state, event)
        if isinstance(event, Received) and isinstance(event.reply, Answer) and state is not before:
            party, recipe = event.reply.sender, federation.strategy.recipes[min(event.reply.question, 2) - 1]
            said[party].append(Said(event.reply.round, coder.decode(event.reply.payload), starts[party], recipe))
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Teach):
                lesson = effect.message
                if lesson.payload not in decoded:  # most are taught the same
                    decoded[lesson.payload] = coder.decode(lesson.payload)
                release = decoded[lesson.payload]
                taught[effect.to].append(Said(lesson.round, release, starts[effect.to], lesson.recipe))
                starts[effect.to] = release.parameters or None
    return Sight(said, taught)


def coordinator(sight: Sight, target: Party) -> Sequence[Said]:
    """All that the target itself has sent."""
    return sight.said[target]


def participant(sight: Sight, target: Party) -> Sequence[Said]:
    """What the next participant after the target, in order of names, was taught; the target had a part in it."""
    parties = sorted(sight.taught)
    return sight.taught[parties[(parties.index(target) + 1) % len(parties)]]


def sums(sight: Sight, target: Party) -> Sequence[Said]:
    """The mean of everybody's answers in each round: all that is opened where single answers are sealed."""
    del target  # it is the same for all
    rounds: dict[tuple[int, Recipe], list[Said]] = {}
    for answers in sight.said.values():
        for one in answers:
            rounds.setdefault((one.round, one.recipe), []).append(one)
    return [replace(answers[0], release=_mean([one.release for one in answers])) for answers in rounds.values()]


ATTACKERS: Mapping[str, Attacker] = {"coordinator": coordinator, "participant": participant, "sums": sums}
"""Who looks, by name."""


def _mean(releases: Sequence[Release]) -> Release:
    equal = np.ones(len(releases))
    labels = [one.labels for one in releases if one.labels is not None]
    sketches = np.array([one.sketch for one in releases if one.sketch is not None])
    values = np.mean([one.values for one in labels], axis=0) if labels else None
    return Release(
        labels=None if values is None else SoftLabels.of(labels[0].items, values, labels[0].space),
        parameters=weighted_mean([one.parameters for one in releases], equal) if releases[0].parameters else {},
        sketch=sketches.mean(axis=0) if len(sketches) else None,
    )


def stacked(runs: Sequence[Sequence[Said]]) -> Array:
    """What was said in several runs as rows of numbers, float64, shape (runs, f).

    Of parameters it is how far they moved. What was not said in a run, but in others, has the mean of these there.
    """
    told = [{(one.round, one.recipe): _numbers(one) for one in said} for said in runs]
    parts = [np.zeros((len(runs), 0))]
    for key in dict.fromkeys(key for one in told for key in one):
        mean: Array = np.mean([one[key] for one in told if key in one], axis=0)
        parts.append(np.stack([one.get(key, mean) for one in told]))
    return np.concatenate(parts, axis=1)


def _numbers(one: Said) -> Array:
    release, parts = one.release, [np.zeros(0)]
    if release.labels is not None:
        parts.append(release.labels.values.ravel())
    if release.sketch is not None:
        parts.append(release.sketch)
    for name in sorted(release.parameters):
        moved = np.asarray(release.parameters[name], np.float64)
        if one.start is not None and one.recipe.release is Kind.PARAMETERS:
            moved = moved - one.start.get(name, 0)
        parts.append(moved.ravel())
    return np.concatenate(parts).astype(np.float64)
