"""COMET: on each item voices are clustered, and everyone learns from the cluster nearest to its own word.

Cho, Wang, Chiruvolu and Joshi, "Personalized Federated Learning for Heterogeneous Clients with Clustered Knowledge
Transfer", 2021, arXiv:2109.08119, in the form in which later papers compare with it (SCARLET, arXiv:2504.19602): for
each item k-means with k = 2 among the soft labels, and the nearest centroid is the teacher.

What is ours: the coordinator chooses the nearest for each, where members are sent all centroids and choose; so half
goes down. k-means starts at the voice farthest from the mean and then the farthest from those (Gonzalez 1985), so that
neither chance nor order decides. Who did not speak of an item learns the mean of all. Forecasts are clustered by their
quantiles, in the unit of the labels. With few members a cluster is easily one member, which then hears itself.
"""

from __future__ import annotations

import numpy as np

from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import mean
from fedstill.grouping.votes import average, result, stack
from fedstill.labels import Array, Release
from fedstill.messages import Recipe
from fedstill.strategy import Ballot, Lesson, Strategy

_ROUNDS = 50


def comet(*, clusters: int = 2, share: float = 0.5) -> Strategy:
    """Item by item, everyone learns from the cluster of voices nearest to its own (COMET).

    Parameters
    ----------
    clusters:
        Clusters on each item; 1 is FedMD.
    share:
        The teacher's share of the weight a student learns from, 0 to 1.
    """
    if clusters < 1:
        raise ConfigError(f"{clusters} clusters hold nobody", where="clusters", remedy="Use 1 or more")

    def teach(ballot: Ballot) -> Lesson:
        labels = [vote.labels for vote in ballot.votes]
        values, weights = stack(labels)
        centroids = _centroids(values, weights, clusters)
        together = mean(labels)
        teachers = dict.fromkeys(ballot.parties, Release(labels=together))
        for vote, own, weight in zip(ballot.votes, values, weights, strict=True):
            nearest = np.argmin(_squares(centroids, own), axis=0)
            rows = np.where(weight[:, None] > 0, centroids[nearest, np.arange(len(own))], together.values)
            teachers[vote.party] = Release(labels=result(together, rows, weights))
        return Lesson(teachers)

    return Strategy("comet", teach, Recipe(share=share))


def _centroids(values: Array, weights: Array, clusters: int) -> Array:
    """Means of the clusters of each item, shape (clusters, n, k), from values (K, n, k) and weights (K, n)."""
    every, speaks = np.arange(values.shape[1]), weights > 0
    gaps = _squares(values, average(values, weights))
    starts: list[Array] = []
    for _ in range(clusters):
        farthest = np.argmax(np.where(speaks, gaps, -1.0), axis=0)
        starts.append(values[farthest, every])
        nearest = [_squares(values, start) for start in starts]
        gaps = np.min(nearest, axis=0)
    centroids = np.stack(starts)
    for _ in range(_ROUNDS):
        member = np.argmin([_squares(values, centroid) for centroid in centroids], axis=0)
        parts = [weights * (member == cluster) for cluster in range(clusters)]
        moved = np.stack(
            [
                np.where(part.sum(axis=0)[:, None] > 0, average(values, part), centroid)
                for part, centroid in zip(parts, centroids, strict=True)
            ]
        )
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def _squares(rows: Array, centre: Array) -> Array:
    """Squared distances of rows (m, n, k) from a centre (n, k), shape (m, n)."""
    return np.asarray(((rows - centre) ** 2).sum(axis=2))
