"""What a coordinator must not forget, in SQLite or PostgreSQL: parties, invitations, runs, events, letters, its lead.

Everything is written in transactions, one at a time, also between processes: SQLite by BEGIN IMMEDIATE, PostgreSQL by a
lock on the row of the lease. A transaction begins with a look at this row, so that of two coordinators on one database
the one that has lost the lead can write nothing more, however long it slept (fencing: Gray and Cheriton 1989,
doi:10.1145/74850.74870; Kleppmann 2017, Designing Data-Intensive Applications, chapter 8).

SQLite runs with a write-ahead log and synchronous=FULL, PostgreSQL with what its server is set to (by default as safe):
what a block of `Store.writing` has written is on the disk when the block has ended.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from fedstill.errors import ConfigError, RunError
from fedstill.service.store import migrations, tables
from fedstill.service.store.chain import GENESIS, Record, link
from fedstill.service.store.databases import engine as make_engine
from fedstill.service.store.databases import failures
from fedstill.service.store.reads import LEASE, PAGE, Reads, first
from fedstill.service.store.tables import (
    INVITED,
    JOINED,
    REVOKED,
    STATUSES,
    Invitation,
    Lease,
    LetterRow,
    PartyRow,
    RunRow,
)

FRESH = 8
"""Letters of a run to a party that a store remembers having written, because they are asked for at once."""

_SEEN = sa.update(tables.parties).where(tables.parties.c.name == sa.bindparam("party"))
_SEEN = _SEEN.values(last_seen=sa.bindparam("now"))


class NotLeading(RunError):  # noqa: N818 - says what is the matter
    """Another process leads now, or nobody does: this one must not write."""


class Writer(Reads):
    """One transaction of `Store.writing`: reads see what it has written so far.

    Parties, invitations and events that belong to no run can also be written by who has never led (an operator at the
    command line, while the coordinator runs). All else belongs to the one that leads, if there is one: others get
    NotLeading.
    """

    def __init__(self, connection: sa.Connection, rival: NotLeading | None) -> None:
        self._connection = connection
        self._rival = rival
        self._last: Record | None = None
        self._appended: list[Record] = []
        self.letters_added: list[LetterRow] = []

    def _rows(self, query: sa.Select[Any], **named: Any) -> Sequence[sa.RowMapping]:
        self.flush()
        return self._connection.execute(query, named).mappings().all()

    def flush(self) -> None:
        """Hand all events that were appended to the database, at once."""
        if self._appended:
            self._connection.execute(sa.insert(tables.events), [vars(record) for record in self._appended])
            self._appended = []

    def _lead(self) -> None:
        if self._rival is not None:
            raise self._rival

    def _known(self, name: str) -> PartyRow:
        party = self.party(name)
        if party is None:
            raise ConfigError(f"there is no party '{name}'")
        return party

    def _set_party(self, name: str, **values: Any) -> None:
        self._known(name)
        self._connection.execute(sa.update(tables.parties).where(tables.parties.c.name == name).values(values))

    # ---- parties

    def add_party(self, name: str, role: str) -> None:
        """Add a party, as invited. Raises ConfigError where there is one of this name."""
        if self.party(name) is not None:
            raise ConfigError(f"there is a party '{name}' already")
        row = {"name": name, "role": role, "status": INVITED, "certificate": "", "fingerprint": ""}
        self._connection.execute(sa.insert(tables.parties), row)

    def join(self, name: str, certificate: str, fingerprint: str, now: float) -> None:
        """A party has joined, with this certificate (PEM) and no other. Raises ConfigError."""
        self._set_party(name, status=JOINED, joined_at=now)
        self._connection.execute(sa.delete(tables.fingerprints).where(tables.fingerprints.c.party == name))
        self.renew(name, certificate, fingerprint)

    def renew(self, name: str, certificate: str, fingerprint: str) -> None:
        """A party has a new certificate; older ones still count, since this one may not have reached it."""
        other = self.party_of(fingerprint)
        if other is not None and other.name != name:
            raise ConfigError(f"the certificate {fingerprint} belongs to '{other.name}'")
        self._set_party(name, certificate=certificate, fingerprint=fingerprint)
        if other is None:
            self._connection.execute(sa.insert(tables.fingerprints), {"fingerprint": fingerprint, "party": name})

    def set_status(self, name: str, status: str) -> None:
        """Make a party one of `STATUSES`; its invitations are of no use any more. Raises ConfigError."""
        if status not in STATUSES:
            raise ConfigError(f"a party cannot be '{status}'", remedy=f"It can be {', '.join(STATUSES)}")
        self._set_party(name, status=status)
        self._connection.execute(sa.delete(tables.invitations).where(tables.invitations.c.party == name))

    def seen(self, name: str, now: float) -> None:
        """A party has been heard of. Raises ConfigError where there is no such party."""
        if self._connection.execute(_SEEN, {"party": name, "now": now}).rowcount == 0:
            self._known(name)

    # ---- invitations

    def add_invitation(self, token_hash: str, party: str, role: str, expires: float) -> None:
        """Invite a party, which is added where it is not known. One that was revoked may join again with another key.

        Raises
        ------
        ConfigError
            Where it has another role.
        """
        known = self.party(party)
        if known is None:
            self.add_party(party, role)
        elif known.role != role:
            raise ConfigError(f"'{party}' is a {known.role}, and is invited as a {role}")
        elif known.status == REVOKED:
            self.set_status(party, INVITED)
        row = {"token_hash": token_hash, "party": party, "role": role, "expires": expires, "used_by": ""}
        self._connection.execute(sa.insert(tables.invitations), row)

    def take_invitation(self, token_hash: str, now: float, used_by: str = "") -> tuple[Invitation | None, str]:
        """Use an invitation, once. Others of the same party are of no use then.

        Parameters
        ----------
        token_hash:
            SHA-256 of the token, so that a copy of the database does not hold it.
        now:
            Unix seconds.
        used_by:
            What it is used with (the digest of the certificate request). Who comes with the same once more, because
            the answer got lost, is let in again; empty: never.

        Returns
        -------
        The invitation and ""; or None and the reason.
        """
        invitations = tables.invitations
        mine = invitations.c.token_hash == token_hash
        found = first(Invitation, self._rows(sa.select(invitations).where(mine)))
        if found is None:
            return None, "there is no such invitation"
        if found.expires <= now:
            return None, "the invitation is too old"
        if found.used_at is not None:
            again = used_by != "" and used_by == found.used_by
            return (found, "") if again else (None, "the invitation has been used")
        self._connection.execute(sa.update(invitations).where(mine).values(used_at=now, used_by=used_by))
        others = (invitations.c.party == found.party, sa.not_(mine))
        self._connection.execute(sa.delete(invitations).where(*others))
        return found, ""

    # ---- runs, events, letters

    def add_run(self, terms: bytes, started_at: float, phase: str) -> RunRow:
        """Begin a run; its number is one above the last."""
        self._lead()
        last = self._rows(sa.select(sa.func.max(tables.runs.c.number).label("last")))[0]["last"] or 0
        run = RunRow(last + 1, hashlib.sha256(terms).hexdigest(), terms, started_at, None, phase)
        self._connection.execute(sa.insert(tables.runs), vars(run))
        return run

    def set_run(self, number: int, phase: str, ended_at: float | None = None) -> None:
        """Say how far a run is, and when it ended if it did. Raises ConfigError where there is no such run."""
        self._lead()
        ended = {} if ended_at is None else {"ended_at": ended_at}
        change = sa.update(tables.runs).where(tables.runs.c.number == number).values(phase=phase, **ended)
        if self._connection.execute(change).rowcount == 0:
            raise ConfigError(f"there is no run {number}")

    def append(self, run: int | None, kind: str, at: float, body: bytes) -> Record:
        """Add an event to the chain; `run` is None where it belongs to no run, and anybody who may write may say so."""
        if run is not None:
            self._lead()
        head = self._last or self.head()
        previous, last = (head.hash, head.seq) if head else (GENESIS, 0)
        self._last = link(previous, last + 1, run, kind, at, body)
        self._appended.append(self._last)
        return self._last

    def add_letters(self, letters: Sequence[LetterRow]) -> None:
        """Put letters where their parties find them."""
        self._lead()
        self.flush()
        if letters:
            self._connection.execute(sa.insert(tables.letters), [vars(row) for row in letters])
            self.letters_added += letters


class Store(Reads):
    """A database; made by `open`. Reading is free, also from other threads; writing is one block at a time."""

    def __init__(self, engine: sa.Engine, place: str) -> None:
        self.place = place
        self._engine = engine
        self._writes = engine.execution_options(begin="BEGIN IMMEDIATE")
        self._epoch: int | None = None  # of the lead that this process took last
        self._fresh: dict[tuple[str, int], deque[LetterRow]] = {}

    @classmethod
    def open(cls, url: str) -> Store:
        """Open a database, and create or upgrade its tables.

        Parameters
        ----------
        url:
            ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or ``postgresql://user:password@host/database``.

        Raises
        ------
        ConfigError
            Where the URL cannot be, the database cannot be used, or a newer fedstill has written it.
        MissingExtra
            Where the driver of PostgreSQL is not installed.
        """
        engine, place = make_engine(url)
        store = cls(engine, place)
        try:
            with store._transaction(store._writes) as connection:
                migrations.upgrade(connection, place)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close all connections. Gives no lead away."""
        self._engine.dispose()

    def _rows(self, query: sa.Select[Any], **named: Any) -> Sequence[sa.RowMapping]:
        with self._transaction(self._engine) as connection:
            return connection.execute(query, named).mappings().all()

    def letters(self, to: str, run: int, after: int = 0, limit: int = 256) -> list[LetterRow]:
        """See `Reads.letters`; those that this process has just written are not read again."""
        fresh = tuple(self._fresh.get((to, run), ()))
        if not fresh or after < fresh[0].number - 1 or after >= fresh[-1].number:
            return super().letters(to, run, after, limit)
        return [row for row in fresh if row.number > after][:limit]

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with failures(self.place), engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """One transaction: all of the block is durable when it has ended; nothing, where it raised.

        Blocks of one process must not lie in one another.

        Raises
        ------
        NotLeading
            At the beginning, where this process has led and no longer does.
        StoreError
            Where the database fails. Where it fails while the block ends, only reading tells whether it was written.
        """
        with self._transaction(self._writes) as connection:
            lease = _locked(connection)
            if self._epoch is None:
                rival = _not_leading(lease.owner, self.place) if lease.owner else None
            else:
                self._check(lease)
                rival = None
            writer = Writer(connection, rival)
            yield writer
            writer.flush()
        for row in writer.letters_added:  # only now: what is not on the disk has not been
            fresh = self._fresh.setdefault((row.to, row.run), deque(maxlen=FRESH))
            if fresh and fresh[-1].number != row.number - 1:
                fresh.clear()  # letters between were written, too, though the database failed to say so
            fresh.append(row)

    def _check(self, lease: Lease) -> None:
        if lease.epoch != self._epoch or not lease.owner:
            raise _not_leading(lease.owner, self.place)

    def copy_to(self, other: Store) -> None:
        """Copy parties, runs, events and letters into an empty store: all that an auditor needs."""
        with self._transaction(self._engine) as source, other._transaction(other._writes) as target:
            for table in (tables.parties, tables.runs, tables.events, tables.letters):
                for page in source.execute(sa.select(table)).mappings().partitions(PAGE):
                    target.execute(sa.insert(table), [dict(row) for row in page])

    # ---- leadership

    def lead(self, owner: str, now: float, stale_s: float) -> bool:
        """Take the lead, where nobody has it, its owner was not heard of for `stale_s` seconds, or `owner` has it.

        From then on whoever led before, be it an earlier process of the same owner, cannot write any more.

        Parameters
        ----------
        owner:
            A name, not empty, that no other process uses at the same time.
        now:
            Unix seconds. Clocks decide when a lead goes over; that two never write does not hang on them.
        stale_s:
            At least several times the pause between two calls of `beat`.

        Returns
        -------
        Whether this process leads.
        """
        if not owner:
            raise ValueError("who leads has a name")
        with self._transaction(self._writes) as connection:
            lease = _locked(connection)
            if lease.owner not in ("", owner) and stale_s > 0 and now - lease.beat < stale_s:
                return False
            _set_lease(connection, Lease(lease.epoch + 1, owner, now))
        self._epoch = lease.epoch + 1
        return True

    def beat(self, now: float) -> None:
        """Say that this process still leads. Raises NotLeading where it does not."""
        with self._transaction(self._writes) as connection:
            lease = _locked(connection)
            self._check(lease)
            _set_lease(connection, Lease(lease.epoch, lease.owner, now))

    def release(self) -> None:
        """Give the lead away, if this process has it; it cannot write then until it leads again."""
        with self._transaction(self._writes) as connection:
            lease = _locked(connection)
            if lease.epoch == self._epoch:
                _set_lease(connection, Lease(lease.epoch, "", lease.beat))


def _not_leading(owner: str, place: str) -> NotLeading:
    who = f"'{owner}' leads" if owner else "nobody leads"
    return NotLeading(
        f"this process may not write: {who} now",
        where=place,
        remedy="Stop it, or let it take the lead again and read what has happened since",
    )


def _locked(connection: sa.Connection) -> Lease:
    """The lease; from here to the end of the transaction nobody else writes."""
    row = connection.execute(sa.select(*LEASE).with_for_update()).mappings().one()
    return Lease(**row)


def _set_lease(connection: sa.Connection, lease: Lease) -> None:
    connection.execute(sa.update(tables.leadership).values(vars(lease)))
