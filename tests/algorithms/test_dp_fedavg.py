"""DP-FedAvg: contract, the clip that follows the updates, by hand, and a federation that pays for what it averages."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fedstill import Federation, Forecast, Layout, Member, from_frame
from fedstill.algorithms.dp_fedavg import dp_fedavg, moved
from fedstill.codecs.raw import Raw
from fedstill.energy.synthetic import synthetic
from fedstill.errors import ConfigError
from fedstill.flaws import flaw_of_release
from fedstill.labels import Release
from fedstill.messages import LEAST_CLIP, MOST_CLIP, Answer, Ask, Kind, Recipe
from fedstill.privacy.clipped_update import clip_to
from fedstill.privacy.guard import Privacy
from fedstill.privacy.spending import Budget, Unit
from fedstill.round import Coordinator, Plan, Received, Send, Started, Ticked
from fedstill.strategy import Lesson
from fedstill.testing.algorithms import AlgorithmContract
from fedstill.testing.fakes import QUANTILES, START, ballot

PARTIES = ("a", "b", "c")


class TestFixed(AlgorithmContract):
    def make(self):
        return dp_fedavg(clip=30.0)


class TestAdaptive(AlgorithmContract):
    def make(self):
        return dp_fedavg(clip=0.5, clipping="adaptive", proximal=0.1)


def test_recipes():
    fixed = Recipe(Kind.PARAMETERS, epochs=3, learning_rate=0.1, seed=7, proximal=0.2, tune=1, clip=0.5)
    options = {"epochs": 3, "learning_rate": 0.1, "seed": 7, "proximal": 0.2, "tune": 1, "clip": 0.5}
    assert dp_fedavg(**options).recipe == fixed
    assert dp_fedavg(**options, clipping="adaptive").recipe.adaptive


@pytest.mark.parametrize(
    "options", [{"clip": 0.0}, {"clip": np.inf}, {"quantile": 1.5}, {"rate": 0.0}, {"rate": np.nan}]
)
def test_options_that_bound_nothing_are_refused(options):
    with pytest.raises(ValueError, match=r"use"):
        dp_fedavg(clipping="adaptive", **options)
    with pytest.raises(ConfigError, match="clipping"):
        dp_fedavg(clipping="adaptiv")


@pytest.mark.parametrize(
    "recipe",
    [
        {"clip": -1.0},
        {"clip": 1e-20},
        {"clip": np.nan},
        {"adaptive": True},
        {"release": Kind.LABELS, "clip": 1.0},
    ],
)
def test_recipes_that_nobody_could_follow_are_refused(recipe):
    with pytest.raises(ValueError, match="clip"):
        Recipe(**{"release": Kind.PARAMETERS, **recipe})


# --- the adaptive clip ------------------------------------------------------------------------------------


def test_the_clip_moves_by_hand():
    """All within: too wide; none: too narrow; half of them: at rest. Noise moves it no further than all or none."""
    assert moved(2.0, 1.0, 0.5, 0.2) == pytest.approx(2 * math.exp(-0.1))
    assert moved(2.0, 0.0, 0.5, 0.2) == pytest.approx(2 * math.exp(0.1))
    assert moved(2.0, 0.5, 0.5, 0.2) == 2.0
    assert moved(2.0, 40.0, 0.5, 0.2) == moved(2.0, 1.0, 0.5, 0.2)
    assert moved(2.0, -40.0, 0.5, 0.2) == moved(2.0, 0.0, 0.5, 0.2)
    assert moved(LEAST_CLIP, 1.0, 0.5, 0.2) == LEAST_CLIP
    assert moved(MOST_CLIP, 0.0, 0.5, 0.2) == MOST_CLIP


@pytest.mark.parametrize("start", [0.01, 100.0])
@pytest.mark.parametrize(("quantile", "low", "high"), [(0.5, 4.0, 8.0), (0.9, 16.0, 16.0), (0.3, 2.0, 4.0)])
def test_it_comes_to_rest_at_the_quantile_of_the_norms(start, quantile, low, high):
    """Of 1, 2, 2, 4, 4, 8, 8, 16, 16, 16: half are within any clip from 4 to 8, three from 2 to 4, all at 16."""
    strategy = dp_fedavg(clip=start, clipping="adaptive", quantile=quantile)
    norms, memory = [1.0, 2.0, 4.0, 8.0, 16.0, 2.0, 4.0, 8.0, 16.0, 16.0], START
    for _ in range(200):
        clip = strategy.clip(memory)
        said = {}
        for i, norm in enumerate(norms):
            update, within = clip_to({"b": np.array([0.0, norm, 0.0])}, clip)
            said[f"p{i}"] = Release(parameters={"w": np.zeros((2, 3)), **update}, within=float(within))
        memory = strategy.teach(ballot(QUANTILES, said, memory=memory)).memory
    assert low * math.exp(-0.2) <= strategy.clip(memory) <= high * math.exp(0.2)


def answer(party, number, within):
    return Answer(number, party, Raw().encode(Release(parameters=START, within=within)))


def asks(effects):
    return {one.to: one.message.clip for one in effects if isinstance(one, Send) and isinstance(one.message, Ask)}


def test_all_are_told_the_same_clip_who_missed_a_round_as_well():
    plan = Plan(PARTIES, QUANTILES, 8, rounds=4, quorum=2, deadline_s=10.0)
    strategy = replace(dp_fedavg(clip=2.0, clipping="adaptive"), memory=START)
    coordinator = Coordinator(plan, strategy, Raw())
    state, effects = coordinator.step(coordinator.start(), Started(0.0))
    assert asks(effects) == dict.fromkeys(PARTIES, 2.0)
    for party in ("a", "b"):
        state, _ = coordinator.step(state, Received(answer(party, 1, 1.0), 1.0))
    state, effects = coordinator.step(state, Ticked(10.0))
    second = pytest.approx(2 * math.exp(-0.1))
    assert asks(effects) == dict.fromkeys(PARTIES, second)
    state, effects = coordinator.step(state, Received(answer("c", 1, 1.0), 11.0))  # too late: caught up
    assert asks(effects) == {"c": second}
    state, effects = coordinator.step(state, Ticked(20.0))  # nobody answered: the clip stays
    assert asks(effects) == dict.fromkeys(PARTIES, second)
    for party in PARTIES:
        state, effects = coordinator.step(state, Received(answer(party, 3, 0.0), 21.0))
    assert asks(effects) == dict.fromkeys(PARTIES, pytest.approx(2.0))


def test_a_fixed_clip_stands_in_the_recipe_alone():
    strategy = dp_fedavg(clip=2.0)
    assert strategy.clip(START) == 0 == strategy.clip(None)
    lesson = strategy.teach(ballot(QUANTILES, {"a": Release(parameters=START)}, memory=START))
    assert isinstance(lesson, Lesson)
    assert strategy.clip(lesson.memory) == 0


def test_an_answer_tells_whether_it_was_within_where_that_is_asked_for():
    shapes = {name: array.shape for name, array in START.items()}
    fixed, adaptive = dp_fedavg().recipe, dp_fedavg(clipping="adaptive").recipe
    plain, told = Release(parameters=START), Release(parameters=START, within=0.3)
    for release, recipe in ((plain, fixed), (told, adaptive)):
        assert flaw_of_release(release, recipe, QUANTILES, 8, shapes) == ""
    infinite = Release(parameters=START, within=math.inf)
    for release, recipe in ((told, fixed), (plain, adaptive), (infinite, adaptive), (infinite, fixed)):
        assert "within the clip" in flaw_of_release(release, recipe, QUANTILES, 8, shapes)


# --- a federation -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loads():
    return list(from_frame(synthetic(n_sites=5, days=70), Layout(timezone="Europe/Berlin")).values())


def federation(loads, privacy, strategy="dp_fedavg", last=None, **options):
    *own, public = loads
    small = {"hidden": (4,), "epochs": 3}
    members = [Member(one.site, one, "mlp", small, privacy=privacy) for one in own]
    members[-1:] = [Member(own[-1].site, own[-1], "mlp", small, privacy=last or privacy)]
    task = Forecast(naive="week", test=("2016-03-01", "2016-03-08"), folds=2, companions=())
    return Federation(task, members, public, strategy=strategy, options=options, rounds=2, items=50, quorum=3)


def private(**options):
    return Privacy("clipped_update", Budget(8.0, unit=Unit.PARTICIPANT), options)


@pytest.mark.parametrize("clipping", ["fixed", "adaptive"])
def test_a_federation_pays_for_what_it_averages(loads, clipping):
    trusting = private(against="participants")
    history = federation(loads, trusting, clip=0.1, clipping=clipping, epochs=1).run()
    for one in history.report.participants:
        assert one.privacy is not None
        assert 7.5 < one.privacy.epsilon <= 8.0
        assert one.privacy.unit == "participant"
        assert any("coordinator is trusted, and 1 other to add as much" in told.what for told in one.privacy.released)
    assert len(history.rounds) == 2
    assert all(len(one.answered) == 4 for one in history.rounds)


def test_who_only_listens_learns_what_the_others_average(loads):
    history = federation(loads, private(), last=Privacy("silent"), strategy="fedavg", weights="equal", epochs=1).run()
    assert all(len(one.answered) == 3 for one in history.rounds)


@pytest.mark.parametrize(
    ("strategy", "privacy", "last", "options", "match"),
    [
        ("fedavg", private(), None, {}, "the number of rows"),
        ("fedmd", private(), None, {}, "soft labels"),
        ("fedavg", private(against="participants"), None, {"weights": "equal"}, "more than a mean"),
        ("dp_fedavg", private(against="participants"), Privacy(), {}, "not all add as much"),
    ],
)
def test_what_would_not_be_paid_for_does_not_run(loads, strategy, privacy, last, options, match):
    with pytest.raises(ConfigError, match=match):
        federation(loads, privacy, strategy, last, **options)  # and `fedstill check` says so
