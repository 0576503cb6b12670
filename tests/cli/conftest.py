"""A small federation on disk, and the command line in this process."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedstill.cli.main import main
from fedstill.energy.synthetic import synthetic

TOML = """
name = "small"
rounds = 2

[task]
kind = "forecast"
levels = [0.1, 0.5, 0.9]
test = ["2016-03-01", "2016-03-08"]

[data]
file = "load.csv"
timezone = "Europe/Berlin"

[transfer]
site = "public"
history = ["2016-01-01", "2016-03-01"]
items = 120

[strategy]
name = "grouped"

[[participants]]
name = "alpha"
learner = "extra_trees"
options = { trees = 4 }
history = ["2016-01-10", "2016-02-25"]
companions = []

[[participants]]
name = "beta"
learner = "mlp"
options = { hidden = [8], epochs = 3 }
history = [2016-01-10, 2016-02-25] # dates of TOML

[[participants]]
name = "gamma"
learner = "linear"
options = { iterations = 20 }
history = ["2016-01-10", "2016-02-25"]
companions = []
"""


@dataclass(frozen=True)
class Told:
    """What a command ended with and wrote."""

    code: int
    out: str
    err: str


def fedstill(*arguments: object) -> Told:
    """Run the command line as `fedstill ARGUMENTS` would."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as done:
            code = int(done.code or 0)
    return Told(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def command() -> Callable[..., Told]:
    return fedstill


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with federation.toml and load.csv; not to be changed."""
    folder = tmp_path_factory.mktemp("small")
    frame = synthetic(4, 70)
    names = dict(zip(frame["unique_id"].unique(), ("alpha", "beta", "gamma", "public"), strict=True))
    frame["unique_id"] = frame["unique_id"].map(names)
    frame.to_csv(folder / "load.csv", index=False, date_format="%Y-%m-%dT%H:%M:%SZ")
    (folder / "federation.toml").write_text(TOML, encoding="utf-8")
    return folder


@pytest.fixture
def small(prepared: Path, tmp_path: Path) -> Path:
    """A folder of one's own with federation.toml and load.csv."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="session")
def finished(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """The folder of a finished run, not to be changed, and what the command told."""
    out = tmp_path_factory.mktemp("runs") / "small"
    return out, fedstill("run", prepared / "federation.toml", "--out", out)
