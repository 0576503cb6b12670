"""Machines for a simulation: a clock that jumps, processes that can be killed at any write, disks that fail.

Everything runs in one thread on one event loop. Whoever works is known by a context variable, which every task hands on
to those it starts; so `open`, `fsync`, `rename` and every statement of SQLite can ask whose they are (`hooked`):

* a process whose *fuse* has burned down is killed there, between any two writes, and does nothing ever after;
* its disk may be full, or its database out of reach, also in the middle of a transaction; where a commit fails, it may
  have happened all the same;
* after a power failure, of files and names only what was synchronised is certain to be there.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import sqlite3
import stat
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

CONNECT, FSYNC, REPLACE, OPEN = sqlite3.connect, os.fsync, os.replace, os.open
MOST_TURNS = 200_000
WRITES = ("INSERT", "UPDATE", "DELETE")


class Killed(BaseException):
    """The process is gone, wherever it was."""


class Hung(AssertionError):  # noqa: N818 - says what happened
    """Nobody will ever do anything again."""


class Loop(asyncio.BaseEventLoop):
    """An event loop whose time passes only while nobody has anything to do; what goes to threads is done at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.turns = 0
        self._selector = self
        self.set_task_factory(self._started)

    def time(self) -> float:
        """Simulated seconds."""
        return self.seconds

    def select(self, timeout: float | None) -> tuple[()]:
        """Wait: the clock jumps."""
        if timeout is None:
            raise Hung("everybody waits, and nothing will come")
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise Hung("somebody is busy, and nothing comes of it")
        self.seconds += timeout
        return ()

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Do it now, or when the process that asks is no longer frozen."""
        del executor
        done = self.create_future()

        def work() -> None:
            try:
                result = function(*arguments)
            except BaseException as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        _awake(work)
        return done

    @staticmethod
    def _started(loop: Any, coroutine: Any, **named: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **named)
        process = PROCESS.get()
        if process is not None:
            process.tasks.add(task)
        return task

    def _process_events(self, events: Any) -> None: ...

    def _write_to_self(self) -> None: ...


class Thread(Executor):
    """A thread of a process, whose work is done in the loop's own: now, or after as long as a slow disk takes."""

    def __init__(self, *, slow: bool = False) -> None:
        self._slow = slow

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        process = PROCESS.get()
        delay_s = process.disk.slowness() if process is not None and self._slow else 0.0

        def work() -> None:
            try:
                done.set_result(function(*arguments, **named))
            except BaseException as error:
                done.set_exception(error)

        if delay_s and process is not None:
            process.loop.call_later(delay_s, _awake, work)
        else:
            _awake(work)
        return done


def _awake(work: Callable[[], None]) -> None:
    """Work, once the process is not frozen; never, where it is gone."""
    process = PROCESS.get()
    if process is None or process.frozen is None:
        work()
    else:
        process.frozen.add_done_callback(lambda _: process.dead or work())


class Disk:
    """The disk of a machine, with the database that it reaches.

    Parameters
    ----------
    chance:
        Decides what is left to chance.
    payloads:
        The folder whose files and names a power failure takes back.
    """

    def __init__(self, chance: random.Random, payloads: Path) -> None:
        self.chance = chance
        self.payloads = payloads
        self.full = self.gone = False
        self.slow = 0.0
        self._synced: dict[int, int] = {}
        self._names: dict[int, dict[str, int]] = {}
        for folder in self._folders():
            self._names[folder.stat().st_ino] = {one.name: one.inode() for one in os.scandir(folder)}
            self._synced |= {one.stat().st_ino: one.stat().st_size for one in os.scandir(folder) if one.is_file()}

    def slowness(self) -> float:
        """Seconds until whoever asked for something hears that it is done."""
        return self.chance.expovariate(1 / self.slow) if self.slow else 0.0

    def room(self) -> None:
        """Raises OSError where there is none."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def synced(self, descriptor: int) -> None:
        """What this names will be there after a power failure."""
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self._names[found.st_ino] = {one.name: one.inode() for one in os.scandir(descriptor)}
        else:
            self._synced[found.st_ino] = found.st_size

    def lose_power(self) -> None:
        """Files that were not synchronised lose some of their end, or all; names may be gone."""
        for folder in self._folders():
            names = self._names.get(folder.stat().st_ino, {})
            for one in list(os.scandir(folder)):
                if not one.is_file():
                    continue
                if names.get(one.name) != one.inode() and self.chance.random() < 0.5:
                    Path(one.path).unlink()
                    continue
                kept, size = self._synced.get(one.inode(), 0), one.stat().st_size
                if kept < size:
                    os.truncate(one.path, self.chance.randint(kept, size - 1))

    def _folders(self) -> list[Path]:
        return [folder for folder in (self.payloads, self.payloads / "parts") if folder.is_dir()]


class Process:
    """A process on a machine: `spawn` starts tasks in it, and whatever these start belongs to it.

    Attributes
    ----------
    fuse:
        How many more writes it lives; None: as long as it likes. `power`: whether the machine goes down with it.
    blow:
        How many more writes its disk works as it should, and what then fails: "full" or "gone".
    """

    def __init__(self, loop: Loop, disk: Disk, killed: Callable[[], None] = lambda: None) -> None:
        self.loop = loop
        self.disk = disk
        self.dead = False
        self.fuse: int | None = None
        self.power = False
        self.blow: tuple[int, str] | None = None
        self.frozen: asyncio.Future[None] | None = None
        self.tasks: set[asyncio.Task[Any]] = set()
        self.connections: list[sqlite3.Connection] = []
        self._killed = killed

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task."""
        context = copy_context()
        context.run(PROCESS.set, self)
        return context.run(lambda: self.loop.create_task(coroutine, context=context))

    def kill(self) -> None:
        """It is gone without a word: its tasks stop, its transactions are taken back."""
        if self.dead:
            return
        self.dead = True
        self.thaw()
        for task in self.tasks:
            task.cancel()
        for connection in self.connections:
            with suppress(sqlite3.Error):
                connection.close()
        if self.power:
            self.disk.lose_power()
        self._killed()

    def freeze(self) -> None:
        """SIGSTOP."""
        if not self.dead and self.frozen is None:
            self.frozen = self.loop.create_future()

    def thaw(self) -> None:
        """SIGCONT."""
        frozen, self.frozen = self.frozen, None
        if frozen is not None:
            frozen.set_result(None)

    async def awake(self) -> None:
        """Go on once it is not frozen."""
        while self.frozen is not None:
            await asyncio.shield(self.frozen)

    def reach(self, writes: bool = True) -> None:
        """Come to a place where it may be killed, or its disk may begin to fail. Raises Killed."""
        if self.dead:
            raise Killed
        if not writes:
            return
        if self.blow is not None:
            left, what = self.blow
            self.blow = (left - 1, what) if left else None
            if not left:
                setattr(self.disk, what, True)
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.kill()
                raise Killed


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


def _before(statement: str) -> Process | None:
    """What may happen before a statement is carried out."""
    process = PROCESS.get()
    if process is None:
        return None
    verb = statement[:6].upper()
    writes = verb in WRITES or verb == "COMMIT"
    process.reach(writes)
    if verb in ("ROLLBA", "PRAGMA"):
        return process
    if writes and process.disk.full:
        raise sqlite3.OperationalError("database or disk is full")
    if process.disk.gone and verb != "COMMIT":
        raise sqlite3.OperationalError("disk I/O error")
    return process


def _after(process: Process | None, verb: str = "") -> None:
    if process is None:
        return
    if verb == "COMMIT":
        process.reach()
        if process.disk.gone:
            raise sqlite3.OperationalError("the connection is lost; whether it was written nobody knows")


class Cursor(sqlite3.Cursor):
    """Of `Connection`."""

    def execute(self, statement: str, *rest: Any) -> Any:
        process = _before(statement)
        found = super().execute(statement, *rest)
        _after(process)
        return found


class Connection(sqlite3.Connection):
    """A connection whose statements can fail, or be the last of their process."""

    def cursor(self, factory: Any = Cursor) -> Any:
        process = PROCESS.get()
        if process is not None:
            process.reach(writes=False)
        return super().cursor(factory)

    def execute(self, statement: str, *rest: Any) -> Any:
        if statement == "COMMIT":
            return self.commit()
        process = _before(statement)
        found = super().execute(statement, *rest)
        _after(process)
        return found

    def commit(self) -> None:
        process = _before("COMMIT")
        if process is not None and process.disk.gone and process.disk.chance.random() < 0.5:
            raise sqlite3.OperationalError("the connection is lost; whether it was written nobody knows")
        super().commit()
        _after(process, "COMMIT")


@contextmanager
def hooked() -> Iterator[None]:
    """What processes do to disks goes through here; whatever else this interpreter does is as ever."""

    def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
        process = PROCESS.get()
        if process is None:
            return CONNECT(*arguments, **named)
        if process.disk.gone:
            raise sqlite3.OperationalError("unable to open database file")
        connection = CONNECT(*arguments, factory=Connection, **named)
        process.connections.append(connection)
        return connection

    def fsync(descriptor: int) -> None:
        process = PROCESS.get()
        if process is None:
            return
        process.reach()
        process.disk.room()
        process.disk.synced(descriptor)
        process.reach()

    def replace(source: Any, target: Any, **named: Any) -> None:
        process = PROCESS.get()
        if process is not None:
            process.reach()
        REPLACE(source, target, **named)
        if process is not None:
            process.reach()

    def open_(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        process = PROCESS.get()
        if process is not None and flags & os.O_CREAT:
            process.reach()
            process.disk.room()
        return OPEN(path, flags, *rest, **named)

    places = [(sqlite3, "connect"), (sqlite3.dbapi2, "connect"), (os, "fsync"), (os, "replace"), (os, "open")]
    try:
        for (module, name), function in zip(places, (connect, connect, fsync, replace, open_), strict=True):
            setattr(module, name, function)
        yield
    finally:
        for (module, name), function in zip(places, (CONNECT, CONNECT, FSYNC, REPLACE, OPEN), strict=True):
            setattr(module, name, function)
