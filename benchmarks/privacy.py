"""Measure what differential privacy costs a federation of utilities.

    python benchmarks/privacy.py year
    python benchmarks/privacy.py newcomers --period final --seeds 2

"year": every participant has 51 weeks of private history, and speaks by a release model. "newcomers": half of them do;
the others have six weeks, and only listen, which costs nothing. Without a mechanism ("none") their own models speak in
both. Which half is which, and who has which kind of model, is drawn by the seed. The unit of privacy is a day.

Options of the mechanisms were chosen on the development period; the final one is run afterwards, to report.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import common
import numpy as np
import pandas as pd
from tqdm import tqdm

from energy import SETTINGS, Bench, Row, load, members, tuned_error
from fedstill.federation import Federation
from fedstill.members import Member
from fedstill.privacy.guard import Privacy
from fedstill.privacy.spending import Budget, Unit
from fedstill.tasks.forecast import Forecast

YEAR, SHORT = 51, 6
"""Weeks of private history."""
SILENT = Privacy("silent")


@dataclass(frozen=True)
class Protected:
    """One way to speak: a mechanism and its epsilon; None: the model itself speaks, without any."""

    mechanism: str = "none"
    epsilon: float | None = None

    @property
    def privacy(self) -> Privacy:
        """What members are given."""
        if self.epsilon is None:
            return Privacy()
        unit = Unit.PARTICIPANT if self.mechanism == "label_noise" else Unit.DAY
        return Privacy(self.mechanism, Budget(self.epsilon, unit=unit))


ROWS = {
    "none": Protected(),
    **{f"dp_sgd, epsilon {epsilon:g}": Protected("dp_sgd", epsilon) for epsilon in (1, 2, 4, 8)},
    "committee, epsilon 8": Protected("committee", 8),
    "label_noise, epsilon 8": Protected("label_noise", 8),
}


@dataclass(frozen=True)
class Design:
    """Who takes part: "year" or "newcomers", and since when those who speak have a history; None: for a year."""

    name: str
    since: str | None = None

    def history(self, one: Member) -> Member:
        """One who speaks, with all of its history."""
        return one if self.since is None else replace(one, history=(self.since, one.history[1]))


def drawn(bench: Bench, design: Design, seed: int, row: Protected) -> list[Member]:
    """Members as the seed draws them."""
    parts = {
        weeks: members(bench.setting, bench.sites, bench.period, weeks, seed, Row("grouped", companions=False))
        for weeks in (YEAR, SHORT)
    }
    listens = set(np.random.default_rng(seed).permutation(list(bench.sites))[: len(bench.sites) // 2])
    return [
        replace(short, privacy=SILENT if row.epsilon else Privacy())
        if design.name == "newcomers" and short.name in listens
        else replace(design.history(long), privacy=row.privacy)
        for long, short in zip(parts[YEAR], parts[SHORT], strict=True)
    ]


def federation(bench: Bench, design: Design, seed: int, row: Protected, workers: int) -> Federation:
    """The federation of one row."""
    _, *test = bench.setting.periods[bench.period]
    task = Forecast(test=(test[0], test[1]), country=bench.setting.country)
    chosen = drawn(bench, design, seed, row)
    quorum = len(chosen) // 2
    return Federation(task, chosen, bench.public, strategy="grouped", quorum=quorum, workers=workers, seed=seed)


def run(bench: Bench, design: Design, seed: int, row: Protected, workers: int) -> list[dict[str, Any]]:
    """What one federation says of each participant."""
    chosen = federation(bench, design, seed, row, workers)
    short = {one.name for one in chosen.members if _weeks(one) < YEAR - 1}
    history = chosen.run()
    return [
        {
            "participant": one.name,
            "role": "newcomer" if one.name in short else "year",
            "bytes": one.bytes_up + one.bytes_down,
            "cpu_s": one.cpu_s,
            "epsilon": one.privacy.epsilon if one.privacy else None,
            **{f"{way} nmae": one.metrics[way]["nmae"] for way in one.metrics},
        }
        for one in history.report.participants
    ]


def _weeks(member: Member) -> int:
    first, last = (np.datetime64(day) for day in member.history if day)
    return int((last - first).astype(int)) // 7


def tuned(bench: Bench, design: Design, seed: int) -> dict[str, float]:
    """NMAE of each newcomer's own kind alone with six weeks, its options chosen by its held-back days."""
    if design.name != "newcomers":
        return {}
    chosen = federation(bench, design, seed, Protected("dp_sgd", 8.0), 1)
    plain = [replace(one, privacy=Privacy()) for one in chosen.members if _weeks(one) < YEAR - 1]
    alone = Federation(chosen.task, plain, bench.public, strategy="local", seed=seed)
    outputs, prepared = alone.task.outputs, alone.prepare()
    return {one.name: tuned_error((prepared[one.name], one, outputs, seed)) for one in alone.members}


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line a row and role: mean nMAE in percent over participants, with what they would have without a federation."""
    lines = []
    for (row, role), part in frame.groupby(["row", "role"], sort=False):
        seeds = [100 * p["federated nmae"].mean() for _, p in part.groupby("seed")]
        lines.append(
            {
                "row": row,
                "role": role,
                "nMAE %": np.mean(seeds),
                "+-": common.half_width(seeds),
                "distilled %": 100 * part["distilled nmae"].mean() if "distilled nmae" in part else np.nan,
                "alone %": 100 * part["local nmae"].mean(),
                "safe alone %": 100 * part["local_safe nmae"].mean(),
                "floor %": 100 * part["floor nmae"].mean(),
                "CPU s": part["cpu_s"].median(),
                "epsilon": part["epsilon"].max(),
                "seeds": part["seed"].nunique(),
            }
        )
    return pd.DataFrame(lines).set_index(["role", "row"]).sort_index(level=0, sort_remaining=False)


@click.command()
@click.argument("design", type=click.Choice(["year", "newcomers"]))
@click.option("--source", type=click.Choice(["pjm", "cambridge"]), default="pjm", show_default=True)
@common.data_option
@common.period_option()
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@common.row_option(ROWS)
@click.option("--since", help="Histories of those who speak begin here, if data do; for a year unless given.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@common.out_option
def main(
    design: str,
    source: str,
    data: Path,
    period: str,
    seeds: int,
    chosen: Sequence[str],
    since: str | None,
    workers: int,
    out: Path,
) -> None:
    """Measure all ways to speak on one design and keep what was measured as JSON."""
    setting = SETTINGS[source]
    common.need(data, setting.source[0])
    bench = Bench(setting, *load(setting, data, period), period, YEAR)
    rows = list(chosen or ROWS)
    who = Design(design, since)
    written = out / f"privacy-{design}-{source}-{period}{f'-since-{since}' if since else ''}.json"
    before = common.stored(written)
    found = [
        one for one in before["measured"] if one["row"] in ROWS and (one["row"] not in rows or one["seed"] >= seeds)
    ]
    alone: dict[str, Mapping[str, float]] = dict(before["setting"].get("tuned", {}))
    described = {"data": source, "design": design, "since": since, "period": period, "tuned": alone}
    for seed, key in tqdm([(seed, key) for seed in range(seeds) for key in rows], file=sys.stderr):
        if str(seed) not in alone:
            alone[str(seed)] = tuned(bench, who, seed)
        found += [{"row": key, "seed": seed, **one} for one in run(bench, who, seed, ROWS[key], workers)]
        common.keep(written, described, common.known(ROWS, found), found)
    with common.wide():
        print(table(pd.DataFrame(found)), "\n")
    errors = [error for told in alone.values() for error in told.values()]
    if errors:
        print(f"newcomers' own kind alone, tuned: {100 * np.mean(errors):.2f} %")
    print(f"written: {written}")


if __name__ == "__main__":
    main()
