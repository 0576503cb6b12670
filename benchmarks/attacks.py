"""Measure what can be told from what utilities send, with the same attacker for every way to learn together.

    python benchmarks/attacks.py --row fedavg --worlds 16
    python benchmarks/attacks.py --period final

Eight utilities with 51 weeks of history each. Each row is run once as it is, for its error, bytes and seconds, and then
attacked (`fedstill.attacks`). What is the primary measure, and why, is in decision 0010, which was written first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import common
import msgspec
import numpy as np
import pandas as pd
from tqdm import tqdm

from energy import SETTINGS, Bench, Row, load, members
from fedstill.attacks.suite import ATTACKS, Attack, attack, effort
from fedstill.federation import Federation
from fedstill.privacy.guard import Privacy
from fedstill.privacy.spending import Budget
from fedstill.round import Effect, Event
from fedstill.tasks.forecast import Forecast

WEEKS = 51


@dataclass(frozen=True)
class Way:
    """One way to learn together, without companions: what is attacked is what one model says."""

    strategy: str
    options: dict[str, Any] = field(default_factory=dict)
    rounds: int = 1
    learner: str | None = None
    epsilon: float | None = None


ROWS = {
    "fedavg": Way("fedavg", {"epochs": 5}, rounds=10, learner="mlp"),
    "fedsgd": Way("fedsgd", rounds=10, learner="mlp"),
    "fedmd": Way("fedmd"),
    "grouped": Way("grouped"),
    **{f"grouped, epsilon {epsilon:g}": Way("grouped", epsilon=epsilon) for epsilon in (1, 2, 4, 8)},
}


def federation(bench: Bench, way: Way, seed: int, workers: int) -> Federation:
    """The federation of one row."""
    _, *test = bench.setting.periods[bench.period]
    task = Forecast(test=(test[0], test[1]), country=bench.setting.country)
    row = Row(way.strategy, way.options, way.rounds, way.learner, companions=False)
    privacy = Privacy() if way.epsilon is None else Privacy("dp_sgd", Budget(way.epsilon))
    chosen = [
        replace(one, privacy=privacy) for one in members(bench.setting, bench.sites, bench.period, WEEKS, seed, row)
    ]
    return Federation(
        task,
        chosen,
        bench.public,
        strategy=way.strategy,
        options=way.options,
        rounds=way.rounds,
        workers=workers,
        seed=seed,
    )


def measure(bench: Bench, name: str, seed: int, worlds: int, attacks: Sequence[Attack], workers: int) -> dict[str, Any]:
    """What a row costs, and what its attackers find."""
    built = federation(bench, ROWS[name], seed, workers)
    seen: list[Event | Effect] = []
    told = built.run(observe=seen.append).report.participants
    with tqdm(total=effort(built, attacks, worlds), desc=name, file=sys.stderr) as bar:
        found = attack(built, seen, attacks=attacks, worlds=worlds, seed=seed, tick=lambda _: bar.update())
    return {
        "row": name,
        "seed": seed,
        "nmae": float(np.mean([one.metrics["federated"]["nmae"] for one in told])),
        "bytes": float(np.median([one.bytes_up + one.bytes_down for one in told])),
        "cpu_s": float(np.median([one.cpu_s for one in told])),
        **{key: part for key, part in msgspec.to_builtins(found).items() if part is not None},
    }


def table(measured: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A line for each row and who looks."""
    lines = []
    for one in measured:
        for by in ("coordinator", "participant", "sums"):
            line = {"row": one["row"], "who looks": by, "nMAE %": 100 * one["nmae"], "kB": one["bytes"] / 1000}
            line |= {"CPU s": one["cpu_s"]}
            if found := one.get("membership", {}).get(by):
                line |= {"AUC": found["auc"]["estimate"], "TPR at 0.1 %": found["tpr_at_fpr_0_1_percent"]["estimate"]}
            for name, found in one.get("property", {}).items():
                line[name] = found[by]["auc"]["estimate"]
            if found := one.get("audit", {}).get(by):
                line |= {"epsilon from": found["low"], "to": found["high"]}
            if found := one.get("reconstruction", {}).get(by):
                line["reconstruction"] = found["mean"]["estimate"]
            lines.append(line)
    return pd.DataFrame(lines).set_index(["row", "who looks"])


@click.command()
@common.data_option
@click.option("--source", type=click.Choice(["pjm", "cambridge"]), default="pjm", show_default=True)
@common.period_option()
@common.row_option(ROWS)
@click.option("--only", multiple=True, type=click.Choice(ATTACKS), help="Only these attacks.")
@click.option("--worlds", default=16, show_default=True, help="Runs with half of the data.")
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=1, show_default=True)
@click.option("--quick", is_flag=True, help="Three participants, to see that it works.")
@common.out_option
def main(
    data: Path,
    source: str,
    period: str,
    chosen: tuple[str, ...],
    only: tuple[Attack, ...],
    worlds: int,
    seed: int,
    workers: int,
    quick: bool,
    out: Path,
) -> None:
    """Attack each row, and store what was found; what other runs stored of other attacks and rows stays."""
    setting = SETTINGS[source]
    common.need(data, setting.source[0])
    sites, public = load(setting, data, period)
    bench = Bench(setting, dict(list(sites.items())[:3]) if quick else sites, public, period, WEEKS)
    written = out / f"attacks-{source}-{period}.json"
    described = {"data": source, "period": period, "weeks": WEEKS, "participants": len(bench.sites)}
    for name in chosen or ROWS:
        new = measure(bench, name, seed, worlds, only or ATTACKS, workers)
        before = common.stored(written)["measured"]
        old = next((one for one in before if (one["row"], one["seed"]) == (name, seed)), {})
        found = common.put(before, {"row": name, "seed": seed}, [{**old, **new}])
        common.keep(written, described, common.known(ROWS, found), found)
    with common.wide(3):
        print(table(common.stored(written)["measured"]))
    print(f"written: {written}")


if __name__ == "__main__":
    main()
