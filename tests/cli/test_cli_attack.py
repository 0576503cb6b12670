"""`fedstill attack`: a run in, a table and a report out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def run(prepared: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("attacked") / "run"
    cheap = ["--set", "rounds=1", "--set", "task.companions=[]", "--quiet"]
    assert command("run", prepared / "federation.toml", "--out", out, *cheap).code == 0
    return out


def test_a_finished_run_is_attacked(run: Path, command: Command) -> None:
    told = command("attack", run, "--only", "membership", "--only", "audit", "--worlds", "8", "--quiet")
    assert (told.code, told.err) == (0, "")
    assert "membership: AUC" in told.out
    assert "audit: epsilon is at least" in told.out
    kept = json.loads((run / "attack.json").read_text())
    assert set(kept) >= {"membership", "reconstruction", "property", "audit"}
    assert kept["property"] is None
    again = command("attack", run, "--only", "membership", "--only", "audit", "--worlds", "8", "--json", "--quiet")
    assert json.loads(again.out) == kept


@pytest.mark.parametrize(
    ("folder", "words", "why"),
    [
        ("nowhere", [], "there is no finished run"),
        ("run", ["--worlds", "5"], "5 worlds are no pairs"),
        ("run", ["--only", "guessing"], "'guessing' is not one of"),
        ("damaged", [], "federation.json: cannot be read"),
    ],
)
def test_what_cannot_be_attacked(run: Path, command: Command, folder: str, words: list[str], why: str) -> None:
    (run.parent / "damaged").mkdir(exist_ok=True)
    (run.parent / "damaged" / "federation.json").write_text("{")
    told = command("attack", run.parent / folder, "--quiet", *words)
    assert told.code == 2
    assert why in told.err
