"""Aggregates that ask how sure a voice is, or how far its whole row lies from the others.

They keep to the rules of `aggregates`: item by item, a vote of weight 0 has no influence, one voice alone is heard as
it is. "certainty" and "precision" take a voice at its word. Who is wrong and sure of it draws them away, and a model
is surest of itself where it was trained least (arXiv:2304.01731); `LEAST` bounds by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from fedstill.grouping.votes import (
    ROUNDING,
    average,
    entropy,
    levels_of,
    middle,
    ranked,
    result,
    shared,
    widths,
)
from fedstill.labels import Array, SoftLabels, Space

LEAST = 1 / 3
"""No voice is taken to be surer than this part of the median spread of an item: it counts at most 3 (9) times."""

SUREST_NATS = 0.01
"""Entropies below this are taken for it, as their inverse has no end."""

WEISZFELD_ROUNDS = 200


def certainty(votes: Sequence[SoftLabels], weights: Array | None = None) -> SoftLabels:
    """Mean in which, item by item, a voice counts by how certain it is.

    Classes: by exp(1/H) of the entropy H of its probabilities in nats, which over the sum of all is the softmax of
    1/H (FedGEMS, Cheng et al. 2021, arXiv:2110.11027). It comes near to choosing the surest voice.

    Forecasts: by 1 / width of the outer interval, which is ours. The entropy of a density has no zero and changes with
    the unit, so that its inverse says nothing; exp(-H) only changes by a common factor, and for densities of one shape
    it is 1 / width up to another.

    Parameters
    ----------
    votes, weights:
        As `aggregates.weighted`.

    Raises
    ------
    ConfigError
        Forecasts have a single quantile level.
    ValueError
        As `aggregates.weighted`.
    """
    values, shares = shared(votes, weights)
    if votes[0].space is Space.QUANTILES:
        worth = _surety(widths(values, "certainty"), shares)
    else:
        inverse = 1 / np.maximum(entropy(values), SUREST_NATS)
        worth = np.exp(inverse - np.max(np.where(shares > 0, inverse, 0.0), axis=0))
    return result(votes[0], average(values, shares * np.where(shares > 0, worth, 0.0)), shares)


def precision(
    votes: Sequence[SoftLabels], weights: Array | None = None, *, levels: Sequence[float] | None = None
) -> SoftLabels:
    """Mean in which, item by item, a voice counts by its precision, 1 / variance.

    Forecasts: mu and sigma are read off the quantiles, by least squares of a normal distribution's quantiles. The
    aggregate's mu is (sum mu / sigma^2) / (sum 1 / sigma^2) (Bates & Granger, "The combination of forecasts", 1969),
    and its sigma the mean of theirs by the same weights. Not the smaller sigma of independent voices: ours have seen
    the same weather. As both are linear in the quantiles, the quantiles themselves are averaged, which keeps their
    shape.

    Classes: the variance is that of the class drawn from the probabilities, as a vector of 0 and 1: 1 - sum p^2. This
    is ours.

    Parameters
    ----------
    votes, weights:
        As `aggregates.weighted`.
    levels:
        Quantile levels of the columns; None gives every column the same mass.

    Raises
    ------
    ConfigError
        Forecasts have a single quantile level.
    ValueError
        As `aggregates.weighted`, or `levels` does not fit the columns.
    """
    values, shares = shared(votes, weights)
    if votes[0].space is Space.QUANTILES:
        widths(values, "precision")  # for its error: a single level has no spread
        at = np.array([NormalDist().inv_cdf(float(level)) for level in levels_of(values.shape[2], levels)])
        at -= at.mean()
        spread = np.maximum(values @ (at / (at @ at)), 0.0)  # rounding may go below 0
    else:
        spread = np.sqrt(np.maximum(1 - np.sum(values**2, axis=2), 0.0))
    return result(votes[0], average(values, shares * _surety(spread, shares) ** 2), shares)


def mixture(
    votes: Sequence[SoftLabels], weights: Array | None = None, *, levels: Sequence[float] | None = None
) -> SoftLabels:
    """Quantiles of the mixture of all voices' distributions (the linear pool), item by item.

    The mean of quantiles averages where the voices lie and how wide they are; the mixture also shows that they
    disagree, by wider outer quantiles (Lichtendahl, Grushka-Cockayne & Winkler, "Is it better to average probabilities
    or quantiles?", Management Science 2013). What a voice says between two levels is taken as uniform between the two
    quantiles, and beyond the outer levels as standing on the outer quantiles, so that nothing lies outside what anyone
    said. Where a level is reached on a whole stretch, its middle, as in a median.

    For classes the linear pool is the mean.

    Parameters, errors: as `precision`, but a single level will do: its mixture is its weighted quantile.
    """
    values, shares = shared(votes, weights)
    if votes[0].space is not Space.QUANTILES:
        return result(votes[0], average(values, shares), shares)
    at = levels_of(values.shape[2], levels)
    spoken = shares > 0
    low = np.min(np.where(spoken[..., None], values, np.inf), axis=0)
    high = np.max(np.where(spoken[..., None], values, -np.inf), axis=0)
    # A silent voice adds no point of its own.
    values = np.where(spoken[..., None], values, np.where(spoken.any(axis=0), low[:, 0], 0.0)[None, :, None])
    total = shares.sum(axis=0)
    parts = shares / np.where(total > 0, total, 1.0)

    points = np.sort(np.concatenate(list(values), axis=1), axis=1)
    below, upto = (_cumulative(points, values, parts, at, closed=closed) for closed in (False, True))
    rows = np.empty(values.shape[1:])
    for column, level in enumerate(at):
        first = _crossing(points, below, upto, level, np.argmax(upto >= level - ROUNDING, axis=1))
        last = _crossing(points, below, upto, level, np.argmax(upto > level + ROUNDING, axis=1))
        rows[:, column] = (first + last) / 2
    rows = np.maximum.accumulate(np.clip(rows, low, high), axis=1)  # against rounding alone
    return result(votes[0], rows, shares)


def geometric_median(votes: Sequence[SoftLabels], weights: Array | None = None) -> SoftLabels:
    """The row of least total distance to all voices' rows, item by item.

    It takes a row as a whole, where `aggregates.median` takes each column by itself, so a row of probabilities needs
    no mending and quantiles cannot cross. While the faulty votes of an item hold less than half of its weight, it stays
    near the others. Found by the smoothed Weiszfeld algorithm of RFA (Pillutla, Kakade & Harchaoui 2019,
    arXiv:1912.13445), there for whole models, here for each item, from the mean and to convergence.

    Parameters, errors: as `aggregates.weighted`.
    """
    values, shares = shared(votes, weights)
    centre = average(values, shares)
    gaps = np.linalg.norm(values - centre, axis=2)
    typical = average(gaps, shares)
    least = np.where(typical > 0, 1e-6 * typical, 1.0)
    for _ in range(WEISZFELD_ROUNDS):
        # Times `least`, so that no pull exceeds its share.
        moved = average(values, shares * (least / np.maximum(gaps, least)))
        step = np.linalg.norm(moved - centre, axis=1)
        centre, gaps = moved, np.linalg.norm(values - moved, axis=2)
        if np.all(step <= ROUNDING * typical):
            break
    return result(votes[0], centre, shares)


def _surety(spread: Array, shares: Array) -> Array:
    """1 / spread (K, n), up to a factor that an item's voices have in common; at most 1."""
    typical = middle(*ranked(spread[..., None], shares))[..., 0]
    largest = np.max(np.where(shares > 0, spread, 0.0), axis=0)
    # Where most say that they are perfectly sure, the others still have a voice.
    least = np.maximum(LEAST * typical, 1e-3 * largest)
    return np.asarray(np.where(least > 0, least, 1.0) / np.maximum(spread, np.where(least > 0, least, 1.0)))


def _cumulative(points: Array, values: Array, parts: Array, levels: Array, *, closed: bool) -> Array:
    """What part of the mixture lies below each point, (n, b), and on it, where `closed`."""
    reached = np.greater_equal if closed else np.greater
    total = np.zeros(points.shape)
    for own, part in zip(values, parts, strict=True):
        mass = levels[0] * reached(points, own[:, :1]) + (1 - levels[-1]) * reached(points, own[:, -1:])
        for j, inner in enumerate(np.diff(levels)):
            start, width = own[:, j : j + 1], own[:, j + 1 : j + 2] - own[:, j : j + 1]
            within = np.clip((points - start) / np.where(width > 0, width, 1.0), 0.0, 1.0)
            mass = mass + inner * np.where(width > 0, within, reached(points, start))
        total += part[:, None] * mass
    return total


def _crossing(points: Array, below: Array, upto: Array, level: float, index: Array) -> Array:
    """Where the mixture reaches `level` on the way to the point at `index`, shape (n,)."""
    every = np.arange(len(points))
    before = np.maximum(index - 1, 0)
    start, rise = upto[every, before], below[every, index] - upto[every, before]
    part = np.where(rise > ROUNDING, (level - start) / np.where(rise > ROUNDING, rise, 1.0), 1.0)
    left, right = points[every, before], points[every, index]
    return np.asarray(left + np.clip(part, 0.0, 1.0) * (right - left))
