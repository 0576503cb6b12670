"""On measured load, a federation of eight US utilities beats both the naive rule and each utility by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedstill.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
PJM = ROOT.parent / "shared" / "data" / "pjm_hourly.parquet"


@pytest.mark.slow
@pytest.mark.skipif(not PJM.is_file(), reason="pjm_hourly.parquet is not here; examples/pjm.toml says what it is")
def test_federation_pays_on_measured_load(tmp_path: Path) -> None:
    for module in ("lightgbm", "xgboost", "holidays"):
        pytest.importorskip(module)
    out = tmp_path / "pjm"
    main(
        [
            "run",
            str(ROOT / "examples" / "pjm.toml"),
            "--out",
            str(out),
            "--set",
            f"data.file={PJM}",
            "--set",
            "workers=2",
        ]
    )
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert len(report["participants"]) == 8
    assert all(one["test_rows"] > 8000 for one in report["participants"])  # a year of hours
    mean = {way: figures["nmae"] for way, figures in report["overall"]["mean"].items()}
    assert mean["federated"] < mean["floor"]
    assert mean["federated"] < mean["local"]
    assert mean["federated"] < mean["local_safe"]
    gain = report["overall"]["gains"]["nmae"]["local"]
    assert gain["low"] > 0  # with its 95 % interval
    for one in report["participants"]:
        for way in ("floor", "local", "federated"):
            assert 0 < one["metrics"][way]["nmae"] < 1
