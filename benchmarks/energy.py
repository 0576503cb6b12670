"""Measure how well enterprises forecast alone, together, and with all their data pooled.

    python benchmarks/energy.py pjm --period development --seeds 2 --quick
    python benchmarks/energy.py cambridge --period final

Each participant has six weeks of private history; the weeks are spread over a year, and which participant has which
weeks and which kind of model is drawn by the seed. The transfer set is a year of sites that do not take part. All are
judged on the whole year that follows. Decisions are made on the development period; the final one is run afterwards,
to report.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from fedstill.energy.frame import Layout, SiteLoad, read, window
from fedstill.environment import describe
from fedstill.federation import Federation, History
from fedstill.members import Member
from fedstill.tasks.forecast import Forecast

RESULTS = Path(__file__).parent / "results"
WEEKS = 6
LEARNERS = ("lightgbm", "extra_trees", "mlp", "xgboost", "hist_gradient_boosting", "linear", "lightgbm", "mlp")


@dataclass(frozen=True)
class Setting:
    """A data set, who takes part, and the years of history; the year after each is the test."""

    file: str
    layout: Layout
    participants: tuple[str, ...]
    public: tuple[str, ...]
    years: Mapping[str, int]
    country: str


SETTINGS = {
    "pjm": Setting(
        "pjm_hourly.parquet",
        Layout(timezone="America/New_York"),
        ("AEP", "COMED", "DAYTON", "DEOK", "DOM", "DUQ", "EKPC", "FE"),
        ("PJMW",),
        {"development": 2014, "final": 2016},
        "US",
    ),
    "cambridge": Setting(
        "cambridge_buildings.parquet",
        Layout(timezone="Europe/London"),
        tuple(f"cam_{i}" for i in (11, 56, 97, 0, 3, 112, 83, 26, 41, 25, 22, 52)),
        tuple(f"cam_{i}" for i in (36, 109, 31, 64)),
        {"development": 2017, "final": 2018},
        "GB",
    ),
}


@dataclass(frozen=True)
class Row:
    """One way to learn: an algorithm with its options, perhaps with the same learner for all."""

    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 1
    learner: str | None = None


ROWS = {
    "pooled": Row("pooled"),
    "pooled lightgbm": Row("pooled", learner="lightgbm"),
    "fedmd": Row("fedmd"),
    "fedmd median": Row("fedmd", {"aggregate": "median"}),
    "grouped (default)": Row("grouped"),
    "grouped client": Row("grouped", {"select": "client"}),
    "grouped item": Row("grouped", {"select": "item"}),
    "grouped mean": Row("grouped", {"select": "mean"}),
    "grouped 3 groups, own group teaches": Row("grouped", {"groups": 3, "audience": "group"}),
    "grouped (default), 3 rounds": Row("grouped", rounds=3),
    "fedavg mlp, 30 rounds": Row("fedavg", rounds=30, learner="mlp"),
}


def members(setting: Setting, sites: Mapping[str, SiteLoad], year: int, seed: int, learner: str | None) -> list[Member]:
    """Participants with their weeks and learners as the seed draws them."""
    rng = np.random.default_rng(seed)
    n = len(setting.participants)
    starts = [date(year, 1, 11) + timedelta(days=round(k * (350 - 7 * WEEKS) / (n - 1))) for k in rng.permutation(n)]
    kinds = [LEARNERS[k % len(LEARNERS)] for k in rng.permutation(n)]
    return [
        Member(name, sites[name], learner or kind, {}, (str(start), str(start + timedelta(weeks=WEEKS))))
        for name, start, kind in zip(setting.participants, starts, kinds, strict=True)
    ]


def run(setting: Setting, sites: Mapping[str, SiteLoad], year: int, seed: int, row: Row) -> History:
    """One run."""
    task = Forecast(test=(f"{year + 1}-01-01", f"{year + 2}-01-01"), country=setting.country)
    public = [window(sites[name], f"{year}-01-01", f"{year + 1}-01-01") for name in setting.public]
    federation = Federation(
        task,
        members(setting, sites, year, seed, row.learner),
        public,
        strategy=row.strategy,
        options=row.options,
        rounds=row.rounds,
        items=3000,
        workers=2,
        seed=seed,
    )
    return federation.run()


def measured(history: History) -> list[dict[str, Any]]:
    """What one run says of each participant."""
    return [
        {
            "participant": one.name,
            "learner": one.learner,
            "kept": one.kept,
            "bytes": one.bytes_up + one.bytes_down,
            **{
                f"{way} {name}": round(one.metrics[way][name] or 0.0, 6)
                for way in one.metrics
                for name in ("nmae", "cvrmse", "pinball")
            },
        }
        for one in history.report.participants
    ]


def table(frame: pd.DataFrame, alone: str) -> pd.DataFrame:
    """A line a row: mean over seeds and participants, and the interval of the gain over working alone."""
    lines = []
    for row, part in frame.groupby("row", sort=False):
        gain = part.groupby("seed").apply(
            lambda p: 1 - p["federated nmae"].mean() / p[f"{alone} nmae"].mean(), include_groups=False
        )
        spread = stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain) if len(gain) > 1 else float("nan")
        ratio = part["federated nmae"] / part[f"{alone} nmae"]
        lines.append(
            {
                "row": row,
                "nMAE %": 100 * part["federated nmae"].mean(),
                "median %": 100 * part["federated nmae"].median(),
                "CV(RMSE) %": part["federated cvrmse"].mean(),
                "gain %": 100 * gain.mean(),
                "+-": 100 * spread,
                "no worse %": 100 * (ratio <= 1).mean(),
                "worst loss %": 100 * (ratio.max() - 1),
                "kB each": part["bytes"].mean() / 1000,
            }
        )
    return pd.DataFrame(lines).set_index("row")


def floors(frame: pd.DataFrame) -> pd.DataFrame:
    """The floors and the models alone, which are the same in every row that keeps each participant's learner."""
    part = frame[[ROWS[row].learner is None for row in frame["row"]]].drop_duplicates(["seed", "participant"])
    said = [column.removesuffix(" nmae") for column in part if column.endswith(" nmae")]
    ways = [way for way in said if way not in ("federated", "distilled")]
    return pd.DataFrame(
        {
            way: {"nMAE %": 100 * part[f"{way} nmae"].mean(), "median %": 100 * part[f"{way} nmae"].median()}
            for way in ways
        }
    ).T


@click.command()
@click.argument("name", type=click.Choice(list(SETTINGS)))
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--period", type=click.Choice(["development", "final"]), default="development", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--quick", is_flag=True, help="One seed, and only the default, FedMD and pooled.")
@click.option("--row", "chosen", multiple=True, type=click.Choice(list(ROWS)), help="Only these rows.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the results.")
def main(name: str, data: Path, period: str, seeds: int, quick: bool, chosen: Sequence[str], out: Path) -> None:
    """Measure all ways on one data set and keep what was measured as JSON."""
    setting = SETTINGS[name]
    file = data / setting.file
    if not file.exists():
        sys.exit(f"{file} is not there: give the folder of the data sets with --data")
    sites = read(file, setting.layout)
    rows = {key: ROWS[key] for key in (chosen or (["pooled", "fedmd", "grouped (default)"] if quick else ROWS))}
    found = []
    work = [(seed, key) for seed in range(1 if quick else seeds) for key in rows]
    for seed, key in tqdm(work, file=sys.stderr):
        history = run(setting, sites, setting.years[period], seed, rows[key])
        found += [{"row": key, "seed": seed, **one} for one in measured(history)]
    frame = pd.DataFrame(found)
    with pd.option_context("display.width", 160, "display.max_columns", 20, "display.float_format", "{:.2f}".format):
        print(floors(frame), "\n")
        print(table(frame, "local"), "\n")
    out.mkdir(parents=True, exist_ok=True)
    kept = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe(),
        "setting": {"data": name, "period": period, "seeds": seeds, "weeks": WEEKS},
        "rows": {key: asdict(row) for key, row in rows.items()},
        "measured": found,
    }
    written = out / f"energy-{name}-{period}{'-quick' if quick else ''}.json"
    written.write_text(json.dumps(kept), encoding="utf-8")
    print(f"written: {written}")


if __name__ == "__main__":
    main()
