"""What a participant has received and sent, in SQLite: written before anything leaves, read after a restart.

The journal is also the answer to "what has left my site": when, what, how many bytes, to whom, by which SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedstill.sqlite import faults, opened

_SCHEMA = """
CREATE TABLE IF NOT EXISTS received (
    run TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, round INTEGER NOT NULL, digest TEXT NOT NULL,
    handled_at REAL NOT NULL, loss REAL, PRIMARY KEY (run, number)
) STRICT;
CREATE TABLE IF NOT EXISTS sent (
    run TEXT NOT NULL, number INTEGER NOT NULL, what TEXT NOT NULL, letter BLOB NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, made_at REAL NOT NULL, posted_at REAL, why TEXT NOT NULL, PRIMARY KEY (run, number)
) STRICT;
CREATE TABLE IF NOT EXISTS drafts (
    run TEXT NOT NULL, number INTEGER NOT NULL, round INTEGER NOT NULL, question INTEGER NOT NULL, what TEXT NOT NULL,
    digest TEXT NOT NULL, size INTEGER NOT NULL, made_at REAL NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL,
    decided_at REAL, letter INTEGER, PRIMARY KEY (run, number), UNIQUE (run, round, question)
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


@dataclass(frozen=True)
class Draft:
    """An answer that leaves only if the owner wants.

    Attributes
    ----------
    number:
        Of the coordinator's letter that asked.
    round, question:
        What it answers.
    what, digest, size:
        What is in it, and the payload.
    made_at, decided_at:
        Unix seconds.
    verdict:
        The owner's: WAITING for it, APPROVED, REFUSED for a `reason`; or LATE, where the coordinator has gone on.
    letter:
        The number of the letter that followed from the verdict.
    """

    number: int
    round: int
    question: int
    what: str
    digest: str
    size: int
    made_at: float
    verdict: str = ""
    reason: str = ""
    decided_at: float | None = None
    letter: int | None = None


WAITING, APPROVED, REFUSED, LATE = "", "approved", "refused", "late"


_faults = partial(faults, "journal", warning="two processes cannot share it")
_SENT = "SELECT number, what, letter, digest, size, made_at, posted_at, why FROM sent WHERE run = ?"


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
            self._connection = opened(path, _SCHEMA)

    def received(self) -> list[Received]:
        """All letters that have been handled, in order."""
        query = "SELECT number, kind, round, digest, handled_at, loss FROM received WHERE run = ? ORDER BY number"
        return [Received(*row) for row in self._rows(query)]

    def sent(self) -> list[Sent]:
        """All letters that have been made, in order."""
        return [Sent(*row) for row in self._rows(f"{_SENT} ORDER BY number")]

    def unposted(self) -> list[Sent]:
        """Those that the coordinator has not confirmed, in order."""
        return [Sent(*row) for row in self._rows(f"{_SENT} AND posted_at IS NULL ORDER BY number")]

    def sent_ever(self) -> list[tuple[str, Sent]]:
        """The same of all runs, each with the SHA-256 of its terms, in the order in which they were made."""
        columns = ", ".join(Sent.__dataclass_fields__)
        query = f"SELECT run, {columns} FROM sent ORDER BY made_at, number"  # noqa: S608 - our own names
        with _faults(self._path):
            return [(run, Sent(*row)) for run, *row in self._connection.execute(query)]

    def drafts(self) -> list[Draft]:
        """All answers that the owner is or was asked about, in order."""
        columns = ", ".join(Draft.__dataclass_fields__)
        query = f"SELECT {columns} FROM drafts WHERE run = ? ORDER BY number"  # noqa: S608 - our own names
        return [Draft(*row) for row in self._rows(query)]

    def handled(
        self, received: Received, sent: Sent | None = None, draft: Draft | None = None, late: Iterable[Draft] = ()
    ) -> None:
        """A letter has been handled; all that follows from it is on the disk when this returns, or nothing.

        Parameters
        ----------
        received:
            The letter.
        sent, draft:
            The answer, or one that the owner is asked about.
        late:
            Drafts that are of no use any more.
        """
        with self._transaction():
            self._insert("received", vars(received))
            if sent is not None:
                self._insert("sent", vars(sent))
            if draft is not None:
                self._insert("drafts", vars(draft))
            for one in late:
                change = "UPDATE drafts SET verdict = ? WHERE run = ? AND number = ? AND letter IS NULL"
                self._connection.execute(change, (LATE, self._run, one.number))

    def decided(self, number: int, verdict: str, reason: str, at: float) -> bool:
        """The owner has decided about a draft; False where it does not wait any more."""
        with self._transaction():
            change = (
                "UPDATE drafts SET verdict = ?, reason = ?, decided_at = ? WHERE run = ? AND number = ? AND verdict = ?"
            )
            asked = (verdict, reason, at, self._run, number, WAITING)
            return self._connection.execute(change, asked).rowcount == 1

    def released(self, draft: Draft, sent: Sent) -> None:
        """A letter follows from the owner's verdict: both are on the disk when this returns, or neither."""
        with self._transaction():
            change = "UPDATE drafts SET letter = ? WHERE run = ? AND number = ?"
            self._connection.execute(change, (sent.number, self._run, draft.number))
            self._insert("sent", vars(sent))

    def posted(self, number: int, at: float, why: str) -> None:
        """The coordinator has taken a letter, or said why it does not count.

        Not on the disk when this returns: where the machine fails before it is, the letter is sent once more, and gets
        the same verdict.
        """
        with self._unhurried(), self._transaction():
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
    def _unhurried(self) -> Iterator[None]:
        """Transactions within reach the disk with the next one outside."""
        with _faults(self._path):
            self._connection.execute("PRAGMA synchronous=NORMAL")
            try:
                yield
            finally:
                self._connection.execute("PRAGMA synchronous=FULL")

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
