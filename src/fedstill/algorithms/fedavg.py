"""FedAvg: everyone trains the common model on, the parameters are averaged.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
arXiv:1602.05629. For learners that have parameters; all participants must choose the same kind and size.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from fedstill.grouping.votes import choose
from fedstill.labels import Parameters, Release
from fedstill.messages import Kind, Recipe
from fedstill.strategy import Audience, Ballot, Lesson, Strategy, weighted_mean

Weights = Literal["size", "equal"]
"""How much a participant counts in a mean of parameters: by its number of rows, or as much as all others."""


def fedavg(
    *, weights: Weights = "size", epochs: int = 5, learning_rate: float = 0.01, tune: int = 0, seed: int = 0
) -> Strategy:
    """Everyone trains the common model on, the parameters are averaged (FedAvg).

    Parameters
    ----------
    weights:
        "size" weighs a participant by its number of rows, which it then has to tell; "equal" is the simple mean.
    epochs:
        Passes over the private rows in each round.
    learning_rate:
        Step size of local training.
    tune:
        Passes over the private rows by which the model that a participant keeps is fitted to them after each round
        ("FedAvg + fine-tuning"); it shares the model as it was taught. 0: it keeps the common model.
    seed:
        Seed of the common start.
    """
    recipe = training(weights, epochs, learning_rate, seed, tune=tune)
    return Strategy("fedavg", averaging(weights), recipe)


def training(weights: Weights, epochs: int, learning_rate: float, seed: int, **more: Any) -> Recipe:
    """What all that average parameters ask for; `more` are further fields of the recipe."""
    return Recipe(
        release=Kind.PARAMETERS,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        count=weights == "size",
        **more,
    )


def averaging(weights: Weights) -> Audience:
    """Teach all the mean of the votes' parameters, which is also what is remembered."""
    check_weights(weights)

    def teach(ballot: Ballot) -> Lesson:
        mean = mean_of(ballot, weights)
        return Lesson(dict.fromkeys(ballot.parties, Release(parameters=mean)), memory=mean)

    return teach


def check_weights(weights: str) -> None:
    """Raise ConfigError for weights that there are not, before anybody has trained."""
    choose(weights, dict.fromkeys(("size", "equal")), "weights")


def mean_of(ballot: Ballot, kind: Weights) -> Parameters:
    """Mean of the votes' parameters or gradients, weighted by number of rows or not."""
    counts = [vote.release.count if kind == "size" else 1 for vote in ballot.votes]
    return weighted_mean([vote.release.parameters for vote in ballot.votes], np.array(counts))
