"""Measure how well enterprises forecast alone, together, and with all their data pooled.

    python benchmarks/energy.py pjm --seeds 2 --quick
    python benchmarks/energy.py cambridge --period final
    python benchmarks/energy.py pjm --weeks 26 --row "grouped (default)" --row "pooled lightgbm"

Each participant has some weeks of private history (six, unless said otherwise), spread over the time before the test;
which participant has which weeks and which kind of model is drawn by the seed. The transfer set is of sites that do
not take part. Test days are never learned from. Decisions are made on the development period; the final one is run
afterwards, to report. Rows that have been measured before, on the same period and weeks, stay in the file of results.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import click
import common
import numpy as np
import pandas as pd
from tqdm import tqdm

from fedstill.crossfit import CrossFit
from fedstill.energy.frame import Layout, SiteLoad, read, window
from fedstill.federation import Federation, History
from fedstill.labels import Outputs
from fedstill.members import MakeModel, Member, make_model
from fedstill.sites import loss
from fedstill.strategy import Strategy
from fedstill.tasks.base import Prepared
from fedstill.tasks.forecast import Forecast

LEARNERS = ("lightgbm", "extra_trees", "mlp", "xgboost", "hist_gradient_boosting", "linear", "lightgbm", "mlp")
UTILITIES = ("pjm_hourly.parquet", Layout(timezone="America/New_York"))
BUILDINGS = ("cambridge_buildings.parquet", Layout(timezone="Europe/London"))
SECTORS = ("enernoc_sectors.parquet", Layout(timezone="UTC"))
ZONES = ("tetouan_zones.parquet", Layout(timezone="UTC"))
OFFICES = tuple(f"cam_{i}" for i in (36, 109, 31, 64))
"""The Cambridge buildings that make the transfer set and never take part."""


@dataclass(frozen=True)
class Setting:
    """A data set, who takes part, and whose days are public."""

    source: tuple[str, Layout]
    participants: tuple[str, ...] | None
    public_source: tuple[str, Layout]
    public: tuple[str, ...]
    country: str | None
    periods: Mapping[str, tuple[str, str, str]]
    """Where histories begin, where the test begins (and histories end), where it ends."""
    public_days: tuple[str, str] | None = None
    """Days of the transfer set; None: those of the histories."""


def year_after_year(year: int) -> tuple[str, str, str]:
    """Histories in one year, the test in the next."""
    return f"{year}-01-01", f"{year + 1}-01-01", f"{year + 2}-01-01"


TWELVE = tuple(f"cam_{i}" for i in (11, 56, 97, 0, 3, 112, 83, 26, 41, 25, 22, 52))
CAMBRIDGE = {"development": year_after_year(2017), "final": year_after_year(2018)}
SETTINGS = {
    "pjm": Setting(
        UTILITIES,
        ("AEP", "COMED", "DAYTON", "DEOK", "DOM", "DUQ", "EKPC", "FE"),
        UTILITIES,
        ("PJMW",),
        "US",
        {"development": year_after_year(2014), "final": year_after_year(2016)},
    ),
    "cambridge": Setting(BUILDINGS, TWELVE, BUILDINGS, OFFICES, "GB", CAMBRIDGE),
    "cambridge40": Setting(BUILDINGS, None, BUILDINGS, OFFICES, "GB", CAMBRIDGE),
    "enernoc": Setting(
        SECTORS,
        None,
        BUILDINGS,
        OFFICES,
        None,
        {"final": ("2012-01-11", "2012-09-01", "2013-01-01")},
        ("2017-01-01", "2018-01-01"),
    ),
    "tetouan": Setting(ZONES, None, UTILITIES, ("PJMW",), None, {"final": ("2017-01-11", "2017-09-01", "2017-12-31")}),
}


@dataclass(frozen=True)
class Row:
    """One way to learn: an algorithm with its options, perhaps with the same learner for all."""

    strategy: str | Strategy
    options: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 1
    learner: str | None = None
    companions: bool = True


NETWORK: dict[str, Any] = {"rounds": 30, "learner": "mlp"}
ROWS = {
    "pooled lightgbm": Row("pooled", learner="lightgbm", companions=False),
    "pooled mlp": Row("pooled", learner="mlp", companions=False),
    "pooled, own kinds": Row("pooled", companions=False),
    "pooled, with companions": Row("pooled"),
    "no companions": Row("grouped", companions=False),
    "grouped (default)": Row("grouped"),
    "grouped client": Row("grouped", {"select": "client"}),
    "grouped item": Row("grouped", {"select": "item"}),
    "grouped mean": Row("grouped", {"select": "mean"}),
    "grouped, own group teaches": Row("grouped", {"groups": 3, "audience": "group"}),
    "grouped, group and all teach": Row("grouped", {"audience": "both"}),
    "grouped (default), 3 rounds": Row("grouped", rounds=3),
    "fedmd": Row("fedmd"),
    "fedmd, certainty": Row("fedmd", {"aggregate": "certainty"}),
    "fedmd, precision": Row("fedmd", {"aggregate": "precision"}),
    "dsfl": Row("dsfl"),
    "selective": Row("selective"),
    "ktpfl": Row("ktpfl"),
    "comet": Row("comet"),
    "fedavg": Row("fedavg", **NETWORK),
    "fedavg + fine-tuning": Row("fedavg", {"tune": 5}, **NETWORK),
    "fedprox": Row("fedprox", **NETWORK),
    "fedper": Row("fedper", **NETWORK),
    "clustered": Row("clustered", **NETWORK),
}
QUICK = ("pooled lightgbm", "fedmd", "grouped (default)")
GRIDS: dict[str, tuple[dict[str, Any], ...]] = {
    "lightgbm": ({}, {"leaves": 7, "rounds": 100}, {"leaves": 7, "rounds": 300, "learning_rate": 0.03}, {"rounds": 60}),
    "xgboost": ({}, {"rounds": 50}, {"rounds": 300, "learning_rate": 0.03}),
    "hist_gradient_boosting": ({}, {"rounds": 60}, {"leaves": 7}),
    "extra_trees": ({}, {"features": 0.3}, {"features": 0.7}),
    "mlp": ({}, {"decay": 30.0}, {"decay": 3.0}, {"hidden": (32,), "epochs": 40}),
    "linear": ({}, {"decay": 100.0}, {"decay": 1.0}),
}
"""What "tuned" chooses from, by each site's held-back days."""


def load(setting: Setting, data: Path, period: str) -> tuple[dict[str, SiteLoad], list[SiteLoad]]:
    """The participants' load, and that of the public sites."""
    named = {"": setting.source, "public": setting.public_source}
    sites, others = (read(data / file, layout) for file, layout in named.values())
    chosen = setting.participants or tuple(sorted(set(sites) - set(setting.public)))
    days = setting.public_days or setting.periods[period][:2]
    public = [window(others[name], *days) for name in setting.public]
    return {name: sites[name] for name in chosen}, public


def members(
    setting: Setting, sites: Mapping[str, SiteLoad], period: str, weeks: int, seed: int, row: Row
) -> list[Member]:
    """Participants with their weeks and learners as the seed draws them."""
    first, test, _ = setting.periods[period]
    rng, n = np.random.default_rng(seed), len(sites)
    begin = date.fromisoformat(first) + timedelta(days=10)
    free = (date.fromisoformat(test) - begin).days - 5 - 7 * weeks
    starts = [begin + timedelta(days=round(k * max(free, 0) / (n - 1))) for k in rng.permutation(n)]
    kinds = [LEARNERS[k % len(LEARNERS)] for k in rng.permutation(n)]
    return [
        Member(
            name,
            sites[name],
            row.learner or kind,
            {},
            (str(start), str(min(start + timedelta(weeks=weeks), date.fromisoformat(test)))),
            None if row.companions else (),
        )
        for name, start, kind in zip(sites, starts, kinds, strict=True)
    ]


def tuned_error(work: tuple[Prepared, Member, Outputs, int]) -> float:
    """The nMAE of a participant's own kind alone; all its days are held back in turn to choose the options."""
    one, member, outputs, seed = work
    site, exam = one.site, one.examination
    makes = [make_model(replace(member, options=options), outputs, seed) for options in GRIDS[member.learner]]

    def held_back(make: MakeModel) -> float:
        unseen = CrossFit(site, len(outputs), lambda rows: make().fit(rows.X, rows.y))
        return loss(outputs, site.held_back(site.folds).y, unseen.predict(site.folds))

    best = min(makes, key=held_back)().fit(site.rows.X, site.rows.y)
    said = exam.restore(best.predict(exam.X))[:, outputs.median]
    return float(np.abs(said - exam.actual).mean() / np.abs(exam.actual).mean())


@dataclass(frozen=True)
class Bench:
    """A data set made ready: what all rows share."""

    setting: Setting
    sites: Mapping[str, SiteLoad]
    public: Sequence[SiteLoad]
    period: str
    weeks: int

    def federation(self, seed: int, row: Row) -> Federation:
        """The federation of one row."""
        _, *test = self.setting.periods[self.period]
        return Federation(
            Forecast(test=(test[0], test[1]), country=self.setting.country),
            members(self.setting, self.sites, self.period, self.weeks, seed, row),
            self.public,
            strategy=row.strategy,
            options=row.options,
            rounds=row.rounds,
            workers=2,
            seed=seed,
        )

    def tuned(self, seed: int) -> dict[str, float]:
        """Mean nMAE of each participant's own kind alone, its options chosen by its held-back days."""
        federation = self.federation(seed, Row("local", companions=False))
        outputs, prepared = federation.task.outputs, federation.prepare()
        work = [(prepared[member.name], member, outputs, seed) for member in federation.members]
        with ProcessPoolExecutor(2) as pool:
            return dict(zip(prepared, pool.map(tuned_error, work), strict=True))


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


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line a row: mean over seeds and participants, and gains over working alone with their interval over seeds.

    A pooled model counts as it is; everything else as its participant keeps it. "Alone" is the same kind of model with
    the same companions; "safe" is the same careful blend with the floor, without a federation.
    """
    lines = []
    for row, part in frame.groupby("row", sort=False):
        way = "distilled" if ROWS[str(row)].strategy == "pooled" else "federated"
        gains = {
            rival: [100 * (1 - p[f"{way} nmae"].mean() / p[f"{rival} nmae"].mean()) for _, p in part.groupby("seed")]
            for rival in ("local", "local_safe")
        }
        ratio = part[f"{way} nmae"] / part["local nmae"]
        lines.append(
            {
                "row": row,
                "nMAE %": 100 * part[f"{way} nmae"].mean(),
                "CV(RMSE) %": part[f"{way} cvrmse"].mean(),
                "pinball": part[f"{way} pinball"].mean(),
                "worst nMAE %": 100 * part.groupby("seed")[f"{way} nmae"].max().mean(),
                "gain on alone %": np.mean(gains["local"]),
                "+-": common.half_width(gains["local"]),
                "gain on safe %": np.mean(gains["local_safe"]),
                "+- ": common.half_width(gains["local_safe"]),
                "no worse %": 100 * (ratio <= 1).mean(),
                ">2 % worse %": 100 * (ratio > 1.02).mean(),
                "worst loss %": 100 * (ratio.max() - 1),
                "kB each": part["bytes"].mean() / 1000,
                "seeds": part["seed"].nunique(),
            }
        )
    return pd.DataFrame(lines).set_index("row")


def floors(frame: pd.DataFrame, tuned: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """The floors and the models alone, which are the same in every row that keeps each participant's learner."""
    lines: dict[str, list[float]] = {}
    for companions, label in ((True, "with companions"), (False, "own kind")):
        # A careful choice beside pooled models is made by one fold, as theirs is: that of a federation is the stronger.
        mixed = [
            key
            for key, row in ROWS.items()
            if row.learner is None and row.companions is companions and row.strategy != "pooled"
        ]
        part = frame[frame["row"].isin(mixed)].drop_duplicates(["seed", "participant"])
        for column in part if len(part) else ():
            way, _, name = column.rpartition(" ")
            if name == "nmae" and way not in ("federated", "distilled") and part[column].notna().all():
                key = way if "local" not in way else f"{way}, {label}"
                lines[key] = [100 * part[column].mean(), 100 * part[column].median()]
    errors = [value for values in tuned.values() for value in values]
    if errors:
        lines["local tuned, own kind"] = [100 * float(np.mean(errors)), 100 * float(np.median(errors))]
    return pd.DataFrame(lines, index=["nMAE %", "median %"]).T


def before(file: Path, rows: Sequence[str], seeds: range) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    """What the file of results holds of other rows and seeds, and of the tuned models."""
    kept = common.stored(file)
    ours = [one for one in kept["measured"] if one["row"] in ROWS]
    return [one for one in ours if one["row"] not in rows or one["seed"] not in seeds], kept["setting"].get("tuned", {})


@click.command()
@click.argument("name", type=click.Choice(list(SETTINGS)))
@common.data_option
@common.period_option()
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@common.first_seed_option
@click.option("--weeks", type=click.IntRange(2, 51), default=6, show_default=True, help="Of private history.")
@click.option("--quick", is_flag=True, help="One seed, and only the default, FedMD and pooled.")
@common.row_option(ROWS)
@click.option("--tuned/--no-tuned", default=True, show_default=True, help="Measure tuned models alone as well.")
@common.out_option
def main(
    name: str,
    data: Path,
    period: str,
    seeds: int,
    first_seed: int,
    weeks: int,
    quick: bool,
    chosen: Sequence[str],
    tuned: bool,
    out: Path,
) -> None:
    """Measure all ways on one data set and keep what was measured as JSON."""
    setting = SETTINGS[name]
    if period not in setting.periods:
        sys.exit(f"{name} has no {period} period, only: {', '.join(setting.periods)}")
    common.need(data, setting.source[0], setting.public_source[0])
    bench = Bench(setting, *load(setting, data, period), period, weeks)
    rows = list(chosen or (QUICK if quick else ROWS))
    drawn = range(1) if quick else range(first_seed, seeds)
    written = out / f"energy-{name}-{period}{f'-{weeks}weeks' if weeks != 6 else ''}{'-quick' if quick else ''}.json"
    found, alone = ([], {}) if quick else before(written, rows, drawn)
    kept_setting = {"data": name, "period": period, "weeks": weeks, "tuned": alone}
    for seed, key in tqdm([(seed, key) for seed in drawn for key in rows], file=sys.stderr):
        history = bench.federation(seed, ROWS[key]).run()
        found += [{"row": key, "seed": seed, **one} for one in measured(history)]
        # Each time: what was measured is there, whatever comes.
        common.keep(written, kept_setting, common.known(ROWS, found), found)
    if tuned and not quick:
        alone |= {str(seed): list(bench.tuned(seed).values()) for seed in drawn if str(seed) not in alone}
    frame = pd.DataFrame(found)
    frame = frame.sort_values("row", key=lambda row: row.map(list(ROWS).index), kind="stable")
    with common.wide():
        print(floors(frame, alone), "\n")
        print(table(frame), "\n")
    common.keep(written, {**kept_setting, "tuned": alone}, common.known(ROWS, found), found)
    print(f"written: {written}")


if __name__ == "__main__":
    main()
