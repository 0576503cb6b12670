"""FedAvg: everyone trains the common model on, the parameters are averaged.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
arXiv:1602.05629. For learners that have parameters; all participants must choose the same kind and size.

A mean follows one liar anywhere. In its place the median of each number, or its trimmed mean, withstands some: Yin,
Chen, Ramchandran and Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018,
arXiv:1803.01498. There it is of gradients, here of parameters after some epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from fedstill.grouping.votes import choose
from fedstill.labels import Array, Parameters, Release
from fedstill.messages import Kind, Recipe
from fedstill.strategy import Audience, Ballot, Lesson, Strategy, weighted_mean

Weights = Literal["size", "equal"]
"""How much a participant counts in a mean of parameters: by its number of rows, or as much as all others."""


Combine = Literal["mean", "median", "trimmed"]
"""How many parameters become one."""


def fedavg(
    *,
    aggregate: Combine = "mean",
    weights: Weights = "size",
    epochs: int = 5,
    learning_rate: float = 0.01,
    tune: int = 0,
    seed: int = 0,
) -> Strategy:
    """Everyone trains the common model on, the parameters are averaged (FedAvg).

    Parameters
    ----------
    aggregate:
        "mean" as published; "median", or "trimmed", the mean without the lowest and the highest fifth, of each number
        by itself. In these two all participants count alike, whatever `weights` says, and no number of rows is asked
        for: it is a claim that nobody can check.
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
    check_weights(weights)
    rule = choose(aggregate, {"mean": None, **ROBUST}, "aggregate")
    if rule is None:
        return Strategy("fedavg", averaging(weights), training(weights, epochs, learning_rate, seed, tune=tune))

    def teach(ballot: Ballot) -> Lesson:
        found = robust([vote.release.parameters for vote in ballot.votes], rule)
        return Lesson(dict.fromkeys(ballot.parties, Release(parameters=found)), memory=found)

    return Strategy("fedavg", teach, training("equal", epochs, learning_rate, seed, tune=tune))


def trimmed(stacked: Array) -> Array:
    """Mean down the first axis, shape (K, ...), without a fifth of the K, rounded up, at either end, if any is left."""
    cut = min((len(stacked) + 4) // 5, (len(stacked) - 1) // 2)
    return np.asarray(np.sort(stacked, axis=0)[cut : len(stacked) - cut].mean(axis=0))


def _median(stacked: Array) -> Array:
    return np.asarray(np.median(stacked, axis=0))


ROBUST: Mapping[str, Callable[[Array], Array]] = {"median": _median, "trimmed": trimmed}
"""What withstands liars: K numbers in each place, shape (K, ...), to one."""


def robust(parameters: Sequence[Parameters], rule: Callable[[Array], Array]) -> Parameters:
    """Named arrays put together number by number, in float64."""
    return {name: rule(np.stack([np.asarray(one[name], np.float64) for one in parameters])) for name in parameters[0]}


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
