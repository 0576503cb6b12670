"""Published algorithms that exchange soft labels: the contract, and what each paper says of its own."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from fedstill.algorithms.comet import comet
from fedstill.algorithms.dsfl import dsfl
from fedstill.algorithms.fd import fd
from fedstill.algorithms.fedmd import fedmd
from fedstill.algorithms.grouped import grouped
from fedstill.algorithms.ktpfl import ktpfl
from fedstill.algorithms.selective import selective
from fedstill.algorithms.served import served
from fedstill.codecs.raw import Raw
from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import AGGREGATES
from fedstill.labels import Outputs, Release, Space
from fedstill.messages import Ask, Kind, Recipe, Teach
from fedstill.round import Coordinator, Ignored, Plan, Received, Started
from fedstill.strategy import rehearse
from fedstill.testing.algorithms import AlgorithmContract, votes
from fedstill.testing.fakes import CLASSES, QUANTILES, Build, Constant, Line, ballot, soft

MEDIAN = Outputs(Space.QUANTILES, (0.5,))


class TestDSFL(AlgorithmContract):
    faithful: ClassVar = False

    def make(self):
        return dsfl()


class TestDSFLPower(AlgorithmContract):
    faithful: ClassVar = False

    def make(self):
        return dsfl(form="power", beta=3.0)


class TestDSFLThatLeavesTheMean(AlgorithmContract):
    def make(self):
        return dsfl(form="power", beta=1.0, spread=1.0)


class TestFD(AlgorithmContract):
    spaces: ClassVar = (Space.PROBABILITIES,)

    def make(self):
        return fd()


class TestSelective(AlgorithmContract):
    def make(self):
        return selective()


class TestSelectiveSoft(AlgorithmContract):
    def make(self):
        return selective(form="soft", ambiguous=2.0)


class TestKTpFL(AlgorithmContract):
    def make(self):
        return ktpfl()


class TestComet(AlgorithmContract):
    def make(self):
        return comet()


class TestCometThree(AlgorithmContract):
    def make(self):
        return comet(clusters=3)


class TestServed(AlgorithmContract):
    faithful: ClassVar = False

    def make(self):
        return served(learner="linear", options={"iterations": 5})


class TestServedByTrees(AlgorithmContract):
    faithful: ClassVar = False

    def make(self):
        return served(options={"rounds": 2})


class TestFedMDWithDoubt(AlgorithmContract):
    def make(self):
        return fedmd(doubt=0.5)


class TestGroupedWithDoubt(AlgorithmContract):
    def make(self):
        return grouped(doubt=0.5, audience="group", groups=2)


class TestFedMDMixture(AlgorithmContract):
    def make(self):
        return fedmd(aggregate="mixture")


def cast(outputs, *told, **more):
    """A ballot of participants a, b, c ... who say these rows, or (rows, weights)."""
    pairs = [one if isinstance(one, tuple) else (one, None) for one in told]
    named = zip("abcdefgh", pairs, strict=False)
    return ballot(outputs, {party: Release(soft(outputs, rows, weight)) for party, (rows, weight) in named}, **more)


def said(lesson, party="a"):
    """What a participant is taught, (n, k)."""
    return lesson.teachers[party].labels.values


def weight(lesson, party="a"):
    return lesson.teachers[party].labels.weight.tolist()


# DS-FL. The mean of these two is 0.5, 0.3, 0.2.
UNSURE = ([[0.7, 0.1, 0.2]], [[0.3, 0.5, 0.2]])


def test_dsfl_softmax():
    """softmax(p / 0.1) of 0.5, 0.3, 0.2 is as e^5 : e^3 : e^2 = 1 : e^-2 : e^-3."""
    parts = np.exp([0.0, -2.0, -3.0])
    assert said(dsfl().teach(cast(CLASSES, *UNSURE)))[0] == pytest.approx(parts / parts.sum())


def test_dsfl_power():
    """The squares of 0.5, 0.3, 0.2 are as 25 : 9 : 4."""
    lesson = dsfl(form="power", beta=2).teach(cast(CLASSES, *UNSURE))
    assert said(lesson)[0] == pytest.approx([25 / 38, 9 / 38, 4 / 38])


def test_dsfl_extremes():
    """At T towards 0 the likeliest class takes all; at beta = 1 the power is the mean, as SCARLET says of it."""
    assert said(dsfl(temperature=1e-6).teach(cast(CLASSES, *UNSURE))).tolist() == [[1, 0, 0]]
    assert said(dsfl(form="power", beta=1e6).teach(cast(CLASSES, *UNSURE))).tolist() == [[1, 0, 0]]
    assert said(dsfl(form="power", beta=1).teach(cast(CLASSES, *UNSURE)))[0] == pytest.approx([0.5, 0.3, 0.2])


@pytest.mark.parametrize("strategy", [dsfl(), dsfl(form="power", beta=1.5)])
def test_dsfl_lowers_the_entropy(strategy):
    def entropy(rows):
        return -(rows * np.log(rows)).sum(axis=1)

    told = votes(strategy, CLASSES)
    assert (entropy(said(strategy.teach(told))) < entropy(said(fedmd().teach(told)))).all()


def test_dsfl_draws_quantiles_together():
    """The mean 0, 2, 6 drawn halfway to its median."""
    assert said(dsfl(spread=0.5).teach(cast(QUANTILES, [[-1, 1, 5]], [[1, 3, 7]])))[0].tolist() == [1, 2, 4]


def test_dsfl_spread_is_what_the_power_does_to_a_normal_density():
    """A density to the power 4 has half the spread: checked on a grid, by its 0.1-quantile."""
    at = np.linspace(-6, 6, 60001)
    raised = np.exp(-(at**2) / 2) ** 4
    quantile = at[np.searchsorted(np.cumsum(raised) / raised.sum(), 0.1)]
    lesson = dsfl(spread=4**-0.5).teach(cast(QUANTILES, [[-1.281552, 0, 1.281552]]))
    assert said(lesson)[0, 0] == pytest.approx(quantile, abs=1e-3)


# FD.


def test_fd_leaves_one_out():
    """Of three rows for each class everyone learns the mean of the other two; who was away, the mean of all."""
    rows = [np.eye(3)[[i, i, i]] for i in range(3)]
    lesson = fd().teach(cast(CLASSES, *rows, absent=["z"]))
    assert said(lesson, "a")[0].tolist() == [0, 0.5, 0.5]
    assert said(lesson, "b")[0].tolist() == [0.5, 0, 0.5]
    assert said(lesson, "z")[0] == pytest.approx([1 / 3] * 3)


def test_fd_does_not_count_who_lacks_a_class():
    a, b, c = np.eye(3), (np.eye(3)[[1, 1, 1]], [0, 1, 1]), (np.eye(3)[[2, 2, 2]], [0, 0, 1])
    lesson = fd().teach(cast(CLASSES, a, b, c))
    assert said(lesson, "c").tolist() == [[1, 0, 0], [0, 1, 0], [0, 0.5, 0.5]]
    assert weight(lesson, "a") == [0, 1, 1]  # nobody else has the first class


def test_fd_alone_learns_nothing():
    assert set(fd().teach(cast(CLASSES, np.eye(3), absent=["z"])).teachers) == {"z"}


def test_fd_is_for_classes():
    with pytest.raises(ConfigError, match="forecasts have no classes"):
        rehearse(fd(), QUANTILES)


def test_fd_releases_its_means_by_class():
    """A row for each class: the mean of its model's predictions for the private rows of the class."""
    participant = Build("plant", CLASSES, Line, n_items=8)()
    own = participant.site.rows
    own.y[own.y == 2] = 0
    answer = participant.handle(Ask(1, fd().recipe))
    labels = Raw().decode(answer.payload).labels
    predicted = participant.own.predict(own.X)
    for label in (0, 1):
        np.testing.assert_allclose(labels.values[label], predicted[own.y == label].mean(axis=0), atol=1e-6)
    assert labels.weight.tolist() == [1, 1, 0]
    assert labels.values[2] == pytest.approx([1 / 3] * 3)


def test_fd_teaches_every_private_row_the_row_of_its_class():
    """With a share of 1 a model that says one row says the mean of the rows taught, by how many rows each class has.

    The one without fold 0 says the mean over the rows of the other folds.
    """
    participant = Build("plant", CLASSES, Constant)()
    y = participant.site.rows.y
    rows = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
    teacher = Raw().encode(Release(soft(CLASSES, rows)))
    participant.handle(Teach(1, Recipe(share=1.0, about="classes"), teacher))
    assert participant.notes == []
    found = participant.distilled.predict(np.zeros((1, 2)))[0]
    assert found == pytest.approx(np.array(rows)[y].mean(axis=0), abs=1e-6)
    unseen = participant.held_out()[1]["distilled"][0]
    assert unseen == pytest.approx(np.array(rows)[y[np.arange(30) % 3 != 0]].mean(axis=0), abs=1e-6)


def test_fd_is_checked_for_a_row_each_class():
    """Three rows are right where the transfer set has 8 items, and 8 are wrong."""
    coordinator = Coordinator(Plan(("a",), CLASSES, 8, rounds=1), fd(), Raw())
    state, _ = coordinator.step(coordinator.start(), Started(0.0))
    participant = Build("a", CLASSES)()
    _, effects = coordinator.step(state, Received(participant.handle(Ask(1, Recipe())), 0.0))
    assert "expected probabilities of shape (3, 3)" in effects[0].why
    _, effects = coordinator.step(state, Received(Build("a", CLASSES)().handle(Ask(1, fd().recipe)), 0.0))
    assert not [effect for effect in effects if isinstance(effect, Ignored)]


# Selective-FD.


def test_selective_drops_what_the_mean_is_torn_about():
    """Means 0.6, 0.4, 0 and 0.45, 0.45, 0.1: at distances of 0.8 and 1.1 from their one-hot."""
    told = cast(CLASSES, [[0.6, 0.4, 0], [0.9, 0, 0.1]], [[0.6, 0.4, 0], [0, 0.9, 0.1]])
    assert weight(selective(ambiguous=1.0).teach(told)) == [1, 0]
    assert weight(selective(ambiguous=1.2).teach(told)) == [1, 1]
    assert weight(selective(ambiguous=0.5).teach(told)) == [0, 0]


def test_selective_drops_forecasts_that_differ_by_more_than_their_width():
    """Both intervals are 2 wide; voices lie 1 apart (deviation 0.5, a quarter), then 10 apart (5, two and a half)."""
    told = cast(QUANTILES, [[-1, 0, 1], [-1, 0, 1]], [[0, 1, 2], [9, 10, 11]])
    assert weight(selective(ambiguous=1.0).teach(told)) == [1, 0]
    assert weight(selective(ambiguous=2.5).teach(told)) == [1, 1]
    assert weight(selective(ambiguous=0.2).teach(told)) == [0, 0]


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_selective_participants_abstain_on_what_they_do_not_know(form):
    """Half of the items are drawn like the private rows, half lie far away."""
    participant = Build("plant", QUANTILES, Line, n_items=400)()
    participant.X_transfer = participant.X_transfer.copy()
    participant.X_transfer[200:] += 10
    answer = participant.handle(Ask(1, selective(form=form).recipe))
    heard = Raw().decode(answer.payload).labels.weight
    assert heard[:200].mean() > 0.6
    assert heard[200:].max() < (0.2 if form == "soft" else 1e-9)
    assert heard[200:].mean() < 0.05
    assert set(heard.tolist()) == {0, 1} if form == "hard" else len(set(heard.tolist())) > 100


def test_selective_teaches_an_item_as_far_as_anybody_knows_it():
    """The mean by the weights 0.1 and 0.3 of 0 and 4 is 3, and weighs 0.3; an item of which nobody speaks weighs 0."""
    low, high = ([[-1, 0, 1]] * 2, [0.1, 0]), ([[3, 4, 5]] * 2, [0.3, 0])
    lesson = selective(form="soft", ambiguous=9.0).teach(cast(QUANTILES, low, high))
    assert said(lesson)[0].tolist() == [2, 3, 4]
    assert weight(lesson) == pytest.approx([0.3, 0])


def test_only_selective_asks_for_weights():
    assert [s.recipe.certainty for s in (selective(), selective(form="soft"), fedmd())] == ["hard", "soft", ""]


# KT-pFL.


@pytest.mark.parametrize("outputs", [QUANTILES, CLASSES], ids=["quantiles", "classes"])
def test_ktpfl_favours_who_is_alike(outputs):
    """Two say nearly one thing, two another: weights go to the like, more in every round."""
    shape = {Space.QUANTILES: ([0, 1, 2], [5, 6, 7]), Space.PROBABILITIES: ([0.8, 0.1, 0.1], [0.1, 0.1, 0.8])}
    one, other = (np.array(row) for row in shape[outputs.space])
    told = cast(outputs, [one], [0.95 * one + 0.05 * other], [other], [0.95 * other + 0.05 * one])
    strategy, favour, memory = ktpfl(steps=3), [0.5], None
    for _ in range(3):
        memory = strategy.teach(ballot(outputs, {v.party: v.release for v in told.votes}, memory=memory)).memory
        np.testing.assert_allclose(memory.sum(axis=1), 1)
        favour.append(memory[0, :2].sum())
    assert favour == sorted(favour)
    assert favour[-1] > 0.7
    assert memory[2, 2:].sum() > 0.7


def test_ktpfl_finds_the_least_of_its_loss():
    """Two voices 0 and 1: c is the own weight; (1 - c)^2 + 2 x 0.5 (c - 1/2)^2 is least where 2(c - 1) + 2c - 1 = 0."""
    lesson = ktpfl(steps=500).teach(cast(MEDIAN, [0], [1]))
    assert lesson.memory == pytest.approx(np.array([[0.75, 0.25], [0.25, 0.75]]), abs=1e-6)
    assert said(lesson, "a")[0, 0] == pytest.approx(0.25, abs=1e-6)
    assert said(lesson, "b")[0, 0] == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_ktpfl_has_no_unit(unit):
    told = cast(MEDIAN, [0], [unit], [5 * unit])
    assert ktpfl().teach(told).memory == pytest.approx(ktpfl().teach(cast(MEDIAN, [0], [1], [5])).memory, rel=1e-4)


def test_ktpfl_extremes():
    """A large penalty is FedMD; with none everyone comes to its own words."""
    told = cast(MEDIAN, [0], [3], [9])
    assert said(ktpfl(penalty=1e6).teach(told))[0, 0] == pytest.approx(4, abs=1e-3)
    assert said(ktpfl(penalty=0, steps=2000).teach(told))[0, 0] == pytest.approx(0, abs=0.05)


def test_ktpfl_keeps_the_weights_of_who_is_away():
    """C answers in the first round alone: its weights wait; a and b divide the rest as before."""
    strategy = ktpfl()
    memory = strategy.teach(cast(MEDIAN, [0], [1], [9])).memory
    two = {v.party: v.release for v in cast(MEDIAN, [0], [1]).votes}
    again = strategy.teach(ballot(MEDIAN, two, absent=["c"], memory=memory))
    assert again.memory[2].tolist() == memory[2].tolist()
    assert again.memory[:, 2].tolist() == memory[:, 2].tolist()
    expected = memory[2, 1] / memory[2, :2].sum()
    assert said(again, "c")[0, 0] == pytest.approx(expected, abs=1e-6)


# COMET.


def test_comet_teaches_the_nearest_centroid():
    """0, 1 and 2 are a cluster of mean 1, and 9 and 11 one of mean 10; on another item others are alike."""
    told = cast(MEDIAN, [0, 0], [1, 10], [2, 10], [9, 10], [11, 2], absent=["z"])
    lesson = comet().teach(told)
    found = {party: said(lesson, party)[:, 0].tolist() for party in lesson.teachers}
    assert found == {"a": [1, 1], "b": [1, 10], "c": [1, 10], "d": [10, 10], "e": [10, 1], "z": [4.6, 6.4]} | {
        "z": pytest.approx([4.6, 6.4])
    }


def test_comet_of_one_cluster_is_fedmd():
    for outputs in (QUANTILES, CLASSES):
        told = votes(comet(), outputs)
        np.testing.assert_allclose(said(comet(clusters=1).teach(told)), said(fedmd().teach(told)), atol=1e-6)


def test_comet_who_is_silent_learns_the_mean_of_all_who_speak():
    told = cast(MEDIAN, ([0], [0]), [1], [3], [20])
    assert said(comet().teach(told), "a")[0, 0] == 8
    assert said(comet().teach(told), "b")[0, 0] == 2


def test_comet_centroids_agree_with_an_exhaustive_search():
    """Two clusters on a line are cut between neighbours; far enough apart, the best of all cuts is found."""
    numbers = [0.0, 1.0, 1.5, 8.0, 9.5]
    cuts = [(np.var(numbers[:i]) * i + np.var(numbers[i:]) * (5 - i), i) for i in range(1, 5)]
    i = min(cuts)[1]
    lesson = comet().teach(cast(MEDIAN, *[[number] for number in numbers]))
    assert said(lesson, "a")[0, 0] == pytest.approx(np.mean(numbers[:i]))
    assert said(lesson, "e")[0, 0] == pytest.approx(np.mean(numbers[i:]))


# A student in the middle.


def test_served_smooths_what_the_inputs_do_not_explain():
    """The items lie on a line but for one: a linear student draws it back, and speaks where nobody did."""
    inputs = np.linspace(-1, 1, 21)[:, None]
    row = inputs[:, 0].copy()
    row[10] += 2
    weights = np.ones(21)
    weights[3] = 0
    told = cast(MEDIAN, (row, weights), inputs=inputs)
    strategy = served(learner="linear", options={"decay": 0.0}, seed=1)
    lesson = strategy.teach(told)
    found = said(lesson)[:, 0]
    assert abs(found[10]) < 0.6
    assert found[3] == pytest.approx(inputs[3, 0], abs=0.4)
    assert weight(lesson) == [1] * 21


def test_served_needs_inputs_and_a_learner():
    with pytest.raises(ConfigError, match="needs the inputs"):
        served().teach(cast(MEDIAN, [1]))
    with pytest.raises(ConfigError, match="Did you mean 'linear'"):
        rehearse(served(learner="linnear"), QUANTILES)
    with pytest.raises(ConfigError, match="no option 'depth'"):
        rehearse(served(learner="linear", options={"depth": 3}), QUANTILES)


def test_served_where_nobody_speaks_teaches_nothing():
    lesson = served().teach(cast(MEDIAN, ([1, 2], [0, 0]), inputs=np.zeros((2, 1))))
    assert weight(lesson) == [0, 0]


def test_a_replay_needs_the_inputs_alone():
    """The log of a run with a student leads to the same teachers again."""
    plan = Plan(("a", "b"), QUANTILES, 8, rounds=1, quorum=2)
    people = {party: Build(party, QUANTILES, seed=i)() for i, party in enumerate("ab")}
    strategy = served(learner="linear", options={"iterations": 5})
    coordinator = Coordinator(plan, strategy, Raw(), people["a"].X_transfer)
    replies = [one.handle(Ask(1, strategy.recipe)) for one in people.values()]
    events = [Started(0.0), *(Received(reply, 0.0) for reply in replies)]
    state = coordinator.replay(events)
    assert len(state.teachers) == 2
    assert Coordinator(plan, strategy, Raw(), people["b"].X_transfer).replay(events) == state


# Doubt.


def test_doubt_in_fedmd():
    """Two forecasts 2 apart, both 2 wide, differ by a deviation of 1, half the width: at doubt = 0.5 it counts half."""
    told = cast(QUANTILES, [[-1, 0, 1], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]])
    assert weight(fedmd(doubt=0.5).teach(told)) == [0.5, 1]
    assert weight(fedmd(doubt=0.25).teach(told)) == pytest.approx([0.2, 1])
    assert weight(fedmd().teach(told)) == [1, 1]


def test_doubt_between_groups_and_within():
    """Groups a, b (0 and 2 above the rest) and c, d (20 and 20): the teacher of all is doubted, c's and d's is not."""
    base = np.array([-1, 0, 1])
    told = cast(QUANTILES, [base], [base + 2], [base + 20], [base + 20], absent=["z"])
    strategy = grouped(groups=2, select="mean", aggregate="mean", audience="group", doubt=0.5)
    lesson = strategy.teach(told)
    assert lesson.groups == (("a", "b"), ("c", "d"))
    assert weight(lesson, "a") == [0.5]
    assert weight(lesson, "c") == [1]
    # Voices at 1 and 20 deviate by 9.5 from their mean, 4.75 widths: 1 / (1 + 9.5^2).
    assert weight(lesson, "z") == pytest.approx([1 / (1 + 9.5**2)])


@pytest.mark.parametrize("outputs", [QUANTILES, CLASSES], ids=["quantiles", "classes"])
def test_aggregates_read_the_levels_of_the_federation(outputs):
    """FedMD hands them over: a mixture by other levels has other quantiles."""
    for name in AGGREGATES:
        strategy = fedmd(aggregate=name)
        rehearse(strategy, outputs)
        assert strategy.teach(votes(strategy, outputs)).teachers["a"].labels.weight.all()
    told = ([[0, 1, 2]], [[1, 4, 9]])
    narrow = Outputs(Space.QUANTILES, (0.3, 0.5, 0.7))
    one, two = (said(fedmd(aggregate="mixture").teach(cast(which, *told)))[0] for which in (QUANTILES, narrow))
    assert (one != two).any()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (dsfl, {"form": "softmaks"}),
        (dsfl, {"temperature": 0}),
        (dsfl, {"beta": float("nan")}),
        (dsfl, {"spread": -1.0}),
        (selective, {"form": "firm"}),
        (selective, {"ambiguous": float("nan")}),
        (ktpfl, {"penalty": -1.0}),
        (ktpfl, {"steps": 0}),
        (comet, {"clusters": 0}),
        (served, {"aggregate": "meen"}),
        (fedmd, {"doubt": 0.0}),
        (grouped, {"doubt": float("inf")}),
    ],
)
def test_wrong_options_show_before_anybody_trains(make, options):
    with pytest.raises(ConfigError):
        make(**options)


@pytest.mark.parametrize("options", [{"aggregate": "certainty"}, {"aggregate": "precision"}, {"doubt": 1.0}])
def test_what_needs_a_width_says_so(options):
    with pytest.raises(ConfigError, match="a single quantile level has no width"):
        rehearse(fedmd(**options), MEDIAN)


@pytest.mark.parametrize("more", [{"cutoff": 1.5}, {"about": "classes", "certainty": "hard"}])
def test_recipes_that_nobody_could_follow(more):
    with pytest.raises(ValueError, match=r"cutoff|about"):
        Recipe(**more)
    with pytest.raises(ValueError, match="about"):
        Recipe(Kind.PARAMETERS, about="classes")
