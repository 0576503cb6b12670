"""Kill what charges a privacy ledger, and cut its writes short, at 10,000 points; nothing paid for may be missing.

    python benchmarks/ledger_kills.py --kills 1000 --points 9000

Kills are real: a process charges in a loop and says each entry when the charge has returned, which stands for bytes
that leave; it is sent SIGKILL at a random moment. Points are the states of the files that a kill or a power failure
leaves within a charge: before each statement; the write-ahead log written up to any byte, or in any of its sectors; the
main file written in some of its pages. After each, the ledger is opened as usual: every entry that was told has to be
there with its release, the price must be no lower than that of what was told, the chain has to be whole, and a further
charge has to work. Results are written at the end.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing.connection import Connection
from pathlib import Path

import click
import common
from tqdm import tqdm

from fedstill.privacy.durable import SQLiteLedger
from fedstill.privacy.ledger import Entry
from fedstill.privacy.pricing import epsilon
from fedstill.privacy.spending import Budget, Gaussian, Spend, Unit
from fedstill.privacy.verifying import verify

PER_FILE = 50
"""Kills, or charges, after which a new ledger begins: a real one that old is opened as quickly."""
SECTOR = 512
"""Bytes that a disk writes whole or not at all."""


def opened(path: Path) -> SQLiteLedger:
    """The ledger, with a budget that allows everything: the price is looked at afterwards."""
    return SQLiteLedger(path, "plant", Budget(), time.time)


def charge(ledger: SQLiteLedger, number: int) -> Entry:
    """Charge something, now and then with a release of some pages that is kept."""
    key = f"model {number}" if number % 3 == 0 else ""
    spend = Spend(Gaussian(20.0 + number % 5), Unit.DAY, f"a mean of kind {number % 5}")
    return ledger.charge(spend, os.urandom(9000 if key else 40), key)


def flaws(path: Path, told: Sequence[Entry]) -> Counter[str]:
    """What is wrong with a ledger from which these entries were told; opens it, and charges once more."""
    found = Counter[str]()
    with closing(opened(path)) as ledger:
        there = set(ledger.entries())
        found["told and missing"] = len(set(told) - there)
        found["kept and missing"] = sum(ledger.bought(one.key) is None for one in told if one.key)
        least = epsilon([one.spend.event for one in told], ledger.budget.delta)
        found["price too low"] = int(ledger.statement().epsilon < least)
        charge(ledger, 10**6 + len(there))
        found["charges that did not work"] = int(len(ledger.entries()) != len(there) + 1)
    found["faults"] = len(verify(path))
    return +found


# --- real kills ------------------------------------------------------------------------------------------


def killed(path: Path, moment_s: float) -> list[Entry]:
    """Charge in another process until it is killed; returns what it has told."""
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_charge_on, args=(path, its))
    process.start()
    its.close()
    time.sleep(moment_s)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, process.exitcode
    told = []
    with mine:
        while True:
            try:
                told.append(mine.recv())
            except EOFError:  # as well where the last one was not said to its end
                return told


def _charge_on(path: Path, tell: Connection) -> None:
    ledger = opened(path)
    for number in count(len(ledger.entries()) + 1):
        tell.send(charge(ledger, number))


def kill_often(kills: int, chance: random.Random, bar: tqdm[None]) -> Counter[str]:
    """So many real kills, and what was found."""
    found = Counter[str]()
    for done in range(0, kills, PER_FILE):
        with tempfile.TemporaryDirectory() as folder:
            path, told = Path(folder) / "ledger.db", list[Entry]()
            for _ in range(min(PER_FILE, kills - done)):
                told += killed(path, chance.expovariate(1 / 0.05))
                found += flaws(path, told)
                bar.update()
            found["told"] += len(told)
    return found


# --- every point within a charge --------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """The files of a ledger at some moment."""

    main: bytes
    log: bytes

    @classmethod
    def of(cls, path: Path) -> State:
        """Copy them, as they are."""
        log = path.with_name(path.name + "-wal")
        return cls(path.read_bytes(), log.read_bytes() if log.exists() else b"")

    def put(self, path: Path) -> None:
        """Put them where a ledger is to be opened; what processes share besides is gone after a kill."""
        path.write_bytes(self.main)
        path.with_name(path.name + "-wal").write_bytes(self.log)


def states(before: State, within: Sequence[State], after: State, chance: random.Random) -> Iterator[tuple[str, State]]:
    """All kinds of states that a kill or a power failure leaves of a charge, in the order of its writes."""
    yield from (("before a statement", one) for one in within)
    length = len(after.log)
    frame = 24 + 4096
    edges = {edge for at in range(32, length + 1, frame) for edge in (at, at + 24) if edge <= length}
    for stop in sorted(edges | {chance.randrange(length + 1) for _ in range(10)}):
        yield "log up to a byte", State(before.main, after.log[:stop] + before.log[stop:])
    for _ in range(10):
        log = _mixed(before.log, after.log, SECTOR, chance)
        yield "log in some sectors", State(before.main, log)
    for _ in range(10):
        yield "main file in some sectors", State(_mixed(before.main, after.main, SECTOR, chance), after.log)
    yield "after", after


def _mixed(old: bytes, new: bytes, size: int, chance: random.Random) -> bytes:
    """Some pieces of the new content over the old one; a file can be as long as the new one before it is written."""
    old = old.ljust(len(new), b"\0")
    share = chance.random()
    pieces = range(0, len(new), size)
    return b"".join((new if chance.random() < share else old)[at : at + size] for at in pieces) + old[len(new) :]


def cut_often(points: int, chance: random.Random, bar: tqdm[None]) -> Counter[str]:
    """So many states, and what was found."""
    found = Counter[str]()
    for kind, state, told in islice(_moments(chance), points):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.db"
            state.put(path)
            found += flaws(path, told)
            found[kind] += 1
            bar.update()
    return found


def _moments(chance: random.Random) -> Iterator[tuple[str, State, list[Entry]]]:
    """States without end, each with what was told before it."""
    while True:
        with tempfile.TemporaryDirectory() as folder:
            path, told = Path(folder) / "ledger.db", list[Entry]()
            with closing(opened(path)) as ledger:
                for number in range(1, PER_FILE + 1):
                    before = State.of(path)
                    within, entry = _watched(ledger, path, number)
                    for kind, state in states(before, within, State.of(path), chance):
                        # The main file is written when the log is on the disk: the charge is for good by then.
                        paid = kind in ("main file in some sectors", "after")
                        yield kind, state, [*told, entry] if paid else list(told)
                    told.append(entry)


def _watched(ledger: SQLiteLedger, path: Path, number: int) -> tuple[list[State], Entry]:
    """Charge, and copy the files before each statement."""
    within: list[State] = []
    ledger._connection.set_trace_callback(lambda _: within.append(State.of(path)))
    entry = charge(ledger, number)
    ledger._connection.set_trace_callback(None)
    return within, entry


@click.command()
@click.option("--kills", type=click.IntRange(0), default=1000, show_default=True)
@click.option("--points", type=click.IntRange(0), default=9000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--quick", is_flag=True, help="Ten kills, a hundred points.")
@common.out_option
def main(kills: int, points: int, seed: int, quick: bool, out: Path) -> None:
    """Kill, cut, and keep what was found as JSON."""
    kills, points = (10, 100) if quick else (kills, points)
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    began = time.perf_counter()
    with tqdm(total=kills + points, file=sys.stderr) as bar:
        found = {"kills": kill_often(kills, chance, bar), "points": cut_often(points, chance, bar)}
    wrong = ("told and missing", "kept and missing", "price too low", "charges that did not work", "faults")
    measured = [{"way": way, **{name: told[name] for name in wrong}, **told} for way, told in found.items()]
    written = out / f"ledger-kills{'-quick' if quick else ''}.json"
    setting = {"kills": kills, "points": points, "seed": seed, "seconds": round(time.perf_counter() - began)}
    common.keep(written, setting, {}, measured)
    for one in measured:
        print(one)
    print(f"written: {written}")


if __name__ == "__main__":
    main()
