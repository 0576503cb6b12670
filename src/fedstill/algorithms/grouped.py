"""The five-stage method: local training, soft labels, groups of alike, the most reliable speak, fitting.

After a published patent abstract on federated learning by knowledge distillation (Beijing University of Technology):
participants are grouped by the similarity of their soft labels; in every round the most reliable soft label of each
group takes part in the aggregation, so that a crowd of alike participants does not outvote the rest; and no extra
communication is needed, since grouping uses what was sent anyway. The abstract names no similarity, clustering,
reliability or loss: all of those are our reading, and each is an option.

Choosing one voice a group (`select = "client"`, the letter of the abstract) gives away the variance that averaging
within the group would remove; `select = "item"` chooses anew for each item, `select = "mean"` and `"median"` let all
members speak.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from fedstill.grouping.aggregates import AGGREGATES, FOR_CLASSES, group_weights, resolve
from fedstill.grouping.clustering import METHODS, cluster
from fedstill.grouping.doubt import check_doubt, doubted
from fedstill.grouping.reliability import RULES
from fedstill.grouping.reliability import reliability as reliabilities
from fedstill.grouping.selection import SELECTIONS, voice
from fedstill.grouping.similarity import MEASURES, distances
from fedstill.grouping.votes import choose
from fedstill.labels import Party, Release, SoftLabels, Space
from fedstill.messages import Recipe
from fedstill.strategy import Ballot, Lesson, Strategy


def grouped(
    *,
    similarity: str = "auto",
    grouping: str = "auto",
    groups: int | None = None,
    threshold: float | None = None,
    reliability: str = "auto",
    select: Literal["client", "item", "mean", "median"] = "median",
    weights: Literal["equal", "size"] = "size",
    aggregate: str = "auto",
    audience: Literal["everyone", "group", "both"] = "everyone",
    doubt: float | None = None,
    share: float = 0.5,
    seed: int = 0,
) -> Strategy:
    """Groups of alike participants, the most reliable of each speak (the five-stage method).

    Parameters
    ----------
    similarity:
        How unlike two participants' soft labels are: "js", "kl", "cosine", "wasserstein"; "auto" is
        Jensen-Shannon for classes and Wasserstein-1 for forecasts.
    grouping:
        "agglomerative", "kmeans", "spectral", "affinity"; "none" puts all into one group, "each" nobody with another.
        "auto" is "agglomerative" for forecasts. For classes it is "each" unless groups or a threshold are asked for:
        members that have seen other classes are experts for these, and a group of them would blur what they know.
    groups, threshold:
        Number of groups, or for "agglomerative" the distance at which merging stops; neither: chosen by silhouette.
    reliability:
        "entropy" (classes), "width" (forecasts), "medoid", or "heldout", which asks participants for
        their held-out loss; "auto" is "medoid".
    select:
        Who speaks for a group.
    weights:
        How much a group's voice counts: "equal", or "size" by its number of members.
    aggregate:
        How the groups' voices become one teacher: "mean", "weighted", "median", "trimmed", "geometric-median",
        "certainty", "precision", "mixture", and for classes "experts" (see `grouping.experts`). "auto" is "median" for
        forecasts and "experts" for classes.
    audience:
        "everyone" learns from the one teacher; "group": everyone learns from its own group's voice; "both": from the
        mean of the two (two teachers, as in multi-teacher distillation, You et al., KDD 2017,
        doi:10.1145/3097983.3098135).
    doubt:
        Disagreement at which an item counts half (see `grouping.doubt`): of the groups' voices for the teacher of all,
        of its members for a group's voice. None: all items count alike.
    share:
        The teacher's share of the weight a student learns from, 0 to 1.
    seed:
        Seed of the clustering.
    """
    # Names are looked up here, so that a wrong one shows before anybody has trained.
    choose(aggregate, dict.fromkeys(("auto", *AGGREGATES, *FOR_CLASSES)), "aggregate")
    check_doubt(doubt)
    choose(similarity, dict.fromkeys(("auto", *itertools.chain(*MEASURES.values()))), "similarity")
    choose(reliability, dict.fromkeys(("auto", *itertools.chain(*RULES.values()))), "reliability")
    choose(grouping, dict.fromkeys(("auto", *METHODS)), "grouping")
    fixed = groups is not None or threshold is not None
    methods = {True: "agglomerative", False: "agglomerative" if fixed else "each"}
    rules = {True: "median", False: "experts"}
    choose(select, SELECTIONS, "select")
    choose(weights, dict.fromkeys(("equal", "size")), "weights")
    choose(audience, dict.fromkeys(("everyone", "group", "both")), "audience")

    def teach(ballot: Ballot) -> Lesson:
        forecast = ballot.outputs.space is Space.QUANTILES
        labels = [vote.labels for vote in ballot.votes]
        levels = [float(column) for column in ballot.outputs.columns] if forecast else None
        apart = distances(labels, similarity, levels=levels)
        method = methods[forecast] if grouping == "auto" else grouping
        members = cluster(apart, method, number=groups, threshold=threshold, seed=seed)
        trust = reliabilities([vote.release for vote in ballot.votes], reliability, levels=levels)
        voices = [voice([labels[i] for i in group], trust[list(group)], select) for group in members]
        sizes = group_weights(members, weights)
        combine = resolve(rules[forecast] if aggregate == "auto" else aggregate, ballot.outputs)
        teacher = doubted(combine(voices, sizes), voices, doubt, sizes)
        if audience != "everyone":
            voices = [
                doubted(spoken, [labels[i] for i in group], doubt)
                for spoken, group in zip(voices, members, strict=True)
            ]
        if audience == "both":
            voices = [AGGREGATES["mean"]([spoken, teacher], np.ones(2)) for spoken in voices]
        named = tuple(tuple(ballot.votes[i].party for i in group) for group in members)
        return Lesson(_addressed(audience, teacher, named, voices, ballot.parties), named)

    return Strategy("grouped", teach, Recipe(share=share, score=reliability == "heldout"))


def _addressed(
    audience: str,
    teacher: SoftLabels,
    groups: Sequence[Sequence[Party]],
    voices: Sequence[SoftLabels],
    parties: Sequence[Party],
) -> dict[Party, Release]:
    """Who learns from what; a participant that did not answer is in no group and learns from the teacher of all."""
    lessons = dict.fromkeys(parties, Release(labels=teacher))
    if audience != "everyone":
        for group, spoken in zip(groups, voices, strict=True):
            lessons.update(dict.fromkeys(group, Release(labels=spoken)))
    return lessons
