"""A whole federation between machines on a simulated clock: one seed is one schedule of faults.

Coordinators, store, journals, payloads and the loops that drive them are the real ones; the network, the clock, the
models and the disks' faults are not (`carrier.py`, `machines.py`, `parties.py`). `mishaps.py` draws from the seed what
goes wrong and when: kills between any two writes, power failures, frozen and competing coordinators, full disks, a
database that is gone, also while it commits, partitions, lost, late, repeated and reordered messages, nonsense, wrong
clocks, somebody who is away for days. After a while all is well again, and everything has to come to its end:

* nobody waits for anything any more, and all know how the run has ended;
* everybody was taught what it is taught in a run without faults in which the same answers count, and without deadlines
  all of them count;
* nobody has ever sent two different answers to one question, also where no two models are alike;
* what was acknowledged or announced was on the disk by then, and still is;
* what the coordinator knows is what its events lead to, and the auditor finds nothing.

    python tests/service/simulation.py --first 0 --schedules 1000
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import logging
import math
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from carrier import Weather
from machines import CONNECT, Disk, Hung, Loop, hooked
from mishaps import Mishaps
from parties import ALGORITHMS, BEGAN, Keys, Shape, charter, letters_of, undisturbed
from places import Home, Machine, Seat
from tqdm import tqdm

from fedstill import wire
from fedstill.agent import worker as worker_module
from fedstill.agent.journal import Journal
from fedstill.agreement import Terms
from fedstill.labels import Party
from fedstill.messages import Answer, Refuse, Teach
from fedstill.round import Coordinator, Phase
from fedstill.service import audit as audit_module
from fedstill.service import charter as charter_module
from fedstill.service import clerk as clerk_module
from fedstill.service import desk as desk_module
from fedstill.service.audit import audit
from fedstill.service.charter import Charter
from fedstill.service.desk import Desk, convene
from fedstill.service.registry import Registry
from fedstill.service.store.blobs import Blobs
from fedstill.service.store.databases import engine
from fedstill.service.store.store import Store
from fedstill.transports.certificates import Certificate
from fedstill.transports.letters import COORDINATOR, read
from fedstill.transports.mqtt.frames import Post, Verdict
from fedstill.transports.roles import Role

FOREVER_S = 1e9
SETTLED_S = 3000.0
"""So long after all is well again, and the deadlines are over, every run has ended, or something hangs."""


class Observer:
    """Looks into the coordinator's database from outside."""

    def __init__(self, path: Path) -> None:
        self._connection = CONNECT(path, isolation_level=None)
        self._announced: Counter[Party] = Counter()

    def fingerprints(self) -> dict[Party, str]:
        """Of the certificates of those who have joined."""
        return dict(self._connection.execute("SELECT name, fingerprint FROM parties").fetchall())

    def took(self, letter: bytes) -> bool:
        """Whether a letter stands in the events."""
        return bool(self._connection.execute("SELECT 1 FROM events WHERE body = ?", (letter,)).fetchone())

    def acknowledged(self, letter: bytes) -> None:
        """A participant is told that its letter is taken."""
        assert self.took(letter), "acknowledged, and not on the disk"

    def announced(self, parties: Iterable[Party]) -> None:
        """Participants are told that there are letters for them."""
        for party in parties:
            query = 'SELECT max(number) FROM letters WHERE "to" = ?'
            (last,) = self._connection.execute(query, (party,)).fetchone()
            assert (last or 0) > self._announced[party], "announced, and not on the disk"
            self._announced[party] = last

    def close(self) -> None:
        self._connection.close()


class World:
    """One schedule.

    Parameters
    ----------
    simulator:
        With what all schedules share.
    seed:
        Of the schedule; None: without any fault.
    """

    def __init__(self, simulator: Simulator, seed: int | None) -> None:
        self.loop = Loop()
        self.loop.set_exception_handler(lambda loop, context: None)  # tasks of those who were killed
        self.chance = chance = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        random.seed(seed)  # from which pauses are drawn
        self.timed = seed is not None and chance.random() < 0.5
        self.by_reference = chance.random() < 0.5
        restless = seed is not None and chance.random() < 0.25
        self.whim: Callable[[], int] = itertools.count().__next__ if restless else (lambda: 0)
        self.restless = restless
        self.shape = Shape(
            algorithm=chance.choices(ALGORITHMS, (2, 2, 1))[0],
            parties=chance.choice((2, 2, 2, 3)),
            rounds=chance.choice((1, 1, 2, 2, 3)),
            deadline_s=chance.choice((15.0, 60.0, 300.0)) if self.timed else FOREVER_S,
        )
        self.charter = charter(self.shape)
        self.keys, self.signer = simulator.keys, simulator.signer
        self.folder = simulator.lay_out(self.shape)
        self.observer = Observer(self.folder / COORDINATOR / "store.db")
        self.fingerprints = self.observer.fingerprints()
        self.over = False
        self.reaches = 0
        self.broken: list[BaseException] = []
        self.counts: Counter[str] = Counter()
        self.posts: list[tuple[Party, Post]] = []
        self.weather = {name: Weather() for name in self.charter.terms.parties}
        disk = Disk(chance, self.folder / COORDINATOR / "payloads")
        rivals = 2 if seed is not None and chance.random() < 0.25 else 1
        self.seats = [Seat(self, f"seat{n}", disk, simulator.databases[n]) for n in range(rivals)]
        self.homes = {name: Home(self, name, self.folder / name) for name in self.weather}
        self.machines: list[Machine] = [*self.seats, *self.homes.values()]
        self.mishaps = Mishaps(self, chance)
        self._said: dict[tuple[Party, int, int], bytes] = {}
        self._ended = self.loop.create_future()
        if seed is not None:
            self.mishaps.arrange()

    # ---- what goes on

    def run(self) -> None:
        """Until everybody knows how the run has ended."""
        for machine in self.machines:
            self.loop.call_soon(machine.start)
        try:
            self.loop.run_until_complete(self._end())
        finally:
            self.over = True
            for machine in self.machines:
                if machine.process is not None:
                    machine.process.kill()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()
            self.observer.close()

    async def _end(self) -> None:
        while not self._ended.done():
            settled_s = max(self.mishaps.calm_s, self.mishaps.back_s) + SETTLED_S
            settled_s += 4 * self.shape.rounds * self.shape.deadline_s if self.timed else 0.0
            if self.loop.time() >= settled_s:
                states = [seat.desk.progress.state for seat in self.seats if seat.desk is not None]
                told = [f"{state.phase} in round {state.round}" for state in states]
                waiting = [home.name for home in self.homes.values() if not home.finished]
                raise Hung(f"{', '.join(waiting)} cannot end; the run is {' or '.join(told)}")
            await asyncio.wait({self._ended}, timeout=settled_s - self.loop.time())

    def look(self) -> None:
        """Whether it is over."""
        if not self._ended.done() and (self.broken or all(home.finished for home in self.homes.values())):
            self._ended.set_result(None)

    def reached(self) -> Seat | None:
        """Who serves where participants ask."""
        seat = self.seats[self.reaches]
        if not seat.listens():
            seat = next((one for one in self.seats if one.listens()), seat)
        return seat if seat.listens() else None

    def again(self, name: Party, body: Any) -> None:
        """A request arrives once more; nobody waits for the answer."""
        seat = self.reached()
        if seat is not None:
            seat.serve(name, body, self.loop.create_future())

    def attacked(self, name: Party, post: Post) -> None:
        """Somebody posts what must not be taken."""
        seat = self.reached()
        if seat is None:
            return
        answer = self.loop.create_future()
        seat.serve(name, post, answer)

        def check(answer: asyncio.Future[Any]) -> None:
            said = None if answer.cancelled() or answer.exception() else answer.result()
            # What is beside a letter that has been taken is not read; the audit looks at what is kept.
            genuine = any(sender == name and one.letter == post.letter for sender, one in self.posts)
            if isinstance(said, Verdict) and not said.why and not genuine:
                self.broken.append(AssertionError("nonsense was taken"))
                self.look()

        answer.add_done_callback(check)

    def said(self, name: Party, letter: bytes, payload: bytes) -> None:
        """A letter leaves."""
        assert read(letter).header.sender == name
        reply = wire.decode(payload)
        assert isinstance(reply, Answer | Refuse)
        before = self._said.setdefault((name, reply.round, reply.question), payload)
        if before != payload:
            self.broken.append(AssertionError(f"{name} said two things to one question"))

    # ---- what must hold

    def check(self) -> None:
        """Whatever happened, this is true now."""
        if self.broken:
            raise self.broken[0]
        for seat in self.seats:
            seat.database.dispose()  # of those who worked
        store = Store(self.seats[0].database, "store.db")
        blobs = Blobs(self.folder / COORDINATOR / "payloads", 2**20)
        registry = Registry(store, self.keys.authority, self.seats[0].clock)
        desk = Desk(store, blobs, store.runs()[-1], self.keys.coordinator, registry)
        state = desk.progress.state
        assert state.phase in (Phase.FINISHED, Phase.FAILED)
        known = [seat.desk.progress for seat in self.seats if seat.desk and store.lease().owner == self._owner(seat)]
        assert all(progress == desk.progress for progress in known), "events lead elsewhere"
        found = audit(store, blobs, self.signer)
        assert not found.faults, found.faults
        ended = {home.worker.ended for home in self.homes.values() if home.worker}
        assert ended == {str(state.phase)}
        heard = desk.progress.heard
        for home in self.homes.values():
            self._check_journal(home, heard.get(home.name, {}))
        if not self.restless:
            self._check_lessons(store, blobs, heard)
        store.close()

    def _owner(self, seat: Seat) -> str:
        return f"{seat.name}:{seat.starts}"

    def _check_journal(self, home: Home, heard: Any) -> None:
        journal = CONNECT(home.folder / "journal.db")
        for number, digest, posted_at, why in journal.execute("SELECT number, digest, posted_at, why FROM sent"):
            assert posted_at is not None
            assert heard.get(number) == (digest, why), "acknowledged and lost"
        journal.close()

    def _check_lessons(self, store: Store, blobs: Blobs, heard: Any) -> None:
        counted = set()
        for party, letters in heard.items():
            for digest, why in letters.values():
                reply = wire.decode(blobs.get(digest))
                assert isinstance(reply, Answer | Refuse)
                if not why:
                    counted.add((reply.round, reply.question, party))
        expected = undisturbed(self.shape, frozenset(counted))
        if not self.timed:
            assert counted == undisturbed(self.shape, None).asked, "an answer does not count"
        for name, home in self.homes.items():
            told = [wire.decode(blobs.get(row.digest)) for row in store.letters(name, 1) if self._frame(row)]
            lessons = letters_of([(one.round, one.payload) for one in told if isinstance(one, Teach)])
            assert lessons == letters_of(expected.lessons[name]), f"{name} was taught something else"
            assert home.learned == expected.states[name], f"{name} has learned something else"

    @staticmethod
    def _frame(row: Any) -> bool:
        return read(row.letter).header.kind == "frame"


class Simulator:
    """Runs schedules, one after the other.

    Parameters
    ----------
    folder:
        Empty; a fast one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = Keys()
        self.counts: Counter[str] = Counter()
        self.signer = self.keys.certificate(COORDINATOR, self.keys.coordinator, Role.COORDINATOR)
        self._world = folder / "world"
        self.databases = [engine(f"sqlite:///{self._world / COORDINATOR / 'store.db'}")[0] for _ in range(2)]
        self._templates: dict[Shape, list[tuple[Path, bytes | None]]] = {}

    def lay_out(self, shape: Shape) -> Path:
        """The folders of a world before its first moment: all have joined, nothing has been said."""
        if shape not in self._templates:
            folder = self.folder / "template"
            self._make(folder, charter(shape))
            paths = [(path, path.relative_to(folder)) for path in sorted(folder.rglob("*"))]
            self._templates[shape] = [
                (str(name), path.read_bytes() if path.is_file() else None) for path, name in paths
            ]
            shutil.rmtree(folder)
        shutil.rmtree(self._world, ignore_errors=True)
        self._world.mkdir()
        for name, content in self._templates[shape]:
            if content is None:
                (self._world / name).mkdir()
            else:
                (self._world / name).write_bytes(content)
        return self._world

    def _make(self, folder: Path, terms: Charter) -> None:
        parties = terms.terms.parties
        joined = self.folder / f"joined-{len(parties)}"
        if not joined.exists():
            self._join(joined, parties)
        shutil.copytree(joined, folder)
        store = Store.open(f"sqlite:///{folder / COORDINATOR / 'store.db'}")
        convene(store, Blobs(folder / COORDINATOR / "payloads", 2**20), terms, BEGAN)
        store.close()

    def _join(self, folder: Path, parties: Iterable[Party]) -> None:
        (folder / COORDINATOR).mkdir(parents=True)
        store = Store.open(f"sqlite:///{folder / COORDINATOR / 'store.db'}")
        registry = Registry(store, self.keys.authority, lambda: BEGAN)
        for name in parties:
            token = registry.invite(name, Role.PARTICIPANT, 1)
            registry.enrol(token, self.keys.identities[name].request_pem(name))
            (folder / name / "payloads" / "parts").mkdir(parents=True)
            Journal(folder / name / "journal.db", "").close()
        store.close()

    def schedule(self, seed: int) -> Counter[str]:
        """Run a schedule; returns what went wrong in it, and how often."""
        try:
            return self._run(seed)
        except Exception as error:
            again = f"python tests/service/{Path(__file__).name} --first {seed} --schedules 1"
            raise AssertionError(f"schedule {seed} fails; to see it again: {again}") from error

    def _run(self, seed: int | None) -> Counter[str]:
        world = World(self, seed)
        gc.disable()  # it takes long, and little is left over
        try:
            with hooked():
                world.run()
            world.check()
        finally:
            gc.enable()
        world.counts["turns"] = world.loop.turns
        world.counts["starts"] = sum(machine.starts for machine in world.machines)
        world.counts["schedules"] = 1
        return world.counts


class FreeThreads:
    """As many as there are."""

    def __init__(self, most: int) -> None: ...

    def held(self) -> Any:
        return nullcontext()


@contextmanager
def quickened() -> Iterator[None]:
    """Compute once what is the same each time: signatures that fit, and the machine that terms describe."""
    machines: dict[bytes, Coordinator] = {}

    def coordinator_of(terms: Terms, payloads: Mapping[str, bytes]) -> Coordinator:
        key = terms.to_bytes()
        if key not in machines:
            machines[key] = charter_module.coordinator_of(terms, payloads)
        return machines[key]

    with ExitStack() as stack:
        for place, name, what in (
            (Certificate, "verify", cache(Certificate.verify)),
            (desk_module, "coordinator_of", coordinator_of),
            (audit_module, "coordinator_of", coordinator_of),
            (worker_module, "Threads", FreeThreads),  # nothing is computed here
            (clerk_module, "WHILE_S", math.inf),  # by the simulated clock no time passes
        ):
            stack.enter_context(patch.object(place, name, what))
        yield


def fast_folder() -> Path | None:
    """Where files are in memory; None where there is no such place. What is lost is up to `machines.Disk`."""
    fast = Path("/dev/shm")  # noqa: S108 - nothing in it outlives the run
    return fast if fast.is_dir() else None


def told(counts: Counter[str]) -> str:
    """What happened, in a line."""
    each = ", ".join(f"{what}: {count}" for what, count in sorted(counts.items()))
    return f"all came to their end ({each})\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Run schedules of faults.")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--schedules", type=int, default=1000)
    asked = parser.parse_args()
    logging.disable(logging.ERROR)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=fast_folder()) as folder, quickened():
        simulator = Simulator(Path(folder))
        for seed in tqdm(range(asked.first, asked.first + asked.schedules), file=sys.stderr):
            counts += simulator.schedule(seed)
    sys.stdout.write(told(counts))


if __name__ == "__main__":
    main()
