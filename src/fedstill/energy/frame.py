"""Energy load of sites, read from a file or a frame into checked, complete grids.

A file says when and how much; which zone, unit and step it means often stands only between its lines.
Everything that cannot be told for sure is an error that names the line and the option that settles it.
Nothing is repaired in silence: what was changed or is missing stands in the notes of the site.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedstill.energy import cells, tables
from fedstill.energy.calendar import clock_of, nanoseconds, zone_of
from fedstill.energy.grids import STEPS, Reading, Rows, grid, regular_index, show_span, show_stamp
from fedstill.energy.tables import Layout as Layout
from fedstill.errors import ConfigError, DataError
from fedstill.labels import Array


@dataclass(frozen=True, eq=False)
class SiteLoad:
    """The load of one site on a complete, regular grid.

    Attributes
    ----------
    site:
        The name of the site.
    data:
        One row an interval. Index "ds": the stamps at which the intervals start, UTC, with `freq` set.
        Column "load_kw": mean power in the interval in kW, float64, NaN where the reading is missing.
        Further float64 columns: covariates, in the units of the file.
    zone:
        IANA name of the zone whose calendar the site lives by.
    notes:
        What the reader should know about the data, one sentence each.
    """

    site: str
    data: pd.DataFrame
    zone: str
    notes: tuple[str, ...] = ()

    @property
    def step(self) -> pd.Timedelta:
        """The length of an interval."""
        return pd.Timedelta(self.data.index.freq)  # type: ignore[attr-defined]


DEFAULT = Layout()


def read(
    path: Path | str, layout: Layout = DEFAULT, *, site: str | None = None, alone: bool = False
) -> dict[str, SiteLoad]:
    """Read the sites of a CSV or Parquet file.

    Parameters
    ----------
    path:
        The file; Parquet is told by its first bytes, everything else is read as CSV in UTF-8 with a header.
    layout:
        What cannot be told from the file itself.
    site:
        Read this site only; for a file without a column of sites, the name of its one site instead of the
        name of the file.
    alone:
        Where the file has only one site, that one is meant, whatever the file calls it.

    Returns
    -------
    dict[str, SiteLoad]
        Sites by name, in the order of the file.

    Raises
    ------
    DataError
        Where the file cannot be used as it is: it names the file, the line (the header is line 1; of Parquet
        the row, from 0), the column and what to do.
    """
    return _sites(tables.of_file(Path(path), layout), layout, site=site, default=Path(path).stem, alone=alone)


def from_frame(
    frame: pd.DataFrame, layout: Layout = DEFAULT, *, source: str = "frame", site: str | None = None
) -> dict[str, SiteLoad]:
    """Read the sites of a pandas frame, as `read` does; errors give rows by position, from 0.

    A named index counts as a column. Raises DataError as `read` does.
    """
    return _sites(tables.of_frame(frame, layout, source), layout, site=site, default=source)


def _sites(
    table: tables.Table, layout: Layout, *, site: str | None, default: str, alone: bool = False
) -> dict[str, SiteLoad]:
    """The sites of a table."""
    rows, columns, source = table.rows, table.columns, table.source
    for key, zone in (("timezone", layout.timezone), ("calendar", layout.calendar)):
        if zone is not None:
            zone_of(zone, where=f"{source.name}, {key}")
    blank = np.asarray(rows.isna().all(axis=1))
    notes = [f"{blank.sum()} empty rows of the file were skipped"] if blank.any() else []
    rows = rows[~blank]
    if rows.empty:
        raise source.error("there are no rows", "Write rows below the header")
    if columns.site is None:
        codes, names = np.zeros(len(rows), np.int64), [default if site is None else site]
    else:
        codes, names = _site_codes(rows[columns.site], source, site, alone=alone)
        rows, codes = rows[codes >= 0], codes[codes >= 0]
    stamps, own = cells.stamps(rows[columns.timestamp], source)
    if own is None and layout.timezone is None:
        remedy = 'Set their zone, such as timezone = "Europe/Berlin", or "UTC" with calendar = "Europe/Berlin"'
        raise source.error("the stamps have no offset, and no timezone is set", remedy, column=columns.timestamp)
    zone = layout.calendar or layout.timezone
    if zone is None:
        zone = _zone_with_calendar(own)
        notes += ["no timezone was given: days and holidays follow UTC"] if zone == "UTC" else []
    values = np.column_stack([cells.numbers(rows[name], layout.decimal or ".", source) for name in columns.values])
    if layout.negative == "refuse":
        remedy = 'Set negative = "allow" where the site feeds in'
        source.refuse(rows[columns.load], values[:, 0] < 0, "the load is negative", remedy)
    reading = Reading(columns, layout, source, zone, wall=layout.timezone if own is None else None)
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])
    sites = {}
    for name, part in zip(names, parts, strict=True):
        data, found = grid(Rows(name, rows.index.to_numpy()[part], stamps[part], values[part]), reading)
        sites[name] = SiteLoad(name, data, zone, (*notes, *found))
    return sites


def _site_codes(
    column: pd.Series[Any], source: tables.Source, site: str | None, *, alone: bool
) -> tuple[Array, list[str]]:
    """The number of each row's site, -1 for rows that were not asked for, and the names of the sites."""
    codes, names = cells.distinct(column)
    empty = np.array([not name.strip() for name in names] + [True])
    source.refuse(column, empty[codes], "the row names no site", "Write the site or remove the row")
    if site is None:
        return codes, names
    if alone and len(names) == 1:
        return codes, [site]
    if site not in names:
        close = difflib.get_close_matches(site, names) or names[:5]
        remedy = f"Did you mean {' or '.join(close)}? There are {len(names)} sites; write which with site = ..."
        raise source.error(f'there is no site "{site}"', remedy, column=column.name)
    return np.where(codes == names.index(site), 0, -1), [site]


def _zone_with_calendar(own: str | None) -> str:
    """The zone that stamps carry themselves, or UTC: a plain offset such as UTC+01:00 has no calendar."""
    try:
        return zone_of(own or "UTC").key
    except DataError:
        return "UTC"


def resample(load: SiteLoad, step: str | pd.Timedelta) -> SiteLoad:
    """The load on a coarser grid, by the mean; an interval with any missing reading is missing.

    Intervals start at full steps after local midnight of the first day.

    Parameters
    ----------
    load:
        A site.
    step:
        One of `STEPS`, such as "1h", and a multiple of the present step.

    Raises
    ------
    DataError
        Where the step is none of these.
    """
    try:
        wanted = pd.Timedelta(step)
    except ValueError:
        wanted = pd.Timedelta(0)
    if wanted not in STEPS:
        remedy = f"Choose one of {', '.join(map(show_span, STEPS))}"
        raise DataError(f'"{step}" is not a step that is supported', where=f"site {load.site}", remedy=remedy)
    if wanted == load.step:
        return load
    if wanted % load.step != pd.Timedelta(0):
        raise DataError(
            f"readings of {show_span(load.step)} do not make up intervals of {show_span(wanted)}",
            where=f"site {load.site}",
            remedy="Choose a multiple of the present step",
        )
    fine, coarse = load.step.value, wanted.value
    utc = nanoseconds(pd.DatetimeIndex(load.data.index))
    per = coarse // fine
    before = int(clock_of(load.zone, utc).wall(utc[:1])[0] % coarse // fine)
    after = -(before + len(utc)) % per
    padded = np.pad(load.data.to_numpy(np.float64), ((before, after), (0, 0)), constant_values=np.nan)
    means = padded.reshape(-1, per, padded.shape[1]).mean(axis=1)
    index = regular_index(int(utc[0]) - before * fine, len(means), coarse)
    return replace(load, data=pd.DataFrame(means, index=index, columns=load.data.columns))


def window(load: SiteLoad, start: str | date | None, end: str | date | None) -> SiteLoad:
    """The load from local midnight of `start` until local midnight of `end`, without the day `end` itself.

    Parameters
    ----------
    load:
        A site.
    start, end:
        Local dates, as such or as "2024-03-31"; None leaves that side open.

    Raises
    ------
    ConfigError
        Where a text is not a date.
    DataError
        Where no interval lies between the dates.
    """
    index = pd.DatetimeIndex(load.data.index)
    utc = nanoseconds(index)
    first = 0 if start is None else int(np.searchsorted(utc, _midnight(start, load.zone, "start")))
    last = len(utc) if end is None else int(np.searchsorted(utc, _midnight(end, load.zone, "end")))
    if first >= last:
        have = f"{show_stamp(utc[0], load.zone)} to {show_stamp(utc[-1], load.zone)}"
        raise DataError(
            f"there is no reading from {start or 'its start'} until before {end or 'its end'}",
            where=f"site {load.site}",
            remedy=f"The readings are from {have} ({load.zone})",
        )
    return replace(load, data=load.data.iloc[first:last])


def _midnight(day: str | date, zone: str, key: str) -> int:
    """UTC nanoseconds at which a local date starts."""
    try:
        local = date.fromisoformat(str(day))
        if not 1900 <= local.year < 2200:
            raise ValueError
    except ValueError:
        raise ConfigError(f'"{day}" is not a date', where=key, remedy='Write it as "2024-03-31"') from None
    wall = np.array([local], "datetime64[ns]").astype(np.int64)
    return int(clock_of(zone, wall).utc(wall)[0][0])
