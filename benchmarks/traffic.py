"""Measure the bytes that grouping adds to plain distillation, and those that sketches save, with the error beside.

    python benchmarks/traffic.py pjm --quick
    python benchmarks/traffic.py cambridge --seeds 2

The federations are those of `energy.py` in the development period: six weeks of history, one round, the same
participants with the same models. Bytes are those of whole frames, counted as they are sent.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import common
import pandas as pd
from tqdm import tqdm

from energy import SETTINGS, Bench, Row, load
from fedstill.federation import History

WEEKS = 6
PLAIN = "fedmd"
GROUPED = {
    "grouped (default)": Row("grouped"),
    "grouped client": Row("grouped", {"select": "client"}),
    "grouped item": Row("grouped", {"select": "item"}),
    "grouped mean": Row("grouped", {"select": "mean"}),
    "grouped 3 groups": Row("grouped", {"groups": 3}),
    "grouped 3 groups, client": Row("grouped", {"groups": 3, "select": "client"}),
    "grouped 3 groups, own group teaches": Row("grouped", {"groups": 3, "audience": "group"}),
}
"""Ways to group by what is sent anyway."""

SKETCHED = {
    f"sketched{' 3 groups' if groups else ''}, {n} speaker{'s' if n > 1 else ''} a group": Row(
        "sketched", {"speakers": n, **groups}
    )
    for groups in ({}, {"groups": 3})
    for n in (1, 2, 3)
}
ROWS = {PLAIN: Row("fedmd"), **GROUPED, **SKETCHED}


def measured(history: History) -> list[dict[str, Any]]:
    """What one run says of each participant."""
    groups = history.rounds[0].groups
    of_group = {party: place for place, group in enumerate(groups) for party in group}
    return [
        {
            "participant": one.name,
            "group": of_group.get(one.name),
            "bytes_up": spent.bytes_up,
            "bytes_down": spent.bytes_down,
            **{f"{way} nmae": round(one.metrics[way]["nmae"] or 0.0, 6) for way in ("local", "federated")},
        }
        for one, spent in zip(history.report.participants, history.outcomes, strict=True)
    ]


def added(frame: pd.DataFrame) -> dict[str, int]:
    """The most bytes, up or down, by which any participant of a way to group differs from plain distillation."""
    bytes_of = frame.set_index(["row", "seed", "participant"])[["bytes_up", "bytes_down"]]
    rows = [row for row in frame["row"].unique() if row in GROUPED]
    return {row: int((bytes_of.loc[row] - bytes_of.loc[PLAIN]).abs().to_numpy().max()) for row in rows}


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line a row: means over seeds and participants."""
    lines = {}
    for row, part in frame.groupby("row", sort=False):
        lines[row] = {
            "groups": part.groupby("seed")["group"].nunique().mean(),
            "senders": part[part["bytes_up"] > part["bytes_up"].max() / 2].groupby("seed").size().mean(),
            "kB up": part["bytes_up"].mean() / 1000,
            "kB down": part["bytes_down"].mean() / 1000,
            "nMAE %": 100 * part["federated nmae"].mean(),
            "median %": 100 * part["federated nmae"].median(),
            "no worse %": 100 * (part["federated nmae"] <= part["local nmae"]).mean(),
        }
    return pd.DataFrame(lines).T


def measure(name: str, data: Path, seeds: int, rows: Mapping[str, Row]) -> list[dict[str, Any]]:
    """All rows with all seeds."""
    common.need(data, SETTINGS[name].source[0])
    bench, found = Bench(SETTINGS[name], *load(SETTINGS[name], data, "development"), "development", WEEKS), []
    for seed, key in tqdm([(seed, key) for seed in range(seeds) for key in rows], file=sys.stderr):
        history = bench.federation(seed, rows[key]).run()
        found += [{"row": key, "seed": seed, **one} for one in measured(history)]
    return found


@click.command()
@click.argument("name", type=click.Choice(["pjm", "cambridge"]))
@common.data_option
@click.option("--seeds", type=click.IntRange(1), default=2, show_default=True)
@click.option("--quick", is_flag=True, help="One seed, and only FedMD, the default and one speaker of three groups.")
@common.row_option(ROWS)
@common.out_option
def main(name: str, data: Path, seeds: int, quick: bool, chosen: Sequence[str], out: Path) -> None:
    """Measure all ways on one data set and keep what was measured as JSON."""
    few = [PLAIN, "grouped (default)", "sketched 3 groups, 1 speaker a group"]
    rows = {key: ROWS[key] for key in (chosen or (few if quick else ROWS))}
    seeds = 1 if quick else seeds
    found = measure(name, data, seeds, rows)
    frame = pd.DataFrame(found)
    with common.wide():
        print(table(frame), "\n")
    differs = added(frame) if PLAIN in rows else {}
    for row, n_bytes in differs.items():
        print(f"{row}: {n_bytes} bytes more or less than {PLAIN}, of the participant where it is most")
    written = out / f"traffic-{name}{'-quick' if quick else ''}.json"
    setting = {
        "data": name,
        "period": "development",
        "weeks": WEEKS,
        "seeds": seeds,
        "bytes_that_grouping_adds": differs,
    }
    common.keep(written, setting, rows, found)
    print(f"written: {written}")


if __name__ == "__main__":
    main()
