"""Replies that cannot be used: each is ignored with its reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rounds import ABC, BAD, COORDINATOR, INF, NAN, PLAN, RAW, ROW, answer, heard, of, play, release

from fedstill.algorithms.fedmd import fedmd
from fedstill.algorithms.grouped import grouped
from fedstill.labels import Release, Space
from fedstill.messages import Answer, Kind, Recipe, Refuse
from fedstill.round import Coordinator, Ignored, Received, Started
from fedstill.strategy import Strategy, nobody
from fedstill.testing.fakes import CLASSES, QUANTILES, START, soft


def objection(coordinator, reply):
    """Why a reply in round 1 is ignored; nothing else may come of it, but that its sender is not waited for."""
    state, _ = coordinator.step(coordinator.start(), Started(0.0))
    after, effects = coordinator.step(state, Received(reply, 1.0))
    asked = reply.sender in ABC and reply.round == 1
    assert after == (replace(state, refusals={reply.sender: effects[0].why}) if asked else state)
    assert [type(effect) for effect in effects] == [Ignored]
    assert effects[0].reply == reply
    return effects[0].why


@pytest.mark.parametrize("name", BAD)
def test_objections(name):
    payload, why = BAD[name]
    coordinator = Coordinator(replace(PLAN, max_answer_bytes=2000), fedmd(), RAW)
    assert why in objection(coordinator, Answer(1, "a", payload))


CLASS_ROW = [0.2, 0.3, 0.5]


@pytest.mark.parametrize(
    "row", [[0.2, 0.3, 0.4], [0.7, 0.7, -0.4], [1, 1, 1], [0, 0, 0], [3e38, 3e38, 3e38], [0.25, 0.25, 0.502]]
)
def test_objections_to_probabilities(row):
    coordinator = Coordinator(replace(PLAN, outputs=CLASSES), fedmd(), RAW)
    bad = Answer(1, "a", release([CLASS_ROW, row], space=Space.PROBABILITIES))
    assert objection(coordinator, bad) == "its probabilities do not sum to 1"


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_extreme_but_valid_answers_are_taken():
    """The largest float32 on either side do not cross, and are no reason for a warning."""
    ends = release([[-3e38, 0, 3e38]] * 2)
    state, effects = play(COORDINATOR, *heard(*(Answer(1, party, ends) for party in ABC)))
    assert (state.round, of(Ignored, effects)) == (2, [])
    assert RAW.decode(state.teachers["a"].payload).labels.values[0].tolist() == np.float32([-3e38, 0, 3e38]).tolist()


def parametric(recipe):
    return Coordinator(PLAN, Strategy("p", nobody, recipe, memory=START), RAW)


@pytest.mark.parametrize("kind", [Kind.PARAMETERS, Kind.GRADIENTS])
@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({}, "no parameters, or more"),
        ({"w": START["w"]}, "other names or shapes"),
        ({**START, "more": np.zeros(1)}, "other names or shapes"),
        ({**START, "b": np.zeros(4)}, "other names or shapes"),
        ({**START, "b": np.zeros((3, 1))}, "other names or shapes"),
        ({**START, "b": np.array([0, NAN, 0])}, "not finite"),
        ({**START, "b": np.array([0, -INF, 0])}, "not finite"),
    ],
)
def test_objections_to_parameters(kind, parameters, why):
    bad = Answer(1, "a", RAW.encode(Release(parameters=parameters)))
    assert why in objection(parametric(Recipe(kind)), bad)


def test_objections_to_labels_where_parameters_were_asked_for():
    both = Answer(1, "a", RAW.encode(Release(soft(QUANTILES, [0, 0]), START)))
    assert "no parameters, or more" in objection(parametric(Recipe(Kind.PARAMETERS)), both)


@pytest.mark.parametrize("score", [NAN, INF])
def test_objections_to_what_is_not_told(score):
    """A count and a score that the recipe asks for must be there."""
    asks = Coordinator(PLAN, grouped(reliability="heldout"), RAW)
    assert "held-out loss" in objection(asks, Answer(1, "a", release([ROW, ROW], score=score)))
    uncounted = Answer(1, "a", RAW.encode(Release(parameters=START)))
    assert "number of rows" in objection(parametric(Recipe(Kind.PARAMETERS, count=True)), uncounted)


def test_objections_to_senders_and_rounds():
    assert objection(COORDINATOR, answer("x")) == "the sender does not take part"
    assert objection(COORDINATOR, Refuse(1, "x", "")) == "the sender does not take part"
    assert objection(COORDINATOR, answer("a", sent_in=2)) == "it answers round 2, open is round 1"
    assert objection(COORDINATOR, answer("a", sent_in=2**70)).startswith("it answers round")
    for first in (answer("a", 1), Refuse(1, "a", "no")):
        state, _ = play(COORDINATOR, *heard(first))
        for second in (answer("a", 2), Refuse(1, "a", "no")):
            after, effects = COORDINATOR.step(state, Received(second, 0.0))
            assert (after, effects) == (state, (Ignored(second, "its sender was heard in this round already"),))
