"""Which participants belong together, by the distances between them.

Before anything else participants are brought into an order that the distances alone decide (each by its
sorted distances to the others). So neither the order in which they came nor a random start on it can change
the groups, except among participants whose distances are alike in that sense, where the given order
decides.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import AffinityPropagation, AgglomerativeClustering, KMeans, SpectralClustering
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from fedstill.errors import ConfigError
from fedstill.grouping.votes import choose
from fedstill.labels import Array

Groups = tuple[tuple[int, ...], ...]
"""Indices of participants, each group rising, groups by their first member."""

LEAST_SILHOUETTE = 0.25
"""A split that does not exceed this is no structure (Kaufman & Rousseeuw, "Finding Groups in Data", 1990)."""

KMEANS_STARTS = 30
AFFINITY_ROUNDS = 1000


def cluster(
    distances: Array, method: str, *, number: int | None = None, threshold: float | None = None, seed: int = 0
) -> Groups:
    """Split participants into groups.

    Parameters
    ----------
    distances:
        Shape (K, K), symmetric, zero diagonal, not negative, finite.
    method:
        * "agglomerative": average linkage (Sokal & Michener 1958), to `number` groups or while the mean
          distance between two groups is at most `threshold`.
        * "kmeans": k-means on the classical (Torgerson) scaling of the distances to points; what part of
          them no Euclidean space can hold is dropped.
        * "spectral": on exp(-d^2 / (2 m^2)) with m the median distance between participants that differ at all
          (von Luxburg 2007), cut by the QR factorisation of the eigenvectors.
        * "affinity": affinity propagation (Frey & Dueck 2007) on -d^2, with its median as the preference.
          Where it does not converge everyone stands alone: no group is then spoken for by one member on no
          grounds.
        * "none": all in one group. "each": everyone alone.
    number:
        Groups to make ("agglomerative", "kmeans", "spectral"). More than there are unlike participants
        gives as many as there are. None, without `threshold`: the number of highest mean silhouette
        (Rousseeuw 1987), the smallest among equals, or one group if none exceeds `LEAST_SILHOUETTE` (so
        always for K = 2).
    threshold:
        Largest mean distance that still joins two groups, in the unit of the distances ("agglomerative").
    seed:
        For the starts of k-means and the tie-breaking of affinity propagation.

    Returns
    -------
    tuple
        Groups of indices, each rising, ordered by their first member; each index stands in exactly one.

    Raises
    ------
    ConfigError
        There is no such method, or an option is out of range or not one that the method reads.
    ValueError
        `distances` is not a matrix of distances.
    """
    chosen = choose(method, METHODS, "clustering")
    options = {"number": number, "threshold": threshold, "seed": seed}
    _check_options(method, chosen.reads, number, threshold)
    matrix = _checked(distances)
    order = np.lexsort(np.sort(matrix, axis=1).T[::-1])
    canonical = matrix[np.ix_(order, order)]
    labels = chosen.split(canonical, **{key: options[key] for key in chosen.reads})
    groups: dict[int, list[int]] = {}
    for member, label in zip(order.tolist(), labels.tolist(), strict=True):
        groups.setdefault(label, []).append(member)
    return tuple(sorted(tuple(sorted(group)) for group in groups.values()))


def _check_options(method: str, reads: tuple[str, ...], number: int | None, threshold: float | None) -> None:
    for key, value in (("number", number), ("threshold", threshold)):
        if value is not None and key not in reads:
            readers = [name for name, other in METHODS.items() if key in other.reads]
            raise ConfigError(
                f"the method {method!r} does not read {key!r}",
                where="clustering",
                remedy=f"Leave {key!r} out or choose one of: {', '.join(readers)}",
            )
    if number is not None and threshold is not None:
        raise ConfigError("both 'number' and 'threshold' are given", where="clustering", remedy="Give one of them")
    if number is not None and number < 1:
        raise ConfigError(f"'number' is {number}", where="clustering", remedy="Give 1 or more")
    if threshold is not None and not (threshold >= 0 and math.isfinite(threshold)):
        raise ConfigError(f"'threshold' is {threshold}", where="clustering", remedy="Give a finite number, 0 or more")


def _checked(distances: Array) -> Array:
    matrix = np.asarray(distances, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"distances must be a square matrix of one participant or more, not {matrix.shape}")
    if not np.all(np.isfinite(matrix)) or np.any(matrix < 0):
        raise ValueError("distances must be finite and not negative")
    if np.any(np.diag(matrix) != 0) or np.any(np.abs(matrix - matrix.T) > 1e-9 * matrix.max()):
        raise ValueError("distances must be symmetric with a zero diagonal")
    return matrix


def _numbered(distances: Array, number: int | None, split: Callable[[int], Array]) -> Array:
    """Labels of a split into `number` groups, or into the number that the silhouette favours."""
    unlike = len(np.unique(distances, axis=0))
    one = np.zeros(len(distances), dtype=np.int64)
    if number is not None:
        return split(min(number, unlike)) if min(number, unlike) > 1 else one
    best, best_score = one, LEAST_SILHOUETTE
    for groups in range(2, min(unlike, len(distances) - 1) + 1):
        labels = split(groups)
        if len(np.unique(labels)) < 2:
            continue
        score = float(silhouette_score(distances, labels, metric="precomputed"))
        if score > best_score + 1e-12:
            best, best_score = labels, score
    return best


def _agglomerative(distances: Array, number: int | None, threshold: float | None) -> Array:
    if len(distances) == 1:
        return np.zeros(1, dtype=np.int64)

    def split(groups: int | None) -> Array:
        # scikit-learn stops before a merge at the threshold itself; ours still joins there.
        stop = None if threshold is None else np.nextafter(threshold, np.inf)
        model = AgglomerativeClustering(groups, metric="precomputed", linkage="average", distance_threshold=stop)
        return np.asarray(model.fit_predict(distances))

    return _numbered(distances, number, split) if threshold is None else split(None)


def _kmeans(distances: Array, number: int | None, seed: int) -> Array:
    centre = np.eye(len(distances)) - 1 / len(distances)
    sizes, axes = np.linalg.eigh(-centre @ np.square(_scaled(distances)) @ centre / 2)
    held = sizes > 1e-10 * sizes[-1]
    points = axes[:, held] * np.sqrt(sizes[held])

    def split(groups: int) -> Array:
        model = KMeans(groups, n_init=KMEANS_STARTS, random_state=seed)
        # Tens of points are less work than waking a thread for them.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than groups: so be it
            return np.asarray(model.fit_predict(points))

    return _numbered(distances, number, split)


def _spectral(distances: Array, number: int | None, seed: int) -> Array:
    positive = distances[distances > 0]
    if not positive.size:
        return np.zeros(len(distances), dtype=np.int64)
    affinity = np.exp(-np.square(distances / np.median(positive)) / 2)

    def split(groups: int) -> Array:
        if groups == len(distances):  # more eigenvectors than the solver gives
            return _each(distances)
        # "cluster_qr" has no random start (Damle, Minden & Ying 2019).
        model = SpectralClustering(groups, affinity="precomputed", assign_labels="cluster_qr", random_state=seed)
        with threadpool_limits(1):
            return np.asarray(model.fit_predict(affinity))

    return _numbered(distances, number, split)


def _scaled(distances: Array) -> Array:
    """Distances of at most 1, so that squares neither vanish nor overflow."""
    return np.asarray(distances / (distances.max() or 1.0))


def _affinity(distances: Array, seed: int) -> Array:
    alikeness = -np.square(_scaled(distances))
    pairs = alikeness[~np.eye(len(distances), dtype=bool)]
    if not pairs.size or np.ptp(pairs) == 0:  # nothing sets anyone apart
        return np.zeros(len(distances), dtype=np.int64)
    model = AffinityPropagation(
        affinity="precomputed", preference=np.median(pairs), max_iter=AFFINITY_ROUNDS, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return np.asarray(model.fit_predict(alikeness))
        except ConvergenceWarning:
            return _each(distances)


def _none(distances: Array) -> Array:
    return np.zeros(len(distances), dtype=np.int64)


def _each(distances: Array) -> Array:
    return np.arange(len(distances))


@dataclass(frozen=True)
class Method:
    """A way to split: distances and the options it reads, to one label a participant."""

    split: Callable[..., Array]
    reads: tuple[str, ...] = ()


METHODS: Mapping[str, Method] = {
    "affinity": Method(_affinity, ("seed",)),
    "agglomerative": Method(_agglomerative, ("number", "threshold")),
    "each": Method(_each),
    "kmeans": Method(_kmeans, ("number", "seed")),
    "none": Method(_none),
    "spectral": Method(_spectral, ("number", "seed")),
}
"""Methods by name."""
