"""What goes beyond FedAvg among the algorithms that exchange parameters: contract, numbers by hand, and each trait."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fedstill import Classification, Federation, Member
from fedstill.algorithms.clustered import clustered
from fedstill.algorithms.fedavg import fedavg
from fedstill.algorithms.fedper import fedper
from fedstill.algorithms.fedprox import fedprox
from fedstill.codecs.raw import Raw
from fedstill.errors import ConfigError
from fedstill.labels import Release
from fedstill.learners.base import divide
from fedstill.learners.networks import MLP, Linear
from fedstill.messages import Answer, Ask, Kind, Part, Recipe, Refuse, Teach
from fedstill.round import Received, Send
from fedstill.testing.algorithms import AlgorithmContract
from fedstill.testing.fakes import QUANTILES, START, Build, Line, ballot


class TestFedAvgTuned(AlgorithmContract):
    def make(self):
        return fedavg(tune=1)


class TestFedAvgMedian(AlgorithmContract):
    def make(self):
        return fedavg(aggregate="median")


class TestFedAvgTrimmed(AlgorithmContract):
    def make(self):
        return fedavg(aggregate="trimmed")


class TestFedProx(AlgorithmContract):
    def make(self):
        return fedprox(tune=2)


class TestFedPer(AlgorithmContract):
    def make(self):
        return fedper()


class TestLGFedAvg(AlgorithmContract):
    def make(self):
        return fedper(stays="body", weights="equal")


class TestClustered(AlgorithmContract):
    def make(self):
        return clustered(warm_up=0)


class TestClusteredInTwo(AlgorithmContract):
    def make(self):
        return clustered(warm_up=1, groups=2, weights="equal", tune=1)


class TestClusteredByThreshold(AlgorithmContract):
    def make(self):
        return clustered(warm_up=0, threshold=3.0)


# --- recipes and options ----------------------------------------------------------------------------------


def test_recipes():
    common = Recipe(Kind.PARAMETERS, epochs=3, learning_rate=0.1, seed=7, count=True)
    options = {"epochs": 3, "learning_rate": 0.1, "seed": 7}
    assert fedavg(**options).recipe == common
    assert fedavg(**options, tune=4).recipe == replace(common, tune=4)
    assert fedavg(**options, tune=4, aggregate="median").recipe == replace(common, tune=4, count=False)
    assert fedprox(**options, proximal=0.5, tune=4).recipe == replace(common, proximal=0.5, tune=4)
    assert fedper(**options).recipe == replace(common, home=Part.HEAD)
    assert fedper(**options, stays="body", weights="equal").recipe == replace(common, home=Part.BODY, count=False)
    assert clustered(**options, tune=4).recipe == replace(common, tune=4)


@pytest.mark.parametrize("impossible", [{"proximal": -1.0}, {"proximal": float("nan")}, {"tune": -1}], ids=str)
def test_recipes_that_nobody_can_follow(impossible):
    with pytest.raises(ValueError, match=next(iter(impossible))):
        fedprox(**impossible)


@pytest.mark.parametrize("release", [Kind.LABELS, Kind.GRADIENTS])
def test_only_parameters_can_stay_at_home(release):
    with pytest.raises(ValueError, match="home = head needs an exchange of parameters"):
        Recipe(release, home=Part.HEAD)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (fedper, {"stays": "heed"}, "heed"),
        (fedper, {"stays": "none"}, "none"),
        (fedavg, {"weights": "sise"}, "sise"),
        (fedavg, {"weights": "sise", "aggregate": "median"}, "sise"),
        (fedavg, {"aggregate": "medium"}, "Did you mean 'median'"),
        (clustered, {"weights": "sise"}, "sise"),
        (clustered, {"groups": 0}, "'number' is 0"),
        (clustered, {"threshold": -1.0}, "'threshold' is -1"),
        (clustered, {"groups": 2, "threshold": 1.0}, "both"),
    ],
)
def test_wrong_options_show_before_anybody_trains(build, options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_a_warm_up_has_a_length():
    with pytest.raises(ValueError, match="warm_up = -1"):
        clustered(warm_up=-1)


# --- robust means of parameters ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "median", "trimmed"),
    [
        ([3], 3, 3),
        ([1, 3], 2, 2),
        ([1, 2, 90], 2, 2),
        ([1, 2, 4, 90], 3, 3),
        ([-90, 1, 2, 6, 90], 2, 3),
        ([0, 1, 2, 6, 90, 90], 4, 4),  # two at either end
        ([0, 1, 2, 3, 4, 5, 6, 7, 90, 90], 4.5, 4.5),
    ],
)
def test_who_is_far_off_does_not_count(told, median, trimmed):
    """Whatever number of rows it claims; a mean by size would follow it."""
    shares = {f"p{i}": Release(parameters={"w": np.float32([[x, -x]])}, count=9**i) for i, x in enumerate(told)}
    for rule, middle in (("median", median), ("trimmed", trimmed)):
        lesson = fedavg(aggregate=rule).teach(ballot(QUANTILES, shares))
        assert lesson.teachers["p0"].parameters["w"].tolist() == [[middle, -middle]]
        assert lesson.memory["w"].tolist() == [[middle, -middle]]


# --- one participant --------------------------------------------------------------------------------------

ONE_STEP = {"epochs": 1, "learning_rate": 0.25}
TOLD = {"w": np.zeros((2, 3)), "b": np.array([1.0, 2.0, 3.0])}


def told(reply):
    """What an answer carries."""
    assert isinstance(reply, Answer)
    return Raw().decode(reply.payload).parameters


def teach(recipe, parameters, number=1):
    return Teach(number, recipe, Raw().encode(Release(parameters=parameters)))


def stepped(participant, start, steps, recipe):
    """The line that goes so many steps from there on the participant's rows, but those of the watched fold."""
    line, own = Line(QUANTILES).initialise(2), participant.site.without(0)
    line.set_parameters(start)
    line.train(own.X, own.y, steps, recipe.learning_rate, recipe.proximal)
    return line


def same(one, other):
    for name in one.keys() | other.keys():
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)


def test_the_participant_trains_with_the_proximal_term():
    """With a step h a slope g = w - t, and mu: from 0, w goes to ht, and then h(t - ht) - h mu ht further on."""
    participant, h, mu = Build("plant", QUANTILES)(), 0.25, 2.0
    recipe = fedprox(epochs=2, learning_rate=h, proximal=mu).recipe
    answer = told(participant.handle(Ask(1, recipe)))
    same(answer, stepped(participant, START, 2, recipe).parameters())
    own = participant.site.without(0)
    line = Line(QUANTILES).initialise(2)
    once = {name: -h * slope for name, slope in line.gradient(own.X, own.y).items()}
    line.set_parameters(once)
    again = line.gradient(own.X, own.y)
    same(answer, {name: once[name] - h * again[name] - h * mu * once[name] for name in once})


def test_a_tuned_model_is_kept_and_the_taught_one_is_shared():
    """Three steps further for the owner; the next answer starts from what was taught, as without tuning."""
    recipe = fedavg(**ONE_STEP, tune=3).recipe
    participant = Build("plant", QUANTILES)()
    participant.handle(teach(recipe, TOLD))
    same(participant.distilled.parameters(), stepped(participant, TOLD, 3, recipe).parameters())
    same(told(participant.handle(Ask(2, recipe))), stepped(participant, TOLD, 1, recipe).parameters())
    same(participant.distilled.parameters(), stepped(participant, TOLD, 3, recipe).parameters())


@pytest.mark.parametrize(("stays", "home", "away"), [("head", "b", "w"), ("body", "w", "b")])
def test_what_stays_at_home_is_trained_and_never_told(stays, home, away):
    """The answer has the other part alone; once the round teaches, what stays is as this round has trained it."""
    recipe = fedper(**ONE_STEP, stays=stays).recipe
    participant = Build("plant", QUANTILES)()
    trained = stepped(participant, START, 1, recipe).parameters()
    answer = told(participant.handle(Ask(1, recipe)))
    same(answer, {away: trained[away]})
    participant.handle(teach(recipe, {away: TOLD[away]}))
    kept = {away: TOLD[away], home: trained[home]}
    same(participant.distilled.parameters(), kept)
    same(told(participant.handle(Ask(2, recipe))), {away: stepped(participant, kept, 1, recipe).parameters()[away]})
    same(participant.distilled.parameters(), kept)  # what is kept is what was judged when it was taught


def test_no_teacher_reaches_what_stays_at_home():
    """A coordinator that sends a head is not followed there, and one that sends too little not at all."""
    recipe = fedper(**ONE_STEP).recipe
    participant = Build("plant", QUANTILES)()
    participant.handle(Ask(1, recipe))
    participant.handle(teach(recipe, TOLD))
    trained = stepped(participant, START, 1, recipe).parameters()
    same(participant.distilled.parameters(), {"w": TOLD["w"], "b": trained["b"]})
    participant.handle(teach(recipe, {"b": TOLD["b"]}, number=2))
    assert participant.notes[-1].startswith("the teacher of round 2 was of no use")
    same(participant.distilled.parameters(), {"w": TOLD["w"], "b": trained["b"]})


def test_a_round_that_teaches_nothing_changes_nothing():
    """No quorum: the next round begins where this one did, at home as well."""
    recipe = fedper(**ONE_STEP).recipe
    participant = Build("plant", QUANTILES)()
    first, second = (told(participant.handle(Ask(number, recipe))) for number in (1, 2))
    same(first, second)


def test_the_head_is_the_output_layer():
    assert MLP(QUANTILES, hidden=[5, 4]).initialise(6).head() == ("weight_2", "bias_2")
    model = MLP(QUANTILES, hidden=[5]).initialise(6)
    every = model.parameters()
    for home, travels in ((Part.NONE, "0011"), (Part.HEAD, "00"), (Part.BODY, "11")):
        away, stays = divide(model, every, home)
        assert [name[-1] for name in away] == list(travels)
        assert {**away, **stays}.keys() == every.keys()
        assert not away.keys() & stays.keys()


# --- clustered: numbers -----------------------------------------------------------------------------------


def cast(numbers, memory, absent=(), counts=None):
    """A ballot of participants a, b, c ... who say one parameter each; None is absent."""
    named = dict(zip("abcdef", numbers, strict=False))
    counts = dict(zip("abcdef", counts or [1] * len(numbers), strict=False))
    votes = {
        party: Release(parameters={"w": np.float32([number])}, count=counts[party])
        for party, number in named.items()
        if number is not None
    }
    return ballot(QUANTILES, votes, absent=[*absent, *(p for p in named if named[p] is None)], memory=memory)


def models(lesson):
    return {party: round(float(teacher.parameters["w"][0]), 4) for party, teacher in lesson.teachers.items()}


ZERO = {"w": np.zeros(1)}


def test_clustered_by_hand():
    """Round 1 is FedAvg: the mean of 0, 1, 9, 10 is 5. In round 2 they move by -5, -4, 4, 5 from there: two groups."""
    strategy = clustered(warm_up=1)
    first = strategy.teach(cast([0, 1, 9, 10], ZERO))
    assert (models(first), first.groups) == (dict.fromkeys("abcd", 5), ())
    second = strategy.teach(cast([0, 1, 9, 10], first.memory))
    assert second.groups == (("a", "b"), ("c", "d"))
    assert models(second) == {"a": 0.5, "b": 0.5, "c": 9.5, "d": 9.5}
    # From now on groups stay as they are, wherever their members go.
    third = strategy.teach(cast([9, 11, 0, 2], second.memory))
    assert third.groups == (("a", "b"), ("c", "d"))
    assert models(third) == {"a": 10, "b": 10, "c": 1, "d": 1}


def test_groups_weigh_their_members_by_rows():
    """(1 * 0 + 3 * 1) / 4, and (3 * 9 + 1 * 10) / 4."""
    lesson = clustered(warm_up=0, groups=2).teach(cast([0, 1, 9, 10], ZERO, counts=[1, 3, 3, 1]))
    assert models(lesson) == {"a": 0.75, "b": 0.75, "c": 9.25, "d": 9.25}


def test_the_threshold_is_a_distance_between_updates():
    """1 and 2 lie 1 apart, their mean distance to 4 is 2.5: joined up to it, and not below."""
    for threshold, groups in ((0.9, 3), (1.0, 2), (2.4, 2), (2.5, 1)):
        lesson = clustered(warm_up=0, threshold=threshold).teach(cast([1, 2, 4], ZERO))
        assert len(lesson.groups) == groups


def test_without_structure_all_stay_together():
    lesson = clustered(warm_up=0).teach(cast([1, 2, 3, 4], ZERO))
    assert lesson.groups == (("a", "b", "c", "d"),)
    assert models(lesson) == dict.fromkeys("abcd", 2.5)


def test_who_comes_late_joins_the_nearest_group():
    """When the groups 0, 1 and 9, 10 are made, c is absent, so it is taught nothing; it says 8 then."""
    strategy = clustered(warm_up=0, groups=2, weights="equal")
    first = strategy.teach(cast([0, 1, None, 9, 10], ZERO))
    assert models(first) == {"a": 0.5, "b": 0.5, "d": 9.5, "e": 9.5}
    second = strategy.teach(cast([0, 1, 8, 9, 10], first.memory))
    assert second.groups == (("a", "b"), ("c", "d", "e"))
    assert models(second) == {"a": 0.5, "b": 0.5, "c": 9, "d": 9, "e": 9}


def test_a_group_of_which_nobody_answers_keeps_its_model():
    strategy = clustered(warm_up=0, groups=2, weights="equal")
    first = strategy.teach(cast([0, 1, 9, 10], ZERO))
    second = strategy.teach(cast([2, 4, None, None], first.memory))
    assert second.groups == (("a", "b"),)
    assert models(second) == {"a": 3, "b": 3, "c": 9.5, "d": 9.5}
    assert models(strategy.teach(cast([None, None, 5, 6], second.memory))) == {"a": 3, "b": 3, "c": 5.5, "d": 5.5}


def test_the_order_of_names_in_an_answer_does_not_matter():
    start = {"v": np.zeros(1), "w": np.zeros(1)}
    votes = {
        "a": Release(parameters={"v": np.float32([0]), "w": np.float32([9])}, count=1),
        "b": Release(parameters={"w": np.float32([9]), "v": np.float32([0])}, count=1),
        "c": Release(parameters={"v": np.float32([9]), "w": np.float32([0])}, count=1),
    }
    lesson = clustered(warm_up=0, groups=2).teach(ballot(QUANTILES, votes, memory=start))
    assert lesson.groups == (("a", "b"), ("c",))


# --- whole federations ------------------------------------------------------------------------------------

TASK = Classification("answer", ("no", "yes"), ("p", "q"))
PUBLIC = pd.DataFrame(np.random.default_rng(99).normal(size=(40, 2)), columns=["p", "q"])


def site(number, rule):
    table = pd.DataFrame(np.random.default_rng(number).normal(size=(160, 2)), columns=["p", "q"])
    return table.assign(answer=np.where(rule(table), "yes", "no"))


TWO_POPULATIONS = [
    Member(f"{name}{i}", site(10 * (name == "down") + i, rule), "mlp", {"hidden": [8], "batch": 16, "epochs": 5})
    for name, rule in (("up", lambda t: t.p > 0), ("down", lambda t: t.p < 0))
    for i in range(3)
]
"""Three members of whom the answer is yes where p is above 0, and three where it is below."""


class Seen:
    """Watches what passes between participants and coordinator."""

    def __init__(self):
        self.up, self.down = [], []

    def __call__(self, seen):
        if isinstance(seen, Received):
            assert not isinstance(seen.reply, Refuse)
            self.up.append((seen.reply.round, seen.reply.sender, seen.reply.payload))
        elif isinstance(seen, Send) and isinstance(seen.message, Teach):
            self.down.append((seen.message.round, seen.to, seen.message.payload))


def ran(strategy, rounds=3, members=TWO_POPULATIONS, **options):
    """A run: its federation, its history and what was seen of it."""
    seen = Seen()
    options = {"epochs": 4, "learning_rate": 0.02, **options}
    federation = Federation(TASK, members, PUBLIC, strategy=strategy, options=options, rounds=rounds)
    return federation, federation.run(observe=seen), seen


def accuracy(history, way="distilled"):
    return np.mean([(one.predictions[way].argmax(axis=1) == one.actual).mean() for one in history.outcomes])


def distance(start, payload):
    parameters = Raw().decode(payload).parameters
    return np.sqrt(sum(((parameters[name] - start[name]) ** 2).sum() for name in start))


def test_fedprox_moves_less():
    """The larger mu, the less far everyone gets from the common start in the first round; 0 is FedAvg to the byte."""
    lengths = {}
    for proximal in (0.0, 0.1, 10.0):
        federation, _, seen = ran("fedprox", rounds=1, proximal=proximal)
        lengths[proximal] = np.array([distance(federation.strategy.memory, payload) for _, _, payload in seen.up])
        if not proximal:
            assert seen.up == ran("fedavg", rounds=1)[2].up
    assert (lengths[0.0] > lengths[0.1]).all()
    assert (lengths[0.1] > 2 * lengths[10.0]).all()


@pytest.mark.parametrize(("stays", "travels"), [("head", "0"), ("body", "1")])
def test_what_stays_at_home_is_in_no_message(stays, travels):
    """The other part alone travels, up and down; and each ends with a model of its own, though the rest is common."""
    _, history, seen = ran("fedper", stays=stays, rounds=4)
    assert len(seen.up) == len(seen.down) == 4 * 6
    for _, _, payload in (*seen.up, *seen.down):
        assert Raw().decode(payload).parameters.keys() == {f"weight_{travels}", f"bias_{travels}"}
    assert accuracy(history) > 0.9 > accuracy(ran("fedavg", rounds=4)[1]) + 0.2


def test_bodies_that_stay_at_home_may_differ():
    """LG-FedAvg: networks of unlike hidden layers meet in the last one. Where these would be averaged, they cannot."""
    sizes = [{"hidden": [wide, 8], "batch": 16, "epochs": 5} for wide in (12, 16)]
    mixed = [replace(member, options=sizes[i % 2]) for i, member in enumerate(TWO_POPULATIONS)]
    assert accuracy(ran("fedper", members=mixed, stays="body")[1]) > 0.9
    with pytest.raises(ConfigError, match="have different ones"):
        ran("fedper", members=mixed, stays="head")


def test_where_all_would_stay_at_home_nothing_runs():
    flat = [replace(member, learner="linear", options={}) for member in TWO_POPULATIONS]
    with pytest.raises(ConfigError, match="leaves the head at home, which is all of a linear") as caught:
        ran("fedper", members=flat)
    assert caught.value.where == "participant down0"
    assert Linear(QUANTILES).initialise(2).head() == ("weight_0", "bias_0")


def test_clustered_tells_two_populations_apart():
    """One model cannot say yes and no to the same; two can."""
    _, history, seen = ran("clustered", warm_up=1, rounds=4)
    assert [record.groups for record in history.rounds] == [
        (),
        *[(("down0", "down1", "down2"), ("up0", "up1", "up2"))] * 3,
    ]
    taught = {party: payload for number, party, payload in seen.down if number == 4}
    assert taught["up0"] == taught["up1"] != taught["down0"] == taught["down1"]
    assert accuracy(history) > 0.9 > accuracy(ran("fedavg", rounds=4)[1]) + 0.2


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "clustered"])
def test_tuning_serves_its_owner_and_changes_no_message(strategy):
    plain, tuned = (ran(strategy, rounds=2, tune=tune) for tune in (0, 4))
    assert (tuned[2].up, tuned[2].down) == (plain[2].up, plain[2].down)
    assert accuracy(tuned[1]) > 0.9 > accuracy(plain[1]) + 0.2
