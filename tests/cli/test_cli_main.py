"""The command line at work: what it writes where, and that its commands agree with each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

import fedstill
from fedstill import config
from fedstill.assemble import assemble
from fedstill.cli import running
from fedstill.learners.base import BaseLearner
from fedstill.plugins import BUILT_IN
from fedstill.round import Received, Started
from fedstill.transports.log import read_events

Command = Callable[..., Any]


def explode(*_: object, **__: object) -> None:
    raise AssertionError("something was trained")


# --- run ---------------------------------------------------------------------------------------------------


def test_run_writes_report_models_and_log(finished: tuple[Path, Any]) -> None:
    out, told = finished
    assert told.code == 0
    written = {"report.json", "report.html", "models", "events.log", "federation.json"}
    assert {path.name for path in out.iterdir()} == written
    assert {path.name for path in (out / "models").iterdir()} == {"alpha", "beta", "gamma"}
    events = list(read_events(out / "events.log"))
    assert isinstance(events[0], Started)
    assert sum(isinstance(event, Received) for event in events) == 2 * 3


def test_run_puts_the_table_on_stdout_and_progress_on_stderr(finished: tuple[Path, Any]) -> None:
    out, told = finished
    for name in ("alpha", "beta", "gamma", "mean"):
        assert any(line.startswith(f"| {name} ") for line in told.out.splitlines())
    assert f"Report: {out / 'report.html'}" in told.out
    assert "round 1 closed: 3 answers" in told.err
    assert "answered with" in told.err
    assert "closed" not in told.out
    assert "| alpha" not in told.err


def test_quiet_is_quiet(small: Path, command: Command) -> None:
    told = command("run", small / "federation.toml", "--out", small / "out", "--quiet", "--set", "rounds=1")
    assert told.code == 0
    assert told.err == ""


def test_json_is_the_report(small: Path, command: Command) -> None:
    told = command("run", small / "federation.toml", "--out", small / "out", "--json")
    assert told.code == 0
    assert json.loads(told.out) == json.loads((small / "out" / "report.json").read_text(encoding="utf-8"))


def test_run_writes_below_runs_unless_told_otherwise(
    small: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small)
    assert command("run", "federation.toml", "--set", "strategy.name=local").code == 0
    assert (small / "runs" / "small" / "report.json").is_file()


def test_set_replaces_what_the_file_says(small: Path, command: Command) -> None:
    changes = ["rounds=1", "strategy.name=fedmd", "participants.beta.learner=linear", "participants.beta.options={}"]
    given = [word for change in changes for word in ("--set", change)]
    told = command("run", small / "federation.toml", "--out", small / "out", "--json", *given)
    report = json.loads(told.out)
    assert len(report["rounds"]) == 1
    assert report["rounds"][0]["groups"] == []
    assert [one["learner"] for one in report["participants"]] == ["extra_trees", "linear", "linear"]
    assert report["settings"]["strategy"] == {"name": "fedmd"}


# --- check -------------------------------------------------------------------------------------------------


def test_check_trains_nothing_and_says_what_would_be(
    small: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseLearner, "fit", explode)
    monkeypatch.setattr(BaseLearner, "distil", explode)
    before = sorted(small.iterdir())
    told = command("check", small / "federation.toml")
    assert told.code == 0
    assert "federation.toml is fine" in told.out
    assert "2 rounds of 'grouped' among 3 participants" in told.out
    assert "about 120 public items of 45 inputs" in told.out
    facts = json.loads(command("check", small / "federation.toml", "--json").out)
    assert facts["quorum"] == 2
    assert facts["transfer_items"] == 120
    alpha = facts["participants"]["alpha"]
    assert (alpha["learner"], alpha["test_rows"], alpha["left_out_rows"]) == ("extra_trees", 7 * 24, 0)
    assert (alpha["train_rows"], alpha["folds"]) == (46 * 24, 4)
    assert f"alpha: extra_trees, learns from {46 * 24} rows in 4 folds, judged on {7 * 24}, left out 0" in told.out
    assert sorted(small.iterdir()) == before


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("name='fedmd'", "releases soft labels ABOUT; nothing else"),
        ("name='selective'", "soft labels ABOUT and how dense its own rows are at each item, as weights; nothing else"),
        ("name='grouped', reliability='heldout'", "soft labels ABOUT and the held-out loss of its model; nothing else"),
        (
            "name='sketched', sketch=8, reliability='heldout'",
            "releases a sketch, 8 numbers, of its soft labels ABOUT and the held-out loss of its model; "
            "those who are then asked on, soft labels ABOUT; nothing else",
        ),
        ("name='fedavg'", "releases the parameters of models of f inputs and the number of its rows; nothing else"),
        ("name='fedper', weights='equal'", "the parameters of models of f inputs, without their head; nothing else"),
    ],
    ids=lambda text: text.split("'")[1] if text.startswith("name") else "",
)
def test_check_says_what_leaves_a_participant(strategy: str, words: str, small: Path, command: Command) -> None:
    # All have the same network, which algorithms that share parameters need.
    alike = [f"participants.{one}.learner=mlp" for one in ("alpha", "beta", "gamma")]
    alike += [f"participants.{one}.options={{hidden=[8]}}" for one in ("alpha", "beta", "gamma")]
    given = [word for change in (f"strategy={{{strategy}}}", *alike) for word in ("--set", change)]
    told = command("check", small / "federation.toml", *given)
    assert told.code == 0, told.err
    words = words.replace("ABOUT", "about 120 public items of f inputs")
    assert words in re.sub(r"\d+ inputs", "f inputs", told.out)


def test_check_says_where_nothing_is_held_back(small: Path, command: Command) -> None:
    ask = ("check", small / "federation.toml", "--set", "task.folds=1")
    assert "rows, none held back, judged on" in command(*ask).out
    assert {one["folds"] for one in json.loads(command(*ask, "--json").out)["participants"].values()} == {0}


def test_check_says_how_many_rounds_a_reference_runs(small: Path, command: Command) -> None:
    facts = json.loads(command("check", small / "federation.toml", "--json", "--set", "strategy.name=local").out)
    assert facts["rounds"] == 0
    assert "rounds of" not in command("check", small / "federation.toml", "--set", "strategy.name=local").out


# --- predict -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readings(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readings of alpha alone, as its owner would have them: clock times and kWh."""
    frame = pd.read_csv(prepared / "load.csv", parse_dates=["ds"])
    mine = frame[frame["unique_id"] == "alpha"]
    clock = mine["ds"].dt.tz_convert("Europe/Berlin").dt.tz_localize(None)
    path = tmp_path_factory.mktemp("readings") / "meter.csv"
    pd.DataFrame({"timestamp": clock, "load_kwh": mine["y"]}).to_csv(path, index=False)
    return path


def told_frame(told: Any) -> pd.DataFrame:
    assert told.code == 0, told.err
    from io import StringIO

    return pd.read_csv(StringIO(told.out))


def test_predict_past_days_says_what_the_run_said(
    finished: tuple[Path, Any], prepared: Path, readings: Path, command: Command
) -> None:
    """The stored model and new inputs give the very forecast that the run was judged by."""
    history = assemble(config.load(prepared / "federation.toml"), prepared).run()
    alpha = next(one for one in history.outcomes if one.name == "alpha")
    said = told_frame(
        command(
            "predict", finished[0] / "models" / "alpha", readings, "--timezone", "Europe/Berlin",
            "--from", "2016-03-01", "--days", 7,
        )
    )  # fmt: skip
    assert list(said.columns) == ["unique_id", "ds", "load_kw_q0.1", "load_kw_q0.5", "load_kw_q0.9"]
    assert (pd.to_datetime(said["ds"], utc=True).dt.tz_localize(None).to_numpy() == alpha.time).all()
    assert said["ds"][0] == "2016-03-01T00:00:00+01:00"
    np.testing.assert_allclose(said.iloc[:, 2:].to_numpy(), alpha.predictions["federated"], rtol=1e-4)


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_predict_finds_its_site_among_many(
    name: str, finished: tuple[Path, Any], prepared: Path, command: Command
) -> None:
    """The default is the one day that is due; the file ends with 10 March, local time."""
    said = told_frame(command("predict", finished[0] / "models" / name, prepared / "load.csv"))
    assert set(said["unique_id"]) == {name}
    assert said["ds"].tolist() == [f"2016-03-11T{hour:02}:00:00+01:00" for hour in range(24)]
    assert (np.diff(said.iloc[:, 2:].to_numpy(), axis=1) >= 0).all()


def test_predict_writes_csv_or_json_to_a_file(
    finished: tuple[Path, Any], readings: Path, tmp_path: Path, command: Command
) -> None:
    ask = ("predict", finished[0] / "models" / "alpha", readings, "--timezone", "Europe/Berlin", "--site", "mine")
    shown = command(*ask)
    for name, more in (("tomorrow.csv", ()), ("tomorrow.json", ("--json",))):
        told = command(*ask, "--out", tmp_path / name, *more)
        assert (told.code, told.out, told.err) == (0, "", "")
    assert (tmp_path / "tomorrow.csv").read_text(encoding="utf-8") == shown.out
    rows = json.loads((tmp_path / "tomorrow.json").read_text(encoding="utf-8"))
    assert rows == json.loads(command(*ask, "--json").out)
    assert rows == told_frame(shown).to_dict(orient="records")
    assert rows[0]["unique_id"] == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_predict_reads_any_layout(finished: tuple[Path, Any], readings: Path, tmp_path: Path, command: Command) -> None:
    other = tmp_path / "other.csv"
    other.write_text(
        readings.read_text(encoding="utf-8").replace("load_kwh", "Wert").replace(",", ";"), encoding="utf-8"
    )
    model = finished[0] / "models" / "alpha"
    plain = command("predict", model, readings, "--timezone", "Europe/Berlin", "--site", "mine")
    told = command(
        "predict", model, other, "--timezone", "Europe/Berlin", "--site", "mine", "--unit", "kWh",
        "--layout", "load=Wert", "--layout", "separator=;",
    )  # fmt: skip
    assert told.out == plain.out != ""


def test_predict_says_what_it_leaves_out(
    finished: tuple[Path, Any], readings: Path, tmp_path: Path, command: Command
) -> None:
    frame = pd.read_csv(readings)
    frame.loc[frame["timestamp"] == "2016-03-05 07:00:00", "load_kwh"] = np.nan
    frame.to_csv(tmp_path / "gap.csv", index=False)
    told = command(
        "predict", finished[0] / "models" / "alpha", tmp_path / "gap.csv", "--timezone", "Europe/Berlin",
        "--from", "2016-03-05", "--days", 2,
    )  # fmt: skip
    assert told.code == 0
    assert len(told.out.splitlines()) == 1 + 24
    assert told.err == "24 intervals are left out: readings that their inputs need are missing\n"


# --- report, algorithms, data, demo ------------------------------------------------------------------------


def test_report_shows_a_run_again(finished: tuple[Path, Any], tmp_path: Path, command: Command) -> None:
    out, told = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / "report.html").unlink()
    again = command("report", copy)
    assert again.code == 0
    assert again.out.splitlines()[:-1] == told.out.splitlines()[:-1]
    assert (copy / "report.html").read_bytes() == (out / "report.html").read_bytes()
    as_json = json.loads(command("report", copy, "--json").out)
    assert as_json == json.loads((out / "report.json").read_text(encoding="utf-8"))


def test_algorithms_lists_everything_that_has_a_name(command: Command) -> None:
    told, listed = command("algorithms"), json.loads(command("algorithms", "--json").out)
    assert told.code == 0
    for group in ("algorithms", "learners", "codecs"):
        assert listed[group].keys() >= BUILT_IN[group].keys()
        for name, summary in listed[group].items():
            assert summary
            assert any(line.split()[:1] == [name] and summary in line for line in told.out.splitlines())


def test_data_makes_data(tmp_path: Path, command: Command) -> None:
    told = command("data", "synthetic", tmp_path / "load.csv", "--sites", 2, "--days", 3)
    assert told.code == 0
    assert len((tmp_path / "load.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2 * 3 * 24


def test_demo_on_generated_data(tmp_path: Path, command: Command) -> None:
    """The packaged federation, with quick learners and little to learn from."""
    quick = ["rounds=1", "workers=1", "transfer.items=100", 'task.test=["2016-10-01","2016-10-08"]']
    described = config.load(Path(running.__file__).with_name("demo_synthetic.toml"))
    quick += [f"participants.{one.name}.learner=linear" for one in described.participants]
    quick += [f"participants.{one.name}.options={{iterations = 5}}" for one in described.participants]
    quick += [f"participants.{one.name}.companions=[]" for one in described.participants[1:]]
    changes = [word for change in quick for word in ("--set", change)]
    told = command("demo", "--data", "synthetic", "--out", tmp_path / "demo", *changes)
    assert told.code == 0, told.err
    assert "not measured" in told.err
    assert told.out.count("| synthetic-") == 12
    assert (tmp_path / "demo" / "report.html").is_file()


# --- classification ----------------------------------------------------------------------------------------


def test_classes_from_one_table_of_many_sites(tmp_path: Path, command: Command) -> None:
    iris = load_iris(as_frame=True).frame.set_axis(["sl", "sw", "pl", "pw", "kind"], axis=1)
    iris["kind"] = iris["kind"].map(dict(enumerate(["setosa", "versicolor", "virginica"])))
    iris["site"] = ["north", "south", "open"] * 50
    iris.to_csv(tmp_path / "iris.csv", index=False)
    (tmp_path / "iris.toml").write_text(
        """
        [task]
        kind = "classification"
        target = "kind"
        classes = ["setosa", "versicolor", "virginica"]
        columns = ["sl", "sw", "pl", "pw"]
        [data]
        file = "iris.csv"
        site_column = "site"
        [transfer]
        site = "open"
        [[participants]]
        name = "north"
        learner = "linear"
        [[participants]]
        name = "south"
        learner = "extra_trees"
        options = { trees = 10 }
        """,
        encoding="utf-8",
    )
    told = command("run", tmp_path / "iris.toml", "--out", tmp_path / "out", "--json")
    assert told.code == 0, told.err
    report = json.loads(told.out)
    assert [one["train_rows"] for one in report["participants"]] == [38, 38]
    assert all(one["metrics"]["federated"]["accuracy"] > 0.7 for one in report["participants"])
    said = told_frame(command("predict", tmp_path / "out" / "models" / "north", tmp_path / "iris.csv"))
    assert list(said.columns) == ["row", "p_setosa", "p_versicolor", "p_virginica"]
    assert said["row"].tolist() == list(range(1, 151))
    guessed = said.iloc[:, 1:].to_numpy().argmax(axis=1)
    assert (guessed == load_iris().target).mean() > 0.8


# --- help and exit codes -----------------------------------------------------------------------------------

COMMANDS = [(), ("demo",), ("run",), ("check",), ("predict",), ("report",), ("algorithms",), ("data", "simbench")]


@pytest.mark.parametrize("words", [*COMMANDS, ("data", "synthetic")], ids=" ".join)
def test_help_has_an_example_that_stands_on_a_line_of_its_own(words: tuple[str, ...], command: Command) -> None:
    told = command(*words, "--help")
    assert told.code == 0
    assert told.err == ""
    assert any(line.strip().startswith(" ".join(["fedstill", *words])) for line in told.out.splitlines()[1:])
    assert "\\b" not in told.out


def test_version(command: Command) -> None:
    assert command("--version").out.split()[-1] == fedstill.__version__


def test_without_a_command_there_is_help(command: Command) -> None:
    told = command()
    assert "Commands:" in told.out + told.err
    assert "error:" not in told.err


@pytest.mark.parametrize(
    ("raised", "code", "last"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(28, "No space left on device", "/full/report.json"), 2, "error: /full/report.json: No space left"),
    ],
    ids=["interrupt", "full disk"],
)
def test_exit_codes_of_what_happens_on_the_way(
    raised: BaseException, code: int, last: str, small: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(running, "assemble", fail)
    told = command("run", small / "federation.toml", "--out", small / "out")
    assert told.code == code
    assert len(told.err.strip().splitlines()) == 1
    assert told.err.strip().startswith(last)


def test_a_bug_is_not_dressed_up_as_a_mistake_of_the_user(
    small: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "assemble", explode)
    with pytest.raises(AssertionError, match="something was trained"):
        command("run", small / "federation.toml", "--out", small / "out")


def test_as_a_program_of_its_own(small: Path) -> None:
    """Standard output holds the JSON and nothing else; a mistake ends with 2."""
    ask = [sys.executable, "-m", "fedstill.cli.main", "check", "federation.toml", "--json"]
    done = subprocess.run(ask, cwd=small, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["participants"].keys() == {"alpha", "beta", "gamma"}
    done = subprocess.run([*ask, "--set", "seed=-1"], cwd=small, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
