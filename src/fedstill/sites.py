"""What a task hands to a participant: rows to learn from, rows to choose by, and the floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedstill.labels import Array, Outputs, Party, Space


@dataclass(frozen=True, eq=False)
class Rows:
    """Inputs `X`, float32, shape (n, f), and targets `y`, shape (n,): floats, or class indices.

    `block` says which rows have errors in common, shape (n,): their day. None: every row stands for itself.
    """

    X: Array
    y: Array
    block: Array | None = None

    def __len__(self) -> int:
        return len(self.y)

    def block_means(self, values: Array) -> Array:
        """Mean of row values, shape (n,), over each block, shape (blocks,)."""
        if self.block is None:
            return values
        _, of = np.unique(self.block, return_inverse=True)
        means: Array = np.bincount(of, values) / np.bincount(of)
        return means

    @classmethod
    def stack(cls, rows: Sequence[Rows]) -> Rows:
        """The rows of many sites, one after the other."""
        return cls(np.concatenate([one.X for one in rows]), np.concatenate([one.y for one in rows]))


@dataclass(frozen=True)
class Floor:
    """The model that knows nothing of the inputs: one row of soft labels for every item.

    For forecasts, where targets are residuals over the seasonal-naive rule, this *is* the naive rule with
    the spread that its errors had in training; for classes it is how often each came up.
    """

    values: tuple[float, ...]

    @classmethod
    def fit(cls, outputs: Outputs, y: Array) -> Floor:
        """Take the floor from training targets, shape (n,)."""
        if outputs.space is Space.QUANTILES:
            quantiles = np.quantile(y, outputs.levels)
            return cls(tuple((quantiles - quantiles[outputs.median]).tolist()))
        counts = np.bincount(y, minlength=len(outputs)) + 1.0  # Laplace's rule: no class is impossible
        return cls(tuple((counts / counts.sum()).tolist()))

    def predict(self, X: Array) -> Array:
        """The same soft label for each row, float32, shape (n, k)."""
        return np.tile(np.asarray(self.values, np.float32), (len(X), 1))


@dataclass(frozen=True, eq=False)
class Site:
    """One enterprise's side of a task. Its rows never leave it.

    Attributes
    ----------
    party:
        Whose it is.
    train:
        Rows that models learn from.
    valid:
        Rows held back, by which the participant decides what to keep.
    floor:
        The floor, from the training targets.
    """

    party: Party
    train: Rows
    valid: Rows
    floor: Floor


def losses(outputs: Outputs, y: Array, predicted: Array) -> Array:
    """Pinball loss of each row, mean over levels, or log-loss; shape (n,)."""
    if outputs.space is Space.QUANTILES:
        error = y[:, None] - np.asarray(predicted, np.float64)
        pinball: Array = np.maximum(outputs.levels * error, (outputs.levels - 1) * error).mean(axis=1)
        return pinball
    chosen = np.asarray(predicted, np.float64)[np.arange(len(y)), y]
    log_loss: Array = -np.log(np.clip(chosen, 1e-12, 1))
    return log_loss


def loss(outputs: Outputs, y: Array, predicted: Array) -> float:
    """Mean loss over rows, NaN without rows: the one number by which models are compared inside a federation."""
    return float(losses(outputs, y, predicted).mean()) if len(y) else float("nan")
