"""Public columns for private models: directions in which public items differ, and how big a private load is.

What a private model pays grows with the number of its parameters. The inputs of a transfer set show, for nothing, in
which directions inputs differ at all; a model in the foremost of them, each of variance 1, needs few parameters and few
steps (compare Zhou, Wu and Banerjee, Bypassing the ambient dimension, ICLR 2021, who project gradients on a public
subspace).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedstill.labels import Array, Parameters
from fedstill.privacy.base import multiplier_of
from fedstill.privacy.noise import Noise
from fedstill.privacy.pricing import multiplier_for
from fedstill.privacy.spending import Budget, Event, Gaussian, Spend
from fedstill.sites import View

RIDGE = 0.05
"""Standard deviation that is added to every direction, so that those in which nothing varies are not blown up."""
BOUND = 3.0
"""No input is further from the public mean, in standard deviations."""
_LOW, _BINS = -20, 60
"""Sizes are looked for between 2^-20 and 2^40 (kW), a bin for each power of two."""
_WIDE = 4
"""Octaves around the fullest bin in which the mean is taken."""


@dataclass(frozen=True, eq=False)
class Basis:
    """Directions in public columns.

    Attributes
    ----------
    mean:
        Of the public columns, shape (p,).
    axes:
        What makes components of centred columns, shape (p, r).
    """

    mean: Array
    axes: Array

    @classmethod
    def of(cls, public: View, components: int) -> Basis:
        """The first principal components of public items, so many at most."""
        seen = columns(public, public_size(public))
        mean = seen.mean(axis=0)
        _, singular, directions = np.linalg.svd(seen - mean, full_matrices=False)
        spread = singular / np.sqrt(len(seen))
        kept = min(components, int((spread > 1e-9 * spread[0]).sum()))
        return cls(mean, directions[:kept].T / np.hypot(spread[:kept], RIDGE))

    def components(self, view: View, size: float) -> Array:
        """Rows in this basis, clipped; shape (n, r)."""
        inside: Array = np.clip((columns(view, size) - self.mean) @ self.axes, -BOUND, BOUND)
        return inside

    def arrays(self) -> Parameters:
        """By name, for a release."""
        return {"mean": self.mean, "axes": self.axes}

    @classmethod
    def from_arrays(cls, arrays: Parameters) -> Basis:
        """The opposite of `arrays`."""
        return cls(arrays["mean"], arrays["axes"])


def columns(view: View, size: float) -> Array:
    """All inputs of a view, with what is relative in units of this size; shape (n, p)."""
    return np.concatenate([view.known, view.relative / size], axis=1)


def public_size(public: View) -> float:
    """The typical swing of public items: the geometric mean over days; 1 for classes."""
    return 1.0 if public.swing is None else float(np.exp2(_octaves(public).mean()))


def sized_spends(
    own: View,
    budget: Budget,
    already: Sequence[Event],
    share: float,
    event: Callable[[float], Event],
    said: str,
) -> list[Spend]:
    """What a release costs that knows the size of the load: a share for `private_size`, the rest for `event`.

    Classes have no size, and all is for `event`. It has the least noise that the budget allows. Raises BudgetSpent.
    """
    spends = []
    if own.swing is not None:
        alone = multiplier_for(Gaussian, budget.epsilon, budget.delta, already)
        size = Gaussian(alone * float(np.sqrt(2 / share)), 2)
        spends.append(Spend(size, budget.unit, f"the size of the load, for {said}"))
    least = multiplier_for(event, budget.epsilon, budget.delta, [*already, *(one.event for one in spends)])
    return [*spends, Spend(event(least), budget.unit, said)]


def private_size(own: View, spends: Sequence[Spend], noise: Noise) -> float:
    """The same of private days, for the first of these spends: two releases with that noise.

    The first counts the days in every power of two. The second is the mean of their logarithms, clipped to four octaves
    around the fullest bin. A day adds 1 to a count, and at most 1/2 to a sum.
    """
    if own.swing is None:
        return 1.0
    multiplier, octaves = multiplier_of(spends[0]), _octaves(own)
    place = np.clip(np.floor(octaves) - _LOW, 0, _BINS - 1).astype(np.int64)
    counts = np.bincount(place, minlength=_BINS) + multiplier * noise.normal((_BINS,))
    low = _LOW + int(counts.argmax()) + (1 - _WIDE) / 2
    inside = np.clip((octaves - low) / _WIDE, 0, 1) - 0.5
    total = inside.sum() + multiplier / 2 * float(noise.normal((1,))[0])
    mean = 0.5 + float(np.clip(total / max(own.blocks, 1), -0.5, 0.5))
    return float(np.exp2(low + _WIDE * mean))


def _octaves(view: View) -> Array:
    """Base-2 logarithm of each day's swing, shape (days,)."""
    swing = np.zeros(0) if view.swing is None else view.swing
    octaves: Array = np.log2(np.clip(swing, 2.0**_LOW, 2.0 ** (_LOW + _BINS)))
    return octaves


def sized(view: View, size: float) -> View:
    """The same with targets in units of this size."""
    return view if view.swing is None or view.y is None else replace(view, y=view.y / size)
