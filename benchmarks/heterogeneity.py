"""Measure how unlike the sites of real data sets are, and what that does to the gain from a federation.

    python benchmarks/heterogeneity.py
    python benchmarks/heterogeneity.py --curve --quick

The first measures profiles and the heterogeneity index of every data set that is there, over all days and over shorter
histories, and how near the generator of artificial sites comes to them. The curve runs federations
of eight artificial sites at several skews, each site with six weeks of history of its own, and judges all on the eight
weeks after the year. Artificial sites say how a method behaves, not what industry gains.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import process_time
from typing import Any

import click
import common
import numpy as np
import pandas as pd
from tqdm import tqdm

from fedstill.energy import simbench
from fedstill.energy.frame import Layout, SiteLoad, from_frame, read, window
from fedstill.energy.heterogeneity import SPANS, Heterogeneity, Profile, heterogeneity
from fedstill.energy.profile import profile
from fedstill.energy.synthetic import sites
from fedstill.environment import describe
from fedstill.federation import Federation
from fedstill.members import Member
from fedstill.tasks.forecast import Forecast

WEEKS = 6
SKEWS = (0.0, 0.25, 0.5, 0.75, 1.0)
STRATEGIES = ("grouped", "pooled")
YEARS = {"pjm": 2016, "cambridge 45": 2018, "simbench": 2016}
LEARNERS = ("lightgbm", "linear", "mlp")
WEATHER = ("temperature_c",)


@dataclass(frozen=True)
class RealSet:
    """A data set: its file, how to read it, and which of its sites and days are measured."""

    file: str
    layout: Layout
    names: tuple[str, ...] = ()
    days: tuple[str | None, str | None] = (None, None)


REAL = {
    "pjm": RealSet(
        "pjm_hourly.parquet",
        Layout(timezone="America/New_York"),
        ("AEP", "COMED", "DAYTON", "DEOK", "DOM", "DUQ", "EKPC", "FE"),
        ("2014-01-01", "2018-01-01"),
    ),
    "cambridge 12": RealSet(
        "cambridge_buildings.parquet",
        Layout(timezone="Europe/London", covariates=WEATHER),
        tuple(f"cam_{i}" for i in (11, 56, 97, 0, 3, 112, 83, 26, 41, 25, 22, 52)),
    ),
    "cambridge 45": RealSet("cambridge_buildings.parquet", Layout(timezone="Europe/London", covariates=WEATHER)),
    # The stamps are local, and what they do at changes of the clock is not known: they are taken as they stand.
    "tetouan": RealSet("tetouan_zones.parquet", Layout(timezone="UTC", covariates=WEATHER)),
    "enernoc": RealSet("enernoc_sectors.parquet", Layout(timezone="America/New_York")),
}


def real_sets(data: Path) -> Iterator[tuple[str, list[SiteLoad]]]:
    """The sets that are there, by name."""
    for name, one in REAL.items():
        if (data / one.file).exists():
            found = read(data / one.file, one.layout)
            yield name, [window(found[site], *one.days) for site in one.names or found]
    if simbench.path().exists():
        yield "simbench", list(from_frame(simbench.load(), Layout(timezone="Europe/Berlin")).values())


def described(found: Heterogeneity, profiles: Mapping[str, Profile]) -> dict[str, Any]:
    """Index, mean distances, share of the pairs whose distance is cut off at 1, and all profiles."""
    upper = np.triu_indices(len(profiles), 1)
    return {
        "sites": len(profiles),
        "index": found.index,
        "means": found.means,
        "cut_off": {name: float((one[upper] >= 1).mean()) for name, one in found.factors.items()},
        "profiles": {name: asdict(one) for name, one in profiles.items()},
    }


def measure_real(data: Path) -> dict[str, Any]:
    """Profiles and index of every set."""
    kept = {}
    for name, loads in real_sets(data):
        profiles = {one.site: profile(one) for one in loads}
        kept[name] = described(heterogeneity(list(profiles.values())), profiles)
    return kept


def measure_windows(data: Path) -> list[dict[str, Any]]:
    """Index of shorter histories in one year, all at the same time, or spread over the year."""
    found = []
    for name, year in YEARS.items():
        loads = dict(real_sets(data)).get(name, [])
        rng = np.random.default_rng(0)
        places = rng.permutation(len(loads))
        for weeks in (2, 6, 12, 26, 51) if loads else ():
            line: dict[str, Any] = {"set": name, "weeks": weeks}
            for way, room in (("together", 0), ("spread", 357 - 7 * weeks)):
                starts = [date(year, 1, 4) + timedelta(days=round(k * room / (len(loads) - 1))) for k in places]
                ends = [start + timedelta(weeks=weeks) for start in starts]
                cut = [window(*one) for one in zip(loads, starts, ends, strict=True)]
                line[way] = heterogeneity([profile(one) for one in cut]).index
            found.append(line)
    return found


def measure_generator(seeds: int, n_sites: int = 16) -> dict[str, Any]:
    """Mean index and distances of artificial sites over a year, by skew."""
    kept = {}
    for skew in SKEWS:
        made = [sites(n_sites, skew, days=366, seed=seed).values() for seed in range(seeds)]
        found = [heterogeneity([profile(one) for one in loads]) for loads in made]
        means = pd.DataFrame([one.means for one in found]).mean()
        kept[f"skew {skew:g}"] = {"index": float(np.mean([one.index for one in found])), "means": means.to_dict()}
    return kept


def federation(skew: float, seed: int, strategy: str, n_sites: int = 8) -> Federation:
    """Sites of one skew with six weeks of history each, spread over the year, and two more as transfer set."""
    made = sites(n_sites + 2, skew, days=425, start="2016-01-01", seed=seed)
    names = list(made)
    rng = np.random.default_rng(seed)
    starts = [date(2016, 1, 11) + timedelta(days=42 * int(k)) for k in rng.permutation(n_sites)]
    kinds = [LEARNERS[k % len(LEARNERS)] for k in rng.permutation(n_sites)]
    members = [
        Member(name, made[name], kind, {}, (str(start), str(start + timedelta(weeks=WEEKS))))
        for name, kind, start in zip(names, kinds, starts, strict=False)
    ]
    public = [window(made[name], "2016-01-01", "2017-01-01") for name in names[n_sites:]]
    task = Forecast(test=("2017-01-02", "2017-02-27"), naive="week")
    return Federation(task, members, public, strategy=strategy, items=1500, seed=seed)


def measure_curve(skews: Sequence[float], seeds: int) -> list[dict[str, Any]]:
    """Errors of the default strategy, alone and pooled at every skew."""
    found = []
    work = [(skew, seed) for skew in skews for seed in range(seeds)]
    for skew, seed in tqdm(work, file=sys.stderr):
        line: dict[str, Any] = {"skew": skew, "seed": seed}
        for strategy in STRATEGIES:
            report = federation(skew, seed, strategy).run().report
            mean = report.overall.mean
            line[strategy] = mean["federated"]["nmae"]
            if strategy == "grouped" and report.heterogeneity is not None:
                line |= {way: mean[way]["nmae"] for way in ("floor", "local", "local_safe")}
                line |= {"index": report.heterogeneity.index, "means": report.heterogeneity.factors}
                line["improved"] = report.overall.fairness.against["local"].improved_share
        found.append(line)
    return found


def table_of_sets(kept: Mapping[str, Any]) -> pd.DataFrame:
    """A line a set, or a skew of the generator."""
    lines = {name: {"sites": one.get("sites"), "index": one["index"], **one["means"]} for name, one in kept.items()}
    return pd.DataFrame(lines).T.dropna(axis=1, how="all").astype(float)


def table_of_curve(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A line a skew: means over seeds, errors in percent."""
    frame = pd.DataFrame(found).groupby("skew").mean(numeric_only=True).drop(columns="seed")
    ways = ["floor", "local", "local_safe", *STRATEGIES]
    gains = {f"{way} gain %": 100 * (1 - frame[way] / frame["local"]) for way in STRATEGIES}
    return frame.assign(**{way: 100 * frame[way] for way in ways}, **gains)[["index", *ways, *gains, "improved"]]


@click.command()
@common.data_option
@click.option("--curve", is_flag=True, help="Measure gain against skew instead; takes minutes.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Of artificial sites.")
@click.option("--quick", is_flag=True, help="One seed, and three skews of the curve.")
@common.out_option
def main(data: Path, curve: bool, seeds: int, quick: bool, out: Path) -> None:
    """Measure real sets and the generator, or the curve, and keep what was measured as JSON."""
    seeds = 1 if quick else seeds
    kept: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe(),
        "setting": {"spans": dict(SPANS), "seeds": seeds, "weeks": WEEKS},
    }
    with common.wide():
        if curve:
            kept["curve"] = measure_curve(SKEWS[::2] if quick else SKEWS, seeds)
            print(table_of_curve(kept["curve"]), "\n")
        else:
            kept["real"] = measure_real(data)
            if not kept["real"]:
                sys.exit(f"no data set is in {data}: give their folder with --data")
            kept |= {"windows": measure_windows(data), "generator": measure_generator(seeds)}
            print(table_of_sets(kept["real"]), "\n")
            print(pd.DataFrame(kept["windows"]).to_string(index=False), "\n")
            print(table_of_sets(kept["generator"]), "\n")
    kept["cpu_s"] = round(process_time(), 1)
    out.mkdir(parents=True, exist_ok=True)
    written = out / f"heterogeneity{'-curve' if curve else ''}{'-quick' if quick else ''}.json"
    written.write_text(json.dumps(kept), encoding="utf-8")
    print(f"written: {written}")


if __name__ == "__main__":
    main()
