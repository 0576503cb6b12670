"""Many voices in, one voice out: means, medians and trimmed means of soft labels, item by item.

An abstaining vote (weight 0 on an item) has no influence on that item, whatever its values hold. A result
weighs 1 where anyone spoke and 0 elsewhere; where nobody spoke its values are a stand-in (0 for quantiles,
uniform for probabilities) that no reader may use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from fedstill.errors import ConfigError
from fedstill.grouping.experts import experts
from fedstill.grouping.pooling import certainty, geometric_median, mixture, precision
from fedstill.grouping.votes import (
    ROUNDING,
    average,
    blockwise,
    choose,
    middle,
    ranked,
    result,
    shared,
    stack,
    stand_in,
    taken,
    valid,
)
from fedstill.labels import Array, Outputs, SoftLabels, Space

__all__ = [
    "AGGREGATES",
    "Aggregate",
    "choose",
    "group_weights",
    "mean",
    "median",
    "medians_of_others",
    "resolve",
    "stack",
    "stand_in",
    "trimmed",
    "weighted",
]

Aggregate = Callable[[Sequence[SoftLabels], Array], SoftLabels]
"""Votes and the weights of their voices, shape (K,), to what they say together."""


@blockwise
def weighted(votes: Sequence[SoftLabels], weights: Array | None = None) -> SoftLabels:
    """Mean per item and column; each vote counts its voice's weight times its own weight on the item.

    Parameters
    ----------
    votes:
        K soft labels about the same n items.
    weights:
        Weights of the voices, shape (K,), not negative; None weighs all alike.

    Raises
    ------
    ValueError
        The votes differ in items, columns or space, or the weights do not fit them.
    """
    values, shares = shared(votes, weights)
    return result(votes[0], average(values, shares), shares)


def mean(votes: Sequence[SoftLabels], weights: Array | None = None) -> SoftLabels:  # noqa: ARG001
    """`weighted` with all voices alike: only the weights on items count, `weights` is ignored."""
    return weighted(votes)


@blockwise
def median(votes: Sequence[SoftLabels], weights: Array | None = None) -> SoftLabels:
    """Weighted median per item and column, weighing as `weighted` does.

    The weighted median is the value at which half of the weight is reached; where a value ends exactly at
    half, the midpoint to the next, so that equal weights give the ordinary median. Rows of probabilities
    are then divided by their sum (which may carry a column outside the range of the votes), and where that
    sum is 0, as when three votes are sure of three classes, the mean stands in. Rows of quantiles are
    sorted.

    Parameters, errors: as `weighted`.
    """
    values, shares = shared(votes, weights)
    rows = middle(*ranked(values, shares))
    return result(votes[0], valid(rows, votes[0].space, values, shares), shares)


@blockwise
def trimmed(votes: Sequence[SoftLabels], weights: Array | None = None, *, share: float = 0.2) -> SoftLabels:
    """Mean per item and column without the lowest and the highest `share` of the weight.

    Weights are those of `weighted`. A vote on the edge of a tail counts with the part of its weight that
    lies inside, so the result moves smoothly with weights, equals the usual trimmed mean where `share` x K
    is whole votes, and nears the median as `share` nears 1/2. While the faulty votes of an item hold at
    most `share` of its weight, every column is a mean of values within the range of the others. Rows are
    then made valid as in `median`. After Yin et al., "Byzantine-robust distributed learning", 2018,
    arXiv:1803.01498.

    Parameters
    ----------
    votes, weights:
        As `weighted`.
    share:
        Part of the weight cut from each end, at least 0 and below 0.5.

    Raises
    ------
    ValueError
        As `weighted`, or `share` is out of range.
    """
    if not 0 <= share < 0.5:
        raise ValueError(f"share must be at least 0 and below 0.5, not {share}")
    values, shares = shared(votes, weights)
    ordered, parts = ranked(values, shares)
    ends = np.cumsum(parts, axis=0)
    total = ends[-1]
    kept = np.minimum(ends, (1 - share) * total) - np.maximum(ends - parts, share * total)
    kept[kept < ROUNDING * total] = 0.0  # a whole outlier must not come back through a rounding error
    return result(votes[0], valid(average(ordered, kept), votes[0].space, values, shares), shares)


AGGREGATES: Mapping[str, Aggregate] = {
    "certainty": certainty,
    "geometric-median": geometric_median,
    "mean": mean,
    "median": median,
    "mixture": mixture,
    "precision": precision,
    "trimmed": trimmed,
    "weighted": weighted,
}
"""Aggregates by the name a federation file gives them, for forecasts and classes alike."""

FOR_CLASSES: Mapping[str, Aggregate] = {"experts": experts}
"""Those that forecasts have no use for."""

_READ_LEVELS = {"mixture": mixture, "precision": precision}


def resolve(name: str, outputs: Outputs | None = None) -> Aggregate:
    """Return the aggregate of that name.

    Parameters
    ----------
    name:
        One of `AGGREGATES` or `FOR_CLASSES`.
    outputs:
        What the votes' columns are. "mixture" and "precision" read quantile levels from it; without it every
        column stands for the same mass.

    Raises
    ------
    ConfigError
        There is no such aggregate, or it is not for such outputs; the error names close matches.
    """
    rule = choose(name, {**AGGREGATES, **FOR_CLASSES}, "aggregate")
    if outputs is not None and outputs.space is Space.QUANTILES and name in FOR_CLASSES:
        raise ConfigError(
            "experts know classes, and forecasts have none",
            where="aggregate",
            remedy='Choose "median", "mean" or another that takes quantiles',
        )
    if outputs is not None and outputs.space is Space.QUANTILES and name in _READ_LEVELS:
        return partial(_READ_LEVELS[name], levels=[float(level) for level in outputs.columns])
    return rule


def medians_of_others(values: Array, shares: Array) -> Array:
    """Per member, the weighted median of all other members, shape (K, n, k).

    `values` (K, n, k) and `shares` (K, n) are those of `stack`. Where no other speaks the entry means
    nothing.
    """
    order = np.argsort(values, axis=0, kind="stable")
    ordered, parts = taken(values, shares, order)
    # One sort serves all: a member is left out by taking its weight away, not its place.
    return np.stack([middle(ordered, np.where(order == member, 0.0, parts)) for member in range(len(values))])


def group_weights(groups: Sequence[Sequence[int]], kind: str, counts: Sequence[int] | Array | None = None) -> Array:
    """How much each group's voice counts.

    Parameters
    ----------
    groups:
        G groups of indices of participants.
    kind:
        "equal": 1/G each, so that a majority that is alike counts once. "size": by the members' counts.
    counts:
        Private rows of every participant, shape (K,), for "size"; None counts participants instead.

    Returns
    -------
    Array
        Weights that sum to 1, float64, shape (G,).

    Raises
    ------
    ConfigError
        There is no such kind.
    ValueError
        A group is empty, or "size" meets a participant whose count is 0, which says nothing.
    """
    by_size = choose(kind, {"equal": False, "size": True}, "group weights")
    if not groups or not all(groups):
        raise ValueError("there must be at least one group, and each must have a member")
    if not by_size:
        return np.full(len(groups), 1 / len(groups))
    if counts is None:
        sizes = np.array([len(group) for group in groups], dtype=np.float64)
    else:
        rows = np.asarray(counts, dtype=np.float64)
        if not all(rows[member] > 0 for group in groups for member in group):
            raise ValueError("a participant tells no row count; the recipe must ask for counts")
        sizes = np.array([rows[list(group)].sum() for group in groups])
    return np.asarray(sizes / sizes.sum())
