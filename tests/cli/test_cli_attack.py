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


def test_a_log_that_was_cut_off_before_anybody_answered_is_told(run: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "federation.json").write_bytes((run / "federation.json").read_bytes())
    (tmp_path / "events.log").write_bytes((run / "events.log").read_bytes()[:40])
    told = command("attack", tmp_path, "--only", "reconstruction", "--quiet")
    assert told.code == 0
    assert "fewer than two answers in events.log" in told.out


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
