"""The coordinator: whatever peers send and in whatever order, it never raises, every round ends, and all is counted."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounds import ABC, BAD, COORDINATOR, GOOD, NAN, PLAN, RAW, answer, heard, of, play, release

from fedstill.algorithms.fedavg import fedavg
from fedstill.algorithms.fedmd import fedmd
from fedstill.algorithms.grouped import grouped
from fedstill.algorithms.references import local
from fedstill.labels import Release
from fedstill.messages import Answer, Ask, Recipe, Refuse, Teach
from fedstill.round import (
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
from fedstill.strategy import Lesson, Strategy
from fedstill.testing.fakes import QUANTILES, soft

# One round by hand.


def test_a_round_of_three():
    """a, b and c say 1, 2 and 6: everybody is taught 3, and round 2 is open."""
    plan = replace(PLAN, quorum=3)
    coordinator = Coordinator(plan, fedmd(), RAW)
    state, effects = coordinator.step(coordinator.start(), Started(5.0))
    ask = Ask(1, fedmd().recipe)
    assert effects == (Send("a", ask), Send("b", ask), Send("c", ask), Wake(15.0))
    assert state == State(Phase.OPEN, 1, 15.0)

    for party, number in (("b", 2), ("c", 6)):
        state, effects = coordinator.step(state, Received(answer(party, number), 6.0))
        assert effects == ()
    state, effects = coordinator.step(state, Received(answer("a", 1), 7.0))

    teach = Teach(1, fedmd().recipe, RAW.encode(Release(soft(QUANTILES, [3, 3]))))
    again = Ask(2, fedmd().recipe)
    assert effects == (
        Send("a", teach),
        Send("b", teach),
        Send("c", teach),
        Closed(1, ABC, {}, (), ()),
        Send("a", again),
        Send("b", again),
        Send("c", again),
        Wake(17.0),
    )
    assert state == State(Phase.OPEN, 2, 17.0, teachers=dict.fromkeys(ABC, teach))


def test_a_refusal_and_a_missing_answer():
    """The round closes at its deadline with what it has: a says 4, b refuses, c says nothing."""
    coordinator = Coordinator(replace(PLAN, quorum=1, rounds=1), fedmd(), RAW)
    refusal = Refuse(1, "b", "the disk is full" * 100)
    state, effects = play(coordinator, *heard(answer("a", 4), refusal), Ticked(9.9))
    assert (state.phase, of(Closed, effects)) == (Phase.OPEN, [])
    state, effects = coordinator.step(state, Ticked(10.0))
    assert [Closed(1, ("a",), {"b": refusal.reason[:200]}, ("c",), ()), Finished(1)] == list(effects[3:])
    assert {effect.to: labels(effect.message) for effect in effects[:3]} == dict.fromkeys(ABC, 4.0)


def labels(teach):
    return float(RAW.decode(teach.payload).labels.values[0, 0])


def test_the_quorum_is_missed_until_patience_ends():
    """Patience 2: the first missed round leads to the next, the second in a row ends the run, saying why."""
    state, effects = play(COORDINATOR, *heard(answer("a")), Ticked(10.0))
    assert of(QuorumMissed, effects) == [QuorumMissed(1, ("a",), {}, ("b", "c"), 2)]
    assert (state.phase, state.round, state.missed, state.teachers) == (Phase.OPEN, 2, 1, {})
    state, effects = COORDINATOR.step(state, Ticked(20.0))
    assert state.phase is Phase.FAILED
    assert isinstance(effects[0], QuorumMissed)
    assert effects[1] == Failed("round 2 had 0 of the 2 answers it needs, the 2. time in a row")


def test_a_good_round_renews_patience():
    """Missed, taught, missed: never two in a row, so the run ends well."""
    coordinator = Coordinator(replace(PLAN, rounds=3), fedmd(), RAW)
    good = [Received(answer(party, 1, sent_in=2), 11.0) for party in ABC]
    state, effects = play(coordinator, Started(0.0), Ticked(10.0), *good, Ticked(21.0))
    assert (state.phase, state.missed) == (Phase.FINISHED, 1)
    assert [effect.round for effect in of(Closed, effects)] == [2]
    assert [effect.round for effect in of(QuorumMissed, effects)] == [1, 3]


def test_everybody_refusing_is_a_missed_quorum_at_once():
    state, effects = play(COORDINATOR, *heard(*(Refuse(1, party, "no") for party in ABC)))
    assert of(QuorumMissed, effects)[0].refused == dict.fromkeys(ABC, "no")
    assert state.round == 2


def test_references_end_at_once():
    """Zero rounds: nobody is asked anything."""
    coordinator = Coordinator(PLAN, local(), RAW)
    assert coordinator.step(coordinator.start(), Started(0.0)) == (State(Phase.FINISHED), (Finished(0),))


def test_late_senders_catch_up():
    """Who answers round 1 in round 2 gets the teacher of round 1 and the question of round 2, unless heard already."""
    state, _ = play(COORDINATOR, *heard(answer("a", 1), answer("b", 3)), Ticked(10.0))
    late = Received(answer("c", 9), 11.0)
    same, effects = COORDINATOR.step(state, late)
    teach = Send("c", state.teachers["c"])
    assert same == state
    assert effects == (
        Ignored(late.reply, "it answers round 1, open is round 2"),
        teach,
        Send("c", Ask(2, fedmd().recipe)),
    )
    state, _ = COORDINATOR.step(state, Received(answer("c", 5, sent_in=2), 12.0))
    assert COORDINATOR.step(state, late)[1] == (Ignored(late.reply, "it answers round 1, open is round 2"), teach)


def test_the_latest_teacher_may_be_an_old_one():
    """Round 1 teaches a alone, round 2 b alone: who comes late after both gets what was last meant for it."""

    def in_turn(ballot):
        turn = 0 if ballot.memory is None else ballot.memory
        return Lesson({ABC[turn]: ballot.votes[0].release}, memory=turn + 1)

    coordinator = Coordinator(replace(PLAN, rounds=3), Strategy("in turn", in_turn, Recipe()), RAW)
    rounds = [Received(answer(party, sent_in=number), 0.0) for number in (1, 2) for party in ABC]
    state, _ = play(coordinator, Started(0.0), *rounds)
    assert {party: teach.round for party, teach in state.teachers.items()} == {"a": 1, "b": 2}
    assert [len(coordinator.step(state, late)[1]) for late in rounds[:3]] == [3, 3, 2]  # c was never taught


def test_after_the_end_late_senders_get_the_last_teacher():
    coordinator = Coordinator(replace(PLAN, rounds=1), fedmd(), RAW)
    state, _ = play(coordinator, *heard(answer("a"), answer("b")), Ticked(10.0))
    late = Received(answer("c"), 11.0)
    assert coordinator.step(state, late) == (
        state,
        (Ignored(late.reply, "no round is open, the run is finished"), Send("c", state.teachers["c"])),
    )


def test_before_the_start_nothing_counts():
    early = answer("a")
    assert COORDINATOR.step(COORDINATOR.start(), Received(early, 0.0)) == (
        State(),
        (Ignored(early, "no round is open, the run is waiting"),),
    )
    assert COORDINATOR.step(COORDINATOR.start(), Ticked(math.inf)) == (State(), ())


def test_without_a_deadline_nobody_is_woken():
    """A round then closes when all were heard, or when its driver says that time has ended."""
    coordinator = Coordinator(replace(PLAN, deadline_s=math.inf), fedmd(), RAW)
    state, effects = play(coordinator, *heard(answer("a"), answer("b")), Ticked(1e300))
    assert (of(Wake, effects), state.round) == ([], 1)
    assert coordinator.step(state, Ticked(math.inf))[0].round == 2


def test_the_memory_of_a_strategy_is_handed_on():
    """FedAvg's start is the memory before the first round; after it, the mean of 1, 2, 6 is."""
    plan = Plan(ABC, QUANTILES, 2, rounds=1, quorum=3)
    coordinator = Coordinator(plan, replace(fedavg(weights="equal"), memory={"w": np.zeros(1)}), RAW)
    told = [Release(parameters={"w": np.float32([number])}) for number in (1, 2, 6)]
    replies = [Answer(1, party, RAW.encode(one)) for party, one in zip(ABC, told, strict=True)]
    state, _ = play(coordinator, *heard(*replies))
    assert state.memory["w"].tolist() == [3.0]
    assert RAW.decode(state.teachers["a"].payload).parameters["w"].tolist() == [3.0]
    assert coordinator.start().memory["w"].tolist() == [0.0]


# Our own misuse raises.


@pytest.mark.parametrize(
    "wrong",
    [
        {"parties": ("b", "a", "c")},
        {"parties": ("a", "a", "b")},
        {"parties": ()},
        {"quorum": 0},
        {"quorum": 4},
        {"rounds": -1},
        {"patience": 0},
        {"deadline_s": 0.0},
        {"deadline_s": NAN},
    ],
    ids=str,
)
def test_plans_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=r"parties|quorum|rounds must"):
        replace(PLAN, **wrong)


def test_parameters_need_a_common_start():
    with pytest.raises(ValueError, match="'fedavg' needs the common start"):
        Coordinator(PLAN, fedavg(), RAW)


# Whatever comes, in whatever order.

SENDERS = st.sampled_from([*ABC, "x", ""])
SOUND = st.integers(-5, 5).map(lambda number: release([[number] * 3] * 2))
PAYLOADS = st.one_of(
    SOUND,
    st.sampled_from([payload for payload, _ in BAD.values()]),
    st.binary(max_size=80),
    st.integers(0, len(GOOD) - 1).map(lambda at: GOOD[:at] + bytes([GOOD[at] ^ 0x10]) + GOOD[at + 1 :]),
)
WILD = st.one_of(
    st.builds(Answer, st.integers(-1, 6), SENDERS, PAYLOADS),
    st.builds(Refuse, st.integers(-1, 6), SENDERS, st.text(max_size=5)),
)


def turn(number):
    """Events of about the time of a round: mostly what belongs there; at the end its deadline may come."""
    party, now = st.sampled_from(ABC), st.floats(11.0 * (number - 1), 11.0 * number)
    replies = st.one_of(
        st.builds(Answer, st.just(number), party, SOUND),
        st.builds(Answer, st.just(number), party, SOUND),
        st.builds(Refuse, st.just(number), party, st.text(max_size=5)),
        WILD,
    )
    event = st.one_of(*[st.builds(Received, replies, now)] * 4, st.builds(Ticked, now), st.builds(Started, now))
    return st.builds(
        lambda events, over: [*events, *([Ticked(11.0 * number)] if over else [])],
        st.lists(event, min_size=3, max_size=9),
        st.booleans(),
    )


EVENTS = st.tuples(st.lists(st.builds(Received, WILD, st.just(0.0)), max_size=2), *map(turn, range(1, 6))).map(
    lambda turns: [*turns[0], Started(0.0), *itertools.chain(*turns[1:])]
)


def check_closing(closing, counted, quorum):
    """Answered, refused and missing are all participants, each once, and just those whose replies were taken."""
    parts = [*closing.answered, *closing.refused, *closing.missing]
    assert sorted(parts) == list(ABC)
    taken = {reply.sender: type(reply) for reply in counted if reply.round == closing.round}
    assert set(closing.answered) == {party for party, kind in taken.items() if kind is Answer}
    assert set(closing.refused) == {party for party, kind in taken.items() if kind is Refuse}
    assert isinstance(closing, Closed) == (len(closing.answered) >= quorum)


def check_step(coordinator, before, event, after, effects):
    """What holds of every single step."""
    assert after.round - before.round in (0, 1)
    for send in of(Send, effects):
        assert send.to in ABC
        assert isinstance(send.message, Teach) or (after.phase is Phase.OPEN and send.message.round == after.round)
    if before.phase in (Phase.FINISHED, Phase.FAILED):
        assert after == before
        assert all(
            isinstance(effect, Ignored) or isinstance(getattr(effect, "message", None), Teach) for effect in effects
        )
    if of(Ignored, effects):
        assert after == before
        late = event.reply.round < before.round and before.phase is Phase.OPEN
        if late and event.reply.sender in ABC:
            party = event.reply.sender
            expected = [before.teachers[party]] if party in before.teachers else []
            expected += [] if party in {**before.answers, **before.refusals} else [Ask(before.round, fedmd().recipe)]
            assert [send.message for send in of(Send, effects)] == expected


@given(EVENTS, st.integers(1, 3), st.integers(1, 3))
def test_whatever_comes(events, quorum, patience):
    """No event raises; each round ends once and counts each participant once; the run ends; a replay agrees."""
    plan = replace(PLAN, rounds=4, quorum=quorum, patience=patience, max_answer_bytes=2000)
    coordinator = Coordinator(plan, fedmd(), RAW)
    events += [Ticked(math.inf)] * 4  # as many deadlines as there are rounds
    state, seen, counted, ends = coordinator.start(), [], [], 0
    for event in events:
        after, effects = coordinator.step(state, event)
        check_step(coordinator, state, event, after, effects)
        if isinstance(event, Received) and not of(Ignored, effects):
            assert state.phase is Phase.OPEN
            counted.append(event.reply)
        for closing in of(Closed | QuorumMissed, effects):
            check_closing(closing, counted, quorum)
        seen += effects
        state = after
        ends += len(of(Finished | Failed, effects))

    assert ends == 1
    closings = of(Closed | QuorumMissed, seen)
    assert [closing.round for closing in closings] == list(range(1, state.round + 1))
    missed = [isinstance(closing, QuorumMissed) for closing in closings]
    patience_ended = any(all(missed[at : at + patience]) for at in range(len(missed) - patience + 1))
    assert state.phase is (Phase.FAILED if patience_ended else Phase.FINISHED)
    assert len({(reply.round, reply.sender) for reply in counted}) == len(counted)
    assert coordinator.replay(events) == state


NUISANCES = st.one_of(
    st.builds(Answer, st.just(1), SENDERS, st.sampled_from([payload for payload, _ in BAD.values()])),
    st.builds(Answer, st.sampled_from([-1, 0, 2, 7]), SENDERS, st.just(GOOD)),
    st.builds(Refuse, st.sampled_from([0, 2]), SENDERS, st.just("")),
    st.builds(Refuse, st.just(1), st.just("x"), st.just("")),
)


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=5, max_size=5),
    st.sets(st.sampled_from("abcde"), min_size=1),
    st.sampled_from([fedmd(), fedmd(aggregate="median"), grouped(select="mean", groups=2)]),
    st.data(),
)
def test_neither_order_nor_nuisances_change_the_teachers(numbers, speakers, strategy, data):
    """The same answers in any order, said again, among whatever is ignored, lead to the same bytes."""
    plan = Plan(tuple("abcde"), QUANTILES, 2, rounds=1, quorum=1, deadline_s=10.0, max_answer_bytes=2000)
    coordinator = Coordinator(plan, strategy, RAW)
    good = [answer(party, number) for party, number in zip("abcde", numbers, strict=True) if party in speakers]
    plain, effects = play(coordinator, *heard(*good), Ticked(10.0))

    again = data.draw(st.lists(st.sampled_from(good), max_size=5))
    noise = data.draw(st.lists(NUISANCES, max_size=5))
    shuffled = data.draw(st.permutations([*good, *again, *noise]))
    other, more = play(coordinator, *heard(*shuffled), Ticked(10.0))

    assert plain.phase is other.phase is Phase.FINISHED
    assert {party: teach.payload for party, teach in other.teachers.items()} == {
        party: teach.payload for party, teach in plain.teachers.items()
    }
    assert of(Closed, more) == of(Closed, effects)
    assert len(of(Ignored, more)) == len(again) + len(noise)
    assert other == plain


@given(EVENTS)
def test_steps_do_not_change_what_they_are_given(events):
    """A state is a value: it can be kept and continued twice, with the same outcome."""
    state = COORDINATOR.start()
    for event in events:
        kept = replace(state, answers=dict(state.answers), refusals=dict(state.refusals), teachers=dict(state.teachers))
        one, two = COORDINATOR.step(state, event), COORDINATOR.step(state, event)
        assert one == two
        assert state == kept
        state = one[0]
