"""Algorithms as records of pure functions: what to ask for, and how answers become teachers.

A new algorithm is one function that returns a `Strategy`; see `algorithms/fedmd.py` for the shortest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedstill.labels import Array, Outputs, Parameters, Party, Release, SoftLabels, Space
from fedstill.messages import Kind, Recipe

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


@dataclass(frozen=True)
class Lesson:
    """What a round teaches.

    Attributes
    ----------
    teachers:
        What each participant is to learn from; who is missing here learns nothing this round.
    groups:
        Who was found alike, for the record; empty where the algorithm does not group.
    memory:
        What the strategy remembers for the next round.
    """

    teachers: Mapping[Party, Release]
    groups: tuple[tuple[Party, ...], ...] = ()
    memory: Any = None


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
    """

    votes: Sequence[Vote]
    parties: Sequence[Party]
    outputs: Outputs
    memory: Any = None


Audience = Callable[[Ballot], Lesson]
"""Who learns what from whom."""


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
    """

    name: str
    teach: Audience
    recipe: Recipe
    memory: Any = None
    rounds: int | None = field(default=None, kw_only=True)
    pooled: bool = field(default=False, kw_only=True)

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
    """Let a strategy that exchanges soft labels teach from two made-up votes, before anybody has trained.

    Raises
    ------
    ConfigError
        Where its options do not fit what is predicted.
    """
    if strategy.recipe.release is not Kind.LABELS:
        return
    k = len(outputs)
    row = np.linspace(-1, 1, k) if outputs.space is Space.QUANTILES else np.full(k, 1 / k)
    labels = SoftLabels.of(np.arange(2), np.tile(row, (2, 1)), outputs.space)
    release = Release(labels=labels, count=1, score=1.0)
    strategy.teach(Ballot([Vote("a", release), Vote("b", release)], ["a", "b"], outputs, strategy.memory))


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
