"""What the benchmarks share: how sure a mean over seeds is, and how results are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from fedstill.environment import describe


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean by Student's t; NaN for a single value."""
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(np.asarray(values, np.float64)))


def stored(file: Path) -> dict[str, Any]:
    """What a file of results holds, as `keep` wrote it; nothing measured where there is none yet."""
    if not file.exists():
        return {"setting": {}, "rows": {}, "measured": []}
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def keep(file: Path, setting: Mapping[str, Any], rows: Mapping[str, Any], measured: Sequence[Any]) -> None:
    """Write what was measured as JSON, with when and on what; `rows` are dataclasses by name."""
    kept = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe(),
        "setting": setting,
        "rows": {key: asdict(row) for key, row in rows.items()},
        "measured": measured,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(kept), encoding="utf-8")
