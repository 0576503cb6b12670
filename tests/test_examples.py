"""What is shipped to be copied works as it stands: examples and packaged demonstrations."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedstill import config
from fedstill.cli import running
from fedstill.cli.main import main
from fedstill.energy import simbench

ROOT = Path(__file__).resolve().parents[1]
DEMOS = Path(running.__file__).parent
FILES = sorted((ROOT / "examples").glob("*.toml")) + sorted(DEMOS.glob("*.toml"))
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
MAKES_DATA = re.compile(r"^#\s+fedstill (data synthetic .*)$", re.MULTILINE)


def fetch_data(path: Path, described: config.FederationFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make the data that a file needs by the command in its head, or skip where they cannot be had."""
    named = {table.file for table in (described.data, described.transfer, *described.participants)} - {None}
    command = MAKES_DATA.search(path.read_text(encoding="utf-8"))
    if path.name == "demo_synthetic.toml":
        words = ["data", "synthetic", "synthetic.csv", "--sites", "15", "--days", "366"]
    elif command:
        words = command[1].split()
    elif named == {"simbench"}:
        if not simbench.path().exists():
            pytest.skip("the SimBench profiles were not downloaded: fedstill data simbench")
        return
    else:
        monkeypatch.chdir(ROOT)
        for name in named:
            if not any((folder / str(name)).exists() for folder in (path.parent, ROOT)):
                pytest.skip(f"{name} is not here")
        return
    monkeypatch.chdir(tmp_path)
    main(words)


def test_there_are_examples() -> None:
    assert {path.name for path in FILES} >= {"pjm.toml", "demo_simbench.toml", "demo_synthetic.toml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_federation_file_is_fine(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    described = config.load(path)
    for learner in {table.learner for table in described.participants} & {"lightgbm", "xgboost"}:
        pytest.importorskip(learner)
    if described.task.get("country"):
        pytest.importorskip("holidays")
    fetch_data(path, described, monkeypatch, tmp_path)
    main(["check", str(path)])
    told = capsys.readouterr().out
    assert f"{path.name} is fine" in told
    for table in described.participants:
        assert f"  {table.name}: {table.learner}, learns from" in told


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_script_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ends = {"demo_network.py": "every teacher follows from the answers"}
    assert ends.get(path.name, "| mean ") in done.stdout
    assert "Traceback" not in done.stderr
