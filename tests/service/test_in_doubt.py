"""A commit whose outcome nobody hears: the database fails when the transaction has been written already."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from parties import BEGAN, FakeAgreement, FakeMember, Keys, Shape, charter

from fedstill.agent.journal import Journal
from fedstill.agent.worker import Contract, Worker
from fedstill.privacy.guard import simulated_ledger
from fedstill.privacy.spending import Budget
from fedstill.round import Phase
from fedstill.service.audit import audit
from fedstill.service.desk import Desk, convene
from fedstill.service.registry import Registry
from fedstill.service.store import blobs
from fedstill.service.store.blobs import Blobs
from fedstill.service.store.databases import StoreError
from fedstill.service.store.store import Store
from fedstill.service.store.tables import LetterRow
from fedstill.transports.letters import COORDINATOR
from fedstill.transports.roles import Role

KEYS = Keys()
TERMS = charter(Shape("fedmd", parties=2, rounds=2, deadline_s=1e9))


class Table:
    """A coordinator's desk, and two participants who sit at it."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(f"sqlite:///{folder}/store.db")
        self.blobs = Blobs(folder / "payloads", 2**20)
        self.signer = KEYS.certificate(COORDINATOR, KEYS.coordinator, Role.COORDINATOR)
        self.store.lead("here", BEGAN, 0)
        self.registry = Registry(self.store, KEYS.authority, lambda: BEGAN)
        self.run = convene(self.store, self.blobs, TERMS, BEGAN)
        self.workers = {name: self._seat(folder, name) for name in TERMS.terms.parties}
        self.desk = self.fresh_desk()
        self.desk.tick()

    def _seat(self, folder: Path, name: str) -> Worker:
        token = self.registry.invite(name, Role.PARTICIPANT, 1)
        self.registry.enrol(token, KEYS.identities[name].request_pem(name))
        agreement: Any = FakeAgreement(True, lambda: 0)
        contract = Contract(TERMS.terms, TERMS.digest, agreement, KEYS.identities[name], self.signer)
        journal, member = Journal(folder / f"{name}.db", TERMS.digest), FakeMember(name)
        ledger = simulated_ledger(Budget())
        return Worker(contract, member, journal, ledger, Blobs(folder / name, 2**20), lambda: BEGAN)  # type: ignore[arg-type]

    def fresh_desk(self) -> Desk:
        """One that reads what has happened."""
        return Desk(self.store, self.blobs, self.run, KEYS.coordinator, self.registry)

    def fetch(self, name: str) -> None:
        """A participant takes all its letters."""
        worker = self.workers[name]
        while parcels := self.desk.letters(name, worker.after):
            for parcel in parcels:
                worker.handle(parcel)

    def post(self, name: str) -> list[str]:
        """A participant posts what it has not been told to have arrived; returns the verdicts."""
        journal, verdicts = self.workers[name].journal, []
        for sent, payload in self.workers[name].unposted():
            verdicts += self.desk.take([(name, sent.letter, payload)])
            journal.posted(sent.number, BEGAN, verdicts[-1])
        return verdicts


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path)
    yield made
    made.store.close()
    for worker in made.workers.values():
        worker.journal.close()


def fail_unheard(store: Store) -> None:
    """The next transaction that writes is written, and fails."""

    def commit(connection: sa.Connection) -> None:
        if "begin" not in connection.get_execution_options():
            return  # it only reads
        sa.event.remove(store._engine, "commit", commit)
        connection.connection.commit()
        raise sa.exc.OperationalError("COMMIT", None, sqlite3.OperationalError("the connection is lost"))

    sa.event.listen(store._engine, "commit", commit)


def test_a_desk_reads_what_it_may_have_written(table: Table) -> None:
    """Otherwise it would hear the second answer twice, and teach twice."""
    for name in "ab":
        table.fetch(name)
    assert table.post("a") == [""]
    fail_unheard(table.store)
    with pytest.raises(StoreError, match="lost"):
        table.post("b")  # it closes the round
    assert table.post("b") == [""]
    for name in "abab":
        table.fetch(name)
        table.post(name)
    assert table.desk.progress == table.fresh_desk().progress
    assert table.desk.progress.state.phase is Phase.FINISHED
    assert {worker.ended or table.fetch(name) or worker.ended for name, worker in table.workers.items()} == {"finished"}
    assert audit(table.store, table.blobs, table.signer).faults == ()


def test_who_has_letters_that_the_desk_is_in_doubt_about_is_not_sent_away(table: Table) -> None:
    for name in "ab":
        table.fetch(name)
    table.post("a")
    assert table.desk.letters("a", 1) == []  # it knows now what the last letter is
    fail_unheard(table.store)
    with pytest.raises(StoreError):
        table.post("b")
    table.fetch("a")
    assert table.workers["a"].after == 3
    assert table.desk.letters("a", 3) == []


def test_letters_that_were_written_unheard_are_among_the_fresh_ones(table: Table) -> None:
    def write(number: int) -> None:
        with table.store.writing() as writer:
            seq = writer.append(1, "x", BEGAN, b"").seq
            writer.add_letters([LetterRow("a", 1, number, b"", "", 0, seq)])

    write(2)
    fail_unheard(table.store)
    with pytest.raises(StoreError):
        write(3)
    write(4)
    assert [row.number for row in table.store.letters("a", 1, 1)] == [2, 3, 4]


def test_a_clock_that_was_set_back_does_not_keep_the_lead(table: Table) -> None:
    """Whoever knows that the last one to lead is no more takes the lead, though its last beat lies in the future."""
    assert not table.store.lead("there", BEGAN - 86_400, 3.0)
    assert table.store.lead("there", BEGAN - 86_400, 0.0)


def test_a_payload_that_a_letter_names_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who put it there was stopped between its name and the disk; a power failure would take what is acknowledged."""
    payloads, synced = Blobs(tmp_path / "payloads", 2**20), []
    digest = payloads.put(b"here")
    monkeypatch.setattr(blobs, "_sync_folder", synced.append)
    assert not payloads.keeps("0" * 64)
    assert synced == []
    assert payloads.keeps(digest)
    assert synced == [payloads.folder]
