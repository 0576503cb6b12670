"""Kills, full disks, servers that are gone: nothing reported is lost, nothing is half, and errors say what to do."""

# ruff: noqa: S311 - chance that can be repeated
from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedstill.errors import ConfigError, MissingExtra
from fedstill.service.store import databases
from fedstill.service.store.chain import verify_chain
from fedstill.service.store.databases import StoreError
from fedstill.service.store.store import NotLeading, Store
from fedstill.service.store.tables import LetterRow

HASH = "ab" * 32
STALE_S = 30.0
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills, limits and users of POSIX")


def append(store, body=b""):
    with store.writing() as w:
        return w.append(None, "x", 1.0, body)


def write_for_ever(url, told):
    store = Store.open(url)
    store.lead("coordinator", 0.0, STALE_S)
    number = store.last_number("bakery", 1)
    while True:
        with store.writing() as w:
            seq = w.append(1, "sent", 1.0, bytes(number % 3000)).seq
            w.add_letters([LetterRow("bakery", 1, number + 1, b"letter", HASH, 0, seq)])
        number += 1
        os.write(told, number.to_bytes(8, "big"))


def test_a_kill_loses_nothing_and_leaves_nothing_half(url, opened):
    """A process is killed twenty times, wherever it is: what it has reported is there, each event with its letter."""
    rng = random.Random(7)
    setup = Store.open(url)
    with setup.writing() as w:
        w.add_party("bakery", "participant")
        w.add_run(b"", 1.0, "")
    setup.close()
    last = 0
    for _ in range(20):
        out, into = os.pipe()
        writer = multiprocessing.get_context("fork").Process(target=write_for_ever, args=(url, into))
        writer.start()
        os.close(into)
        with os.fdopen(out, "rb") as pipe:
            told = pipe.read(8)
            writer.join(rng.uniform(0, 0.03))
            writer.kill()
            writer.join()
            told += pipe.read()
        assert int.from_bytes(told[:8], "big") > last
        last = int.from_bytes(told[-8:], "big")
    store = opened()
    store.lead("coordinator", 0.0, STALE_S)  # behind a last transaction that PostgreSQL may still be ending
    events = list(store.records())
    letters = store.letters("bakery", 1, limit=10**6)
    assert len(events) >= last >= 20
    assert [letter.seq for letter in letters] == [event.seq for event in events]
    assert [letter.number for letter in letters] == list(range(1, len(events) + 1))
    assert verify_chain(events) is None


def test_a_server_that_was_restarted_is_found_again(postgresql):
    """Crashed in fact: it stops at once, and reads its log when it starts."""
    store = Store.open(postgresql.empty())
    before = append(store)
    postgresql.stop()
    with pytest.raises(StoreError, match="See that the database server runs") as caught:
        append(store)
    assert "fedstill@" in caught.value.where
    postgresql.start()
    after = append(store)
    assert after.previous == before.hash
    postgresql.stop()
    postgresql.start()
    assert append(store).previous == after.hash  # who was not there meanwhile does not notice
    store.close()


def test_a_process_that_hangs_in_a_transaction_is_waited_for_and_named(url, monkeypatch):
    monkeypatch.setattr(databases, "BUSY_S", 0.05)
    one, two = Store.open(url), Store.open(url)
    with one.writing() as w:
        w.add_party("bakery", "participant")
        assert two.parties() == []  # reading goes on
        with pytest.raises(StoreError, match="Another process has been writing"):
            append(two)
    append(two)
    assert [party.name for party in two.parties()] == ["bakery"]
    one.close()
    two.close()


def test_postgresql_throws_out_who_is_frozen_in_a_transaction(postgresql, monkeypatch):
    monkeypatch.setattr(databases, "IDLE_S", 0.05)
    url = postgresql.empty()
    frozen, other = Store.open(url), Store.open(url)
    assert frozen.lead("frozen", 0.0, STALE_S)
    before = list(other.records())

    def freeze():
        with frozen.writing() as w:
            w.append(None, "x", 1.0, b"")
            assert other.lead("other", 40.0, STALE_S)  # waits until the server has ended the first

    with pytest.raises(StoreError, match="idle"):
        freeze()
    assert list(other.records()) == before
    with pytest.raises(NotLeading):
        append(frozen)
    other.release()
    frozen.close()
    other.close()


@contextmanager
def no_file_over(n_bytes):
    """A full disk: nothing can be written behind the first `n_bytes` of a file."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_with_a_path_and_loses_nothing(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path}/store.sqlite")
    written = [append(store)]
    with no_file_over(2**20), pytest.raises(StoreError, match="what was written before is safe") as caught:
        append(store, body=bytes(3 * 2**20))
    assert caught.value.where == f"{tmp_path}/store.sqlite"
    assert list(store.records()) == written
    written.append(append(store))
    assert list(store.records()) == written
    store.close()


def test_a_commit_waits_for_the_disk(store):
    """No kill can show this: it takes a power failure."""
    with store._engine.connect() as connection:

        def setting(statement):
            return connection.exec_driver_sql(statement).scalar()

        if connection.dialect.name == "sqlite":
            found = [setting(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]
            assert found == ["wal", 2, 1]  # 2 is FULL
        else:
            assert setting("SHOW synchronous_commit") == "on"
            assert setting("SHOW lock_timeout") == "30s"
            assert setting("SHOW idle_in_transaction_session_timeout") == "1min"


@pytest.fixture
def nobody():
    """A folder, and a user who can read it and not write; root could do everything."""
    folder = Path(tempfile.mkdtemp())

    @contextmanager
    def become():
        for path in (folder, *folder.iterdir()):
            path.chmod(0o555 if path.is_dir() else 0o444)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)

    yield folder, become
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written_is_named(nobody):
    folder, become = nobody
    with become(), pytest.raises(StoreError, match="this user may write") as caught:
        Store.open(f"sqlite:///{folder}/store.sqlite")
    assert caught.value.where == f"{folder}/store.sqlite"
    Store.open(f"sqlite:///{folder}/store.sqlite").close()
    with become(), pytest.raises(StoreError, match="this user may write"):
        Store.open(f"sqlite:///{folder}/store.sqlite")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite://store.sqlite", "three slashes"),
        ("sqlite:////tmp/store.sqlite?mode=ro", "no options"),
        ("mysql://me:secret@host/x", "kind 'mysql'"),
        ("me:secret@host", "sqlite:////var/lib/fedstill"),
        ("", "sqlite:////var/lib/fedstill"),
        ("postgresql://me:secret@host:port/x", "sqlite:////var/lib/fedstill"),
        ("postgresql://me:secret@localhost:1/x?password=secret", r"postgresql://me:\*\*\*@localhost:1/x.*server runs"),
        ("postgresql+psycopg2://me:secret@localhost:1/x", "server runs"),
    ],
)
def test_what_is_no_database_is_said_without_the_password(url, says):
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match=says) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_and_a_folder_that_is_not_there(tmp_path):
    (tmp_path / "notes").write_text("not a database " * 100)
    with pytest.raises(StoreError, match="Name a file that does not exist yet"):
        Store.open(f"sqlite:///{tmp_path}/notes")
    with pytest.raises(StoreError, match="See that the folder exists"):
        Store.open(f"sqlite:///{tmp_path}/nowhere/store.sqlite")
    with pytest.raises(StoreError, match="See that the folder exists"):
        Store.open(f"sqlite:///{tmp_path}")
    assert (tmp_path / "notes").read_text().startswith("not a database")


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match="pip install"):
        Store.open("postgresql://host/x")
