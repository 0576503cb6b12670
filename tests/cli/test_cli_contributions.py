"""`fedstill contributions`: a run, or the log of one, and a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedstill.learners.base import BaseLearner

Command = Callable[..., Any]


def test_a_table_after_a_run(small: Path, command: Command) -> None:
    before = sorted(small.iterdir())
    told = command("contributions", small / "federation.toml", "--set", "rounds=1")
    assert told.code == 0
    for name in ("alpha", "beta", "gamma", "together"):
        assert any(line.startswith(f"| {name} ") for line in told.out.splitlines())
    assert "8 coalitions were looked at" in told.out
    assert "round 1 closed: 3 answers" in told.err
    assert sorted(small.iterdir()) == before


def test_the_log_of_a_run_tells_the_same_without_training(
    finished: tuple[Path, Any], small: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = json.loads(command("contributions", small / "federation.toml", "--json", "--quiet").out)
    monkeypatch.setattr(BaseLearner, "fit", None)
    log = finished[0] / "events.log"
    told = command("contributions", small / "federation.toml", "--log", log, "--json")
    assert (told.code, told.err) == (0, "")
    assert json.loads(told.out) == ran
    agreed = json.loads(
        command("contributions", small / "federation.toml", "--log", log, "--json", "--value", "agreement").out
    )
    assert agreed["together"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--set", "strategy.name=local"], "'local' made no teacher of soft labels"),
        (["--log", "nowhere.log"], "nowhere.log: No such file"),
    ],
)
def test_what_cannot_be(small: Path, command: Command, words: list[str], why: str) -> None:
    told = command("contributions", small / "federation.toml", "--quiet", *words)
    assert told.code == 2
    assert why in told.err
