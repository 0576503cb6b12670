"""Algorithms as records of pure functions: what to ask for, and how answers become teachers.

A new algorithm is one function that returns a `Strategy`; see `algorithms/fedmd.py` for the shortest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fedstill.labels import Array, Outputs, Parameters, Party, Release, SoftLabels, Space
from fedstill.messages import PARAMETRIC, Kind, Recipe

Aggregate = Callable[[Sequence[SoftLabels], Array], SoftLabels]
"""Many voices and their weights, shape (K,), to one teacher."""


@dataclass(frozen=True)
class Vote:
    """One participant's checked release."""

    party: Party
    release: Release

    @property
    def labels(self) -> SoftLabels:
        """The soft labels, where the recipe asked for them."""
        if self.release.labels is None:
            raise ValueError("this strategy needs soft labels, its recipe asks for something else")
        return self.release.labels

    @property
    def sketch(self) -> Array:
        """The sketch of soft labels, where the recipe asked for one."""
        if self.release.sketch is None:
            raise ValueError("this strategy needs sketches, its recipe asks for something else")
        return self.release.sketch


@dataclass(frozen=True)
class FollowUp:
    """Another question in the same round, to some participants, by the strategy's recipe for it.

    Attributes
    ----------
    turns:
        Who is asked: those of the first turn; those of the next one only where nobody of the turn before answers, and
        so on. One answer is enough to teach.
    memory:
        What the strategy remembers until they have answered. A round that fails leaves nothing of it.
    """

    turns: tuple[tuple[Party, ...], ...]
    memory: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Lesson:
    """What a round teaches, or whom it asks on before it does.

    Attributes
    ----------
    teachers:
        What each participant is to learn from; who is missing here learns nothing this round.
    groups:
        Who was found alike, for the record; empty where the algorithm does not group.
    memory:
        What the strategy remembers for the next round.
    follow_up:
        Another question; the round then teaches from its answers, and what else this lesson holds does not count.
    """

    teachers: Mapping[Party, Release] = field(default_factory=dict)
    groups: tuple[tuple[Party, ...], ...] = ()
    memory: Any = None
    follow_up: FollowUp | None = None


@dataclass(frozen=True)
class Ballot:
    """What a round has to teach from.

    Attributes
    ----------
    votes:
        The checked releases, in order of party; never empty.
    parties:
        All participants, whether they answered or not.
    outputs:
        What every model of the federation predicts.
    memory:
        What the strategy remembered from the round before.
    inputs:
        Inputs of the transfer set, shape (n, f); None where the coordinator was not given them.
    follow_up:
        The further question that these votes answer; None: they answer the one that everybody was asked.
    """

    votes: Sequence[Vote]
    parties: Sequence[Party]
    outputs: Outputs
    memory: Any = None
    inputs: Array | None = field(default=None, compare=False)
    follow_up: FollowUp | None = None


Audience = Callable[[Ballot], Lesson]
"""Who learns what from whom."""


def _no_clip(memory: Any) -> float:
    del memory
    return 0.0


@dataclass(frozen=True)
class Strategy:
    """An algorithm.

    Attributes
    ----------
    name:
        Its name in a federation file.
    teach:
        How their answers become teachers.
    recipe:
        What participants are asked to do.
    memory:
        What `teach` starts from; for parameter algorithms the common start parameters.
    rounds:
        0 for references that never talk (`local`, `pooled`); None leaves it to the plan.
    pooled:
        True for the reference that breaks the rule: everyone trains on everyone's rows.
    follow_up:
        What those are asked to do whom a lesson asks on; None: a round has one question. So all that can leave a site
        is known before a run.
    clip:
        The clip of the next question, from what is remembered, where the recipe is adaptive; 0: the recipe's own.
    """

    name: str
    teach: Audience
    recipe: Recipe
    memory: Any = None
    rounds: int | None = field(default=None, kw_only=True)
    pooled: bool = field(default=False, kw_only=True)
    follow_up: Recipe | None = field(default=None, kw_only=True)
    clip: Callable[[Any], float] = field(default=_no_clip, kw_only=True)

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """All that participants may be asked to do in a round."""
        return (self.recipe,) if self.follow_up is None else (self.recipe, self.follow_up)

    def scored(self) -> Strategy:
        """The same, with every participant telling the held-back loss of its model in each answer."""
        further = None if self.follow_up is None else replace(self.follow_up, score=True)
        return replace(self, recipe=replace(self.recipe, score=True), follow_up=further)

    @property
    def parametric(self) -> bool:
        """Whether parameters or gradients travel, so that all models must start alike."""
        return any(recipe.release in PARAMETRIC for recipe in self.recipes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]] | None:
        """Shapes that released parameters must have, where the memory holds a start to compare with."""
        if not isinstance(self.memory, Mapping):
            return None
        return {name: np.shape(array) for name, array in self.memory.items()}


def everyone(aggregate: Aggregate) -> Audience:
    """One teacher for all, from all who answered, each counting alike."""

    def teach(ballot: Ballot) -> Lesson:
        voices = [vote.labels for vote in ballot.votes]
        teacher = Release(labels=aggregate(voices, np.ones(len(voices))))
        return Lesson(dict.fromkeys(ballot.parties, teacher))

    return teach


def rehearse(strategy: Strategy, outputs: Outputs) -> None:
    """Let a strategy that exchanges beliefs teach from two made-up votes, before anybody has trained.

    Raises
    ------
    ConfigError
        Where its options do not fit what is predicted.
    """
    if strategy.parametric:
        return
    k = len(outputs)
    row = np.linspace(-1, 1, k) if outputs.space is Space.QUANTILES else np.full(k, 1 / k)
    labels = SoftLabels.of(np.arange(2), np.tile(row, (2, 1)), outputs.space)

    def votes(recipe: Recipe) -> list[Vote]:
        sketch = np.zeros(recipe.sketch, np.float32)
        release = Release(sketch=sketch) if recipe.release is Kind.SKETCH else Release(labels=labels)
        return [Vote(party, replace(release, count=1, score=1.0)) for party in ("a", "b")]

    ballot = Ballot(votes(strategy.recipe), ["a", "b"], outputs, strategy.memory, np.array([[0.0], [1.0]]))
    asked = strategy.teach(ballot).follow_up
    if asked is not None and strategy.follow_up is not None:
        said = [vote for vote in votes(strategy.follow_up) if vote.party in asked.turns[0]]
        strategy.teach(replace(ballot, votes=said, follow_up=asked))


def nobody(ballot: Ballot) -> Lesson:
    """No teacher for anyone: what the references do."""
    del ballot
    return Lesson({})


def weighted_mean(parameters: Sequence[Parameters], weights: Array) -> Parameters:
    """Mean of named arrays, weighted, in float64; the weights need not sum to 1."""
    shares = np.asarray(weights, np.float64)
    shares = shares / shares.sum()  # in float64 from the start: whole numbers that participants tell can overflow
    return {
        name: np.tensordot(shares, np.stack([np.asarray(one[name], np.float64) for one in parameters]), 1)
        for name in parameters[0]
    }
