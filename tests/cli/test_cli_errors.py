"""Mistakes of users: each ends with exit code 2 and one line that says what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedstill.learners.base import BaseLearner

TWO_ROWS = "unique_id,ds,y\nalpha,2016-01-01T00:00:00Z,1\nalpha,2016-01-01T01:00:00Z,2\n"
CHECK = ("check", "federation.toml")
MINE = ("predict", "{models}/alpha", "mine.csv")


def toml(old: str, new: str) -> Callable[[Path], None]:
    """Change federation.toml where it says `old`."""

    def change(folder: Path) -> None:
        path = folder / "federation.toml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def load(*edits: tuple[str, str]) -> Callable[[Path], None]:
    """Change load.csv: the first occurrence of each text."""

    def change(folder: Path) -> None:
        path = folder / "load.csv"
        text = path.read_text(encoding="utf-8")
        for old, new in edits:
            assert old in text
            text = text.replace(old, new, 1)
        path.write_text(text, encoding="utf-8")

    return change


def file(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Write a file."""

    def change(folder: Path) -> None:
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(raw)

    return change


def plain_stamps(folder: Path) -> None:
    """Take the offsets off the stamps."""
    path = folder / "load.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("Z,", ","), encoding="utf-8")


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def nothing(folder: Path) -> None:
    """Leave everything as it is."""


def last_participants_gone(keep: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "federation.toml"
        head, *tables = path.read_text(encoding="utf-8").split("[[participants]]")
        path.write_text("[[participants]]".join([head, *tables[:keep]]), encoding="utf-8")

    return change


def setting(change: str, *parts: str) -> tuple[Callable[[Path], None], tuple[str, ...], tuple[str, ...]]:
    """A mistake in one key, made by --set."""
    return nothing, (*CHECK, "--set", change), parts


# What the user did: (what was changed, the command, what the line must say).
MISTAKES: dict[str, tuple[Callable[[Path], None], tuple[str, ...], tuple[str, ...]]] = {
    # the federation file
    "no federation file": (nothing, ("run", "missing.toml"), ("missing.toml: there is no such file", "examples/")),
    "a folder as the file": (nothing, ("check", "."), (".: there is no such file",)),
    "not TOML": (toml("rounds = 2", "rounds == 2"), CHECK, ("federation.toml: not TOML", "line 3", "Mend")),
    "not text": (file("federation.toml", b"\xff\xfe\x00"), CHECK, ("federation.toml: not TOML",)),
    "key of the file": (toml("rounds =", "runds ="), CHECK, ("federation.toml: there is no key 'runds'", "'rounds'?")),
    "key of task": (toml("levels =", "level ="), CHECK, ("task: there is no key 'level'", "'levels'?")),
    "key of data": (toml("timezone", "timezon"), CHECK, (", data: there is no key 'timezon'", "'timezone'?")),
    "key of transfer": (toml("items =", "item ="), CHECK, (", transfer: there is no key 'item'", "'items'?")),
    "key of a participant": (
        toml("learner =", "lerner ="),
        CHECK,
        (", participants[0]: there is no key 'lerner'", "'learner'?"),
    ),
    "the task's own name": (toml("levels =", 'name = "x"\nlevels ='), CHECK, ("task: there is no key 'name'",)),
    "a participant without name": (
        toml('name = "beta"', ""),
        CHECK,
        ("participants[1]: the key 'name' is missing", "Add name ="),
    ),
    "a table as a value": setting("task=3", "task: expected `object`"),
    "participants as a table": (
        both(last_participants_gone(0), toml("[strategy]", "[participants]\n[strategy]")),
        CHECK,
        ("participants: expected `array`",),
    ),
    # names and options
    "task": setting("task.kind=forcast", "task.kind: there is no task 'forcast'", "'forecast'?"),
    "task that is no name": setting("task.kind=[1]", "task.kind: [1] is no name", "forecast"),
    "algorithm": setting("strategy.name=grouped2", "strategy.name: there is no algorithm 'grouped2'", "'grouped'?"),
    "algorithm that is no name": setting("strategy.name=5", "strategy.name: 5 is no name", "fedavg"),
    "algorithm's option": setting("strategy.sahre=0.5", "strategy: ", "no option 'sahre'", "'share'?"),
    "algorithm's value": setting("strategy.share=2", "share", "2"),
    "algorithm's word": setting("strategy.select=best", "strategy, select: 'best' is no choice", "median"),
    "algorithm's type": setting("strategy.share=much", "strategy, share: expected `float`"),
    "learner": setting(
        "participants.beta.learner=lightgmb",
        "participant beta, learner: there is no learner 'lightgmb'",
        "'lightgbm'?",
    ),
    "learner's option": setting("participants.alpha.options={tress=3}", "no option 'tress'", "'trees'?"),
    "learner's value": setting("participants.alpha.options={trees=0}", "cannot take trees = 0", "from 1 to"),
    "learner's type": setting('participants.alpha.options={trees="all"}', "cannot take trees = 'all'", "whole number"),
    "codec": setting("codec=zip", "codec: there is no codec 'zip'", "raw"),
    "parameters of unlike models": setting("strategy={name='fedavg'}", "participant alpha: ", "'fedavg'", "fedmd"),
    # numbers
    "no rounds": setting("rounds=0", "federation.toml, rounds: expected `int` >= 1"),
    "half a round": setting("rounds=1.5", "rounds: expected `int`, got `float`"),
    "rounds in words": setting("rounds=many", "rounds: expected `int`, got `str`"),
    "negative items": setting("transfer.items=-5", "transfer.items: expected `int` >= 1"),
    "negative seed": setting("seed=-1", "seed: expected `int` >= 0"),
    "no workers": setting("workers=0", "workers: expected `int` >= 1"),
    "quorum too large": setting("quorum=4", "quorum: a quorum of 4 cannot be met by 3", "Use 1 to 3"),
    "no quorum": setting("quorum=0", "quorum: expected `int` >= 1"),
    "levels": setting("task.levels=[0.9,0.5]", "task.levels: ", "rising", "levels ="),
    "levels in words": setting('task.levels=["low"]', "task, levels[0]: expected `float`"),
    "no folds": setting("task.folds=0", "task.folds: a history cannot be held back in 0 folds", "1 to hold nothing"),
    "half a fold": setting("task.folds=2.5", "task, folds: expected `int`"),
    "issue hour": setting("task.issue_hour=25", "task.issue_hour: ", "25", "0 to 24"),
    "step": setting("task.step=7min", '"7min" is not a step', "Choose one of"),
    "naive rule": setting("task.naive=month", "task, naive: 'month' is no choice", "both, day, mixed, similar, week"),
    "country": setting("task.country=Atlantis", "country: ", "Atlantis", "Did you mean"),
    # dates
    "no date in the test": setting('task.test=["soon","2016-03-08"]', "task.test: 'soon' is no date", "2016-01-31"),
    "no such day": setting('task.test=["2016-02-30","2016-03-08"]', "task.test: '2016-02-30' is no date"),
    "no test": (toml("test =", "# test ="), CHECK, ("task.test: no test days are given", "test = [")),
    "no date in a history": setting(
        'participants.beta.history=["2016","2016-02-01"]', "participant beta, history: '2016' is no date"
    ),
    "one date": setting('participants.beta.history=["2016-01-01"]', "participants[1].history: expected `array`"),
    "history turned round": setting(
        'participants.beta.history=["2016-02-01","2016-01-01"]', "participant beta, history: no day lies from"
    ),
    "history outside the data": setting(
        'participants.beta.history=["2010-01-01","2010-02-01"]',
        "site beta: there is no reading from 2010-01-01",
        "The readings are from 2016-01-01",
    ),
    "history too short": setting(
        'participants.beta.history=["2016-01-10","2016-01-11"]',
        "site beta: 24 usable rows of history",
        "more days",
    ),
    "test outside the data": setting(
        'task.test=["2030-01-01","2030-02-01"]', "site alpha: 0 usable rows of test days", "mend history or test"
    ),
    "no date in the transfer": setting('transfer.history=["x","y"]', "transfer.history: 'x' is no date"),
    "transfer outside the data": setting(
        'transfer.history=["2030-01-01","2030-02-01"]', "site public: there is no reading from 2030-01-01"
    ),
    "transfer too short": setting(
        'transfer.history=["2016-01-01","2016-01-05"]', "site public: 0 usable rows are left for the transfer set"
    ),
    # participants
    "no participants": (last_participants_gone(0), CHECK, ("participants: nobody takes part", "[[participants]]")),
    "one participant": (last_participants_gone(1), CHECK, ("participants: 'alpha' is alone", "Add participants")),
    "two of one name": (
        toml('name = "beta"', 'name = "alpha"'),
        CHECK,
        ("participants: two participants are called 'alpha'", "Rename one"),
    ),
    "a name that is a path": (
        toml('name = "beta"', 'name = "../beta"'),
        CHECK,
        ("participants: '../beta' cannot be a participant's name", "letters and digits"),
    ),
    "no name": (toml('name = "beta"', 'name = ""'), CHECK, ("participants: '' cannot be a participant's name",)),
    "a participant's site as transfer set": setting(
        "transfer.site=beta", "transfer: site 'beta' is the private data of participant beta", "do not take part"
    ),
    "a participant's site by another path": (
        nothing,
        (*CHECK, "--set", "transfer.site=beta", "--set", "transfer.file=./load.csv"),
        ("transfer: site 'beta' is the private data of participant beta",),
    ),
    "a participant's site among many": (
        toml('site = "public"', 'sites = ["public", "alpha"]'),
        CHECK,
        ("transfer: site 'alpha' is the private data of participant alpha",),
    ),
    "one site and many": setting('transfer.sites=["public"]', "transfer: both 'site' and 'sites' are given"),
    # data
    "no data file": (toml('file = "load.csv"', ""), CHECK, ("participant alpha: no file is given", "[data]")),
    "missing data file": setting("data.file=other.csv", "other.csv: there is no such file", "Check the path"),
    "a folder as data file": setting("data.file=.", "this is a directory"),
    "empty data file": (file("load.csv", ""), CHECK, ("load.csv: the file is empty",)),
    "a picture": (file("load.csv", b"\x89PNG\r\n\x1a\n\x00\xff\xfe"), CHECK, ("load.csv", "not text in UTF-8")),
    "damaged Parquet": (file("load.csv", b"PAR1" + b"x" * 50), CHECK, ("load.csv: the Parquet file is damaged",)),
    "a row too long": (load(("T05:00:00Z,", "T05:00:00Z,1,2,")), CHECK, ("load.csv, line 8", "more cells", "a point")),
    "no number": (load(("T05:00:00Z,", "T05:00:00Z,x")), CHECK, ("load.csv, line 8", '"y"', "is not a number")),
    "no stamp": (load(("2016-01-01T05:00:00Z,", "noon,")), CHECK, ("load.csv, line 8", '"noon" is not a date')),
    "the same stamp twice": (
        load(("2016-01-01T05:00:00Z,", "2016-01-01T04:00:00Z,")),
        CHECK,
        ("load.csv, line 8", "is there already, in line 7", 'duplicates = "first"'),
    ),
    "negative load": (load(("T05:00:00Z,", "T05:00:00Z,-")), CHECK, ("load.csv, line 8", 'negative = "allow"')),
    "wrong column": setting("data.load=power", "load.csv: ", 'no column "power"', "unique_id, ds, y"),
    "wrong unit": setting("data.unit=hp", "load.csv", '"hp"', "kWh"),
    "no time zone": (
        both(plain_stamps, toml('timezone = "Europe/Berlin"', "")),
        CHECK,
        ("load.csv", '"ds"', "no timezone is set", 'timezone = "Europe/Berlin"'),
    ),
    "unknown time zone": setting("data.timezone=Berlin", 'timezone: there is no time zone "Berlin"', "Europe/Berlin?"),
    "site not in the file": (
        toml('name = "beta"', 'name = "betta"'),
        CHECK,
        ('load.csv, column "unique_id": there is no site "betta"', "Did you mean beta?"),
    ),
    "transfer site not in the file": setting("transfer.site=pubic", 'there is no site "pubic"', "Did you mean public?"),
    "transfer of many sites": (toml('site = "public"', ""), CHECK, ("transfer.site: load.csv holds 4 sites", "Choose")),
    "no covariate": setting('task.covariates=["wind"]', 'there is no column "wind"', "temperature_c"),
    # the command line
    "--set without value": setting("rounds", "--set: 'rounds' is no change", "key=value"),
    "--set without key": setting("=5", "--set: '=5' is no change"),
    "--set of no key": setting("participants.delta.learner=mlp", "--set: no entry 'delta'", "alpha, beta, gamma"),
    "--set into a number": setting("rounds.much=3", "--set: ", "leads nowhere"),
    "no command": (nothing, ("rum", "federation.toml"), ("No such command 'rum'", "'run'?", "fedstill --help")),
    "no argument": (nothing, ("run",), ("Missing argument 'FILE'", "fedstill run --help")),
    "no option": (nothing, ("run", "federation.toml", "--otu", "x"), ("No such option", "--otu", "--out")),
    "a file where the output should go": (
        file("taken", "x"),
        ("run", "federation.toml", "--out", "taken"),
        ("taken: cannot be written to", "another folder with --out"),
    ),
    "a file where the output's folder should be": (
        file("taken", "x"),
        ("run", "federation.toml", "--out", "taken/out"),
        ("taken/out: cannot be written to",),
    ),
    "a data error in a run": (
        load(("T05:00:00Z,", "T05:00:00Z,x")),
        ("run", "federation.toml", "--out", "out"),
        ("load.csv, line 8", "is not a number"),
    ),
    # predict and report
    "no model": (nothing, ("predict", "nowhere", "load.csv"), ("nowhere: no model is here", "models/")),
    "the run as the model": (nothing, ("predict", "{models}", "load.csv"), ("no model is here", "below models/")),
    "no readings": (nothing, ("predict", "{models}/alpha", "none.csv"), ("none.csv: there is no such file",)),
    "readings too few": (
        file("mine.csv", TWO_ROWS),
        MINE,
        ("site alpha: no interval from 2016-01-01", "9 days before"),
    ),
    "readings of others": (
        nothing,
        ("predict", "{models}/alpha", "load.csv", "--site", "delta"),
        ('there is no site "delta"', "There are 4 sites"),
    ),
    "readings of many": (
        file("mine.csv", TWO_ROWS.replace("alpha", "beta", 1).replace("alpha", "gamma")),
        MINE,
        ("fewer than 2 rows",),
    ),
    "a site of many": (
        file("mine.csv", (TWO_ROWS + TWO_ROWS.partition("\n")[2].replace("alpha", "gamma")).replace("alpha", "beta")),
        MINE,
        ("mine.csv: it holds 2 sites, none of them called alpha", "--site", "beta, gamma"),
    ),
    "readings without zone": (
        file("mine.csv", TWO_ROWS.replace("Z", "")),
        MINE,
        ("mine.csv", "no timezone is set", "timezone ="),
    ),
    "readings without unit": (
        file("mine.csv", TWO_ROWS.replace(",y", ",load")),
        MINE,
        ("mine.csv", "unit of the load is not known", "kWh"),
    ),
    "a day that is not due": (
        nothing,
        ("predict", "{models}/alpha", "load.csv", "--from", "2016-05-01"),
        ("site alpha: the readings end at 2016-03-11 00:00", "up to 2016-03-11"),
    ),
    "days that are not due": (
        nothing,
        ("predict", "{models}/alpha", "load.csv", "--days", "3"),
        ("site alpha: the readings end at",),
    ),
    "no date": (nothing, ("predict", "{models}/alpha", "load.csv", "--from", "soon"), ("'soon' is no date",)),
    "no days": (nothing, ("predict", "{models}/alpha", "load.csv", "--days", "0"), ("'--days': 0", "predict --help")),
    "no layout": (
        nothing,
        ("predict", "{models}/alpha", "load.csv", "--layout", "seperator=;"),
        ("--layout", "there is no key 'seperator'", "'separator'?"),
    ),
    "no folder for the forecast": (
        nothing,
        ("predict", "{models}/alpha", "load.csv", "--out", "none/f.csv"),
        ("none", "No such file or directory"),
    ),
    "no run": (nothing, ("report", "."), ("report.json: there is no report", "finished run")),
    "a damaged report": (file("report.json", '{"schema_version": 1'), ("report", "."), ("report.json: ", "damaged")),
    "an unknown step": (nothing, ("data", "synthetic", "x.csv", "--step", "7min"), ("7min", "15min")),
    "a file that is there": (nothing, ("data", "synthetic", "load.csv"), ("load.csv: it exists already", "--force")),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_one_line_and_exit_code_2(
    mistake: str, small: Path, finished: tuple[Path, Any], command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    change, words, parts = MISTAKES[mistake]

    def trained(*_: object) -> None:
        raise AssertionError("it was found only after something had been trained")

    change(small)
    monkeypatch.chdir(small)
    monkeypatch.setattr(BaseLearner, "fit", trained)
    before = {path.name for path in small.iterdir()}
    told = command(*(word.format(models=finished[0] / "models") if "{models}" in word else word for word in words))
    assert told.code == 2
    assert told.out == ""
    assert len(told.err.splitlines()) == 1, told.err
    assert told.err.startswith("error: ")
    assert "Traceback" not in told.err
    for part in parts:
        assert part in told.err
    assert {path.name for path in small.iterdir()} - before <= {"out"}
