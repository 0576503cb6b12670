"""Measure what noise on clipped updates (DP-FedAvg) does to a federation of eight utilities.

    python benchmarks/dp_fedavg.py
    python benchmarks/dp_fedavg.py --row "clip 0.1, epsilon 8"

Each utility of PJM has 51 weeks of private history and the same kind of model, and is judged on the year after them.
Ten rounds, to which all eight have to answer; the unit of privacy is the participant, delta 1e-5, and the coordinator
is trusted (against = "participants"). Without an epsilon updates are clipped and get no noise. The seed draws the
common start, the weeks and the noise. No option was chosen by these figures.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import common
import numpy as np
import pandas as pd
from tqdm import tqdm

from energy import SETTINGS, Bench, Row, load, members
from fedstill.federation import Federation
from fedstill.privacy.base import Asked
from fedstill.privacy.clipped_update import ClippedUpdate
from fedstill.privacy.guard import Privacy
from fedstill.privacy.spending import Budget, Unit
from fedstill.tasks.forecast import Forecast

YEAR, ROUNDS = 51, 10
"""Weeks of private history; rounds."""


@dataclass(frozen=True)
class Averaged:
    """A clip of updates, an epsilon and a kind of model; None: no clip, or no noise."""

    clip: float | None = None
    epsilon: float | None = None
    clipping: str = "fixed"
    learner: str = "mlp"

    @property
    def algorithm(self) -> tuple[str, dict[str, Any]]:
        """Its name and options: without a clip all updates still count alike."""
        if self.clip is None:
            return "fedavg", {"weights": "equal"}
        return "dp_fedavg", {"clip": self.clip, "clipping": self.clipping}

    @property
    def privacy(self) -> Privacy:
        """What members are given."""
        if self.epsilon is None:
            return Privacy()
        budget = Budget(self.epsilon, unit=Unit.PARTICIPANT)
        return Privacy("clipped_update", budget, {"against": "participants"})


CLIPS = {
    "clip 1": Averaged(1.0),
    "clip 0.1": Averaged(0.1),
    "clip 0.01": Averaged(0.01),
    "adaptive from 1": Averaged(1.0, clipping="adaptive"),
}
ROWS = {
    "no clip": Averaged(),
    **{
        f"{name}, {f'epsilon {epsilon}' if epsilon else 'no noise'}": replace(row, epsilon=epsilon)
        for name, row in CLIPS.items()
        for epsilon in (None, 8, 2)
    },
    "linear, no clip": Averaged(learner="linear"),
    "linear, clip 0.1, no noise": Averaged(0.1, learner="linear"),
    "linear, clip 0.1, epsilon 8": Averaged(0.1, 8, learner="linear"),
}
QUICK = ("linear, clip 0.1, epsilon 8",)


def federation(bench: Bench, seed: int, row: Averaged, workers: int) -> Federation:
    """The federation of one row."""
    _, *test = bench.setting.periods[bench.period]
    drawn = members(bench.setting, bench.sites, bench.period, bench.weeks, seed, Row("", {}, 1, row.learner, False))
    strategy, options = row.algorithm
    return Federation(
        Forecast(test=(test[0], test[1]), country=bench.setting.country),
        [replace(one, privacy=row.privacy) for one in drawn],
        bench.public,
        strategy=strategy,
        options={**options, "seed": seed},
        rounds=ROUNDS,
        quorum=len(drawn),
        workers=workers,
        seed=seed,
    )


def noise_length(row: Averaged, parameters: int, quorum: int) -> float:
    """How long the noise in a mean of a quorum's updates is (root of the mean square), in clips."""
    mechanism = row.privacy.build()
    if row.clip is None or not isinstance(mechanism, ClippedUpdate):
        return 0.0
    asked = Asked(row.clip, row.clipping == "adaptive", ROUNDS, quorum)
    (spend,) = mechanism.spends(asked, row.privacy.budget, [])
    deviation, _ = mechanism.deviations(asked, spend)
    return float(deviation * np.sqrt(parameters / quorum) / row.clip)


def run(bench: Bench, seed: int, row: Averaged, workers: int) -> list[dict[str, Any]]:
    """What one federation says of each participant."""
    chosen = federation(bench, seed, row, workers)
    parameters = sum(array.size for array in chosen.strategy.memory.values())  # the common start
    return [
        {
            "participant": one.name,
            "parameters": parameters,
            "noise_clips": noise_length(row, parameters, len(chosen.members)),
            "epsilon": one.privacy.epsilon if one.privacy else None,
            **{f"{way} nmae": one.metrics[way]["nmae"] for way in one.metrics},
        }
        for one in chosen.run().report.participants
    ]


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line a row: mean nMAE in percent over participants; "common" is the averaged model as it is taught."""
    lines = []
    for row, part in frame.groupby("row", sort=False):
        seeds = [100 * p["distilled nmae"].mean() for _, p in part.groupby("seed")]
        lines.append(
            {
                "row": row,
                "common %": np.mean(seeds),
                "+-": common.half_width(seeds),
                "kept %": 100 * part["federated nmae"].mean(),
                "alone %": 100 * part["local nmae"].mean(),
                "floor %": 100 * part["floor nmae"].mean(),
                "noise, clips": part["noise_clips"].mean(),
                "parameters": part["parameters"].max(),
                "seeds": part["seed"].nunique(),
            }
        )
    return pd.DataFrame(lines).set_index("row")


@click.command()
@common.data_option
@common.period_option()
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--quick", is_flag=True, help="One seed, and only the row of few parameters with noise.")
@common.row_option(ROWS)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@common.out_option
def main(data: Path, period: str, seeds: int, quick: bool, chosen: Sequence[str], workers: int, out: Path) -> None:
    """Measure all clips and budgets and keep what was measured as JSON."""
    setting = SETTINGS["pjm"]
    common.need(data, setting.source[0])
    bench = Bench(setting, *load(setting, data, period), period, YEAR)
    drawn = 1 if quick else seeds
    written = out / f"dp-fedavg-pjm-{period}{'-quick' if quick else ''}.json"
    found = [] if quick else [one for one in common.stored(written)["measured"] if one["row"] in ROWS]
    described = {"data": "pjm", "period": period, "weeks": YEAR, "rounds": ROUNDS, "quorum": len(bench.sites)}
    rows = list(chosen or (QUICK if quick else ROWS))
    for seed, key in tqdm([(seed, key) for seed in range(drawn) for key in rows], file=sys.stderr):
        found = common.put(found, {"row": key, "seed": seed}, run(bench, seed, ROWS[key], workers))
        common.keep(written, described, common.known(ROWS, found), found)
    frame = pd.DataFrame(found).sort_values("row", key=lambda row: row.map(list(ROWS).index), kind="stable")
    with common.wide():
        print(table(frame), "\n")
    print(f"written: {written}")


if __name__ == "__main__":
    main()
