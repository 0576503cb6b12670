"""The local calendar against dates a reader can check, and against the standard library's zones."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill.energy.calendar import clock_of, days_back, local_calendar, nanoseconds, utc_index, zone_of
from fedstill.errors import ConfigError, DataError, MissingExtra

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Africa/Casablanca",
    "UTC",
)


def utc(*texts: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(texts).tz_localize("UTC")


def test_shows_the_local_day_minute_and_weekday() -> None:
    # 2024-01-01 was a Monday, and day 19723 since 1970-01-01 (54 years of 365 days and 13 leap days).
    calendar = local_calendar(utc("2023-12-31 22:59", "2023-12-31 23:00", "2024-01-01 12:30"), "Europe/Berlin")
    assert calendar.day.tolist() == [19722, 19723, 19723]
    assert calendar.minute.tolist() == [23 * 60 + 59, 0, 13 * 60 + 30]
    assert calendar.weekday.tolist() == [6, 0, 0]
    assert calendar.holiday.tolist() == [False] * 3


@pytest.mark.parametrize(
    ("zone", "day", "minutes"),
    [
        ("Europe/Berlin", "2024-03-31", 23 * 60),
        ("Europe/Berlin", "2024-10-27", 25 * 60),
        ("America/New_York", "2024-03-10", 23 * 60),
        ("America/New_York", "2024-11-03", 25 * 60),
        ("Australia/Lord_Howe", "2024-10-06", 23 * 60 + 30),
        ("Australia/Lord_Howe", "2024-04-07", 24 * 60 + 30),
        ("Asia/Kolkata", "2024-03-31", 24 * 60),
    ],
)
def test_days_have_the_length_of_the_wall_calendar(zone: str, day: str, minutes: int) -> None:
    number = (pd.Timestamp(day) - pd.Timestamp("1970-01-01")).days
    around = pd.date_range(pd.Timestamp(day) - pd.Timedelta("2D"), periods=5 * 1440, freq="1min", tz="UTC")
    calendar = local_calendar(around, zone)
    assert (calendar.day == number).sum() == minutes


def test_the_repeated_hour_shows_its_minutes_twice_and_the_missing_one_never() -> None:
    autumn = local_calendar(utc("2024-10-27 00:30", "2024-10-27 01:30"), "Europe/Berlin")
    assert autumn.minute.tolist() == [150, 150]
    spring = local_calendar(pd.date_range("2024-03-30 23:00", periods=23, freq="1h", tz="UTC"), "Europe/Berlin")
    assert (spring.minute // 60).tolist() == [hour for hour in range(24) if hour != 2]


@given(st.sampled_from(ZONES), st.datetimes(datetime(1971, 1, 1), datetime(2036, 1, 1)))
def test_agrees_with_the_standard_library(zone: str, moment: datetime) -> None:
    stamp = moment.replace(microsecond=0, tzinfo=UTC)
    local = stamp.astimezone(ZoneInfo(zone))
    calendar = local_calendar(pd.DatetimeIndex([stamp]), zone)
    assert calendar.day[0] == local.date().toordinal() - datetime(1970, 1, 1).toordinal()
    assert calendar.minute[0] == local.hour * 60 + local.minute
    assert calendar.weekday[0] == local.weekday()


@given(st.sampled_from(ZONES), st.datetimes(datetime(1971, 1, 1), datetime(2036, 1, 1)))
def test_finds_both_occurrences_of_a_wall_time(zone: str, moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    wall = nanoseconds(pd.DatetimeIndex([moment]).tz_localize("UTC"))
    first, second, missing = clock_of(zone, wall).utc(wall)
    expected = [moment.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)]
    exists = expected[0].astimezone(ZoneInfo(zone)).replace(tzinfo=None) == moment
    assert missing[0] == (not exists)
    if exists:
        assert utc_index(np.concatenate([first, second])).tolist() == [pd.Timestamp(one) for one in expected]


@given(st.sampled_from(ZONES), st.integers(0, 20_000), st.integers(0, 30))
def test_a_day_back_keeps_the_wall_clock_where_it_exists(zone: str, hour: int, days: int) -> None:
    index = pd.date_range("2024-01-01", periods=1, freq="1h", tz="UTC") + pd.Timedelta(hours=hour)
    back = days_back(index, zone, days)
    here, there = local_calendar(index, zone), local_calendar(back, zone)
    wall = datetime(1970, 1, 1) + timedelta(days=int(here.day[0]) - days, minutes=int(here.minute[0]))
    aware = wall.replace(tzinfo=ZoneInfo(zone))
    if aware.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall:
        assert (there.day[0], there.minute[0]) == (here.day[0] - days, here.minute[0])
        assert back[0] == pd.Timestamp(aware.astimezone(UTC))  # fold 0: the first occurrence
    else:
        assert back[0] > pd.Timestamp(aware.replace(fold=1).astimezone(UTC))


@pytest.mark.parametrize(
    ("zone", "stamp", "days", "expected"),
    [
        # Across the change of the clock the difference is 23 or 25 hours.
        ("Europe/Berlin", "2024-03-31 10:00+02:00", 1, "2024-03-30 10:00+01:00"),
        ("Europe/Berlin", "2024-10-27 10:00+01:00", 1, "2024-10-26 10:00+02:00"),
        ("America/New_York", "2024-11-04 08:00-05:00", 7, "2024-10-28 08:00-04:00"),
        # 02:30 did not exist on 2024-03-31: the next time that did is 03:00.
        ("Europe/Berlin", "2024-04-01 02:30+02:00", 1, "2024-03-31 03:00+02:00"),
        ("America/New_York", "2024-03-11 02:00-04:00", 1, "2024-03-10 03:00-04:00"),
        # 02:30 came twice on 2024-10-27: the first.
        ("Europe/Berlin", "2024-10-28 02:30+01:00", 1, "2024-10-27 02:30+02:00"),
        # Both passes of a repeated hour go back to the same time.
        ("Europe/Berlin", "2024-10-27 02:30+02:00", 1, "2024-10-26 02:30+02:00"),
        ("Europe/Berlin", "2024-10-27 02:30+01:00", 1, "2024-10-26 02:30+02:00"),
        # Lord Howe moves by half an hour.
        ("Australia/Lord_Howe", "2024-10-07 02:15+11:00", 1, "2024-10-06 02:30+11:00"),
        ("Australia/Lord_Howe", "2024-04-08 01:45+10:30", 1, "2024-04-07 01:45+11:00"),
        ("Asia/Kolkata", "2024-03-31 05:30+05:30", 7, "2024-03-24 05:30+05:30"),
        # Samoa left out 2011-12-30 as a whole.
        ("Pacific/Apia", "2012-01-01 10:00+14:00", 2, "2011-12-31 00:00+14:00"),
        ("Europe/Berlin", "2024-05-01 00:00+02:00", 0, "2024-05-01 00:00+02:00"),
    ],
)
def test_days_back(zone: str, stamp: str, days: int, expected: str) -> None:
    index = pd.DatetimeIndex([pd.Timestamp(stamp).tz_convert("UTC")], name="ds")
    back = days_back(index, zone, days)
    assert back[0] == pd.Timestamp(expected)
    assert str(back.dtype) == "datetime64[ns, UTC]"
    assert back.name == "ds"


def test_no_stamps_give_no_days() -> None:
    empty = utc()
    assert len(local_calendar(empty, "Europe/Berlin", "DE").holiday) == 0
    assert len(days_back(empty, "Europe/Berlin", 7)) == 0


def test_holidays_follow_the_local_date_and_the_subdivision() -> None:
    # 2024-10-03 is a holiday in all of Germany, 2024-11-01 (All Saints) in Bavaria but not in Berlin.
    stamps = utc("2024-10-02 21:59", "2024-10-02 22:00", "2024-10-03 21:59", "2024-10-03 22:00", "2024-11-01 12:00")
    assert local_calendar(stamps, "Europe/Berlin", "DE").holiday.tolist() == [False, True, True, False, False]
    bavaria = local_calendar(stamps, "Europe/Berlin", "DE", "BY").holiday
    assert bavaria.tolist() == [False, True, True, False, True]


def test_holidays_of_every_year_of_the_index() -> None:
    stamps = utc("2022-12-31 12:00", "2023-01-01 12:00", "2026-01-01 12:00")
    assert local_calendar(stamps, "Europe/Berlin", "DE").holiday.tolist() == [False, True, True]


def test_holidays_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)
    with pytest.raises(MissingExtra, match="Run: pip install holidays"):
        local_calendar(utc("2024-01-01"), "Europe/Berlin", "DE")
    assert not local_calendar(utc("2024-01-01"), "Europe/Berlin").holiday[0]  # not needed without a country


@pytest.mark.parametrize("country", ["Germany", "de", "Germny"])
def test_an_unknown_country_is_named_with_close_ones(country: str) -> None:
    with pytest.raises(ConfigError, match=f'country "{country}".*Did you mean DE'):
        local_calendar(utc("2024-01-01"), "Europe/Berlin", country)


def test_an_unknown_subdivision_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r'DE has no subdivision "ZZ".*BW, BY'):
        local_calendar(utc("2024-01-01"), "Europe/Berlin", "DE", "ZZ")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Europe/Berln", "Did you mean Europe/Berlin"),
        ("europe/berlin", r"Did you mean Europe/Berlin\?"),
        ("Berlin", r"Did you mean Europe/Berlin\?"),
        ("new york", r"Did you mean America/New_York\?"),
        ("", "Use an IANA name"),
        ("Europe", "Did you mean Europe/"),
        ("../etc/passwd", "Use an IANA name|Did you mean"),
    ],
)
def test_an_unknown_zone_is_named_with_close_ones(name: str, advice: str) -> None:
    with pytest.raises(DataError, match=f"there is no time zone.*{advice}"):
        zone_of(name)
    with pytest.raises(DataError, match="there is no time zone"):
        local_calendar(utc("2024-01-01"), name)


def test_an_index_without_a_zone_is_refused() -> None:
    naive = pd.DatetimeIndex(["2024-01-01"])
    with pytest.raises(DataError, match="no time zone"):
        local_calendar(naive, "UTC")
    with pytest.raises(DataError, match="no time zone"):
        days_back(naive, "UTC", 1)
