"""The coordinator's half of a round, as a value: events in, new state and effects out.

Two rules. Everything that decides what happens next stands in this file. And this file does nothing: no
clock, socket, thread, disk or global; whoever drives it carries its effects out (`transports/`).

The log of events *is* the run: `replay` folds it into the same state, byte for byte, after a crash, for an auditor,
or on every peer of a mesh. Answers are folded in sorted order of party, so that nothing depends on who was faster.
What a peer sends is checked here, once, before any strategy sees it; a bad message is data with a reason
(`Ignored`), never an exception.

    WAITING --Started--> OPEN --all heard, or deadline--> OPEN (next round) ... --> FINISHED
                           `--quorum missed `patience` times in a row--> FAILED
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from fedstill.codecs.base import Codec
from fedstill.errors import WireError
from fedstill.labels import Outputs, Party, Release, SoftLabels, Space
from fedstill.messages import Answer, Ask, Kind, Message, Refuse, Reply, Teach
from fedstill.strategy import Ballot, Strategy, Vote


@dataclass(frozen=True)
class Plan:
    """What all participants of a run agreed on beforehand.

    Attributes
    ----------
    parties:
        The participants' ids.
    outputs:
        What every model predicts.
    n_items:
        Rows of the transfer set.
    rounds:
        Rounds to run.
    quorum:
        Answers that a round needs to teach; 1 to all.
    deadline_s:
        Seconds after which a round closes with what it has.
    patience:
        Rounds in a row that may miss the quorum before the run fails.
    max_answer_bytes:
        Larger answers are ignored unread.
    """

    parties: tuple[Party, ...]
    outputs: Outputs
    n_items: int
    rounds: int
    quorum: int = 1
    deadline_s: float = math.inf
    patience: int = 3
    max_answer_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        """Refuse plans that no round could follow, or that would never end: our own misuse raises."""
        if tuple(sorted(set(self.parties))) != self.parties:
            raise ValueError("parties must be sorted and distinct")
        if not 1 <= self.quorum <= len(self.parties):
            raise ValueError(f"a quorum of {self.quorum} cannot be met by {len(self.parties)} participants")
        if self.rounds < 0 or self.patience < 1 or not self.deadline_s > 0:
            raise ValueError("rounds must be 0 or more, patience 1 or more, and the deadline after the start")


class Phase(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"
    OPEN = "open"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True)
class State:
    """All that the coordinator knows. Answers stay as the bytes that came, so a state can be stored and compared."""

    phase: Phase = Phase.WAITING
    round: int = 0
    closes_at: float = math.inf
    answers: Mapping[Party, Answer] = field(default_factory=dict)
    refusals: Mapping[Party, str] = field(default_factory=dict)
    teachers: Mapping[Party, Teach] = field(default_factory=dict)
    missed: int = 0
    memory: Any = field(default=None, compare=False)  # may hold arrays, which have no plain ==; it shows in teachers


# Events: what happened.


@dataclass(frozen=True)
class Started:
    """The run may begin."""

    now: float


@dataclass(frozen=True)
class Received:
    """A reply arrived; the transport has made sure that its sender is who it says."""

    reply: Reply
    now: float


@dataclass(frozen=True)
class Ticked:
    """Time went by."""

    now: float


Event = Started | Received | Ticked


# Effects: what the driver is to do, or to tell.


@dataclass(frozen=True)
class Send:
    """Carry this message to that participant."""

    to: Party
    message: Message


@dataclass(frozen=True)
class Wake:
    """Feed a `Ticked` at this time."""

    at: float


@dataclass(frozen=True)
class Ignored:
    """A reply was not used, and why."""

    reply: Reply
    why: str


@dataclass(frozen=True)
class Closed:
    """A round ended and its teachers are on their way."""

    round: int
    answered: tuple[Party, ...]
    refused: Mapping[Party, str]
    missing: tuple[Party, ...]
    groups: tuple[tuple[Party, ...], ...]


@dataclass(frozen=True)
class QuorumMissed:
    """A round ended with too few answers to teach anything."""

    round: int
    answered: tuple[Party, ...]
    refused: Mapping[Party, str]
    missing: tuple[Party, ...]
    quorum: int


@dataclass(frozen=True)
class Finished:
    """All rounds are done."""

    rounds: int


@dataclass(frozen=True)
class Failed:
    """The run cannot go on."""

    why: str


Effect = Send | Wake | Ignored | Closed | QuorumMissed | Finished | Failed
Step = tuple[State, tuple[Effect, ...]]


@dataclass(frozen=True)
class Coordinator:
    """Runs the rounds of one plan with one strategy. It holds no state: `step` takes and returns it."""

    plan: Plan
    strategy: Strategy
    codec: Codec

    def __post_init__(self) -> None:
        """Refuse to average parameters without a common start to check them against: our own misuse raises."""
        if self.strategy.recipe.release is not Kind.LABELS and self.strategy.shapes is None:
            raise ValueError(f"strategy '{self.strategy.name}' needs the common start parameters as its memory")

    def start(self) -> State:
        """The state before the first event."""
        return State(memory=self.strategy.memory)

    def step(self, state: State, event: Event) -> Step:
        """What follows from an event: the next state, and the effects to carry out in order."""
        match event:
            case Started(now) if state.phase is Phase.WAITING:
                return self._open(state, now)
            case Received(reply, now):
                return self._hear(state, reply, now)
            case Ticked(now) if state.phase is Phase.OPEN and now >= state.closes_at:
                return self._close(state, now)
            case _:
                return state, ()

    def replay(self, events: Iterable[Event]) -> State:
        """The state that a log of events leads to; their effects have been carried out already."""
        state = self.start()
        for event in events:
            state, _ = self.step(state, event)
        return state

    def _open(self, state: State, now: float) -> Step:
        if state.round == self.rounds:
            return replace(state, phase=Phase.FINISHED), (Finished(state.round),)
        opened = replace(
            state,
            phase=Phase.OPEN,
            round=state.round + 1,
            closes_at=now + self.plan.deadline_s,
            answers={},
            refusals={},
        )
        asks = tuple(Send(party, self._ask(opened)) for party in self.plan.parties)
        wake = (Wake(opened.closes_at),) if math.isfinite(opened.closes_at) else ()
        return opened, (*asks, *wake)

    def _hear(self, state: State, reply: Reply, now: float) -> Step:
        late = reply.round < state.round or state.phase in (Phase.FINISHED, Phase.FAILED)
        why = self._objection(state, reply)
        if why:
            # Whoever comes late has missed something: it gets the latest teacher and the open question.
            known = reply.sender in self.plan.parties
            return state, (
                Ignored(reply, why),
                *(self._catch_up(state, reply.sender) if late and known else ()),
            )
        if isinstance(reply, Refuse):
            heard = replace(state, refusals={**state.refusals, reply.sender: reply.reason[:200]})
        else:
            heard = replace(state, answers={**state.answers, reply.sender: reply})
        if len(heard.answers) + len(heard.refusals) == len(self.plan.parties):
            return self._close(heard, now)
        return heard, ()

    def _close(self, state: State, now: float) -> Step:
        answered = tuple(sorted(state.answers))
        refused = {party: state.refusals[party] for party in sorted(state.refusals)}
        missing = tuple(p for p in self.plan.parties if p not in state.answers and p not in state.refusals)
        if len(answered) < self.plan.quorum:
            return self._miss(state, now, QuorumMissed(state.round, answered, refused, missing, self.plan.quorum))
        votes = [Vote(party, self.codec.decode(state.answers[party].payload)) for party in answered]
        lesson = self.strategy.teach(Ballot(votes, self.plan.parties, self.plan.outputs, state.memory))
        encoded = {id(teacher): self.codec.encode(teacher) for teacher in lesson.teachers.values()}
        teachers = {
            party: Teach(state.round, self.strategy.recipe, encoded[id(lesson.teachers[party])])
            for party in sorted(lesson.teachers)
        }
        taught = replace(state, teachers={**state.teachers, **teachers}, memory=lesson.memory, missed=0)
        following, effects = self._open(taught, now)
        sends = tuple(Send(party, message) for party, message in teachers.items())
        return following, (*sends, Closed(state.round, answered, refused, missing, lesson.groups), *effects)

    def _miss(self, state: State, now: float, effect: QuorumMissed) -> Step:
        missed = state.missed + 1
        if missed >= min(self.plan.patience, self.rounds):
            why = (
                f"round {state.round} had {len(effect.answered)} of the {effect.quorum} answers it needs, "
                f"the {missed}. time in a row"
            )
            return replace(state, phase=Phase.FAILED, missed=missed), (effect, Failed(why))
        following, effects = self._open(replace(state, missed=missed), now)
        return following, (effect, *effects)

    def _catch_up(self, state: State, party: Party) -> tuple[Send, ...]:
        teach = (Send(party, state.teachers[party]),) if party in state.teachers else ()
        open_for = state.phase is Phase.OPEN and party not in state.answers and party not in state.refusals
        return (*teach, Send(party, self._ask(state))) if open_for else teach

    def _ask(self, state: State) -> Ask:
        return Ask(state.round, self.strategy.recipe)

    @property
    def rounds(self) -> int:
        """Rounds that will be run: references run none, whatever the plan says."""
        return self.plan.rounds if self.strategy.rounds is None else self.strategy.rounds

    def _objection(self, state: State, reply: Reply) -> str:
        """Why a reply cannot be used; empty where it can."""
        if reply.sender not in self.plan.parties:
            return "the sender does not take part"
        if state.phase is not Phase.OPEN:
            return f"no round is open, the run is {state.phase}"
        if reply.round != state.round:
            return f"it answers round {reply.round}, open is round {state.round}"
        if reply.sender in state.answers or reply.sender in state.refusals:
            return "its sender was heard in this round already"
        if isinstance(reply, Refuse):
            return ""
        if len(reply.payload) > self.plan.max_answer_bytes:
            return f"its {len(reply.payload)} bytes are over the bound of {self.plan.max_answer_bytes}"
        try:
            release = self.codec.decode(reply.payload)
        except WireError as error:
            return f"malformed: {error}"
        return self._flaw(release)

    def _flaw(self, release: Release) -> str:
        """What is wrong with a decoded release; empty where nothing is."""
        recipe = self.strategy.recipe
        if recipe.count != (release.count > 0) or release.count < 0:
            return "its number of rows is not as the recipe asks"
        if recipe.score != np.isfinite(release.score):
            return "its held-out loss is not as the recipe asks"
        if recipe.release is Kind.LABELS:
            if release.labels is None or release.parameters:
                return "it carries no soft labels, or more than soft labels"
            return flaw_of_labels(release.labels, self.plan.outputs, self.plan.n_items)
        if release.labels is not None or not release.parameters:
            return "it carries no parameters, or more than parameters"
        shapes = {name: array.shape for name, array in release.parameters.items()}
        if shapes != self.strategy.shapes:
            return "its parameters have other names or shapes than the common start"
        if not all(a.dtype.kind == "f" and np.isfinite(a).all() for a in release.parameters.values()):
            return "its parameters are not finite"
        return ""


def flaw_of_labels(labels: SoftLabels, outputs: Outputs, n_items: int) -> str:
    """What is wrong with soft labels for all of a transfer set; empty where nothing is."""
    if labels.space is not outputs.space or labels.values.shape != (n_items, len(outputs)):
        return (
            f"it holds {labels.space} of shape {labels.values.shape}, "
            f"expected {outputs.space} of shape ({n_items}, {len(outputs)})"
        )
    if labels.weight.shape != (n_items,) or not np.array_equal(labels.items, np.arange(n_items)):
        return "it is not about the items that were asked for"
    if not (np.isfinite(labels.values).all() and np.isfinite(labels.weight).all()):
        return "it holds values that are not finite"
    if (labels.weight < 0).any():
        return "it holds negative weights"
    if labels.space is Space.QUANTILES:
        return "" if (labels.values[:, 1:] >= labels.values[:, :-1]).all() else "its quantiles cross"
    sums = labels.values.sum(axis=1, dtype=np.float64)
    return "" if (labels.values >= 0).all() and np.allclose(sums, 1, atol=1e-3) else "its probabilities do not sum to 1"
