"""Where the processes of a simulation run: participants' homes, and seats of coordinators.

A process is started again whenever it ends before its time, as by systemd, on whatever it has left on its disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrier import Carrier
from machines import Disk, Process, Thread
from parties import BEGAN, FakeAgreement, FakeMember

from fedstill.agent.journal import Journal
from fedstill.agent.loop import Patience, work
from fedstill.agent.worker import Contract, Worker
from fedstill.errors import FedstillError, LinkDown, LinkRefused
from fedstill.labels import Party
from fedstill.privacy.durable import SQLiteLedger
from fedstill.privacy.spending import Budget
from fedstill.round import Phase
from fedstill.service.callers import Caller
from fedstill.service.clerk import Bell, Clerk
from fedstill.service.desk import Desk
from fedstill.service.limits import Limits
from fedstill.service.mqtt.office import Office
from fedstill.service.registry import Registry
from fedstill.service.store.blobs import Blobs
from fedstill.service.store.databases import StoreError
from fedstill.service.store.store import Store
from fedstill.transports.letters import COORDINATOR
from fedstill.transports.mqtt.frames import Verdict
from fedstill.transports.roles import Role

if TYPE_CHECKING:
    from simulation import World

STALE_S = 45.0
LONGEST_S = 300.0
"""Between two looks at the clock, where nothing happens."""
FOREVER_S = 1e9


class Machine:
    """Where a process runs, and is started again whenever it ends before its time."""

    def __init__(self, world: World, name: str, disk: Disk) -> None:
        self.world = world
        self.name = name
        self.disk = disk
        self.skew_s = 0.0
        self.away_s = 1.0
        self.finished = False
        self.process: Process | None = None
        self.starts = 0

    def clock(self) -> float:
        """Unix seconds, as this machine has them."""
        return BEGAN + self.world.loop.time() + self.skew_s

    def start(self) -> None:
        """Start its process."""
        self.starts += 1
        self.process = process = Process(self.world.loop, self.disk, self._gone)
        process.spawn(self._main(process))

    def mended(self) -> None:
        """Its disk works."""
        self.disk.full = self.disk.gone = False
        self.disk.slow = 0.0
        if self.process is not None:
            self.process.blow = None

    async def work(self) -> None:
        """What its process does."""
        raise NotImplementedError

    async def _main(self, process: Process) -> None:
        try:
            await self.work()
            self.finished = True
        except LinkRefused as error:
            self.world.broken.append(error)  # nobody here did anything for which it may be sent away
        except (FedstillError, OSError):
            pass  # it says what is wrong and ends; who watches over it starts it again
        except Exception as error:
            self.world.broken.append(error)
        finally:
            process.kill()
            self.world.look()

    def _gone(self) -> None:
        if not self.finished and not self.world.over:
            away_s, self.away_s = self.away_s, 1.0 + 2 * self.away_s if self.away_s < 10 else 5.0
            self.world.loop.call_later(away_s, self.start)


class Home(Machine):
    """A participant's."""

    def __init__(self, world: World, name: str, folder: Path) -> None:
        super().__init__(world, name, Disk(world.chance, folder / "payloads"))
        self.folder = folder
        self.skew_s = world.chance.uniform(-90_000, 90_000)
        self.worker: Worker | None = None
        self.learned = b""

    async def work(self) -> None:
        """As `taking_part` does it."""
        world = self.world
        terms = world.charter
        agreement: Any = FakeAgreement(terms.terms.start == "", world.whim)
        contract = Contract(terms.terms, terms.digest, agreement, world.keys.identities[self.name], world.signer)
        member: Any = FakeMember(self.name)
        journal = Journal(self.folder / "journal.db", terms.digest)
        ledger = SQLiteLedger(self.folder / "ledger.db", self.name, Budget(), self.clock)
        self.worker = Worker(contract, member, journal, ledger, Blobs(self.folder / "payloads", 2**20), self.clock)
        link = Carrier(world, self.name, world.weather[self.name], world.chance)
        patience = Patience(poll_s=1200.0)
        await work(self.worker, link, clock=self.clock, patience=patience)
        participant: Any = self.worker.participant
        self.learned = participant.state


class Seat(Machine):
    """A coordinator's; of several that compete for the lead, one has it."""

    def __init__(self, world: World, name: str, disk: Disk, database: Any) -> None:
        super().__init__(world, name, disk)
        self.database = database
        self.desk: Desk | None = None
        self._office: Office | None = None
        self._quiet_s = 40.0
        self._open: list[asyncio.Future[Any]] = []

    async def work(self) -> None:
        """As `serving` does it."""
        world = self.world
        self._office = None
        self.database.dispose()
        store = Store(self.database, "store.db")
        owner = f"{self.name}:{self.starts}"
        beat, since_s, pause_s = -1.0, 0.0, 5.0
        while True:
            lease = store.lease()
            if lease.beat != beat:
                beat, since_s = lease.beat, world.loop.time()
            silent = world.loop.time() - since_s >= STALE_S or lease.owner.startswith(f"{self.name}:")
            if store.lead(owner, self.clock(), 0.0 if silent else STALE_S):
                break
            pause_s = min(2 * pause_s, LONGEST_S)
            await asyncio.sleep(pause_s)
        registry = Registry(store, world.keys.authority, self.clock)
        bell = Bell()
        blobs = Blobs(world.folder / COORDINATOR / "payloads", 2**20)
        self.desk = desk = Desk(
            store, blobs, store.runs()[-1], world.keys.coordinator, registry, lambda to: self._announce(bell, to)
        )
        clerk = Clerk(desk, world.loop.time)
        clerk._thread, clerk._shelves = Thread(slow=True), Thread()  # type: ignore[assignment]
        self._office = Office(clerk, bell, Limits(), desk)
        while True:
            try:
                await clerk.call(desk.beat)
                await clerk.call(desk.tick)
            except StoreError:
                pass
            await asyncio.sleep(self._pause_s(desk))

    def listens(self) -> bool:
        """Whether somebody answers there, or will."""
        return self._office is not None and self.process is not None and not self.process.dead

    def serve(self, name: Party, body: Any, answer: asyncio.Future[Any]) -> None:
        """Take a request."""
        assert self.process is not None
        self._open.append(answer)
        self.process.spawn(self._serve(self.process, name, body, answer))

    async def _serve(self, process: Process, name: Party, body: Any, answer: asyncio.Future[Any]) -> None:
        assert self._office is not None
        await process.awake()
        caller = Caller(name, Role.PARTICIPANT, self.world.fingerprints[name])
        try:
            said: Any = await self._office.carry_out(caller, body)
        except Exception as fault:
            said = fault
        if isinstance(said, Verdict) and not said.why:
            self.world.observer.acknowledged(body.letter)
        await process.awake()
        if not answer.done():
            answer.set_result(said)

    def _announce(self, bell: Bell, to: Iterable[Party]) -> None:
        self._quiet_s = 40.0
        self.world.observer.announced(to)
        bell.announce(sorted(to))  # the order of a set is another in each process

    def _pause_s(self, desk: Desk) -> float:
        """Looks more and more seldom while nothing happens; so days cost little."""
        self._quiet_s = min(2 * self._quiet_s, LONGEST_S)
        state = desk.progress.state
        closes_s = state.closes_at - self.clock() if state.phase is Phase.OPEN else FOREVER_S
        return min(self._quiet_s, max(closes_s, 1.0))

    def _gone(self) -> None:
        waiting, self._open = self._open, []
        for answer in waiting:
            if not answer.done() and not (self.process is not None and self.process.power):
                answer.set_exception(LinkDown("the connection broke"))
        super()._gone()
