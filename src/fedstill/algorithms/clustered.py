"""Clustered federated averaging: FedAvg for all at first, then within groups whose updates are alike.

Briggs, Fan and Andras, "Federated learning with hierarchical clustering of local updates to improve training on
non-IID data", IJCNN 2020, arXiv:2004.11791. After some rounds of FedAvg everyone trains the common model once more, the
updates (what this has changed in the parameters) are clustered, and each group goes on by itself. Here updates are
compared by the Euclidean distance, and clustered by average linkage.

Our own: whoever was absent when the groups were made keeps the last model of all, and joins the nearest group, by their
updates of that model, once it answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fedstill.algorithms.fedavg import Weights, check_weights, mean_of, training
from fedstill.grouping.clustering import cluster
from fedstill.labels import Array, Parameters, Party, Release
from fedstill.strategy import Ballot, Lesson, Strategy


@dataclass(frozen=True, eq=False)
class _Memory:
    """What the rounds so far have left.

    Attributes
    ----------
    rounds:
        Rounds of the warm-up that are over.
    group:
        The number of each participant's group; empty until there are groups.
    centres:
        The mean of each group's parameters when it was made, float64, shape (groups, parameters).
    models:
        Each group's model.
    """

    rounds: int = 0
    group: Mapping[Party, int] = field(default_factory=dict)
    centres: Array = field(default_factory=lambda: np.empty((0, 0)))
    models: tuple[Parameters, ...] = ()


def clustered(
    *,
    warm_up: int = 5,
    groups: int | None = None,
    threshold: float | None = None,
    weights: Weights = "size",
    epochs: int = 5,
    learning_rate: float = 0.01,
    tune: int = 0,
    seed: int = 0,
) -> Strategy:
    """FedAvg for all at first, then within groups whose updates are alike (FL+HC).

    Parameters
    ----------
    warm_up:
        Rounds of FedAvg before groups are made, once, in the next round. A run of no more rounds is FedAvg.
    groups, threshold:
        Number of groups, or the mean Euclidean distance between updates at which merging stops; neither: chosen by
        silhouette, which may find that all belong together.
    weights, epochs, learning_rate, tune, seed:
        As for `fedavg`.
    """
    check_weights(weights)
    if warm_up < 0:
        raise ValueError(f"warm_up = {warm_up} is no number of rounds, use 0 or more")
    cluster(np.zeros((1, 1)), "agglomerative", number=groups, threshold=threshold)  # refuses wrong options before a run

    def teach(ballot: Ballot) -> Lesson:
        memory = ballot.memory if isinstance(ballot.memory, _Memory) else _Memory()  # at first it is the common start
        if memory.rounds < warm_up:
            teachers = dict.fromkeys(ballot.parties, Release(parameters=mean_of(ballot, weights)))
            return Lesson(teachers, memory=_Memory(memory.rounds + 1))
        trained = _vectors(ballot)
        memory = _placed(memory, trained) if memory.group else _divided(memory, trained, groups, threshold)
        return _taught(ballot, memory, weights)

    recipe = training(weights, epochs, learning_rate, seed, tune=tune)
    return Strategy("clustered", teach, recipe)


def _vectors(ballot: Ballot) -> dict[Party, Array]:
    """Each voter's parameters as one vector, float64.

    They lie as far apart as the updates do, since all have trained the same parameters.
    """
    names = sorted(ballot.votes[0].release.parameters)
    return {
        vote.party: np.concatenate([np.ravel(vote.release.parameters[name]) for name in names]).astype(np.float64)
        for vote in ballot.votes
    }


def _divided(memory: _Memory, trained: Mapping[Party, Array], groups: int | None, threshold: float | None) -> _Memory:
    """Make the groups."""
    parties, vectors = list(trained), np.stack(list(trained.values()))
    apart = np.stack([np.linalg.norm(vectors - one, axis=1) for one in vectors])
    members = cluster(apart, "agglomerative", number=groups, threshold=threshold)
    return replace(
        memory,
        group={parties[i]: number for number, group in enumerate(members) for i in group},
        centres=np.stack([vectors[list(group)].mean(axis=0) for group in members]),
    )


def _placed(memory: _Memory, trained: Mapping[Party, Array]) -> _Memory:
    """Put voters that are in no group yet into the nearest."""
    late = {
        party: int(np.argmin(np.linalg.norm(memory.centres - vector, axis=1)))
        for party, vector in trained.items()
        if party not in memory.group
    }
    return replace(memory, group={**memory.group, **late})


def _taught(ballot: Ballot, memory: _Memory, weights: Weights) -> Lesson:
    """FedAvg within each group; a group of which nobody answered keeps its model."""
    voters = [[vote for vote in ballot.votes if memory.group[vote.party] == i] for i in range(len(memory.centres))]
    models = tuple(
        mean_of(replace(ballot, votes=votes), weights) if votes else memory.models[i] for i, votes in enumerate(voters)
    )
    releases = [Release(parameters=model) for model in models]
    return Lesson(
        {party: releases[memory.group[party]] for party in ballot.parties if party in memory.group},
        tuple(tuple(vote.party for vote in votes) for votes in voters if votes),
        replace(memory, models=models),
    )
