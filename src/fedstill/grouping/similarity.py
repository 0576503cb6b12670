"""How unlike two participants are, by what they say of the same items.

Each pair is compared on the items that both speak about. An item counts the product of the two weights, so
that what either abstains on counts nothing. Between participants that weigh all items alike "js" and
"wasserstein" are metrics; with unlike abstentions different pairs are compared on different items and the
triangle inequality may fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy.special import entr

from fedstill.grouping.votes import choose, levels_of, stack
from fedstill.labels import Array, SoftLabels, Space

Measure = Callable[[Array, Array, Array, Array], float]
"""Beliefs of two participants, (n, k) each, weights of items (n,) that sum to 1, masses of columns (k,)."""

SMALLEST_PROBABILITY = 1e-6
"""Probabilities are lifted to this before a logarithm of their ratio: near the resolution of float32."""


def distances(votes: Sequence[SoftLabels], kind: str, *, levels: Sequence[float] | None = None) -> Array:
    """Distance between every two participants.

    Parameters
    ----------
    votes:
        K soft labels about the same n items.
    kind:
        * "js" (probabilities): Jensen-Shannon distance, the root of the divergence in nats; at most
          sqrt(ln 2). Mean over items. Endres & Schindelin 2003.
        * "kl" (probabilities): mean of the Kullback-Leibler divergences in both directions, in nats, of
          probabilities lifted to `SMALLEST_PROBABILITY`. Mean over items. Not a metric.
        * "wasserstein": Wasserstein-1. For quantiles the mean of |q_i - q_j| over the probability mass each
          level stands for, in the unit of the labels; for probabilities, as classes have no order, the
          distance under the discrete metric, which is total variation. Mean over items.
        * "cosine": 1 - cosine of the beliefs about all items in one vector; from 0 to 2. A vector of zeros is
          at 0 from another and at 1 from all else.
        * "auto": "js" for probabilities, "wasserstein" for quantiles.
    levels:
        Quantile levels of the columns, for "wasserstein"; None gives every column the same mass.

    Returns
    -------
    Array
        Shape (K, K), float64, symmetric, zero diagonal. Two participants that share no item are put as far
        apart as the farthest two that do share one, or at 1 where no two do.

    Raises
    ------
    ConfigError
        There is no such kind for the space of the votes; the error names those there are.
    ValueError
        The votes differ in items, columns or space, or `levels` does not fit their columns.
    """
    values, weights = stack(votes)
    space = votes[0].space
    measure = choose(kind, MEASURES[space], f"similarity of {space}")
    masses = column_masses(space, values.shape[2], levels)
    if space == Space.PROBABILITIES:
        sums = values.sum(axis=2, keepdims=True)
        values = values / np.where(sums > 0, sums, 1.0)  # rows of float32 miss 1 by a little

    found = np.full((len(votes), len(votes)), np.nan)
    np.fill_diagonal(found, 0.0)
    for i, j in combinations(range(len(votes)), 2):
        common = weights[i] * weights[j]
        if (total := common.sum()) > 0:
            found[i, j] = found[j, i] = measure(values[i], values[j], common / total, masses)
    apart = ~np.eye(len(votes), dtype=bool) & ~np.isnan(found)
    return np.where(np.isnan(found), found[apart].max() if apart.any() else 1.0, found)


def column_masses(space: Space, k: int, levels: Sequence[float] | None = None) -> Array:
    """What a unit of difference in each column adds to the Wasserstein-1 distance, shape (k,).

    Quantile level l stands for the probability between the midpoints to its neighbours, the first from 0
    and the last to 1: 0.1, 0.5, 0.9 stand for 0.3, 0.4, 0.3. Without levels each column stands for 1/k. For
    probabilities a unit of probability that moves is counted in the column it leaves and in the one it
    reaches: 1/2.

    Raises
    ------
    ValueError
        `levels` is not k rising numbers between 0 and 1.
    """
    if space == Space.PROBABILITIES:
        return np.full(k, 0.5)
    if levels is None:
        return np.full(k, 1 / k)
    at = levels_of(k, levels)
    return np.diff(np.concatenate([[0.0], (at[1:] + at[:-1]) / 2, [1.0]]))


def _jensen_shannon(p: Array, q: Array, weights: Array, _masses: Array) -> float:
    spread = entr((p + q) / 2) - (entr(p) + entr(q)) / 2
    return float(weights @ np.sqrt(np.maximum(spread.sum(axis=1), 0.0)))  # rounding may go below 0


def _kullback_leibler(p: Array, q: Array, weights: Array, _masses: Array) -> float:
    p, q = _lifted(p), _lifted(q)
    return float(weights @ np.sum((p - q) * (np.log(p) - np.log(q)), axis=1)) / 2


def _lifted(p: Array) -> Array:
    lifted = np.maximum(p, SMALLEST_PROBABILITY)
    return np.asarray(lifted / lifted.sum(axis=1, keepdims=True))


def _wasserstein(p: Array, q: Array, weights: Array, masses: Array) -> float:
    return float(weights @ (np.abs(p - q) @ masses))


def _cosine(p: Array, q: Array, weights: Array, _masses: Array) -> float:
    # The root of the product, not the product of the roots: the cosine of equal vectors is then exactly 1.
    lengths = np.sqrt((weights @ np.sum(p * p, axis=1)) * (weights @ np.sum(q * q, axis=1)))
    if lengths == 0:
        return float(np.any(weights @ (p != q)))
    return float(np.clip(1 - weights @ np.sum(p * q, axis=1) / lengths, 0.0, 2.0))


MEASURES: Mapping[Space, Mapping[str, Measure]] = {
    Space.PROBABILITIES: {
        "auto": _jensen_shannon,
        "cosine": _cosine,
        "js": _jensen_shannon,
        "kl": _kullback_leibler,
        "wasserstein": _wasserstein,
    },
    Space.QUANTILES: {"auto": _wasserstein, "cosine": _cosine, "wasserstein": _wasserstein},
}
"""Measures by space and kind."""
