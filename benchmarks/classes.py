"""Measure how well members of unlike classes and models recognise images alone, together, and with all data pooled.

    python benchmarks/classes.py mnist --period development --seeds 3 --quick
    python benchmarks/classes.py fashion --alpha 0.1 --period final
    python benchmarks/classes.py mnist --teachers

Images are 28 x 28 pixels, averaged in blocks of 4 x 4 to 49 inputs, so that boosted trees can take part. Of each class
200 images, the same for all runs, are the final test, and 150 others the test of development; decisions are made on
the latter alone, with seeds of their own. Of the rest the seed draws 2000 as the transfer set, without their labels,
and deals others to the participants: each class is shared out by a Dirichlet draw (Hsu, Qi and Brown 2019,
arXiv:1909.06335), and who would have fewer than 20 images gets some from the richest. The seed also draws who has which
kind of model. All are judged on the same test, in which every class is equally frequent: so a model that knows two of
ten classes scores at most 20 %. "Own mix" weighs that test by how frequent each class is at the participant: what
counts for who has its own cases alone.

With --teachers nobody distils: all ways to make a teacher get the same soft labels of the first round, of healthy
participants and with liars among them, and each teacher is compared with the transfer set's labels, which nobody else
sees. What has been measured before, of other rows, draws or seeds, stays in the file of results.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import click
import common
import numpy as np
import pandas as pd
from tqdm import tqdm

from fedstill import plugins
from fedstill.codecs.raw import Raw
from fedstill.grouping.experts import experts
from fedstill.labels import Array, Outputs, Release, SoftLabels, Space
from fedstill.members import BuildParticipant, MakeModel, common_start
from fedstill.messages import Kind, Recipe
from fedstill.participant import Participant
from fedstill.round import Closed, Coordinator, Effect, Event, Phase, Plan
from fedstill.sites import Floor, Rows, Site
from fedstill.sites import dealt as folds_of
from fedstill.strategy import Ballot, Strategy, Vote, everyone
from fedstill.tasks.classification import Classification
from fedstill.testing.liars import lying
from fedstill.transports.calls import InProcess
from fedstill.transports.calls import run as drive

OUTPUTS = Outputs(Space.PROBABILITIES, tuple("0123456789"))
LEARNERS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "extra_trees": {},
    "lightgbm": {"rounds": 50, "learning_rate": 0.15},  # ten trees a round: a third of the time of the defaults
    "linear": {},
}
ALPHAS = (0.1, 0.5, 5.0)
ITEMS = 2000
LEAST = 20
FOLDS = 4
MARKS = (1, 3, 5, 10)
"""Rounds after which accuracy is looked at."""
PERIODS = {"development": 0, "final": 1000}
"""The first seed of each period."""
SETTINGS = {"mnist": ("mnist_10k.parquet", 4500), "fashion": ("fashion_mnist_25k.parquet", 10_000)}
"""File, and number of images that are dealt to the participants."""


@dataclass(frozen=True)
class Row:
    """One way to learn: an algorithm with its options, perhaps the same learner for all, perhaps liars among them."""

    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 1
    learner: str | None = None
    companions: bool = True
    liars: tuple[str, int] = ("flip", 0)
    """How they lie (`fedstill.testing.liars`), and how many: the first ones, whose rows the seed has drawn."""


GROUPS = {"grouping": "agglomerative"}  # the default for classes makes none
ROWS = {
    "fedmd": Row("fedmd", rounds=3),
    "dsfl": Row("dsfl", rounds=3),
    "grouped (default)": Row("grouped", rounds=3),
    "no companions": Row("grouped", rounds=3, companions=False),
    "experts": Row("experts", rounds=3),
    "experts, share 0.8": Row("experts", {"share": 0.8}, rounds=3),
    "fedmd, 10 rounds": Row("fedmd", rounds=10),
    "dsfl, 10 rounds": Row("dsfl", rounds=10),
    "grouped (default), 10 rounds": Row("grouped", rounds=10),
    "grouped client, 1 round": Row("grouped", {**GROUPS, "select": "client", "aggregate": "weighted"}),
    "grouped item, 1 round": Row(
        "grouped", {**GROUPS, "select": "item", "reliability": "entropy", "aggregate": "weighted"}
    ),
    "grouped mean, 1 round": Row("grouped", {**GROUPS, "select": "mean", "aggregate": "weighted"}),
    "grouped median, 1 round": Row("grouped", {**GROUPS, "select": "median", "aggregate": "median"}),
    "fedavg mlp, 10 rounds": Row("fedavg", rounds=10, learner="mlp"),
    "fedmd, 2 reversed": Row("fedmd", rounds=3, liars=("flip", 2)),
    "experts, 2 reversed": Row("experts", rounds=3, liars=("flip", 2)),
}
TEACHERS = {
    "mean": Row("fedmd"),
    "median": Row("fedmd", {"aggregate": "median"}),
    "grouped (default)": Row("grouped"),
    **{
        f"{select} by {reliability}, {groups} groups": Row(
            "grouped",
            {"select": select, "reliability": reliability, "aggregate": "weighted", "weights": "equal"}
            | ({"grouping": "none"} if groups == 1 else {"groups": groups}),
        )
        for select, reliability in (("client", "entropy"), ("client", "medoid"), ("item", "entropy"), ("mean", "auto"))
        for groups in (1, 3, 5)
    },
    "experts": Row("experts"),
}
"""Ways to make a teacher of the first round's soft labels."""

COLUMNS = ("distilled", "own", "floor", "federated own mix", "distilled own mix", "own own mix")
QUICK = ("fedmd", "experts")
LIES = ("noise", "sign", "flip", "collusion")
"""Ways to lie that teachers are compared with; `collusion` is all of them sure of one class, whatever the image."""


@dataclass(frozen=True, eq=False)
class Images:
    """A data set: inputs (n, 49), classes (n,), and which rows are for what."""

    X: Array
    y: Array
    tests: Mapping[str, Array]
    rest: Array


@dataclass(frozen=True, eq=False)
class Case:
    """What a seed draws: sites with their kinds of model, the transfer set, and the test all are judged on."""

    sites: Mapping[str, Site]
    kinds: Mapping[str, str]
    transfer: Rows
    test: Rows


@cache
def images(file: Path) -> Images:
    """Read a data set and put the tests aside."""
    table = pd.read_parquet(file)
    pixels = np.stack([np.frombuffer(image, np.uint8) for image in table["pixels"]])
    X = (pixels.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(-1, 49) / 255).astype(np.float32)
    y = table["label"].to_numpy(np.int64)
    order = np.random.default_rng(2024).permutation(len(y))
    by_class = [order[y[order] == c] for c in range(len(OUTPUTS))]
    final = np.concatenate([rows[:200] for rows in by_class])
    development = np.concatenate([rows[200:350] for rows in by_class])
    rest = np.concatenate([rows[350:] for rows in by_class])
    return Images(X, y, {"development": development, "final": final}, rest)


def deal(y: Array, n: int, alpha: float, rng: np.random.Generator) -> list[Array]:
    """Rows of each of n participants, in random order: every class shared out by a Dirichlet draw."""
    owner = np.empty(len(y), np.int64)
    for c in range(len(OUTPUTS)):
        rows = rng.permutation(np.flatnonzero(y == c))
        ends = np.round(np.cumsum(rng.dirichlet(np.full(n, alpha))) * len(rows)).astype(int)
        for k, part in enumerate(np.split(rows, ends[:-1])):
            owner[part] = k
    while (sizes := np.bincount(owner, minlength=n)).min() < LEAST:
        owner[rng.choice(np.flatnonzero(owner == sizes.argmax()))] = sizes.argmin()
    return [rng.permutation(np.flatnonzero(owner == k)) for k in range(n)]


def draw(data: Images, private: int, period: str, n: int, alpha: float, seed: int) -> Case:
    """What a seed draws."""
    rng = np.random.default_rng(seed)
    rest = rng.permutation(data.rest)
    public, dealt = rest[:ITEMS], rest[ITEMS : ITEMS + private]
    centre, size = data.X[public].mean(axis=0), data.X[public].std(axis=0)
    X = ((data.X - centre) / np.where(size > 1e-6, size, 1.0)).astype(np.float32)
    kinds = [tuple(LEARNERS)[k % len(LEARNERS)] for k in rng.permutation(n)]
    sites = {}
    for k, rows in enumerate(deal(data.y[dealt], n, alpha, rng)):
        own = Rows(X[dealt[rows]], data.y[dealt[rows]])
        sites[f"p{k:02}"] = Site(f"p{k:02}", own, Floor.fit(OUTPUTS, own.y), folds_of(own.y, FOLDS))
    test = data.tests[period]
    of = dict(zip(sites, kinds, strict=True))
    return Case(sites, of, Rows(X[public], data.y[public]), Rows(X[test], data.y[test]))


def strategy_of(row: Row, makes: Mapping[str, MakeModel], n_features: int) -> Strategy:
    """The row's algorithm, ready to run."""
    options = dict(row.options)
    if row.strategy == "experts":  # the aggregate by itself, without groups
        made = Strategy("experts", everyone(experts), Recipe(**options))
    else:
        made = plugins.build("algorithms", row.strategy, options, where=row.strategy)
    if made.recipe.release is not Kind.LABELS and made.memory is None:
        made = replace(made, memory=common_start(makes, made, n_features))
    way, number = row.liars
    return lying(made, dict.fromkeys(list(makes)[:number], way))


def accuracy(predicted: Array, y: Array, weight: Array | None = None) -> float:
    """Share of rows, or of their weight, whose most probable class is right."""
    return round(float(np.average(predicted.argmax(axis=1) == y, weights=weight)), 5)


def judge(participant: Participant, test: Rows) -> float:
    """Accuracy of what a participant has now: the distilled model, or its own before there is one."""
    model = participant.own if participant.distilled is None else participant.distilled
    return accuracy(model.predict(test.X), test.y)


def conclude(participant: Participant, test: Rows) -> dict[str, Any]:
    """At the end: accuracy of each candidate and of what is kept, on all classes alike and on the own mix of them."""
    said, kept = participant.predict(test.X), participant.choose()
    said["federated"] = kept.blend(said)
    mix = np.bincount(participant.site.rows.y, minlength=len(OUTPUTS))[test.y]
    return {
        "kept": kept.name,
        "notes": participant.notes,
        **{name: accuracy(values, test.y) for name, values in said.items()},
        **{f"{name} own mix": accuracy(values, test.y, mix) for name, values in said.items()},
    }


def learners(case: Case, seed: int, kind: str | None = None, *, companions: bool = False) -> dict[str, MakeModel]:
    """How each participant builds its model: of its own kind, or all of one; perhaps with companions."""
    own = {party: kind or drawn for party, drawn in case.kinds.items()}
    beside = Classification.companions if companions else ()
    return {
        party: MakeModel(chosen, LEARNERS[chosen], OUTPUTS, 1000 * seed + place, party, beside)
        for place, (party, chosen) in enumerate(own.items())
    }


def run(case: Case, row: Row, seed: int) -> list[dict[str, Any]]:
    """One run, and what it says of each participant."""
    makes = learners(case, seed, row.learner, companions=row.companions and row.learner is None)
    strategy = strategy_of(row, makes, case.transfer.X.shape[1])
    plan = Plan(tuple(makes), OUTPUTS, len(case.transfer.X), row.rounds, len(makes))
    builds = {p: BuildParticipant(case.sites[p], makes[p], case.transfer.X, Raw(), len(makes)) for p in makes}
    arguments = dict.fromkeys(makes, (case.test,))
    after: dict[int, dict[str, float]] = {}
    with InProcess(builds) as exchange:

        def watch(seen: Event | Effect) -> None:
            # When a round closes, participants still hold what the round before has taught.
            if isinstance(seen, Closed) and seen.round - 1 in MARKS:
                after[seen.round - 1] = exchange.call(judge, arguments)

        state, traffic = drive(Coordinator(plan, strategy, Raw()), exchange, observe=watch)
        if state.phase is Phase.FAILED:
            told = exchange.call(lambda one: one.notes, dict.fromkeys(makes, ()))
            sys.exit(f"a run could not be finished: {told}")
        after[row.rounds] = exchange.call(judge, arguments)
        ended = exchange.call(conclude, arguments)
    return [
        {
            "participant": party,
            "learner": makes[party].kind,
            "rows": len(case.sites[party].rows),
            "classes": int(np.unique(case.sites[party].rows.y).size),
            "bytes": sum(by[party] for way in (traffic.up, traffic.down) for by in way.values()),
            "after": {str(done): found[party] for done, found in after.items()},
            **ended[party],
        }
        for party in makes
    ]


def teach(case: Case, rows: Mapping[str, Row], seed: int) -> list[dict[str, Any]]:
    """Accuracy on the transfer set of the teacher that each row makes of the first round's soft labels."""
    makes, X = learners(case, seed), case.transfer.X
    votes = []
    for party, site in case.sites.items():
        said = makes[party]().fit(site.rows.X, site.rows.y).predict(X)
        votes.append(Vote(party, Release(SoftLabels.of(np.arange(len(X)), said, OUTPUTS.space))))
    found = []
    for (key, row), liars in itertools.product(rows.items(), (("flip", 0), *itertools.product(LIES, (1, 3)))):
        strategy = strategy_of(replace(row, liars=liars), makes, X.shape[1])
        taught = strategy.teach(Ballot(votes, tuple(makes), OUTPUTS, strategy.memory)).teachers[votes[0].party]
        assert taught.labels is not None
        right = accuracy(taught.labels.values, case.transfer.y)
        found.append({"row": key, "liars": f"{liars[1]} {liars[0]}" if liars[1] else "nobody", "teacher": right})
    return found


POOLED = {"pooled": (), "pooled, with companions": Classification.companions}


def pooled(case: Case, seed: int) -> list[dict[str, Any]]:
    """The references that break the rule: each kind of model trained once on all participants' rows."""
    rows = Rows.stack([site.rows for site in case.sites.values()])
    found = []
    for (key, beside), kind in itertools.product(POOLED.items(), dict.fromkeys(case.kinds.values())):
        model = MakeModel(kind, LEARNERS[kind], OUTPUTS, seed, companions=beside)().fit(rows.X, rows.y)
        right = accuracy(model.predict(case.test.X), case.test.y)
        having = [party for party, own in case.kinds.items() if own == kind]
        found += [{"row": key, "participant": party, "learner": kind, "federated": right} for party in having]
    return found


def measure(case: Case, rows: Mapping[str, Row], seed: int, *, teachers: bool) -> list[dict[str, Any]]:
    """What all rows, and the references, say of one draw."""
    if teachers:
        return teach(case, rows, seed)
    told = [{"row": key, **one} for key, row in rows.items() for one in run(case, row, seed)]
    return pooled(case, seed) + told


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line a row and setting: mean over participants and then seeds, with a t interval over seeds; worst member."""
    lines = []
    for (n, alpha, row), part in frame.groupby(["participants", "alpha", "row"], sort=False):
        by_seed = part.groupby("seed")
        mean, worst = by_seed["federated"].mean(), by_seed["federated"].min()
        line = {"n": n, "alpha": alpha, "row": row, "kept %": 100 * mean.mean()}
        line |= {"+-": 100 * common.half_width(mean.tolist()), "worst %": 100 * worst.mean()}
        line |= {f"{name} %": 100 * part[name].mean() for name in COLUMNS if name in part}
        if "after" in part:
            said = pd.DataFrame([one if isinstance(one, dict) else {} for one in part["after"]])
            line |= {f"round {done} %": 100 * said[str(done)].mean() for done in MARKS if str(done) in said}
        lines.append({**line, "kB each": part["bytes"].mean() / 1000 if "bytes" in part else float("nan")})
    return pd.DataFrame(lines).set_index(["n", "alpha", "row"])


def teachers_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line a row and setting, a column for who lies: the teacher's accuracy in per cent, mean over seeds."""
    index = ["participants", "alpha", "row"]
    return 100 * frame.pivot_table("teacher", index, "liars", sort=False)


@click.command()
@click.argument("name", type=click.Choice(list(SETTINGS)))
@common.data_option
@common.period_option(PERIODS)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@common.first_seed_option
@click.option("--participants", "sizes", multiple=True, type=click.IntRange(2), default=(10,), show_default=True)
@click.option("--alpha", "alphas", multiple=True, type=float, default=ALPHAS, show_default=True)
@click.option("--quick", is_flag=True, help="One seed, the strongest skew, and only FedMD, experts and pooled.")
@click.option("--teachers", is_flag=True, help="Only compare ways to make a teacher, without distilling.")
@common.row_option(ROWS)
@common.out_option
def main(
    name: str,
    data: Path,
    period: str,
    seeds: int,
    first_seed: int,
    sizes: Sequence[int],
    alphas: Sequence[float],
    quick: bool,
    teachers: bool,
    chosen: Sequence[str],
    out: Path,
) -> None:
    """Measure all ways on one data set and keep what was measured as JSON."""
    file, private = SETTINGS[name]
    common.need(data, file)
    every = TEACHERS if teachers else ROWS
    rows = {key: every[key] for key in every if teachers or key in (chosen or (QUICK if quick else ROWS))}
    alphas, counts = (alphas[:1], range(1)) if quick else (alphas, range(first_seed, seeds))
    written = out / f"classes-{name}-{period}{'-teachers' if teachers else ''}{'-quick' if quick else ''}.json"
    setting = {"data": name, "period": period, "private": private, "items": ITEMS}
    found = [] if quick else common.stored(written)["measured"]
    for n, alpha, count in tqdm(list(itertools.product(sizes, alphas, counts)), file=sys.stderr):
        seed = PERIODS[period] + count
        case = draw(images(data / file), private, period, n, alpha, seed)
        drawn = {"participants": n, "alpha": alpha, "seed": seed}
        new = measure(case, rows, seed, teachers=teachers)
        replaced = {one["row"] for one in new}
        found = [one for one in found if one["row"] not in replaced or any(one[key] != drawn[key] for key in drawn)]
        found += [{**drawn, **one} for one in new]
        # Each time, so that what was measured is there whatever comes.
        common.keep(written, setting, common.known(every, found), found)
    frame = pd.DataFrame(found).sort_values(["participants", "alpha"], kind="stable")
    with common.wide(1):
        print((teachers_table(frame) if teachers else table(frame)).to_string(), "\n")
    print(f"written: {written}")


if __name__ == "__main__":
    main()
