"""Many voices in, one voice out: means, medians and trimmed means of soft labels, item by item.

An abstaining vote (weight 0 on an item) has no influence on that item, whatever its values hold. A result
weighs 1 where anyone spoke and 0 elsewhere; where nobody spoke its values are a stand-in (0 for quantiles,
uniform for probabilities) that no reader may use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar

import numpy as np

from fedstill.errors import ConfigError
from fedstill.labels import Array, SoftLabels, Space

Aggregate = Callable[[Sequence[SoftLabels], Array], SoftLabels]
"""Votes and the weights of their voices, shape (K,), to what they say together."""

T = TypeVar("T")

_ROUNDING = 1e-9
"""Shares of the total weight below this are rounding, not weight."""


def choose(name: str, table: Mapping[str, T], key: str) -> T:
    """Look a configured name up.

    Parameters
    ----------
    name:
        What was asked for.
    table:
        What there is.
    key:
        What is being chosen, for the error: "aggregate", "clustering" ...

    Raises
    ------
    ConfigError
        `name` is not in `table`; the error names close matches and everything there is.
    """
    if name in table:
        return table[name]
    close = get_close_matches(name, table, n=3)
    hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise ConfigError(f"there is no {name!r}", where=key, remedy=f"{hint}Choose one of: {', '.join(sorted(table))}")


def stack(votes: Sequence[SoftLabels]) -> tuple[Array, Array]:
    """Votes as one block of numbers.

    Returns
    -------
    tuple
        Values, float64, shape (K, n, k), all 0 where a vote abstains; weights, float64, shape (K, n).

    Raises
    ------
    ValueError
        There is no vote, or the votes differ in items, columns or space.
    """
    if not votes:
        raise ValueError("there must be at least one vote")
    first = votes[0]
    for place, vote in enumerate(votes):
        if vote.space != first.space or vote.values.shape != first.values.shape:
            raise ValueError(f"vote {place} has another space or shape than vote 0")
        if not np.array_equal(vote.items, first.items):
            raise ValueError(f"vote {place} is about other items than vote 0")
    values = np.stack([vote.values for vote in votes]).astype(np.float64)
    weights = np.stack([vote.weight for vote in votes]).astype(np.float64)
    values[weights == 0] = 0.0  # by assignment: an abstaining vote may hold NaN, and 0 * NaN is NaN
    return values, weights


def stand_in(space: Space, k: int) -> float:
    """Value of all k columns of an item about which no one speaks: still a valid row, and of weight 0."""
    return 1 / k if space == Space.PROBABILITIES else 0.0


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
    values, shares = _shared(votes, weights)
    return _result(votes[0], _average(values, shares), shares)


def mean(votes: Sequence[SoftLabels], weights: Array | None = None) -> SoftLabels:  # noqa: ARG001
    """`weighted` with all voices alike: only the weights on items count, `weights` is ignored."""
    return weighted(votes)


def median(votes: Sequence[SoftLabels], weights: Array | None = None) -> SoftLabels:
    """Weighted median per item and column, weighing as `weighted` does.

    The weighted median is the value at which half of the weight is reached; where a value ends exactly at
    half, the midpoint to the next, so that equal weights give the ordinary median. Rows of probabilities
    are then divided by their sum (which may carry a column outside the range of the votes), and where that
    sum is 0, as when three votes are sure of three classes, the mean stands in. Rows of quantiles are
    sorted.

    Parameters, errors: as `weighted`.
    """
    values, shares = _shared(votes, weights)
    middle = _middle(*_ranked(values, shares))
    return _result(votes[0], _valid(middle, votes[0].space, values, shares), shares)


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
    values, shares = _shared(votes, weights)
    ordered, parts = _ranked(values, shares)
    ends = np.cumsum(parts, axis=0)
    total = ends[-1]
    kept = np.minimum(ends, (1 - share) * total) - np.maximum(ends - parts, share * total)
    kept[kept < _ROUNDING * total] = 0.0  # a whole outlier must not come back through a rounding error
    return _result(votes[0], _valid(_average(ordered, kept), votes[0].space, values, shares), shares)


AGGREGATES: Mapping[str, Aggregate] = {
    "mean": mean,
    "median": median,
    "trimmed": trimmed,
    "weighted": weighted,
}
"""Aggregates by the name a federation file gives them."""


def resolve(name: str) -> Aggregate:
    """Return the aggregate of that name, or raise ConfigError with close matches."""
    return choose(name, AGGREGATES, "aggregate")


def medians_of_others(values: Array, shares: Array) -> Array:
    """Per member, the weighted median of all other members, shape (K, n, k).

    `values` (K, n, k) and `shares` (K, n) are those of `stack`. Where no other speaks the entry means
    nothing.
    """
    order = np.argsort(values, axis=0, kind="stable")
    ordered, parts = _taken(values, shares, order)
    # One sort serves all: a member is left out by taking its weight away, not its place.
    return np.stack([_middle(ordered, np.where(order == member, 0.0, parts)) for member in range(len(values))])


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


def _shared(votes: Sequence[SoftLabels], weights: Array | None) -> tuple[Array, Array]:
    """Values (K, n, k) and the share (K, n) of each vote in each item: voice weight times item weight."""
    values, shares = stack(votes)
    if weights is None:
        return values, shares
    voices = np.asarray(weights, dtype=np.float64)
    if voices.shape != (len(votes),) or not np.all(np.isfinite(voices) & (voices >= 0)):
        raise ValueError(f"weights must be {len(votes)} finite numbers that are not negative")
    return values, shares * voices[:, None]


def _average(values: Array, shares: Array) -> Array:
    """Mean down the first axis, finite (0) where all shares are 0."""
    if shares.ndim < values.ndim:
        shares = shares[..., None]
    total = shares.sum(axis=0)
    # Dividing first keeps every share at most 1, so that not even the largest values overflow.
    return np.asarray(np.sum(values * (shares / np.where(total > 0, total, 1.0)), axis=0))


def _ranked(values: Array, shares: Array) -> tuple[Array, Array]:
    return _taken(values, shares, np.argsort(values, axis=0, kind="stable"))


def _taken(values: Array, shares: Array, order: Array) -> tuple[Array, Array]:
    """Values and their shares, both (K, n, k), in that order down the first axis."""
    parts = np.broadcast_to(shares[..., None], values.shape)
    return np.take_along_axis(values, order, axis=0), np.take_along_axis(parts, order, axis=0)


def _middle(ordered: Array, parts: Array) -> Array:
    """Weighted median down the first axis of rising values."""
    ends = np.cumsum(parts, axis=0)
    half = ends[-1] / 2
    low = np.sum(ends < half * (1 - _ROUNDING), axis=0)
    # The bound matters only where no one speaks: every end is then 0, and none lies beyond the half.
    high = np.minimum(np.sum(ends <= half * (1 + _ROUNDING), axis=0), len(ordered) - 1)
    below, above = (np.take_along_axis(ordered, place[None], axis=0)[0] for place in (low, high))
    return np.asarray((below + above) / 2)


def _valid(rows: Array, space: Space, values: Array, shares: Array) -> Array:
    """Rows that a column-wise rule may have left without a sum of 1 or without order, put right."""
    if space == Space.QUANTILES:
        return np.sort(rows, axis=1)
    sums = rows.sum(axis=1, keepdims=True)
    return np.where(sums > 0, rows / np.where(sums > 0, sums, 1.0), _average(values, shares))


def _result(like: SoftLabels, values: Array, shares: Array) -> SoftLabels:
    spoken = shares.sum(axis=0) > 0
    rows = np.where(spoken[:, None], values, stand_in(like.space, values.shape[1]))
    return SoftLabels.of(like.items, rows, like.space, spoken)
