"""Where the noise of private releases comes from: the operating system in live use, a seed in simulations.

Whoever can guess the noise can take it off again. So noise that protects somebody must not follow from a seed.

A normal number computed in floating point has low bits that can betray what it was added to (Mironov, CCS 2012, for
Laplace). So each is made of four, as Holohan and Braghin 2021 (arXiv:2107.10138) advise and Opacus does in its secure
mode: who would find one out has three others to guess. That is a mitigation and no proof: exact samplers are for whole
numbers, and training is not in whole numbers.
"""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np

from fedstill.labels import Array

_PARTS = 4
"""Normal numbers that make one."""


class Noise(Protocol):
    """A source of chance; `source` is what a report calls it."""

    source: str

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Independent normal numbers of mean 0 and variance 1, float64."""
        ...

    def uniform(self, n: int) -> Array:
        """Independent numbers, evenly spread between 0 and 1 (exclusive), float64, shape (n,)."""
        ...


class SystemNoise:
    """The generator of the operating system (`os.urandom`): what protects somebody."""

    source = "operating system"

    def normal(self, shape: tuple[int, ...]) -> Array:
        """See `Noise`."""
        from scipy.special import ndtri  # a coordinator, which has this module by way of others, needs no SciPy

        n = int(np.prod(shape))
        parts = ndtri(self.uniform(_PARTS * n)).reshape(_PARTS, *shape)
        mixed: Array = parts.sum(axis=0) / np.sqrt(_PARTS)
        return mixed

    def uniform(self, n: int) -> Array:
        """See `Noise`: odd multiples of 2^-54, so never 0 or 1."""
        drawn = np.frombuffer(os.urandom(8 * n), np.uint64) >> np.uint64(11)
        return (drawn.astype(np.float64) + 0.5) * 2.0**-53


class SeededNoise:
    """Noise that can be had again: for simulations, where it protects nobody."""

    source = "seed"

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def normal(self, shape: tuple[int, ...]) -> Array:
        """See `Noise`."""
        return self._random.standard_normal(shape)

    def uniform(self, n: int) -> Array:
        """See `Noise`."""
        return self._random.random(n)
