"""How sure a gain is: a paired bootstrap over days, and over participants and days together.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile intervals); Davison and Hinkley,
"Bootstrap Methods and their Application", 1997, section 3.8 (resampling at two levels). Days count as
independent of each other; weather that holds for weeks makes the true interval somewhat wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedstill.labels import Array

RESAMPLES = 2000
CONFIDENCE = 0.95
MAX_BLOCKS = 1000
"""Above this many blocks, neighbours are merged: time stays bounded, longer blocks err on the safe side."""


@dataclass(frozen=True, eq=False)
class BlockSums:
    """One participant's losses of several predictions, kept as sums over b blocks.

    Attributes
    ----------
    numerators:
        One column a prediction, shape (b, m).
    denominator:
        Common to all predictions, shape (b,).
    """

    numerators: Array
    denominator: Array

    @classmethod
    def of(cls, block: Array, numerators: Array, denominator: Array) -> BlockSums:
        """Sum rows, shapes (n,), (n, m) and (n,), into their blocks."""
        found, index = np.unique(np.asarray(block), return_inverse=True)
        if len(found) > MAX_BLOCKS:
            index = index * MAX_BLOCKS // len(found)
        columns = (*np.asarray(numerators, np.float64).T, np.asarray(denominator, np.float64))
        sums = np.stack([np.bincount(index, weights=column) for column in columns], axis=1)
        return cls(sums[:, :-1], sums[:, -1])

    @property
    def defined(self) -> bool:
        """Whether there is anything to divide by."""
        return bool(self.denominator.sum() > 0)

    def losses(self) -> Array:
        """The loss of each prediction, shape (m,)."""
        return np.asarray(self.numerators.sum(axis=0) / self.denominator.sum())

    def resampled(self, n: int, rng: np.random.Generator) -> Array:
        """Losses over n resamples of the blocks, the same blocks for all predictions, shape (n, m)."""
        b = len(self.denominator)
        drawn = rng.integers(0, b, size=(n, b)) + np.arange(n)[:, None] * b
        # Counting how often each block was drawn turns every resample into one row of a matrix product.
        counts = np.bincount(drawn.ravel(), minlength=n * b).reshape(n, b).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((counts @ self.numerators) / (counts @ self.denominator)[:, None])


def resampled_means(parts: Sequence[BlockSums], n: int, rng: np.random.Generator) -> Array:
    """Mean losses over participants, drawing participants and then days within each, shape (n, m)."""
    k = len(parts)
    drawn = rng.integers(0, k, size=(n, k))
    losses = np.empty((n, k, parts[0].numerators.shape[1]))
    for index, part in enumerate(parts):
        places = drawn == index
        losses[places] = part.resampled(int(places.sum()), rng)
    return np.asarray(losses.mean(axis=1))


def relative_gain(losses: Array, ours: int, theirs: int) -> Array:
    """The share of column `theirs`' loss that column `ours` saves; the last axis holds the predictions."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1.0 - losses[..., ours] / losses[..., theirs])


def interval(draws: Array) -> tuple[float | None, float | None]:
    """Percentile interval of the resampled values that are defined; (None, None) where none is."""
    defined = draws[np.isfinite(draws)]
    if len(defined) == 0:
        return None, None
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return float(low), float(high)
