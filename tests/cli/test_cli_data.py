"""The commands of `fedstill data`, without any download."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import fastparquet
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from fedstill import files
from fedstill.cli.data import NOTICE, data
from fedstill.energy import simbench
from fedstill.energy.synthetic import synthetic
from fedstill.errors import ConfigError, DownloadError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(data, [str(argument) for argument in arguments])


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A cache whose file is intact, as `fetch` would leave it."""
    file = simbench.path(tmp_path)
    file.write_bytes(b"profiles")
    seal = hashlib.sha256(b"profiles").hexdigest()
    file.with_name(file.name + ".sha256").write_text(f"{seal}  {file.name}\n", encoding="utf-8")
    return file


def test_simbench_says_where_from_and_under_what_licence(kept: Path) -> None:
    result = run("simbench", "--cache", kept.parent)
    assert result.exit_code == 0
    for fact in (str(kept), simbench.SOURCE, simbench.LICENCE, simbench.CITATION):
        assert fact in result.stdout


def test_simbench_json_alone_is_on_stdout(kept: Path) -> None:
    facts = json.loads(run("simbench", "--cache", kept.parent, "--json").stdout)
    assert facts == {
        "path": str(kept),
        "sites": 21,
        "source": simbench.SOURCE,
        "licence": simbench.LICENCE,
        "citation": simbench.CITATION,
    }


def test_simbench_checks_a_wheel_that_is_given(tmp_path: Path) -> None:
    wheel = tmp_path / "wrong.whl"
    wheel.write_bytes(b"wrong")
    result = run("simbench", "--cache", tmp_path / "cache", "--wheel", wheel)
    assert isinstance(result.exception, DownloadError)
    assert result.exception.where == str(wheel)
    assert "checking the wheel" in result.output


def test_synthetic_csv(tmp_path: Path) -> None:
    out = tmp_path / "load.csv"
    result = run("synthetic", out, "--sites", 2, "--days", 3, "--seed", 5, "--skew", 0.9)
    assert result.exit_code == 0
    assert NOTICE in result.stdout
    assert f"{out}: 144 rows, 2 sites" in result.stdout
    assert out.read_text(encoding="utf-8").splitlines()[1].split(",")[1] == "2015-12-31T23:00:00Z"
    written = pd.read_csv(out, parse_dates=["ds"])
    pd.testing.assert_frame_equal(written, synthetic(2, 3, seed=5, skew=0.9), check_dtype=False)
    assert list(tmp_path.iterdir()) == [out]


def test_synthetic_parquet_carries_its_notice(tmp_path: Path) -> None:
    out = tmp_path / "load.parquet"
    arguments = ("--sites", 1, "--days", 2, "--step", "15min", "--start", "2020-02-29", "--zone", "UTC")
    assert run("synthetic", out, *arguments).exit_code == 0
    file = fastparquet.ParquetFile(str(out))
    assert file.key_value_metadata["source"] == NOTICE
    expected = synthetic(1, 2, "15min", "2020-02-29", "UTC")
    pd.testing.assert_frame_equal(file.to_pandas(), expected, check_dtype=False)


def test_synthetic_does_not_overwrite_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "load.csv"
    out.write_text("mine", encoding="utf-8")
    result = run("synthetic", out, "--sites", 1, "--days", 1)
    assert isinstance(result.exception, ConfigError)
    assert "--force" in result.exception.remedy
    assert out.read_text(encoding="utf-8") == "mine"
    assert run("synthetic", out, "--sites", 1, "--days", 1, "--force").exit_code == 0
    assert out.read_text(encoding="utf-8").startswith("unique_id,")


@pytest.mark.parametrize(
    ("name", "what"),
    [("load.xlsx", "must end in"), ("load", "must end in"), ("none/load.csv", "no such folder")],
)
def test_synthetic_names_a_target_that_cannot_be(tmp_path: Path, name: str, what: str) -> None:
    result = run("synthetic", tmp_path / name)
    assert isinstance(result.exception, ConfigError)
    assert what in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_synthetic_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(target: Path, write: object) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(files, "fill_whole", refuse)
    result = run("synthetic", tmp_path / "load.csv", "--sites", 1, "--days", 1)
    assert isinstance(result.exception, ConfigError)
    assert "cannot be written: Permission denied" in str(result.exception)


def test_synthetic_passes_bad_arguments_on(tmp_path: Path) -> None:
    result = run("synthetic", tmp_path / "load.csv", "--skew", 2)
    assert isinstance(result.exception, ConfigError)
    assert result.exception.where == "skew"


@pytest.mark.parametrize("command", ["simbench", "synthetic"])
def test_help_shows_examples(command: str) -> None:
    assert f"\n    fedstill data {command}" in run(command, "--help").stdout
