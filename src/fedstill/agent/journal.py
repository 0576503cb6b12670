"""What a participant has received and sent, in SQLite: written before anything leaves, read after a restart.

The journal is also the answer to "what has left my site": when, what, how many bytes, to whom, by which SHA-256.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedstill.errors import DataError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS received (
    run TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, round INTEGER NOT NULL, digest TEXT NOT NULL,
    handled_at REAL NOT NULL, loss REAL, PRIMARY KEY (run, number)
) STRICT;
CREATE TABLE IF NOT EXISTS sent (
    run TEXT NOT NULL, number INTEGER NOT NULL, what TEXT NOT NULL, letter BLOB NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, made_at REAL NOT NULL, posted_at REAL, why TEXT NOT NULL, PRIMARY KEY (run, number)
) STRICT;
"""


@dataclass(frozen=True)
class Received:
    """A letter that has been handled: an "ask", a "teach" and the loss that it led to, or that the run has ended."""

    number: int
    kind: str
    round: int
    digest: str
    handled_at: float
    loss: float | None = None


@dataclass(frozen=True)
class Sent:
    """A letter that leaves, or has left at `posted_at`; `why` says why the coordinator did not use it."""

    number: int
    what: str
    letter: bytes
    digest: str
    size: int
    made_at: float
    posted_at: float | None = None
    why: str = ""


class Journal:
    """The journal of one participant in one run.

    Parameters
    ----------
    path:
        The file; it may hold further runs.
    run:
        The SHA-256 of the run's terms.

    Raises
    ------
    DataError
        Where the file is no journal.
    """

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run
        with _faults(path):
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_SCHEMA)

    def received(self) -> list[Received]:
        """All letters that have been handled, in order."""
        query = "SELECT number, kind, round, digest, handled_at, loss FROM received WHERE run = ? ORDER BY number"
        return [Received(*row) for row in self._rows(query)]

    def sent(self) -> list[Sent]:
        """All letters that have been made, in order."""
        query = (
            "SELECT number, what, letter, digest, size, made_at, posted_at, why FROM sent WHERE run = ? ORDER BY number"
        )
        return [Sent(*row) for row in self._rows(query)]

    def handled(self, received: Received, sent: Sent | None = None) -> None:
        """A letter has been handled, and perhaps answered: both are on the disk when this returns, or neither."""
        with self._transaction():
            self._insert("received", vars(received))
            if sent is not None:
                self._insert("sent", vars(sent))

    def posted(self, number: int, at: float, why: str) -> None:
        """The coordinator has taken a letter, or said why it does not count."""
        with self._transaction():
            change = "UPDATE sent SET posted_at = ?, why = ? WHERE run = ? AND number = ?"
            self._connection.execute(change, (at, why, self._run, number))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with _faults(self._path):
            return self._connection.execute(query, (self._run,)).fetchall()

    def _insert(self, table: str, row: dict[str, object]) -> None:
        named = ", ".join(row)
        marks = ", ".join("?" for _ in row)
        # The names are those of the dataclasses above; nothing from elsewhere is in the statement.
        statement = f"INSERT INTO {table} (run, {named}) VALUES (?, {marks})"  # noqa: S608
        self._connection.execute(statement, (self._run, *row.values()))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _faults(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DataError(
            f"the journal cannot be used: {error}",
            where=str(path),
            remedy="Free some space, check its permissions, or restore it; two processes cannot share it",
        ) from None
