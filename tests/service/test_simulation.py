"""Thousands of fault schedules, each from a seed: `simulation.py` says what happens in one, and what must hold."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulation import Simulator

from fedstill.agent.worker import Worker
from fedstill.service.desk import Desk
from fedstill.service.progress import Progress

SCHEDULES = 400


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    logging.disable(logging.WARNING)
    yield Simulator(tmp_path_factory.mktemp("schedules"))
    logging.disable(logging.NOTSET)


def run(simulator: Simulator, seeds: range) -> list[int]:
    """Starts and kills in each schedule."""
    return [simulator.schedule(seed) for seed in seeds]


@pytest.mark.parametrize("part", range(8))
def test_every_schedule_of_faults_comes_to_its_end(simulator: Simulator, part: int) -> None:
    kills = run(simulator, range(part, SCHEDULES, 8))
    assert sum(kills) > len(kills)  # faults do happen


def test_a_schedule_is_the_same_each_time(simulator: Simulator) -> None:
    assert simulator.schedule(7) == simulator.schedule(7)


def test_a_participant_that_forgets_is_found(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation itself: who starts again without its last teacher says something else, and that shows."""
    monkeypatch.setattr(Worker, "_remember", lambda self, past: None)
    with pytest.raises(AssertionError, match="to see it again"):
        run(simulator, range(40))


def test_a_coordinator_that_forgets_is_found(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a desk that does not look at the letters it has taken before."""
    monkeypatch.setattr(Desk, "_replayed", lambda self: Progress(self._coordinator.start()))
    with pytest.raises(AssertionError, match="to see it again"):
        run(simulator, range(40))


def test_the_folder_is_left_empty(simulator: Simulator) -> None:
    assert [path.name for path in Path(simulator.folder).iterdir() if path.is_dir()] == []
