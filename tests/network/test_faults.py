"""Real processes under everything at once: a bad network, kills, freezes, full disks; and nothing comes out otherwise.

A coordinator and three participants are processes, with a faulty TCP proxy between them. At random moments, from a
seed, one of them is killed or frozen, or its disk is full. At the end all models and every teacher must be those of an
undisturbed run on this machine, byte for byte, and the audit must find nothing.

`make faults` runs 200 rounds: python tests/network/test_faults.py --rounds 200
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w
from faulty import Proxy, SmallDisk, small_disk
from federations import NAMES, contents, free_port
from test_processes import Process

from fedstill import config, wire
from fedstill.agent.joining import join
from fedstill.assemble import assemble
from fedstill.messages import Teach
from fedstill.round import Effect, Event, Send
from fedstill.service.consortium import Consortium
from fedstill.service.export import verify
from fedstill.service.founding import found

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
Teachers = dict[str, dict[int, bytes]]
PATIENCE_S = 300
"""Without a fault for so long, everybody has come to the end, or something hangs."""


def describe(folder: Path, rounds: int) -> config.FederationFile:
    """Three participants with a table of points each; a round of them takes a few milliseconds."""
    chance = np.random.default_rng(3)
    for name in (*NAMES, "public"):
        X = chance.normal(size=(60, 2)).round(3)
        y = np.where(X.sum(axis=1) + chance.normal(size=60) / 2 > 0, "yes", "no")
        pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": y}).to_csv(folder / f"{name}.csv", index=False)
    return config.parse(
        {
            "name": "faults",
            "rounds": rounds,
            "quorum": len(NAMES),
            "seed": 5,
            "task": {"kind": "classification", "target": "y", "classes": ["no", "yes"], "columns": ["a", "b"]},
            "transfer": {"file": str(folder / "public.csv"), "items": 40},
            "strategy": {"name": "fedmd"},
            "participants": [{"name": name, **table_of(folder, name)} for name in NAMES],
        }
    )


def table_of(folder: Path, name: str) -> dict[str, Any]:
    """What a participant says of itself when it joins."""
    return {"learner": "linear", "options": {"iterations": 5}, "file": str(folder / f"{name}.csv"), "companions": []}


def undisturbed(file: config.FederationFile, out: Path) -> tuple[Path, Teachers]:
    """Models and teachers of a run on this machine."""
    teachers: Teachers = {name: {} for name in NAMES}

    def observe(seen: Event | Effect) -> None:
        if isinstance(seen, Send) and isinstance(seen.message, Teach):
            teachers[seen.to][seen.message.round] = seen.message.payload

    assemble(file, out).run(out, observe)
    return out / "models", teachers


@dataclass
class Trouble:
    """Starts a federation's processes, and lets things happen to them.

    Attributes
    ----------
    counts:
        What has happened how often.
    """

    folder: Path
    chance: random.Random
    disks: dict[str, SmallDisk]
    counts: Counter[str] = field(default_factory=Counter)
    running: dict[str, Process] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    reached: int = 0

    def start(self, name: str) -> Process:
        """Start the coordinator or a participant."""
        command = ("coordinator", "serve") if name == "coordinator" else ("participant", "run", "--accept")
        self.running[name] = Process(self.folder, *command, name)
        return self.running[name]

    def round(self) -> int:
        """The last round of which a participant has said that it was asked."""
        for name in NAMES:
            lines = list(self.running[name].said)
            found = [int(number) for line in lines for number in re.findall(r"round (\d+): asked", line)]
            self.reached = max([self.reached, *found])
        return self.reached

    def watch(self) -> bool:
        """Start again who has ended before its time; whether all participants are at the end."""
        for name, process in self.running.items():
            code = process.code
            if code == 0 and name != "coordinator":
                self.ended.add(name)
            elif code is not None and name not in self.ended:
                self.counts["starts"] += 1
                self.start(name)
        return self.ended >= set(NAMES)

    def happen(self) -> None:
        """Something goes wrong."""
        name = self.chance.choice([one for one in ("coordinator", "coordinator", *NAMES) if one not in self.ended])
        what = self.chance.choice(("kill", "kill", "freeze", "full"))
        process = self.running[name]
        if what == "kill":
            process.kill()
        elif what == "freeze":
            process.signal(signal.SIGSTOP)
            time.sleep(self.chance.choice((0.1, 1.0, 4.0)))  # over three seconds a coordinator would lose the lead
            process.signal(signal.SIGCONT)
        elif name in self.disks:
            self.disks[name].fill()
            time.sleep(self.chance.uniform(0.2, 3.0))
            self.disks[name].free()
        else:
            return
        self.counts[f"{what} of {'the coordinator' if name == 'coordinator' else 'a participant'}"] += 1

    def end(self) -> None:
        """Nobody is left."""
        for process in self.running.values():
            process.signal(signal.SIGCONT)
            process.kill()


@dataclass
class DatabaseTrouble(Trouble):
    """What happens is that the database server crashes or hangs, and comes back."""

    server: Any = None

    def happen(self) -> None:
        """It is gone for a while."""
        what, seconds = self.chance.choice(("crash", "hang")), self.chance.uniform(0.5, 3)
        if what == "crash":
            self.server.stop()
            time.sleep(seconds)
            self.server.start()
        else:
            processes = family(int((Path(self.server.folder) / "data" / "postmaster.pid").read_text().split()[0]))
            for number in (signal.SIGSTOP, signal.SIGCONT):
                for process in processes:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, number)
                time.sleep(seconds)
        self.counts[f"{what} of the database"] += 1


def family(parent: int) -> list[int]:
    """A process and its children."""
    said = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout  # noqa: S607
    pairs = [tuple(map(int, line.split())) for line in said.splitlines()]
    return [parent, *(pid for pid, above in pairs if above == parent)]


def prepare(folder: Path, file: config.FederationFile, trouble: Trouble, database: str = "") -> int:
    """Found the consortium, start its coordinator and let everybody join; returns the coordinator's port."""
    port = free_port()
    found(folder / "coordinator", file, folder, f"https://127.0.0.1:{port}", database).close()
    trouble.start("coordinator").until("is served at")
    consortium = Consortium(folder / "coordinator")
    for name in NAMES:
        asyncio.run(join(consortium.invite(name, 1), folder / name, table_of(folder, name)))
    consortium.close()
    return port


def go_through(folder: Path, name: str, port: int) -> None:
    """Let a participant take another way to its coordinator."""
    path = folder / name / "participant.toml"
    settings = tomllib.loads(path.read_text(encoding="utf-8"))
    path.write_text(tomli_w.dumps({**settings, "address": f"https://127.0.0.1:{port}"}), encoding="utf-8")


def check(folder: Path, expected: tuple[Path, Teachers]) -> None:
    """All is as it would have been."""
    models, teachers = expected
    for name in NAMES:
        assert contents(folder / name / "models" / "1") == contents(models / name)
    consortium = Consortium(folder / "coordinator")
    for name in NAMES:
        last = consortium.store.last_number(name, 1)
        rows = consortium.store.letters(name, 1, limit=last)
        told = [consortium.blobs.get(row.digest) for row in rows]
        taught = [wire.decode(payload) for payload in told if payload.startswith(b"FSm1")]
        assert {one.round: one.payload for one in taught if isinstance(one, Teach)} == teachers[name]
    consortium.close()
    assert verify(folder / "coordinator").faults == ()


def survive(folder: Path, rounds: int, seed: int, faults: int) -> Counter[str]:
    """Run a federation in which so many things go wrong besides the network, and check what came of it."""
    with contextlib.ExitStack() as stack:
        disks = {name: stack.enter_context(small_disk(folder / name)) for name in ("coordinator", NAMES[0])}
        chance = random.Random(seed)  # noqa: S311 - moments, not secrets
        trouble = Trouble(folder, chance, {name: disk for name, disk in disks.items() if disk is not None})
        return go_on(trouble, rounds, faults, seed)


def go_on(trouble: Trouble, rounds: int, faults: int, seed: int, database: str = "") -> Counter[str]:
    """The same with what may happen in it."""
    folder = trouble.folder
    file = describe(folder, rounds)
    expected = undisturbed(file, folder / "here")
    with contextlib.ExitStack() as stack:
        stack.callback(trouble.end)
        proxy = stack.enter_context(Proxy(prepare(folder, file, trouble, database), seed))
        for name in NAMES:
            go_through(folder, name, proxy.port)
            trouble.start(name)
        wait(trouble, rounds, faults)
    check(folder, expected)
    return trouble.counts + proxy.counts


def wait(trouble: Trouble, rounds: int, faults: int) -> None:
    """Let things happen, spread over all rounds, until everybody is at the end."""
    moments = sorted(trouble.chance.uniform(0, rounds - 1) for _ in range(faults))
    moved, reached = time.monotonic(), 0
    while not trouble.watch():
        if trouble.round() > reached:
            moved, reached = time.monotonic(), trouble.round()
        if moments and reached > moments[0]:
            del moments[0]
            time.sleep(trouble.chance.uniform(0, 0.3))
            trouble.happen()
        if time.monotonic() > moved + PATIENCE_S:
            said = {name: "".join(process.said[-5:]) for name, process in trouble.running.items()}
            raise AssertionError(f"it hangs in round {reached}: {said}")
        time.sleep(0.02)


def test_models_and_teachers_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    counts = survive(tmp_path, rounds=12, seed=2, faults=4)
    assert counts["connections"] > len(NAMES)


def test_a_database_server_that_crashes_and_hangs_is_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    place = Path(__file__).parent.parent / "service" / "conftest.py"
    spec = importlib.util.spec_from_file_location("databases_of_tests", place)
    assert spec is not None
    assert spec.loader is not None
    databases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(databases)
    with tempfile.TemporaryDirectory(prefix="pg") as folder:  # short: a socket's path has about 100 characters
        server = databases.Server(folder)
        try:
            trouble = DatabaseTrouble(tmp_path, random.Random(4), {}, server=server)  # noqa: S311
            counts = go_on(trouble, rounds=6, faults=2, seed=4, database=server.empty())
        finally:
            server.stop()
    assert counts["crash of the database"] + counts["hang of the database"] == 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a federation of real processes in which everything goes wrong.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument(
        "--faults", type=int, default=100, help="of processes and disks; connections break as they come"
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    logging.disable(logging.ERROR)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp())
    counts = survive(folder, asked.rounds, asked.seed, faults=asked.faults)
    shutil.rmtree(folder)
    told = ", ".join(f"{what}: {count}" for what, count in sorted(counts.items()))
    sys.stdout.write(
        f"{asked.rounds} rounds in {time.monotonic() - began:.0f} s ({told}): the same models and teachers\n"
    )


if __name__ == "__main__":
    main()
