"""The benchmarks run, as their own headers say; what they find is not looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "pjm_hourly.parquet").exists(), reason="the load of the utilities is not here")
def test_the_energy_benchmark_measures_one_row(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    words = ["pjm", "--quick", "--row", "fedmd", "--data", str(DATA), "--out", str(tmp_path)]
    told = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "energy.py"), *words], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    kept = json.loads((tmp_path / "energy-pjm-development-quick.json").read_text())
    assert {"made", "environment", "setting", "rows", "measured"} == set(kept)
    assert len(kept["measured"]) == 8
    assert all(0 < one["federated nmae"] < one["floor nmae"] for one in kept["measured"])
    assert "naive_mixed" in told.stdout
