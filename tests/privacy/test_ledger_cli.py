"""`fedstill ledger`, as an owner uses it: while a participant works, and on files that are none."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from fedstill.cli.main import main
from fedstill.privacy.durable import SQLiteLedger
from fedstill.privacy.ledger import Entry, sealed
from fedstill.privacy.pricing import epsilon
from fedstill.privacy.spending import Budget, Event, Spend, Unit
from fedstill.testing.ledgers import FREE, OPEN, TRAINED


def fedstill(*arguments: object) -> tuple[int, str, str]:
    """Exit code, and what was printed, to people and of errors."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as done:
            code = int(done.code or 0)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def home(tmp_path):
    """A participant's folder whose ledger is in use: a private model and 12 answers of it, and another data set."""
    pytest.importorskip("dp_accounting")
    ledger = SQLiteLedger(tmp_path / "ledger.db", "plant", Budget(4.0), lambda: 1e9, "terms")
    ledger.charge(TRAINED, b"model", "model")
    for number in range(12):
        ledger.charge(FREE, bytes([number]))
    with closing(SQLiteLedger(tmp_path / "ledger.db", "other", Budget(), lambda: 1e9)) as other:
        other.charge(OPEN, b"")
    yield tmp_path
    ledger.close()


def test_an_owner_is_shown_what_was_spent_and_on_what(home):
    price = epsilon([TRAINED.event], 1e-5)
    for path in (home, home / "ledger.db"):
        code, out, err = fedstill("ledger", "show", path)
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert lines[:5] == [
            f"plant: epsilon {price:.4g} of 4, for each day at delta 1e-05; 13 entries",
            f"  1 x a release model of 365 days: epsilon {price:.4g} alone",
            "  12 x soft labels of a private model: free",
            "other: epsilon inf, without a budget, for each day at delta 1e-05; 1 entries",
            "  1 x soft labels: without protection",
        ]
        assert [line.split()[1] for line in lines if line[:3] in ("| 5", "| 1")] == ["5", "10", "11", "12", "13", "14"]


def test_a_program_is_shown_the_same(home):
    code, out, _ = fedstill("ledger", "show", home, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["data_sets"]["plant"] == {
        "unit": "day",
        "epsilon": epsilon([TRAINED.event], 1e-5),
        "delta": 1e-5,
        "budget_epsilon": 4.0,
        "entries": 13,
        "what": [
            {"what": TRAINED.what, "count": 1, "epsilon": epsilon([TRAINED.event], 1e-5)},
            {"what": FREE.what, "count": 12, "epsilon": None},
        ],
    }
    assert (told["data_sets"]["other"]["epsilon"], told["data_sets"]["other"]["budget_epsilon"]) == ("inf", "inf")
    assert [entry["number"] for entry in told["last"]] == list(range(5, 15))


def entry_of(line: dict) -> Entry:
    """What somebody who checks the chain by an exported file makes of a line."""
    import msgspec

    event, budget = msgspec.convert(line["spend"].pop("event"), Event), line.pop("budget")
    spend = Spend(event, Unit(line["spend"].pop("unit")), line.pop("spend")["what"])
    kept = Budget(float(budget["epsilon"]), budget["delta"], Unit(budget["unit"]))
    return Entry(**line, spend=spend, budget=kept)


def test_an_exported_ledger_holds_all_that_its_hashes_are_of_and_no_release(home):
    code, out, _ = fedstill("ledger", "export", home, home / "entries.jsonl")
    text = (home / "entries.jsonl").read_text(encoding="utf-8")
    entries = [entry_of(json.loads(line)) for line in text.splitlines()]
    assert code == 0
    assert len(entries) == 14
    assert out == f"{home / 'entries.jsonl'}: 14 entries; head {entries[-1].hash}\n"
    assert all(entry == sealed(entry) for entry in entries)
    assert "release" not in text.replace(TRAINED.what, "")


def test_a_ledger_is_not_written_over_by_its_export(home):
    code, _, err = fedstill("ledger", "export", home, home / "ledger.db")
    assert (code, "this is the ledger itself" in err) == (2, True)
    assert fedstill("ledger", "verify", home)[0] == 0


def test_a_whole_ledger_is_verified(home):
    code, out, _ = fedstill("ledger", "verify", home)
    assert (code, out.splitlines()[-1]) == (0, "Every entry is as it was written, and was paid for.")
    told = json.loads(fedstill("ledger", "verify", home, "--json")[1])
    assert (told["entries"], told["faults"]) == (14, [])
    assert f"14 entries; head {told['head']}" in out


def test_what_does_not_fit_is_named(home):
    with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as connection:
        connection.execute("UPDATE entries SET event = replace(event, '4.0', '40.0') WHERE number = 1")
    code, out, err = fedstill("ledger", "verify", home)
    assert (code, "Every entry" in out) == (2, False)
    assert "ledger.db: entry 1 is not what was written. Restore the ledger from a copy that is whole" in err
    code, out, _ = fedstill("ledger", "verify", home, "--json")
    assert (code, json.loads(out)["faults"]) == (2, ["entry 1 is not what was written"])


def test_a_ledger_without_entries(tmp_path):
    SQLiteLedger(tmp_path / "ledger.db", "plant", Budget(), lambda: 0.0).close()
    assert fedstill("ledger", "show", tmp_path) == (0, "", "")
    assert fedstill("ledger", "verify", tmp_path)[:2] == (
        0,
        "0 entries; head none yet\nEvery entry is as it was written, and was paid for.\n",
    )
    assert fedstill("ledger", "export", tmp_path, tmp_path / "none.jsonl")[0] == 0
    assert (tmp_path / "none.jsonl").read_bytes() == b""


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE others (a); INSERT INTO others VALUES (1)")


def damaged(path: Path) -> None:
    with closing(SQLiteLedger(path, "plant", Budget(), lambda: 0.0)) as ledger:
        for _ in range(50):
            ledger.charge(OPEN, b"")
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 3] = b"\xa5" * (4096 * 2)
    path.write_bytes(data)


FILES = {
    "there is no ledger": lambda path: None,
    "there is no ledger. ": lambda path: path.mkdir(),  # neither file nor a folder with one
    "file is not a database": lambda path: path.write_text("something else " * 300, encoding="utf-8"),
    "no such table: entries": foreign,
    "no such table: entries.": lambda path: path.touch(),
    "malformed": damaged,
}


@pytest.mark.parametrize("said", FILES)
@pytest.mark.parametrize("command", [["show"], ["show", "--json"], ["verify"], ["export"]])
def test_what_is_no_ledger_is_a_plain_error_and_stays_as_it_is(tmp_path, said, command):
    path = tmp_path / "some.db"
    FILES[said](path)
    before = {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()}
    further = [tmp_path / "out.jsonl"] if command == ["export"] else []
    code, out, err = fedstill("ledger", *command, path, *further)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {path}")
    assert said in err
    assert {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()} == before


def test_a_participants_home_knows_its_ledger():
    pytest.importorskip("cryptography")
    from fedstill.agent.home import Home

    assert Home(Path("plant")).ledger_path == Path("plant") / "ledger.db"
