"""What the benchmarks share: options, how sure a mean over seeds is, how results are kept and shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from scipy import stats

from fedstill.environment import describe

RESULTS = Path(__file__).parent / "results"

data_option = click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data"), show_default=True)
out_option = click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the results.")
first_seed_option = click.option(
    "--first-seed", type=click.IntRange(0), default=0, help="Leave out earlier ones, measured before."
)


def period_option(names: Iterable[str] = ("development", "final")) -> Callable[..., Any]:
    """Which time is measured."""
    return click.option("--period", type=click.Choice(list(names)), default="development", show_default=True)


def row_option(rows: Iterable[str]) -> Callable[..., Any]:
    """Which rows are measured, as `chosen`."""
    return click.option("--row", "chosen", multiple=True, type=click.Choice(list(rows)), help="Only these rows.")


def need(folder: Path, *files: str) -> None:
    """End where a data set is not there."""
    for file in files:
        if not (folder / file).exists():
            sys.exit(f"{folder / file} is not there: give the folder of the data sets with --data")


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


def put(found: Sequence[dict[str, Any]], place: Mapping[str, Any], new: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What was found, with what is new of a place, such as a row and a seed, instead of what was known of it."""
    others = [one for one in found if any(one[key] != value for key, value in place.items())]
    return [*others, *({**place, **one} for one in new)]


def known(rows: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows of which something was found."""
    measured = {one["row"] for one in found}
    return {key: row for key, row in rows.items() if key in measured}


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


def wide(decimals: int = 2) -> AbstractContextManager[None]:
    """Tables within are printed whole, with so many decimals."""
    form = f"{{:.{decimals}f}}".format
    return pd.option_context("display.width", 220, "display.max_columns", 30, "display.float_format", form)
