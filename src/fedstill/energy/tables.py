"""From files and frames to tables: which columns are meant, in which unit, and where each row stands."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import fastparquet
import numpy as np
import pandas as pd

from fedstill.errors import ConfigError, DataError

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
_KNOWN = {
    "site": ("unique_id", "site"),
    "timestamp": ("ds", "timestamp"),
    "load": ("y", "load", *(f"load_{unit}" for unit in _UNITS)),
}


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
        IANA name of the zone that stamps without an offset are in, such as "UTC".
    calendar:
        IANA name of the zone whose days, weekdays and holidays count, such as "Europe/Berlin". None takes
        `timezone`, else the zone of the stamps themselves.
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
    calendar: str | None = None
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
                raise ConfigError(f"{sign!r} is not one sign", where=key, remedy='Use one sign such as ";" or ","')


@dataclass(frozen=True)
class Source:
    """Where rows come from, so that errors can point at them."""

    name: str
    row_word: str = "row"
    first_row: int = 0

    def label(self, row: int) -> str:
        """The name of a row, which is counted from 0, as its reader would look for it."""
        return f"{self.row_word} {self.first_row + int(row)}"

    def error(self, what: str, remedy: str, *, row: int | None = None, column: object = "") -> DataError:
        """The error about the source, one of its rows or columns, or a cell."""
        places = [self.name, "" if row is None else self.label(row), f'column "{column}"' if column != "" else ""]
        return DataError(what, where=", ".join(filter(None, places)), remedy=remedy)

    def refuse(self, column: pd.Series[Any], bad: Any, what: str, remedy: str) -> None:
        """Raise the error of the first cell that is bad, bool, (n,); "{}" in `what` stands for the cell."""
        places = np.flatnonzero(bad)
        if len(places):
            what = what.replace("{}", str(column.iloc[places[0]]))
            raise self.error(what, remedy, row=column.index[places[0]], column=column.name)


@dataclass(frozen=True)
class Columns:
    """The columns that are read, and the unit of the load: kW of one, and whether it is energy (kWh)."""

    site: str | None
    timestamp: str
    load: str
    covariates: tuple[str, ...]
    unit: tuple[float, bool]

    @property
    def values(self) -> list[str]:
        """The columns of numbers, the load first."""
        return [self.load, *self.covariates]

    @property
    def all(self) -> list[str]:
        """Every column that is read."""
        return [*([self.site] if self.site is not None else []), self.timestamp, *self.values]


@dataclass(frozen=True, eq=False)
class Table:
    """Rows as they stand in a source: cells not yet checked, the columns `columns.all`, the index from 0."""

    rows: pd.DataFrame
    columns: Columns
    source: Source


def of_frame(frame: pd.DataFrame, layout: Layout, name: str) -> Table:
    """The table of a frame; a named index counts as a column. Raises DataError."""
    index = {name for name in frame.index.names if name is not None}
    if index and not index & set(frame.columns):
        frame = frame.reset_index()
    rows = frame.set_axis([str(name) for name in frame.columns], axis=1)
    columns = _columns(list(rows.columns), layout, Source(name))
    return Table(rows[columns.all].set_axis(pd.RangeIndex(len(rows)), axis=0), columns, Source(name))


def of_file(path: Path, layout: Layout) -> Table:
    """The table of a Parquet file, told by its first bytes or suffix, or else of a CSV file. Raises DataError."""
    source = Source(str(path))
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
        return _of_parquet(path, layout, source)
    return _of_csv(path, layout, Source(str(path), "line", 2))


def _of_csv(path: Path, layout: Layout, source: Source) -> Table:
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
        rows = pd.read_csv(
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
        line = re.search(r"line (\d+)", str(error))
        if line is None:
            raise source.error("a quotation mark is opened and never closed", "Close it") from None
        raise _too_long(int(line[1]), len(header), source) from None
    long = np.flatnonzero(rows[len(header)].notna())
    if len(long):
        raise _too_long(int(long[0]) + source.first_row, len(header), source)
    rows = rows[[header.index(name) for name in columns.all]].set_axis(columns.all, axis=1)
    return Table(rows, columns, source)


def _not_text(source: Source, line: int) -> DataError:
    remedy = "Save it as CSV in UTF-8; a workbook must be exported first"
    return source.error("this is not text in UTF-8", remedy, row=line - source.first_row)


def _first_undecodable_line(path: Path) -> int:
    raw = path.read_bytes()
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return raw.count(b"\n", 0, error.start) + 1
    return 1


def _too_long(line: int, width: int, source: Source) -> DataError:
    remedy = 'Write numbers with a point and no thousands sign, or set separator = ";" if the file uses it'
    what = f"the line has more cells than the header, which has {width}"
    return source.error(what, remedy, row=line - source.first_row)


def _of_parquet(path: Path, layout: Layout, source: Source) -> Table:
    try:
        with path.open("rb") as opened:
            file = fastparquet.ParquetFile(opened)
            columns = _columns([str(name) for name in file.columns], layout, source)
            rows = file.to_pandas(columns=columns.all, index=False)
            kind = file.schema.schema_element([columns.timestamp]).logicalType
    except DataError:
        raise
    # fastparquet raises whatever a damaged byte leads to: OSError, struct.error, IndexError, its own ...
    except Exception:
        what = "the Parquet file is damaged or uses a feature that cannot be read"
        raise source.error(what, "Write it again, or write CSV") from None
    stamp, stamps = getattr(kind, "TIMESTAMP", None), rows[columns.timestamp]
    if stamp is not None and stamp.isAdjustedToUTC and stamps.dtype.kind == "M" and stamps.dt.tz is None:
        # Without the metadata of pandas, fastparquet drops that the stamps are UTC.
        rows[columns.timestamp] = stamps.dt.tz_localize("UTC")
    return Table(rows.set_axis(pd.RangeIndex(len(rows)), axis=0), columns, source)


def _columns(names: Sequence[str], layout: Layout, source: Source) -> Columns:
    """Find the columns, or say which there are."""
    site, timestamp, load = (_find(names, key, layout, source) for key in _KNOWN)
    if timestamp is None:
        what = f"no column of stamps is recognised ({', '.join(_KNOWN['timestamp'])})"
        raise _no_column(names, what, "timestamp", source)
    if load is None:
        raise _no_column(names, f"no column of load is recognised ({', '.join(_KNOWN['load'])})", "load", source)
    for name in layout.covariates:
        if name not in names:
            raise _no_column(names, f'there is no column "{name}"', "covariates", source)
    columns = Columns(site, timestamp, load, tuple(layout.covariates), _unit(load, layout, source))
    for name in columns.all:
        if columns.all.count(name) > 1 or list(names).count(name) > 1:
            remedy = "Give every column one name and one use"
            raise source.error("the column is there or is used twice", remedy, column=name)
    if "load_kw" in layout.covariates:
        raise source.error("a covariate cannot have this name", "Rename the column", column="load_kw")
    return columns


def _find(names: Sequence[str], key: str, layout: Layout, source: Source) -> str | None:
    asked: str | None = getattr(layout, key)
    if asked is not None:
        if asked not in names:
            raise _no_column(names, f'there is no column "{asked}"', key, source)
        return asked
    found = [name for name in names if name.strip().lower() in _KNOWN[key]]
    if len(found) > 1:
        what = f"the columns {' and '.join(found)} could both be meant"
        raise source.error(what, f'Say which it is, such as {key} = "{found[0]}"')
    return found[0] if found else None


def _no_column(names: Sequence[str], what: str, key: str, source: Source) -> DataError:
    for sign in ";\t|,":
        if len(names) == 1 and sign in names[0]:
            return source.error(what, f"Set separator = {json.dumps(sign)}: the header holds that sign")
    return source.error(what, f"Set {key} to columns that are there: {', '.join(names)}")


def _unit(load: str, layout: Layout, source: Source) -> tuple[float, bool]:
    name = layout.unit.lower() if layout.unit is not None else load.strip().lower().rpartition("_")[2]
    unit = _UNITS.get("kw" if name == "y" else name)
    if unit is None:
        problem = "of the load is not known" if layout.unit is None else f'"{layout.unit}" is not known'
        remedy = 'Set unit = "kWh" or "MWh" (energy in the interval), "kW", "MW" or "W" (mean power in it)'
        raise source.error(f"the unit {problem}", remedy, column=load)
    return unit
