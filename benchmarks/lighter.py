"""Measure how light a student can be that keeps up with the ensemble of everybody's models.

    python benchmarks/lighter.py
    python benchmarks/lighter.py mnist --quick

Each participant's model learns alone, as by default (forecasts: with companions). All of them together are the
ensemble: it answers with the mean of its models, or with the default aggregate; a student has to keep up with whichever
of the two is better on the data set. What the default aggregate says of the transfer set teaches students of decreasing
size, through `Learner.distil`: with a participant's own rows and half of the weight for the teacher ("both"), from the
teacher alone, and, to show what the teacher is worth, from the own rows alone. Students of other kinds than a
participant's own are what it could use where its model is too large or too slow.

Sizes are the bytes that `Learner.save` writes. What is kept was defined before it was measured: for classes accuracy of
the student over that of the ensemble, for forecasts nMAE of the ensemble over that of the student, each the mean over
participants. The second measure is stricter, the share of the ensemble's gain over the floor. Wanted is 98 % kept at
30 % of the size, and then the smallest student that keeps 90 %. All data are those of development, so that what is
chosen here can be tested elsewhere.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import classes
import click
import common
import numpy as np
import pandas as pd
from tqdm import tqdm

import energy
from fedstill import plugins
from fedstill.labels import Array, Outputs, Release, SoftLabels, Space
from fedstill.learners.base import Learner, Parametric
from fedstill.members import MakeModel
from fedstill.sites import Site
from fedstill.strategy import Ballot, Vote
from fedstill.tasks.base import Examination

ENERGY = {name: energy.SETTINGS[name].source[0] for name in ("pjm", "cambridge")}
SETS = {**ENERGY, "mnist": classes.SETTINGS["mnist"][0]}
WEEKS = 6
PARTICIPANTS, ALPHA = 10, 0.5
MOST_SIZE = 0.30
WANTED, ENOUGH = 0.98, 0.90
WAYS = {"own rows": 0.0, "both": 0.5, "teacher alone": 1.0}
"""The teacher's share of the weight that a student learns from."""
ENSEMBLES = ("ensemble, mean", "ensemble, default")


@dataclass(frozen=True)
class Row:
    """A kind of student."""

    learner: str
    options: Mapping[str, Any] = field(default_factory=dict)


STUDENTS = {f"mlp {units}": Row("mlp", {"hidden": (units,)}) for units in (64, 32, 16, 8, 4)}
STUDENTS |= {
    "linear": Row("linear"),
    "lightgbm 50 x 7": Row("lightgbm", {"rounds": 50, "leaves": 7, "learning_rate": 0.15}),
    "lightgbm 20 x 4": Row("lightgbm", {"rounds": 20, "leaves": 4, "learning_rate": 0.3}),
}
ALONE = ("mlp 64", "mlp 16", "linear")
"""Students that also learn from their own rows alone."""
QUICK = ("mlp 16", "linear")


@dataclass(frozen=True, eq=False)
class Case:
    """What a seed draws: sites with their tests and kinds of model, on common scales, and the transfer set."""

    outputs: Outputs
    sites: Mapping[str, Site]
    tests: Mapping[str, Examination]
    makes: Mapping[str, MakeModel]
    X_transfer: Array

    def score(self, party: str, said: Array) -> float:
        """Error (nMAE of the median), or accuracy, on the participant's test."""
        test = self.tests[party]
        if self.outputs.space is Space.PROBABILITIES:
            return float((said.argmax(axis=1) == test.actual).mean())
        middle = test.restore(said)[:, self.outputs.median]
        return float(np.abs(test.actual - middle).mean() / np.abs(test.actual).mean())


@cache
def bench(name: str, data: Path) -> energy.Bench:
    """The load of a data set's development years."""
    setting = energy.SETTINGS[name]
    return energy.Bench(setting, *energy.load(setting, data, "development"), "development", WEEKS)


def draw(name: str, data: Path, seed: int) -> Case:
    """A data set as a seed draws it."""
    if name == "mnist":
        file, private = classes.SETTINGS[name]
        dealt = classes.draw(classes.images(data / file), private, "development", PARTICIPANTS, ALPHA, seed)
        test = Examination(dealt.test.X, dealt.test.y, np.arange(len(dealt.test)))
        tests = dict.fromkeys(dealt.sites, test)
        return Case(classes.OUTPUTS, dealt.sites, tests, classes.learners(dealt, seed), dealt.transfer.X)
    federation = bench(name, data).federation(seed, energy.ROWS["grouped (default)"])
    prepared = federation.prepare()
    transfer = federation.transfer
    return Case(
        federation.task.outputs,
        {party: one.site for party, one in prepared.items()},
        {party: one.examination for party, one in prepared.items()},
        federation.makes,
        transfer.scaling.apply(transfer.X),
    )


def aggregated(case: Case, voices: Sequence[Array]) -> SoftLabels:
    """What the default algorithm makes of everybody's soft labels of the same rows."""
    rows = np.arange(len(voices[0]))
    votes = [
        Vote(party, Release(labels=SoftLabels.of(rows, said, case.outputs.space)))
        for party, said in zip(case.makes, voices, strict=True)
    ]
    strategy = plugins.build("algorithms", "grouped", {}, where="strategy")
    taught = strategy.teach(Ballot(votes, tuple(case.makes), case.outputs, strategy.memory))
    labels = taught.teachers[votes[0].party].labels
    assert labels is not None
    return labels


def size(model: Learner) -> int:
    """Bytes of the stored model."""
    with TemporaryDirectory() as folder:
        model.save(Path(folder))
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def parameters(make: MakeModel, n_features: int) -> int | None:
    """Number of a network's weights and biases; None for other models."""
    model = make()
    if not isinstance(model, Parametric):
        return None
    return int(sum(array.size for array in model.initialise(n_features).parameters().values()))


def ensemble(case: Case, models: Sequence[Learner]) -> dict[str, float]:
    """Scores of all models together, mean over participants, by how they become one voice."""
    scores: dict[str, list[float]] = {key: [] for key in ENSEMBLES}
    for party, test in case.tests.items():
        voices = [model.predict(test.X) for model in models]
        for key, said in zip(ENSEMBLES, (np.mean(voices, axis=0), aggregated(case, voices).values), strict=True):
            scores[key].append(case.score(party, said))
    return {key: float(np.mean(found)) for key, found in scores.items()}


def distilled(case: Case, row: Row, share: float, teacher: SoftLabels) -> Iterator[tuple[str, Learner]]:
    """Each participant's student; from the teacher alone all would be the same one, so that one is made for all."""
    student = None
    for party, site in case.sites.items():
        X, y = site.rows.X, site.rows.y
        if share == 1 and student is None:
            X, y = X[:0], y[:0]
        if share < 1 or student is None:
            make = MakeModel(row.learner, row.options, case.outputs, case.makes[party].own_seed)
            student = make().distil(X, y, case.X_transfer, teacher.values, teacher.weight, share)
        yield party, student


def measure(case: Case, students: Mapping[str, Row]) -> list[dict[str, Any]]:
    """Size and score of the floor, the models alone, the ensembles, and all students; means over participants."""
    n_features = case.X_transfer.shape[1]
    models = {party: case.makes[party]().fit(site.rows.X, site.rows.y) for party, site in case.sites.items()}
    teacher = aggregated(case, [model.predict(case.X_transfer) for model in models.values()])
    whole = sum(map(size, models.values()))
    floor = np.mean([case.score(party, site.floor.predict(case.tests[party].X)) for party, site in case.sites.items()])
    alone = np.mean([case.score(party, model.predict(case.tests[party].X)) for party, model in models.items()])
    found = [
        {"row": "floor", "score": float(floor)},
        {"row": "own model alone", "score": float(alone), "bytes": whole / len(models)},
        *({"row": key, "score": score, "bytes": whole} for key, score in ensemble(case, list(models.values())).items()),
    ]
    for (key, row), (way, share) in itertools.product(students.items(), WAYS.items()):
        if share == 0 and key not in ALONE:
            continue
        made = dict(distilled(case, row, share, teacher))
        scores = [case.score(party, model.predict(case.tests[party].X)) for party, model in made.items()]
        count = parameters(MakeModel(row.learner, row.options, case.outputs, 0), n_features)
        stored = float(np.mean([size(model) for model in made.values()]))
        found.append({"row": key, "way": way, "score": float(np.mean(scores)), "bytes": stored, "parameters": count})
        if key == "mlp 64" and share == 0:
            light = ensemble(case, list(made.values()))
            networks = sum(map(size, made.values()))
            found += [{"row": f"{name}, mlp 64 each", "score": one, "bytes": networks} for name, one in light.items()]
    return found


def table(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A line a model: size and score, means over seeds, and how much of the ensemble's it keeps.

    Where the ensemble is no better than the floor it has no gain to keep: that column is NaN.
    """
    part = frame[frame["data"] == name].assign(way=lambda all_: all_["way"].fillna(""))
    by_seed = part.pivot_table("score", ["row", "way"], "seed", sort=False)
    higher = name == "mnist"
    means = by_seed.loc[list(ENSEMBLES)].mean(axis=1)
    best = by_seed.loc[means.idxmax() if higher else means.idxmin()]
    floor = by_seed.loc[("floor", "")]
    kept = by_seed / best if higher else best / by_seed
    gained = (best - floor if higher else floor - best).mean() > 0
    gain = (by_seed - floor) / (best - floor) if gained else by_seed * np.nan
    stored = part.pivot_table("bytes", ["row", "way"], "seed", sort=False, dropna=False).reindex(by_seed.index)
    counted = part.groupby(["row", "way"], sort=False)["parameters"].first().reindex(by_seed.index)
    return pd.DataFrame(
        {
            "kB": stored.mean(axis=1) / 1000,
            "parameters": counted,
            "size %": 100 * (stored / stored.loc[(ENSEMBLES[0], "")]).mean(axis=1),
            "accuracy %" if higher else "nMAE %": 100 * by_seed.mean(axis=1),
            "kept %": 100 * kept.mean(axis=1),
            "worst seed %": 100 * kept.min(axis=1),
            "gain kept %": 100 * gain.mean(axis=1),
        }
    )


def smallest(shown: Mapping[str, pd.DataFrame], column: str, least: float) -> str | None:
    """The smallest student with teacher and own rows that keeps so much on every one of the data sets."""
    students = [one.loc[(slice(None), ["both"]), :].droplevel("way") for one in shown.values()]
    kept = pd.concat([one[column] for one in students], axis=1).min(axis=1)
    sizes = pd.concat([one["size %"] for one in students], axis=1)
    fit = (kept >= 100 * least) & (sizes.max(axis=1) <= 100 * MOST_SIZE)
    return str(sizes.mean(axis=1)[fit].idxmin()) if fit.any() else None


def choices(shown: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, str | None]]:
    """The smallest students by both measures, on each data set and on all where the ensemble has a gain to keep."""
    found: dict[str, dict[str, str | None]] = {}
    for name, some in ({name: {name: one} for name, one in shown.items()} | {"all": shown}).items():
        found[name] = {}
        for column, least in itertools.product(("kept %", "gain kept %"), (WANTED, ENOUGH)):
            useful = {key: one for key, one in some.items() if one[column].notna().any()}
            chosen = smallest(useful, column, least) if useful else "no gain to keep"
            found[name][f"{column.removesuffix(' %')} {100 * least:.0f} %"] = chosen
    return found


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(SETS)))
@common.data_option
@click.option("--seeds", type=click.IntRange(1), default=2, show_default=True)
@click.option("--quick", is_flag=True, help="One seed, two kinds of student.")
@common.out_option
def main(names: Sequence[str], data: Path, seeds: int, quick: bool, out: Path) -> None:
    """Measure students on some data sets (all, unless named) and keep what was measured as JSON."""
    names = names or tuple(SETS)
    common.need(data, *(SETS[name] for name in names))
    students = {key: STUDENTS[key] for key in (QUICK if quick else STUDENTS)}
    found: list[dict[str, Any]] = []
    for name, seed in tqdm(list(itertools.product(names, range(1 if quick else seeds))), file=sys.stderr):
        found += [{"data": name, "seed": seed, **one} for one in measure(draw(name, data, seed), students)]
    shown = {name: table(pd.DataFrame(found), name) for name in names}
    with common.wide():
        for name, lines in shown.items():
            print(f"{name}\n{lines.to_string()}\n")
    chosen = choices(shown)
    print(pd.DataFrame(chosen).fillna("none").to_string(), "\n")
    written = out / f"lighter{''.join(f'-{name}' for name in names if len(names) < len(SETS))}{'-quick' * quick}.json"
    rows = {key: {**asdict(row), "ways": WAYS} for key, row in students.items()}
    setting = {"data": names, "weeks": WEEKS, "participants": PARTICIPANTS, "alpha": ALPHA, "students": rows}
    common.keep(written, {**setting, "most size": MOST_SIZE, "chosen": chosen}, students, found)
    print(f"written: {written}")


if __name__ == "__main__":
    main()
