"""The four messages of a round, and the recipe that travels inside them. Plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from fedstill.labels import Party


class Kind(StrEnum):
    """What a participant is asked to release."""

    LABELS = "labels"
    """Soft labels on the transfer set (federated distillation)."""
    SKETCH = "sketch"
    """A few numbers from which distances between soft labels can be told (see `grouping.sketch`)."""
    PARAMETERS = "parameters"
    """Model parameters after local training (FedAvg and its family)."""
    GRADIENTS = "gradients"
    """The gradient of the local loss at the shared parameters (FedSGD)."""


PARAMETRIC = (Kind.PARAMETERS, Kind.GRADIENTS)
"""What parameters travel in, or what belongs to them."""


class Part(StrEnum):
    """A part of a network's parameters; which ones are its head, the learner says."""

    NONE = "none"
    HEAD = "head"
    """The output layer."""
    BODY = "body"
    """All but the head: what makes a representation of the inputs."""


LEAST_CLIP, MOST_CLIP = 1e-9, 1e9
"""Clips below and above these are a mistake, or somebody's trick with the precision of numbers."""


def check_clip(clip: float) -> None:
    """Raise ValueError for a clip that cannot be; 0 is none."""
    if clip != 0 and not LEAST_CLIP <= clip <= MOST_CLIP:
        raise ValueError(f"clip = {clip} bounds nothing, use {LEAST_CLIP:g} to {MOST_CLIP:g}")


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
        Parameters: seed of the common start, so that averaging averages like with like. Sketch: seed of the projection,
        so that sketches compare.
    count:
        Ask for the number of private rows.
    score:
        Ask for the held-out loss of the model that speaks.
    proximal:
        Parameters: mu of the term mu/2 ||w - w_t||^2 that holds local training near its start w_t.
    tune:
        Parameters: passes over the private rows from the parameters taught, for the model that the participant keeps;
        what it shares goes on from the parameters taught. 0 keeps them as they are.
    home:
        Parameters: the part that never leaves a participant.
    clip:
        Parameters, gradients: everybody clips its update (what training has changed, or the gradient) to this L2 norm,
        and all that is made of the answers is their simple mean. 0: only who wants to clips, as it chooses.
    adaptive:
        Such an answer also tells whether its update was within the clip, and a question may name another clip.
    about:
        Distillation: what soft labels are about, the "items" of the transfer set, or the "classes": one row for each,
        the mean of what the model says of the private rows of that class.
    certainty:
        Distillation: weights of items by how dense the participant's own rows are there (see `density`): "hard"
        abstains where they are not, "soft" counts less. Empty: every item counts 1.
    cutoff:
        Distillation: the part of its own rows that "hard" takes to lie outside the participant's density, 0 to 1.
    sketch:
        Sketch: how many numbers it has.
    """

    release: Kind = Kind.LABELS
    share: float = 0.5
    epochs: int = 1
    learning_rate: float = 0.01
    seed: int = 0
    count: bool = False
    score: bool = False
    proximal: float = 0.0
    tune: int = 0
    home: Part = Part.NONE
    clip: float = 0.0
    adaptive: bool = False
    about: Literal["items", "classes"] = "items"
    certainty: Literal["", "hard", "soft"] = ""
    cutoff: float = 0.125
    sketch: int = 32

    def __post_init__(self) -> None:
        """Refuse recipes that no participant could follow."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"share = {self.share} is no share, use 0 to 1")
        if not 0 <= self.cutoff <= 1:
            raise ValueError(f"cutoff = {self.cutoff} is no share, use 0 to 1")
        if self.about == "classes" and (self.certainty or self.release is not Kind.LABELS):
            raise ValueError("about = classes needs an exchange of soft labels, without a certainty for each item")
        if self.certainty and self.release is Kind.SKETCH:
            raise ValueError("a sketch tells how unlike beliefs are, and has no room for a certainty for each item")
        if self.sketch < 1:
            raise ValueError(f"sketch = {self.sketch} tells nothing, use 1 number or more")
        if self.epochs < 1:
            raise ValueError(f"epochs = {self.epochs} train nothing, use 1 or more")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate = {self.learning_rate} leads nowhere, use a positive number")
        if not 0 <= self.proximal < math.inf:
            raise ValueError(f"proximal = {self.proximal} holds nothing near, use 0 or more")
        if self.tune < 0:
            raise ValueError(f"tune = {self.tune} is no number of epochs, use 0 or more")
        if self.home is not Part.NONE and self.release is not Kind.PARAMETERS:
            raise ValueError(f"home = {self.home} needs an exchange of parameters, not of {self.release}")
        check_clip(self.clip)
        if self.clip and self.release not in PARAMETRIC:
            raise ValueError(f"clip = {self.clip} needs an exchange of parameters, not of {self.release}")
        if self.adaptive and not self.clip:
            raise ValueError("an adaptive clip needs one to start from")


@dataclass(frozen=True)
class Ask:
    """Train, then release what the recipe says; soft labels are about all items of the transfer set.

    A round has one question, number 1; where an algorithm asks some participants on, the next have higher numbers.
    `clip` takes the place of an adaptive recipe's, so that all who answer have the same; 0 leaves that as it is.
    """

    round: int
    recipe: Recipe
    question: int = 1
    clip: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a clip that nobody could follow, or that nobody has agreed on."""
        check_clip(self.clip)
        if self.clip and not self.recipe.adaptive:
            raise ValueError("a question names a clip, and its recipe's is not adaptive")


@dataclass(frozen=True)
class Teach:
    """Learn from this release (encoded by the federation's codec)."""

    round: int
    recipe: Recipe
    payload: bytes


@dataclass(frozen=True)
class Answer:
    """A participant's release (encoded by the federation's codec); a view of it where it lies on a disk."""

    round: int
    sender: Party
    payload: bytes | memoryview
    question: int = 1


@dataclass(frozen=True)
class Refuse:
    """A participant does not answer a question; the reason names the kind of fault and shows no data."""

    round: int
    sender: Party
    reason: str
    question: int = 1


Message = Ask | Teach
Reply = Answer | Refuse
