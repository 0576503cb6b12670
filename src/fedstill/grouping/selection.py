"""What one group says: one member for all items, the best member for each item, or all members together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedstill.grouping.aggregates import mean, median
from fedstill.grouping.votes import choose, stack, stand_in
from fedstill.labels import Array, SoftLabels

_LIMIT = 1e300
"""Stands for infinite reliability, so that means of it stay finite."""


def voice(votes: Sequence[SoftLabels], reliability: Array, select: str) -> SoftLabels:
    """Let one group speak.

    Parameters
    ----------
    votes:
        G soft labels, one a member, about the same n items.
    reliability:
        Reliability of each member on each item, shape (G, n), higher is better, not NaN; what stands where a
        member abstains is ignored.
    select:
        * "client": the member with the highest mean reliability over the items it speaks about (weighed by
          its weights); its labels as they are, so the group abstains where that member does.
        * "item": per item the most reliable member that speaks, with its weight on the item.
        * "mean", "median": all members by their weights, see `aggregates`; `reliability` is not used.

        The first in order wins a tie.

    Raises
    ------
    ConfigError
        There is no such selection.
    ValueError
        The votes differ in items, columns or space, or `reliability` does not fit them.
    """
    chosen = choose(select, SELECTIONS, "select")
    _, weights = stack(votes)
    ranks = np.asarray(reliability, dtype=np.float64)
    if ranks.shape != weights.shape:
        raise ValueError(f"reliability has shape {ranks.shape}, the votes {weights.shape}")
    if np.isnan(ranks[weights > 0]).any():
        raise ValueError("reliability is NaN where a member speaks")
    # A member that speaks comes before one that abstains, however little it can be relied on.
    finite = np.clip(ranks, -_LIMIT, _LIMIT)
    return chosen(votes, np.where(weights > 0, finite, -np.inf))


def _client(votes: Sequence[SoftLabels], ranks: Array) -> SoftLabels:
    return votes[int(np.argmax([_mean_rank(vote, row) for vote, row in zip(votes, ranks, strict=True)]))]


def _mean_rank(vote: SoftLabels, ranks: Array) -> float:
    spoken = vote.weight > 0
    if not spoken.any():
        return -np.inf
    weight = vote.weight[spoken].astype(np.float64)
    return float(ranks[spoken] @ (weight / weight.sum()))


def _item(votes: Sequence[SoftLabels], ranks: Array) -> SoftLabels:
    values, weights = stack(votes)
    best, every = np.argmax(ranks, axis=0), np.arange(ranks.shape[1])
    first, weight = votes[0], weights[best, every]
    rows = np.where(weight[:, None] > 0, values[best, every], stand_in(first.space, values.shape[2]))
    return SoftLabels.of(first.items, rows, first.space, weight)


def _mean(votes: Sequence[SoftLabels], _ranks: Array) -> SoftLabels:
    return mean(votes)


def _median(votes: Sequence[SoftLabels], _ranks: Array) -> SoftLabels:
    return median(votes)


SELECTIONS: Mapping[str, Callable[[Sequence[SoftLabels], Array], SoftLabels]] = {
    "client": _client,
    "item": _item,
    "mean": _mean,
    "median": _median,
}
"""Selections by name: votes and reliability, -inf where a member abstains, to the group's voice."""
