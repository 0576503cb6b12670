"""A whole federation on one machine, in the habits of scikit-learn: describe it, `run()` it, look at the history.

    task = Forecast(test=("2017-01-01", "2018-01-01"))
    members = [Member("plant-a", load_a, "lightgbm"), Member("plant-b", load_b, "extra_trees")]
    history = Federation(task, members, public_load).run()
    print(history.table())
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from fedstill import plugins
from fedstill.codecs.base import Codec
from fedstill.environment import describe
from fedstill.errors import ConfigError, RunError
from fedstill.evaluation.outcome import Outcome, RoundRecord
from fedstill.evaluation.report import terminal_table, write_report
from fedstill.evaluation.schema import Report
from fedstill.evaluation.summary import build_report
from fedstill.keep import Kept
from fedstill.labels import Array, Outputs
from fedstill.learners.base import Learner, Parametric
from fedstill.messages import Kind
from fedstill.models import Model, save
from fedstill.participant import Participant
from fedstill.round import Closed, Coordinator, Effect, Event, Phase, Plan, QuorumMissed
from fedstill.sites import Rows, Site
from fedstill.strategy import Strategy
from fedstill.tasks.base import Prepared, Task, TransferSet
from fedstill.transports.calls import Exchange, InProcess, Pool, Traffic, run


@dataclass(frozen=True)
class Member:
    """An enterprise as its owner describes it.

    Attributes
    ----------
    name:
        Its id.
    data:
        What the task takes: a `SiteLoad` for forecasts, a data frame for classes.
    learner:
        The name of a learner, or any estimator with scikit-learn's `fit` and `predict`.
    options:
        Options of the learner.
    history:
        First and last local day (exclusive) that it learns from; None leaves an end open.
    """

    name: str
    data: Any
    learner: Any = "hist_gradient_boosting"
    options: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str | None, str | None] = (None, None)


@dataclass(frozen=True)
class MakeModel:
    """Builds a member's kind of model (see `participant.MakeLearner`); survives a trip to another process."""

    learner: Any
    options: Mapping[str, Any]
    outputs: Outputs
    own_seed: int
    where: str = ""

    def __call__(self, seed: int | None = None) -> Learner:
        """Build it, untrained, with the given seed or the member's own."""
        seed = self.own_seed if seed is None else seed
        if isinstance(self.learner, str):
            built: Learner = plugins.build(
                "learners", self.learner, {**self.options, "seed": seed}, self.outputs, where=self.where
            )
            return built
        if not (hasattr(self.learner, "fit") and hasattr(self.learner, "predict")):
            raise ConfigError(
                f"a {type(self.learner).__name__} is no learner",
                where=self.where,
                remedy="Give the name of a learner or an estimator with fit and predict",
            )
        estimator = {"estimator": self.learner, **self.options, "seed": seed}
        wrapped: Learner = plugins.build("learners", "sklearn", estimator, self.outputs, where=self.where)
        return wrapped

    @property
    def family(self) -> str:
        """The name of the learner that it is an instance of."""
        return self.learner if isinstance(self.learner, str) else "sklearn"

    @property
    def kind(self) -> str:
        """What to call it in a table."""
        return self.learner if isinstance(self.learner, str) else type(self.learner).__name__


@dataclass(frozen=True)
class _Build:
    """Makes a participant where it will live (see `transports.calls.Build`)."""

    site: Site
    make: MakeModel
    X_transfer: Array
    codec: Codec

    def __call__(self) -> Participant:
        return Participant(self.site, self.make, self.make.outputs, self.X_transfer, self.codec)


@dataclass(frozen=True, eq=False)
class _Conclusion:
    """What a participant's owner sees at the end."""

    kept: Kept
    predictions: Mapping[str, Array]
    losses: Mapping[int, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class History:
    """A finished run: the report, what it was made of, and where the models are."""

    report: Report
    outcomes: tuple[Outcome, ...]
    rounds: tuple[RoundRecord, ...]

    def table(self) -> str:
        """The table of participants as text."""
        return terminal_table(self.report)

    def save(self, folder: Path | str) -> None:
        """Write `report.json` and `report.html`."""
        write_report(self.report, Path(folder))


class Federation:
    """A federation of members on this machine.

    Parameters
    ----------
    task:
        What is predicted.
    members:
        Who takes part, with their data and kinds of model.
    transfer:
        Public data of the task's kind, for the transfer set.
    strategy:
        An algorithm's name or a `Strategy`.
    options:
        Options of the algorithm.
    rounds:
        Rounds to run.
    quorum:
        Answers that a round needs to teach; None: more than half.
    items:
        At most so many rows of the transfer data are used.
    codec:
        A codec's name.
    workers:
        Processes to spread the participants over; 1 computes here.
    seed:
        Everything random follows from it.

    Raises
    ------
    ConfigError, DataError
        Where the description cannot be run, with what to change.
    """

    def __init__(
        self,
        task: Task,
        members: Sequence[Member],
        transfer: Any,
        *,
        strategy: str | Strategy = "grouped",
        options: Mapping[str, Any] | None = None,
        rounds: int = 1,
        quorum: int | None = None,
        items: int = 2000,
        codec: str = "raw",
        workers: int = 1,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.task = task
        self.members = tuple(sorted(members, key=lambda member: member.name))
        self.seed = seed
        self.workers = workers
        self.settings = dict(settings or {})
        _check_names([member.name for member in self.members])
        if rounds < 1:
            raise ConfigError(f"{rounds} rounds cannot be run", where="rounds", remedy="Use 1 or more")
        self.transfer: TransferSet = task.transfer(transfer).sample(items, seed)
        self._centre, self._spread = self.transfer.scaling()
        self._X_transfer = self._scaled(self.transfer.X)
        self.codec: Codec = plugins.build("codecs", codec, {}, where="strategy.codec")
        self.makes = {member.name: self._make(member) for member in self.members}
        self.strategy = self._strategy(strategy, options or {})
        parties = tuple(self.makes)
        needed = len(parties) // 2 + 1 if quorum is None else quorum
        if not 1 <= needed <= len(parties):
            raise ConfigError(
                f"a quorum of {needed} cannot be met by {len(parties)} participants",
                where="quorum",
                remedy=f"Use 1 to {len(parties)}",
            )
        self.plan = Plan(parties, task.outputs, len(self._X_transfer), rounds, needed)

    def prepare(self) -> dict[str, Prepared]:
        """Every member's data made ready, by name. Raises DataError where a member's data cannot be used."""
        return {one.name: self.task.prepare(one.name, one.data, one.history) for one in self.members}

    def run(
        self, out: Path | str | None = None, observe: Callable[[Event | Effect], None] = lambda _: None
    ) -> History:
        """Run all rounds, judge every participant on its test days, and write everything to `out` if given.

        Raises
        ------
        DataError
            Where a member's data cannot be used.
        RunError
            Where the rounds could not be finished, with what each participant said.
        """
        started, began = datetime.now(UTC), perf_counter()
        prepared = self.prepare()
        coordinator = Coordinator(self.plan, self.strategy, self.codec)
        closings: list[Closed | QuorumMissed] = []

        def watch(seen: Event | Effect) -> None:
            if isinstance(seen, Closed | QuorumMissed):
                closings.append(seen)
            observe(seen)

        with self._exchange(prepared) as exchange:
            state, traffic = run(coordinator, exchange, observe=watch)
            if state.phase is Phase.FAILED:
                raise RunError(_failure(closings), remedy="Mend what the participants say, or lower the quorum")
            self._pool(exchange, prepared)
            conclusions = self._conclude(exchange, prepared)
            sizes = self._store(exchange, prepared, conclusions, out)
        outcomes = tuple(
            self._outcome(party, conclusions[party], one, traffic, sizes[party])
            for party, one in prepared.items()
        )
        rounds = tuple(_record(closing, traffic, conclusions) for closing in closings)
        report = build_report(
            outcomes,
            rounds,
            self.task.outputs,
            settings=self.settings or self._described(),
            environment=describe(),
            seed=self.seed,
            transfer_set_bytes=self.transfer.n_bytes * len(self.members),
            started=started.isoformat(timespec="seconds"),
            seconds=perf_counter() - began,
            task=self.task.name,
        )
        history = History(report, outcomes, rounds)
        if out is not None:
            history.save(out)
        return history

    def _scaled(self, X: Array) -> Array:
        scaled: Array = ((X - self._centre) / self._spread).astype("float32")
        return scaled

    def _make(self, member: Member) -> MakeModel:
        # A member's seed follows from its name, so that adding another member changes nothing for it.
        own = zlib.crc32(f"{self.seed}/{member.name}".encode()) % 2**31
        make = MakeModel(
            member.learner, member.options, self.task.outputs, own, f"participant {member.name}"
        )
        make()
        return make

    def _strategy(self, strategy: str | Strategy, options: Mapping[str, Any]) -> Strategy:
        if isinstance(strategy, str):
            strategy = plugins.build("algorithms", strategy, options, where="strategy")
        if strategy.recipe.release is Kind.LABELS or strategy.memory is not None:
            return strategy
        starts = {}
        for name, make in self.makes.items():
            model = make(seed=strategy.recipe.seed)
            if not isinstance(model, Parametric):
                raise ConfigError(
                    f"algorithm '{strategy.name}' exchanges parameters, a {make.kind} has none",
                    where=f"participant {name}",
                    remedy="Choose mlp, torch_mlp or torch_sequence for all, or an algorithm that distils (fedmd, grouped)",
                )
            starts[name] = model.initialise(self._X_transfer.shape[1]).parameters()
        first, *others = starts.values()
        shapes = [{key: array.shape for key, array in start.items()} for start in (first, *others)]
        if any(shape != shapes[0] for shape in shapes):
            raise ConfigError(
                f"algorithm '{strategy.name}' averages parameters, the participants' models have different ones",
                where="participants",
                remedy="Give all participants the same learner and options, or choose an algorithm that distils",
            )
        return replace(strategy, memory=first)

    def _exchange(self, prepared: Mapping[str, Prepared]) -> Exchange:
        builds = {
            party: _Build(self._scaled_site(one.site), self.makes[party], self._X_transfer, self.codec)
            for party, one in prepared.items()
        }
        return InProcess(builds) if self.workers <= 1 else Pool(builds, self.workers)

    def _scaled_site(self, site: Site) -> Site:
        return replace(
            site,
            train=replace(site.train, X=self._scaled(site.train.X)),
            valid=replace(site.valid, X=self._scaled(site.valid.X)),
        )

    def _pool(self, exchange: Exchange, prepared: Mapping[str, Prepared]) -> None:
        if self.strategy.pooled:
            rows = Rows.stack([self._scaled_site(one.site).train for one in prepared.values()])
            exchange.call(Participant.learn_from, dict.fromkeys(prepared, (rows,)))

    def _conclude(self, exchange: Exchange, prepared: Mapping[str, Prepared]) -> dict[str, _Conclusion]:
        inputs = {party: (self._scaled(one.examination.X),) for party, one in prepared.items()}
        return exchange.call(_conclude, inputs)

    def _store(
        self,
        exchange: Exchange,
        prepared: Mapping[str, Prepared],
        ended: Mapping[str, _Conclusion],
        out: Path | str | None,
    ) -> dict[str, int]:
        """Write every participant's kept models, to a folder that goes away again if none is given; their bytes."""
        models = {
            party: Model(
                party=party,
                learner=self.makes[party].family,
                task=self.task,
                kept=ended[party].kept,
                floor=one.site.floor,
                centre=self._centre,
                spread=self._spread,
                scale=one.scale,
            )
            for party, one in prepared.items()
        }
        with TemporaryDirectory() as nowhere:
            home = Path(nowhere) if out is None else Path(out) / "models"
            return exchange.call(_save, {party: (model, home / party) for party, model in models.items()})

    def _outcome(
        self, party: str, ended: _Conclusion, one: Prepared, traffic: Traffic, model_bytes: int
    ) -> Outcome:
        exam = one.examination
        named = {name: exam.restore(values) for name, values in ended.predictions.items()}
        for name, values in exam.rules.items():
            # Another rule is given the same spread around it as the floor has around its own.
            named[name] = values[:, None] + exam.scale[:, None] * one.site.floor.predict(exam.X)
        return Outcome(
            name=party,
            learner=self.makes[party].kind,
            kept=ended.kept.name,
            weights=dict(ended.kept.weights),
            why=ended.kept.why,
            actual=exam.actual,
            predictions=named,
            time=exam.time,
            block=exam.block,
            zone=one.zone,
            bytes_up=sum(by.get(party, 0) for by in traffic.up.values()),
            bytes_down=sum(by.get(party, 0) for by in traffic.down.values()),
            cpu_s=traffic.cost[party].cpu_s,
            peak_memory_bytes=traffic.cost[party].peak_memory_bytes,
            model_bytes=model_bytes,
            train_rows=len(one.site.train),
            left_out_rows=one.left_out_rows,
            notes=(*one.notes, *ended.notes),
        )

    def _described(self) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "strategy": self.strategy.name,
            "rounds": self.plan.rounds,
            "items": self.plan.n_items,
            "learners": {party: make.kind for party, make in self.makes.items()},
        }


def _conclude(participant: Participant, X: Array) -> _Conclusion:
    """Runs where the participant lives: choose what to keep, then predict the test rows with everything."""
    held = participant.predict(participant.site.valid.X)
    kept, alone = participant.choose(held), participant.choose({n: held[n] for n in ("own", "floor")})
    said = participant.predict(X)
    predictions = {**said, "local": said["own"], "local_safe": alone.blend(said), "federated": kept.blend(said)}
    del predictions["own"]
    return _Conclusion(kept, predictions, dict(participant.losses), tuple(participant.notes))


def _save(participant: Participant, model: Model, folder: Path) -> int:
    return save(folder, replace(model, learners=participant.models(model.kept)))


def _record(
    closing: Closed | QuorumMissed, traffic: Traffic, ended: Mapping[str, _Conclusion]
) -> RoundRecord:
    whole = isinstance(closing, Closed)
    return RoundRecord(
        round=closing.round,
        groups=closing.groups if isinstance(closing, Closed) else (),
        answered=closing.answered,
        refused=dict(closing.refused),
        bytes_up=sum(traffic.up[closing.round].values()),
        bytes_down=sum(traffic.down[closing.round].values()),
        closed="quorum missed" if not whole else "deadline" if closing.missing else "complete",
        validation_loss={p: one.losses[closing.round] for p, one in ended.items() if closing.round in one.losses},
    )


def _failure(closings: Sequence[Closed | QuorumMissed]) -> str:
    last = closings[-1]
    said = "; ".join(f"{party}: {reason}" for party, reason in last.refused.items())
    return f"round {last.round} had {len(last.answered)} answers, too few to go on ({said or 'nobody said why'})"


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise ConfigError(
            "nobody takes part", where="participants", remedy="Name at least two participants with their data"
        )
    if len(names) == 1:
        raise ConfigError(
            f"'{names[0]}' is alone, a federation has two participants or more",
            where="participants",
            remedy="Add participants; to train one model alone, use algorithm 'local' with two or a library for that",
        )
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two participants are called '{name}'", where="participants", remedy="Rename one")
        if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
            raise ConfigError(
                f"'{name}' cannot be a participant's name", where="participants", remedy="Use letters and digits"
            )

