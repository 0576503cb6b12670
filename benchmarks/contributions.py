"""Measure who contributes how much to a teacher, among honest participants and among liars.

    python benchmarks/contributions.py pjm --quick
    python benchmarks/contributions.py pjm --period final --seeds 3

The federations of `energy.py`; who lies is drawn as in `liars.py`: two of eight, a quarter. Everybody answers once in a
run; what lies and algorithms make of these answers is computed from what was seen of it (`fedstill.contributions`). The
question is whether liars have the lowest values, by what a coordinator could know ("agreement") and by what only a
simulation can ("loss").
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import common
import pandas as pd
from liars import HONEST, OF_LABELS, SILENT, Case, cases
from tqdm import tqdm

from energy import SETTINGS, Bench, Row, load
from fedstill import contributions, plugins
from fedstill.round import Effect, Event

ROWS = {
    "fedmd": Row("fedmd"),
    "grouped (default)": Row("grouped"),
}
VALUES = ("loss", "agreement")
LIARS = 2


def measure(
    bench: Bench, seed: int, seen: Sequence[Event | Effect], key: str, case: Case, value: str
) -> dict[str, Any]:
    """What everybody contributes to the teacher that an algorithm makes of these answers."""
    row, began = ROWS[key], time.perf_counter()
    made = plugins.build("algorithms", row.strategy, row.options, where=row.strategy)
    found = contributions(bench.federation(seed, Row(case.applied(made))), seen, value=value)
    return {
        "together": found.together,
        "seconds": round(time.perf_counter() - began, 1),
        "coalitions": found.coalitions,
        "liars": case.liars,
        "shapley": {one.name: round(one.shapley, 5) for one in found.participants},
        "left_out": {one.name: round(one.left_out, 5) for one in found.participants},
        "helps": {one.name: {party: round(x, 5) for party, x in one.helps.items()} for one in found.participants},
    }


def table(found: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A line a row, value and lie: mean values of liars and honest, times 100, and how often liars are the lowest."""

    def line(one: dict[str, Any]) -> dict[str, Any]:
        shapley, liars = one["shapley"], set(one["liars"])
        honest = [value for party, value in shapley.items() if party not in liars]
        lowest = sorted(shapley, key=shapley.__getitem__)[: len(liars)]
        return {
            **{key: one[key] for key in ("row", "value", "lie")},
            "together": 100 * one["together"],
            "honest": 100 * sum(honest) / len(honest),
            "lowest honest": 100 * min(honest),
            "liars": 100 * sum(shapley[party] for party in liars) / max(len(liars), 1),
            "liars lowest %": 100 * len(liars & set(lowest)) / max(len(liars), 1),
            "liars below 0 %": 100 * sum(shapley[party] < 0 for party in liars) / max(len(liars), 1),
            "liars left out below 0 %": 100 * sum(one["left_out"][party] < 0 for party in liars) / max(len(liars), 1),
            "seconds": one["seconds"],
        }

    return pd.DataFrame(map(line, found)).groupby(["value", "row", "lie"], sort=False).mean()


@click.command()
@click.argument("name", type=click.Choice(["pjm", "cambridge"]))
@common.data_option
@common.period_option()
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@common.first_seed_option
@click.option("--quick", is_flag=True, help="One seed, one lie, the default, and agreement alone.")
@common.out_option
def main(name: str, data: Path, period: str, seeds: int, first_seed: int, quick: bool, out: Path) -> None:
    """Measure contributions on one data set and keep what was measured as JSON."""
    setting = SETTINGS[name]
    common.need(data, setting.source[0], setting.public_source[0])
    bench = Bench(setting, *load(setting, data, period), period, 6)
    written = out / f"contributions-{name}-{period}{'-quick' if quick else ''}.json"
    counts = range(1) if quick else range(first_seed, seeds)
    found = [] if quick else [one for one in common.stored(written)["measured"] if one["seed"] not in counts]
    for seed in counts:
        seen: list[Event | Effect] = []
        bench.federation(seed, ROWS["fedmd"]).run(observe=seen.append)
        ways = [case for case in cases(sorted(bench.sites), [LIARS], OF_LABELS, seed) if case.way != SILENT]
        work = [(value, key, case) for value, key, case in itertools.product(VALUES, ROWS, ways)]
        if quick:
            work = [
                (value, key, case) for value, key, case in work if (value, key) == ("agreement", "grouped (default)")
            ]
            work = [(value, key, case) for value, key, case in work if case.way in (HONEST, "flip")]
        for value, key, case in tqdm(work, desc=f"seed {seed}", file=sys.stderr):
            place = {"seed": seed, "row": key, "value": value, "lie": case.way}
            found.append({**place, **measure(bench, seed, seen, key, case, value)})
            common.keep(written, {"data": name, "period": period, "weeks": 6, "liars": LIARS}, ROWS, found)
    with common.wide():
        print(table(found).to_string(), "\n")
    print(f"written: {written}")


if __name__ == "__main__":
    main()
