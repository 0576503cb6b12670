"""FedSGD: everyone computes the gradient of its loss at the common parameters; one step follows their mean.

McMahan et al. 2017, arXiv:1602.05629, section 2: FedAvg with one full batch a round, written with gradients. One
step a round is slow and costs as many bytes as FedAvg; it is the reference that federated optimisers start from.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedstill.algorithms.fedavg import mean_of
from fedstill.labels import Release
from fedstill.messages import Kind, Recipe
from fedstill.strategy import Ballot, Lesson, Strategy


def fedsgd(*, weights: Literal["size", "equal"] = "size", learning_rate: float = 0.1, seed: int = 0) -> Strategy:
    """One step a round along the mean of everyone's gradients (FedSGD).

    Parameters
    ----------
    weights:
        "size" weighs a participant by its number of rows, "equal" is the simple mean.
    learning_rate:
        The coordinator's step along the mean gradient.
    seed:
        Seed of the common start.
    """

    def teach(ballot: Ballot) -> Lesson:
        gradient, at = mean_of(ballot, weights), ballot.memory
        stepped = {name: np.asarray(at[name], np.float64) - learning_rate * gradient[name] for name in at}
        return Lesson(dict.fromkeys(ballot.parties, Release(parameters=stepped)), memory=stepped)

    recipe = Recipe(release=Kind.GRADIENTS, learning_rate=learning_rate, seed=seed, count=weights == "size")
    return Strategy("fedsgd", teach, recipe)
