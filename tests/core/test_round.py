"""The coordinator: whatever peers send and in whatever order, it never raises, every round ends, and all is counted."""

from __future__ import annotations

import math
from collections import defaultdict
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
SKETCH = st.integers(-5, 5).map(lambda number: RAW.encode(Release(sketch=np.float32([number, 1]))))
PAYLOADS = st.one_of(
    SOUND,
    SKETCH,
    st.sampled_from([payload for payload, _ in BAD.values()]),
    st.binary(max_size=80),
    st.integers(0, len(GOOD) - 1).map(lambda at: GOOD[:at] + bytes([GOOD[at] ^ 0x10]) + GOOD[at + 1 :]),
)
WILD = st.one_of(
    st.builds(Answer, st.integers(-1, 6), SENDERS, PAYLOADS, st.integers(-1, 5)),
    st.builds(Refuse, st.integers(-1, 6), SENDERS, st.text(max_size=5), st.integers(-1, 5)),
)


STRAY = st.one_of(
    st.builds(Received, WILD, st.floats(0, 50)),
    st.builds(Ticked, st.floats(0, 50)),
    st.builds(Started, st.floats(0, 50)),
)
MOSTLY = ["answer"] * 12 + ["refuse", "refuse", "anyone", "wait", "wait", "stray"]
ACTIONS = st.tuples(
    st.lists(st.builds(Received, WILD, st.just(0.0)), max_size=2),
    st.lists(st.tuples(st.sampled_from(MOSTLY), st.integers(-5, 5), STRAY), min_size=10, max_size=40),
).map(lambda parts: [*parts[0], Started(0.0), *parts[1]])
STRATEGIES = st.sampled_from(
    [
        fedmd(),
        sketched(sketch=2, grouping="none"),  # one group: its members are asked on one after the other
        sketched(sketch=2, grouping="each"),  # all are asked on at once
    ]
)


def event_of(action, coordinator, state):
    """What an action is in a state: an event as it stands, a sound reply to the open question, or its deadline."""
    if not isinstance(action, tuple):
        return action
    what, number, stray = action
    asked = ABC if state.follow_up is None else state.follow_up.turns[0]
    waiting = [party for party in asked if party not in {**state.answers, **state.refusals}]
    if what == "stray" or not waiting:
        return stray
    if what == "wait":
        return Ticked(state.closes_at + number)
    party = (ABC if what == "anyone" else waiting)[number % len(ABC if what == "anyone" else waiting)]
    if what == "refuse":
        return Received(Refuse(state.round, party, str(number), state.question), 0.0)
    recipe = coordinator.strategy.recipes[state.follow_up is not None]
    labels = Release(soft(QUANTILES, [number] * 2))
    sketch = Release(sketch=np.float32([number, 1]))
    payload = RAW.encode(labels if recipe.release is Kind.LABELS else sketch)
    return Received(Answer(state.round, party, payload, state.question), 0.0)


def check_closing(closing, asks, counted, quorum):
    """Answered, refused and missing are all participants, each once, by what they were asked and what was taken."""
    parts = [*closing.answered, *closing.refused, *closing.missing]
    assert sorted(parts) == list(ABC)
    taken = {(reply.question, reply.sender): type(reply) for reply in counted if reply.round == closing.round}
    said = {party: {taken.get(asked) for asked in asks[closing.round] if asked[1] == party} for party in ABC}
    assert set(closing.answered) == {party for party, kinds in said.items() if kinds == {Answer}}
    assert set(closing.refused) == {party for party, kinds in said.items() if Refuse in kinds}
    last = max(question for question, _ in asks[closing.round])
    heard = [kind for (question, _), kind in taken.items() if question == last and kind is Answer]
    assert isinstance(closing, Closed) == (len(heard) >= (quorum if last == 1 else 1))


def to_the_open_question(before, reply):
    """Whether a reply is of somebody who was asked, and not heard yet."""
    asked = "abcde" if before.follow_up is None else before.follow_up.turns[0]
    fits = before.phase is Phase.OPEN and (reply.round, reply.question) == (before.round, before.question)
    return fits and reply.sender in asked and reply.sender not in {**before.answers, **before.refusals}


def check_step(coordinator, before, event, after, effects):
    """What holds of every single step."""
    assert after.round - before.round in (0, 1)
    assert after.question == (before.question + len(of(Asked, effects)) if after.round == before.round else 1)
    for send in of(Send, effects):
        assert send.to in ABC
        assert isinstance(send.message, Teach) or (
            after.phase is Phase.OPEN
            and (send.message.round, send.message.question) == (after.round, after.question)
            and send.message.recipe == coordinator.strategy.recipes[after.question > 1]
        )
    if before.phase in (Phase.FINISHED, Phase.FAILED):
        assert after == before
        assert all(
            isinstance(effect, Ignored) or isinstance(getattr(effect, "message", None), Teach) for effect in effects
        )
    if of(Ignored, effects) and not to_the_open_question(before, event.reply):
        assert after == before
        reply, party = event.reply, event.reply.sender
        if before.phase is Phase.OPEN and party in ABC:
            asked = ABC if before.follow_up is None else before.follow_up.turns[0]
            late = (reply.round, reply.question) < (before.round, before.question)
            open_for_it = late and party in asked and party not in {**before.answers, **before.refusals}
            earlier = reply.round < before.round and party in before.teachers
            expected = [before.teachers[party]] if earlier else []
            recipe = coordinator.strategy.recipes[before.question > 1]
            expected += [Ask(before.round, recipe, before.question)] if open_for_it else []
            assert [send.message for send in of(Send, effects)] == expected


@given(STRATEGIES, ACTIONS, st.integers(1, 3), st.integers(1, 3))
def test_whatever_comes(strategy, actions, quorum, patience):
    """No event raises; each round ends once and counts each participant once; the run ends; a replay agrees."""
    plan = replace(PLAN, rounds=4, quorum=quorum, patience=patience, max_answer_bytes=2000)
    coordinator = Coordinator(plan, strategy, RAW)
    # As many deadlines as there are questions: in each of four rounds one of all, and one of each of three.
    actions = [*actions, *[Ticked(math.inf)] * (4 * (4 if strategy.follow_up else 1))]
    state, events, seen, counted, ends = coordinator.start(), [], [], [], 0
    asks = defaultdict(set)
    for action in actions:
        event = event_of(action, coordinator, state)
        events.append(event)
        after, effects = coordinator.step(state, event)
        check_step(coordinator, state, event, after, effects)
        if isinstance(event, Received) and to_the_open_question(state, event.reply):
            reply, ignored = event.reply, of(Ignored, effects)
            why = ignored[0].why if ignored else ""
            counted.append(Refuse(reply.round, reply.sender, why, reply.question) if ignored else reply)
        else:
            assert isinstance(event, Started | Ticked) or of(Ignored, effects)
        for closing in of(Closed | QuorumMissed, effects):
            check_closing(closing, asks, counted, quorum)
        for send in of(Send, effects):
            if isinstance(send.message, Ask):
                asks[send.message.round].add((send.message.question, send.to))
        seen += effects
        state = after
        ends += len(of(Finished | Failed, effects))

    assert ends == 1
    closings = of(Closed | QuorumMissed, seen)
    assert [closing.round for closing in closings] == list(range(1, state.round + 1))
    missed = [isinstance(closing, QuorumMissed) for closing in closings]
    patience_ended = any(all(missed[at : at + patience]) for at in range(len(missed) - patience + 1))
    assert state.phase is (Phase.FAILED if patience_ended else Phase.FINISHED)
    assert len({(reply.round, reply.question, reply.sender) for reply in counted}) == len(counted)
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

    opened, _ = coordinator.step(coordinator.start(), Started(0.0))
    again = data.draw(st.lists(st.sampled_from(good), max_size=5))
    noise = data.draw(st.lists(NUISANCES.filter(lambda reply: not to_the_open_question(opened, reply)), max_size=5))
    shuffled = data.draw(st.permutations([*good, *again, *noise]))
    other, more = play(coordinator, *heard(*shuffled), Ticked(10.0))

    assert plain.phase is other.phase is Phase.FINISHED
    assert {party: teach.payload for party, teach in other.teachers.items()} == {
        party: teach.payload for party, teach in plain.teachers.items()
    }
    assert of(Closed, more) == of(Closed, effects)
    assert len(of(Ignored, more)) == len(again) + len(noise)
    assert other == plain


@given(STRATEGIES, ACTIONS)
def test_steps_do_not_change_what_they_are_given(strategy, actions):
    """A state is a value: it can be kept and continued twice, with the same outcome."""
    coordinator = Coordinator(PLAN, strategy, RAW)
    state = coordinator.start()
    for action in actions:
        event = event_of(action, coordinator, state)
        copies = {name: dict(getattr(state, name)) for name in ("answers", "refusals", "teachers", "silent")}
        kept = replace(state, **copies)
        one, two = coordinator.step(state, event), coordinator.step(state, event)
        assert one == two
        assert state == kept
        state = one[0]
