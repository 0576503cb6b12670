"""Who takes part in a simulation: terms of its runs, participants that cannot train, and what an undisturbed run is.

A participant is the real one but for its models: what it says follows from its name, the question, and what it was
taught: by the last teacher, or by all where parameters travel.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np

from fedstill import plugins, wire
from fedstill.agreement import FORMAT, Terms, write_transfer
from fedstill.codecs.raw import Raw
from fedstill.grouping.sketch import sketch
from fedstill.labels import Release, SoftLabels
from fedstill.messages import Answer, Ask, Kind, Message, Refuse, Reply, Teach
from fedstill.participant import Participant
from fedstill.privacy.guard import Guard, Privacy
from fedstill.privacy.ledger import Ledger
from fedstill.round import Event, Phase, Received, Send, Started, Ticked
from fedstill.service.charter import Charter, coordinator_of
from fedstill.tasks.base import TransferSet
from fedstill.tasks.classification import Classification
from fedstill.transports.authority import Authority
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import digest_of
from fedstill.transports.roles import Role

PARTIES = ("a", "b", "c")
TASK = Classification("y", ("no", "yes"), ("x", "z"))
TRANSFER = TransferSet(np.array([[0, 0], [0, 1], [1, 0]], np.float32), 24)
START = {"w": np.zeros((2, 2), np.float32)}
ALGORITHMS = ("fedmd", "fedavg", "sketched")
BEGAN = 1_800_000_000.0
REFUSES = "c"
"""Who refuses its second answer."""
Question = tuple[int, int, str]
"""A question that a participant was asked, and answered in time: round, question, participant."""


class Fake(Participant):
    """Cannot train, so that thousands can run.

    Parameters
    ----------
    party:
        Its name.
    parametric:
        Whether parameters travel.
    whim:
        What else its answers follow from: models of which no two are alike, where it is never the same.
    """

    def __init__(
        self, party: str, parametric: bool, whim: Callable[[], int] = lambda: 0, guard: Guard | None = None
    ) -> None:
        self.party = party
        self.guard = guard or Guard.open()
        self.notes: list[str] = []
        self.state = b""
        self.losses: dict[int, float] = {}
        self._parametric = parametric
        self._whim = whim
        self._replies: dict[tuple[int, int], Reply] = {}
        self._taught = 0

    def _learn(self, teach: Teach) -> None:
        past = self.state if self._parametric else b""
        self.state = hashlib.sha256(past + teach.payload).digest()
        self._taught = teach.round
        self.losses[teach.round] = 1 / teach.round

    def _reply(self, ask: Ask) -> tuple[Reply, bool]:
        if self.party == REFUSES and ask.round == 2 and ask.question == 1:
            return Refuse(ask.round, self.party, "ValueError", ask.question), False
        said = f"{self.party}/{ask.round}/{ask.question}/{self._whim()}".encode() + self.state
        digest = np.frombuffer(hashlib.sha256(said).digest(), np.uint8)
        return Answer(ask.round, self.party, Raw().encode(self._release(ask.recipe, digest)), ask.question), False

    def _release(self, recipe: Any, digest: Any) -> Release:
        if recipe.release is Kind.PARAMETERS:  # a small number among large ones that cancel: the order of a sum shows
            drawn = np.where(digest[:4] % 3 == 0, digest[4:8] / 7, (digest[:4] % 3 - 1.5) * 2.0**62)
            return Release(parameters={"w": drawn.astype(np.float32).reshape(2, 2)}, count=7 if recipe.count else 0)
        yes = (digest[: len(TRANSFER.X)] + 1.0) / 257
        labels = SoftLabels.of(np.arange(len(yes)), np.stack([1 - yes, yes], axis=1), TASK.outputs.space)
        if recipe.release is Kind.SKETCH:
            return Release(sketch=sketch(labels, recipe.sketch, recipe.seed))
        return Release(labels=labels)


@dataclass(frozen=True)
class FakeAgreement:
    """What a worker needs of one."""

    distils: bool
    whim: Callable[[], int]

    def make(self, member: Any) -> Any:
        return member

    def prepare(self, member: Any) -> Any:
        return member

    def guard(self, member: Any, ledger: Ledger, noise: Any) -> Guard:
        del member
        return Guard(Privacy(), None, 0, ledger, noise)

    def build(self, make: Any, prepared: Any, guard: Guard) -> Callable[[], Fake]:
        del make
        return lambda: Fake(prepared.name, not self.distils, self.whim, guard)


@dataclass(frozen=True)
class FakeMember:
    """A name is all there is."""

    name: str


@dataclass
class Keys:
    """Made once: keys cost more than a schedule."""

    authority: Authority = field(default_factory=lambda: Authority.create("sim", _date()))
    identities: dict[str, Identity] = field(default_factory=lambda: {name: Identity.create() for name in PARTIES})
    coordinator: Identity = field(default_factory=Identity.create)

    def certificate(self, name: str, identity: Identity, role: Role) -> Certificate:
        return Certificate.from_pem(self.authority.certify(identity.request_pem(name), name, role, _date(), 365))


def _date() -> datetime:
    return datetime.fromtimestamp(BEGAN, UTC)


@dataclass(frozen=True)
class Shape:
    """What decides what happens in a run: its algorithm, the number of its participants and rounds, its deadline."""

    algorithm: str
    parties: int
    rounds: int
    deadline_s: float


@cache
def charter(kind: Shape) -> Charter:
    """The terms of a run."""
    algorithm = kind.algorithm
    transfer = write_transfer(TRANSFER)
    options = {"groups": 2} if algorithm == "sketched" else {}
    strategy = plugins.build("algorithms", algorithm, options)
    start = wire.pack(None, START) if strategy.parametric else b""
    terms = Terms(
        format=FORMAT,
        federation="sim",
        run=1,
        parties=PARTIES[: kind.parties],
        task=TASK.name,
        settings=asdict(TASK),
        codec="raw",
        recipes=strategy.recipes,
        rounds=kind.rounds,
        seed=0,
        strategy=algorithm,
        options=options,
        quorum=kind.parties - 1,
        deadline_s=kind.deadline_s,
        stop_after=None,
        transfer=digest_of(transfer),
        transfer_bytes=len(transfer),
        start=digest_of(start) if start else "",
        start_bytes=len(start),
    )
    return Charter(terms, {digest_of(payload): payload for payload in (transfer, start) if payload})


@dataclass
class Undisturbed:
    """What comes of a run without faults in which these answers count: teachers by round, and how it ends."""

    phase: Phase
    lessons: dict[str, list[tuple[int, bytes]]]
    states: dict[str, bytes]
    asked: set[Question] = field(default_factory=set)


@cache
def undisturbed(kind: Shape, counted: frozenset[Question] | None) -> Undisturbed:
    """Run it here, with nothing between coordinator and participants; None: all answers count."""
    terms = charter(replace(kind, deadline_s=1.0))
    machine = coordinator_of(terms.terms, dict(terms.payloads))
    fakes = {party: Fake(party, machine.strategy.parametric) for party in machine.plan.parties}
    lessons: dict[str, list[tuple[int, bytes]]] = {party: [] for party in machine.plan.parties}
    asked: set[Question] = set()
    waiting: list[Event] = [Started(0.0)]
    state = machine.start()
    for now in itertools.count():
        if not waiting and state.phase is not Phase.OPEN:
            break
        event = waiting.pop(0) if waiting else Ticked(float(now))
        state, effects = machine.step(state, event)
        for effect in (one for one in effects if isinstance(one, Send)):
            message: Message = effect.message
            reply = fakes[effect.to].handle(message)
            if isinstance(message, Teach):
                lessons[effect.to].append((message.round, message.payload))
            elif reply is not None:
                question = (reply.round, reply.question, effect.to)
                asked.add(question)
                if counted is None or question in counted:
                    waiting.append(Received(reply, float(now)))
    return Undisturbed(state.phase, lessons, {name: fake.state for name, fake in fakes.items()}, asked)


def letters_of(lessons: Collection[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Lessons in order, without those that somebody was sent again because it came late."""
    return sorted(set(lessons))
