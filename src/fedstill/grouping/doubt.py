"""How far voices disagree about each item, and a teacher that says less where they do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedstill.errors import ConfigError
from fedstill.grouping.votes import average, entropy, shared, widths
from fedstill.labels import Array, SoftLabels, Space


def disagreement(votes: Sequence[SoftLabels], teacher: SoftLabels, weights: Array | None = None) -> Array:
    """How far the voices differ about each item, without a unit; 0 where they agree.

    Forecasts: the standard deviation between voices, mean over levels, in units of the width of the teacher's outer
    interval. The width is the noise of a private row there, so this compares two errors that a student is exposed to:
    a unit of disagreement where the load is uncertain anyway does less harm than where it is not.

    Classes: the root of the mean Jensen-Shannon divergence from the teacher, in nats; at most sqrt(ln 2) = 0.83.

    Parameters
    ----------
    votes:
        K soft labels about the same n items.
    teacher:
        What they say together.
    weights:
        Weights of the voices, shape (K,), not negative; None weighs all alike.

    Returns
    -------
    Array
        Shape (n,), float64; infinite where voices differ and the teacher's interval has no width.

    Raises
    ------
    ConfigError
        Forecasts have a single quantile level.
    ValueError
        The votes differ in items, columns or space, or the weights do not fit them.
    """
    values, shares = shared(votes, weights)
    said = teacher.values.astype(np.float64)
    if teacher.space is Space.QUANTILES:
        width = widths(said, "doubt")
        apart = np.sqrt(average((values - average(values, shares)) ** 2, shares)).mean(axis=1)
        # Voices that say the same differ by rounding.
        apart[apart <= 1e-9 * np.max(np.abs(said), axis=1)] = 0.0
        none = np.where(apart > 0, np.inf, 0.0)
        return np.asarray(np.divide(apart, width, out=none, where=width > 0))
    divergence = entropy((values + said) / 2) - (entropy(values) + entropy(said)) / 2
    return np.asarray(np.sqrt(np.maximum(average(divergence[..., None], shares)[:, 0], 0.0)))


def check_doubt(doubt: float | None) -> None:
    """Raise ConfigError unless `doubt` is None or a positive, finite number."""
    if doubt is not None and not 0 < doubt < math.inf:
        raise ConfigError(f"{doubt} is no measure of doubt", where="doubt", remedy="Use a positive number, or none")


def doubted(
    teacher: SoftLabels, votes: Sequence[SoftLabels], doubt: float | None, weights: Array | None = None
) -> SoftLabels:
    """The teacher, each item weighing 1 / (1 + d^2 / doubt^2) of what it did, d being the `disagreement` about it.

    Where the voices disagree by `doubt`, the item counts half. Least squares weighs rows by 1 / variance, and if rows
    carry a noise of `doubt` and a further error of d this is their weight (Aitken 1935; as a way to distil it is ours).
    None leaves the teacher as it is.

    Parameters, errors: as `disagreement`.
    """
    if doubt is None:
        return teacher
    with np.errstate(over="ignore"):
        trust = 1 / (1 + (disagreement(votes, teacher, weights) / doubt) ** 2)
    return replace(teacher, weight=(teacher.weight * trust).astype(np.float32))
