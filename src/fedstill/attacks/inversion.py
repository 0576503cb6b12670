"""Inputs from gradients: what the first layer of a network says of the rows that it learned from.

The gradient of a layer's weights is the sum over rows of an input times an error, that of its bias the sum of the
errors alone. So every unit tells a weighted mean of the rows that excite it: the row itself where there is one (Phong
et al., IEEE TIFS 2018; Geiping et al., arXiv:2003.14053), and where there are many, equations that say how private
columns go with public ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from fedstill.attacks.hidden import Blocks, Guess, known
from fedstill.attacks.sights import Said
from fedstill.labels import Array, Parameters
from fedstill.messages import Kind

STEPS = 200
"""Iterations of the unmixing."""


def first_layer(parameters: Parameters, n_features: int) -> Array | None:
    """Weights and, below them, bias of the layer that sees the inputs, (f + 1, units); None where there is none."""
    for (_, weight), (_, bias) in pairwise(parameters.items()):
        if np.ndim(weight) == 2 and np.ndim(bias) == 1:
            for table in (np.asarray(weight, np.float64), np.asarray(weight, np.float64).T):
                if table.shape == (n_features, len(bias)):
                    return np.vstack([table, np.asarray(bias, np.float64)])
            return None
    return None


def slopes(said: Sequence[Said], n_features: int) -> Array | None:
    """The gradients of the first layer that were seen, or what stands in for them, (f + 1, units x rounds).

    What local training has changed is taken for a sum of gradients. For plain gradient descent it is one; of Adam, by
    which the networks here train, little more than the signs is left in it. Rounds count alike.
    """
    seen = []
    for one in said:
        if one.start is None:
            continue
        layer = first_layer(one.release.parameters, n_features)
        start = first_layer(one.start, n_features)
        if layer is None or start is None:
            return None
        change = layer if one.recipe.release is Kind.GRADIENTS else start - layer
        size = float(np.linalg.norm(change))
        seen.append(change / size if np.isfinite(size) and size > 0 else np.zeros_like(change))
    return np.hstack(seen) if seen else None


def through_first_layer(table: Array, blocks: Blocks, linear: Guess, trust: float) -> Array:
    """Private columns of blocks from the slopes of the first layer.

    Where rows are `private = B [public; 1]` but for noise, each column of the slopes is too. So B is regressed over the
    units, held to that of the prior. It is exact for one row, for what is the same in all rows of one day,
    and for as many days as public columns tell apart.

    Parameters
    ----------
    table:
        See `slopes`.
    blocks:
        The days to tell, of which only the public columns are looked at.
    linear:
        The prior as a linear map.
    trust:
        Penalty on what differs from the prior, as part of the mean square of the slopes.

    Returns
    -------
    Private columns of each block, (d, q).
    """
    columns = blocks.columns
    told = np.vstack([table[-1:], table[columns.public]])
    gap = table[columns.private] - linear.coefficients.T @ told
    left, sizes, right = np.linalg.svd(told, full_matrices=False)
    held = trust * float(np.mean(sizes**2))
    heard = np.divide(sizes, sizes**2 + held, out=np.zeros_like(sizes), where=sizes > 1e-12 * sizes.max(initial=0.0))
    lines = linear.coefficients.T + (gap @ right.T * heard) @ left.T
    found: Array = blocks.means(known(blocks.public, 1) @ lines.T)
    return found


def steady(others: Sequence[Blocks]) -> Array:
    """Columns that are the same in all rows of a block, as other sites show; their numbers, rising."""
    moves = np.zeros(others[0].X.shape[1])
    for blocks in others:
        moves = np.maximum(moves, np.abs(blocks.X - blocks.means(blocks.X)[blocks.of]).max(axis=0, initial=0.0))
    return np.flatnonzero(moves < 1e-4)


def unmixed(table: Array, steady: Array, sources: int, rng: np.random.Generator) -> Array | None:
    """The rows behind the slopes of the first layer, each up to its order, by independent component analysis.

    Slopes are mixtures, and which rows excite a unit differs from unit to unit: the cocktail party attack (Kariyappa et
    al., ICML 2023, arXiv:2209.05578) by scikit-learn's FastICA. The bias of the layer gives
    each component its size and sign.

    Parameters
    ----------
    table:
        See `slopes`, (f + 1, m).
    steady:
        Columns that are the same in all rows of a block: the mixture is exact in these.
    sources:
        How many blocks there are.
    rng:
        Where the search starts.

    Returns
    -------
    Inputs of each block, (sources, f), in any order; None where the slopes hold fewer components than blocks.
    """
    chosen = table[[*steady, len(table) - 1]]
    _, sizes, right = np.linalg.svd(chosen, full_matrices=False)
    if sources > len(sizes) or sizes[sources - 1] <= 1e-9 * sizes[0]:
        return None
    white = right[:sources] - right[:sources].mean(axis=1, keepdims=True)
    gram = white @ white.T
    values, vectors = np.linalg.eigh(gram)
    if values[0] <= 1e-9:
        return None
    towhite = vectors / np.sqrt(values) @ vectors.T * np.sqrt(white.shape[1])
    turn = _turned(towhite @ white, rng) @ towhite
    errors = turn @ right[:sources]
    mixing = table @ np.linalg.pinv(errors)
    scale = mixing[-1]
    scale = np.where(np.abs(scale) > 1e-9 * np.abs(scale).max(), scale, np.inf)
    return np.asarray((mixing[:-1] / scale).T)


def _turned(white: Array, rng: np.random.Generator) -> Array:
    """The rotation of white signals, (c, m), after which they are least Gaussian."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    search = FastICA(whiten=False, max_iter=STEPS, tol=1e-8, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the best that was found is a guess as well
        found: Array = search.fit(white.T).components_
    return found
