"""The shipped algorithms keep the contract, and teach numbers that can be checked by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from fedstill.algorithms.fedavg import fedavg
from fedstill.algorithms.fedmd import fedmd
from fedstill.algorithms.fedsgd import fedsgd
from fedstill.algorithms.grouped import grouped
from fedstill.algorithms.references import local, pooled
from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import AGGREGATES
from fedstill.grouping.clustering import METHODS
from fedstill.grouping.experts import experts
from fedstill.grouping.reliability import RULES
from fedstill.grouping.selection import SELECTIONS
from fedstill.grouping.similarity import MEASURES
from fedstill.labels import Outputs, Release, Space
from fedstill.messages import Kind
from fedstill.strategy import rehearse
from fedstill.testing.algorithms import AlgorithmContract, check_lesson, votes
from fedstill.testing.fakes import CLASSES, QUANTILES, Line, ballot, rows, soft

MEDIAN = Outputs(Space.QUANTILES, (0.5,))


class TestLocal(AlgorithmContract):
    def make(self):
        return local()


class TestPooled(AlgorithmContract):
    def make(self):
        return pooled()


class TestFedMD(AlgorithmContract):
    def make(self):
        return fedmd()


class TestFedMDMedian(AlgorithmContract):
    def make(self):
        return fedmd(aggregate="median")


class TestFedMDTrimmed(AlgorithmContract):
    def make(self):
        return fedmd(aggregate="trimmed", share=1.0)


class TestGrouped(AlgorithmContract):
    spaces: ClassVar = (Space.QUANTILES,)

    def make(self):
        return grouped()


class TestGroupedClasses(AlgorithmContract):
    spaces: ClassVar = (Space.PROBABILITIES,)
    faithful: ClassVar = False  # experts sharpen what they agree on

    def make(self):
        return grouped()


class TestGroupedClient(AlgorithmContract):
    def make(self):
        return grouped(select="client", groups=2, weights="equal", aggregate="weighted")


class TestGroupedItem(AlgorithmContract):
    def make(self):
        return grouped(select="item", grouping="kmeans", reliability="heldout", audience="group")


class TestGroupedMean(AlgorithmContract):
    def make(self):
        return grouped(select="mean", grouping="each", aggregate="trimmed", similarity="cosine")


class TestGroupedWidth(AlgorithmContract):
    spaces: ClassVar = (Space.QUANTILES,)

    def make(self):
        return grouped(select="client", reliability="width", threshold=0.7)


class TestGroupedEntropy(AlgorithmContract):
    spaces: ClassVar = (Space.PROBABILITIES,)

    def make(self):
        return grouped(select="item", groups=2, reliability="entropy", similarity="kl", aggregate="median")


class TestFedAvg(AlgorithmContract):
    def make(self):
        return fedavg()


class TestFedAvgEqual(AlgorithmContract):
    def make(self):
        return fedavg(weights="equal", epochs=1)


class TestFedSGD(AlgorithmContract):
    def make(self):
        return fedsgd()


class TestFedSGDEqual(AlgorithmContract):
    def make(self):
        return fedsgd(weights="equal", learning_rate=0.5)


@pytest.mark.parametrize("grouping", METHODS)
@pytest.mark.parametrize("outputs", [QUANTILES, CLASSES], ids=["quantiles", "classes"])
def test_every_combination_of_grouped(outputs, grouping):
    """Whatever fits the space can be combined: everybody is taught something well-formed."""
    number = {"groups": 2} if "number" in METHODS[grouping].reads else {}  # to search for it takes thrice the time
    for select, similarity, aggregate in itertools.product(SELECTIONS, MEASURES[outputs.space], AGGREGATES):
        audience = "group" if aggregate == "mean" else "everyone"  # both kinds, without twice the work
        strategy = grouped(
            select=select, similarity=similarity, grouping=grouping, aggregate=aggregate, audience=audience, **number
        )
        cast = votes(strategy, outputs, ("a", "b", "c", "d"))
        lesson = strategy.teach(cast)
        check_lesson(lesson, cast, strategy.recipe)
        assert set(lesson.teachers) == set(cast.parties)


@pytest.mark.parametrize("outputs", [QUANTILES, CLASSES], ids=["quantiles", "classes"])
def test_every_reliability_of_grouped(outputs):
    for reliability, select, weights in itertools.product(RULES[outputs.space], SELECTIONS, ("equal", "size")):
        strategy = grouped(reliability=reliability, select=select, weights=weights, groups=2)
        cast = votes(strategy, outputs)
        lesson = strategy.teach(cast)
        check_lesson(lesson, cast, strategy.recipe)
        assert strategy.recipe.score == (reliability == "heldout")


# Numbers. One item, one column (the median), one number a participant.


def cast(numbers, scores=None, **more):
    """A ballot of participants a, b, c ... who say one number each."""
    named = zip("abcdefgh", numbers, scores or [float("nan")] * len(numbers), strict=False)
    told = {party: Release(soft(MEDIAN, [number]), score=score) for party, number, score in named}
    return ballot(MEDIAN, told, **more)


def said(lesson):
    """The one number that each participant is taught."""
    return {party: round(float(teacher.labels.values[0, 0]), 4) for party, teacher in lesson.teachers.items()}


def test_references_teach_nobody():
    for strategy in (local(), pooled()):
        assert strategy.rounds == 0
        assert strategy.teach(cast([1, 2])).teachers == {}
    assert (local().pooled, pooled().pooled) == (False, True)


@pytest.mark.parametrize(("aggregate", "number"), [("mean", 22.4), ("median", 3), ("trimmed", 4)])
def test_fedmd(aggregate, number):
    """Of 2, 2, 3, 7, 98 the mean is 112/5 = 22.4, the median 3; without a fifth at each end 2, 3, 7 have the mean 4."""
    lesson = fedmd(aggregate=aggregate).teach(cast([2, 2, 3, 7, 98], absent=["z"]))
    assert said(lesson) == dict.fromkeys("abcdez", number)


CROWD = [1, 2, 6, 100]
"""Three alike and one far away: the groups are a, b, c and d."""


@pytest.mark.parametrize(
    ("select", "weights", "number"),
    [
        ("client", "equal", (2 + 100) / 2),
        ("client", "size", (3 * 2 + 100) / 4),
        ("item", "equal", (2 + 100) / 2),
        ("item", "size", (3 * 2 + 100) / 4),
        ("mean", "equal", (3 + 100) / 2),
        ("mean", "size", (3 * 3 + 100) / 4),
        ("median", "equal", (2 + 100) / 2),
        ("median", "size", (3 * 2 + 100) / 4),
    ],
)
def test_a_crowd_speaks_with_one_voice(select, weights, number):
    """The group 1, 2, 6 says 2 (its median, and its most reliable by "medoid") or 3 (its mean); the other says 100."""
    strategy = grouped(groups=2, select=select, weights=weights, aggregate="weighted")
    lesson = strategy.teach(cast(CROWD, absent=["z"]))
    assert lesson.groups == (("a", "b", "c"), ("d",))
    assert said(lesson) == dict.fromkeys("abcdz", number)


def test_a_group_learns_from_its_own_voice():
    """Who did not answer is in no group and learns from the teacher of all: the median of 3 and 100."""
    strategy = grouped(groups=2, select="mean", weights="equal", audience="group")
    assert said(strategy.teach(cast(CROWD, absent=["z"]))) == {"a": 3, "b": 3, "c": 3, "d": 100, "z": 51.5}


def test_who_has_the_least_loss_speaks():
    """By held-out loss it is c who speaks for a, b and c, although it is not in their middle."""
    strategy = grouped(groups=2, select="client", reliability="heldout", weights="equal", aggregate="mean")
    assert said(strategy.teach(cast(CROWD, scores=[0.3, 0.2, 0.1, 9.0])))["a"] == (6 + 100) / 2


def test_an_item_each_has_its_own_speaker():
    """For "client" b speaks for both items, as its mean loss by width is least; for "item" a for the first."""
    narrow, wide = [-1, 0, 1], [-9, 0, 9]
    told = {
        "a": Release(soft(QUANTILES, [narrow, wide])),
        "b": Release(soft(QUANTILES, [[-2, 0, 2], [-3, 0, 3]])),
    }
    upper = {}
    for select in ("client", "item"):
        lesson = grouped(grouping="none", reliability="width", select=select).teach(ballot(QUANTILES, told))
        upper[select] = lesson.teachers["a"].labels.values[:, 2].tolist()
    assert upper == {"client": [2, 3], "item": [1, 3]}


@pytest.mark.parametrize(("weights", "mean"), [("equal", 1.5), ("size", 2.0)])
def test_fedavg(weights, mean):
    """Parameters 0 and 3 of participants with 1 and 2 rows: the simple mean is 1.5, the weighted one 2."""
    strategy = fedavg(weights=weights)
    told = {
        "a": Release(parameters={"w": np.float32([0.0])}, count=1),
        "b": Release(parameters={"w": np.float32([3.0])}, count=2),
    }
    lesson = strategy.teach(ballot(QUANTILES, told, absent=["z"], memory={"w": np.float32([9.0])}))
    assert {party: teacher.parameters["w"].tolist() for party, teacher in lesson.teachers.items()} == {
        "a": [mean],
        "b": [mean],
        "z": [mean],
    }
    assert lesson.memory["w"].tolist() == [mean]
    assert strategy.recipe.count == (weights == "size")


def test_row_counts_cannot_overflow():
    """Whole numbers near the bound of 64 bits are weights like others: (1 * 0 + 2 * 3) / 3 = 2."""
    told = {
        "a": Release(parameters={"w": np.float32([0.0])}, count=2**62),
        "b": Release(parameters={"w": np.float32([3.0])}, count=2**63),
    }
    assert fedavg().teach(ballot(QUANTILES, told)).teachers["a"].parameters["w"].tolist() == [2.0]


def test_fedsgd():
    """A quadratic w^2 / 2 has the gradient w: from 4 with step 0.25, twice: 4 - 1 = 3, and 3 - 0.75 = 2.25."""
    strategy = fedsgd(learning_rate=0.25, weights="equal")
    at = {"w": np.array([4.0])}
    for expected in (3.0, 2.25):
        told = dict.fromkeys("ab", Release(parameters={"w": at["w"].astype(np.float32)}))
        lesson = strategy.teach(ballot(QUANTILES, told, memory=at))
        at = lesson.memory
        assert lesson.teachers["a"].parameters["w"].tolist() == at["w"].tolist() == [expected]


def test_fedsgd_weighs_by_rows():
    """From 0, step 1, gradients -1 (3 rows) and 3 (1 row): their mean is 0, the simple mean 1."""
    for weights, expected in (("size", 0.0), ("equal", -1.0)):
        told = {
            "a": Release(parameters={"w": np.float32([-1.0])}, count=3),
            "b": Release(parameters={"w": np.float32([3.0])}, count=1),
        }
        strategy = fedsgd(learning_rate=1.0, weights=weights)
        assert strategy.teach(ballot(QUANTILES, told, memory={"w": np.zeros(1)})).memory["w"].tolist() == [expected]


def test_fedavg_of_one_step_is_fedsgd():
    """McMahan et al. 2017: the mean of one full-batch step each is one step along the mean gradient."""
    sites = {"a": rows(QUANTILES, 10, 1), "b": rows(QUANTILES, 30, 2)}
    start = Line(QUANTILES).initialise(2).parameters()
    trained, slopes = {}, {}
    for party, own in sites.items():
        line = Line(QUANTILES).initialise(2)
        slopes[party] = Release(parameters=line.gradient(own.X, own.y), count=len(own))
        line.train(own.X, own.y, epochs=1, learning_rate=0.3)
        trained[party] = Release(parameters=line.parameters(), count=len(own))
    averaged = fedavg().teach(ballot(QUANTILES, trained, memory=start)).memory
    stepped = fedsgd(learning_rate=0.3).teach(ballot(QUANTILES, slopes, memory=start)).memory
    for name in start:
        np.testing.assert_allclose(averaged[name], stepped[name], atol=1e-12)


def test_what_recipes_ask_for():
    """No count and no score leave a site unless the algorithm needs them."""
    asked = {
        name: (s.recipe.release, s.recipe.count, s.recipe.score)
        for name, s in {
            "fedmd": fedmd(),
            "grouped": grouped(),
            "heldout": grouped(reliability="heldout"),
            "fedavg": fedavg(weights="equal"),
            "fedavg size": fedavg(),
            "fedsgd size": fedsgd(),
        }.items()
    }
    assert asked == {
        "fedmd": (Kind.LABELS, False, False),
        "grouped": (Kind.LABELS, False, False),
        "heldout": (Kind.LABELS, False, True),
        "fedavg": (Kind.PARAMETERS, False, False),
        "fedavg size": (Kind.PARAMETERS, True, False),
        "fedsgd size": (Kind.GRADIENTS, True, False),
    }


@pytest.mark.parametrize(
    "option", ["similarity", "grouping", "reliability", "select", "weights", "aggregate", "audience"]
)
def test_wrong_names_show_before_anybody_trains(option):
    with pytest.raises(ConfigError, match="meen"):
        grouped(**{option: "meen"})
    with pytest.raises(ConfigError, match="mean"):
        fedmd(aggregate="meen")


def test_strategies_are_values():
    """They can be changed by `replace`, and their shapes follow their memory."""
    strategy = replace(fedavg(), memory={"w": np.zeros((2, 3)), "b": 0.0})
    assert strategy.shapes == {"w": (2, 3), "b": ()}
    assert fedavg().shapes is None


def test_the_default_for_classes_is_experts_each_for_itself():
    """Two members know the first two classes, one knows the third: a median would never say the third."""
    told = {"a": [[0.9, 0.09, 0.01]] * 3, "b": [[0.8, 0.19, 0.01]] * 3, "c": [[0.01, 0.01, 0.98]] * 3}
    cast = ballot(CLASSES, {party: Release(soft(CLASSES, said)) for party, said in told.items()})
    lesson = grouped().teach(cast)
    assert lesson.groups == (("a",), ("b",), ("c",))
    votes = [vote.labels for vote in cast.votes]
    expected = experts(votes, np.full(3, 1 / 3))
    np.testing.assert_array_equal(lesson.teachers["a"].labels.values, expected.values)


def test_experts_are_not_for_forecasts():
    with pytest.raises(ConfigError, match="forecasts have none"):
        rehearse(grouped(aggregate="experts"), QUANTILES)
