"""Whatever bytes come from elsewhere: an error of ours, and soon. A short run; `make fuzz` is the long one."""

# ruff: noqa: S311 - chance that can be repeated

from __future__ import annotations

import logging
import random
import sqlite3
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from mutations import mutate
from targets import FAST, TARGETS, Target

from fedstill.agent.journal import Journal
from fedstill.errors import DataError
from fedstill.service.export import verify
from fedstill.service.store.databases import StoreError
from fedstill.service.store.store import Store

FRAMES = 2000
"""Of a fast target; slow ones get their share, and at least 40."""
MAX_S = 2.0
"""Processor time for one input; usual are microseconds, and 0.1 s for an audit."""
MAX_WAIT_S = 4.5
"""Time for one input by the clock; SQLite waits 5 s for a lock."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=FAST) as name:
        yield Path(name)


@cache
def made(name: str, folder: Path) -> Target:
    return TARGETS[name](folder)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is refused is logged, thousands of times."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def take(target: Target, data: bytes) -> None:
    began, begun = time.thread_time(), time.monotonic()
    try:
        target.run(data)
    except target.allowed:
        pass
    except Exception as error:
        raise AssertionError(f"{error!r} for {data!r}") from error
    assert time.thread_time() - began < MAX_S, data
    assert time.monotonic() - begun < MAX_WAIT_S, data


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_its_own_errors_comes_of_changed_bytes(name: str, folder: Path) -> None:
    target = made(name, folder)
    for seed in target.seeds:
        target.run(seed)  # raises nothing: what follows starts from what is right
    chance = random.Random(name)
    for _ in range(max(40, int(FRAMES * target.share))):
        take(target, mutate(target.seeds, chance))


def _redone(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(seed: bytes) -> bytes:
        assert old in seed
        return seed.replace(old, new, 1)

    return change


DAMAGE = _redone(b"tablelettersletters", b"table\xffettersletters")  # and SQLite quotes it in what it complains of
FOUND: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("answered", lambda _: b'{"why":"","other":' + b"[" * 3000),
    ("status", lambda _: b'{"other":' + b"[" * 3000),
    ("participant_settings", lambda _: b"a = " + b"[" * 3000),
    ("consortium_settings", lambda seed: seed + b"a = " + b"[" * 3000),
    ("charter", _redone(b'"parties":["a","b"]', b'"parties":["a","a"]')),
    ("charter", _redone(b'"quorum":2', b'"quorum":22')),
    ("charter", _redone(b'"rounds":1', b'"rounds":-1')),
    ("journal", _redone(b"tabledraftsdrafts", b"table\xffraftsdrafts")),
    ("audit_database", DAMAGE),
    ("audit_archive", lambda seed: seed[:60] + bytes(byte ^ 0x55 for byte in seed[60:90]) + seed[90:]),
]
"""What fuzzing has brought to light: each raised a foreign exception once."""


@pytest.mark.parametrize(("name", "change"), FOUND)
def test_what_was_found_once_is_refused(name: str, change: Callable[[bytes], bytes], folder: Path) -> None:
    target = made(name, folder)
    refused = 0
    for seed in target.seeds[:1]:
        try:
            target.run(change(seed))
        except target.allowed:
            refused += 1
    assert refused or name == "answered"  # which looks itself at what is raised


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not say which files are open")
def test_a_damaged_journal_is_let_go(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "journal.db"
    damaged.write_bytes(made("journal", folder).seeds[0][:5000])
    with pytest.raises(DataError):
        Journal(damaged, "run")
    files = (file.readlink() for file in Path("/proc/self/fd").iterdir() if file.is_symlink())
    assert damaged not in files  # its lock would keep out whoever mends it


def test_a_damaged_store_is_said_to_be_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(DAMAGE(made("audit_database", folder).seeds[0]))
    with pytest.raises(StoreError, match="is damaged"):
        Store.open(f"sqlite:///{tmp_path / 'store.db'}")


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE events; CREATE VIEW events AS WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n)"
        " SELECT seq, 1 AS run, 'ticked' AS kind, 0.0 AS at, x'' AS body, '' AS previous, '' AS hash FROM n",
        "CREATE TRIGGER t AFTER INSERT ON events BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE notes USING fts5(text)",
    ],
)
def test_an_audit_runs_no_program_of_who_is_audited(statement: str, folder: Path, tmp_path: Path) -> None:
    _, database = made("audit_rows", folder), tmp_path / "store.db"
    with zipfile.ZipFile(folder / "rows.zip") as file:
        files = {name: file.read(name) for name in file.namelist()}
    database.write_bytes(files["store.db"])
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(statement)
    with zipfile.ZipFile(tmp_path / "audit.zip", "w") as file:
        for name, data in {**files, "store.db": database.read_bytes()}.items():
            file.writestr(name, data)
    with pytest.raises(DataError, match="more than tables"):
        verify(tmp_path / "audit.zip")
