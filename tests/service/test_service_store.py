"""What a store keeps, on SQLite and on PostgreSQL."""

from __future__ import annotations

import hashlib

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fedstill.errors import ConfigError
from fedstill.service.store import databases, reads, tables
from fedstill.service.store.chain import verify_chain
from fedstill.service.store.databases import StoreError
from fedstill.service.store.store import FRESH, Store
from fedstill.service.store.tables import LetterRow

HASH = "ab" * 32


def test_the_revisions_make_the_tables(url, store):
    engine = databases.engine(url)[0]
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()


def test_what_was_written_is_there_when_it_is_opened_again(opened):
    one = opened()
    with one.writing() as w:
        w.add_party("bakery", "participant")
        run = w.add_run(b"terms", 5.0, "started")
        record = w.append(1, "opened", 6.0, b"body")
        w.add_letters([LetterRow("bakery", 1, 1, b"letter", HASH, 7, record.seq)])
    one.close()
    other = opened()
    assert [party.name for party in other.parties()] == ["bakery"]
    assert other.runs() == [run]
    assert list(other.records()) == [record]
    assert other.letters("bakery", 1) == [tables.LetterRow("bakery", 1, 1, b"letter", HASH, 7, 1)]


def test_a_database_of_a_newer_version_is_refused(url, store, tamper):
    tamper("UPDATE alembic_version SET version_num = 'fedstill_999'")
    with pytest.raises(ConfigError, match=r"'fedstill_999'.*Upgrade fedstill") as caught:
        Store.open(url)
    assert caught.value.where.startswith(store.place)


def test_a_database_of_another_program_is_left_alone(url, tamper):
    tamper("CREATE TABLE runs (id integer)", "INSERT INTO runs VALUES (7)")
    with pytest.raises(StoreError, match="runs"):
        Store.open(url)
    engine = databases.engine(url)[0]
    assert sa.inspect(engine).get_table_names() == ["runs"]
    engine.dispose()


def test_many_open_a_new_database_at_once(url, together):
    stores = together(*[lambda: Store.open(url)] * 4)
    assert [store.parties() for store in stores] == [[]] * 4
    for store in stores:
        store.close()


# ---- parties and invitations


def test_a_party_is_invited_joins_renews_and_is_revoked(store):
    first, second, third = "1" * 64, "2" * 64, "3" * 64
    with store.writing() as w:
        w.add_invitation(HASH, "bakery", "participant", 100.0)
    assert store.party("bakery") == tables.PartyRow("bakery", "participant", "invited", "", "", None, None)
    with store.writing() as w:
        taken, why = w.take_invitation(HASH, 50.0)
        assert (taken.party, taken.role, why) == ("bakery", "participant", "")
        w.join("bakery", "pem 1", first, 50.0)
        assert w.party_of(first).status == "joined"
    with store.writing() as w:
        w.seen("bakery", 60.0)
        w.renew("bakery", "pem 2", second)
    joined = tables.PartyRow("bakery", "participant", "joined", "pem 2", second, 50.0, 60.0)
    assert store.party_of(second) == store.party_of(first) == joined  # the second may not have reached it
    assert store.party_of(third) is None
    with store.writing() as w:
        w.set_status("bakery", "revoked")
    assert store.party_of(first).status == store.party_of(second).status == "revoked"
    with store.writing() as w:
        w.set_status("bakery", "invited")
        w.join("bakery", "pem 3", third, 70.0)
    assert store.party_of(third).status == "joined"
    assert store.party_of(first) is store.party_of(second) is None
    assert store.party("mill") is None


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda w: w.add_party("bakery", "auditor"), "a party 'bakery' already"),
        (lambda w: w.seen("mill", 1.0), "no party 'mill'"),
        (lambda w: w.join("mill", "", HASH, 1.0), "no party 'mill'"),
        (lambda w: w.renew("bakery", "", "d" * 64), "belongs to 'dairy'"),
        (lambda w: w.set_status("bakery", "gone"), "It can be invited, joined, revoked"),
        (lambda w: w.add_invitation(HASH, "bakery", "auditor", 9.0), "'bakery' is a participant"),
        (lambda w: w.add_invitation(HASH, "dairy", "auditor", 9.0), "'dairy' is a participant"),
        (lambda w: w.set_run(7, "done"), "no run 7"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_of_the_block_stays(store, write, says):
    with store.writing() as w:
        w.add_party("bakery", "participant")
        w.add_party("dairy", "participant")
        w.join("dairy", "pem", "d" * 64, 1.0)
        w.set_status("dairy", "revoked")
    before = store.parties()

    def block():
        with store.writing() as w:
            w.seen("bakery", 99.0)
            write(w)

    with pytest.raises(ConfigError, match=says):
        block()
    assert store.parties() == before


def test_an_invitation_is_used_once(store):
    with store.writing() as w:
        w.add_invitation(HASH, "bakery", "participant", 100.0)
        w.add_invitation("cd" * 32, "mill", "participant", 100.0)
        w.set_status("mill", "revoked")

    def take(token_hash, now, used_by=""):
        with store.writing() as w:
            return w.take_invitation(token_hash, now, used_by)[1]

    assert take("00" * 32, 1.0) == "there is no such invitation"
    assert take("cd" * 32, 1.0) == "there is no such invitation"  # it went with the revocation
    assert take(HASH, 100.0) == "the invitation is too old"
    with pytest.raises(ZeroDivisionError), store.writing() as w:
        1 / len(w.take_invitation(HASH, 1.0)[1])
    assert take(HASH, 1.0, "request") == ""  # the block before has not used it
    assert take(HASH, 2.0, "request") == ""  # the same request again: its answer got lost
    assert take(HASH, 2.0, "another request") == take(HASH, 2.0) == "the invitation has been used"
    assert take(HASH, 100.0, "request") == "the invitation is too old"
    used = {invitation.party: invitation.used_at for invitation in store.invitations()}
    assert used == {"bakery": 1.0}


def test_invitations_end_when_their_party_has_joined_or_is_revoked(store):
    first, second, third = "1" * 64, "2" * 64, "3" * 64

    def take(token_hash):
        with store.writing() as w:
            found, why = w.take_invitation(token_hash, 1.0, "request")
            if found is not None:
                w.join("bakery", "pem", HASH, 1.0)
            return why

    with store.writing() as w:
        w.add_invitation(first, "bakery", "participant", 100.0)
        w.add_invitation(second, "bakery", "participant", 100.0)
        w.add_invitation("4" * 64, "mill", "participant", 100.0)
    assert take(first) == take(first) == ""
    assert take(second) == "there is no such invitation"
    with store.writing() as w:
        w.set_status("bakery", "revoked")
    assert take(first) == "there is no such invitation"  # so that the key that was revoked does not come back with it
    with store.writing() as w:
        w.add_invitation(third, "bakery", "participant", 100.0)
    assert store.party("bakery").status == "invited"
    assert take(third) == ""
    assert {one.party for one in store.invitations()} == {"mill", "bakery"}


def test_of_many_who_come_with_one_invitation_one_gets_in(opened, together):
    with opened().writing() as w:
        w.add_invitation(HASH, "bakery", "participant", 100.0)

    def taker(store):
        def take():
            with store.writing() as w:
                return w.take_invitation(HASH, 1.0)[1]

        return take

    answers = together(*[taker(opened()) for _ in range(4)])
    assert sorted(answers) == ["", *["the invitation has been used"] * 3]


# ---- runs, letters, events


def test_runs_are_counted(store):
    with store.writing() as w:
        assert w.add_run(b"a", 1.0, "started").number == 1
        assert w.add_run(b"b", 2.0, "started").number == 2
        w.set_run(1, "ended", 3.0)
        w.set_run(1, "judged")
    digest = hashlib.sha256(b"a").hexdigest()
    assert store.run(1) == tables.RunRow(1, digest, b"a", 1.0, 3.0, "judged")
    assert [run.ended_at for run in store.runs()] == [3.0, None]
    assert store.run(3) is None


def test_letters_come_in_order_and_once(store):
    with store.writing() as w:
        for name in ("bakery", "mill"):
            w.add_party(name, "participant")
        w.add_run(b"", 1.0, "")
        w.add_run(b"", 1.0, "")
        seq = w.append(1, "sent", 1.0, b"").seq
        for number in (2, 1, 3):
            w.add_letters([LetterRow("bakery", 1, number, b"%d" % number, HASH, 2**40, seq)])
        w.add_letters([LetterRow("bakery", 2, 1, b"other run", HASH, 0, seq)])
        w.add_letters([LetterRow("mill", 1, 1, b"other party", HASH, 0, seq)])
        assert w.last_number("bakery", 1) == 3
    assert [row.letter for row in store.letters("bakery", 1)] == [b"1", b"2", b"3"]
    assert [row.number for row in store.letters("bakery", 1, after=1)] == [2, 3]
    assert [row.number for row in store.letters("bakery", 1, after=1, limit=1)] == [2]
    assert (store.letters("bakery", 1)[0].size, store.last_number("mill", 2)) == (2**40, 0)
    for to, run, number, cause in (("bakery", 1, 3, seq), ("x", 1, 9, seq), ("mill", 9, 9, seq), ("mill", 1, 9, 99)):
        with pytest.raises(StoreError, match=r"(?i)unique|foreign"), store.writing() as w:
            w.add_letters([LetterRow(to, run, number, b"", HASH, 0, cause)])


def test_who_has_written_letters_sees_the_same_as_everybody(opened):
    one, other = opened(), opened()
    with one.writing() as w:
        w.add_party("bakery", "participant")
        w.add_run(b"", 1.0, "")
        seq = w.append(1, "sent", 1.0, b"").seq
    rows = [LetterRow("bakery", 1, number, b"%d" % number, HASH, 7, seq) for number in range(1, FRESH + 3)]
    for row in rows:
        with one.writing() as w:
            w.add_letters([row])
        lost = LetterRow("bakery", 1, row.number + 1, b"not written", HASH, 7, seq)
        with pytest.raises(StoreError), one.writing() as w:
            w.add_letters([lost, row])
        for after in (0, row.number - FRESH - 1, row.number - FRESH, row.number - 1, row.number, row.number + 1):
            for limit in (1, 100):
                assert one.letters("bakery", 1, after, limit) == other.letters("bakery", 1, after, limit)
    with other.writing() as w:  # which leads as little
        w.add_letters([LetterRow("bakery", 1, rows[-1].number + 1, b"next", HASH, 7, seq)])
    assert one.letters("bakery", 1, rows[-1].number) == other.letters("bakery", 1, rows[-1].number)


def test_records_are_read_page_by_page(store, monkeypatch):
    monkeypatch.setattr(reads, "PAGE", 3)
    with store.writing() as w:
        w.add_run(b"", 1.0, "")
        written = [w.append(1 if n % 3 else None, f"kind {n}", n / 8, bytes([n])) for n in range(10)]
        assert list(w.records()) == written
    assert [record.seq for record in written] == list(range(1, 11))
    assert list(store.records()) == written
    assert list(store.records(after=4)) == written[4:]
    assert list(store.records(run=1, after=2)) == [record for record in written[2:] if record.run == 1]
    assert store.head() == written[-1]
    assert verify_chain(store.records(), written[-1].hash) is None
