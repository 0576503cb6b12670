"""From the cells of a column to numbers, stamps and names; the first cell that is none is an error."""

from __future__ import annotations

import math
import re
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from fedstill.energy.tables import Source
from fedstill.labels import Array

# pandas also reads "today" or "2024"; a stamp has at least a full date. The group is the offset.
_STAMP = re.compile(r"\s*\d{4}-?\d\d-?\d\d(?:[T ]\d[\d:.]*\s*(Z|[+-]\d\d(?::?\d\d)?)?)?\s*")
_ISO = "Write ISO 8601 such as 2024-01-31 13:45"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?inf(?:inity)?", re.IGNORECASE)


def numbers(column: pd.Series[Any], decimal: str, source: Source) -> Array:
    """A column as float64, (n,); NaN where a cell is empty. Raises DataError."""
    if column.dtype.kind in "iuf":
        values = column.to_numpy(np.float64, na_value=np.nan)
    else:
        values = np.empty(len(column))
        for place, cell in enumerate(column.astype(object)):
            number = _number(cell, decimal)
            if number is None:
                what, remedy = f'"{cell}" is not a number', _number_remedy(str(cell), decimal)
                raise source.error(what, remedy, row=column.index[place], column=column.name)
            values[place] = number
    source.refuse(column, np.isinf(values), "the value is infinite", _number_remedy("", decimal))
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


def _number_remedy(text: str, decimal: str) -> str:
    if decimal != "," and "," in text:
        return 'Set decimal = "," where the comma is the decimal sign; write thousands without a sign'
    if decimal == "," and "." in text:
        return 'decimal = "," was set; write thousands without a sign'
    return "Leave the cell of a missing reading empty"


def stamps(column: pd.Series[Any], source: Source) -> tuple[Array, str | None]:
    """Nanoseconds of stamps, (n,), and their zone: None for naive ones, which count on the wall clock.

    Raises DataError.
    """
    if column.dtype.kind in "iufb":
        raise source.error("the stamps are plain numbers", _ISO, row=column.index[0], column=column.name)
    source.refuse(column, column.isna(), "there is no stamp", "Write the stamp or remove the row")
    if column.dtype.kind == "M":
        read, zone = column, None if column.dt.tz is None else str(column.dt.tz)
    else:
        read, zone = _parse(column, source)
    outside = ~read.dt.year.between(1900, 2199)
    source.refuse(column, outside, "the stamp lies outside the years 1900 to 2199", "Correct the year")
    return np.asarray(read.dt.as_unit("ns").to_numpy("datetime64[ns]")).astype(np.int64), zone


def _parse(column: pd.Series[Any], source: Source) -> tuple[pd.Series[Any], str | None]:
    """Stamps of texts. Each different text is parsed once: many sites share their stamps."""
    codes, texts = distinct(column)
    matches = [_STAMP.fullmatch(text) for text in texts]
    whole = pd.Series([match[0].strip() if match else None for match in matches], dtype=object)
    parsed = pd.to_datetime(whole, format="ISO8601", utc=True, errors="coerce").iloc[codes]
    source.refuse(column, parsed.isna(), '"{}" is not a date and time', _ISO)
    offset = np.array([match is not None and match[1] is not None for match in matches])[codes]
    what = f'the stamp "{{}}" has {"no" if offset[0] else "an"} offset, unlike the rows before'
    remedy = "Write all stamps with their offset, or all without and set timezone"
    source.refuse(column, offset != offset[0], what, remedy)
    return parsed, "UTC" if offset[0] else None


def distinct(column: pd.Series[Any]) -> tuple[Array, list[str]]:
    """For each cell the number of its text, (n,), -1 for an empty one, and the different texts."""
    codes, values = pd.factorize(column.map(str, na_action="ignore") if column.dtype == object else column)
    # Texts can be alike where values are not, as 7 and "7".
    again, texts = pd.factorize(np.array([str(value) for value in values], dtype=object))
    return np.append(again, -1)[codes], [str(text) for text in texts]
