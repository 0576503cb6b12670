"""Both ledgers keep the contract, and the durable one more: over restarts, data sets, processes and damage."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from fedstill.errors import BudgetSpent, DataError
from fedstill.privacy import verifying
from fedstill.privacy.durable import SQLiteLedger, entries_in, reading
from fedstill.privacy.ledger import MemoryLedger
from fedstill.privacy.pricing import epsilon
from fedstill.privacy.spending import Budget, Gaussian
from fedstill.privacy.verifying import overdrawn, verify
from fedstill.testing.ledgers import FREE, NOISY, OPEN, TRAINED, LedgerContract


class TestMemoryLedger(LedgerContract):
    def make(self, budget, clock, folder):
        return MemoryLedger(budget, clock)


class TestSQLiteLedger(LedgerContract):
    def make(self, budget, clock, folder):
        return SQLiteLedger(folder / "ledger.db", "plant", budget, clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def opened(path: Path, data_set: str = "plant", budget: Budget | None = None, run: str = "") -> SQLiteLedger:
    return SQLiteLedger(path, data_set, budget or Budget(), lambda: 1.5, run)


def change(path: Path, statement: str) -> None:
    """What a forger or a bad disk does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def test_what_was_charged_is_there_after_a_restart_and_goes_on(path):
    with closing(opened(path, run="first")) as first:
        first.charge(OPEN, b"one", "model")
    with closing(opened(path, run="second")) as second:
        assert second.bought("model") == b"one"
        second.charge(FREE, b"two")
        assert [(entry.number, entry.run) for entry in second.entries()] == [(1, "first"), (2, "second")]
    assert verify(path) == []


def test_data_sets_of_one_file_have_their_own_budgets_and_keys_and_one_chain(path):
    pytest.importorskip("dp_accounting")
    one, other = opened(path, "one", Budget(0.4)), opened(path, "other", Budget(0.4))
    one.charge(NOISY, b"one", "model")
    with pytest.raises(BudgetSpent):
        one.charge(NOISY, b"more")
    assert (other.bought("model"), other.covers(one.entries()[0].digest)) == (None, False)
    assert other.charge(NOISY, b"other", "model").number == 2
    assert other.entries()[0].previous == one.entries()[0].hash
    with reading(path) as connection:
        assert entries_in(connection) == one.entries() + other.entries()
    assert verify(path) == []


def test_a_budget_that_changes_is_seen_in_the_entries(path):
    pytest.importorskip("dp_accounting")
    opened(path).charge(NOISY, b"")
    less = opened(path, budget=Budget(0.1))
    with pytest.raises(BudgetSpent, match=r"of epsilon 0.1 for each day 0.3\d+ is spent"):
        less.charge(NOISY, b"")
    less.charge(FREE, b"")
    more = opened(path, budget=Budget(1.0, 1e-6))
    more.charge(NOISY, b"")
    budgets = [entry.budget for entry in more.entries()]
    assert budgets == [Budget(), Budget(0.1), Budget(1.0, 1e-6)]
    assert verify(path) == []


def test_a_copy_of_the_file_alone_knows_all_that_was_charged(path, tmp_path):
    ledger = opened(path)
    for number in range(3):
        ledger.charge(OPEN, bytes([number]))
        copy = tmp_path / f"copy{number}.db"
        copy.write_bytes(path.read_bytes())
        with reading(copy) as connection:
            assert entries_in(connection) == ledger.entries()


def test_a_thread_sees_no_entry_that_is_not_on_the_disk(path):
    """By the same connection SQLite would show it what another thread has not committed yet."""
    seen = []

    def clock() -> float:  # asked within the transaction
        watcher.start()
        watcher.join(0.1)
        return 1.0

    ledger = SQLiteLedger(path, "plant", Budget(), clock)
    watcher = Thread(target=lambda: seen.append(len(ledger.entries())))
    ledger.charge(OPEN, b"")
    watcher.join()
    assert seen == [1]


def test_what_was_charged_is_flushed(path):
    ledger = opened(path)
    ledger.charge(OPEN, b"")
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_a_reader_makes_no_file_and_leaves_none(path, tmp_path):
    opened(path).charge(OPEN, b"")
    before = sorted(tmp_path.iterdir())
    with reading(path) as connection:
        assert len(entries_in(connection)) == 1
        opened(path).charge(OPEN, b"")  # while it is read
        assert len(entries_in(connection)) == 1
    assert len(opened(path).entries()) == 2
    assert sorted(tmp_path.iterdir()) == before


def test_a_charge_that_fails_on_its_way_leaves_nothing_and_the_ledger_goes_on(path):
    def clock() -> float:
        if broken:
            raise RuntimeError("no clock")
        return 1.0

    broken = True
    ledger = SQLiteLedger(path, "plant", Budget(), clock)
    with pytest.raises(RuntimeError):
        ledger.charge(OPEN, b"one", "model")
    broken = False
    assert (ledger.entries(), ledger.bought("model")) == ([], None)
    ledger.charge(OPEN, b"one", "model")
    assert ledger.bought("model") == b"one"


DAMAGE = {
    "UPDATE entries SET what = 'nothing at all' WHERE number = 2": ["entry 2 is not what was written"],
    """UPDATE entries SET event = '{"type":"nothing"}' WHERE number = 1""": ["entry 1 is not what was written"],
    "UPDATE entries SET budget_epsilon = 9 WHERE number = 3": [
        *("entry 3 is not what was written", "entry 3 is beyond the budget of its time, epsilon 9")
    ],
    "UPDATE entries SET at = 2 WHERE number = 3": ["entry 3 is not what was written"],
    "DELETE FROM entries WHERE number = 1": ["what was before entry 2 is missing"],
    "UPDATE entries SET hash = previous WHERE number = 1": [
        *("entry 1 is not what was written", "entry 2 is not what was written")
    ],
    "UPDATE releases SET release = x'00'": ["the release that is kept with entry 2 is not the one that was paid for"],
    "DELETE FROM releases": ["the release that is kept with entry 2 is not the one that was paid for"],
    "INSERT INTO releases VALUES (3, x'00')": [
        "the release that is kept with entry 3 is not the one that was paid for"
    ],
}


@pytest.mark.parametrize("statement", DAMAGE)
def test_damage_is_found_and_named(path, statement):
    with closing(opened(path)) as ledger:
        for key in ("", "model", ""):
            ledger.charge(OPEN, b"one", key)
    assert verify(path) == []
    change(path, statement)
    assert verify(path) == DAMAGE[statement]


def test_an_entry_that_no_budget_paid_for_is_found(path):
    """As if somebody had written it with another program, hash and all."""
    pytest.importorskip("dp_accounting")
    with closing(opened(path, budget=Budget(0.6))) as ledger:
        for spend in (NOISY, NOISY, FREE):  # 0.34, 0.49
            ledger.charge(spend, b"")
        ledger.budget = Budget()
        ledger.charge(NOISY, b"")  # 0.60
        ledger.budget = Budget(0.3)
        ledger.charge(FREE, b"")
    assert verify(path) == []
    with reading(path) as connection:
        entries = entries_in(connection)
    forged = replace(entries[3], budget=Budget(0.55))
    assert list(overdrawn([*entries[:3], forged])) == ["entry 4 is beyond the budget of its time, epsilon 0.55"]
    early = [replace(entry, budget=Budget(0.4)) for entry in entries]
    assert list(overdrawn(early)) == ["entry 2 is beyond the budget of its time, epsilon 0.4"]


def test_a_price_above_another_bound_of_it_is_found(monkeypatch):
    ledger = MemoryLedger(Budget(), lambda: 1.0)
    ledger.charge(NOISY, b"")
    monkeypatch.setattr(verifying, "epsilon", lambda events, delta: 2.0)
    monkeypatch.setattr(verifying, "epsilon_rdp", lambda events, delta: 1.0)
    (fault,) = overdrawn(ledger.entries())
    assert fault == "up to entry 1 the price, 2, is above another bound of it, 1"


def test_a_release_that_is_damaged_is_not_given_out(path):
    ledger = opened(path)
    ledger.charge(OPEN, b"one", "model")
    change(path, "UPDATE releases SET release = x'00'")
    with pytest.raises(DataError, match="the release 'model' is damaged"):
        ledger.bought("model")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("event", "'{}'", "how cannot be read"),
        ("event", """'{"type":"gaussian","multiplier":-1}'""", "multiplier has to be a number from"),
        ("event", """'{"type":"later"}'""", "Invalid value 'later'"),
        ("unit", "'week'", "'week' is not a valid Unit"),
        ("budget_delta", "7", "entry 1 says: delta has to be between 0 and 1"),
        ("what", "CAST(x'ff' AS TEXT)", "Could not decode to UTF-8"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_a_remedy(path, column, value, said):
    with closing(opened(path)) as ledger:
        ledger.charge(OPEN, b"")
    change(path, f"UPDATE entries SET {column} = {value}")  # noqa: S608
    with pytest.raises(DataError, match=said), reading(path) as connection:
        entries_in(connection)
    with pytest.raises(DataError, match="without it nothing may leave"):
        opened(path).entries()


def test_what_is_no_ledger(path, tmp_path):
    path.write_bytes(b"something else " * 100)
    with pytest.raises(DataError, match="ledger cannot be used: file is not a database"):
        opened(path)
    for name, said in (("ledger.db", "not a database"), ("none.db", "there is no ledger"), ("", "there is no ledger")):
        with pytest.raises(DataError, match=said), reading(tmp_path / name) as connection:
            entries_in(connection)
    assert [one.name for one in tmp_path.iterdir()] == ["ledger.db"]


def test_ten_thousand_entries_are_priced_at_once(path):
    """And a further one is charged in no time, too."""
    pytest.importorskip("dp_accounting")
    ledger = opened(path, budget=Budget(5.0))
    ledger._connection.execute("PRAGMA synchronous=OFF")
    for _ in range(50):
        ledger.charge(NOISY, b"")
    change(
        path,
        """WITH RECURSIVE n(i) AS (SELECT 51 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
        INSERT INTO entries SELECT i, 1.0, 'plant', '', '{"type":"nothing"}', 'day', 'free', '', '', 5.0, 1e-5, 'day',
        '', '' FROM n""",
    )
    began = time.perf_counter()
    told = ledger.statement()
    ledger.charge(TRAINED, b"")
    assert time.perf_counter() - began < 5  # 0.1 s on a machine that has nothing else to do
    assert told.entries == 10_000
    assert told.epsilon == pytest.approx(epsilon([Gaussian(10.0, 50)], 1e-5))
