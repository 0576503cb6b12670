"""A federation of real processes, killed and frozen while it runs, ends with the models of an undisturbed run."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from federations import NAMES, contents, describe, free_port, run_here, table_of, write_data

from fedstill.agent.joining import join
from fedstill.service.consortium import Consortium
from fedstill.service.export import verify
from fedstill.service.founding import found

ROUNDS = 5
PATIENCE_S = 120


class Process:
    """A command whose lines can be waited for."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._run = subprocess.Popen(
            [sys.executable, "-m", "fedstill.cli.main", *arguments],
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._lines: Queue[str | None] = Queue()
        self.said: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, pattern: str) -> None:
        """Wait for a line."""
        while True:
            line = self._lines.get(timeout=PATIENCE_S)
            assert line is not None, f"it ended without saying {pattern}: {''.join(self.said)}"
            if re.search(pattern, line):
                return

    def ends(self) -> int:
        """Wait for its end."""
        return self._run.wait(PATIENCE_S)

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._run.poll()

    def signal(self, number: int) -> None:
        self._run.send_signal(number)

    def kill(self) -> None:
        """Without a word."""
        self._run.kill()
        self._run.wait(PATIENCE_S)

    def _read(self) -> None:
        for line in self._run.stdout or ():
            self.said.append(line)
            self._lines.put(line)
        self._lines.put(None)


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()


def test_killed_and_frozen_processes_end_with_the_same_models(tmp_path: Path, processes: list[Process]) -> None:
    file = describe(write_data(tmp_path), "grouped", ROUNDS)
    expected = run_here(file, tmp_path / "here")
    found(tmp_path / "consortium", file, tmp_path, f"https://127.0.0.1:{free_port()}").close()

    def start(*arguments: str) -> Process:
        processes.append(Process(tmp_path, *arguments))
        return processes[-1]

    def serve() -> Process:
        coordinator = start("coordinator", "serve", "consortium")
        coordinator.until("is served at")
        return coordinator

    def take_part(name: str) -> Process:
        return start("participant", "run", name, "--accept")

    coordinator = serve()
    consortium = Consortium(tmp_path / "consortium")
    for name in NAMES[1:]:
        asyncio.run(join(consortium.invite(name, 1), tmp_path / name, table_of(file, name)))
    beta, gamma = (take_part(name) for name in NAMES[1:])
    asyncio.run(join(consortium.invite(NAMES[0], 1), tmp_path / NAMES[0], table_of(file, NAMES[0])))
    consortium.close()
    alpha = take_part(NAMES[0])

    for process in (alpha, beta, gamma):  # who has never taken part does not wait for its coordinator
        process.until("round 1: asked")
    coordinator.kill()  # perhaps before it has heard the last one, perhaps after
    coordinator = serve()
    beta.until("round 2: asked")
    beta.kill()
    beta = take_part(NAMES[1])
    gamma.until("round 3: asked")
    gamma.signal(signal.SIGSTOP)
    coordinator.kill()
    alpha.kill()
    alpha = take_part(NAMES[0])
    alpha.until("no connection")  # it has taken part before, and waits
    coordinator = serve()
    gamma.signal(signal.SIGCONT)
    for process in (alpha, beta, gamma):
        assert process.ends() == 0, "".join(process.said)
    coordinator.signal(signal.SIGTERM)
    assert coordinator.ends() == 0, "".join(coordinator.said)

    for name in NAMES:
        assert contents(tmp_path / name / "models" / "1") == contents(expected / name)
    assert verify(tmp_path / "consortium").faults == ()


def test_two_coordinators_on_one_database_never_both_lead(tmp_path: Path, processes: list[Process]) -> None:
    file = describe(write_data(tmp_path), "grouped", 1)
    found(tmp_path / "consortium", file, tmp_path, f"https://127.0.0.1:{free_port()}").close()
    first = Process(tmp_path, "coordinator", "serve", "consortium")
    processes.append(first)
    first.until("is served at")
    second = Process(tmp_path, "coordinator", "serve", "consortium")
    processes.append(second)
    second.until("another coordinator leads")
    first.signal(signal.SIGTERM)
    assert first.ends() == 0
    second.until("is served at")
