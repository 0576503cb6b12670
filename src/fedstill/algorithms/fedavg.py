"""FedAvg: everyone trains the common model on, the parameters are averaged.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
arXiv:1602.05629. For learners that have parameters; all participants must choose the same kind and size.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedstill.labels import Parameters, Release
from fedstill.messages import Kind, Recipe
from fedstill.strategy import Ballot, Lesson, Strategy, weighted_mean


def fedavg(
    *, weights: Literal["size", "equal"] = "size", epochs: int = 5, learning_rate: float = 0.01, seed: int = 0
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
    seed:
        Seed of the common start.
    """

    def teach(ballot: Ballot) -> Lesson:
        mean = mean_of(ballot, weights)
        return Lesson(dict.fromkeys(ballot.parties, Release(parameters=mean)), memory=mean)

    recipe = Recipe(
        release=Kind.PARAMETERS,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        count=weights == "size",
    )
    return Strategy("fedavg", teach, recipe)


def mean_of(ballot: Ballot, kind: Literal["size", "equal"]) -> Parameters:
    """Mean of the votes' parameters or gradients, weighted by number of rows or not."""
    counts = [vote.release.count if kind == "size" else 1 for vote in ballot.votes]
    return weighted_mean([vote.release.parameters for vote in ballot.votes], np.array(counts))
