"""A whole federation between machines on a simulated clock: one seed is one schedule of faults.

Coordinator, store, journals and payloads are the real ones; the network, the clock and the models are not. At every
step chance picks somebody: a participant goes round its loop once, the coordinator looks at the clock, somebody is
killed (also in the middle of writing), time passes, garbage or an old letter is posted. Requests get lost on their way
there, or their answers on the way back. After a while the network heals, and everything has to come to its end:

* nobody waits for anything any more, and all know how the run has ended;
* without deadlines, every participant has been taught what it is taught in a run without faults;
* nobody has ever sent two different answers to one question;
* what the coordinator knows is what its events lead to, and the auditor finds nothing.

    python tests/service/simulation.py --first 0 --schedules 1000
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import math
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fedstill import plugins
from fedstill.agent.journal import Journal
from fedstill.agent.loop import Patience, turn
from fedstill.agent.worker import Contract, Worker
from fedstill.agreement import FORMAT, Terms, write_transfer
from fedstill.codecs.raw import Raw
from fedstill.errors import LinkDown
from fedstill.labels import Release, SoftLabels
from fedstill.messages import Answer, Ask, Message, Refuse, Reply, Teach
from fedstill.round import Phase
from fedstill.service.audit import audit
from fedstill.service.charter import Charter
from fedstill.service.desk import Desk, convene
from fedstill.service.registry import Registry
from fedstill.service.store.blobs import Blobs
from fedstill.service.store.store import Store
from fedstill.tasks.base import TransferSet
from fedstill.tasks.classification import Classification
from fedstill.transports.authority import Authority
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR, Parcel, digest_of
from fedstill.transports.roles import Role

PARTIES = ("a", "b", "c")
TASK = Classification("y", ("no", "yes"), ("x", "z"))
TRANSFER = TransferSet(np.array([[0, 0], [0, 1], [1, 0]], np.float32), 24)
STEPS = 3000
"""By then every schedule has ended, or something hangs."""


class Killed(BaseException):
    """The process is gone, wherever it was."""


@dataclass
class Faults:
    """How likely what is, in one step; all stop at once when the network heals."""

    lost: float
    kill: float
    halfway: float
    stale: float
    heal_after: int

    @classmethod
    def drawn(cls, chance: random.Random) -> Faults:
        """Some schedules are rough, some smooth."""
        rough = chance.random()
        return cls(0.6 * rough, 0.15 * rough, 0.1 * rough, 0.2 * rough, chance.randrange(20, 250))


class FakeParticipant:
    """Says what follows from its name, the round and its last teacher; cannot train, so that thousands can run."""

    outputs = TASK.outputs

    def __init__(self, party: str) -> None:
        self.party = party
        self.taught = b""
        self.lessons: dict[int, bytes] = {}
        self.losses: dict[int, float] = {}
        self._replies: dict[tuple[int, int], Reply] = {}

    def remember(self, reply: Reply) -> None:
        self._replies[reply.round, reply.question] = reply

    def handle(self, message: Message) -> Reply | None:
        if isinstance(message, Teach):
            self.taught = message.payload
            self.lessons[message.round] = message.payload
            self.losses[message.round] = 1 / message.round
            return None
        asked = message.round, message.question
        if asked not in self._replies:
            self._replies[asked] = self._answer(message)
        return self._replies[asked]

    def _answer(self, ask: Ask) -> Reply:
        seed = hashlib.sha256(f"{self.party}/{ask.round}/{ask.question}".encode() + self.taught).digest()
        drawn = np.random.default_rng(list(seed)).dirichlet([1, 1], size=len(TRANSFER.X))
        if self.party == "c" and ask.round == 2:
            return Refuse(ask.round, self.party, "ValueError", ask.question)
        labels = SoftLabels.of(np.arange(len(drawn)), drawn, TASK.outputs.space)
        return Answer(ask.round, self.party, Raw().encode(Release(labels=labels)), ask.question)


@dataclass(frozen=True)
class FakeAgreement:
    """What a worker needs of one."""

    distils: bool = True

    def make(self, member: Any) -> Any:
        return member

    def prepare(self, member: Any) -> Any:
        return member

    def build(self, make: Any, prepared: Any) -> Callable[[], FakeParticipant]:
        del make
        return lambda: FakeParticipant(prepared.name)


@dataclass(frozen=True)
class FakeMember:
    """A name is all there is."""

    name: str


@dataclass
class Keys:
    """Made once: keys cost more than a whole schedule."""

    authority: Authority = field(default_factory=lambda: Authority.create("sim", _date()))
    identities: dict[str, Identity] = field(default_factory=lambda: {name: Identity.create() for name in PARTIES})
    coordinator: Identity = field(default_factory=Identity.create)

    def certificate(self, name: str, identity: Identity, role: Role) -> Certificate:
        return Certificate.from_pem(self.authority.certify(identity.request_pem(name), name, role, _date(), 365))


def _date() -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(1_800_000_000, UTC)


def charter(deadline_s: float, rounds: int) -> Charter:
    transfer = write_transfer(TRANSFER)
    strategy = plugins.build("algorithms", "fedmd", {})
    terms = Terms(
        format=FORMAT,
        federation="sim",
        run=1,
        parties=PARTIES,
        task=TASK.name,
        settings=asdict(TASK),
        codec="raw",
        recipes=strategy.recipes,
        rounds=rounds,
        seed=0,
        strategy="fedmd",
        options={},
        quorum=2,
        deadline_s=deadline_s,
        stop_after=None,
        transfer=digest_of(transfer),
        transfer_bytes=len(transfer),
    )
    return Charter(terms, {digest_of(transfer): transfer})


class World:
    """One schedule.

    Parameters
    ----------
    folder:
        Empty; a fast one.
    seed:
        Of the schedule; None: without any fault.
    keys, template, loop:
        What all schedules share: keys, an empty database, and a loop to work in.
    deadline_s, rounds:
        Of the run.
    """

    def __init__(
        self,
        folder: Path,
        seed: int | None,
        keys: Keys,
        template: Path,
        loop: asyncio.AbstractEventLoop,
        *,
        deadline_s: float,
        rounds: int = 3,
    ) -> None:
        self.loop = loop
        self.chance = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        self.faults = Faults(0, 0, 0, 0, 0) if seed is None else Faults.drawn(self.chance)
        self.folder = folder
        self.keys = keys
        self.now = 1_800_000_000.0
        self.step = 0
        self.kills = 0
        self._halfway = 0.0
        shutil.copy(template, folder / "store.db")
        self.store = Store.open(f"sqlite:///{folder / 'store.db'}")
        self.charter = charter(deadline_s, rounds)
        self._clocks = {name: 0.0 if seed is None else self.chance.uniform(-90_000, 90_000) for name in PARTIES}
        self._journals = {name: Journal(folder / f"{name}.db", self.charter.digest) for name in PARTIES}
        self.store.lead("0", self.now, 3)
        registry = Registry(self.store, keys.authority, lambda: self.now)
        tokens = {name: registry.invite(name, Role.PARTICIPANT, 1) for name in PARTIES}
        convene(self.store, self._blobs(COORDINATOR), self.charter, self.now)
        for name, token in tokens.items():
            registry.enrol(token, keys.identities[name].request_pem(name))
        self._signer = keys.certificate(COORDINATOR, keys.coordinator, Role.COORDINATOR)
        self.desk = self._open_desk()
        self.workers = {name: self._open_worker(name) for name in PARTIES}
        self._old: list[tuple[str, bytes, bytes]] = []

    # ---- who is there

    def _blobs(self, name: str) -> Blobs:
        blobs = Blobs(self.folder / f"payloads-{name}", 2**20)
        put = blobs.put

        def fragile(data: bytes, digest: str = "") -> str:
            self._maybe_die()
            digest = put(data, digest)
            self._maybe_die()
            return digest

        blobs.put = fragile  # type: ignore[method-assign, assignment]
        return blobs

    def _open_desk(self) -> Desk:
        self.kills += 1
        self.store.lead(str(self.kills), self.now, 0)
        registry = Registry(self.store, self.keys.authority, lambda: self.now)
        run = self.store.runs()[-1]
        return Desk(self.store, self._blobs(COORDINATOR), run, self.keys.coordinator, registry)

    def _open_worker(self, name: str) -> Worker:
        contract = Contract(
            self.charter.terms,
            self.charter.digest,
            FakeAgreement(),  # type: ignore[arg-type]
            self.keys.identities[name],
            self._signer,
        )
        clock = lambda: self.now + self._clocks[name]  # noqa: E731 - wrong by up to a day
        return Worker(contract, FakeMember(name), self._journals[name], self._blobs(name), clock)  # type: ignore[arg-type]

    # ---- what goes wrong

    def happens(self, likely: float) -> bool:
        return self.step < self.faults.heal_after and self.chance.random() < likely

    def _maybe_die(self) -> None:
        if self.chance.random() < self._halfway:
            raise Killed

    @contextmanager
    def mortal(self, reopen: Callable[[], None]) -> Iterator[None]:
        """Whoever works here may be killed halfway; it is then started again."""
        self._halfway = self.faults.halfway if self.step < self.faults.heal_after else 0.0
        try:
            yield
        except Killed:
            self._halfway = 0.0
            reopen()
        finally:
            self._halfway = 0.0

    # ---- what goes on

    def run(self) -> None:
        """Until everybody knows how the run has ended."""
        while not all(worker.ended for worker in self.workers.values()):
            self.step += 1
            if self.step > STEPS:
                raise AssertionError(f"it hangs: {self.desk.status()}")
            self._step()

    def _step(self) -> None:
        if self.happens(self.faults.kill):
            self.reopen_desk() if self.chance.random() < 0.3 else self.reopen_worker(self.chance.choice(PARTIES))
        if self.happens(self.faults.stale) and self._old:
            party, letter, payload = self.chance.choice(self._old)
            with self.mortal(self.reopen_desk):
                self.desk.take([(party, letter, payload)])
        if self.chance.random() < 0.2:
            self.now += self.chance.expovariate(1 / 20)
            with self.mortal(self.reopen_desk):
                self.desk.tick()
            return
        name = self.chance.choice(PARTIES)
        with self.mortal(lambda: self.reopen_worker(name)):
            self.loop.run_until_complete(_once(self.workers[name], SimLink(self, name), lambda: self.now))

    def reopen_desk(self) -> None:
        self.desk = self._open_desk()

    def reopen_worker(self, name: str) -> None:
        self.kills += 1
        self.workers[name] = self._open_worker(name)

    def close(self) -> None:
        self.store.close()
        for journal in self._journals.values():
            journal.close()

    # ---- what must hold

    def check(self) -> None:
        """Whatever happened, this is true now."""
        assert self.desk.progress.state.phase in (Phase.FINISHED, Phase.FAILED)
        again = self._open_desk()
        assert again.progress == self.desk.progress, "events lead elsewhere"
        found = audit(self.store, self.desk.blobs, self._signer)
        assert not found.faults, found.faults
        for name in PARTIES:
            answers: dict[tuple[int, int], set[bytes]] = {}
            for sent in self._journals[name].sent():
                reply = self.workers[name].stored(sent.digest)
                answers.setdefault((reply.round, reply.question), set()).add(sent.digest.encode())
                assert sent.posted_at is not None
            assert all(len(said) == 1 for said in answers.values()), f"{name} said two things to one question"
        ended = {worker.ended for worker in self.workers.values()}
        assert len(ended) == 1
        assert (ended == {"finished"}) == (self.desk.progress.state.phase is Phase.FINISHED)

    def lessons(self) -> dict[str, bytes]:
        """The last teacher of each participant."""
        return {name: worker.participant.taught for name, worker in self.workers.items()}  # type: ignore[attr-defined]


async def _once(worker: Worker, link: SimLink, clock: Callable[[], float]) -> None:
    with suppress(LinkDown):
        await turn(worker, link, clock=clock, patience=Patience(0, 0, 0))


@dataclass
class SimLink:
    """A link that loses things: the question on its way there, or the answer on its way back."""

    world: World
    name: str

    def _lossy(self, call: Callable[[], Any]) -> Any:
        world = self.world
        if world.happens(world.faults.lost / 2):
            raise LinkDown("lost on the way there")
        halfway, world._halfway = world._halfway, world.faults.halfway if world._halfway else 0.0
        try:
            said = call()
        except Killed:
            world._halfway = 0.0
            world.reopen_desk()
            raise LinkDown("the coordinator is gone") from None
        finally:
            world._halfway = halfway
        if world.happens(world.faults.lost / 2):
            raise LinkDown("lost on the way back")
        return said

    async def terms(self) -> bytes:
        return self.world.charter.terms.to_bytes()

    async def letters(self, after: int, wait_s: float) -> list[Parcel]:
        del wait_s
        found: list[Parcel] = self._lossy(lambda: self.world.desk.letters(self.name, after))
        return found

    async def fetch(self, digest: str, size: int) -> bytes:
        data: bytes = self._lossy(lambda: self.world.desk.blobs.get(digest))
        assert len(data) == size
        return data

    async def post(self, letter: bytes, payload: bytes) -> str:
        self.world._old.append((self.name, letter, payload))
        (why,) = self._lossy(lambda: self.world.desk.take([(self.name, letter, payload)]))
        return str(why)

    async def close(self) -> None:
        pass


class Here(ThreadPoolExecutor):
    """Runs things here and now, so that a schedule is one thread and always the same."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(function(*arguments, **named))
        except BaseException as error:
            done.set_exception(error)
        return done


class Simulator:
    """Runs schedules, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = Keys()
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(Here())
        self.template = folder / "template.db"
        Store.open(f"sqlite:///{self.template}").close()
        self.undisturbed = self._run(None, deadline_s=math.inf, check_lessons=False)

    def schedule(self, seed: int) -> int:
        """Run a schedule; half of them have deadlines. Returns how often somebody was killed."""
        timed = seed % 2 == 1
        try:
            self._run(seed, deadline_s=60.0 if timed else 1e9, check_lessons=not timed)
        except Exception as error:
            again = f"python tests/service/{Path(__file__).name} --first {seed} --schedules 1"
            raise AssertionError(f"schedule {seed} fails; to see it again: {again}") from error
        return self.kills

    def _run(self, seed: int | None, *, deadline_s: float, check_lessons: bool) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            world = World(Path(folder), seed, self.keys, self.template, self.loop, deadline_s=min(deadline_s, 1e9))
            try:
                world.run()
                world.check()
                self.kills = world.kills
                if check_lessons:
                    assert world.lessons() == self.undisturbed, "somebody was taught something else"
                return world.lessons()
            finally:
                world.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Run schedules of faults.")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--schedules", type=int, default=1000)
    asked = parser.parse_args()
    fast = Path("/dev/shm")  # noqa: S108 - where there is one; nothing in it outlives the run
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
        simulator = Simulator(Path(folder))
        kills = sum(simulator.schedule(seed) for seed in tqdm(range(asked.first, asked.first + asked.schedules)))
    sys.stdout.write(f"{asked.schedules} schedules, {kills} starts and kills: all came to their end\n")


if __name__ == "__main__":
    main()
