"""The local calendar of UTC stamps: days, wall clocks, weekdays and holidays across changes of the clock."""

from __future__ import annotations

import difflib
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import numpy as np
import pandas as pd

from fedstill.errors import ConfigError, DataError, MissingExtra
from fedstill.labels import Array

SECOND = 1_000_000_000
"""Nanoseconds; all stamps in here are int64 nanoseconds since 1970-01-01."""
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE


@dataclass(frozen=True, eq=False)
class LocalCalendar:
    """What the wall calendar shows at n stamps; every array has shape (n,).

    Attributes
    ----------
    day:
        Days of the local date since 1970-01-01, int64.
    minute:
        Minute of the local day by the wall clock, 0 to 1439, int64. A repeated hour shows its minutes twice.
    weekday:
        0 for Monday to 6 for Sunday, int64.
    holiday:
        Whether the local date is a public holiday, bool; all False where no country was asked for.
    """

    day: Array
    minute: Array
    weekday: Array
    holiday: Array


@dataclass(frozen=True, eq=False)
class Clock:
    """The wall clock of a zone as p pieces of constant offset.

    Plain integer arithmetic: the same under every version of pandas, and fast on long series.

    Attributes
    ----------
    changes:
        UTC stamps at which a new piece starts, int64 ns, shape (p - 1,), rising.
    offsets:
        Wall clock minus UTC in each piece, int64 ns, shape (p,).
    """

    changes: Array
    offsets: Array

    def piece(self, utc: Array) -> Array:
        """The piece each UTC stamp lies in, shape (n,)."""
        return np.searchsorted(self.changes, utc, side="right")

    def wall(self, utc: Array) -> Array:
        """The wall clock at UTC stamps, (n,)."""
        return np.asarray(utc + self.offsets[self.piece(utc)])

    def utc(self, wall: Array) -> tuple[Array, Array, Array]:
        """The UTC stamps at which the wall clock shows given times, (n,).

        Returns
        -------
        first, second:
            The two occurrences of a repeated time; the same stamp for all others. For a time the clock
            leaps over, both are the moment of the leap: the next time that did exist.
        missing:
            Whether the clock leaps over the time, bool.
        """
        closed = np.searchsorted(self.changes + self.offsets[:-1], wall, side="right")
        opened = np.searchsorted(self.changes + self.offsets[1:], wall, side="right")
        missing = opened < closed
        leap = self.changes[closed[missing] - 1]
        first, second = wall - self.offsets[closed], wall - self.offsets[opened]
        first[missing] = second[missing] = leap
        return first, second, missing


def zone_of(name: str, *, where: str = "timezone") -> zoneinfo.ZoneInfo:
    """The zone of an IANA name such as "Europe/Berlin". Raises DataError with close matches for others."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        zones = {zone.lower(): zone for zone in sorted(zoneinfo.available_timezones())}
    wanted = name.lower().replace(" ", "_")
    exact = [zone for zone in zones if wanted and wanted in (zone, zone.rpartition("/")[2])]
    close = [zones[zone] for zone in exact or difflib.get_close_matches(wanted, zones)]
    advice = f"Did you mean {' or '.join(close)}?" if close else 'Use an IANA name such as "Europe/Berlin"'
    raise DataError(f'there is no time zone "{name}"', where=where, remedy=advice)


def clock_of(zone: str, stamps: Array) -> Clock:
    """The wall clock of a zone over the years of some stamps (ns, UTC or wall; may be none).

    Raises DataError where the zone is unknown.
    """
    zone_of(zone)
    ends = [int(stamps.min()), int(stamps.max())] if len(stamps) else [0, 0]
    # Two days more, for zones far from UTC; whole years, so that many sites share one entry of the cache.
    first, last = np.array([ends[0] - 2 * DAY, ends[1] + 2 * DAY]).astype("datetime64[ns]").astype("M8[Y]").astype(int)
    return _clock(zone, 1970 + int(first), 1971 + int(last))


@lru_cache(maxsize=64)
def _clock(zone: str, first_year: int, end_year: int) -> Clock:
    place = zoneinfo.ZoneInfo(zone)
    start = datetime(1970, 1, 1, tzinfo=UTC)

    def offset(second: int) -> timedelta:
        return (start + timedelta(seconds=second)).astimezone(place).utcoffset() or timedelta()

    changes: list[int] = []
    days = range(*((date(year, 1, 1) - date(1970, 1, 1)).days for year in (first_year, end_year)))
    offsets = [offset(days[0] * 86400)]
    for day in days:
        low, high = day * 86400, (day + 1) * 86400
        if offset(high) == offsets[-1]:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        changes.append(high)
        offsets.append(offset(high))
    return Clock(
        changes=np.array(changes, np.int64) * SECOND,
        offsets=np.array([int(one.total_seconds()) for one in offsets], np.int64) * SECOND,
    )


def nanoseconds(index: pd.DatetimeIndex) -> Array:
    """UTC nanoseconds of an index with a time zone, int64, (n,). Raises DataError where it has none."""
    if index.tz is None:
        raise DataError("the index has no time zone", where="index", remedy='Use index.tz_localize("UTC")')
    return np.asarray(index.to_numpy("datetime64[ns]")).astype(np.int64)


def utc_index(utc: Array) -> pd.DatetimeIndex:
    """The index of UTC nanoseconds, the inverse of `nanoseconds`."""
    return pd.DatetimeIndex(np.asarray(utc, np.int64).view("datetime64[ns]")).tz_localize("UTC")


def local_calendar(
    index: pd.DatetimeIndex, zone: str, country: str | None = None, subdivision: str | None = None
) -> LocalCalendar:
    """The local calendar of n stamps with a time zone.

    Parameters
    ----------
    index:
        Stamps with any time zone, (n,).
    zone:
        IANA name of the zone whose calendar is meant.
    country, subdivision:
        Codes of ISO 3166 as the package `holidays` knows them, such as "DE" and "BY"; without a country
        no day is a holiday.

    Raises
    ------
    DataError
        Where the index has no time zone or the zone is unknown.
    ConfigError
        Where the country or subdivision is unknown.
    MissingExtra
        Where a country is asked for and `holidays` is not installed.
    """
    utc = nanoseconds(index)
    wall = clock_of(zone, utc).wall(utc)
    day = wall // DAY
    holiday = np.zeros(len(day), bool) if country is None else _is_holiday(day, country, subdivision)
    # 1970-01-01 was a Thursday.
    return LocalCalendar(day=day, minute=wall % DAY // MINUTE, weekday=(day + 3) % 7, holiday=holiday)


def days_back(index: pd.DatetimeIndex, zone: str, days: int) -> pd.DatetimeIndex:
    """For each stamp the UTC stamp of the same wall-clock time some local days earlier, (n,).

    A time that came twice means its first occurrence; a time the clock leapt over, the next that existed.
    Raises DataError where the index has no time zone or the zone is unknown.
    """
    utc = nanoseconds(index)
    wall = clock_of(zone, utc).wall(utc) - days * DAY
    first, _, _ = clock_of(zone, wall).utc(wall)
    return utc_index(first).rename(index.name)


def _is_holiday(day: Array, country: str, subdivision: str | None) -> Array:
    """Whether days since 1970-01-01 are public holidays, (n,)."""
    try:
        import holidays
    except ImportError:
        raise MissingExtra(
            "public holidays need the package holidays",
            where="country",
            remedy="Run: pip install holidays",
        ) from None
    countries = holidays.list_supported_countries()
    if country not in countries:
        # Codes and English names alike, so that "Germany" finds "DE".
        codes = {alias.lower(): entry[1] for entry in holidays.registry.COUNTRIES.values() for alias in entry}
        wanted = country.lower()
        near = [wanted] if wanted in codes else difflib.get_close_matches(wanted, codes)
        close = dict.fromkeys(codes[one] for one in near)
        raise ConfigError(
            f'no holidays are known for the country "{country}"',
            where="country",
            remedy=f"Did you mean {' or '.join(close)}?" if close else 'Use a code such as "DE"',
        )
    years = np.unique(day.astype("datetime64[D]").astype("datetime64[Y]").astype(int)) + 1970
    try:
        found = holidays.country_holidays(country, subdiv=subdivision, years=years.tolist())
    except NotImplementedError:
        raise ConfigError(
            f'the country {country} has no subdivision "{subdivision}"',
            where="subdivision",
            remedy=f"Known are: {', '.join(countries[country]) or 'none'}",
        ) from None
    return np.isin(day, np.array(list(found), "datetime64[D]").astype(np.int64))
