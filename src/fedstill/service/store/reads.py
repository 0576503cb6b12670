"""What can be read of a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from fedstill.service.store import tables
from fedstill.service.store.chain import Record
from fedstill.service.store.tables import Invitation, Lease, LetterRow, PartyRow, RunRow

LEASE = (tables.leadership.c.epoch, tables.leadership.c.owner, tables.leadership.c.beat)
PAGE = 500
"""Rows that are read at once, where there may be very many."""

# Made once, because they are asked often: to put a question into SQL costs more than the answer.
_PARTY_OF = sa.select(tables.parties).join(tables.fingerprints, tables.fingerprints.c.party == tables.parties.c.name)
_PARTY_OF = _PARTY_OF.where(tables.fingerprints.c.fingerprint == sa.bindparam("fingerprint"))
_LAST = sa.select(sa.func.max(tables.letters.c.number).label("last"))
_LAST = _LAST.where(tables.letters.c.to == sa.bindparam("to"), tables.letters.c.run == sa.bindparam("run"))

T = TypeVar("T")


def first(kind: type[T], rows: Sequence[sa.RowMapping]) -> T | None:
    """The first row as a value of `kind`, if there is one."""
    return kind(**rows[0]) if rows else None


class Reads:
    """What can be read of a store, inside and outside of a transaction."""

    def _rows(self, query: sa.Select[Any], **named: Any) -> Sequence[sa.RowMapping]:
        raise NotImplementedError

    def lease(self) -> Lease:
        """Who leads."""
        return Lease(**self._rows(sa.select(*LEASE))[0])

    def party(self, name: str) -> PartyRow | None:
        """The party with this name."""
        return first(PartyRow, self._rows(sa.select(tables.parties).where(tables.parties.c.name == name)))

    def party_of(self, fingerprint: str) -> PartyRow | None:
        """The party that has a certificate with this fingerprint; it may be revoked."""
        return first(PartyRow, self._rows(_PARTY_OF, fingerprint=fingerprint))

    def parties(self) -> list[PartyRow]:
        """All parties, by name."""
        return [PartyRow(**row) for row in self._rows(sa.select(tables.parties).order_by(tables.parties.c.name))]

    def how_many(self, status: str) -> int:
        """The number of parties with this status; quicker than to read them."""
        counted = sa.select(sa.func.count().label("n")).where(tables.parties.c.status == status)
        return int(self._rows(counted)[0]["n"])

    def invitations(self) -> list[Invitation]:
        """All invitations, used or not, by the day they end."""
        query = sa.select(tables.invitations)
        ordered = query.order_by(tables.invitations.c.expires, tables.invitations.c.token_hash)
        return [Invitation(**row) for row in self._rows(ordered)]

    def run(self, number: int) -> RunRow | None:
        """The run with this number."""
        return first(RunRow, self._rows(sa.select(tables.runs).where(tables.runs.c.number == number)))

    def runs(self) -> list[RunRow]:
        """All runs, first to last."""
        return [RunRow(**row) for row in self._rows(sa.select(tables.runs).order_by(tables.runs.c.number))]

    def head(self) -> Record | None:
        """The last record; its hash stands for all that has happened."""
        query = sa.select(tables.events).order_by(tables.events.c.seq.desc()).limit(1)
        return first(Record, self._rows(query))

    def records(self, run: int | None = None, after: int = 0) -> Iterator[Record]:
        """Records with a `seq` above `after`, in order; of one run, or all there are. Read a page at a time."""
        events = tables.events
        query = sa.select(events).order_by(events.c.seq).limit(PAGE)
        if run is not None:
            query = query.where(events.c.run == run)
        while page := self._rows(query.where(events.c.seq > after)):
            yield from (Record(**row) for row in page)
            after = page[-1]["seq"]

    def letters(self, to: str, run: int, after: int = 0, limit: int = 256) -> list[LetterRow]:
        """The first `limit` letters to a party in a run with numbers above `after`, in order."""
        letters = tables.letters
        query = sa.select(letters).where(letters.c.to == to, letters.c.run == run, letters.c.number > after)
        return [LetterRow(**row) for row in self._rows(query.order_by(letters.c.number).limit(limit))]

    def last_number(self, to: str, run: int) -> int:
        """The number of the last letter to a party in a run; 0 where there is none."""
        return self._rows(_LAST, to=to, run=run)[0]["last"] or 0

    def addressed(self, to: str, run: int, digest: str) -> bool:
        """Whether a letter to a party in a run names this payload."""
        letters = tables.letters
        mine = (letters.c.to == to, letters.c.run == run, letters.c.digest == digest)
        return bool(self._rows(sa.select(letters.c.number).where(*mine).limit(1)))
