"""How well a transfer set covers a participant's own inputs: worked out at home, and told to nobody.

What others say about items says something about own rows only where there are items like them. A row is covered where
some item is as near as items are to each other: within the 95 % quantile of the distances from an item to the nearest
item of another block. The distance of nearest neighbours, held against the reference's own, is a usual test for novelty
(Pimentel et al., "A review of novelty detection", Signal Processing 2014). Three choices are ours, by trial on the load
of utilities, buildings and artificial sites:

* The distance is the largest difference in any column (Chebyshev): beside the many columns of recent load, a
  temperature or weekday that no item has would not show in the Euclidean one.
* The quantile is not higher, since holidays are rare and far from each other, and would say what is near.
* Blocks: hours of one day share most of their inputs, so the nearest item is mostly of the same day, the more so the
  more items there are, and no new day would count as near.
"""

from __future__ import annotations

import numpy as np

from fedstill.labels import Array

MOST_ROWS = 1000
"""Rows of each kind that are compared, drawn with a fixed seed: time and memory grow with their product."""
QUANTILE = 0.95
ENOUGH = 0.7
"""Coverage below which a participant is warned. Where its rows are drawn like the items it is 0.95, beside a single
public site of the same kind mostly 0.75 to 1."""

_SEED = 0
_ROUNDING = 1e-5


def coverage(own: Array, items: Array, block: Array | None = None) -> float:
    """Share of a participant's rows that the transfer set covers.

    Columns are on the scale of the items; one in which these do not vary is on that of the own rows.

    Parameters
    ----------
    own:
        The participant's inputs, (n, f), one or more.
    items:
        Inputs of the transfer set, (m, f), one or more.
    block:
        Which items have much in common, (m,): those of one day. None: every item stands for itself.

    Returns
    -------
    float
        0 to 1; NaN where all items are of one block, so that nothing says what is near.
    """
    rng = np.random.default_rng(_SEED)
    ours = own[rng.permutation(len(own))[:MOST_ROWS]].astype(np.float64)
    chosen = rng.permutation(len(items))[:MOST_ROWS]
    theirs = items[chosen].astype(np.float64)
    of = chosen if block is None else block[chosen]
    centre, spread = theirs.mean(axis=0), theirs.std(axis=0)
    tiny = _ROUNDING * np.maximum(np.abs(centre), 1e-3)
    spread = np.where(spread > tiny, spread, ours.std(axis=0))
    spread = np.where(spread > tiny, spread, 1.0)
    ours, theirs = (ours - centre) / spread, (theirs - centre) / spread
    between = _distances(theirs, theirs)
    between[of[:, None] == of] = np.inf
    nearest = between.min(axis=1)
    known = nearest[np.isfinite(nearest)]
    if not len(known):
        return float("nan")
    near = np.quantile(known, QUANTILE) + _ROUNDING
    return float((_distances(ours, theirs).min(axis=1) <= near).mean())


def warning(share: float) -> str | None:
    """What a participant is told where too little of its inputs is covered; None where it is enough or unknown."""
    if not share < ENOUGH:
        return None
    return (
        f"the transfer set covers {100 * share:.0f} % of its inputs, where {100 * ENOUGH:.0f} % or more would do: "
        "what others say about the items may not hold for its own rows"
    )


def _distances(a: Array, b: Array) -> Array:
    """The largest difference in any column between each row of a and each of b, (n, m)."""
    found = np.zeros((len(a), len(b)), np.float32)
    for one, other in zip(a.T.astype(np.float32), b.T.astype(np.float32), strict=True):
        np.maximum(found, np.abs(one[:, None] - other), out=found)
    return found
