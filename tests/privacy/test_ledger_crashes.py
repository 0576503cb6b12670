"""Kills, power failures and competing processes: nothing that was told is missing, and no budget is overdrawn."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fedstill.privacy.durable import SQLiteLedger, entries_in, reading
from fedstill.privacy.pricing import epsilon
from fedstill.privacy.spending import Budget, Gaussian
from fedstill.privacy.verifying import verify
from fedstill.testing.ledgers import OPEN

pytest.importorskip("dp_accounting")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def kills(monkeypatch):
    """The benchmark as a module: there it is done thousands of times."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("ledger_kills")


@pytest.mark.skipif(sys.platform == "win32", reason="kills of POSIX")
def test_what_was_told_before_a_kill_is_in_the_ledger(kills, tmp_path):
    """Forty processes that charge, one after the other; each is killed at a random moment."""
    chance, path, told = random.Random(0), tmp_path / "ledger.db", []  # noqa: S311 - moments, not secrets
    for _ in range(40):
        told += kills.killed(path, chance.expovariate(1 / 0.03))
        assert kills.flaws(path, told) == {}
    assert len(told) > 20


def test_what_was_told_is_there_wherever_a_charge_was_cut(kills):
    chance, seen = random.Random(0), set()  # noqa: S311
    for (kind, state, told), folder in zip(kills._moments(chance), map(str, range(200)), strict=False):
        seen.add(kind)
        path = state_in(kills, state, folder)
        assert kills.flaws(path, told) == {}, (kind, folder)
    assert len(seen) == 5


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def state_in(kills, state, folder: str) -> Path:
    Path(folder).mkdir()
    path = Path(folder) / "ledger.db"
    state.put(path)
    return path


def test_the_check_can_fail(kills, tmp_path):
    """An entry that is told before its charge has come to its end is missed."""
    with closing(kills.opened(tmp_path / "ledger.db")) as ledger:
        kept = [kills.charge(ledger, number) for number in (1, 2)]
        before = kills.State.of(tmp_path / "ledger.db")
        lost = kills.charge(ledger, 3)
    assert kills.flaws(state_in(kills, before, "copy"), kept) == {}
    wrong = {"told and missing": 1, "kept and missing": 1, "price too low": 1}
    assert kills.flaws(state_in(kills, before, "another"), [*kept, lost]) == wrong


CHARGE = """
import sys, time
from pathlib import Path
from fedstill.errors import BudgetSpent
from fedstill.privacy.durable import SQLiteLedger
from fedstill.privacy.spending import Budget, Gaussian, Spend, Unit
ledger = SQLiteLedger(Path(sys.argv[1]), "plant", Budget(float(sys.argv[2])), time.time, run=sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
try:
    while True:
        print(ledger.charge(Spend(Gaussian(10.0), Unit.DAY, "a mean"), b"").number, flush=True)
except BudgetSpent:
    pass
"""


def test_processes_that_charge_at_once_take_no_more_than_there_is(tmp_path):
    """The budget pays for exactly 25; whoever comes first gets them."""
    path, most = tmp_path / "ledger.db", 25
    budget = (epsilon([Gaussian(10.0, most)], 1e-5) + epsilon([Gaussian(10.0, most + 1)], 1e-5)) / 2
    command = [sys.executable, "-c", CHARGE, str(path), str(budget)]
    processes = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("first", "second", "third")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    told = [int(line) for process in processes for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(told) == list(range(1, most + 1))
    with reading(path) as connection:
        assert len(entries_in(connection)) == most
    assert verify(path) == []


def test_processes_can_make_the_same_ledger_at_once(tmp_path):
    path = tmp_path / "ledger.db"
    code = CHARGE.replace("Gaussian(10.0)", "Unprotected()").replace(
        "import Budget, Gaussian,", "import Budget, Unprotected,"
    )
    command = [sys.executable, "-c", code, str(path), "1", "any"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = [process.communicate("\n", timeout=60)[0] for process in processes]
    assert said == ["ready\n"] * 6
    with closing(SQLiteLedger(path, "plant", Budget(), lambda: 0.0)) as ledger:
        assert ledger.entries() == []
        ledger.charge(OPEN, b"")
