"""Sketch, then send: groups are made from a few numbers of everyone, and who speaks for them alone sends soft labels.

The patent abstract that `grouped` follows lets one soft label of each group take part. Then the others need not travel:

1. Everyone sends a sketch of its soft labels, m numbers (see `grouping.sketch`), from which distances can be told.
2. The coordinator groups by these distances, and asks the most reliable of each group for its soft labels.
3. The speakers of a group make its voice, the voices the teacher, and everyone learns from it.

Up go G full soft labels of one speaker a group, and m numbers of each of the K participants, in place of K full ones;
what goes down is the same. The price is what averaging within a group would take away: see `speakers`.

Where a speaker does not answer, its group goes on with its other speakers, or without a voice; where no speaker of any
group answers, the next in each group are asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import resolve
from fedstill.grouping.clustering import METHODS, cluster
from fedstill.grouping.sketch import SKETCH_MEASURES, sketch_distances
from fedstill.grouping.votes import choose
from fedstill.labels import Array, Party, Release
from fedstill.messages import Kind, Recipe
from fedstill.strategy import Ballot, FollowUp, Lesson, Strategy, Vote

Groups = tuple[tuple[Party, ...], ...]


def sketched(
    *,
    sketch: int = 32,
    speakers: int = 1,
    similarity: str = "auto",
    grouping: str = "agglomerative",
    groups: int | None = None,
    threshold: float | None = None,
    reliability: Literal["medoid", "heldout"] = "medoid",
    weights: Literal["equal", "size"] = "size",
    aggregate: str = "median",
    share: float = 0.5,
    seed: int = 0,
) -> Strategy:
    """Everyone sends a sketch, groups are made from these, and their speakers alone send soft labels.

    Parameters
    ----------
    sketch:
        Numbers of a sketch; distances are off by about 1 / sqrt(2 sketch) of themselves.
    speakers:
        Participants of each group that are asked for their soft labels.
    similarity:
        How unlike two sketches are: "euclidean", "cosine"; "auto" is "euclidean".
    grouping, groups, threshold:
        As for `grouped`; a threshold is in the unit of the soft labels.
    reliability:
        Who speaks: "medoid", whose sketch is nearest to those of its group; "heldout", whose held-out loss is lowest,
        which participants are then asked to tell.
    weights:
        How much a group's voice counts: "equal", or "size" by its number of members.
    aggregate:
        How a group's speakers become its voice, and the voices one teacher; as for `grouped`.
    share:
        The teacher's share of the weight a student learns from, 0 to 1.
    seed:
        Seed of the projection and of the clustering.
    """
    # Names and numbers are looked at here, so that a wrong one shows before anybody has trained.
    resolve(aggregate)
    choose(similarity, SKETCH_MEASURES, "similarity")
    choose(grouping, METHODS, "grouping")
    choose(reliability, dict.fromkeys(("medoid", "heldout")), "reliability")
    choose(weights, dict.fromkeys(("equal", "size")), "weights")
    if speakers < 1:
        raise ConfigError(f"{speakers} speakers say nothing", where="speakers", remedy="Use 1 or more")
    if seed < 0:
        raise ConfigError(f"{seed} is no seed", where="seed", remedy="Use 0 or more")

    def ask_on(ballot: Ballot) -> Lesson:
        apart = sketch_distances([vote.sketch for vote in ballot.votes], similarity)
        members = cluster(apart, grouping, number=groups, threshold=threshold, seed=seed)
        ranked = [_ranked(group, apart, ballot.votes, reliability) for group in members]
        turns = [
            sorted(party for group in ranked for party in group[at : at + speakers])
            for at in range(0, max(map(len, ranked)), speakers)
        ]
        named: Groups = tuple(tuple(sorted(group)) for group in ranked)
        return Lesson(follow_up=FollowUp(tuple(map(tuple, turns)), memory=named))

    def hear(ballot: Ballot, members: Groups) -> Lesson:
        join = resolve(aggregate, ballot.outputs)
        said = {vote.party: vote.labels for vote in ballot.votes}
        heard = [(group, [said[party] for party in group if party in said]) for group in members]
        heard = [(group, labels) for group, labels in heard if labels]
        voices = [join(labels, np.ones(len(labels))) for _, labels in heard]
        sizes = np.array([len(group) if weights == "size" else 1.0 for group, _ in heard])
        return Lesson(dict.fromkeys(ballot.parties, Release(labels=join(voices, sizes))), members)

    def teach(ballot: Ballot) -> Lesson:
        return ask_on(ballot) if ballot.follow_up is None else hear(ballot, ballot.follow_up.memory)

    recipe = Recipe(Kind.SKETCH, share, score=reliability == "heldout", sketch=sketch, seed=seed)
    return Strategy("sketched", teach, recipe, follow_up=Recipe(share=share))


def _ranked(group: Sequence[int], apart: Array, votes: Sequence[Vote], reliability: str) -> list[Party]:
    """A group, the most reliable first. In a pair both are as near to each other: then all participants decide."""

    def doubt(member: int) -> tuple[float, ...]:
        told = (votes[member].release.score,) if reliability == "heldout" else ()
        return *told, float(apart[member, list(group)].sum()), float(apart[member].sum())

    return [votes[member].party for member in sorted(group, key=doubt)]
