"""Measure release models alone: what each says of its own site's test days, before anybody learns from it.

    python benchmarks/release_models.py
    python benchmarks/release_models.py --since 2011-01-11 --row "dp_sgd, epsilon 2" --row "opacus, epsilon 2"

Eight utilities of PJM, each with its history until 2015, judged on 2015; components are those of a ninth, which is the
transfer set. The unit of privacy is a day, delta 1e-5. "no noise" has all else as it is: clips, steps, and the view.
The rows of `opacus` need the extra of that name.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

import click
import common
import numpy as np
import pandas as pd
from tqdm import tqdm

from energy import SETTINGS, load
from fedstill.labels import Array
from fedstill.privacy.base import Work
from fedstill.privacy.guard import Privacy
from fedstill.privacy.noise import SeededNoise
from fedstill.privacy.spending import Budget, Unit
from fedstill.sites import View
from fedstill.tasks.base import Prepared
from fedstill.tasks.forecast import Forecast

ITEMS = 1000
"""Items of the transfer set."""


@dataclass(frozen=True)
class Trained:
    """A mechanism with its options at an epsilon; None: priced for epsilon 8, and the noise left away."""

    mechanism: str
    epsilon: float | None
    options: Mapping[str, Any] = field(default_factory=dict)


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "dp_sgd": ("dp_sgd", {}),
    "dp_sgd, learning_rate 1": ("dp_sgd", {"learning_rate": 1.0}),
    "opacus": ("opacus", {}),
}
ROWS = {
    f"{kind}, {f'epsilon {epsilon:g}' if epsilon else 'no noise'}": Trained(mechanism, epsilon, options)
    for kind, (mechanism, options) in KINDS.items()
    for epsilon in (1, 2, 4, 8, None)
}


class Silence(SeededNoise):
    """Noise of nothing; blocks are sampled all the same."""

    def normal(self, shape: tuple[int, ...]) -> Array:
        """See `Noise`."""
        return np.zeros(shape)


def error(row: Trained, task: Forecast, public: View, one: Prepared, seed: int) -> float:
    """The nMAE of one site's release model on its test days."""
    if one.site.view is None:
        raise TypeError("a forecast has a view")
    budget = Budget(row.epsilon or 8.0, unit=Unit.DAY)
    mechanism = Privacy(row.mechanism, budget, row.options).build()
    if mechanism is None:
        raise TypeError("a row names a mechanism")
    work = Work(one.site.view, public, task.outputs, _nothing, _nothing, 1)
    noise = SeededNoise(seed) if row.epsilon else Silence(seed)
    released = mechanism.release(work, mechanism.spends(work, budget, []), noise)
    exam = one.examination
    said = exam.restore(mechanism.labels(released, task.view(exam.X, exam.block), task.outputs))[:, task.outputs.median]
    return float(np.abs(said - exam.actual).mean() / np.abs(exam.actual).mean())


def _nothing() -> Any:
    raise TypeError("a release model asks for no other model")


@click.command()
@common.data_option
@click.option("--since", default="2014-01-11", show_default=True, help="The first day of all histories.")
@click.option("--seed", default=0, show_default=True, help="Of the noise, and of the transfer set's items.")
@common.row_option(ROWS)
@common.out_option
def main(data: Path, since: str, seed: int, chosen: Sequence[str], out: Path) -> None:
    """Measure release models of all utilities and keep what was measured as JSON."""
    setting = SETTINGS["pjm"]
    common.need(data, setting.source[0])
    sites, others = load(setting, data, "development")
    _, *test = setting.periods["development"]
    task = Forecast(test=(test[0], test[1]), country=setting.country)
    transfer = task.transfer(others).sample(ITEMS, seed)
    public = task.view(transfer.X, transfer.block)
    ready = [task.prepare(name, site, (since, test[0])) for name, site in sites.items()]
    found: list[dict[str, Any]] = []
    for key in tqdm(chosen or ROWS, file=sys.stderr):
        for k, (name, one) in enumerate(zip(sites, ready, strict=True)):
            began = process_time()
            nmae = error(ROWS[key], task, public, one, 100 * seed + k)
            found.append({"row": key, "participant": name, "nmae": nmae, "cpu_s": process_time() - began})
    written = out / f"release-models-pjm-since-{since[:4]}.json"
    common.keep(written, {"since": since, "seed": seed}, {key: ROWS[key] for key in chosen or ROWS}, found)
    means = pd.DataFrame(found).groupby("row", sort=False)[["nmae", "cpu_s"]].mean()
    print(means.assign(nmae=100 * means["nmae"]).rename(columns={"nmae": "nMAE %"}).round(2))
    print(f"written: {written}")


if __name__ == "__main__":
    main()
