"""Measure what the transfer set is worth: how many items, and how like the participants' own load they are.

    python benchmarks/transfer_sets.py --quick
    python benchmarks/transfer_sets.py --data ../shared/data --seeds 2

The participants are those of `energy.py` on the development period, with the default strategy. Beside the error stands
the coverage that participants would see, and the share of them that would be warned.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import click
import common
import pandas as pd
from tqdm import tqdm

import energy
from fedstill.coverage import ENOUGH
from fedstill.energy import synthetic
from fedstill.energy.frame import SiteLoad, window
from fedstill.federation import Federation
from fedstill.tasks.base import TransferSet
from fedstill.tasks.forecast import Forecast
from fedstill.tasks.inputs import WARM_UP_DAYS

OTHER = {"pjm": "cambridge", "cambridge": "pjm"}
CONTRIBUTED = 250
PERIOD, WEEKS = "development", 6
Benches = Mapping[str, tuple[Mapping[str, SiteLoad], Sequence[SiteLoad]]]
"""Participants' load and public load of each data set."""


@dataclass(frozen=True)
class Row:
    """A transfer set: where it comes from, and at most how many items it has."""

    source: str
    items: int


ROWS = {f"alike, {items}": Row("alike", items) for items in (100, 300, 1000, 3000, 9000)}
ROWS |= {source: Row(source, 1000) for source in ("other kind", "winter", "weekends", "generated", "contributed")}


@dataclass(frozen=True)
class Weekends(Forecast):
    """The task with a transfer set of Saturdays and Sundays alone."""

    def transfer(self, data: Any) -> TransferSet:
        """Those items that are on a weekend."""
        whole = super().transfer(data)
        columns = [self.features.index(f"weekday_{day}") for day in (5, 6)]
        chosen = whole.X[:, columns].any(axis=1)
        return replace(whole, X=whole.X[chosen], block=None if whole.block is None else whole.block[chosen])


def public(name: str, benches: Benches, source: str, seed: int) -> list[SiteLoad] | None:
    """The public sites of a transfer set; None where members contribute all."""
    if source == "contributed":
        return None
    sites, alike = benches[name]
    if source == "other kind":
        return list(benches[OTHER[name]][1])
    if source == "generated":
        test = date.fromisoformat(energy.SETTINGS[name].periods[PERIOD][1])
        days = 365 + WARM_UP_DAYS
        start, zone = str(test - timedelta(days=days)), next(iter(sites.values())).zone
        return list(synthetic.sites(12, 1.0, days=days, start=start, zone=zone, seed=1_000_003 + seed).values())
    if source == "winter":
        first = energy.SETTINGS[name].periods[PERIOD][0]
        return [window(one, first, f"{first[:4]}-03-01") for one in alike]
    return list(alike)


def measure(name: str, benches: Benches, row: Row, seed: int, plain: bool) -> list[dict[str, Any]]:
    """One run: what came of it for each participant."""
    setting = energy.SETTINGS[name]
    kind = Weekends if row.source == "weekends" else Forecast
    task = kind(test=setting.periods[PERIOD][1:], country=setting.country)
    people = energy.members(setting, benches[name][0], PERIOD, WEEKS, seed, energy.Row("grouped", companions=not plain))
    if row.source == "contributed":
        people = [replace(one, contributes=CONTRIBUTED) for one in people]
    federation = Federation(task, people, public(name, benches, row.source, seed), items=row.items, seed=seed)
    covered = {party: one.coverage for party, one in federation.prepare().items()}
    return [
        {
            "items": len(federation.transfer.X),
            "participant": one.name,
            "learner": one.learner,
            "kept": one.kept,
            "coverage": round(covered[one.name] or 0.0, 4),
            **{f"{way} nmae": round(one.metrics[way]["nmae"] or 0.0, 6) for way in one.metrics},
        }
        for one in federation.run().report.participants
    ]


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line a data set and row: means over seeds and participants."""
    lines = []
    for (data, row), part in frame.groupby(["data", "row"], sort=False):
        ratio = part["federated nmae"] / part["local nmae"]
        lines.append(
            {
                "data": data,
                "row": row,
                "items": part["items"].mean(),
                "floor %": 100 * part["floor nmae"].mean(),
                "alone %": 100 * part["local nmae"].mean(),
                "distilled %": 100 * part["distilled nmae"].mean(),
                "kept %": 100 * part["federated nmae"].mean(),
                "gain %": 100 * (1 - part["federated nmae"].mean() / part["local nmae"].mean()),
                "no worse %": 100 * (ratio <= 1).mean(),
                "coverage %": 100 * part["coverage"].mean(),
                "warned %": 100 * (part["coverage"] < ENOUGH).mean(),
            }
        )
    return pd.DataFrame(lines).set_index(["data", "row"])


@click.command()
@common.data_option
@click.option("--on", "names", multiple=True, type=click.Choice(list(OTHER)), help="Only this data set.")
@click.option("--seeds", type=click.IntRange(1), default=2, show_default=True)
@click.option("--plain", is_flag=True, help="Participants without companions, which is quicker.")
@click.option("--quick", is_flag=True, help="One seed, utilities, 300 items alike and of another kind.")
@common.row_option(ROWS)
@common.out_option
def main(
    data: Path,
    names: Sequence[str],
    seeds: int,
    plain: bool,
    quick: bool,
    chosen: Sequence[str],
    out: Path,
) -> None:
    """Measure all transfer sets and keep what was measured as JSON."""
    benches = {}
    for name in OTHER:
        setting = energy.SETTINGS[name]
        common.need(data, setting.source[0])
        benches[name] = energy.load(setting, data, PERIOD)
    rows = {key: ROWS[key] for key in chosen or ROWS}
    if quick:
        rows = {key: replace(ROWS[key], items=300) for key in chosen or ("alike, 300", "other kind")}
    on = names or (["pjm"] if quick else list(OTHER))
    found: list[dict[str, Any]] = []
    told = {"data": list(on), "seeds": 1 if quick else seeds, "period": PERIOD, "weeks": WEEKS, "plain": plain}
    written = out / f"transfer-sets{'-quick' if quick else ''}.json"
    work = [(name, seed, key) for seed in range(told["seeds"]) for name in on for key in rows]
    for name, seed, key in tqdm(work, file=sys.stderr):
        ran = measure(name, benches, rows[key], seed, plain)
        found += [{"data": name, "row": key, "seed": seed, **one} for one in ran]
        common.keep(written, told, rows, found)  # each time, so that what was measured is there whatever comes
    with common.wide():
        print(table(pd.DataFrame(found)), "\n")
    print(f"written: {written}")


if __name__ == "__main__":
    main()
