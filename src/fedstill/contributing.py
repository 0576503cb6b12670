"""Who helps whom in a simulation: the teacher of a run, made again without some of the voices.

Nobody trains again for it but a cheap student of each teacher. What a coalition of voices is worth is told in one of
two ways:

* "loss": what the algorithm makes of these voices alone is taught to a student with no rows of its own, and the student
  is judged on every participant's test days, which only a simulation can see: the share of the loss of the
  participant's floor that it saves. Nobody's voice saves nothing.
* "agreement": how near that teacher comes to the teacher of all, from 0, as far as one that says nothing, to 1. Whoever
  has everybody's answers, an auditor for one, can compute it, and it says who is like the others, not who is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from fedstill import plugins
from fedstill.errors import ConfigError
from fedstill.evaluation.contributions import Contributions, Game, shared_out
from fedstill.federation import Federation
from fedstill.grouping.votes import choose, stand_in
from fedstill.labels import Array, Party, SoftLabels
from fedstill.learners.base import Learner
from fedstill.round import Effect, Event, Received, Started, Ticked
from fedstill.sites import loss
from fedstill.strategy import Ballot, Lesson

VALUES = {
    "loss": "share of the floor's loss that a student of the teacher saves on the test days",
    "agreement": "how near the teacher comes to that of all",
}

Teachers = Callable[[frozenset[Party]], Mapping[Party, SoftLabels]]
"""What a coalition's voices teach each participant; whom it teaches nothing is missing."""


def contributions(
    federation: Federation,
    seen: Iterable[Event | Effect],
    *,
    value: Literal["loss", "agreement"] = "loss",
    learner: str = "linear",
    pairs: int = 100,
    tolerance: float = 0.0,
    seed: int = 0,
) -> Contributions:
    """What each participant contributed to the last teacher of a run.

    Parameters
    ----------
    federation:
        The federation that was run.
    seen:
        What happened, as `Federation.run` tells its observer, or as `transports.log.read_events` reads it.
    value:
        What a coalition of voices is worth, see above.
    learner:
        The student's kind of model, for "loss".
    pairs, tolerance, seed:
        With more than eight who spoke, see `evaluation.contributions.sampled`.

    Raises
    ------
    ConfigError
        Where no soft labels of items were exchanged, or there is no such value.
    """
    words = choose(value, VALUES, "value")
    ballot = _last(federation, seen)
    teachers = _teachers(federation, ballot)
    game = _saving(federation, teachers, learner) if value == "loss" else _agreement(federation, ballot, teachers)
    players = [vote.party for vote in ballot.votes]
    return shared_out(game, players, federation.plan.parties, words, pairs=pairs, tolerance=tolerance, seed=seed)


def _last(federation: Federation, seen: Iterable[Event | Effect]) -> Ballot:
    """What the last lesson of a run was made from, found by going through the run once more."""
    ballots: list[Ballot] = []

    def teach(ballot: Ballot) -> Lesson:
        ballots.append(ballot)
        return federation.strategy.teach(ballot)

    watched = replace(federation.coordinator, strategy=replace(federation.strategy, teach=teach))
    watched.replay(event for event in seen if isinstance(event, Started | Received | Ticked))
    about_items = federation.agreement.distils and federation.strategy.recipe.about == "items"
    if not ballots or not about_items:
        raise ConfigError(
            f"'{federation.strategy.name}' made no teacher of soft labels about the transfer set",
            where="strategy",
            remedy="Choose an algorithm that distils, such as grouped or fedmd",
        )
    return ballots[-1]


def _teachers(federation: Federation, ballot: Ballot) -> Teachers:
    def of(coalition: frozenset[Party]) -> dict[Party, SoftLabels]:
        votes = [vote for vote in ballot.votes if vote.party in coalition]
        taught = federation.strategy.teach(replace(ballot, votes=votes)).teachers if votes else {}
        return {
            party: one.labels for party, one in taught.items() if one.labels is not None and one.labels.weight.any()
        }

    return of


def _saving(federation: Federation, teachers: Teachers, learner: str) -> Game:
    """1 - loss of the student / loss of the floor, for each participant."""
    outputs, inputs, prepared = federation.task.outputs, federation.agreement.inputs, federation.prepare()
    exams = {party: one.examination for party, one in prepared.items()}
    floors = {
        party: loss(outputs, exams[party].targets, one.site.floor.predict(exams[party].X))
        for party, one in prepared.items()
    }

    def student(teacher: SoftLabels) -> Learner:
        none = np.empty((0, inputs.shape[1])), np.empty(0)
        built: Learner = plugins.build("learners", learner, {"seed": federation.seed}, outputs, where="learner")
        return built.distil(*none, inputs, teacher.values, teacher.weight, 1.0)

    def game(coalition: frozenset[Party]) -> Array:
        taught = teachers(coalition)
        students = {key: student(teacher) for key, teacher in {id(one): one for one in taught.values()}.items()}

        def saved(party: Party) -> float:
            if party not in taught or not floors[party] > 0:
                return 0.0
            said = students[id(taught[party])].predict(exams[party].X)
            return 1 - loss(outputs, exams[party].targets, said) / floors[party]

        return np.array([saved(party) for party in federation.plan.parties])

    return game


def _agreement(federation: Federation, ballot: Ballot, teachers: Teachers) -> Game:
    """1 - distance to the teacher of all / distance of saying nothing from it, for each participant."""
    outputs = federation.task.outputs
    whole = teachers(frozenset(vote.party for vote in ballot.votes))
    nothing = stand_in(outputs.space, len(outputs))

    def game(coalition: frozenset[Party]) -> Array:
        taught = teachers(coalition)

        def near(party: Party) -> float:
            if party not in taught or party not in whole:
                return 0.0
            target = whole[party].values.astype(np.float64)
            farthest = np.abs(nothing - target).mean()
            return float(1 - np.abs(taught[party].values - target).mean() / farthest) if farthest > 0 else 0.0

        return np.array([near(party) for party in federation.plan.parties])

    return game
