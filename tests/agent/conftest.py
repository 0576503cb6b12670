"""Fakes of the simulated federation serve here, too."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "service"))

from offices import Office


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder for tests that write a lot: in memory, where there is a disk of it."""
    disk = Path("/dev/shm")  # noqa: S108 - nothing in it outlives the tests
    with tempfile.TemporaryDirectory(dir=disk if disk.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def open_office(memory: Path) -> Callable[[], Office]:
    """Opens one office after the other."""
    return lambda: Office(Path(tempfile.mkdtemp(dir=memory)))
