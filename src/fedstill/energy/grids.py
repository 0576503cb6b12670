"""From the rows of a site to its complete, regular grid: wall clocks, repeats, order, step and gaps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fedstill.energy.calendar import MINUTE, clock_of, utc_index
from fedstill.energy.tables import Columns, Layout, Source
from fedstill.errors import DataError
from fedstill.labels import Array

STEPS = tuple(pd.Timedelta(minutes=minutes) for minutes in (5, 10, 15, 30, 60))
"""The steps a grid can have."""

MAX_INTERVALS = 10_000_000
"""Longer grids (95 years of 5 minutes) come from a mistyped year and would only fill the memory."""

_MERGED = {"first": "the first one in the file was kept", "mean": "their mean was taken"}


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one site: their places in the file, stamps in ns and values, (n,), (n,) and (n, columns)."""

    site: str
    places: Array
    stamps: Array
    values: Array

    def take(self, which: Array) -> Rows:
        """Some of the rows, by number or by truth."""
        return Rows(self.site, self.places[which], self.stamps[which], self.values[which])


@dataclass(frozen=True)
class Reading:
    """What holds for all sites of a file.

    `zone` is that of the calendar; `wall` that of the wall clock the stamps show, None where they are UTC.
    """

    columns: Columns
    layout: Layout
    source: Source
    zone: str
    wall: str | None

    def error(self, rows: Rows, place: int, what: str, remedy: str) -> DataError:
        """The error about the stamp of one row."""
        what = f'site "{rows.site}": {what}'
        return self.source.error(what, remedy, row=place, column=self.columns.timestamp)

    def show(self, utc: int) -> str:
        """A stamp as the calendar shows it."""
        return show_stamp(utc, self.zone)


def grid(rows: Rows, reading: Reading) -> tuple[pd.DataFrame, list[str]]:
    """Put rows, in the order of the file, on the grid of `SiteLoad.data`; and what was changed or is missing.

    Raises DataError.
    """
    notes = []
    if reading.wall is not None:
        rows = replace(rows, stamps=_from_wall(rows, reading.wall, reading))
    if (np.diff(rows.stamps) < 0).any():
        notes.append("the rows were not in order of time and were sorted")
        rows = rows.take(np.argsort(rows.stamps, kind="stable"))
    repeats = np.append(False, np.diff(rows.stamps) == 0)
    if repeats.any():
        rows = _merge(rows, repeats, reading)
        notes.append(f"{repeats.sum()} rows repeated a stamp: {_MERGED[reading.layout.duplicates]}")
    step = _step(rows, reading)
    position = (rows.stamps - rows.stamps[0]) // step
    values = np.full((int(position[-1]) + 1, rows.values.shape[1]), np.nan)
    values[position] = rows.values
    kilo, energy = reading.columns.unit
    values[:, 0] *= kilo * (60 * MINUTE // step if energy else 1)
    names = ["load_kw", *reading.columns.covariates]
    for name, column in zip(names, values.T, strict=True):
        missing = np.flatnonzero(np.isnan(column))
        if len(missing):
            kind = "readings" if name == "load_kw" else f"values of {name}"
            first = reading.show(int(rows.stamps[0] + missing[0] * step))
            notes.append(f"{len(missing)} of {len(column)} {kind} are missing (first: {first})")
    _check_varies(values[:, 0], rows, reading)
    return pd.DataFrame(values, index=regular_index(int(rows.stamps[0]), len(values), step), columns=names), notes


def _from_wall(rows: Rows, zone: str, reading: Reading) -> Array:
    """UTC of wall-clock stamps; rows in the order of the file, which tells the repeated hours apart."""
    gaps = np.diff(rows.stamps)
    if (gaps < 0).sum() > (gaps > 0).sum():  # the latest row comes first
        return _from_wall(rows.take(np.arange(len(rows.stamps))[::-1]), zone, reading)[::-1]
    clock = clock_of(zone, rows.stamps)
    first, second, missing = clock.utc(rows.stamps)
    if missing.any():
        place = int(rows.places[missing].min())
        wall = pd.Timestamp(int(rows.stamps[rows.places == place][0]))
        what = f"{wall} does not exist in {zone}: the clock leaps over it"
        remedy = 'Perhaps the column is UTC or standard time: try timezone = "UTC" or "Etc/GMT-1" (UTC+1), '
        remedy += f'with calendar = "{reading.zone}"'
        raise reading.error(rows, place, what, remedy)
    utc = first.copy()
    repeated = np.flatnonzero(second > first)
    pieces = clock.piece(first[repeated])
    for piece in np.unique(pieces):
        hour = repeated[pieces == piece]
        late = hour[_second_pass(hour, first, second, rows, zone, reading)]
        utc[late] = second[late]
    return utc


def _second_pass(hour: Array, first: Array, second: Array, rows: Rows, zone: str, reading: Reading) -> Array:
    """Which rows of a repeated hour (places in `rows`) are of its second pass, bool."""
    back = np.flatnonzero(np.diff(rows.stamps[hour]) <= 0)
    what = f"the hour of {pd.Timestamp(int(rows.stamps[hour[0]]))} comes twice on the clock of {zone}"
    if not len(back):
        if reading.layout.ambiguous == "infer":
            remedy = 'Set ambiguous = "first" (summer time) or "second"'
            what += ", and the column shows it once"
            raise reading.error(rows, int(rows.places[hour].min()), what, remedy)
        return np.full(len(hour), reading.layout.ambiguous == "second", bool)
    late: Array = np.arange(len(hour)) > back[0]
    # The order tells the passes apart only where these rows and their neighbours run on in time.
    around = slice(max(int(hour[0]) - 1, 0), int(hour[-1]) + 2)
    utc = first.copy()
    utc[hour[late]] = second[hour[late]]
    if len(back) > 1 or (np.diff(utc[around]) < 0).any():
        what += ", and its rows are not in order of time"
        remedy = "Put the rows in order of time, or write the stamps with their offset"
        raise reading.error(rows, int(rows.places[hour].min()), what, remedy)
    return late


def _merge(rows: Rows, repeats: Array, reading: Reading) -> Rows:
    """One row a stamp, of rows in order of time; `repeats` tells which repeat the one before, bool."""
    if reading.layout.duplicates == "refuse":
        second = int(np.argmax(repeats))
        stamp, before = reading.show(int(rows.stamps[second])), reading.source.label(rows.places[second - 1])
        what = f"{stamp} is there already, in {before} ({repeats.sum()} such rows)"
        remedy = 'Remove one, or set duplicates = "first" or "mean"'
        raise reading.error(rows, int(rows.places[second]), what, remedy)
    kept = rows.take(~repeats)
    if reading.layout.duplicates == "mean":
        return replace(kept, values=pd.DataFrame(rows.values).groupby(rows.stamps).mean().to_numpy())
    return kept


def _step(rows: Rows, reading: Reading) -> int:
    """The step of rows in order of time, in ns; every row is on its grid."""
    if len(rows.stamps) < 2:
        remedy = "Write at least two rows"
        raise reading.error(rows, int(rows.places[0]), "there are fewer than 2 rows", remedy)
    gaps, counts = np.unique(np.diff(rows.stamps), return_counts=True)
    step = int(gaps[np.argmax(counts)])
    if pd.Timedelta(step) not in STEPS:
        what = f"the step of {show_span(step)} is not supported"
        remedy = f"Write readings of one of the steps {', '.join(map(show_span, STEPS))}"
        raise reading.error(rows, int(rows.places[0]), what, remedy)
    phases, counts = np.unique(rows.stamps % step, return_counts=True)
    off = rows.stamps % step != phases[np.argmax(counts)]
    if off.any():
        worst = int(np.flatnonzero(off)[np.argmin(rows.places[off])])
        stamp = reading.show(int(rows.stamps[worst]))
        what = f"{stamp} is off the grid of {show_span(step)} ({off.sum()} such rows)"
        raise reading.error(rows, int(rows.places[worst]), what, "Correct the stamp or remove the row")
    if (rows.stamps[-1] - rows.stamps[0]) // step >= MAX_INTERVALS:
        widest = int(np.argmax(np.diff(rows.stamps))) + 1
        what = f"the readings span more than {MAX_INTERVALS:,} intervals, with a gap before this row"
        raise reading.error(rows, int(rows.places[widest]), what, "Correct the year")
    return step


def _check_varies(load: Array, rows: Rows, reading: Reading) -> None:
    present = load[~np.isnan(load)]
    if len(present) and present.min() != present.max():
        return
    what = f"is {present[0]:g} kW, so there is nothing to learn" if len(present) else "is missing"
    what, remedy = f'site "{rows.site}": every reading {what}', "Leave this site out, or check its meter"
    raise reading.source.error(what, remedy, column=reading.columns.load)


def regular_index(first: int, length: int, step: int) -> pd.DatetimeIndex:
    """The index of a grid: the stamps from `first` on, `step` apart, both in ns."""
    index = utc_index(first + step * np.arange(length, dtype=np.int64))
    return pd.DatetimeIndex(index, freq=pd.tseries.frequencies.to_offset(pd.Timedelta(step)), name="ds")


def show_stamp(utc: int, zone: str) -> str:
    """A stamp in ns on the clock of a zone, as in "2024-01-31 13:45+01:00"."""
    return str(pd.Timestamp(int(utc), tz="UTC").tz_convert(zone).isoformat(sep=" ", timespec="minutes"))


def show_span(step: pd.Timedelta | int) -> str:
    """A step, as such or in ns, in its largest whole unit, as in "15 min"."""
    step = pd.Timedelta(step).value
    for size, unit in ((1440 * MINUTE, "day"), (60 * MINUTE, "h"), (MINUTE, "min")):
        if step % size == 0:
            return f"{step // size} {unit}"
    return f"{step / 1e9:g} s"
