"""The four messages of a round, and the recipe that travels inside them. Plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from fedstill.labels import Party


class Kind(StrEnum):
    """What a participant is asked to release."""

    LABELS = "labels"
    """Soft labels on the transfer set (federated distillation)."""
    PARAMETERS = "parameters"
    """Model parameters after local training (FedAvg and its family)."""
    GRADIENTS = "gradients"
    """The gradient of the local loss at the shared parameters (FedSGD)."""


@dataclass(frozen=True)
class Recipe:
    """How a participant trains, what it releases and how it learns, set by the strategy.

    Because the recipe travels with every message, a participant needs no knowledge of the algorithm.

    Attributes
    ----------
    release:
        What is asked for.
    share:
        Distillation: the teacher's share of the total weight of the rows a student learns from, 0 to 1.
    epochs:
        Parameters: passes over the private rows in each round.
    learning_rate:
        Parameters: step size of local training; gradients: step size of the coordinator.
    seed:
        Parameters: seed of the common start, so that averaging averages like with like.
    count:
        Ask for the number of private rows.
    score:
        Ask for the held-out loss of the model that speaks.
    """

    release: Kind = Kind.LABELS
    share: float = 0.5
    epochs: int = 1
    learning_rate: float = 0.01
    seed: int = 0
    count: bool = False
    score: bool = False

    def __post_init__(self) -> None:
        """Refuse recipes that no participant could follow."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"share = {self.share} is no share, use 0 to 1")
        if self.epochs < 1:
            raise ValueError(f"epochs = {self.epochs} train nothing, use 1 or more")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate = {self.learning_rate} leads nowhere, use a positive number")


@dataclass(frozen=True)
class Ask:
    """Train, then release what the recipe says; soft labels are about all items of the transfer set."""

    round: int
    recipe: Recipe


@dataclass(frozen=True)
class Teach:
    """Learn from this release (encoded by the federation's codec)."""

    round: int
    recipe: Recipe
    payload: bytes


@dataclass(frozen=True)
class Answer:
    """A participant's release (encoded by the federation's codec)."""

    round: int
    sender: Party
    payload: bytes


@dataclass(frozen=True)
class Refuse:
    """A participant does not answer this round; the reason names the kind of fault and shows no data."""

    round: int
    sender: Party
    reason: str


Message = Ask | Teach
Reply = Answer | Refuse
