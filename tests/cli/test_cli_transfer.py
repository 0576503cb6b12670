"""The three sources of a transfer set in a federation file, what `check` and `run` say of them, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from fedstill import config
from fedstill.assemble import assemble
from fedstill.coverage import ENOUGH
from fedstill.errors import ConfigError
from fedstill.federation import Federation

Command = Callable[..., Any]
GENERATED = "transfer={generated=4, items=120}"
QUICK = ("--set", "rounds=1", "--set", "task.companions=[]")


def federation(folder: Path, *changes: str) -> Federation:
    return assemble(config.load(folder / "federation.toml", changes), folder)


def weather(folder: Path, days: int = 80) -> None:
    """A public file of the weather, without any load."""
    ds = pd.date_range("2015-12-20", periods=24 * days, freq="1h", tz="UTC")
    columns = {"temperature_c": 5 + np.sin(np.arange(len(ds)) / 24), "wind": np.arange(len(ds)) % 7.0 - 1}
    pd.DataFrame({"ds": ds, **columns}).to_csv(folder / "weather.csv", index=False)


# --- generated ---------------------------------------------------------------------------------------------


def test_generated_items_are_of_the_year_before_the_test(small: Path) -> None:
    made = federation(small, "transfer={generated=2, items=100000}").transfer
    assert len(made.X) == 2 * 365 * 24
    assert len(set(made.block)) == 2 * 365
    assert made.X.tobytes() == federation(small, "transfer={generated=2, items=100000}").transfer.X.tobytes()
    assert made.X.tobytes() != federation(small, "transfer={generated=2, items=100000}", "seed=1").transfer.X.tobytes()


def test_generated_items_hold_nobody_s_load(small: Path) -> None:
    """Another load of everybody leaves them as they are."""
    before = federation(small, GENERATED).transfer.X
    frame = pd.read_csv(small / "load.csv")
    frame["y"] = frame["y"].to_numpy()[::-1]
    frame.to_csv(small / "load.csv", index=False)
    assert federation(small, GENERATED).transfer.X.tobytes() == before.tobytes()


def test_the_days_to_generate_can_be_given(small: Path) -> None:
    made = federation(small, "transfer={generated=3, history=['2014-01-01', '2014-03-01'], items=9999}").transfer
    assert len(made.X) == 3 * 24 * (31 + 28 - 9)


def test_a_run_on_generated_items(small: Path, command: Command) -> None:
    told = command("run", small / "federation.toml", "--out", small / "out", "--json", *QUICK, "--set", GENERATED)
    assert told.code == 0, told.err
    assert json.loads(told.out)["settings"]["transfer"]["generated"] == 4


def test_generated_load_can_live_in_public_weather(small: Path) -> None:
    weather(small)
    transfer = "transfer={generated=2, file='weather.csv', history=['2015-12-21', ''], items=9999}"
    made = federation(small, "task.covariates=['temperature_c']", transfer)
    column = made.transfer.X[:, made.task.features.index("covariate_temperature_c")]
    assert len(made.transfer.X) == 2 * 24 * (71 - 9)  # up to the test
    assert (column.min(), column.max()) == pytest.approx((4, 6), abs=0.01)


def test_generated_load_brings_its_own_temperature(small: Path) -> None:
    made = federation(small, "task.covariates=['temperature_c']", GENERATED)
    assert made.transfer.X[:, made.task.features.index("covariate_temperature_c")].std() > 5


# --- contributed -------------------------------------------------------------------------------------------


def test_contributed_items_are_inputs_of_rows_that_the_participant_learns_from(small: Path) -> None:
    made = federation(small, "transfer={}", "data.site=''", "participants.beta.contributes=80")
    beta = next(one for one in made.members if one.name == "beta")
    site = made.task.prepare("beta", beta.data, beta.history).site
    rows = {row.tobytes() for row in site.rows.X}
    assert len(made.transfer.X) == 80
    assert all(row.tobytes() in rows for row in made.transfer.X)
    exam = made.task.prepare("beta", beta.data, beta.history).examination
    assert not {row.tobytes() for row in exam.X} & {row.tobytes() for row in made.transfer.X}
    assert made.transfer.n_bytes == made.transfer.X.nbytes


def test_contributed_items_stand_beside_public_ones(small: Path) -> None:
    public = federation(small, "transfer.items=100000").transfer
    both = federation(
        small, "transfer.items=100000", "participants.beta.contributes=80", "participants.alpha.contributes=7"
    ).transfer
    assert len(both.X) == len(public.X) + 87
    assert both.X[: len(public.X)].tobytes() == public.X.tobytes()


def test_what_one_contributes_does_not_depend_on_others(small: Path) -> None:
    ask = ["transfer={}", "participants.beta.contributes=80"]
    alone = federation(small, *ask).transfer.X
    both = federation(small, *ask, "participants.gamma.contributes=5").transfer.X
    assert both[:80].tobytes() == alone.tobytes()


def test_nobody_contributes_unless_told_to(small: Path) -> None:
    assert all(one.contributes == 0 for one in federation(small).members)


def test_rows_of_a_table_can_be_contributed(tmp_path: Path) -> None:
    iris = load_iris(as_frame=True).frame.set_axis(["sl", "sw", "pl", "pw", "kind"], axis=1)
    iris["site"] = ["north", "south"] * 75
    iris.to_csv(tmp_path / "iris.csv", index=False)
    (tmp_path / "federation.toml").write_text(
        """
        task = { kind = "classification", target = "kind", classes = ["0", "1", "2"], columns = ["sl", "pw"] }
        data = { file = "iris.csv", site_column = "site" }
        participants = [{ name = "north", learner = "linear", contributes = 20 }, { name = "south" }]
        """,
        encoding="utf-8",
    )
    assert federation(tmp_path).transfer.X.shape == (20, 2)


# --- what is said ------------------------------------------------------------------------------------------


def test_check_says_who_gives_what_and_how_much_is_covered(small: Path, command: Command) -> None:
    ask = ("check", small / "federation.toml", "--set", "participants.beta.contributes=80")
    told = command(*ask)
    assert told.out.count("gives up to 80 of its rows' inputs to all") == 1
    facts = json.loads(command(*ask, "--json").out)["participants"]
    assert [facts[name]["contributes"] for name in ("alpha", "beta", "gamma")] == [0, 80, 0]
    for name in ("alpha", "beta", "gamma"):
        assert 0 <= facts[name]["coverage"] <= 1
        assert f"{100 * facts[name]['coverage']:.0f} % covered" in told.out


@pytest.fixture
def shifted(small: Path) -> Path:
    """The public site lives twelve hours later than everybody else, and on the other days of the week."""
    frame = pd.read_csv(small / "load.csv")
    public = (frame["unique_id"] == "public").to_numpy()
    frame.loc[public, "y"] = np.roll(frame.loc[public, "y"].to_numpy(), 12 + 3 * 24)
    frame.to_csv(small / "load.csv", index=False)
    return small


def test_a_transfer_set_that_does_not_fit_is_told_by_check_and_run(shifted: Path, command: Command) -> None:
    changes = ("--set", "transfer.items=600", *QUICK)
    told = command("check", shifted / "federation.toml", *changes)
    facts = json.loads(command("check", shifted / "federation.toml", "--json", *changes).out)
    report = json.loads(command("run", shifted / "federation.toml", "--out", shifted / "out", "--json", *changes).out)
    assert told.out.count("note: the transfer set covers") == 3
    for one in report["participants"]:
        share = facts["participants"][one["name"]]["coverage"]
        assert share < ENOUGH / 2
        assert any(f"the transfer set covers {100 * share:.0f} % of its inputs" in note for note in one["notes"])
    assert "the transfer set covers" in (shifted / "out" / "report.html").read_text(encoding="utf-8")


def test_a_participant_s_own_rows_fit(small: Path) -> None:
    """What all contribute covers all, and nobody is warned."""
    everyone = [f"participants.{name}.contributes=400" for name in ("alpha", "beta", "gamma")]
    for one in federation(small, "transfer={}", *everyone).prepare().values():
        assert one.coverage > ENOUGH
        assert not any("transfer set" in note for note in one.notes)


# --- mistakes ----------------------------------------------------------------------------------------------

OWN = "transfer={generated=2, file='weather.csv'}"
MISTAKES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "nothing generated": (("transfer={generated=0}",), ("transfer.generated: expected `int` >= 1",)),
    "too much generated": (("transfer={generated=100000}",), ("n_sites x days", "20000000 rows or less")),
    "sites and generated": (("transfer.generated=3",), ("transfer: both sites and 'generated' are given", "one of")),
    "more sites and generated": (("transfer={generated=3, sites=['public']}",), ("transfer: both sites and",)),
    "no days to generate": (
        ("transfer={generated=3}", "task.test=['', '']"),
        ("transfer.history: no days are given", 'history = ["2015-01-01"'),
    ),
    "days turned round": (("transfer={generated=3, history=['2016-04-01', '']}",), ("transfer.history: no day lies",)),
    "a step too fine to generate": (("transfer={generated=3}", "task.step=5min"), ("'5min' cannot be", "15min, 30min")),
    "too few days generated": (
        ("transfer={generated=3, history=['2016-01-01', '2016-01-05']}",),
        ("0 usable rows are left for the transfer set", "11 days"),
    ),
    "covariates that are not generated": (
        ("transfer={generated=3}", "task.covariates=['temperature_c', 'wind']"),
        ("transfer.generated: generated load comes with temperature_c, not with wind", "transfer.file"),
    ),
    "weather that nobody asked for": ((OWN,), ("transfer.file: a file is given", "no covariates", "task.covariates")),
    "weather without the column": (
        (OWN, "task.covariates=['sun']"),
        ('weather.csv: there is no column "sun"', "Set task.covariates to columns that are there: ds, temperature_c"),
    ),
    "weather of other days": (
        (OWN, "task.covariates=['temperature_c']", "transfer.history=['2010-01-01', '2010-03-01']"),
        ("there is no reading from 2010-01-01", "The readings are from 2015-12-20"),
    ),
    "weather coarser than the step": (
        (OWN, "task.covariates=['temperature_c']", "task.step=15min"),
        ("readings of 1 h do not make up intervals of 15 min",),
    ),
    "no weather file": (
        ("transfer={generated=2, file='none.csv'}", "task.covariates=['temperature_c']"),
        ("none.csv: there is no such file",),
    ),
    "nothing contributed": (
        ("participants.beta.contributes=0",),
        ("participants[1].contributes: expected `int` >= 1",),
    ),
    "a participant's site": (("transfer.site=beta",), ("private data of participant beta", "contributes = ...")),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_one_line(mistake: str, small: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, parts = MISTAKES[mistake]
    weather(small)
    frame = pd.read_csv(small / "load.csv").assign(wind=0.0, sun=0.0)
    frame.to_csv(small / "load.csv", index=False)
    monkeypatch.chdir(small)
    told = command("check", "federation.toml", *(word for change in changes for word in ("--set", change)))
    assert (told.code, told.out) == (2, "")
    assert len(told.err.splitlines()) == 1, told.err
    for part in parts:
        assert part in told.err


def test_generated_rows_of_a_table_make_no_sense(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("site,x,kind\n" + "a,1,on\na,2,off\nb,3,on\n" * 20, encoding="utf-8")
    (tmp_path / "federation.toml").write_text(
        """
        task = { kind = "classification", target = "kind", classes = ["on", "off"], columns = ["x"] }
        data = { file = "cases.csv", site_column = "site" }
        transfer = { generated = 2 }
        participants = [{ name = "a" }, { name = "b" }]
        """,
        encoding="utf-8",
    )

    with pytest.raises(ConfigError, match="only load can be generated"):
        federation(tmp_path)
