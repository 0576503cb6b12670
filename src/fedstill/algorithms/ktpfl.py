"""KT-pFL: a teacher for each, mixed of all soft labels by weights that are learned from round to round.

Zhang et al., "Parameterized Knowledge Transfer for Personalized Federated Learning", NeurIPS 2021, arXiv:2111.02862.
Participant i learns from sum_j c_ij z_j. Its weights c_i lower

    |z_i - sum_j c_ij z_j|^2 + penalty x |c_i - 1/K|^2

so they favour those who say the like, and the penalty keeps everybody heard.

What is ours: the authors' code takes gradient steps of a size that it tunes and then sets c_i = softmax(5 c_i), which
draws weights back to 1/K wherever K > 5 (its slope there is 5/K). We descend by exponentiated gradients (Kivinen &
Warmuth 1997), which stay on the simplex by themselves, with a step that cannot overshoot. The first term is in units
of the mean squared distance between two participants, so that the penalty means the same for classes and forecasts.
For forecasts the labels are quantiles in place of probabilities, and the loss is the same squared error.
"""

from __future__ import annotations

import math

import numpy as np

from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import weighted
from fedstill.grouping.votes import average, stack
from fedstill.labels import Array, Release
from fedstill.messages import Recipe
from fedstill.strategy import Ballot, Lesson, Strategy

_LEAST = 1e-9
"""Weights stay above this: one that vanished could never grow again."""


def ktpfl(*, penalty: float = 0.5, steps: int = 50, share: float = 0.5) -> Strategy:
    """A teacher for each, of weights that favour who says the like (KT-pFL).

    Parameters
    ----------
    penalty:
        What holds weights near 1/K; large, and it is FedMD; 0, and everyone ends with its own words.
    steps:
        Steps of the weights in each round, from where they were.
    share:
        The teacher's share of the weight a student learns from, 0 to 1.
    """
    if not 0 <= penalty < math.inf:
        raise ConfigError(f"{penalty} is no penalty", where="penalty", remedy="Use 0 or more")
    if steps < 1:
        raise ConfigError(f"{steps} steps learn nothing", where="steps", remedy="Use 1 or more")

    def teach(ballot: Ballot) -> Lesson:
        place = {party: i for i, party in enumerate(ballot.parties)}
        here = [place[vote.party] for vote in ballot.votes]
        labels = [vote.labels for vote in ballot.votes]
        k = len(place)
        memory = np.full((k, k), 1 / k) if ballot.memory is None else np.array(ballot.memory)
        gaps = _products(*stack(labels))
        for voter, i in enumerate(here):
            heard = memory[i, here].sum()  # who did not answer keeps its weight for when it does
            memory[i, here] = heard * _learned(gaps[voter], memory[i, here] / heard, penalty, steps)
        teachers = {party: Release(labels=weighted(labels, memory[i, here])) for party, i in place.items()}
        return Lesson(teachers, memory=memory)

    return Strategy("ktpfl", teach, Recipe(share=share))


def _products(values: Array, weights: Array) -> Array:
    """Mean inner products of what j and l say beyond i, (K, K, K) by i, j, l, in units of the mean of all (i, j, j)."""
    known = weights > 0
    # Whoever is silent on an item is taken to say the mean there.
    filled = np.where(known[..., None], values, average(values, weights)).reshape(len(values), -1)
    size = np.max(np.abs(filled), initial=0.0)
    filled = filled - filled.mean(axis=0)  # before products of large numbers swallow their differences
    inner = filled @ filled.T / filled.shape[1]
    own = np.diagonal(inner)
    products = inner[None] - inner[:, None, :] - inner[:, :, None] + own[:, None, None]
    apart = np.einsum("ijj->ij", products)[~np.eye(len(values), dtype=bool)]
    unit = apart.mean() if apart.size else 0.0
    differ = unit > 1e-14 * size**2  # by more than float32 rounds
    return np.asarray(products / unit if differ else np.zeros_like(products))


def _learned(products: Array, weights: Array, penalty: float, steps: int) -> Array:
    """Weights (K,) after some steps down c' P c + penalty |c - 1/K|^2 on the simplex."""
    steepest = 2 * np.abs(products).max() + 2 * penalty
    if steepest == 0:
        return weights
    for _ in range(steps):
        slope = 2 * products @ weights + 2 * penalty * (weights - 1 / len(weights))
        weights = weights * np.exp((slope.min() - slope) / steepest)
        weights = np.maximum(weights, _LEAST)
        weights = weights / weights.sum()
    return weights
