"""Where a participant knows its way: the density of its own rows against that of the transfer set.

KuLSIF (Kanamori, Suzuki & Sugiyama, "Statistical analysis of kernel-based least-squares density-ratio estimation",
Machine Learning 2012): r(x) = p_own(x) / p_other(x) as a sum of kernels in closed form, with no density estimated by
itself. Selective-FD (Shao et al., arXiv:2304.01731) uses it to let a participant abstain on items unlike its own rows,
about which its model would be guessing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedstill.labels import Array

MOST_ROWS = 500
"""Rows of each kind that an estimate is made of: its cost grows with their cube."""

_SEED = 0
_RANK = -0.9
"""Of the regularisation n^-0.9, as in the experiments of Kanamori et al."""


def density_ratio(own: Array, other: Array) -> Callable[[Array], Array]:
    """Estimate p_own / p_other from a sample of each.

    Columns are standardised by both samples together. The kernel is Gaussian, as wide as the median distance between
    two rows (the median heuristic).

    Parameters
    ----------
    own, other:
        Rows, (m, f) and (n, f), one or more of each.

    Returns
    -------
    Callable
        From rows, (q, f), to their ratio, (q,), float64, not negative.
    """
    both = np.concatenate([own, other]).astype(np.float64)
    centre, spread = both.mean(axis=0), both.std(axis=0)
    inverse = np.where(spread > 1e-9 * np.maximum(np.abs(centre), 1e-9), 1 / np.where(spread > 0, spread, 1.0), 0.0)

    def scaled(X: Array) -> Array:
        return np.asarray((X - centre) * inverse, np.float64)

    ours, theirs = scaled(own), scaled(other)
    distances = np.sqrt(_squares(scaled(both), scaled(both)))[np.triu_indices(len(both), 1)]
    width = np.median(distances) if len(distances) else 0.0
    width = width if width > 0 else 1.0

    def kernel(a: Array, b: Array) -> Array:
        return np.asarray(np.exp(-_squares(a, b) / (2 * width**2)))

    m, n = len(ours), len(theirs)
    penalty = float(min(m, n)) ** _RANK
    system = kernel(theirs, theirs) / n + penalty * np.eye(n)
    alpha = np.linalg.solve(system, -kernel(theirs, ours).sum(axis=1) / (n * m * penalty))

    def ratio(X: Array) -> Array:
        at = scaled(X)
        found = kernel(at, theirs) @ alpha + kernel(at, ours).sum(axis=1) / (m * penalty)
        return np.asarray(np.maximum(found, 0.0))

    return ratio


def certainty(own: Array, items: Array, *, soft: bool, cutoff: float) -> Array:
    """How much a participant's word counts on each item.

    The reference is the transfer set; Selective-FD takes uniform noise, which in tens of dimensions lies nowhere near
    any row.

    Parameters
    ----------
    own:
        Private inputs, (n, f), one or more. Not more than a few hundred are used, drawn with a fixed seed.
    items:
        Inputs of the transfer set, (m, f), one or more.
    soft:
        False: 1 inside the own density and 0 outside it, where the ratio is below that of all but `cutoff` of own rows
        that the estimate has not seen (the quantile of Selective-FD). True: the ratio, at most 1: full weight where
        own rows are as dense as the transfer set.
    cutoff:
        Part of the own rows that may lie outside, 0 to 1.

    Returns
    -------
    Array
        Shape (m,), float64, 0 to 1.
    """
    order = np.random.default_rng(_SEED).permutation(len(own))
    held = order[: min(MOST_ROWS, len(own) // 5)]
    used = order[len(held) : len(held) + MOST_ROWS]
    some = np.random.default_rng(_SEED).permutation(len(items))[:MOST_ROWS]
    ratio = density_ratio(own[used], items[some])
    found = ratio(items)
    if soft:
        return np.asarray(np.minimum(found, 1.0))
    unseen = held if len(held) else used
    return np.asarray(found >= np.quantile(ratio(own[unseen]), cutoff), np.float64)


def _squares(a: Array, b: Array) -> Array:
    """Squared distances between the rows of a and b."""
    found = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.maximum(found, 0.0))
