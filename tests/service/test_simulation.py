"""Thousands of fault schedules, each from a seed: `simulation.py` says what happens in one, and what must hold."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import simulation
from mishaps import KINDS
from simulation import Simulator

from fedstill.agent.worker import Worker
from fedstill.participant import Participant
from fedstill.service.desk import Desk
from fedstill.service.progress import Progress
from fedstill.service.store.store import Store

SCHEDULES = 3000
PARTS = 24
CAUGHT_WITHIN = 150
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files that are open cannot be deleted there")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    logging.disable(logging.ERROR)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=simulation.fast_folder()))
        stack.enter_context(simulation.quickened())
        yield Simulator(Path(folder))
    logging.disable(logging.NOTSET)


def run(simulator: Simulator, seeds: range) -> Counter[str]:
    """What went wrong in all of them, and how often."""
    return sum((simulator.schedule(seed) for seed in seeds), Counter())


@pytest.mark.parametrize("part", range(PARTS))
def test_every_schedule_of_faults_comes_to_its_end(simulator: Simulator, part: int) -> None:
    counts = run(simulator, range(part, SCHEDULES, PARTS))
    assert [kind for kind in KINDS if kind != "days" and not counts[kind]] == []  # all faults do happen
    assert counts["starts"] > 3 * counts["schedules"]


def test_a_schedule_is_the_same_each_time(simulator: Simulator) -> None:
    """Also in another process, in which sets have another order: a seed is all that it takes to see a failure again."""
    command = [sys.executable, simulation.__file__, "--first", "7", "--schedules", "3"]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100).stdout
    counts = run(simulator, range(7, 10))
    assert counts == run(simulator, range(7, 10))
    assert said == simulation.told(counts)


def test_a_participant_that_forgets_is_found(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation itself: who starts again without its last teacher says something else, and that shows."""
    monkeypatch.setattr(Worker, "_remember", lambda self, past: None)
    with pytest.raises(AssertionError, match="to see it again"):
        run(simulator, range(CAUGHT_WITHIN))


def test_a_participant_that_answers_anew_is_found(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once more, it trains once more, and no two of its models are alike."""
    handle = Participant.handle

    def anew(self, message):
        self._replies.clear()
        return handle(self, message)

    monkeypatch.setattr(Participant, "handle", anew)
    with pytest.raises(AssertionError, match="to see it again"):
        run(simulator, range(4 * CAUGHT_WITHIN))


def test_a_coordinator_that_forgets_is_found(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a desk that does not look at the letters it has taken before."""
    monkeypatch.setattr(Desk, "_replayed", lambda self: Progress(self._coordinator.start()))
    with pytest.raises(AssertionError, match="to see it again"):
        run(simulator, range(CAUGHT_WITHIN))


def test_a_coordinator_that_writes_though_another_leads_is_found(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "_check", lambda self, lease: None)
    with pytest.raises(AssertionError, match="to see it again"):
        run(simulator, range(4 * CAUGHT_WITHIN))


def test_payloads_that_a_power_failure_takes_are_found(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machines.Disk.synced", lambda self, descriptor: None)
    with pytest.raises(AssertionError, match="to see it again"):
        run(simulator, range(CAUGHT_WITHIN))
