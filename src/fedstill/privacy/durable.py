"""A ledger in SQLite: for good, and for several processes at once."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

import msgspec

from fedstill.errors import DataError
from fedstill.privacy.ledger import (
    GENESIS,
    Entry,
    Statement,
    check,
    digest_of,
    event_text,
    sealed,
    statement_of,
    taken,
)
from fedstill.privacy.spending import Budget, Event, Spend, Unit
from fedstill.sqlite import faults, opened

FILE = "ledger.db"
"""Its name in a participant's folder."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, data_set TEXT NOT NULL, run TEXT NOT NULL, event TEXT NOT NULL,
    unit TEXT NOT NULL, what TEXT NOT NULL, digest TEXT NOT NULL, key TEXT NOT NULL, budget_epsilon REAL NOT NULL,
    budget_delta REAL NOT NULL, budget_unit TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS entries_keys ON entries (data_set, key) WHERE key <> '';
CREATE INDEX IF NOT EXISTS entries_digests ON entries (data_set, digest);
CREATE TABLE IF NOT EXISTS releases (number INTEGER PRIMARY KEY REFERENCES entries, release BLOB NOT NULL) STRICT;
"""
_COLUMNS = """number, at, data_set, run, event, unit, what, digest, key, budget_epsilon, budget_delta, budget_unit,
    previous, hash"""
_PATIENCE_S = 60.0
"""For another process, which may just compute a price."""
_faults = partial(faults, "ledger", warning="without it nothing may leave")


class SQLiteLedger:
    """The ledger of one data set, in a file that may hold further ones; see `Ledger`.

    Processes and threads can share it: whoever charges holds the file from the check of the budget to the entry, which
    is on the disk before anybody sees it.

    Parameters
    ----------
    path:
        The file; made where there is none.
    data_set:
        A name that stays the same over runs, and over versions of the data.
    budget:
        What may be spent. Another one than last time is the owner's choice: every entry names its own.
    clock:
        Unix seconds.
    run:
        What stands in new entries as their run.

    Raises
    ------
    DataError
        Where the file is no ledger; from all methods where it cannot be read or written, or is damaged.
    """

    def __init__(self, path: Path, data_set: str, budget: Budget, clock: Callable[[], float], run: str = "") -> None:
        self.budget = budget
        self._path = path
        self._data_set, self._run = data_set, run
        self._clock = clock
        self._lock = RLock()  # one thread must not see, by the same connection, what another has not written yet
        with _faults(path):
            # Everything goes to the main file at once, so that a copy of that alone knows what was spent.
            self._connection = opened(path, _SCHEMA, "wal_autocheckpoint=1", patience_s=_PATIENCE_S)

    def afford(self, spend: Spend) -> None:
        """See `Ledger`."""
        check(self.budget, self._spent(), spend)

    def charge(self, spend: Spend, release: bytes, key: str = "") -> Entry:
        """See `Ledger`."""
        self.afford(spend)  # loads what computes prices, and remembers this one, before others have to wait
        with self._held() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                entry = self._charged(connection, spend, release, key)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite has ended it where the disk failed
                    connection.execute("ROLLBACK")
                raise
        return entry

    def bought(self, key: str) -> bytes | None:
        """See `Ledger`."""
        query = "SELECT release, digest FROM releases JOIN entries USING (number) WHERE data_set = ? AND key = ?"
        with self._held() as connection:
            found = connection.execute(query, (self._data_set, key)).fetchone()
        if found is None:
            return None
        if digest_of(found[0]) != found[1]:
            raise DataError(f"the release '{key}' is damaged", where=str(self._path), remedy="Restore the file")
        return bytes(found[0])

    def covers(self, digest: str) -> bool:
        """See `Ledger`."""
        query = "SELECT 1 FROM entries WHERE data_set = ? AND digest = ?"
        with self._held() as connection:
            return connection.execute(query, (self._data_set, digest)).fetchone() is not None

    def entries(self) -> list[Entry]:
        """See `Ledger`."""
        with self._held() as connection:
            return entries_in(connection, self._data_set)

    def statement(self) -> Statement:
        """See `Ledger`."""
        return statement_of(self.budget, self._spent())

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _charged(self, connection: sqlite3.Connection, spend: Spend, release: bytes, key: str) -> Entry:
        self.afford(spend)
        if (
            key
            and connection.execute(
                "SELECT 1 FROM entries WHERE data_set = ? AND key = ?", (self._data_set, key)
            ).fetchone()
        ):
            raise taken(key)
        last = connection.execute("SELECT number, hash FROM entries ORDER BY number DESC LIMIT 1").fetchone()
        number, previous = last or (0, GENESIS)
        place = number + 1, self._clock(), self._data_set, self._run
        entry = sealed(Entry(*place, spend, digest_of(release), key, self.budget, previous))
        row = _row(entry)
        connection.execute(f"INSERT INTO entries VALUES ({', '.join('?' for _ in row)})", row)  # noqa: S608
        if key:
            connection.execute("INSERT INTO releases VALUES (?, ?)", (entry.number, release))
        return entry

    def _spent(self) -> Counter[Spend]:
        query = """SELECT event, unit, what, COUNT(*) FROM entries WHERE data_set = ?
            GROUP BY event, unit, what ORDER BY MIN(number)"""
        with self._held() as connection:
            rows = connection.execute(query, (self._data_set,)).fetchall()
            return Counter({_spend(event, unit, what): count for event, unit, what, count in rows})

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _faults(self._path):
            yield self._connection


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Read a ledger as it is at one moment, also while it is written; makes no file.

    Raises
    ------
    DataError
        Where there is no ledger, or it cannot be read; also from within.
    """
    if not path.is_file():
        raise DataError(
            "there is no ledger", where=str(path), remedy="Nothing was paid for here yet, or look elsewhere"
        )
    with _faults(path):
        # Not "ro": what a killed process has left behind could not be put right then, nor could it be cleared away.
        address = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, _PATIENCE_S, isolation_level=None, uri=True)) as connection:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("BEGIN")
            yield connection


def entries_in(connection: sqlite3.Connection, data_set: str | None = None) -> list[Entry]:
    """All entries of a data set, or of all, in order."""
    query = f"SELECT {_COLUMNS} FROM entries WHERE ? IS NULL OR data_set = ? ORDER BY number"  # noqa: S608 - our own names
    return [_entry(row) for row in connection.execute(query, (data_set, data_set))]


def kept_in(connection: sqlite3.Connection) -> dict[int, str]:
    """SHA-256 of each release that is kept, by the number of its entry."""
    return {
        number: digest_of(release) for number, release in connection.execute("SELECT number, release FROM releases")
    }


def _row(entry: Entry) -> tuple[object, ...]:
    spend, budget = entry.spend, entry.budget
    return (
        *(entry.number, entry.at, entry.data_set, entry.run, event_text(spend.event), spend.unit.value, spend.what),
        *(entry.digest, entry.key, budget.epsilon, budget.delta, budget.unit.value, entry.previous, entry.hash),
    )


def _entry(row: tuple[Any, ...]) -> Entry:
    number, at, data_set, run, event, unit, what, digest, key, epsilon, delta, budget_unit, *hashes = row
    try:
        budget = Budget(epsilon, delta, Unit(budget_unit))
        return Entry(number, at, data_set, run, _spend(event, unit, what), digest, key, budget, *hashes)
    except ValueError as error:
        raise sqlite3.DataError(f"entry {number} says: {error}") from None


def _spend(event: str, unit: str, what: str) -> Spend:
    try:
        return Spend(msgspec.json.decode(event, type=Event), Unit(unit), what)
    except (ValueError, msgspec.DecodeError) as error:
        raise sqlite3.DataError(f"'{what}' was spent, and how cannot be read: {error}") from None
