"""Noise on clipped updates: its bound and its price, by hand, and that nothing else leaves beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedstill.codecs.raw import Raw
from fedstill.errors import ConfigError
from fedstill.learners.networks import MLP
from fedstill.messages import Answer, Ask, Kind, Part, Recipe, Refuse
from fedstill.participant import Participant
from fedstill.privacy.base import Asked, Mechanism, UpdateMechanism
from fedstill.privacy.clipped_update import ClippedUpdate, clip_to
from fedstill.privacy.guard import Guard, Privacy, check_recipe, check_together, check_unit
from fedstill.privacy.ledger import MemoryLedger
from fedstill.privacy.noise import SeededNoise
from fedstill.privacy.pricing import epsilon
from fedstill.privacy.spending import Budget, Gaussian, Nothing, Spend, Unit
from fedstill.testing.fakes import QUANTILES, START, Line, Make, rows, site
from fedstill.testing.mechanisms import Recorded, UpdateMechanismContract, length

BUDGET = Budget(8.0, unit=Unit.PARTICIPANT)
CLIPPED = Privacy("clipped_update", BUDGET)
AVERAGE = Recipe(Kind.PARAMETERS)
ADAPTIVE = replace(AVERAGE, clip=1.0, adaptive=True)


class TestAgainstCoordinator(UpdateMechanismContract):
    def make(self):
        return ClippedUpdate()


class TestAgainstParticipants(UpdateMechanismContract):
    def make(self):
        return ClippedUpdate(against="participants", share=0.3)


# --- the clip ---------------------------------------------------------------------------------------------


def test_all_arrays_are_clipped_together():
    update = {"w": np.array([[3.0, 0.0]]), "b": np.array([4.0])}  # 5 long
    shorter, within = clip_to(update, 1.0)
    np.testing.assert_allclose(shorter["w"], [[0.6, 0.0]])
    np.testing.assert_allclose(shorter["b"], [0.8])
    assert not within
    same, within = clip_to(update, 5.0)
    assert within
    assert all(np.array_equal(same[name], update[name]) for name in update)


@given(arrays(np.float64, 4, elements=st.floats(allow_nan=False, allow_infinity=False)), st.floats(1e-9, 1e9))
def test_no_finite_update_is_longer_than_the_clip(update, clip):
    shorter, within = clip_to({"w": update}, clip)
    assert length(shorter) <= clip * (1 + 1e-12)
    assert not within or np.array_equal(shorter["w"], update)


# --- the price --------------------------------------------------------------------------------------------


def test_the_noise_by_hand():
    """A clip of 3, multiplier 4: 24 a number against the coordinator; a quorum of 10 shares it out among 9."""
    spend, asked = Spend(Gaussian(4.0), Unit.PARTICIPANT, ""), Asked(3.0, False, 1, 10)
    assert ClippedUpdate().deviations(asked, spend) == (24, 0)
    assert ClippedUpdate(against="participants").deviations(asked, spend) == (8, 0)
    of_update, of_bit = ClippedUpdate(share=0.2).deviations(replace(asked, adaptive=True), spend)
    assert of_update == pytest.approx(24 / np.sqrt(0.8))
    assert of_bit == pytest.approx(4 / np.sqrt(0.2))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_update_and_bit_cost_together_what_two_gaussians_do(share):
    mechanism, asked = ClippedUpdate(share=share), Asked(0.7, True, 4, 1)
    (spend,) = mechanism.spends(asked, BUDGET, [])
    of_update, of_bit = mechanism.deviations(asked, spend)
    two = [Gaussian(of_update / (2 * 0.7), 4), Gaussian(of_bit, 4)]
    assert epsilon(two, 1e-5) == pytest.approx(epsilon([spend.event] * 4, 1e-5), rel=1e-6)
    assert epsilon(two[:1], 1e-5) < epsilon(two, 1e-5)


def test_a_mean_is_as_noisy_as_its_price_says():
    """Six answer where five are needed: whoever looks takes its own noise off, five others' are left, four are paid."""
    mechanism, asked = ClippedUpdate(against="participants"), Asked(1.0, False, 2, 5)
    (spend,) = mechanism.spends(asked, BUDGET, [])
    zero = {"w": np.zeros(30_000)}
    told = [mechanism.protect(zero, asked, [spend], SeededNoise(i)).update["w"] for i in range(6)]
    mean, own = np.mean(told, axis=0), told[0] / 6
    apart = 2 * 1.0 / 6  # of two means that differ in one participant's update
    expected = spend.event.multiplier * apart
    assert np.std(mean) / expected == pytest.approx(np.sqrt(6 / 4), rel=0.02)
    assert np.std(mean - own) / expected == pytest.approx(np.sqrt(5 / 4), rel=0.02)
    alone = ClippedUpdate().protect(zero, asked, ClippedUpdate().spends(asked, BUDGET, []), SeededNoise(0))
    assert np.std(alone.update["w"]) / np.std(told[0]) == pytest.approx(2, rel=0.02)


def test_the_ledger_says_whom_it_is_against():
    asked = Asked(1.0, True, 2, 5)
    assert ClippedUpdate().spends(asked, BUDGET, [])[0].what == (
        "an update, and whether it was within the clip, with noise, as the coordinator sees it"
    )
    trusting = ClippedUpdate(against="participants")
    assert trusting.spends(replace(asked, adaptive=False), BUDGET, [])[0].what == (
        "an update with noise, as seen in a mean: the coordinator is trusted, and 3 others to add as much"
    )
    assert trusting.spends(replace(asked, quorum=2), BUDGET, [])[0].what.endswith("the coordinator is trusted")


@pytest.mark.parametrize("options", [{"clip": 0.0}, {"clip": -1.0}, {"clip": np.inf}, {"against": "all"}, {"share": 1}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError) as told:
        Privacy("clipped_update", BUDGET, options).build()
    assert told.value.remedy


# --- what leaves ------------------------------------------------------------------------------------------


def participant(privacy=CLIPPED, noise=None, kind=Line, answers=3):
    own, ledger = site("plant", QUANTILES), MemoryLedger(privacy.budget, lambda: 0.0)
    guard = Guard(privacy, None, answers, ledger, noise or Recorded(scale=0.0))
    return Participant(own, Make(kind, QUANTILES), QUANTILES, rows(QUANTILES, 8, 99).X, Raw(), 4, guard)


def released(reply):
    assert isinstance(reply, Answer), reply
    return Raw().decode(reply.payload)


def test_an_update_leaves_clipped_and_the_common_start_is_added_again():
    steep = replace(AVERAGE, epochs=50, learning_rate=0.1)
    free = released(participant(Privacy()).handle(Ask(1, steep))).parameters
    assert length(free) > 1
    kept = released(participant(Privacy("clipped_update", BUDGET, {"clip": 0.5})).handle(Ask(1, steep))).parameters
    for name, array in kept.items():  # of a start at 0
        np.testing.assert_allclose(array, 0.5 * free[name] / length(free), atol=1e-6)
    told = released(participant().handle(Ask(1, replace(steep, clip=0.25)))).parameters
    assert length(told) == pytest.approx(0.25, rel=1e-6)  # the recipe's clip goes before the owner's


def test_gradients_are_clipped_as_they_are():
    recipe = Recipe(Kind.GRADIENTS)
    free = released(participant(Privacy()).handle(Ask(1, recipe))).parameters
    kept = released(participant(Privacy("clipped_update", BUDGET, {"clip": 0.1})).handle(Ask(1, recipe))).parameters
    for name, array in kept.items():
        np.testing.assert_allclose(array, 0.1 * free[name] / length(free), atol=1e-7)


def test_without_a_mechanism_an_agreed_clip_holds_and_nothing_else_changes():
    plain = participant(Privacy()).handle(Ask(1, AVERAGE))
    assert length(released(plain).parameters) > 1e-3
    bounded = participant(Privacy()).handle(Ask(1, replace(AVERAGE, clip=1e-3)))
    assert length(released(bounded).parameters) == pytest.approx(1e-3, rel=1e-5)
    assert released(bounded).within != released(bounded).within  # NaN: it was not asked


def test_a_question_may_move_an_adaptive_clip():
    """It says whether its update was within; each answer is clipped to what its own question says."""
    long, short = Ask(1, ADAPTIVE), Ask(2, ADAPTIVE, clip=1e-3)
    one = participant(answers=2)
    assert released(one.handle(long)).within == 1
    answer = released(one.handle(short))
    assert (answer.within, length(answer.parameters)) == (0, pytest.approx(1e-3, rel=1e-5))
    for clip in (-1.0, np.nan, np.inf, 1e-300):
        with pytest.raises(ValueError, match="bounds nothing"):
            Ask(1, ADAPTIVE, clip=clip)
    with pytest.raises(ValueError, match="not adaptive"):
        Ask(1, replace(AVERAGE, clip=1.0), clip=0.5)


def test_every_answer_is_paid_for_and_none_beyond_those_agreed_on():
    one = participant(noise=SeededNoise(0))
    replies = [one.handle(Ask(number, AVERAGE)) for number in (1, 2, 3, 4)]
    assert [type(reply) for reply in replies] == [Answer, Answer, Answer, Refuse]
    events = [type(entry.spend.event) for entry in one.guard.ledger.entries()]
    assert events == [Gaussian, Nothing] * 3 + [Nothing]
    assert 7.5 < one.guard.protection().statement.epsilon <= 8.0
    assert one.handle(Ask(1, AVERAGE)) is replies[0]


def test_what_stays_at_home_is_not_released():
    def line(seed=None):
        return MLP(QUANTILES, seed=0, hidden=(3,))

    one = participant(noise=SeededNoise(0), kind=lambda *_: line())
    told = released(one.handle(Ask(1, replace(AVERAGE, home=Part.HEAD, epochs=1)))).parameters
    assert set(told) == set(line().initialise(2).parameters()) - set(line().initialise(2).head())


def test_an_update_that_is_not_finite_is_not_told_of():
    class Lost(Line):
        def train(self, *_):
            self.arrays = {name: array + np.nan for name, array in self.arrays.items()}

    one = participant(kind=Lost)
    assert one.handle(Ask(1, AVERAGE)) is None
    assert "not finite" in one.notes[0]
    assert [*one.guard.ledger.entries()] == []


@pytest.mark.parametrize("recipe", [Recipe(), replace(AVERAGE, count=True), replace(AVERAGE, score=True)])
def test_whoever_asks_for_more_gets_nothing(recipe):
    """Checked again at every question, whatever was checked before the run."""
    one = participant()
    assert one.handle(Ask(1, recipe)) is None
    assert "pay" in one.notes[-1]


@pytest.mark.parametrize("name", ["dp_sgd", "label_noise", "committee", "silent"])
def test_mechanisms_for_soft_labels_let_no_parameters_out(name):
    reply = participant(Privacy(name, BUDGET)).handle(Ask(1, AVERAGE))
    assert reply == (Refuse(1, "plant", "this participant only listens") if name == "silent" else None)


def test_after_a_restart_nothing_is_paid_for_twice():
    """And what stays at home is as it was."""
    ask = Ask(1, replace(AVERAGE, home=Part.HEAD))
    first, second = participant(noise=SeededNoise(0)), participant(noise=SeededNoise(5))
    answer = first.handle(ask)
    second.remember(answer)
    second.retrace(ask)
    assert second.handle(ask) is answer
    assert [*second.guard.ledger.entries()] == []
    assert second._stays.keys() == first._stays.keys() == {"b"}
    np.testing.assert_array_equal(second._stays["b"], first._stays["b"])
    assert np.any(second._stays["b"] != START["b"])


# --- before a run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "what", "remedy"),
    [
        (Recipe(), "soft labels", "dp_fedavg"),
        (Recipe(Kind.SKETCH), "soft labels", "dp_fedavg"),
        (replace(AVERAGE, count=True), "the number of rows", "weights = 'equal'"),
        (replace(AVERAGE, score=True), "held-out loss", "stop_after"),
    ],
)
def test_what_it_does_not_pay_for_is_refused(recipe, what, remedy):
    check_recipe(CLIPPED, AVERAGE, "here")
    check_recipe(CLIPPED, Recipe(Kind.GRADIENTS), "here")
    with pytest.raises(ConfigError, match=what) as told:
        check_recipe(CLIPPED, recipe, "here")
    assert remedy in told.value.remedy


def test_only_a_mean_under_one_clip_is_less_than_its_parts():
    trusting = replace(CLIPPED, options={"against": "participants"})
    check_recipe(trusting, ADAPTIVE, "here")
    check_recipe(trusting, replace(AVERAGE, clip=1.0), "here")
    with pytest.raises(ConfigError, match="more than a mean of answers under one clip") as told:
        check_recipe(trusting, AVERAGE, "here")
    assert "dp_fedavg" in told.value.remedy


def test_noise_that_others_do_not_add_is_not_counted_on():
    trusting = replace(CLIPPED, options={"against": "participants"})
    check_together([trusting, trusting, Privacy("silent")], "here")
    check_together([CLIPPED, Privacy(), replace(CLIPPED, budget=Budget(2.0, unit=Unit.PARTICIPANT))], "here")
    for other in (CLIPPED, Privacy(), replace(trusting, budget=Budget(9.0, unit=Unit.PARTICIPANT))):
        with pytest.raises(ConfigError, match="not all add as much"):
            check_together([trusting, other], "here")


def test_it_hides_a_participant_and_so_all_that_is_smaller():
    check_unit(CLIPPED, ("day",), "here")
    check_unit(replace(CLIPPED, budget=Budget(2.0)), ("day",), "here")
    with pytest.raises(ConfigError, match="hides a participant"):
        check_unit(replace(CLIPPED, budget=Budget(2.0, unit=Unit.CUSTOMER)), ("day",), "here")


def test_kinds_of_mechanisms_are_told_apart():
    clipped = ClippedUpdate()
    assert isinstance(clipped, UpdateMechanism)
    assert not isinstance(clipped, Mechanism)
