"""The log of a run: read back it is the run, however the writing ended."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill import wire
from fedstill.algorithms.fedmd import fedmd
from fedstill.codecs.raw import Raw
from fedstill.errors import WireError
from fedstill.messages import Answer, Ask, Recipe, Refuse
from fedstill.round import Coordinator, Finished, Phase, Plan, Received, Started, Ticked
from fedstill.testing.fakes import QUANTILES, builds
from fedstill.transports.calls import InProcess, run
from fedstill.transports.log import EventLog, read_events

EVENTS = [
    Started(0.0),
    Received(Answer(1, "a", b"\0\xff" * 40), 1.5),
    Received(Refuse(1, "b", "nö"), 2.0),
    Ticked(10.0),
    Ticked(math.inf),
]


def written(path, events):
    with EventLog(path) as log:
        for event in events:
            log.write(event)
    return path.read_bytes()


def record(*parts):
    body = msgspec.msgpack.encode(parts)
    return len(body).to_bytes(4, "little") + body


def test_what_is_written_is_read(tmp_path):
    """Events come back in order; effects are not written, as they follow from events."""
    path = tmp_path / "new folder" / "events.log"
    written(path, [*EVENTS[:2], Finished(1), *EVENTS[2:]])
    assert list(read_events(path)) == EVENTS


@given(st.lists(st.builds(Received, st.builds(Answer, st.integers(0, 9), st.text(), st.binary()), st.floats(0, 1e9))))
def test_any_events_are_read(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("log") / "events.log"
    written(path, events)
    assert list(read_events(path)) == events


def test_events_are_there_at_once(tmp_path):
    """A record is on its way to the disk as soon as it is written: a crash loses none that was acted upon."""
    path = tmp_path / "events.log"
    with EventLog(path) as log:
        for n, event in enumerate(EVENTS):
            log.write(event)
            assert list(read_events(path)) == EVENTS[: n + 1]


def test_a_cut_off_tail_ends_the_log(tmp_path):
    """Wherever the writing stopped, all whole records before it are read."""
    path = tmp_path / "events.log"
    whole = written(path, EVENTS)
    ends, at = [], 0
    while at < len(whole):
        at += 4 + int.from_bytes(whole[at : at + 4], "little")
        ends.append(at)
    assert ends[-1] == len(whole)
    for stop in range(len(whole) + 1):
        path.write_bytes(whole[:stop])
        assert list(read_events(path)) == EVENTS[: sum(end <= stop for end in ends)]


@pytest.mark.parametrize(
    "damage",
    [
        (0).to_bytes(4, "little"),
        (3).to_bytes(4, "little") + b"\xc1\xc1\xc1",
        record("started"),
        record("started", "now", b""),
        record("stopped", 1.0, b""),
        record("received", 1.0, b""),
        record("received", 1.0, b"noise"),
        record("received", 1.0, wire.encode(Answer(1, "a", b"x"))[:-1]),
        record("received", 1.0, wire.encode(Ask(1, Recipe()))),
        (17).to_bytes(4, "little") + b"\x93\xa4\xff\xff\xff\xff\xcb" + bytes(8) + b"\xc4\x00",
    ],
)
def test_damage_is_noticed(tmp_path, damage):
    """What stands before a damaged record is read; the record itself is no event, and nothing but WireError comes."""
    path = tmp_path / "events.log"
    path.write_bytes(written(path, EVENTS) + damage)
    events = read_events(path)
    assert [next(events) for _ in EVENTS] == EVENTS
    with pytest.raises(WireError):
        next(events)


def test_a_replay_is_the_run(tmp_path):
    """The log of a run with real messages leads to the same state, and to every teacher byte for byte."""
    parties = ("a", "b", "c")
    coordinator = Coordinator(Plan(parties, QUANTILES, 8, rounds=3, quorum=2), fedmd(), Raw())
    path = tmp_path / "events.log"
    with InProcess(builds(QUANTILES, parties)) as exchange, EventLog(path) as log:
        state, _ = run(coordinator, exchange, observe=log.write)
    assert state.phase is Phase.FINISHED
    replayed = coordinator.replay(read_events(path))
    assert replayed == state
    assert {p: t.payload for p, t in replayed.teachers.items()} == {p: t.payload for p, t in state.teachers.items()}


def test_a_replay_of_half_a_run_stands_where_it_stopped(tmp_path):
    """After three of four events: two were heard in round 1, nobody was taught yet."""
    parties = ("a", "b", "c")
    coordinator = Coordinator(Plan(parties, QUANTILES, 8, rounds=1, quorum=2), fedmd(), Raw())
    path = tmp_path / "events.log"
    with InProcess(builds(QUANTILES, parties)) as exchange, EventLog(path) as log:
        run(coordinator, exchange, observe=log.write)
    path.write_bytes(path.read_bytes()[:-1])  # the last answer is cut off
    state = coordinator.replay(read_events(path))
    assert (state.phase, sorted(state.answers), state.teachers) == (Phase.OPEN, ["a", "b"], {})
