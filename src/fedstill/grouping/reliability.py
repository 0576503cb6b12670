"""How far each participant can be relied on, item by item, by what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import entr

from fedstill.grouping.aggregates import medians_of_others
from fedstill.grouping.similarity import column_masses
from fedstill.grouping.votes import choose, stack, widths
from fedstill.labels import Array, Release, SoftLabels, Space


def reliability(votes: Sequence[Release], kind: str, *, levels: Sequence[float] | None = None) -> Array:
    """Reliability of each participant on each item; higher is better.

    Parameters
    ----------
    votes:
        K releases that carry soft labels about the same n items: those of one group, or of all.
    kind:
        * "medoid": minus the distance to the weighted median of the other votes on the item (total
          variation for probabilities, Wasserstein-1 for quantiles); 0 where no other speaks. Agreement with
          the others, so it finds the broken one among three or more; of two, each is as far from the other.
        * "entropy" (probabilities): minus the entropy in nats, the usual choice. It rewards over-confidence
          on items unlike anything the participant has seen; arXiv:2304.01731 was written to avoid that.
        * "width" (quantiles): minus the width of the outer interval, in the unit of the labels; same caveat.
        * "heldout": minus the held-out loss that the participant reports, the same for all its items. It is
          taken on trust, and it touches private data.
        * "auto": "medoid".
    levels:
        Quantile levels of the columns, for "medoid"; None gives every column the same mass.

    Returns
    -------
    Array
        Shape (K, n), float64; -inf where a participant abstains.

    Raises
    ------
    ConfigError
        There is no such kind for the space of the votes, or "width" meets a single quantile level.
    ValueError
        A release has no soft labels or, for "heldout", no score; or the votes differ in items, columns or
        space.
    """
    labels = [_labels(place, vote) for place, vote in enumerate(votes)]
    values, weights = stack(labels)
    space = labels[0].space
    rule = choose(kind, RULES[space], f"reliability of {space}")
    silent = weights == 0
    scores = np.array([vote.score for vote in votes], dtype=np.float64)
    found = rule(
        values,
        weights,
        np.where(silent.all(axis=1), 0.0, scores),
        column_masses(space, values.shape[2], levels),
    )
    return np.where(silent, -np.inf, found)


def _labels(place: int, vote: Release) -> SoftLabels:
    if vote.labels is None:
        raise ValueError(f"release {place} carries no soft labels")
    return vote.labels


def _entropy(values: Array, _weights: Array, _scores: Array, _masses: Array) -> Array:
    return np.asarray(-entr(values).sum(axis=2))


def _width(values: Array, _weights: Array, _scores: Array, _masses: Array) -> Array:
    return -widths(values, "reliability", "'medoid' or 'heldout'")


def _heldout(_values: Array, weights: Array, scores: Array, _masses: Array) -> Array:
    if np.isnan(scores).any():
        raise ValueError(
            "reliability 'heldout' needs the held-out score of every participant that speaks, and "
            f"release {int(np.flatnonzero(np.isnan(scores))[0])} has none; the recipe must ask for scores"
        )
    return np.broadcast_to(-scores[:, None], weights.shape)


def _medoid(values: Array, weights: Array, _scores: Array, masses: Array) -> Array:
    others = (weights > 0).sum(axis=0) - (weights > 0)
    gaps = np.abs(values - medians_of_others(values, weights)) @ masses
    return np.where(others > 0, -gaps, 0.0)


Rule = Callable[[Array, Array, Array, Array], Array]
"""Values (K, n, k), weights (K, n), scores (K,) and masses of columns (k,) to reliabilities (K, n)."""

RULES: Mapping[Space, Mapping[str, Rule]] = {
    Space.PROBABILITIES: {"auto": _medoid, "entropy": _entropy, "heldout": _heldout, "medoid": _medoid},
    Space.QUANTILES: {"auto": _medoid, "heldout": _heldout, "medoid": _medoid, "width": _width},
}
"""Rules by space and kind."""
