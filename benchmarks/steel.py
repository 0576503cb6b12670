"""Measure a federation inside one steel works: day-ahead load, and the type of load from what the meter reads.

    python benchmarks/steel.py --quick
    python benchmarks/steel.py --data ../shared/data --seeds 5

One meter, one year of quarter hours (2018). Production periods stand for lines, a split made before any result was
seen: the first 52 days are the transfer set, the next 36 weeks are dealt to six lines in blocks of six weeks, one after
the other, and November and December are the test, the same for all. With six weeks each no more than two months are
left to judge on. Inputs of forecasts look back nine days, so at the seams into the load of the line before: it is one
plant. The seed says which line has which kind of model, and what models draw at random; the days stay the same, so the
intervals say nothing about another plant or another winter.

The type of load (light, medium, maximum) follows the tariff, that is the clock and the season. Models see load,
reactive power and power factors. Those that also see the clock are measured to show how good that looks, and both once
more in the usual way that flatters: on rows drawn at random from the same days that models learn from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
import common
import numpy as np
import pandas as pd
from sklearn.metrics import f1_score
from tqdm import tqdm

from fedstill.energy.frame import Layout, read, window
from fedstill.evaluation.outcome import Outcome
from fedstill.federation import Federation, History
from fedstill.labels import Space
from fedstill.members import Member
from fedstill.sites import Floor, Rows, Site, stretches
from fedstill.tasks.base import Examination, Prepared
from fedstill.tasks.classification import Classification
from fedstill.tasks.forecast import STRETCH_DAYS, Forecast
from fedstill.tasks.spans import Span, between

FILE = "steel_industry.parquet"
ZONE = "Asia/Seoul"
PUBLIC = ("2018-01-01", "2018-02-22")
TEST = ("2018-11-01", "2019-01-01")
WEEKS = 6
KINDS = ("lightgbm", "extra_trees", "mlp", "xgboost", "hist_gradient_boosting", "linear")
"""Kinds of model, one for each line."""
CLASSES = ("Light_Load", "Medium_Load", "Maximum_Load")
SIGNALS = (
    "load_kwh",
    "lagging_reactive_kvarh",
    "leading_reactive_kvarh",
    "lagging_power_factor",
    "leading_power_factor",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class LoadType(Classification):
    """The task on days instead of rows: stretches of days are held back in turn, later days are the test."""

    def prepare(self, party: str, data: pd.DataFrame, history: Span = (None, None)) -> Prepared:
        """Make a line's table ready; its column "day" counts local days since 1970-01-01."""
        X, y, day = self.inputs(data, party), self._targets(data, party), data["day"].to_numpy()
        learned, judged = between(day, history), between(day, TEST)
        own = Rows(X, y, day).where(learned)
        fold = stretches(day[learned], self.folds, STRETCH_DAYS)
        site = Site(party, own, Floor.fit(self.outputs, own.y), fold)
        return Prepared(site, Examination(X[judged], y[judged], day[judged]))


@dataclass(frozen=True)
class Row:
    """One way to learn, and which of a run's predictions it is judged by."""

    strategy: str
    way: str = "federated"


ROWS = {
    "pooled": Row("pooled", "distilled"),
    "fedmd": Row("fedmd"),
    "grouped (default)": Row("grouped"),
}
MEASURES = {"forecast": ("nmae",), "type": ("accuracy", "macro_f1")}


@dataclass(frozen=True)
class Case:
    """What is learned: forecasts, or types of load from some columns, judged later or at random; and which rows run."""

    kind: str
    rows: tuple[str, ...] = tuple(ROWS)
    clock: bool = False
    later: bool = True


CASES = {
    "load, day ahead": Case("forecast"),
    "type from signals": Case("type"),
    "type from signals and clock": Case("type", ("pooled", "grouped (default)"), clock=True),
    "type from signals, random rows": Case("type", ("grouped (default)",), later=False),
    "type from signals and clock, random rows": Case("type", ("grouped (default)",), clock=True, later=False),
}
QUICK = ("load, day ahead", "type from signals")


def spans() -> dict[str, tuple[str, str]]:
    """First and last day (exclusive) of each line's history, one after the other."""
    begin, length = date.fromisoformat(PUBLIC[1]), timedelta(weeks=WEEKS)
    return {f"line_{k + 1}": (str(begin + k * length), str(begin + (k + 1) * length)) for k in range(len(KINDS))}


def kinds(seed: int) -> dict[str, str]:
    """Which line has which kind of model."""
    return dict(zip(spans(), np.random.default_rng(seed).permutation(KINDS).tolist(), strict=True))


def forecasts(file: Path) -> Callable[[str, int], Federation]:
    """Federations that forecast the plant's load, by strategy and seed."""
    (plant,) = read(file, Layout(timezone=ZONE)).values()
    task = Forecast(test=TEST, country="KR")
    public = window(plant, *PUBLIC)

    def federation(strategy: str, seed: int) -> Federation:
        of = kinds(seed)
        people = [Member(name, plant, of[name], history=span) for name, span in spans().items()]
        return Federation(task, people, public, strategy=strategy, seed=seed)

    return federation


def types(file: Path, case: Case) -> Callable[[str, int], Federation]:
    """Federations that tell the type of load, by strategy and seed."""
    table = pd.read_parquet(file)
    local = table["timestamp"].dt.tz_convert(ZONE).dt.tz_localize(None)
    table["day"] = local.to_numpy("datetime64[D]").astype(np.int64)
    columns = (*SIGNALS, "nsm") if case.clock else SIGNALS
    categories = {"day_of_week": WEEKDAYS} if case.clock else None
    plain = Classification("load_type", CLASSES, columns, categories)
    task = LoadType("load_type", CLASSES, columns, categories) if case.later else plain
    public = table[between(table["day"].to_numpy(), PUBLIC)]

    def federation(strategy: str, seed: int) -> Federation:
        of = kinds(seed)
        own = {name: table[between(table["day"].to_numpy(), span)] for name, span in spans().items()}
        people = [
            Member(name, table if case.later else own[name], of[name], history=span) for name, span in spans().items()
        ]
        drawn = task if case.later else replace(task, seed=seed)
        return Federation(drawn, people, public, strategy=strategy, seed=seed)

    return federation


def prepared(file: Path, case: Case) -> Callable[[str, int], Federation]:
    """Federations of a case."""
    return forecasts(file) if case.kind == "forecast" else types(file, case)


def judged(one: Outcome, space: Space) -> dict[str, float]:
    """What each candidate of a participant is worth on its test."""
    if space is Space.QUANTILES:
        size = np.abs(one.actual).mean()
        middle = {name: values[:, values.shape[1] // 2] for name, values in one.predictions.items()}
        return {f"{name} nmae": float(np.abs(one.actual - said).mean() / size) for name, said in middle.items()}
    said = {name: values.argmax(axis=1) for name, values in one.predictions.items()}
    f1 = partial(f1_score, one.actual, labels=range(len(CLASSES)), average="macro", zero_division=0)
    return {f"{name} accuracy": float((values == one.actual).mean()) for name, values in said.items()} | {
        f"{name} macro_f1": float(f1(values)) for name, values in said.items()
    }


def measured(history: History, space: Space) -> list[dict[str, Any]]:
    """What one run says of each participant."""
    return [
        {
            "participant": one.name,
            "learner": one.learner,
            "kept": one.kept,
            "rows": one.train_rows,
            "bytes": one.bytes_up + one.bytes_down,
            **{name: round(value, 6) for name, value in judged(one, space).items()},
        }
        for one in history.outcomes
    ]


def table(frame: pd.DataFrame, case: Case) -> pd.DataFrame:
    """A line a floor and row: mean over seeds and lines with its interval over seeds, and how far from working alone.

    "local_safe" is the same careful blend of model and floor, without a federation. Errors compare in per cent of
    working alone, shares in points; positive is better.
    """
    alone = frame[frame["row"] == case.rows[-1]]  # every run trains them anew, and the same
    first = MEASURES[case.kind][0]
    ways = [column.removesuffix(f" {first}") for column in alone if column.endswith(f" {first}")]
    floors = [way for way in ways if way.startswith("naive") or way == "floor"]
    lines = {way: (alone, way) for way in floors} | {"local": (alone, "local"), "local_safe": (alone, "local_safe")}
    lines |= {key: (frame[frame["row"] == key], ROWS[key].way) for key in case.rows}
    return pd.DataFrame({name: described(part, alone, way, case) for name, (part, way) in lines.items()}).T


def described(part: pd.DataFrame, alone: pd.DataFrame, way: str, case: Case) -> dict[str, float]:
    """One line of the table."""
    found = {}
    for measure in MEASURES[case.kind]:
        by_seed = 100 * part.groupby("seed")[f"{way} {measure}"].mean()
        found |= {f"{measure} %": by_seed.mean(), f"{measure} +-": common.half_width(by_seed)}
        for rival, short in (("local", "alone"), ("local_safe", "safe")):
            base = 100 * alone.groupby("seed")[f"{rival} {measure}"].mean()
            better = 100 * (1 - by_seed / base) if measure == "nmae" else by_seed - base
            found |= {f"{measure} on {short}": better.mean(), f"{measure} on {short} +-": common.half_width(better)}
    return found


@click.command()
@common.data_option
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--quick", is_flag=True, help="One seed, the default alone, two cases.")
@common.out_option
def main(data: Path, seeds: int, quick: bool, out: Path) -> None:
    """Measure all ways on both tasks and keep what was measured as JSON."""
    common.need(data, FILE)
    cases = {name: replace(CASES[name], rows=CASES[name].rows[-1:]) for name in QUICK} if quick else CASES
    seeds = 1 if quick else seeds
    found: list[dict[str, Any]] = []
    with tqdm(total=seeds * sum(len(case.rows) for case in cases.values()), file=sys.stderr) as progress:
        for name, case in cases.items():
            make = prepared(data / FILE, case)
            for seed in range(seeds):
                for key in case.rows:
                    federation = make(ROWS[key].strategy, seed)
                    told = measured(federation.run(), federation.task.outputs.space)
                    found += [{"case": name, "row": key, "seed": seed, **one} for one in told]
                    progress.update()
    show(found, cases)
    setting = {"public": PUBLIC, "lines": spans(), "test": TEST, "seeds": seeds}
    written = out / f"steel{'-quick' if quick else ''}.json"
    common.keep(written, {**setting, "cases": {name: asdict(case) for name, case in cases.items()}}, ROWS, found)
    print(f"written: {written}")


def show(found: Sequence[Mapping[str, Any]], cases: Mapping[str, Case]) -> None:
    """Print a table for each case."""
    with common.wide():
        for name, case in cases.items():
            part = pd.DataFrame([one for one in found if one["case"] == name])
            print(f"{name}\n{table(part, case).to_string()}\n")


if __name__ == "__main__":
    main()
