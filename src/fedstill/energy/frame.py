"""Energy load of sites, read from a file or a frame into checked, complete grids.

A file says when and how much; which zone, unit and step it means often stands only between its lines.
Everything that cannot be told for sure is an error that names the line and the option that settles it.
Nothing is repaired in silence: what was changed or is missing stands in the notes of the site.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args

import fastparquet
import numpy as np
import pandas as pd

from fedstill.energy.calendar import MINUTE, clock_of, nanoseconds, utc_index, zone_of
from fedstill.errors import ConfigError, DataError
from fedstill.labels import Array

STEPS = tuple(pd.Timedelta(minutes=minutes) for minutes in (5, 10, 15, 30, 60))
"""The steps a grid can have."""

MAX_INTERVALS = 10_000_000
"""Longer grids (95 years of 5 minutes) come from a mistyped year and would only fill the memory."""

Negative = Literal["refuse", "allow"]
Duplicates = Literal["refuse", "first", "mean"]
Ambiguous = Literal["infer", "first", "second"]

_UNITS = {  # name: (kW of one, whether it is energy: then kWh of one)
    "kwh": (1.0, True),
    "mwh": (1000.0, True),
    "kw": (1.0, False),
    "mw": (1000.0, False),
    "w": (0.001, False),
}
_MERGED = {"first": "the first one in the file was kept", "mean": "their mean was taken"}
_SITE = ("unique_id", "site")
_TIMESTAMP = ("ds", "timestamp")
_LOAD = ("y", "load", *(f"load_{unit}" for unit in _UNITS))

# pandas also reads "today" or "2024"; a stamp has at least a full date. The group is the offset.
_STAMP = re.compile(r"\s*\d{4}-?\d\d-?\d\d(?:[T ]\d[\d:.]*\s*(Z|[+-]\d\d(?::?\d\d)?)?)?\s*")
_ISO = "Write ISO 8601 such as 2024-01-31 13:45"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?inf(?:inity)?", re.IGNORECASE)


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


@dataclass(frozen=True)
class Layout:
    """How a file or frame is laid out; what is None is recognised, or asked for in an error.

    Attributes
    ----------
    site, timestamp, load:
        Names of columns. Recognised in any case of letters: `unique_id` or `site` (a file of one site has
        none), `ds` or `timestamp` (ISO 8601, the start of the interval), `y`, `load_kwh`, `load_mwh`,
        `load_kw`, `load_mw` or `load_w`.
    unit:
        "kWh", "MWh" (energy in the interval), "kW", "MW" or "W" (mean power in it); None takes the end of the
        column's name, and kW for a plain `y`.
    timezone:
        IANA name. Stamps without an offset are in this zone; for all stamps it is the zone of the calendar.
    covariates:
        Numeric columns that are known in advance.
    negative:
        Whether negative load (feed-in) is allowed.
    duplicates:
        What to do where a site has a stamp more than once.
    ambiguous:
        Which of the two a stamp without offset in the repeated hour of autumn is where the column does not
        show both; "infer" refuses to choose. Where both stand there in order of time, both are read.
    separator, decimal:
        Signs of a CSV file; "," and "." by default.
    """

    site: str | None = None
    timestamp: str | None = None
    load: str | None = None
    unit: str | None = None
    timezone: str | None = None
    covariates: tuple[str, ...] = ()
    negative: Negative = "refuse"
    duplicates: Duplicates = "refuse"
    ambiguous: Ambiguous = "infer"
    separator: str | None = None
    decimal: str | None = None

    def __post_init__(self) -> None:
        for key, choices in (("negative", Negative), ("duplicates", Duplicates), ("ambiguous", Ambiguous)):
            if getattr(self, key) not in get_args(choices):
                remedy = f"Choose one of {', '.join(get_args(choices))}"
                raise ConfigError(f'"{getattr(self, key)}" is no choice', where=key, remedy=remedy)
        for key in ("separator", "decimal"):
            sign = getattr(self, key)
            if sign is not None and (len(sign) != 1 or sign.isalnum() or sign in '"\r\n'):
                raise ConfigError(
                    f"{sign!r} is not one sign", where=key, remedy='Use one sign such as ";" or ","'
                )


DEFAULT = Layout()


@dataclass(frozen=True)
class _Source:
    """Where rows come from, so that errors can point at them."""

    name: str
    row_word: str
    first_row: int

    def label(self, row: int) -> str:
        return f"{self.row_word} {self.first_row + int(row)}"

    def error(self, what: str, remedy: str, *, row: int | None = None, column: str = "") -> DataError:
        place = [self.name, *([self.label(row)] if row is not None else [])]
        return DataError(
            what, where=", ".join([*place, *([f'column "{column}"'] if column else [])]), remedy=remedy
        )


@dataclass(frozen=True)
class _Columns:
    """The columns of a table that are read."""

    site: str | None
    timestamp: str
    load: str
    unit: str
    covariates: tuple[str, ...]

    @property
    def values(self) -> list[str]:
        return [self.load, *self.covariates]

    @property
    def all(self) -> list[str]:
        return [*([self.site] if self.site is not None else []), self.timestamp, *self.values]


def read(path: Path | str, layout: Layout = DEFAULT, *, site: str | None = None) -> dict[str, SiteLoad]:
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
    path = Path(path)
    source = _Source(str(path), "line", 2)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError:
        raise source.error("there is no such file", "Check the path") from None
    except IsADirectoryError:
        raise source.error("this is a directory", "Name a CSV or Parquet file in it") from None
    except OSError as error:
        raise source.error(f"the file cannot be read ({error.strerror})", "Check its rights") from None
    if not start:
        raise source.error("the file is empty", "Write a header and rows into it")
    if start == b"PAR1" or path.suffix.lower() in (".parquet", ".pq"):
        source = replace(source, row_word="row", first_row=0)
        table, columns = _read_parquet(path, layout, source)
    else:
        table, columns = _read_csv(path, layout, source)
    return _sites(table, columns, layout, source, site=site, default=path.stem)


def from_frame(
    frame: pd.DataFrame, layout: Layout = DEFAULT, *, source: str = "frame", site: str | None = None
) -> dict[str, SiteLoad]:
    """Read the sites of a pandas frame, as `read` does; errors give rows by position, from 0.

    A named index counts as a column. Raises DataError as `read` does.
    """
    index = {name for name in frame.index.names if name is not None}
    if index and not index & set(frame.columns):
        frame = frame.reset_index()
    place = _Source(source, "row", 0)
    table = frame.set_axis([str(name) for name in frame.columns], axis=1)
    columns = _columns(list(table.columns), layout, place)
    table = table[columns.all].set_axis(pd.RangeIndex(len(table)), axis=0)
    return _sites(table, columns, layout, place, site=site, default=source)


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
        remedy = f"Choose one of {', '.join(map(_span, STEPS))}"
        raise DataError(f'"{step}" is not a step that is supported', where=f"site {load.site}", remedy=remedy)
    if wanted == load.step:
        return load
    if wanted % load.step != pd.Timedelta(0):
        raise DataError(
            f"readings of {_span(load.step)} do not make up intervals of {_span(wanted)}",
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
    index = _grid(int(utc[0]) - before * fine, len(means), coarse)
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
        have = f"{_local(utc[0], load.zone)} to {_local(utc[-1], load.zone)}"
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


# --- files to tables ------------------------------------------------------------------------------------


def _read_csv(path: Path, layout: Layout, source: _Source) -> tuple[pd.DataFrame, _Columns]:
    separator = layout.separator or ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = [name.strip() for name in next(csv.reader(file, delimiter=separator), [])]
        if any("\0" in name for name in header):
            raise _not_text(source, 1)
        if not any(header):
            raise source.error("the line is empty", "Write the names of the columns there", row=-1)
        columns = _columns(header, layout, source)
        # A column more than the header has: a decimal comma in an unquoted cell must not pass for two cells.
        places = range(len(header) + 1)
        text = [place for place in places if place == len(header) or header[place] not in columns.values]
        table = pd.read_csv(
            path,
            sep=separator,
            decimal=layout.decimal or ".",
            header=None,
            skiprows=1,
            names=list(places),
            index_col=False,
            dtype=dict.fromkeys(text, str),
            # Only an empty cell is a missing reading; pandas would also take "n/a" and a dozen others.
            keep_default_na=False,
            na_values=[""],
            skip_blank_lines=False,
            low_memory=False,
            encoding="utf-8",
        )
    except UnicodeDecodeError:
        raise _not_text(source, _first_undecodable_line(path)) from None
    except csv.Error as error:
        raise source.error(f"this is not CSV ({error})", "Save it as CSV") from None
    except pd.errors.ParserError as error:
        raise _bad_rows(str(error), len(header), source) from None
    long = np.flatnonzero(table[len(header)].notna())
    if len(long):
        raise _bad_rows(f"line {long[0] + 2}", len(header), source)
    return table[[header.index(name) for name in columns.all]].set_axis(columns.all, axis=1), columns


def _not_text(source: _Source, line: int) -> DataError:
    remedy = "Save it as CSV in UTF-8; a workbook must be exported first"
    return source.error("this is not text in UTF-8", remedy, row=line - source.first_row)


def _first_undecodable_line(path: Path) -> int:
    raw = path.read_bytes()
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return raw.count(b"\n", 0, error.start) + 1
    return 1


def _bad_rows(message: str, width: int, source: _Source) -> DataError:
    line = re.search(r"line (\d+)", message)
    if line is None:
        return source.error("a quotation mark is opened and never closed", "Close it")
    remedy = 'Write numbers with a point and no thousands sign, or set separator = ";" if the file uses it'
    what = f"the line has more cells than the header, which has {width}"
    return source.error(what, remedy, row=int(line[1]) - source.first_row)


def _read_parquet(path: Path, layout: Layout, source: _Source) -> tuple[pd.DataFrame, _Columns]:
    # fastparquet raises whatever a damaged byte leads to: OSError, struct.error, IndexError, its own ...
    damaged = source.error(
        "the Parquet file is damaged or uses a feature that cannot be read", "Write it again, or write CSV"
    )
    try:
        with path.open("rb") as opened:
            file = fastparquet.ParquetFile(opened)
            columns = _columns([str(name) for name in file.columns], layout, source)
            table = file.to_pandas(columns=columns.all, index=False)
            kind = file.schema.schema_element([columns.timestamp]).logicalType
    except DataError:
        raise
    except Exception:
        raise damaged from None
    stamp, stamps = getattr(kind, "TIMESTAMP", None), table[columns.timestamp]
    if stamp is not None and stamp.isAdjustedToUTC and stamps.dtype.kind == "M" and stamps.dt.tz is None:
        # Without the metadata of pandas, fastparquet drops that the stamps are UTC.
        table[columns.timestamp] = stamps.dt.tz_localize("UTC")
    return table.set_axis(pd.RangeIndex(len(table)), axis=0), columns


def _columns(names: Sequence[str], layout: Layout, source: _Source) -> _Columns:
    """Find the columns, or say which there are."""
    site = _find(names, layout.site, _SITE, "site", source)
    timestamp = _find(names, layout.timestamp, _TIMESTAMP, "timestamp", source)
    load = _find(names, layout.load, _LOAD, "load", source)
    if timestamp is None:
        raise _no_column(
            names, f"no column of stamps is recognised ({', '.join(_TIMESTAMP)})", "timestamp", source
        )
    if load is None:
        raise _no_column(names, f"no column of load is recognised ({', '.join(_LOAD)})", "load", source)
    for name in layout.covariates:
        if name not in names:
            raise _no_column(names, f'there is no column "{name}"', "covariates", source)
    chosen = [name for name in (site, timestamp, load, *layout.covariates) if name is not None]
    for name in chosen:
        if chosen.count(name) > 1 or list(names).count(name) > 1:
            remedy = "Give every column one name and one use"
            raise source.error("the column is there or is used twice", remedy, column=name)
    if "load_kw" in layout.covariates:
        raise source.error("a covariate cannot have this name", "Rename the column", column="load_kw")
    return _Columns(site, timestamp, load, _unit(load, layout, source), tuple(layout.covariates))


def _find(
    names: Sequence[str], asked: str | None, known: tuple[str, ...], key: str, source: _Source
) -> str | None:
    if asked is not None:
        if asked not in names:
            raise _no_column(names, f'there is no column "{asked}"', key, source)
        return asked
    found = [name for name in names if name.strip().lower() in known]
    if len(found) > 1:
        what = f"the columns {' and '.join(found)} could both be meant"
        raise source.error(what, f'Say which it is, such as {key} = "{found[0]}"')
    return found[0] if found else None


def _no_column(names: Sequence[str], what: str, key: str, source: _Source) -> DataError:
    for sign in ";\t|,":
        if len(names) == 1 and sign in names[0]:
            return source.error(what, f"Set separator = {json.dumps(sign)}: the header holds that sign")
    return source.error(what, f"Set {key} to columns that are there: {', '.join(names)}")


def _unit(load: str, layout: Layout, source: _Source) -> str:
    unit = layout.unit.lower() if layout.unit is not None else load.strip().lower().rpartition("_")[2]
    if unit in _UNITS:
        return unit
    if unit == "y":
        return "kw"
    problem = "of the load is not known" if layout.unit is None else f'"{layout.unit}" is not known'
    remedy = 'Set unit = "kWh" or "MWh" (energy in the interval), "kW", "MW" or "W" (mean power in it)'
    raise source.error(f"the unit {problem}", remedy, column=load)


# --- cells to numbers and stamps ------------------------------------------------------------------------


def _numbers(column: pd.Series[Any], name: str, layout: Layout, source: _Source) -> Array:
    """A column as float64, (n,); NaN where a cell is empty."""
    if column.dtype.kind in "iuf":
        values = column.to_numpy(np.float64, na_value=np.nan)
    else:
        decimal = layout.decimal or "."
        values = np.empty(len(column))
        for place, cell in enumerate(column.astype(object)):
            number = _number(cell, decimal)
            if number is None:
                raise _not_a_number(cell, decimal, column.index[place], name, source)
            values[place] = number
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        remedy = "Leave the cell of a missing reading empty"
        raise source.error("the value is infinite", remedy, row=column.index[infinite[0]], column=name)
    return np.asarray(values)


def _number(cell: object, decimal: str) -> float | None:
    """The number a cell holds, NaN for an empty one, None for anything else."""
    if isinstance(cell, str):
        text = cell.strip()
        if decimal != ".":
            text = text.replace(".", "?").replace(decimal, ".")
        return float(text) if _NUMBER.fullmatch(text) else None if text else math.nan
    if isinstance(cell, Real) and not isinstance(cell, bool):
        return float(cell)
    return math.nan if cell is None or cell is pd.NA or cell is pd.NaT else None


def _not_a_number(cell: object, decimal: str, row: int, column: str, source: _Source) -> DataError:
    remedy = "Leave the cell of a missing reading empty"
    if decimal != "," and "," in str(cell):
        remedy = 'Set decimal = "," where the comma is the decimal sign; write thousands without a sign'
    elif decimal == "," and "." in str(cell):
        remedy = 'decimal = "," was set; write thousands without a sign'
    return source.error(f'"{cell}" is not a number', remedy, row=row, column=column)


def _stamps(column: pd.Series[Any], name: str, source: _Source) -> tuple[Array, str | None]:
    """Nanoseconds of stamps, (n,), and their zone: None for naive ones, which count on the wall clock."""
    if column.dtype.kind in "iufb":
        raise source.error("the stamps are plain numbers", _ISO, row=column.index[0], column=name)
    empty = np.flatnonzero(column.isna())
    if len(empty):
        remedy = "Write the stamp or remove the row"
        raise source.error("there is no stamp", remedy, row=column.index[empty[0]], column=name)
    if column.dtype.kind == "M":
        stamps, zone = column, None if column.dt.tz is None else str(column.dt.tz)
    else:
        stamps, zone = _parse(column, name, source)
    odd = np.flatnonzero(~stamps.dt.year.between(1900, 2199))
    if len(odd):
        what = "the stamp lies outside the years 1900 to 2199"
        raise source.error(what, "Correct the year", row=column.index[odd[0]], column=name)
    return np.asarray(stamps.dt.as_unit("ns").to_numpy("datetime64[ns]")).astype(np.int64), zone


def _parse(column: pd.Series[Any], name: str, source: _Source) -> tuple[pd.Series[Any], str | None]:
    """Stamps of texts. Each different text is parsed once: many sites share their stamps."""
    codes, texts = _distinct(column)
    matches = [_STAMP.fullmatch(text) for text in texts]
    whole = pd.Series([match[0].strip() if match else None for match in matches], dtype=object)
    parsed = pd.to_datetime(whole, format="ISO8601", utc=True, errors="coerce")
    bad = np.flatnonzero(parsed.isna().to_numpy()[codes])
    if len(bad):
        what = f'"{column.iloc[bad[0]]}" is not a date and time'
        raise source.error(what, _ISO, row=column.index[bad[0]], column=name)
    offset = np.array([match is not None and match[1] is not None for match in matches])[codes]
    odd = np.flatnonzero(offset != offset[0])
    if len(odd):
        kind = "an offset" if offset[odd[0]] else "no offset"
        what = f'the stamp "{column.iloc[odd[0]]}" has {kind}, unlike the rows before'
        remedy = "Write all stamps with their offset, or all without and set timezone"
        raise source.error(what, remedy, row=column.index[odd[0]], column=name)
    return parsed.iloc[codes].set_axis(column.index), "UTC" if offset[0] else None


def _distinct(column: pd.Series[Any]) -> tuple[Array, list[str]]:
    """For each cell the number of its text, (n,), -1 for an empty one, and the different texts."""
    codes, values = pd.factorize(column.map(str, na_action="ignore") if column.dtype == object else column)
    # Texts can be alike where values are not, as 7 and "7".
    again, texts = pd.factorize(np.array([str(value) for value in values], dtype=object))
    return np.append(again, -1)[codes], [str(text) for text in texts]


# --- rows to grids --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of one site: their places in the file, stamps in ns and values, (n,), (n,) and (n, columns)."""

    site: str
    places: Array
    stamps: Array
    values: Array

    def take(self, which: Array) -> _Rows:
        return _Rows(self.site, self.places[which], self.stamps[which], self.values[which])


@dataclass(frozen=True)
class _Reading:
    """What holds for all sites of a file."""

    columns: _Columns
    layout: Layout
    source: _Source
    zone: str
    naive: bool

    def error(self, rows: _Rows, place: int, what: str, remedy: str) -> DataError:
        what = f'site "{rows.site}": {what}'
        return self.source.error(what, remedy, row=place, column=self.columns.timestamp)

    def show(self, utc: int) -> str:
        return _local(utc, self.zone)


def _sites(
    table: pd.DataFrame, columns: _Columns, layout: Layout, source: _Source, *, site: str | None, default: str
) -> dict[str, SiteLoad]:
    """The sites of a table whose index counts the rows of the file."""
    if layout.timezone is not None:
        zone_of(layout.timezone, where=f"{source.name}, timezone")
    blank = np.asarray(table.isna().all(axis=1))
    notes = [f"{blank.sum()} empty rows of the file were skipped"] if blank.any() else []
    table = table[~blank]
    if table.empty:
        raise source.error("there are no rows", "Write rows below the header")
    codes, names = _site_codes(table, columns, source, site, default)
    table, codes = table[codes >= 0], codes[codes >= 0]
    stamps, found = _stamps(table[columns.timestamp], columns.timestamp, source)
    zone = layout.timezone or _calendar_zone(found, columns, source)
    if layout.timezone is None and zone == "UTC":
        notes.append("no timezone was given: days and holidays follow UTC")
    values = np.column_stack([_numbers(table[name], name, layout, source) for name in columns.values])
    negative = np.flatnonzero(values[:, 0] < 0)
    if len(negative) and layout.negative == "refuse":
        what, remedy = "the load is negative", 'Set negative = "allow" where the site feeds in'
        raise source.error(what, remedy, row=table.index[negative[0]], column=columns.load)
    reading = _Reading(columns, layout, source, zone, found is None)
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])
    places = table.index.to_numpy()
    return {
        name: _site_load(_Rows(name, places[part], stamps[part], values[part]), reading, notes)
        for name, part in zip(names, parts, strict=True)
    }


def _site_codes(
    table: pd.DataFrame, columns: _Columns, source: _Source, site: str | None, default: str
) -> tuple[Array, list[str]]:
    """The number of each row's site, -1 for rows that were not asked for, and the names of the sites."""
    if columns.site is None:
        return np.zeros(len(table), np.int64), [default if site is None else site]
    codes, names = _distinct(table[columns.site])
    empty = np.array([not name.strip() for name in names] + [True])
    nameless = np.flatnonzero(empty[codes])
    if len(nameless):
        remedy = "Write the site or remove the row"
        raise source.error("the row names no site", remedy, row=table.index[nameless[0]], column=columns.site)
    if site is None:
        return codes, names
    if site not in names:
        close = difflib.get_close_matches(site, names) or names[:5]
        remedy = f"Did you mean {' or '.join(close)}? There are {len(names)} sites"
        raise source.error(f'there is no site "{site}"', remedy, column=columns.site)
    return np.where(codes == names.index(site), 0, -1), [site]


def _calendar_zone(found: str | None, columns: _Columns, source: _Source) -> str:
    """The zone of stamps that carry one themselves."""
    if found is None:
        what = "the stamps have no offset, and no timezone is set"
        remedy = 'Set their zone, such as timezone = "Europe/Berlin" or "UTC"'
        raise source.error(what, remedy, column=columns.timestamp)
    try:
        return zone_of(found).key
    except DataError:
        return "UTC"  # a plain offset such as UTC+01:00 has no calendar


def _site_load(rows: _Rows, reading: _Reading, notes: Sequence[str]) -> SiteLoad:
    """Put the rows of one site on the grid."""
    notes = list(notes)
    if reading.naive:
        rows = replace(rows, stamps=_from_wall(rows, reading))
    if (np.diff(rows.stamps) < 0).any():
        notes.append("the rows were not in order of time and were sorted")
    rows = rows.take(np.lexsort((rows.places, rows.stamps)))
    twice = np.flatnonzero(np.diff(rows.stamps) == 0) + 1
    if len(twice):
        rows = _merge(rows, twice, reading)
        notes.append(f"{len(twice)} rows repeated a stamp: {_MERGED[reading.layout.duplicates]}")
    step = _step(rows, reading)
    position = (rows.stamps - rows.stamps[0]) // step
    values = np.full((int(position[-1]) + 1, rows.values.shape[1]), np.nan)
    values[position] = rows.values
    kilo, energy = _UNITS[reading.columns.unit]
    values[:, 0] *= kilo * (60 * MINUTE // step if energy else 1)
    names = ["load_kw", *reading.columns.covariates]
    for name, column in zip(names, values.T, strict=True):
        missing = np.flatnonzero(np.isnan(column))
        if len(missing):
            kind = "readings" if name == "load_kw" else f"values of {name}"
            first = reading.show(int(rows.stamps[0] + missing[0] * step))
            notes.append(f"{len(missing)} of {len(column)} {kind} are missing (first: {first})")
    _check_varies(values[:, 0], rows, reading)
    data = pd.DataFrame(values, index=_grid(int(rows.stamps[0]), len(values), step), columns=names)
    return SiteLoad(site=rows.site, data=data, zone=reading.zone, notes=tuple(notes))


def _from_wall(rows: _Rows, reading: _Reading) -> Array:
    """UTC of wall-clock stamps; rows in the order of the file, which tells the repeated hours apart."""
    gaps = np.diff(rows.stamps)
    if (gaps < 0).sum() > (gaps > 0).sum():  # the latest row comes first
        return _from_wall(rows.take(np.arange(len(rows.stamps))[::-1]), reading)[::-1]
    clock = clock_of(reading.zone, rows.stamps)
    first, second, missing = clock.utc(rows.stamps)
    if missing.any():
        place = int(rows.places[missing].min())
        wall = pd.Timestamp(int(rows.stamps[rows.places == place][0]))
        what = f"{wall} does not exist in {reading.zone}: the clock leaps over it"
        remedy = 'Perhaps the column is UTC or standard time: try timezone = "UTC" or "Etc/GMT-1" (UTC+1)'
        raise reading.error(rows, place, what, remedy)
    utc = first.copy()
    repeated = np.flatnonzero(second > first)
    pieces = clock.piece(first[repeated])
    for piece in np.unique(pieces):
        hour = repeated[pieces == piece]
        late = _second_pass(hour, first, second, rows, reading)
        utc[hour[late]] = second[hour[late]]
    return utc


def _second_pass(hour: Array, first: Array, second: Array, rows: _Rows, reading: _Reading) -> Array:
    """Which rows of a repeated hour (places in `rows`) are of its second pass, bool."""
    back = np.flatnonzero(np.diff(rows.stamps[hour]) <= 0)
    what = f"the hour of {pd.Timestamp(int(rows.stamps[hour[0]]))} comes twice on the clock of {reading.zone}"
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


def _merge(rows: _Rows, twice: Array, reading: _Reading) -> _Rows:
    """One row a stamp, of rows in order of time; `twice` are the rows that repeat the one before."""
    if reading.layout.duplicates == "refuse":
        place, before = (int(place) for place in rows.places[[twice[0], twice[0] - 1]])
        stamp = reading.show(int(rows.stamps[twice[0]]))
        what = f"{stamp} is there already, in {reading.source.label(before)} ({len(twice)} such rows)"
        raise reading.error(rows, place, what, 'Remove one, or set duplicates = "first" or "mean"')
    kept = rows.take(np.setdiff1d(np.arange(len(rows.stamps)), twice))
    if reading.layout.duplicates == "mean":
        return replace(kept, values=pd.DataFrame(rows.values).groupby(rows.stamps).mean().to_numpy())
    return kept


def _step(rows: _Rows, reading: _Reading) -> int:
    """The step of rows in order of time, in ns; every row is on its grid."""
    if len(rows.stamps) < 2:
        remedy = "Write at least two rows"
        raise reading.error(rows, int(rows.places[0]), "there are fewer than 2 rows", remedy)
    gaps, counts = np.unique(np.diff(rows.stamps), return_counts=True)
    step = int(gaps[np.argmax(counts)])
    supported = ", ".join(map(_span, STEPS))
    if pd.Timedelta(step) not in STEPS:
        what = f"the step of {_span(pd.Timedelta(step))} is not supported"
        remedy = f"Write readings of one of the steps {supported}"
        raise reading.error(rows, int(rows.places[0]), what, remedy)
    phases, counts = np.unique(rows.stamps % step, return_counts=True)
    off = rows.stamps % step != phases[np.argmax(counts)]
    if off.any():
        worst = int(np.flatnonzero(off)[np.argmin(rows.places[off])])
        what = f"{reading.show(int(rows.stamps[worst]))} is off the grid of {_span(pd.Timedelta(step))}"
        what += f" ({off.sum()} such rows)"
        raise reading.error(rows, int(rows.places[worst]), what, "Correct the stamp or remove the row")
    if (rows.stamps[-1] - rows.stamps[0]) // step >= MAX_INTERVALS:
        widest = int(np.argmax(np.diff(rows.stamps))) + 1
        what = f"the readings span more than {MAX_INTERVALS:,} intervals, with a gap before this row"
        raise reading.error(rows, int(rows.places[widest]), what, "Correct the year")
    return step


def _check_varies(load: Array, rows: _Rows, reading: _Reading) -> None:
    present = load[~np.isnan(load)]
    remedy, column = "Leave this site out, or check its meter", reading.columns.load
    if not len(present):
        raise reading.source.error(f'site "{rows.site}": every reading is missing', remedy, column=column)
    if present.min() == present.max():
        what = f'site "{rows.site}": every reading is {present[0]:g} kW, so there is nothing to learn'
        raise reading.source.error(what, remedy, column=column)


def _grid(first: int, length: int, step: int) -> pd.DatetimeIndex:
    index = utc_index(first + step * np.arange(length, dtype=np.int64))
    return pd.DatetimeIndex(index, freq=pd.tseries.frequencies.to_offset(pd.Timedelta(step)), name="ds")


def _local(utc: int, zone: str) -> str:
    return str(pd.Timestamp(int(utc), tz="UTC").tz_convert(zone).isoformat(sep=" ", timespec="minutes"))


def _span(step: pd.Timedelta) -> str:
    minutes = step / pd.Timedelta(minutes=1)
    for size, unit in ((1440, "day"), (60, "h"), (1, "min")):
        if minutes % size == 0:
            return f"{minutes / size:.0f} {unit}"
    return f"{minutes * 60:g} s"
