"""A whole federation on one machine, in the habits of scikit-learn: describe it, `run()` it, look at the history.

For example::

    task = Forecast(test=("2017-01-01", "2018-01-01"))
    members = [Member("plant-a", load_a, "lightgbm"), Member("plant-b", load_b, "extra_trees")]
    history = Federation(task, members, public_load).run()
    print(history.table())
"""

from __future__ import annotations

import math
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from fedstill import plugins
from fedstill.agreement import Agreement
from fedstill.environment import describe
from fedstill.errors import ConfigError, RunError
from fedstill.evaluation.outcome import Outcome, RoundRecord
from fedstill.evaluation.report import terminal_table, write_report
from fedstill.evaluation.schema import Report
from fedstill.evaluation.summary import build_report
from fedstill.judging import Conclusion, conclude, failure, notes, outcome, record, store
from fedstill.members import Member, check_names, common_start
from fedstill.participant import Participant
from fedstill.privacy.guard import Guard, check_together, simulated_ledger
from fedstill.privacy.noise import SeededNoise
from fedstill.round import Closed, Coordinator, Effect, Event, Phase, Plan, QuorumMissed
from fedstill.sites import Rows
from fedstill.strategy import Strategy, rehearse
from fedstill.tasks.base import Prepared, Task, TransferSet, contributed
from fedstill.transports.calls import Exchange, InProcess, Pool, Unheard, run


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
        Public data of the task's kind, for the transfer set; None: it is what members contribute, and nothing else.
    strategy:
        An algorithm's name or a `Strategy`.
    options:
        Options of the algorithm.
    rounds:
        Rounds to run.
    stop_after:
        End before all rounds are run, once the mean held-back loss of the participants' models has not fallen by 0.1 %
        for so many rounds. They tell these losses with each answer. None: run all.
    quorum:
        Answers that a round needs to teach; None: more than half.
    deadline_s:
        Seconds after which a question closes with the answers it has; None: it waits for all. Between machines None is
        an hour, so that nobody who vanishes holds the others up.
    items:
        At most so many rows of the transfer set are used, drawn at random.
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
        stop_after: int | None = None,
        quorum: int | None = None,
        deadline_s: float | None = None,
        items: int = 1000,
        codec: str = "raw",
        workers: int = 1,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        check_names([member.name for member in members])
        if rounds < 1:
            raise ConfigError(f"{rounds} rounds cannot be run", where="rounds", remedy="Use 1 or more")
        if stop_after is not None and stop_after < 1:
            raise ConfigError(
                f"a run cannot stop after {stop_after} rounds",
                where="stop_after",
                remedy="Use 1 or more, or leave it out",
            )
        if items < 1:
            raise ConfigError(f"{items} items teach nothing", where="transfer.items", remedy="Use 1 or more")
        self.task = task
        self.members = tuple(sorted(members, key=lambda member: member.name))
        self.seed = seed
        self.workers = workers
        self.transfer = self._given(transfer).sample(items, seed)
        chosen = self._chosen(strategy, options or {})
        chosen = chosen if stop_after is None else chosen.scored()
        runs = rounds if chosen.rounds is None else chosen.rounds
        needed = _quorum(quorum, len(self.members))
        self.agreement = Agreement(task, self.transfer, codec, chosen.recipes, runs, seed, len(self.members), needed)
        for one in self.members:
            self.agreement.check_privacy(one)
        check_together([one.privacy for one in self.members], "privacy")
        coder = self.agreement.coder
        self.makes = {one.name: self.agreement.make(one) for one in self.members}
        self.strategy = self._ready(chosen)
        self.plan = self._plan(rounds, needed, stop_after, math.inf if deadline_s is None else deadline_s)
        self.coordinator = Coordinator(self.plan, self.strategy, coder, self.agreement.inputs)
        self.settings = dict(settings) if settings else self._described()

    def prepare(self) -> dict[str, Prepared]:
        """Every member's data made ready, by name. Raises DataError where a member's data cannot be used."""
        return {one.name: self.agreement.prepare(one) for one in self.members}

    def run(self, out: Path | str | None = None, observe: Callable[[Event | Effect], None] = lambda _: None) -> History:
        """Run all rounds, judge every participant on its test days, and write everything to `out` if given.

        Parameters
        ----------
        out:
            Folder for `report.html`, `report.json` and `models/`.
        observe:
            Sees every event and effect as it happens.

        Raises
        ------
        DataError
            Where a member's data cannot be used.
        RunError
            Where the rounds could not be finished, with what each participant said.
        """
        started, began = datetime.now(UTC), perf_counter()
        prepared = self.prepare()
        closings: list[Closed | QuorumMissed] = []

        def watch(seen: Event | Effect) -> None:
            if isinstance(seen, Closed | QuorumMissed):
                closings.append(seen)
            observe(seen)

        with self._exchange(prepared) as exchange:
            state, traffic = run(self.coordinator, exchange, observe=watch)
            if state.phase is Phase.FAILED:
                told = exchange.call(notes, dict.fromkeys(prepared, ()))
                raise RunError(failure(closings, told), remedy="Mend what the participants say, or lower the quorum")
            if self.strategy.pooled:
                exchange.call(Participant.learn_from, {party: (_others(prepared, party),) for party in prepared})
            ended = exchange.call(conclude, {party: (one.examination.X,) for party, one in prepared.items()})
            stored = self._store(exchange, prepared, ended, out)
        outcomes = tuple(
            outcome(party, self.makes[party].kind, self.task.outputs, ended[party], one, traffic, stored[party])
            for party, one in prepared.items()
        )
        rounds = tuple(record(closing, traffic, ended) for closing in closings)
        report = build_report(
            outcomes,
            rounds,
            self.task.outputs,
            settings=self.settings,
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

    def answers(
        self,
        prepared: Mapping[str, Prepared],
        observe: Callable[[Event | Effect], None],
        chance: str = "",
    ) -> None:
        """Run all rounds with other data, up to the last answer, and judge nobody.

        Parameters
        ----------
        prepared:
            What each participant has.
        observe:
            Sees every event and effect as it happens.
        chance:
            Names the noise of private releases: another name, other noise. All else follows from the seed as in `run`.
        """
        with self._exchange(prepared, chance) as exchange:
            run(self.coordinator, Unheard(exchange, self.coordinator.rounds), observe=observe)

    def _given(self, public: Any) -> TransferSet:
        """All public items, and those that members contribute."""
        parts = [] if public is None else [self.task.transfer(public)]
        for one in self.members:
            if one.contributes < 0:
                raise ConfigError(
                    f"{one.contributes} rows cannot be given",
                    where=f"participant {one.name}, contributes",
                    remedy="Use 0 or more",
                )
            if one.contributes:
                prepared = self.task.prepare(one.name, one.data, one.history)
                parts.append(contributed(prepared, one.contributes, self.seed))
        if not parts:
            raise ConfigError(
                "there is no transfer set",
                where="transfer",
                remedy="Give public or generated data, or let a participant contribute rows",
            )
        return TransferSet.join(parts)

    def _chosen(self, strategy: str | Strategy, options: Mapping[str, Any]) -> Strategy:
        chosen: Strategy = (
            plugins.build("algorithms", strategy, options, where="strategy") if isinstance(strategy, str) else strategy
        )
        rehearse(chosen, self.task.outputs)
        return chosen

    def _ready(self, chosen: Strategy) -> Strategy:
        if not chosen.parametric or chosen.memory is not None:
            return chosen
        return replace(chosen, memory=common_start(self.makes, chosen, self.transfer.X.shape[1]))

    def _plan(self, rounds: int, quorum: int, stop_after: int | None, deadline_s: float) -> Plan:
        parties = tuple(self.makes)
        n_items = len(self.transfer.X)
        return Plan(parties, self.task.outputs, n_items, rounds, quorum, deadline_s, stop_after=stop_after)

    def _exchange(self, prepared: Mapping[str, Prepared], chance: str = "") -> Exchange:
        builds = {
            one.name: self.agreement.build(self.makes[one.name], prepared[one.name], self._guard(one, chance))
            for one in self.members
        }
        return InProcess(builds) if self.workers <= 1 else Pool(builds, self.workers)

    def _guard(self, member: Member, chance: str = "") -> Guard:
        """Ledgers that end with the run, and noise that can be had again: a simulation protects nobody."""
        seed = zlib.crc32(f"{self.seed}/{member.name}/noise{chance}".encode())
        return self.agreement.guard(member, simulated_ledger(member.privacy.budget, member.name), SeededNoise(seed))

    def _store(
        self,
        exchange: Exchange,
        prepared: Mapping[str, Prepared],
        ended: Mapping[str, Conclusion],
        out: Path | str | None,
    ) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Write every participant's kept models, to a folder that goes away again if none is given."""
        models = {
            party: self.agreement.model(self.makes[party], one, ended[party].kept) for party, one in prepared.items()
        }
        with TemporaryDirectory() as nowhere:
            home = Path(nowhere) if out is None else Path(out) / "models"
            for left in home.glob("*/model.json"):  # of an older run, whose participant is not in this one
                if left.parent.name not in models:
                    shutil.rmtree(left.parent)
            return exchange.call(store, {party: (model, home / party) for party, model in models.items()})

    def _described(self) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "strategy": self.strategy.name,
            "rounds": self.plan.rounds,
            "items": self.plan.n_items,
            "learners": {party: make.kind for party, make in self.makes.items()},
        }


def _quorum(asked: int | None, participants: int) -> int:
    needed = participants // 2 + 1 if asked is None else asked
    if not 1 <= needed <= participants:
        raise ConfigError(
            f"a quorum of {needed} cannot be met by {participants} participants",
            where="quorum",
            remedy=f"Use 1 to {participants}",
        )
    return needed


def _others(prepared: Mapping[str, Prepared], party: str) -> Rows:
    return Rows.stack([one.site.rows for name, one in prepared.items() if name != party])
