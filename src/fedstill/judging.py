"""After the last round: what each participant keeps, how good it is on its test days, and what it cost."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedstill.errors import LearnerError
from fedstill.evaluation.outcome import Outcome, RoundRecord
from fedstill.evaluation.schema import PrivacyReport, ReleaseReport
from fedstill.keep import Kept, choose
from fedstill.labels import Array, Outputs, Party
from fedstill.models import Model, save
from fedstill.participant import Participant
from fedstill.privacy.guard import UNGUARDED, Protection
from fedstill.round import Closed, QuorumMissed
from fedstill.tasks.base import Prepared
from fedstill.transports.calls import Traffic


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What a participant's owner sees at the end; predictions are model outputs for the test rows, (n, k)."""

    kept: Kept
    predictions: Mapping[str, Array]
    losses: Mapping[int, float]
    notes: tuple[str, ...]
    protection: Protection


def conclude(participant: Participant, X: Array) -> Conclusion:
    """Choose what to keep, and predict the test rows with everything; runs where the participant lives."""
    held, unseen = participant.held_out()
    said = participant.predict(X)
    unseen = {name: unseen[name] for name in said if name in unseen}
    kept = choose(participant.outputs, held, unseen, participant.hearsay)
    alone = choose(participant.outputs, held, {name: unseen[name] for name in unseen if name != "distilled"})
    own = said.get("own", said["floor"])  # who has no model of its own has the floor
    predictions = {name: values for name, values in said.items() if name != "own"}
    predictions |= {"local": own, "local_safe": alone.blend(said), "federated": kept.blend(said)}
    return Conclusion(
        kept, predictions, dict(participant.losses), tuple(participant.notes), participant.guard.protection()
    )


def store(participant: Participant, model: Model, folder: Path) -> tuple[int, tuple[str, ...]]:
    """Write what it keeps, where the participant lives; returns its bytes, and a note if it cannot be stored."""
    try:
        return save(folder, replace(model, learners=participant.models(model.kept))), ()
    except LearnerError as error:
        shutil.rmtree(folder, ignore_errors=True)  # nobody may take an older run's model for this one's
        return 0, (f"its model could not be stored: {error}",)


def notes(participant: Participant) -> tuple[str, ...]:
    """What happened at the participant, in words for its owner."""
    return tuple(participant.notes)


def outcome(
    party: Party,
    learner: str,
    outputs: Outputs,
    ended: Conclusion,
    one: Prepared,
    traffic: Traffic,
    stored: tuple[int, tuple[str, ...]],
) -> Outcome:
    """A participant's result, with predictions in the truth's unit."""
    exam = one.examination
    named = {name: exam.restore(values) for name, values in ended.predictions.items()}
    for name, values in exam.rules.items():
        # Every rule gets the spread that the floor has around its own, to be comparable.
        named[name] = values[:, None] + named["floor"] - named["floor"][:, [outputs.median]]
    return Outcome(
        name=party,
        learner=learner,
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
        model_bytes=stored[0],
        train_rows=len(one.site.rows),
        left_out_rows=one.left_out_rows,
        notes=(*one.notes, *ended.notes, *stored[1]),
        profile=one.profile,
        privacy=private(ended.protection),
    )


def private(protection: Protection) -> PrivacyReport:
    """What a report says of privacy."""
    told = protection.statement
    return PrivacyReport(
        mechanism=protection.mechanism,
        noise="none" if protection.mechanism in (UNGUARDED, "silent") else protection.noise,
        unit=str(told.unit),
        epsilon=_finite(told.epsilon),
        delta=told.delta,
        budget_epsilon=_finite(told.budget_epsilon),
        protected=math.isfinite(told.epsilon),
        released=[
            ReleaseReport(
                what=line.what,
                count=line.count,
                epsilon=0.0 if line.epsilon is None else _finite(line.epsilon),
            )
            for line in told.what
        ],
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def record(closing: Closed | QuorumMissed, traffic: Traffic, ended: Mapping[Party, Conclusion]) -> RoundRecord:
    """A round for the report."""
    taught = isinstance(closing, Closed)
    return RoundRecord(
        round=closing.round,
        groups=closing.groups if isinstance(closing, Closed) else (),
        answered=closing.answered,
        refused=dict(closing.refused),
        bytes_up=sum(traffic.up[closing.round].values()),
        bytes_down=sum(traffic.down[closing.round].values()),
        closed="quorum missed" if not taught else "deadline" if closing.missing else "complete",
        validation_loss={
            party: one.losses[closing.round] for party, one in ended.items() if closing.round in one.losses
        },
    )


def failure(closings: Sequence[Closed | QuorumMissed], told: Mapping[Party, Sequence[str]]) -> str:
    """Why a run could not go on, with the latest of each participant's own notes."""
    last = closings[-1]
    said = "; ".join(f"{party}: {own[-1]}" for party, own in told.items() if own)
    return f"round {last.round} had {len(last.answered)} answers, too few to go on ({said or 'nobody said why'})"
