"""Votes as one block of numbers, and the arithmetic that all aggregates share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from fedstill.errors import ConfigError
from fedstill.labels import Array, SoftLabels, Space

T = TypeVar("T")
Rule = TypeVar("Rule", bound=Callable[..., SoftLabels])

ROUNDING = 1e-9
"""Shares of the total weight below this are rounding, not weight."""

BLOCK_ITEMS = 8192
"""Items of which a `blockwise` function holds all votes as numbers at the same time."""


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


def blockwise(rule: Rule) -> Rule:
    """Make a rule that looks at each item by itself look at some thousand at a time.

    The result is the same to the last bit; the memory it takes does not grow with items times votes, since the votes'
    own arrays may lie on a disk.
    """

    @wraps(rule)
    def by_blocks(votes: Sequence[SoftLabels], *args: Any, **kwargs: Any) -> SoftLabels:
        size = max((len(vote.items) for vote in votes), default=0)
        if size <= BLOCK_ITEMS:
            return rule(votes, *args, **kwargs)
        first = votes[0]
        values, weight = np.empty(first.values.shape, np.float32), np.empty(first.weight.shape, np.float32)
        for start in range(0, size, BLOCK_ITEMS):
            block = slice(start, start + BLOCK_ITEMS)
            part = rule([_part(vote, block) for vote in votes], *args, **kwargs)
            values[block], weight[block] = part.values, part.weight
        return SoftLabels(first.items, values, weight, first.space)

    return cast("Rule", by_blocks)


def _part(vote: SoftLabels, block: slice) -> SoftLabels:
    return SoftLabels(vote.items[block], vote.values[block], vote.weight[block], vote.space)


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


def shared(votes: Sequence[SoftLabels], weights: Array | None) -> tuple[Array, Array]:
    """Values (K, n, k) and the share (K, n) of each vote in each item: voice weight times item weight."""
    values, shares = stack(votes)
    if weights is None:
        return values, shares
    voices = np.asarray(weights, dtype=np.float64)
    if voices.shape != (len(votes),) or not np.all(np.isfinite(voices) & (voices >= 0)):
        raise ValueError(f"weights must be {len(votes)} finite numbers that are not negative")
    return values, shares * voices[:, None]


def average(values: Array, shares: Array) -> Array:
    """Mean down the first axis, finite (0) where all shares are 0."""
    if shares.ndim < values.ndim:
        shares = shares[..., None]
    total = shares.sum(axis=0)
    # Dividing first keeps every share at most 1, so that not even the largest values overflow.
    return np.asarray(np.sum(values * (shares / np.where(total > 0, total, 1.0)), axis=0))


def ranked(values: Array, shares: Array) -> tuple[Array, Array]:
    """Values and their shares, both (K, n, k), rising down the first axis."""
    return taken(values, shares, np.argsort(values, axis=0, kind="stable"))


def taken(values: Array, shares: Array, order: Array) -> tuple[Array, Array]:
    """Values and their shares, both (K, n, k), in that order down the first axis."""
    parts = np.broadcast_to(shares[..., None], values.shape)
    return np.take_along_axis(values, order, axis=0), np.take_along_axis(parts, order, axis=0)


def middle(ordered: Array, parts: Array) -> Array:
    """Weighted median down the first axis of rising values."""
    ends = np.cumsum(parts, axis=0)
    half = ends[-1] / 2
    low = np.sum(ends < half * (1 - ROUNDING), axis=0)
    # The bound matters only where no one speaks: every end is then 0, and none lies beyond the half.
    high = np.minimum(np.sum(ends <= half * (1 + ROUNDING), axis=0), len(ordered) - 1)
    below, above = (np.take_along_axis(ordered, place[None], axis=0)[0] for place in (low, high))
    return np.asarray((below + above) / 2)


def valid(rows: Array, space: Space, values: Array, shares: Array) -> Array:
    """Rows that a column-wise rule may have left without a sum of 1 or without order, put right."""
    if space == Space.QUANTILES:
        return np.sort(rows, axis=1)
    sums = rows.sum(axis=1, keepdims=True)
    return np.where(sums > 0, rows / np.where(sums > 0, sums, 1.0), average(values, shares))


def result(like: SoftLabels, values: Array, shares: Array) -> SoftLabels:
    """Rows as soft labels about the items of `like`; of weight 1 where anyone spoke, else a stand-in of weight 0."""
    spoken = shares.sum(axis=0) > 0
    rows = np.where(spoken[:, None], values, stand_in(like.space, values.shape[1]))
    return SoftLabels.of(like.items, rows, like.space, spoken)


def entropy(probabilities: Array) -> Array:
    """Entropy in nats down the last axis."""
    positive = np.where(probabilities > 0, probabilities, 1.0)
    return np.asarray(-np.sum(positive * np.log(positive), axis=-1))


def widths(values: Array, reader: str, instead: str = "something else") -> Array:
    """Width of the outer interval of quantiles down the last axis.

    Raises
    ------
    ConfigError
        There is a single quantile level; the error names the `reader`, and what to choose `instead`.
    """
    if values.shape[-1] == 1:
        raise ConfigError(
            "a single quantile level has no width",
            where=reader,
            remedy=f"Forecast two levels or more, or choose {instead}",
        )
    return np.asarray(values[..., -1] - values[..., 0])


def levels_of(k: int, levels: Sequence[float] | None) -> Array:
    """Quantile levels of k columns, shape (k,); None gives every column the same mass.

    Raises
    ------
    ValueError
        `levels` is not k rising numbers between 0 and 1.
    """
    if levels is None:
        return (np.arange(k) + 0.5) / k
    at = np.asarray(levels, dtype=np.float64)
    if at.shape != (k,) or not (np.all(at > 0) and np.all(at < 1) and np.all(np.diff(at) > 0)):
        raise ValueError(f"levels must be {k} rising numbers between 0 and 1")
    return at
