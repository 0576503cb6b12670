"""From the outcomes of a run to its report, a plain value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any

import msgspec
import numpy as np

from fedstill.errors import DataError
from fedstill.evaluation import bootstrap
from fedstill.evaluation.bootstrap import CONFIDENCE, RESAMPLES, BlockSums
from fedstill.evaluation.fairness import assess
from fedstill.evaluation.heterogeneity import measured
from fedstill.evaluation.metrics import Metrics, loss_metrics, main_metrics, measure, row_losses
from fedstill.evaluation.outcome import Outcome, RoundRecord
from fedstill.evaluation.samples import reliability_bins, sample_days
from fedstill.evaluation.schema import (
    Columns,
    Communication,
    Gain,
    Overall,
    ParticipantReport,
    Report,
    RoundReport,
)
from fedstill.labels import Outputs, Space

__all__ = ["Report", "build_report"]

REQUIRED = ("floor", "local", "federated")
RIVALS = ("local", "floor", "local_safe")
"""What federation is compared with, where every participant has it."""

Gains = dict[str, dict[str, Gain]]
"""Loss -> rival -> gain."""


def build_report(
    outcomes: Sequence[Outcome],
    rounds: Sequence[RoundRecord],
    outputs: Outputs,
    *,
    settings: Mapping[str, Any],
    environment: Mapping[str, Any],
    seed: int,
    transfer_set_bytes: int,
    started: str,
    seconds: float,
    task: str,
) -> Report:
    """Measure every prediction, compare them and put everything about a run together.

    Parameters
    ----------
    outcomes:
        One a participant, with names of their own.
    rounds:
        In their order.
    outputs:
        What the columns of every prediction are.
    settings, environment:
        What was asked for, and versions of what it ran on. Values that JSON does not know become text.
    seed:
        Of the run; the bootstrap is seeded by it too.
    transfer_set_bytes:
        Bytes it takes to bring the transfer set to all participants.
    started:
        When the run started, ISO 8601.
    seconds:
        How long it took.
    task:
        What was predicted, for example "forecast".

    Raises
    ------
    DataError
        Where there are no outcomes, a name stands twice, a prediction is missing, or `measure` refuses one.
    """
    _check(outcomes)
    metrics = {
        o.name: {
            name: measure(
                o.actual, prediction, outputs, block=o.block, where=f"participant {o.name}, prediction {name}"
            )
            for name, prediction in o.predictions.items()
        }
        for o in outcomes
    }
    common = [name for name in outcomes[0].predictions if all(name in o.predictions for o in outcomes)]
    rivals = [name for name in RIVALS if name in common]
    sums = {metric: _block_sums(outcomes, outputs, metric, rivals) for metric in loss_metrics(outputs)}
    leading = loss_metrics(outputs)[0]
    losses = {name: {key: found[leading] for key, found in of.items()} for name, of in metrics.items()}
    forecast = outputs.space is Space.QUANTILES
    days = {o.name: sample_days(o, outputs) for o in outcomes} if forecast else {}
    return Report(
        task=task,
        outputs=Columns(space=str(outputs.space), columns=list(outputs.columns)),
        started=started,
        seconds=_plain(float(seconds)),
        seed=int(seed),
        overall=Overall(
            main_metrics=list(main_metrics(outputs)),
            mean={name: _mean(metrics, name, main_metrics(outputs)) for name in common},
            gains={metric: _overall_gains(parts, rivals, seed) for metric, parts in sums.items()},
            resamples=RESAMPLES,
            confidence=CONFIDENCE,
            fairness=assess(losses, leading, rivals),
        ),
        participants=[
            _participant(
                o,
                metrics[o.name],
                {metric: _gains(parts[index], rivals, (seed, index)) for metric, parts in sums.items()},
            )
            for index, o in enumerate(outcomes)
        ],
        rounds=[_round(record) for record in rounds],
        communication=Communication(
            bytes_up=sum(record.bytes_up for record in rounds),
            bytes_down=sum(record.bytes_down for record in rounds),
            transfer_set_bytes=int(transfer_set_bytes),
        ),
        settings={str(key): _plain(value) for key, value in settings.items()},
        environment={str(key): _plain(value) for key, value in environment.items()},
        samples={name: sample for name, sample in days.items() if sample is not None},
        reliability={} if forecast else {name: reliability_bins(outcomes, outputs, name) for name in REQUIRED},
        heterogeneity=measured({o.name: o.profile for o in outcomes if o.profile is not None}),
    )


def _check(outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        raise DataError("there is no participant to report on", remedy="Run a federation first")
    names = [o.name for o in outcomes]
    for o in outcomes:
        where = f"participant {o.name}"
        if names.count(o.name) > 1:
            raise DataError("the name stands twice", where=where, remedy="Give every participant its own")
        missing = [name for name in REQUIRED if name not in o.predictions]
        if missing:
            raise DataError(f"no prediction called {missing[0]}", where=where, remedy=f"Give {', '.join(REQUIRED)}")
        n = np.shape(o.actual)[:1]
        if np.shape(o.block) != n or (o.time is not None and np.shape(o.time) != n):
            raise DataError(
                "block or time has another length than the truth", where=where, remedy="Give one a test row"
            )


def _block_sums(outcomes: Sequence[Outcome], outputs: Outputs, metric: str, rivals: Sequence[str]) -> list[BlockSums]:
    """Sums of each participant; the first column is what is kept, then the rivals in order."""
    found = []
    for o in outcomes:
        parts = [row_losses(o.actual, o.predictions[name], outputs, metric) for name in ("federated", *rivals)]
        found.append(BlockSums.of(o.block, np.stack([part[0] for part in parts], axis=1), parts[0][1]))
    return found


def _gains(part: BlockSums, rivals: Sequence[str], seed: tuple[int, int]) -> dict[str, Gain]:
    """One participant's gains; the interval resamples its days."""
    if not part.defined:
        return {rival: Gain(relative=None, low=None, high=None) for rival in rivals}
    draws = part.resampled(RESAMPLES, _generator(*seed, 1))
    return _against(part.losses(), draws, rivals)


def _overall_gains(parts: Sequence[BlockSums], rivals: Sequence[str], seed: int) -> dict[str, Gain]:
    """The gain of the mean loss; the interval resamples participants and days within them."""
    usable = [part for part in parts if part.defined]
    if not usable:
        return {rival: Gain(relative=None, low=None, high=None) for rival in rivals}
    draws = bootstrap.resampled_means(usable, RESAMPLES, _generator(seed, 0, 0))
    return _against(np.mean([part.losses() for part in usable], axis=0), draws, rivals)


def _against(losses: Any, draws: Any, rivals: Sequence[str]) -> dict[str, Gain]:
    gains = {}
    for column, rival in enumerate(rivals, start=1):
        relative = float(bootstrap.relative_gain(losses, 0, column))
        low, high = bootstrap.interval(bootstrap.relative_gain(draws, 0, column))
        defined = math.isfinite(relative)
        gains[rival] = Gain(
            relative=relative if defined else None,
            low=low if defined else None,
            high=high if defined else None,
        )
    return gains


def _generator(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed % 2**64, index, purpose])


def _mean(metrics: Mapping[str, Mapping[str, Metrics]], name: str, wanted: Sequence[str]) -> dict[str, float | None]:
    """Means over the participants for which the metric is defined."""
    means: dict[str, float | None] = {}
    for metric in wanted:
        values = [value for of in metrics.values() if (value := of[name][metric]) is not None]
        means[metric] = math.fsum(values) / len(values) if values else None
    return means


def _participant(o: Outcome, metrics: dict[str, Metrics], gains: Gains) -> ParticipantReport:
    return ParticipantReport(
        name=o.name,
        learner=o.learner,
        kept=o.kept,
        why=o.why,
        weights={name: _plain(float(weight)) for name, weight in o.weights.items()},
        metrics=metrics,
        gains=gains,
        test_rows=len(o.actual),
        train_rows=int(o.train_rows),
        left_out_rows=int(o.left_out_rows),
        bytes_up=int(o.bytes_up),
        bytes_down=int(o.bytes_down),
        cpu_s=_plain(float(o.cpu_s)),
        peak_memory_bytes=int(o.peak_memory_bytes),
        model_bytes=int(o.model_bytes),
        notes=list(o.notes),
        privacy=o.privacy,
    )


def _round(record: RoundRecord) -> RoundReport:
    return RoundReport(
        round=int(record.round),
        groups=[list(group) for group in record.groups],
        answered=list(record.answered),
        refused=dict(record.refused),
        bytes_up=int(record.bytes_up),
        bytes_down=int(record.bytes_down),
        closed=record.closed,
        validation_loss={name: _plain(float(loss)) for name, loss in record.validation_loss.items()},
    )


def _plain(value: Any) -> Any:
    """A value as JSON knows it, the same before writing as after reading back."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, PurePath):
        return value.as_posix()
    try:
        return _plain(msgspec.to_builtins(value, enc_hook=str))
    except (TypeError, ValueError):
        return str(value)
