"""Sketches: a few numbers from which distances between soft labels can be told.

A random projection (Johnson & Lindenstrauss 1984) with signs for entries (Achlioptas, "Database-friendly random
projections", 2003, doi:10.1016/S0022-0000(03)00025-4): with R of shape (m, n k), all entries +1 or -1, and x the n k
numbers of soft labels, the sketch is R x / sqrt(m n). Squared distances and products between sketches have those of the
soft labels, as means over items, for expectation; a squared distance is off by sqrt(2 / m) of itself at one standard
deviation, whatever n and k are: a quarter with 32 numbers, an eighth with 128.

Everyone draws R from the same seed. The signs are the bits of PCG64, whose stream NumPy promises to keep, so members
with other versions of NumPy or other machines draw the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedstill.grouping.votes import choose
from fedstill.labels import Array, SoftLabels


def sketch(labels: SoftLabels, m: int, seed: int = 0) -> Array:
    """Project soft labels to a few numbers; weights of items are not looked at.

    Parameters
    ----------
    labels:
        Soft labels about n items.
    m:
        Numbers to project to, 1 or more.
    seed:
        Of the projection, the same for all whose sketches are to be compared; not negative.

    Returns
    -------
    Array
        float32, shape (m,), in the unit of the soft labels.
    """
    x = labels.values.astype(np.float64).ravel()
    scale = math.sqrt(m * max(len(labels.items), 1))
    words = -(-x.size // 64)  # each word has the signs of 64 entries
    bits = np.random.PCG64(seed)
    rows = (bits.random_raw(words).astype("<u8").view(np.uint8) for _ in range(m))  # one at a time: R can be large
    signs = (np.unpackbits(row, count=x.size, bitorder="little") for row in rows)
    # R x is twice the sum where the sign is +1, less the sum of all.
    projected = np.array([2 * x[sign == 1].sum() - x.sum() for sign in signs])
    return np.asarray(projected / scale, np.float32)


def sketch_distances(sketches: Sequence[Array], kind: str = "auto") -> Array:
    """Distance between every two participants, told by their sketches.

    Parameters
    ----------
    sketches:
        K sketches of m numbers, drawn with the same seed.
    kind:
        * "euclidean": root of the mean over items of the squared Euclidean distance between rows of soft labels, in
          their unit.
        * "cosine": 1 - cosine of the beliefs about all items in one vector; from 0 to 2. A vector of zeros is at 0 from
          another and at 1 from all else.
        * "auto": "euclidean".

    Returns
    -------
    Array
        Shape (K, K), float64, symmetric, zero diagonal.

    Raises
    ------
    ConfigError
        There is no such kind.
    """
    measure = choose(kind, SKETCH_MEASURES, "similarity of sketches")
    return measure(np.stack(sketches).astype(np.float64))


def _euclidean(points: Array) -> Array:
    return np.asarray(np.linalg.norm(points[:, None] - points[None], axis=2))


def _cosine(points: Array) -> Array:
    lengths = np.linalg.norm(points, axis=1)
    products = points @ points.T / np.where(np.outer(lengths, lengths) > 0, np.outer(lengths, lengths), 1.0)
    silent = lengths == 0
    products[np.ix_(silent, silent)] = 1.0
    apart = np.clip(1 - (products + products.T) / 2, 0.0, 2.0)
    np.fill_diagonal(apart, 0.0)
    return apart


SKETCH_MEASURES: Mapping[str, Callable[[Array], Array]] = {
    "auto": _euclidean,
    "cosine": _cosine,
    "euclidean": _euclidean,
}
"""Measures by kind: points of shape (K, m) to distances."""
