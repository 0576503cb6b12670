"""The coordinator's half of a round, as a value: events in, new state and effects out.

Two rules. Everything that decides what happens next stands in this file. And this file does nothing: no
clock, socket, thread, disk or global; whoever drives it carries its effects out (`transports/`).

The log of events *is* the run: `replay` folds it into the same state, byte for byte, after a crash, for an auditor,
or on every peer of a mesh. Answers are folded in sorted order of party, so that nothing depends on who was faster.
What a peer sends is checked here, once, before any strategy sees it (by `flaws.py`); a bad message is data with a
reason (`Ignored`), never an exception.

    WAITING --Started--> OPEN --all heard, or deadline--> OPEN (next round) ... --> FINISHED
                           `--quorum missed `patience` times in a row--> FAILED

A round asks everybody one question. A strategy may then ask some of them on: the round stays OPEN with the follow-up
as its question, and teaches from what they answer. It closes like the first, with one answer or more; where nobody
answers, the next turn is asked, and the round is missed when no turn is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from fedstill.codecs.base import Codec
from fedstill.errors import WireError
from fedstill.flaws import flaw_of_release
from fedstill.labels import Array, Outputs, Party
from fedstill.messages import Answer, Ask, Message, Recipe, Reply, Teach
from fedstill.stopping import Progress
from fedstill.strategy import Ballot, FollowUp, Lesson, Strategy, Vote


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
    stop_after:
        End earlier, once the participants' held-back losses have not fallen for so many rounds; None: never. The
        strategy must ask for these losses (`Recipe.score`).
    quorum:
        Answers that a round needs to teach; 1 to all.
    deadline_s:
        Seconds after which a question closes with what it has.
    patience:
        Rounds in a row that may miss the quorum before the run fails.
    max_answer_bytes:
        Larger answers are refused unread.
    """

    parties: tuple[Party, ...]
    outputs: Outputs
    n_items: int
    rounds: int
    quorum: int = 1
    deadline_s: float = math.inf
    patience: int = 3
    max_answer_bytes: int = 256 * 2**20
    stop_after: int | None = None

    def __post_init__(self) -> None:
        """Refuse plans that no round could follow, or that would never end: our own misuse raises."""
        if tuple(sorted(set(self.parties))) != self.parties:
            raise ValueError("parties must be sorted and distinct")
        if not 1 <= self.quorum <= len(self.parties):
            raise ValueError(f"a quorum of {self.quorum} cannot be met by {len(self.parties)} participants")
        if self.rounds < 0 or self.patience < 1 or not self.deadline_s > 0:
            raise ValueError("rounds must be 0 or more, patience 1 or more, and the deadline after the start")
        if self.stop_after is not None and self.stop_after < 1:
            raise ValueError(f"a run cannot stop after {self.stop_after} rounds without progress")


class Phase(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"
    OPEN = "open"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True)
class State:
    """All that the coordinator knows. Answers stay as the bytes that came, so a state can be stored and compared.

    Answers and refusals are those to the open question; `silent` are those who did not answer an earlier one of the
    round: why, or None where nothing came. The first of the follow-up's turns is the one being asked.
    """

    phase: Phase = Phase.WAITING
    round: int = 0
    closes_at: float = math.inf
    answers: Mapping[Party, Answer] = field(default_factory=dict)
    refusals: Mapping[Party, str] = field(default_factory=dict)
    teachers: Mapping[Party, Teach] = field(default_factory=dict)
    missed: int = 0
    memory: Any = field(default=None, compare=False)  # may hold arrays, which have no plain ==; it shows in teachers
    question: int = 1
    follow_up: FollowUp | None = None
    silent: Mapping[Party, str | None] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)


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
    """A reply was not used, and why. An answer to the open question counts as a refusal for that reason."""

    reply: Reply
    why: str


@dataclass(frozen=True)
class Asked:
    """A round asks these on, before it teaches."""

    round: int
    question: int
    parties: tuple[Party, ...]


@dataclass(frozen=True)
class Closed:
    """A round ended and its teachers are on their way.

    Every participant is one of three: it answered whatever it was asked, it refused (or sent what could not be used),
    or something is missing of it.
    """

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
    """All rounds are done, or those that were worth it."""

    rounds: int


@dataclass(frozen=True)
class Failed:
    """The run cannot go on."""

    why: str


Effect = Send | Wake | Ignored | Asked | Closed | QuorumMissed | Finished | Failed
Step = tuple[State, tuple[Effect, ...]]


@dataclass(frozen=True)
class Coordinator:
    """Runs the rounds of one plan with one strategy. It holds no state: `step` takes and returns it.

    `inputs` are those of the transfer set, public, shape (n_items, f), for strategies with a model of their own. A
    replay needs the same.
    """

    plan: Plan
    strategy: Strategy
    codec: Codec
    inputs: Array | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Refuse to average parameters without a common start to check them against: our own misuse raises."""
        if self.strategy.parametric and self.strategy.shapes is None:
            raise ValueError(f"strategy '{self.strategy.name}' needs the common start parameters as its memory")
        if self.plan.stop_after is not None and not all(recipe.score for recipe in self.strategy.recipes):
            raise ValueError(f"strategy '{self.strategy.name}' asks for no losses to stop by")

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
        if state.round == self.rounds or state.progress.stale == self.plan.stop_after:
            return replace(state, phase=Phase.FINISHED), (Finished(state.round),)
        number = state.round + 1
        return self._ask(replace(state, phase=Phase.OPEN, round=number, question=1, follow_up=None, silent={}), now)

    def _ask_on(self, state: State, follow_up: FollowUp, now: float) -> Step:
        following, effects = self._ask(replace(state, question=state.question + 1, follow_up=follow_up), now)
        return following, (Asked(state.round, following.question, self._asked(following)), *effects)

    def _ask(self, state: State, now: float) -> Step:
        opened = replace(state, closes_at=now + self.plan.deadline_s, answers={}, refusals={})
        asks = tuple(Send(party, self._question(opened)) for party in self._asked(opened))
        wake = (Wake(opened.closes_at),) if math.isfinite(opened.closes_at) else ()
        return opened, (*asks, *wake)

    def _hear(self, state: State, reply: Reply, now: float) -> Step:
        why = self._objection(state, reply)
        if why:
            return state, (Ignored(reply, why), *self._catch_up(state, reply))
        flaw = self._flaw(state, reply) if isinstance(reply, Answer) else reply.reason[:200]
        if isinstance(reply, Answer) and not flaw:
            heard = replace(state, answers={**state.answers, reply.sender: reply})
        else:  # who answers with what cannot be used would do so again: it is not waited for
            heard = replace(state, refusals={**state.refusals, reply.sender: flaw})
        ignored = (Ignored(reply, flaw),) if isinstance(reply, Answer) and flaw else ()
        if len(heard.answers) + len(heard.refusals) == len(self._asked(state)):
            following, effects = self._close(heard, now)
            return following, (*ignored, *effects)
        return heard, ignored

    def _close(self, state: State, now: float) -> Step:
        unheard = {party: state.refusals.get(party) for party in self._asked(state) if party not in state.answers}
        ended = replace(state, silent={**state.silent, **unheard})
        if len(state.answers) < (self.plan.quorum if state.follow_up is None else 1):
            if state.follow_up is not None and len(state.follow_up.turns) > 1:
                return self._ask_on(ended, replace(state.follow_up, turns=state.follow_up.turns[1:]), now)
            return self._miss(ended, now)
        lesson = self._lesson(state)
        if lesson.follow_up is not None:
            return self._ask_on(ended, lesson.follow_up, now)
        return self._teach(ended, lesson, now)

    def _lesson(self, state: State) -> Lesson:
        votes = [Vote(party, self.codec.decode(state.answers[party].payload)) for party in sorted(state.answers)]
        plan = self.plan
        lesson = self.strategy.teach(
            Ballot(votes, plan.parties, plan.outputs, state.memory, self.inputs, state.follow_up)
        )
        if lesson.follow_up is not None:  # our own misuse raises, rather than have a round that never ends
            turns = lesson.follow_up.turns
            if self.strategy.follow_up is None or state.follow_up is not None:
                raise ValueError(f"strategy '{self.strategy.name}' has no recipe for this follow-up")
            if not turns or not all(turn and set(turn) <= set(plan.parties) for turn in turns):
                raise ValueError(f"strategy '{self.strategy.name}' asks on nobody, or somebody who does not take part")
        return lesson

    def _teach(self, state: State, lesson: Lesson, now: float) -> Step:
        encoded = {id(teacher): self.codec.encode(teacher) for teacher in lesson.teachers.values()}
        teachers = {
            party: Teach(state.round, self._recipe(state), encoded[id(lesson.teachers[party])])
            for party in sorted(lesson.teachers)
        }
        taught = replace(
            state,
            teachers={**state.teachers, **teachers},
            memory=lesson.memory,
            missed=0,
            progress=state.progress if self.plan.stop_after is None else state.progress.after(self._losses(state)),
        )
        following, effects = self._open(taught, now)
        sends = tuple(Send(party, message) for party, message in teachers.items())
        return following, (*sends, Closed(state.round, *self._parts(state), lesson.groups), *effects)

    def _losses(self, state: State) -> dict[Party, float]:
        scores = {party: self.codec.decode(answer.payload).score for party, answer in state.answers.items()}
        return {party: score for party, score in sorted(scores.items()) if math.isfinite(score)}

    def _miss(self, state: State, now: float) -> Step:
        missed = state.missed + 1
        effect = QuorumMissed(state.round, *self._parts(state), self.plan.quorum)
        if missed >= min(self.plan.patience, self.rounds):
            had = f"had {len(effect.answered)} of the {effect.quorum} answers it needs"
            had = had if state.follow_up is None else "had no answer to its follow-up"
            why = f"round {state.round} {had}, the {missed}. time in a row"
            return replace(state, phase=Phase.FAILED, missed=missed), (effect, Failed(why))
        following, effects = self._open(replace(state, missed=missed), now)
        return following, (effect, *effects)

    def _parts(self, state: State) -> tuple[tuple[Party, ...], dict[Party, str], tuple[Party, ...]]:
        """Who answered all questions of a round that ended, who refused and why, and who is missing."""
        reasons = [(party, state.silent.get(party, "")) for party in self.plan.parties]
        answered = tuple(party for party, _ in reasons if party not in state.silent)
        refused = {party: why for party, why in reasons if party in state.silent and why is not None}
        return answered, refused, tuple(party for party, why in reasons if why is None)

    def _catch_up(self, state: State, reply: Reply) -> tuple[Send, ...]:
        """For whoever comes late, and has missed something: the latest teacher and the open question."""
        over, party = state.phase in (Phase.FINISHED, Phase.FAILED), reply.sender
        earlier = over or reply.round < state.round
        teach = (Send(party, state.teachers[party]),) if earlier and party in state.teachers else ()
        late = (reply.round, reply.question) < (state.round, state.question)
        unheard = party in self._asked(state) and party not in state.answers and party not in state.refusals
        open_for_it = state.phase is Phase.OPEN and late and unheard
        return (*teach, Send(party, self._question(state))) if open_for_it else teach

    def _question(self, state: State) -> Ask:
        return Ask(state.round, self._recipe(state), state.question, self.strategy.clip(state.memory))

    def _recipe(self, state: State) -> Recipe:
        further = self.strategy.follow_up
        return self.strategy.recipe if state.follow_up is None or further is None else further

    def _asked(self, state: State) -> tuple[Party, ...]:
        """Whom the open question is put to."""
        if state.follow_up is None:
            return self.plan.parties
        return tuple(party for party in self.plan.parties if party in state.follow_up.turns[0])

    @property
    def rounds(self) -> int:
        """Rounds that will be run: references run none, whatever the plan says."""
        return self.plan.rounds if self.strategy.rounds is None else self.strategy.rounds

    def _objection(self, state: State, reply: Reply) -> str:
        """Why a reply is not one to the open question; empty where it is."""
        if reply.sender not in self.plan.parties:
            return "the sender does not take part"
        if state.phase is not Phase.OPEN:
            return f"no round is open, the run is {state.phase}"
        if reply.round != state.round:
            return f"it answers round {reply.round}, open is round {state.round}"
        if reply.question != state.question:
            return f"it answers question {reply.question} of the round, open is question {state.question}"
        if reply.sender not in self._asked(state):
            return "its sender was not asked"
        if reply.sender in state.answers or reply.sender in state.refusals:
            return "its sender was heard in this round already"
        return ""

    def _flaw(self, state: State, reply: Answer) -> str:
        """Why an answer to the open question cannot be used; empty where it can."""
        if len(reply.payload) > self.plan.max_answer_bytes:
            return f"its {len(reply.payload)} bytes are over the bound of {self.plan.max_answer_bytes}"
        try:
            release = self.codec.decode(reply.payload)
        except WireError as error:
            return f"malformed: {error}"
        plan, recipe = self.plan, self._recipe(state)
        return flaw_of_release(release, recipe, plan.outputs, plan.n_items, self.strategy.shapes)
