"""Spans of local days, written as dates: the first day, and the day after the last."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd

from fedstill.errors import ConfigError
from fedstill.labels import Array

Span = tuple[str | None, str | None]
"""First and last day (exclusive) as YYYY-MM-DD; None leaves an end open."""


def check_span(span: Span, where: str) -> None:
    """Raise ConfigError where an end of a span is no date, or no day lies in it."""
    first, last = (None if end is None else day_number(end, where) for end in span)
    if first is not None and last is not None and first >= last:
        raise ConfigError(
            f"no day lies from {span[0]} until before {span[1]}",
            where=where,
            remedy="Write the first day, and the day after the last",
        )


def day_number(text: str, where: str = "") -> int:
    """Days of a date since 1970-01-01. Raises ConfigError where the text is no date."""
    try:
        day = date.fromisoformat(text)
        if not 1900 <= day.year < 2200:
            raise ValueError
    except ValueError:
        raise ConfigError(f"'{text}' is no date", where=where, remedy="Write dates as 2016-01-31") from None
    return (day - date(1970, 1, 1)).days


def date_of(day: int) -> str:
    """The date so many days after 1970-01-01."""
    return str(np.datetime64(day, "D"))


def midnight(day: int, zone: str) -> pd.Timestamp:
    """When a local day begins, UTC; where the clock leaps over midnight, with the first instant it has."""
    return pd.Timestamp(date_of(day)).tz_localize(zone, ambiguous=True, nonexistent="shift_forward").tz_convert("UTC")


def between(days: Array, span: Span) -> Array:
    """Which days, counted since 1970-01-01, lie in a span, shape (n,)."""
    first, last = span
    inside = np.ones(len(days), bool)
    if first is not None:
        inside &= days >= day_number(first)
    if last is not None:
        inside &= days < day_number(last)
    return inside
