"""How wide the quantiles of what is kept must be, learned from held-back rows.

Means of quantile functions, and models that learned from a teacher, are too sure of themselves: of the 90 % interval
only some 80 % of the days of the next year came true. Conformalised quantile regression (Romano, Patterson and Candes,
arXiv:1905.03222) moves each quantile by what held-back errors ask for; here it is the multiplicative form (Kivaranovic,
Johnson and Leeb, arXiv:1905.10634), one factor for each side and level, around the median, which stays. Held-back rows
of one site are neither many nor independent, so the guarantee of the papers does not hold; and the factors are drawn
towards 1 by `DOUBT`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedstill.labels import Array, Outputs, Space
from fedstill.sites import Rows

DOUBT = 10
"""So many blocks (days) of held-back rows count as much as the belief that nothing need be changed."""
NARROW = 0.01
"""Quantiles nearer to the median than this share of the targets' spread, or of errors, count as so far away."""


@dataclass(frozen=True)
class Stretch:
    """Factors of the distance of each quantile from the median, k numbers; that of the median is 1."""

    factors: tuple[float, ...]
    median: int

    def apply(self, values: Array) -> Array:
        """Stretched quantiles, shape (n, k), rising in each row."""
        median = values[:, [self.median]]
        stretched: Array = np.sort(median + np.asarray(self.factors, values.dtype) * (values - median), axis=1)
        return stretched


def stretch(outputs: Outputs, held: Rows, said: Array) -> Stretch | None:
    """The factors by which so many of the held-back targets fall below each quantile as should.

    Parameters
    ----------
    outputs:
        What is predicted; None is returned for classes, and for a single quantile.
    held:
        Held-back rows.
    said:
        What was predicted of them, shape (n, k), by models that had not seen them.
    """
    if outputs.space is not Space.QUANTILES or len(outputs) < 2 or len(held) == 0:
        return None
    said = np.asarray(said, np.float64)
    blocks = len(held) if held.block is None else len(np.unique(held.block))
    trust = blocks / (blocks + DOUBT)
    middle = said[:, outputs.median]
    error = held.y - middle
    # Where targets hardly vary, the size of the errors keeps factors within bounds.
    spread = max(float(held.y.std()), float(np.sqrt(np.mean(error**2))))
    least = NARROW * max(spread, float(np.finfo(np.float32).tiny))
    factors = []
    for column, level in enumerate(outputs.levels.tolist()):
        side = float(np.sign(column - outputs.median))
        apart = np.maximum(side * (said[:, column] - middle), least)
        needed = float(np.quantile(side * error / apart, max(level, 1 - level))) if side else 1.0
        factors.append(1 + trust * (max(needed, 0.0) - 1))
    return Stretch(tuple(factors), outputs.median)
