"""Measure what participants that lie do to the honest ones, for ways to lie and to make a teacher.

    python benchmarks/liars.py pjm --quick
    python benchmarks/liars.py pjm --period final --seeds 3 --row "grouped (default)" --row fedmd
    python benchmarks/liars.py pjm --row "fedmd, trimmed" --liars 2

The federations of `energy.py`; the seed also draws who lies: the first one, two or three of an order, of eight 12.5,
25 and 37.5 %. How they lie stands in `fedstill.testing.liars`. Judged are the honest alone, by what they keep and by
their distilled model, against the same participants in a federation in which the liars are silent, and in one in which
nobody lies.

Within a seed all rows that distil hear the same answers, so everybody trains its own model once, answers once, and is
taught again and again from there; this is `Participant` and `conclude` as in a run of one round. Rows that average
parameters are whole runs. What has been measured before, of other rows, seeds and numbers of liars, stays in the file.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import common
import numpy as np
import pandas as pd
from tqdm import tqdm

from energy import NETWORK, SETTINGS, Bench, Row, load
from fedstill import plugins
from fedstill.federation import Federation
from fedstill.judging import conclude
from fedstill.labels import Party
from fedstill.messages import Ask, Recipe, Teach
from fedstill.participant import Participant
from fedstill.strategy import Ballot, Strategy, Vote
from fedstill.tasks.base import Examination, Prepared
from fedstill.testing.liars import lying
from fedstill.transports.calls import Exchange, Pool

ROWS = {
    "fedmd": Row("fedmd"),
    "fedmd, median": Row("fedmd", {"aggregate": "median"}),
    "fedmd, trimmed": Row("fedmd", {"aggregate": "trimmed"}),
    "fedmd, geometric median": Row("fedmd", {"aggregate": "geometric-median"}),
    "grouped (default)": Row("grouped"),
    "fedavg": Row("fedavg", **NETWORK),
    "fedavg, median": Row("fedavg", {"aggregate": "median"}, **NETWORK),
}
OF_LABELS = ("flip", "constant", "scaled", "noise", "collusion", "nudge")
"""Ways to lie about forecasts; `sign` would be `flip`."""
OF_PARAMETERS = ("sign", "constant", "scaled", "noise", "collusion", "nudge")
HONEST, SILENT = "honest", "silent"
WAYS = ("federated", "distilled", "local")
QUICK = ("grouped (default)",)


@dataclass(frozen=True)
class Case:
    """How some participants behave: "honest", "silent", or a way to lie."""

    way: str
    liars: tuple[Party, ...] = ()

    def applied(self, strategy: Strategy) -> Strategy:
        """The algorithm as it comes out with such participants."""
        if self.way == SILENT:
            return replace(strategy, teach=lambda ballot: strategy.teach(self._without(ballot)))
        return lying(strategy, {} if self.way == HONEST else dict.fromkeys(self.liars, self.way))

    def _without(self, ballot: Ballot) -> Ballot:
        return replace(ballot, votes=[vote for vote in ballot.votes if vote.party not in self.liars])


def cases(parties: Sequence[Party], numbers: Sequence[int], ways: Sequence[str], seed: int) -> list[Case]:
    """What is compared in one draw: all honest, and so many silent or lying in each way."""
    order = [parties[i] for i in np.random.default_rng([seed, len(parties)]).permutation(len(parties))]
    drawn = itertools.product(numbers, (SILENT, *ways))
    return [Case(HONEST)] + [Case(way, tuple(sorted(order[:number]))) for number, way in drawn]


def errors(exam: Examination, median: int, predictions: Mapping[str, Any]) -> dict[str, float]:
    """The nMAE of each way on the test days."""
    size = np.abs(exam.actual).mean()
    said = {way: exam.restore(predictions[way])[:, median] for way in WAYS}
    return {way: round(float(np.abs(values - exam.actual).mean() / size), 6) for way, values in said.items()}


def speak(participant: Participant) -> bytes:
    """What it answers in the first round; runs where it lives."""
    return bytes(participant.handle(Ask(1, Recipe())).payload)


def taught(participant: Participant, teach: Teach, exam: Examination) -> dict[str, float]:
    """How good it is once it has learned from that teacher, as if from no other before; runs where it lives."""
    one = copy.copy(participant)
    one.notes, one.losses = [], {}
    one.handle(teach)
    return errors(exam, one.outputs.median, conclude(one, exam.X).predictions)


@dataclass(frozen=True)
class Drawn:
    """What a seed draws, with everybody trained and heard: what all rows that distil share."""

    federation: Federation
    prepared: Mapping[Party, Prepared]
    exchange: Exchange
    votes: Sequence[Vote]
    known: dict[tuple[Party, bytes], dict[str, float]] = field(default_factory=dict)
    """What came of each participant and teacher: many a lie changes nothing."""

    def measure(self, row: Row, case: Case) -> dict[Party, dict[str, float]]:
        """Errors of the honest once a round has taught them."""
        made: Strategy = plugins.build("algorithms", row.strategy, row.options, where=row.strategy)
        assert replace(made.recipe, share=0.5) == Recipe(), "another recipe has other answers"
        federation = self.federation
        ballot = Ballot(self.votes, tuple(self.prepared), federation.task.outputs)
        teachers = case.applied(made).teach(ballot).teachers
        frames = {id(one): federation.agreement.coder.encode(one) for one in teachers.values()}
        heard = {party: frames[id(teachers[party])] for party in self.prepared if party not in case.liars}
        work = {
            party: (Teach(1, made.recipe, frame), self.prepared[party].examination)
            for party, frame in heard.items()
            if (party, frame) not in self.known
        }
        self.known.update({(party, heard[party]): told for party, told in self.exchange.call(taught, work).items()})
        return {party: self.known[party, frame] for party, frame in heard.items()}


@contextmanager
def drawn(bench: Bench, seed: int, workers: int) -> Iterator[Drawn]:
    """Train everybody that a seed draws, and hear them."""
    federation = bench.federation(seed, Row("fedmd"))
    prepared, agreement = federation.prepare(), federation.agreement
    builds = {party: agreement.build(federation.makes[party], one) for party, one in prepared.items()}
    with Pool(builds, workers) as exchange:
        said = exchange.call(speak, dict.fromkeys(builds, ()))
        votes = [Vote(party, agreement.coder.decode(said[party])) for party in sorted(said)]
        yield Drawn(federation, prepared, exchange, votes)


def run(bench: Bench, seed: int, row: Row, case: Case) -> dict[Party, dict[str, float]]:
    """Errors of the honest after a whole run."""
    made: Strategy = plugins.build("algorithms", row.strategy, row.options, where=row.strategy)
    history = bench.federation(seed, replace(row, strategy=case.applied(made), options={})).run()
    told = {one.name: one.metrics for one in history.report.participants if one.name not in case.liars}
    return {party: {way: round(found[way]["nmae"] or 0.0, 6) for way in WAYS} for party, found in told.items()}


def ratios(frame: pd.DataFrame, way: str, rival: str) -> pd.DataFrame:
    """Mean error of the honest over that of the same participants where the liars are silent, or nobody lies.

    A line for each row, way to lie and number of liars: mean over seeds, half of its 95 % interval, the highest.
    """
    error = frame.groupby(["row", "seed", "lie", "liars", "participant"])[way].mean()
    lines = []
    for (row, lie, number), part in frame[~frame["lie"].isin([HONEST, SILENT])].groupby(
        ["row", "lie", "liars"], sort=False
    ):
        base = (SILENT, number) if rival == SILENT else (HONEST, 0)
        found = []
        for seed, honest in part.groupby("seed")["participant"]:
            ours, theirs = error[row, seed, lie, number], error[(row, seed, *base)]
            found.append(ours[list(honest)].mean() / theirs[list(honest)].mean())
        lines.append(
            {"row": row, "lie": lie, "liars": number, "ratio": np.mean(found), "+-": common.half_width(found)}
            | {"highest": max(found), "seeds": len(found)}
        )
    return pd.DataFrame(lines)


def show(frame: pd.DataFrame) -> None:
    """Print a table for each way and rival, lies down and rows across."""
    with common.wide(3):
        for way, rival in itertools.product(("federated", "distilled"), (SILENT, HONEST)):
            found = ratios(frame, way, rival).pivot_table("ratio", ["lie", "liars"], "row", sort=False)
            print(f"nMAE of the honest, {way}, over that with the same liars {rival}:\n{found}\n")


@click.command()
@click.argument("name", type=click.Choice(["pjm", "cambridge"]))
@common.data_option
@common.period_option()
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@common.first_seed_option
@click.option("--liars", "numbers", multiple=True, type=click.IntRange(1), default=(1, 2, 3), show_default=True)
@click.option("--lie", "lies", multiple=True, help="Only these ways to lie.")
@common.row_option(ROWS)
@click.option("--quick", is_flag=True, help="One seed, two liars, one lie, and only the default.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@common.out_option
def main(
    name: str,
    data: Path,
    period: str,
    seeds: int,
    first_seed: int,
    numbers: Sequence[int],
    lies: Sequence[str],
    chosen: Sequence[str],
    quick: bool,
    workers: int,
    out: Path,
) -> None:
    """Measure all lies on one data set and keep what was measured as JSON."""
    setting = SETTINGS[name]
    common.need(data, setting.source[0], setting.public_source[0])
    bench = Bench(setting, *load(setting, data, period), period, 6)
    rows = {key: ROWS[key] for key in chosen or (QUICK if quick else ROWS)}
    counts = range(1) if quick else range(first_seed, seeds)
    numbers, lies = ((2,), ("flip",)) if quick else (numbers, lies)
    written = out / f"liars-{name}-{period}{'-quick' if quick else ''}.json"
    found = [] if quick else common.stored(written)["measured"]
    for seed in counts:
        for key, case, measured in sweep(bench, seed, rows, numbers, lies, workers):
            place = {"row": key, "seed": seed, "lie": case.way, "liars": len(case.liars)}
            found = common.put(found, place, [{"participant": party, **told} for party, told in measured.items()])
            common.keep(written, {"data": name, "period": period, "weeks": 6}, common.known(ROWS, found), found)
    show(pd.DataFrame(found).sort_values(["liars"], kind="stable"))
    print(f"written: {written}")


def sweep(
    bench: Bench, seed: int, rows: Mapping[str, Row], numbers: Sequence[int], lies: Sequence[str], workers: int
) -> Iterator[tuple[str, Case, dict[Party, dict[str, float]]]]:
    """Measure all rows and cases of one seed, one after the other."""
    parties = sorted(bench.sites)

    def of(row: Row) -> list[Case]:
        ways = OF_PARAMETERS if row.learner else OF_LABELS
        return cases(parties, numbers, [way for way in ways if not lies or way in lies], seed)

    work = [(key, row, case) for key, row in rows.items() for case in of(row)]
    bar = tqdm(work, desc=f"seed {seed}", file=sys.stderr)
    if all(row.learner for row in rows.values()):
        yield from ((key, case, run(bench, seed, row, case)) for key, row, case in bar)
        return
    with drawn(bench, seed, workers) as here:
        for key, row, case in bar:
            yield key, case, run(bench, seed, row, case) if row.learner else here.measure(row, case)


if __name__ == "__main__":
    main()
