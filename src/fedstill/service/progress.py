"""How far a run is, as a value: what its events lead to. Pure: the same in a run, after a crash, and for an auditor."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedstill import wire
from fedstill.errors import WireError
from fedstill.labels import Party
from fedstill.messages import Answer, Message, Refuse
from fedstill.round import (
    Asked,
    Closed,
    Coordinator,
    Effect,
    Event,
    Failed,
    Finished,
    Ignored,
    Phase,
    QuorumMissed,
    Received,
    Send,
    Started,
    State,
    Step,
    Ticked,
)
from fedstill.service.store.blobs import Blobs
from fedstill.service.store.chain import Record
from fedstill.transports.letters import Letter, check_payload, read

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a run is: what the machine knows, and who has said what. A value; a batch makes the next one.

    Attributes
    ----------
    state:
        Of the machine.
    now:
        The latest time there was; clocks may go back, this does not.
    heard:
        For each party the numbers of its letters, with digest and verdict: who asks twice is told the same.
    closings:
        Rounds that have ended.
    """

    state: State
    now: float = 0.0
    heard: Mapping[Party, Mapping[int, tuple[str, str]]] = field(default_factory=dict)
    closings: tuple[Closed | QuorumMissed, ...] = ()
    why: str = ""


def fold(
    coordinator: Coordinator, progress: Progress, event: Event, letter: Letter | None
) -> tuple[Progress, tuple[Effect, ...]]:
    """The next progress, and what is to be done. Pure: the same in a run, after a crash, and for an auditor."""
    state, effects = _step(coordinator, progress.state, event)
    heard = progress.heard
    if letter is not None:
        why = next((effect.why for effect in effects if isinstance(effect, Ignored)), "")
        sender, said = letter.header.sender, (letter.header.digest, why)
        heard = {**heard, sender: {**heard.get(sender, {}), letter.header.number: said}}
    ended = tuple(effect for effect in effects if isinstance(effect, Closed | QuorumMissed))
    failed = next((effect.why for effect in effects if isinstance(effect, Failed)), progress.why)
    now = max(progress.now, event.now)
    return Progress(state, now, heard, (*progress.closings, *ended), failed), effects


def _step(coordinator: Coordinator, state: State, event: Event) -> Step:
    """The machine's step; an algorithm that breaks ends the run with a reason, instead of holding up everybody."""
    try:
        return coordinator.step(state, event)
    except Exception as error:
        LOG.exception("the algorithm broke")
        why = f"the algorithm broke in round {state.round}: {type(error).__name__}: {error}"
        return State(Phase.FAILED, state.round, teachers=state.teachers), (Failed(why),)


def event_of(record: Record, blobs: Blobs) -> tuple[Event, Letter | None]:
    """The event that a record holds, and the letter that brought it. Raises WireError where it holds none."""
    if record.kind in ("started", "ticked"):
        return (Started if record.kind == "started" else Ticked)(record.at), None
    if record.kind != "received":
        raise WireError(f"record {record.seq} is of no known kind")
    letter = read(record.body)
    payload = blobs.view(letter.header.digest)
    check_payload(letter.header, payload)
    reply = wire.decode(payload)
    if not isinstance(reply, Answer | Refuse):
        raise WireError(f"record {record.seq} holds no reply")
    return Received(reply, record.at), letter


def mail(
    coordinator: Coordinator, progress: Progress, effects: tuple[Effect, ...]
) -> Iterator[tuple[Party, Literal["frame", "finished", "failed"], bytes]]:
    """What goes to whom: all the letters that follow from effects, which led to this progress, with their payloads."""
    frames: dict[Message, bytes] = {}  # a teacher is often the same for all
    for effect in effects:
        if isinstance(effect, Send):
            if effect.message not in frames:
                frames[effect.message] = wire.encode(effect.message)
            yield effect.to, "frame", frames[effect.message]
        elif isinstance(effect, Finished | Failed):
            ended = json.dumps({"round": progress.state.round, "why": progress.why}).encode()
            for party in coordinator.plan.parties:
                yield party, "finished" if isinstance(effect, Finished) else "failed", ended


def told(effect: Closed | QuorumMissed | Asked) -> dict[str, Any]:
    """An effect in words for people and programs."""
    if isinstance(effect, Asked):
        return {"round": effect.round, "question": effect.question, "asked": list(effect.parties)}
    return {
        "round": effect.round,
        "taught": isinstance(effect, Closed),
        "answered": list(effect.answered),
        "refused": dict(effect.refused),
        "missing": list(effect.missing),
        "groups": [list(group) for group in effect.groups] if isinstance(effect, Closed) else [],
    }
