"""What a page shows of the test rows themselves: a few days of forecasts, or how sure a classifier was."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from fedstill.errors import DataError
from fedstill.evaluation.metrics import calibration, checked
from fedstill.evaluation.outcome import Outcome
from fedstill.evaluation.schema import ReliabilityBin, Sample, SampleDay
from fedstill.labels import Array, Outputs

DAYS = 8
DIGITS = 5
"""Significant digits of the numbers in a sample."""


def sample_days(outcome: Outcome, outputs: Outputs) -> Sample | None:
    """Up to 8 whole test days of a forecast; None where rows have no time.

    Raises DataError where the time zone is unknown; shapes were checked when the metrics were taken.
    """
    if outcome.time is None:
        return None
    zone = outcome.zone or "UTC"
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DataError(
            f"there is no time zone {zone!r}",
            where=f"participant {outcome.name}",
            remedy="Give an IANA name such as Europe/Berlin",
        ) from error
    days = []
    for day in choose_days(np.asarray(outcome.block)):
        rows = np.flatnonzero(np.asarray(outcome.block) == day)
        rows = rows[np.argsort(np.asarray(outcome.time)[rows], kind="stable")]
        days.append(_day(outcome, outputs, rows))
    return Sample(zone=zone, days=days)


def choose_days(block: Array, count: int = DAYS) -> Array:
    """One whole day from each of `count` equal parts of the test range, blind to errors.

    The place within a part moves on from part to part; fixed steps of 7 days would show Mondays only. A day
    is whole when it has at least as many rows as the median day.

    Parameters
    ----------
    block:
        The day of each row, int, shape (n,).

    Returns
    -------
    Rising day numbers, at most `count`.
    """
    found, rows = np.unique(block, return_counts=True)
    whole = found[rows >= np.median(rows)]
    if len(whole) <= count:
        return np.asarray(whole)
    part = np.arange(count)
    start, end = (-(-edge * len(whole) // count) for edge in (part, part + 1))
    within = (part * 3 % count + 0.5) / count
    return np.asarray(whole[start + (within * (end - start)).astype(np.int64)])


def reliability_bins(outcomes: Sequence[Outcome], outputs: Outputs, name: str) -> list[ReliabilityBin]:
    """The reliability diagram of one named prediction over all participants' rows, without empty bins."""
    parts = [calibration(*checked(o.actual, o.predictions[name], outputs, f"{o.name}, {name}")) for o in outcomes]
    count, total, hits = (np.sum([part[i] for part in parts], axis=0) for i in range(3))
    return [
        ReliabilityBin(count=int(count[b]), confidence=float(total[b] / count[b]), accuracy=float(hits[b] / count[b]))
        for b in np.flatnonzero(count)
    ]


def _day(outcome: Outcome, outputs: Outputs, rows: Array) -> SampleDay:
    time = np.datetime_as_string(np.asarray(outcome.time)[rows].astype("datetime64[s]"))
    median = {
        name: np.asarray(outcome.predictions[name])[rows, outputs.median] for name in ("floor", "local", "federated")
    }
    kept = np.asarray(outcome.predictions["federated"])[rows]
    return SampleDay(
        time=[f"{moment}Z" for moment in time],
        actual=_short(np.asarray(outcome.actual)[rows]),
        floor=_short(median["floor"]),
        local=_short(median["local"]),
        federated=_short(median["federated"]),
        low=_short(kept[:, 0]),
        high=_short(kept[:, -1]),
    )


def _short(values: Array) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
