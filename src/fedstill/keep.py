"""Which model a participant keeps, by its own held-back rows; meant to do no harm, not able to promise it.

Candidates are the distilled model, the site's own, the floor, and any blend of them (a weighted mean of
probabilities, or of quantile functions: Vincent averaging, Lichtendahl et al. 2013, doi:10.1287/mnsc.1120.1667).

The held-back rows come from the site's own short history. In that season the own model looks better than it will be
in the next, and the distilled one, which has learned from everybody's seasons, worse; and a few held-back days are few.
So the weights are stacked (Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1) with a pull towards weights that do well
for most: ridge regression's idea, towards `PRIOR` instead of zero.

What is held back from a model is not held back from its teacher, which has heard of these rows by the participant's own
answer. The fewer speak, the more of the teacher is the participant itself, and the more its loss flatters: `FLATTERY`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fedstill.calibrate import Stretch, stretch
from fedstill.labels import Array, Outputs
from fedstill.sites import Rows, losses

PRIOR = {"distilled": 0.8, "own": 0.1, "floor": 0.1}
"""The weights that a participant without evidence takes; the rest of them where a candidate is missing."""
PULL = 0.03
"""What the squared distance from `PRIOR` counts, where the lowest loss of a blend on held-back rows counts 1."""
FLATTERY = 0.3
"""By what part of itself the held-back loss of a distilled model is too low where its teacher is the participant alone;
by trial. Where the participant is one of n voices, a part of 1/n of that."""
_STEPS = 10
"""A blend's weights are multiples of 1/10: finer ones follow the noise of a few held-back weeks."""


@dataclass(frozen=True)
class Kept:
    """What is kept.

    Attributes
    ----------
    name:
        A candidate's name, or "blend".
    weights:
        What it is made of.
    why:
        The evidence in a sentence.
    stretch:
        How its quantiles are spread out (`calibrate`); None: as they are.
    """

    name: str
    weights: Mapping[str, float]
    why: str
    stretch: Stretch | None = None

    def blend(self, predictions: Mapping[str, Array]) -> Array:
        """The kept model's prediction from the candidates' predictions, each shape (n, k)."""
        parts = [weight * np.asarray(predictions[name], np.float64) for name, weight in self.weights.items()]
        blended = np.sum(parts, axis=0)
        spread: Array = (blended if self.stretch is None else self.stretch.apply(blended)).astype(np.float32)
        return spread


def choose(outputs: Outputs, held: Rows, predictions: Mapping[str, Array], hearsay: float = 0.0) -> Kept:
    """Choose by the losses on held-back rows, and by what mostly does well.

    Parameters
    ----------
    outputs:
        What is predicted.
    held:
        The held-back rows.
    predictions:
        The prediction of them, shape (n, k), by each of the candidates that `PRIOR` names and that there are.
    hearsay:
        The part of the distilled model's teacher that has seen the held-back rows, 0 to 1.
    """
    names = [name for name in PRIOR if name in predictions]
    prior = np.array([PRIOR[name] for name in names])
    prior /= prior.sum()
    blends = np.array(list(_compositions(_STEPS, len(names)))) / _STEPS
    apart = ((blends - prior) ** 2).sum(axis=1)
    if len(held) == 0:
        return _kept(names, blends[apart.argmin()], "no rows were held back to choose by")
    stacked = np.stack([np.asarray(predictions[name], np.float64) for name in names])

    def held_loss(weights: Array) -> float:
        return float(held.block_means(losses(outputs, held.y, np.tensordot(weights, stacked, 1))).mean())

    found = np.array([held_loss(weights) for weights in blends])
    taught = blends[:, names.index("distilled")] if "distilled" in names else 0.0
    expected = found * (1 + FLATTERY * hearsay * taught)
    best = expected.min()
    worse = expected / best if best > 0 else np.where(expected > 0, np.inf, 1.0)
    chosen = (worse + PULL * apart).argmin()
    blend = np.tensordot(blends[chosen], stacked, 1)
    alone = ", ".join(
        f"{name} {held_loss(weights):.4g}" for name, weights in zip(names, np.eye(len(names)), strict=True)
    )
    why = f"held-back loss: {alone}, kept {found[chosen]:.4g}"
    return _kept(names, blends[chosen], why, stretch(outputs, held, blend))


def _kept(names: list[str], shares: Array, why: str, spread: Stretch | None = None) -> Kept:
    weights = {name: float(share) for name, share in zip(names, shares, strict=True) if share > 0}
    return Kept(next(iter(weights)) if len(weights) == 1 else "blend", weights, why, spread)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)
