"""A round that asks on: all are asked for a sketch, then a few for soft labels, and it ends whoever falls silent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounds import ABC, PLAN, RAW, ROW, answer, of, play, release

from fedstill.algorithms.sketched import sketched
from fedstill.labels import Release
from fedstill.messages import Answer, Ask, Kind, Recipe, Refuse, Teach
from fedstill.round import (
    Asked,
    Closed,
    Coordinator,
    Failed,
    Finished,
    Ignored,
    Phase,
    Plan,
    QuorumMissed,
    Received,
    Send,
    Started,
    State,
    Ticked,
    Wake,
)
from fedstill.strategy import FollowUp, Lesson, Strategy, nobody
from fedstill.testing.fakes import QUANTILES, START, builds, soft
from fedstill.transports.calls import InProcess, run
from fedstill.transports.log import EventLog, read_events

FIRST, THEN = Recipe(Kind.SKETCH, sketch=1), Recipe(share=0.7)


def asks(*turns):
    """A strategy that asks these on and teaches everybody the mean of what they say, minding how many sketches came."""

    def teach(ballot):
        if ballot.follow_up is None:
            return Lesson(follow_up=FollowUp(turns, memory=len(ballot.votes)))
        mean = np.mean([vote.labels.values for vote in ballot.votes], axis=0)
        teachers = dict.fromkeys(ballot.parties, Release(soft(QUANTILES, mean)))
        return Lesson(teachers, memory=(ballot.memory, ballot.follow_up.memory))

    return Strategy("asks on", teach, FIRST, follow_up=THEN)


def coordinator(*turns, **plan):
    return Coordinator(replace(PLAN, rounds=1, **plan), asks(*turns), RAW)


def sketch(sender, number=0.0, sent_in=1, question=1):
    return Answer(sent_in, sender, RAW.encode(Release(sketch=np.float32([number]))), question)


def labels(sender, number=0, sent_in=1, question=2):
    return replace(answer(sender, number, sent_in), question=question)


def no(sender, question=2):
    return Refuse(1, sender, "no", question)


def played(coordinator, *replies):
    """From the start, after sketches of all: the last state and all effects."""
    events = [reply if isinstance(reply, Ticked) else Received(reply, 1.0) for reply in replies]
    return play(coordinator, Started(0.0), *(Received(sketch(party), 1.0) for party in ABC), *events)


def taught(state):
    return {party: float(RAW.decode(one.payload).labels.values[0, 0]) for party, one in state.teachers.items()}


# One round by hand.


def test_a_round_with_a_follow_up():
    """All send a sketch; a and c are asked on and say 1 and 3; everybody is taught 2, and the round is over."""
    machine = coordinator(("c", "a"), quorum=3)
    state, effects = machine.step(machine.start(), Started(0.0))
    assert effects == (*(Send(party, Ask(1, FIRST, 1)) for party in ABC), Wake(10.0))
    for party in "ab":
        state, effects = machine.step(state, Received(sketch(party), 2.0))
        assert effects == ()

    state, effects = machine.step(state, Received(sketch("c"), 3.0))
    question = Ask(1, THEN, 2)
    assert effects == (Asked(1, 2, ("a", "c")), Send("a", question), Send("c", question), Wake(13.0))
    assert state == State(Phase.OPEN, 1, 13.0, question=2, follow_up=FollowUp((("c", "a"),)))

    state, _ = machine.step(state, Received(labels("c", 3), 4.0))
    state, effects = machine.step(state, Received(labels("a", 1), 5.0))
    teach = Teach(1, THEN, RAW.encode(Release(soft(QUANTILES, [2, 2]))))
    assert effects == (*(Send(party, teach) for party in ABC), Closed(1, ABC, {}, (), ()), Finished(1))
    assert (state.phase, state.memory) == (Phase.FINISHED, (None, 3))


def test_the_next_round_begins_with_the_first_question():
    machine = Coordinator(PLAN, asks(("a",)), RAW)
    state, effects = played(machine, labels("a", 1))
    assert (state.round, state.question, state.follow_up, state.silent) == (2, 1, None, {})
    assert [send.message for send in of(Send, effects)[-3:]] == [Ask(2, FIRST, 1)] * 3
    late = machine.step(state, Received(labels("a", 1), 2.0))
    assert late == (
        state,
        (
            Ignored(labels("a", 1), "it answers round 1, open is round 2"),
            Send("a", state.teachers["a"]),
            Send("a", Ask(2, FIRST, 1)),
        ),
    )


def test_without_sketches_enough_nobody_is_asked_on():
    """The quorum counts answers to the first question."""
    machine = coordinator(("a",), quorum=2)
    state, effects = play(machine, Started(0.0), Received(sketch("a"), 1.0), Ticked(10.0))
    assert of(Asked, effects) == []
    assert effects[-2:] == [
        QuorumMissed(1, ("a",), {}, ("b", "c"), 2),
        Failed("round 1 had 1 of the 2 answers it needs, the 1. time in a row"),
    ]
    assert state.phase is Phase.FAILED


# Who was asked on, and falls silent.


def test_the_others_speak_where_one_refuses():
    """One answer is enough, whatever the quorum; the one who refused is named, with its reason."""
    state, effects = played(coordinator(("a", "b", "c"), quorum=3), no("a"), labels("b", 2), labels("c", 6))
    assert of(Closed, effects) == [Closed(1, ("b", "c"), {"a": "no"}, (), ())]
    assert taught(state) == dict.fromkeys(ABC, 4.0)


def test_the_others_speak_where_one_is_late():
    """The deadline counts from when they were asked on: 10 after 1."""
    machine = coordinator(("a", "b"))
    state, effects = played(machine, labels("b", 2), Ticked(10.5))
    assert of(Closed, effects) == []
    state, effects = machine.step(state, Ticked(11.0))
    assert of(Closed, effects) == [Closed(1, ("b", "c"), {}, ("a",), ())]
    assert taught(state) == dict.fromkeys(ABC, 2.0)


def test_the_next_turn_where_nobody_answers():
    """When a refuses and b is late, c is asked; b's answer comes too late to count, and c's is taught."""
    machine = coordinator(("a", "b"), ("c",))
    state, effects = played(machine, no("a"), Ticked(11.0))
    assert effects[-3:] == [Asked(1, 3, ("c",)), Send("c", Ask(1, THEN, 3)), Wake(21.0)]
    assert machine.step(state, Received(labels("b", 9), 12.0)) == (
        state,
        (Ignored(labels("b", 9), "it answers question 2 of the round, open is question 3"),),
    )
    state, effects = machine.step(state, Received(labels("c", 5, question=3), 13.0))
    assert of(Closed, effects) == [Closed(1, ("c",), {"a": "no"}, ("b",), ())]
    assert taught(state) == dict.fromkeys(ABC, 5.0)


def test_a_round_is_missed_when_no_turn_is_left():
    """It leaves no teacher and no memory; the next round asks everybody again, until patience ends."""
    machine = Coordinator(PLAN, asks(("a",), ("b",), ("c",)), RAW)
    state, effects = played(machine, no("a"), Ticked(11.0), no("c", 4))
    assert of(QuorumMissed, effects) == [QuorumMissed(1, (), {"a": "no", "c": "no"}, ("b",), 2)]
    assert (state.round, state.question, state.teachers, state.memory) == (2, 1, {}, None)
    for event in [*(Received(sketch(party, sent_in=2), 12.0) for party in ABC), *map(Ticked, (30.0, 50.0, 70.0))]:
        state, effects = machine.step(state, event)
    assert effects[-1] == Failed("round 2 had no answer to its follow-up, the 2. time in a row")


def test_silent_from_the_first_question():
    """Who sends no sketch is missing, although the round asks others on."""
    machine = coordinator(("a",), quorum=1)
    replies = [Received(sketch("a"), 1.0), Received(Refuse(1, "c", "no"), 1.0), Ticked(10.0)]
    _, effects = play(machine, Started(0.0), *replies, Received(labels("a", 1), 11.0))
    assert of(Asked, effects) == [Asked(1, 2, ("a",))]
    assert of(Closed, effects) == [Closed(1, ("a",), {"c": "no"}, ("b",), ())]


# What does not count, and what those who are late are told.


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (labels("b"), "its sender was not asked"),
        (Refuse(1, "b", "no", 2), "its sender was not asked"),
        (labels("a", question=3), "it answers question 3 of the round, open is question 2"),
        (sketch("a", question=2), "it carries no soft labels, or more than soft labels"),
        (Answer(1, "a", RAW.encode(Release(soft(QUANTILES, [0, 0]), sketch=np.zeros(1))), 2), "more than soft labels"),
        (Answer(1, "a", release([ROW]), 2), "of shape (1, 3), expected"),
    ],
)
def test_objections_to_answers_to_a_follow_up(reply, why):
    machine = coordinator(("a", "c"))
    state, _ = played(machine)
    after, effects = machine.step(state, Received(reply, 2.0))
    assert [type(effect) for effect in effects] == [Ignored]
    assert why in effects[0].why
    to_it = (reply.sender, reply.question) == ("a", 2)
    assert after == (replace(state, refusals={"a": effects[0].why}) if to_it else state)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (RAW.encode(Release(sketch=np.zeros(2))), "its sketch has shape (2,), expected (1,)"),
        (RAW.encode(Release(sketch=np.float32([math.nan]))), "its sketch is not finite"),
        (RAW.encode(Release(sketch=np.zeros(1), score=0.5)), "held-out loss is not as the recipe asks"),
        (RAW.encode(Release(parameters=START, sketch=np.zeros(1))), "it carries no sketch, or more than a sketch"),
        (release([ROW, ROW]), "it carries no sketch, or more than a sketch"),
        (RAW.encode(Release()), "it carries no sketch, or more than a sketch"),
    ],
)
def test_objections_to_sketches(payload, why):
    machine = coordinator(("a",))
    state, _ = machine.step(machine.start(), Started(0.0))
    after, effects = machine.step(state, Received(Answer(1, "a", payload), 1.0))
    assert after == replace(state, refusals={"a": effects[0].why})
    assert why in effects[0].why


def test_heard_once_a_question():
    machine = coordinator(("a", "b"))
    state, _ = played(machine, labels("a", 1))
    _, effects = machine.step(state, Received(labels("a", 2), 2.0))
    assert effects == (Ignored(labels("a", 2), "its sender was heard in this round already"),)


def test_who_sends_its_sketch_late_is_asked_on_only_if_it_was_chosen():
    """It lost the question, and hears it again; who was not chosen waits for the teacher."""
    machine = coordinator(("a", "c"))
    state, _ = played(machine)
    why = "it answers question 1 of the round, open is question 2"
    assert machine.step(state, Received(sketch("a"), 2.0))[1] == (
        Ignored(sketch("a"), why),
        Send("a", Ask(1, THEN, 2)),
    )
    assert machine.step(state, Received(sketch("b"), 2.0))[1] == (Ignored(sketch("b"), why),)


# Our own misuse raises.


@pytest.mark.parametrize("turns", [(), ((),), (("a",), ()), (("x",),)], ids=str)
def test_follow_ups_that_would_never_end(turns):
    with pytest.raises(ValueError, match="asks on nobody, or somebody who does not take part"):
        played(coordinator(*turns))


def test_follow_ups_without_a_recipe():
    """There is one recipe for one follow-up: a round can neither ask without it, nor a third time."""
    with pytest.raises(ValueError, match="no recipe for this follow-up"):
        played(Coordinator(PLAN, replace(asks(("a",)), follow_up=None), RAW))
    endless = replace(asks(("a",)), teach=lambda ballot: Lesson(follow_up=FollowUp((("a",),))))
    with pytest.raises(ValueError, match="no recipe for this follow-up"):
        played(Coordinator(PLAN, endless, RAW), labels("a"))


def test_parameters_in_a_follow_up_need_a_common_start():
    with pytest.raises(ValueError, match="needs the common start"):
        Coordinator(PLAN, Strategy("p", nobody, FIRST, follow_up=Recipe(Kind.PARAMETERS)), RAW)


# The log is the run; order is no matter.


def test_a_replay_is_the_run(tmp_path):
    """Also of a log that ends between the questions."""
    parties = ("a", "b", "c", "d")
    machine = Coordinator(Plan(parties, QUANTILES, 8, rounds=2, quorum=2), sketched(groups=2), RAW)
    path, seen = tmp_path / "events.log", []
    with InProcess(builds(QUANTILES, parties)) as exchange, EventLog(path) as log:
        state, _ = run(machine, exchange, observe=lambda one: (log.write(one), seen.append(one)))
    assert (state.phase, len(of(Asked, seen))) == (Phase.FINISHED, 2)
    events = list(read_events(path))
    assert machine.replay(events) == state
    halfway = machine.replay(events[:5])
    assert (halfway.round, halfway.question, halfway.answers) == (1, 2, {})
    assert halfway.follow_up.turns[0] == of(Asked, seen)[0].parties


@given(st.lists(st.floats(-100, 100, width=32), min_size=5, max_size=5), st.data())
def test_neither_order_nor_repetition_changes_the_teachers(numbers, data):
    """In both questions, for answers in any order, and said again."""
    parties = tuple("abcde")
    plan = Plan(parties, QUANTILES, 2, rounds=1, quorum=5)
    machine = Coordinator(plan, sketched(sketch=1, groups=2, speakers=2), RAW)
    sketches = [sketch(party, number) for party, number in zip(parties, numbers, strict=True)]
    told = [labels(party, number) for party, number in zip(parties, numbers, strict=True)]
    ends = []
    for order in (parties, data.draw(st.permutations(parties))):
        first, then = ([one[parties.index(party)] for party in order] for one in (sketches, told))
        replies = [first[0], *first, *then, *then]
        state, _ = play(machine, Started(0.0), *(Received(reply, 0.0) for reply in replies))
        ends.append(state)
    assert ends[0].phase is Phase.FINISHED
    assert ends[0] == ends[1]
