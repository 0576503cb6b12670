"""Which model a participant keeps, by its own held-back rows; meant to do no harm, not able to promise it.

Candidates are the distilled model, the site's own, the floor, and any blend of them (a weighted mean of
probabilities, or of quantile functions: Vincent averaging, Lichtendahl et al. 2013, doi:10.1287/mnsc.1120.1667).

The held-back rows come from the site's own short history. In that season the own model looks better than it will be
in the next, and the distilled one, which has learned from everybody's seasons, worse. So the first candidate is kept
unless the evidence against it is clear: the best blend must beat it by more than `CLEAR` standard errors, counted in
whole days, because errors within a day are alike (the one-standard-error rule of Breiman et al. 1984, turned round).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fedstill.labels import Array, Outputs
from fedstill.sites import Rows, losses

CLEAR = 2.0
"""Standard errors of the mean daily difference that count as clear."""
_STEPS = 10
"""A blend's weights are multiples of 1/10: finer ones follow the noise of a few held-back weeks."""


@dataclass(frozen=True)
class Kept:
    """What is kept: a candidate's name or "blend", the weights behind it, and why in a sentence."""

    name: str
    weights: Mapping[str, float]
    why: str

    def blend(self, predictions: Mapping[str, Array]) -> Array:
        """The kept model's prediction from the candidates' predictions, each shape (n, k)."""
        parts = [weight * np.asarray(predictions[name], np.float64) for name, weight in self.weights.items()]
        blended: Array = np.sum(parts, axis=0).astype(np.float32)
        return blended


def choose(outputs: Outputs, held: Rows, predictions: Mapping[str, Array]) -> Kept:
    """Choose by the losses on held-back rows.

    Parameters
    ----------
    outputs:
        What is predicted.
    held:
        The held-back rows.
    predictions:
        Each candidate's prediction of them, shape (n, k), the one to prefer without clear evidence first.
    """
    names = list(predictions)
    if len(held) == 0:
        return Kept(names[0], {names[0]: 1.0}, "no rows were held back to choose by")
    stacked = np.stack([np.asarray(predictions[name], np.float64) for name in names])
    by_block = {
        shares: held.block_means(losses(outputs, held.y, np.tensordot(np.array(shares) / _STEPS, stacked, 1)))
        for shares in _compositions(_STEPS, len(names))
    }
    preferred, best = next(iter(by_block)), min(by_block, key=lambda shares: by_block[shares].mean())
    better_by = by_block[preferred] - by_block[best]
    clear = better_by.mean() > CLEAR * better_by.std(ddof=1) / np.sqrt(len(better_by)) if len(better_by) > 1 else False
    shares = best if clear else preferred
    weights = {name: share / _STEPS for name, share in zip(names, shares, strict=True) if share}
    alone = ", ".join(
        f"{name} {by_block[tuple(_STEPS * (other == name) for other in names)].mean():.4g}" for name in names
    )
    reason = (
        f"it beats {names[0]} clearly"
        if clear
        else f"nothing beats {names[0]} clearly (the best blend has {by_block[best].mean():.4g})"
    )
    told = f"held-back loss: {alone}, kept {by_block[shares].mean():.4g}; {reason}"
    return Kept(next(iter(weights)) if len(weights) == 1 else "blend", weights, told)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)
