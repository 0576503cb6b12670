"""The load frame: files as enterprises have them, good and bad."""

from __future__ import annotations

import pickle
import time
from dataclasses import fields
from pathlib import Path

import fastparquet
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedstill.config import DataTable
from fedstill.energy.frame import Layout, SiteLoad, from_frame, read, resample, window
from fedstill.errors import ConfigError, DataError

UTC = Layout(timezone="UTC")
BERLIN = Layout(timezone="Europe/Berlin")

FOUR = ["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 02:00", "2024-01-01 03:00"]


@pytest.fixture
def write(tmp_path: Path):
    """Write a file and return its path."""

    def write(content: str | bytes, name: str = "plant.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def csv(rows: list[str], header: str = "timestamp,load_kw") -> str:
    return "\n".join([header, *rows]) + "\n"


def hours(values: list[object], header: str = "timestamp,load_kw") -> str:
    """A CSV text of hourly values from 2024-01-01 00:00; value i stands in line i + 2."""
    stamps = pd.date_range("2024-01-01", periods=len(values), freq="1h").strftime("%Y-%m-%d %H:%M")
    return csv([f"{stamp},{value}" for stamp, value in zip(stamps, values, strict=True)], header)


def one(sites: dict[str, SiteLoad]) -> SiteLoad:
    (load,) = sites.values()
    return load


def frame_of(stamps: object, values: object, name: str = "load_kw") -> pd.DataFrame:
    return pd.DataFrame({"timestamp": stamps, name: values})


def same(a: SiteLoad, b: SiteLoad) -> bool:
    pd.testing.assert_frame_equal(a.data, b.data)
    return (a.site, a.zone, a.step) == (b.site, b.zone, b.step)


# --- layouts --------------------------------------------------------------------------------------------


def test_reads_the_long_form_of_nixtla(write) -> None:
    rows = [f"{site},{stamp},{value}" for site, value in (("b", 1), ("a", 5)) for stamp in FOUR[:3]]
    rows[2] = rows[2].replace(",1", ",3")
    rows[5] = rows[5].replace(",5", ",7.5")
    sites = read(write(csv(rows, "unique_id,ds,y")), UTC)
    assert list(sites) == ["b", "a"]  # the order of the file
    load = sites["a"]
    assert load.site == "a"
    assert load.data["load_kw"].tolist() == [5.0, 5.0, 7.5]
    assert list(load.data.columns) == ["load_kw"]
    assert load.data.index.name == "ds"
    assert str(load.data.index.dtype) == "datetime64[ns, UTC]"
    assert load.data.index.freq == pd.Timedelta("1h")
    assert load.step == pd.Timedelta("1h")
    assert load.zone == "UTC"
    assert load.notes == ()


@pytest.mark.parametrize(
    ("name", "kw"), [("load_kw", 2.0), ("load_mw", 2000.0), ("load_w", 0.002), ("y", 2.0), ("LOAD_KWH", 8.0)]
)
def test_the_name_of_the_load_says_its_unit(write, name: str, kw: float) -> None:
    text = csv(["2024-01-01 00:00,2", "2024-01-01 00:15,3", "2024-01-01 00:30,4"], f"Timestamp,{name}")
    assert one(read(write(text), UTC)).data["load_kw"].iloc[0] == pytest.approx(kw)


@pytest.mark.parametrize(
    ("step", "unit", "kw"),
    # 3 units of energy in 5 minutes are 36 units of power: there are 12 such intervals in an hour.
    [
        ("5min", "kWh", 36),
        ("10min", "kWh", 18),
        ("15min", "MWh", 12_000),
        ("30min", "mwh", 6_000),
        ("1h", "kWh", 3),
        ("15min", "kW", 3),
        ("15min", "MW", 3_000),
        ("15min", "W", 0.003),
    ],
)
def test_energy_becomes_mean_power_by_the_step(step: str, unit: str, kw: float) -> None:
    stamps = pd.date_range("2024-01-01", periods=3, freq=step, tz="UTC")
    load = one(from_frame(frame_of(stamps, [3.0, 1.0, 2.0], "amount"), Layout(load="amount", unit=unit)))
    assert load.data["load_kw"].iloc[0] == pytest.approx(kw)
    assert load.step == pd.Timedelta(step)


def test_a_file_of_one_site_is_named_by_the_file_or_the_caller(write) -> None:
    path = write(hours([1, 2, 3]), "Plant 7.csv")
    assert list(read(path, UTC)) == ["Plant 7"]
    assert list(read(str(path), UTC, site="mill")) == ["mill"]
    frame = frame_of(FOUR, [1, 2, 3, 4])
    assert list(from_frame(frame, UTC, source="memory")) == ["memory"]


def test_one_site_of_a_long_file_does_not_mind_the_faults_of_others(write) -> None:
    rows = [*(f"good,{stamp},{i}" for i, stamp in enumerate(FOUR)), "bad,whenever,n/a"]
    path = write(csv(rows, "site,timestamp,load_kw").replace("n/a", "7"))
    assert list(read(path, UTC, site="good")) == ["good"]
    with pytest.raises(DataError, match="line 6"):
        read(path, UTC)


def test_columns_by_name_and_covariates(write) -> None:
    text = csv(["7,2024-01-01 00:00,10,-3.5,x", "7,2024-01-01 01:00,20,,x"], "meter,when,Verbrauch,temp,note")
    layout = Layout("meter", "when", "Verbrauch", "kWh", timezone="Europe/Berlin", covariates=("temp",))
    load = one(read(write(text), layout))
    assert load.site == "7"
    assert list(load.data.columns) == ["load_kw", "temp"]
    assert load.data["temp"].tolist()[0] == -3.5
    assert load.notes == ("1 of 2 values of temp are missing (first: 2024-01-01 01:00+01:00)",)


def test_leading_zeros_of_a_site_survive(write) -> None:
    path = write(csv([f"007,{stamp},{i}" for i, stamp in enumerate(FOUR)], "site,timestamp,load_kw"))
    assert list(read(path, UTC)) == ["007"]


def test_a_german_file(write) -> None:
    text = '\ufefftimestamp;load_kw\r\n2024-01-01 00:00;1,5\r\n2024-01-01 00:15;"2,25"\r\n'
    load = one(read(write(text), Layout(timezone="Europe/Berlin", separator=";", decimal=",")))
    assert load.data["load_kw"].tolist() == [1.5, 2.25]


def test_a_quoted_decimal_comma_in_a_comma_separated_file(write) -> None:
    load = one(read(write(hours(['"1,5"', '"2,5"'])), Layout(timezone="UTC", decimal=",")))
    assert load.data["load_kw"].tolist() == [1.5, 2.5]


def test_a_named_index_counts_as_a_column() -> None:
    index = pd.date_range("2024-01-01", periods=3, freq="1h", tz="Europe/Berlin", name="ds")
    load = one(from_frame(pd.DataFrame({"y": [1.0, 2.0, 4.0]}, index=index)))
    assert load.zone == "Europe/Berlin"
    assert load.data.index[0] == pd.Timestamp("2023-12-31 23:00", tz="UTC")


def test_the_frame_of_the_caller_is_left_alone() -> None:
    frame = frame_of(FOUR[::-1], [1, 2, 3, 4])
    before = frame.copy(deep=True)
    from_frame(frame, UTC)
    pd.testing.assert_frame_equal(frame, before)


# --- time -----------------------------------------------------------------------------------------------

DST_DAYS = [
    # zone, day, step, intervals of the day
    ("Europe/Berlin", "2024-03-31", "15min", 92),
    ("Europe/Berlin", "2024-10-27", "15min", 100),
    ("Europe/Berlin", "2024-10-27", "1h", 25),
    ("America/New_York", "2024-03-10", "1h", 23),
    ("America/New_York", "2024-11-03", "30min", 50),
    ("Australia/Lord_Howe", "2024-04-07", "30min", 49),
    ("Australia/Lord_Howe", "2024-10-06", "10min", 141),
    ("Asia/Kolkata", "2024-03-31", "5min", 288),
]


@pytest.mark.parametrize(("zone", "day", "step", "intervals"), DST_DAYS)
def test_naive_aware_and_utc_stamps_give_the_same_load(write, zone: str, day: str, step: str, intervals: int) -> None:
    first = pd.Timestamp(day)
    stamps = pd.date_range(
        (first - pd.Timedelta("1D")).tz_localize(zone),
        (first + pd.Timedelta("2D")).tz_localize(zone),
        freq=step,
    )[:-1]
    energy = np.random.default_rng(3).integers(1, 100, len(stamps)).astype(float)
    layout = Layout(timezone=zone)
    inputs = {
        "naive": stamps.tz_localize(None),
        "aware": stamps,
        "utc": stamps.tz_convert("UTC"),
        "offset text": [stamp.isoformat() for stamp in stamps],
        "utc text": [f"{stamp:%Y-%m-%dT%H:%M:%SZ}" for stamp in stamps.tz_convert("UTC")],
    }
    loads = {name: one(from_frame(frame_of(x, energy, "load_kwh"), layout)) for name, x in inputs.items()}
    text = frame_of(inputs["naive"], energy, "load_kwh").to_csv(index=False)
    loads["file"] = one(read(write(text, "frame.csv"), layout))
    for load in loads.values():
        assert same(load, loads["aware"])
    data = window(loads["naive"], day, str((first + pd.Timedelta("1D")).date())).data
    assert len(data) == intervals
    local = stamps.tz_localize(None).normalize() == first
    per_hour = pd.Timedelta("1h") / pd.Timedelta(step)
    assert data["load_kw"].sum() / per_hour == pytest.approx(energy[local].sum())
    assert not data["load_kw"].isna().any()


def test_each_site_shows_its_own_repeated_hour() -> None:
    stamps = pd.date_range("2024-10-27", periods=25, freq="1h", tz="Europe/Berlin").tz_localize(None)
    frame = pd.concat([frame_of(stamps, np.arange(25.0)).assign(site=site) for site in "ab"])
    sites = from_frame(frame, BERLIN)
    for load in sites.values():
        assert load.data["load_kw"].tolist() == list(range(25))
    # The same when rows of the two sites alternate.
    mixed = from_frame(frame.sort_values(["timestamp", "site"], kind="stable"), BERLIN)
    assert all(same(mixed[site], sites[site]) for site in "ab")


def test_the_repeated_hour_with_a_missing_reading_is_still_told_apart() -> None:
    stamps = pd.date_range("2024-10-27", periods=100, freq="15min", tz="Europe/Berlin")
    for gone in (9, 13):  # 02:15 of the first and of the second pass
        keep = np.arange(100) != gone
        load = one(from_frame(frame_of(stamps.tz_localize(None)[keep], np.arange(100.0)[keep]), BERLIN))
        assert np.flatnonzero(load.data["load_kw"].isna()).tolist() == [gone]
        assert load.data["load_kw"].sum() == np.arange(100)[keep].sum()


@pytest.mark.parametrize(("choice", "missing"), [("first", "01:00"), ("second", "00:00")])
def test_a_repeated_hour_shown_once_needs_a_choice(write, choice: str, missing: str) -> None:
    stamps = [f"2024-10-27 {hour:02}:00" for hour in range(24)]
    path = write(csv([f"{stamp},{i}" for i, stamp in enumerate(stamps)]))
    with pytest.raises(DataError, match=r'line 4, column "timestamp".*02:00.*twice.*once.*ambiguous = "first"'):
        read(path, BERLIN)
    load = one(read(path, Layout(timezone="Europe/Berlin", ambiguous=choice)))
    gap = load.data.index[load.data["load_kw"].isna()]
    assert list(gap) == [pd.Timestamp(f"2024-10-27 {missing}", tz="UTC")]
    assert "1 of 25 readings are missing" in load.notes[0]


def test_a_repeated_hour_out_of_order_is_not_guessed() -> None:
    stamps = pd.date_range("2024-10-27", periods=25, freq="1h", tz="Europe/Berlin").tz_localize(None)
    shuffled = frame_of(stamps, np.arange(25.0)).iloc[[*range(3), *range(10, 25), *range(3, 10)]]
    with pytest.raises(DataError, match=r"row 2.*not in order of time.*offset"):
        from_frame(shuffled, BERLIN)
    quarters = pd.date_range("2024-10-27", periods=100, freq="15min", tz="Europe/Berlin").tz_localize(None)
    by_wall = frame_of(quarters, np.arange(100.0)).sort_values("timestamp", kind="stable")
    with pytest.raises(DataError, match="not in order of time"):
        from_frame(by_wall, BERLIN)


def test_the_latest_row_first() -> None:
    stamps = pd.date_range("2024-10-26", periods=80, freq="1h", tz="Europe/Berlin").tz_localize(None)
    frame = frame_of(stamps, np.arange(80.0))
    load = one(from_frame(frame.iloc[::-1], BERLIN))
    assert same(load, one(from_frame(frame, BERLIN)))
    assert load.notes == ("the rows were not in order of time and were sorted",)


def test_a_stamp_in_the_missing_hour_suggests_utc(write) -> None:
    rows = [f"2024-03-31 {hour:02}:00,{hour}" for hour in range(5)]
    with pytest.raises(DataError) as caught:
        read(write(csv(rows)), BERLIN)
    message = str(caught.value)
    assert "plant.csv, line 4" in message
    assert "2024-03-31 02:00:00 does not exist in Europe/Berlin" in message
    assert 'timezone = "UTC" or "Etc/GMT-1" (UTC+1), with calendar = "Europe/Berlin"' in message
    assert len(one(read(write(csv(rows)), UTC)).data) == 5
    standard = one(read(write(csv(rows)), Layout(timezone="Etc/GMT-1")))
    assert standard.data.index[0] == pd.Timestamp("2024-03-30 23:00", tz="UTC")


@pytest.mark.parametrize(("day", "offset"), [("2024-03-30", "+01:00"), ("2024-10-26", "+02:00")])
@pytest.mark.parametrize("clock", ["UTC", "Etc/GMT-1"])
def test_naive_stamps_off_the_local_clock_have_the_local_calendar(write, day: str, offset: str, clock: str) -> None:
    stamps = pd.date_range(day, periods=75, freq="1h", tz="Europe/Berlin")  # the clock changes on the second day
    values = [None, *range(74)]
    aware = one(from_frame(frame_of(stamps, values), BERLIN))
    layout = Layout(timezone=clock, calendar="Europe/Berlin")
    naive = frame_of(stamps.tz_convert(clock).tz_localize(None), values)
    for load in (one(from_frame(naive, layout)), one(read(write(naive.to_csv(index=False), "frame.csv"), layout))):
        assert same(load, aware)
        assert load.zone == "Europe/Berlin"
        assert load.notes == aware.notes == (f"1 of 75 readings are missing (first: {day} 00:00{offset})",)
    second = str((pd.Timestamp(day) + pd.Timedelta("1D")).date())
    assert len(window(load, second, None).data) == 75 - 24


def test_the_calendar_of_stamps_with_an_offset(write) -> None:
    path = write(csv(["2024-01-01T00:00Z,1", "2024-01-01T01:00Z,2"]))
    for layout in (Layout(calendar="Asia/Kolkata"), Layout(timezone="UTC", calendar="Asia/Kolkata")):
        load = one(read(path, layout))
        assert load.zone == "Asia/Kolkata"
        assert load.data.index[0] == pd.Timestamp("2024-01-01 05:30", tz="Asia/Kolkata")
        assert load.notes == ()


def test_a_calendar_does_not_say_which_clock_the_stamps_show(write) -> None:
    with pytest.raises(DataError, match=r'no timezone is set.*"UTC" with calendar = "Europe/Berlin"'):
        read(write(hours([1, 2])), Layout(calendar="Europe/Berlin"))


def test_offsets_that_change_within_the_file(write) -> None:
    rows = ["2024-10-27 02:30:00+02:00,1", "2024-10-27 02:00:00+01:00,2", "2024-10-27T02:30+0100,3"]
    load = one(read(write(csv(rows)), Layout()))
    assert load.data.index[0] == pd.Timestamp("2024-10-27 00:30", tz="UTC")
    assert load.data["load_kw"].tolist() == [1, 2, 3]
    assert load.zone == "UTC"
    assert load.notes == ("no timezone was given: days and holidays follow UTC",)
    assert one(read(write(csv(rows)), BERLIN)).zone == "Europe/Berlin"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_units_of_datetimes_do_not_matter(unit: str) -> None:
    stamps = pd.date_range("2024-01-01", periods=4, freq="30min").as_unit(unit)
    naive = one(from_frame(frame_of(stamps, [1, 2, 3, 4]), UTC))
    aware = one(from_frame(frame_of(stamps.tz_localize("UTC"), [1, 2, 3, 4]), UTC))
    assert same(naive, aware)
    assert str(naive.data.index.dtype) == "datetime64[ns, UTC]"


def test_stamps_as_python_objects() -> None:
    stamps = pd.Series([pd.Timestamp(x, tz="Europe/Berlin").to_pydatetime() for x in FOUR], dtype=object)
    load = one(from_frame(frame_of(stamps, [1, 2, 3, None]), BERLIN))
    assert load.data.index[0] == pd.Timestamp("2023-12-31 23:00", tz="UTC")


# --- gaps, order, repeats -------------------------------------------------------------------------------


def test_missing_rows_and_empty_cells_are_missing_readings(write) -> None:
    text = csv(["2024-01-01 00:00,1", "2024-01-01 01:00,", "2024-01-01 02:00,3", "2024-01-01 05:00, "])
    load = one(read(write(text), BERLIN))
    assert load.data["load_kw"].isna().tolist() == [False, True, False, True, True, True]
    assert load.data.index.freq == pd.Timedelta("1h")
    assert load.notes == ("4 of 6 readings are missing (first: 2024-01-01 01:00+01:00)",)


def test_rows_out_of_order_are_sorted_and_noted(write) -> None:
    load = one(read(write(csv([f"{FOUR[i]},{i}" for i in (2, 0, 1, 3)])), UTC))
    assert load.data["load_kw"].tolist() == [0, 1, 2, 3]
    assert load.notes == ("the rows were not in order of time and were sorted",)


def test_empty_lines_are_skipped_and_noted_and_lines_still_count(write) -> None:
    text = csv([f"{FOUR[0]},1", "", f"{FOUR[1]},2", ",", f"{FOUR[2]},x"])
    with pytest.raises(DataError, match="line 6"):
        read(write(text), UTC)
    load = one(read(write(text.replace("x", "3")), UTC))
    assert load.notes == ("2 empty rows of the file were skipped",)


def test_repeated_stamps_need_a_choice(write) -> None:
    path = write(csv([f"{FOUR[0]},1", f"{FOUR[1]},2", f"{FOUR[1]},4", f"{FOUR[1]},", f"{FOUR[2]},5"]))
    with pytest.raises(DataError) as caught:
        read(path, UTC)
    for part in (
        "line 4",
        "2024-01-01 01:00",
        "already",
        "line 3",
        "2 such rows",
        'duplicates = "first" or "mean"',
    ):
        assert part in str(caught.value)
    first = one(read(path, Layout(timezone="UTC", duplicates="first")))
    assert first.data["load_kw"].tolist() == [1, 2, 5]
    assert first.notes == ("2 rows repeated a stamp: the first one in the file was kept",)
    mean = one(read(path, Layout(timezone="UTC", duplicates="mean")))
    assert mean.data["load_kw"].tolist() == [1, 3, 5]
    assert mean.notes == ("2 rows repeated a stamp: their mean was taken",)


def test_two_sites_may_share_stamps_but_not_one(write) -> None:
    rows = [f"{site},{stamp},{i}" for site in "ab" for i, stamp in enumerate(FOUR)]
    assert len(read(write(csv(rows, "site,timestamp,load_kw")), UTC)) == 2
    with pytest.raises(DataError, match=r'line 10.*site "b"'):
        read(write(csv([*rows, f"b,{FOUR[0]},9"], "site,timestamp,load_kw")), UTC)


def test_feed_in_is_allowed_where_asked_for(write) -> None:
    load = one(read(write(hours([1, -2, 3])), Layout(timezone="UTC", negative="allow")))
    assert load.data["load_kw"].tolist() == [1, -2, 3]


# --- what cannot be read --------------------------------------------------------------------------------

H = "timestamp,load_kw"
TEN = [str(i) for i in range(10)]
HALF_PAST = [f"{stamp[:-2]}30,{i}" for i, stamp in enumerate(FOUR)]
STEADY = [f"{stamp},{i}" for i, stamp in enumerate(FOUR)]
BAD_FILES = {
    "empty file": ("", ["the file is empty"]),
    "empty first line": ("\n1,2\n", ["line 1", "the line is empty"]),
    "header only": (f"{H}\n", ["there are no rows"]),
    "header and blank lines": (f"{H}\n\n\n", ["there are no rows"]),
    "zero bytes": (b"\0" * 100, ["line 1", "not text in UTF-8"]),
    "binary": (bytes(range(128, 256)) * 9, ["line 1", "not text in UTF-8", "workbook must be exported"]),
    "latin-1 below": ((hours([1, 2, 3]) + "x,ü\n").encode("latin-1"), ["line 5", "not text in UTF-8"]),
    "no stamp column": (hours([1, 2], "when,load_kw"), ["no column of stamps", "timestamp", "when, load_kw"]),
    "no load column": (hours([1, 2], "ds,power"), ["no column of load", "Set load", "ds, power"]),
    "two load columns": (csv(["1,2,3"], "ds,load_kw,y"), ["load_kw and y", 'load = "load_kw"']),
    "one name twice": (csv(["1,2,3"], "ds,y,y"), ["y and y"]),
    "semicolons": (csv([f"{FOUR[0]};1"], "timestamp;load_kw"), ['Set separator = ";"']),
    "tabs": (csv([f"{FOUR[0]}\t1"], "timestamp\tload_kw"), [r'Set separator = "\t"']),
    "not a stamp": (csv([f"{FOUR[0]},1", "31.12.2024 10:00,2"]), ["line 3", "31.12.2024", "ISO 8601"]),
    "a word for a stamp": (csv(["today,1", "now,2"]), ["line 2", '"today" is not a date and time']),
    "hour 24": (csv([f"{FOUR[0]},1", "2024-01-01 24:00,2"]), ["line 3", '"2024-01-01 24:00"', "ISO 8601"]),
    "no such day": (csv([f"{FOUR[0]},1", "2024-02-30 00:00,2"]), ["line 3", "2024-02-30"]),
    "seconds since 1970": (csv(["1704067200,1", "1704070800,2"]), ["line 2", "1704067200", "ISO 8601"]),
    "stamp missing": (csv([f"{FOUR[0]},1", ",2"]), ["line 3", '"timestamp"', "there is no stamp"]),
    "NaT": (csv([f"{FOUR[0]},1", "NaT,2"]), ["line 3", '"NaT" is not a date']),
    "a far year": (csv([f"{FOUR[0]},1", "2924-01-01 01:00,2"]), ["line 3"]),
    "an early year": (csv([f"{FOUR[0]},1", "1024-01-01 01:00,2"]), ["line 3"]),
    "naive then aware": (csv([f"{FOUR[0]},1", f"{FOUR[1]}+01:00,2"]), ["line 3", "has an offset, unlike"]),
    "aware then naive": (csv([f"{FOUR[0]}Z,1", f"{FOUR[1]},2"]), ["line 3", "has no offset, unlike"]),
    "not a number": (hours([*TEN, "n/a"]), ["line 12", '"load_kw"', '"n/a" is not a number', "empty"]),
    "nan as text": (hours([1, "nan"]), ["line 3", '"nan" is not a number']),
    "truth values": (hours(["True", "False"]), ["line 2", '"True" is not a number']),
    "underscores": (hours([1, "1_000"]), ["line 3", '"1_000" is not a number']),
    "decimal comma": (hours([1, '"1,5"']), ["line 3", '"1,5" is not a number', 'decimal = ","']),
    "decimal comma without quotes": (hours([1, "1,5"]), ["line 3", "more cells than the header", "point"]),
    "first row longer": (hours(["1,5", "2,5"]), ["line 2", "more cells than the header, which has 2"]),
    "row much longer": (hours([1, "1,5,6,7"]), ["line 3", "more cells than the header, which has 2"]),
    "thousands": (hours(['"1,234.5"', 1]), ["line 2", "thousands"]),
    "open quote": (hours([1, '"2']), ["quotation mark"]),
    "infinite": (hours([1, 2, "inf"]), ["line 4", '"load_kw"', "infinite"]),
    "infinite among text": (hours([1, "Infinity", " 3"]), ["line 3", "infinite"]),
    "negative": (hours([1, 2, -0.5]), ["line 4", '"load_kw"', "negative", 'negative = "allow"']),
    "off the grid": (csv([*STEADY, "2024-01-01 03:07,9"]), ["line 6", "03:07", "grid of 1 h"]),
    "first off the grid": (csv(["2023-12-31 23:59,9", *STEADY]), ["line 2", "23:59"]),
    "off a grid of half past": (csv(["2023-12-31 23:07,9", *HALF_PAST]), ["line 2", "23:07", "(1 such rows)"]),
    "one row": (hours([1]), ["line 2", "fewer than 2 rows"]),
    "constant": (hours([5, 5, "", 5]), ['"load_kw"', 'site "plant"', "every reading is 5 kW"]),
    "all missing": (hours(["", "", ""]), ['"load_kw"', 'site "plant"', "every reading is missing"]),
    "site missing": (csv([f"a,{FOUR[0]},1", f",{FOUR[1]},2"], "site,ds,y"), ["line 3", "names no site"]),
    "one row of a site": (csv([*("a," + x for x in STEADY), "b,20240101,2"], "site,ds,y"), ["line 6", "few"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_clear_error(write, case: str) -> None:
    content, parts = BAD_FILES[case]
    with pytest.raises(DataError) as caught:
        read(write(content), UTC)
    error = caught.value
    assert error.where.startswith(str(write(content)))
    assert error.remedy
    for part in parts:
        assert part in str(error)


@pytest.mark.parametrize(("step", "shown"), [("2h", "2 h"), ("1D", "1 day"), ("7min", "7 min"), ("10s", "10 s")])
def test_other_steps_are_refused(step: str, shown: str) -> None:
    stamps = pd.date_range("2024-01-01", periods=5, freq=step, tz="UTC")
    with pytest.raises(DataError, match=rf"step of {shown} is not supported.*5 min, 10 min, 15 min, 30 min, 1 h"):
        from_frame(frame_of(stamps, range(5)), UTC)


def test_a_span_of_centuries_is_a_mistyped_year() -> None:
    stamps = pd.DatetimeIndex([*pd.date_range("2024-01-01", periods=3, freq="5min"), pd.Timestamp("2150-01-01")])
    with pytest.raises(DataError, match=r"row 3.*10,000,000.*year"):
        from_frame(frame_of(stamps, range(4)), UTC)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: there is no such file"):
        read(tmp_path / "nowhere.csv", UTC)
    with pytest.raises(DataError, match="this is a directory"):
        read(tmp_path, UTC)


def test_stamps_without_a_zone_ask_for_one(write) -> None:
    with pytest.raises(DataError, match=r'column "timestamp".*no timezone is set.*timezone = "Europe/Berlin"'):
        read(write(hours([1, 2])), Layout())


def test_an_unknown_zone_is_named_with_close_ones(write) -> None:
    with pytest.raises(DataError, match=r'timezone: there is no time zone "Europe/Berln".*Europe/Berlin'):
        read(write(hours([1, 2])), Layout(timezone="Europe/Berln"))
    with pytest.raises(DataError, match=r'plant\.csv, calendar: there is no time zone "Berln".*Berlin'):
        read(write(hours([1, 2])), Layout(timezone="UTC", calendar="Berln"))


def test_units_that_are_not_known(write) -> None:
    with pytest.raises(DataError, match=r'column "load_kw".*unit "GWh" is not known.*"kWh" or "MWh"'):
        read(write(hours([1, 2])), Layout(timezone="UTC", unit="GWh"))
    with pytest.raises(DataError, match=r'column "load": the unit of the load is not known.*unit = "kWh"'):
        read(write(hours([1, 2], "ds,load")), UTC)


def test_columns_that_are_not_there(write) -> None:
    path = write(hours([1, 2]))
    for key in ("site", "timestamp", "load"):
        with pytest.raises(DataError, match=f'no column "other".*Set {key} .*timestamp, load_kw'):
            read(path, Layout(timezone="UTC", **{key: "other"}))
    with pytest.raises(DataError, match=r'no column "temp".*Set covariates .*timestamp, load_kw'):
        read(path, Layout(timezone="UTC", covariates=("temp",)))
    with pytest.raises(DataError, match=r'column "timestamp".*used twice'):
        read(path, Layout(timezone="UTC", covariates=("timestamp",)))


def test_covariates_must_be_numbers(write) -> None:
    path = write(csv([f"{FOUR[0]},1,1,3", f"{FOUR[1]},2,warm,4"], "ds,y,temp,load_kw"))
    with pytest.raises(DataError, match=r'line 3, column "temp": "warm" is not a number'):
        read(path, Layout(timezone="UTC", load="y", covariates=("temp",)))
    with pytest.raises(DataError, match=r'column "load_kw": a covariate cannot have this name'):
        read(path, Layout(timezone="UTC", load="y", covariates=("load_kw",)))


def test_a_site_that_is_not_there(write) -> None:
    path = write(csv([f"{site},{x},{i}" for site in ("mill", "dairy") for i, x in enumerate(FOUR)], "site,ds,y"))
    with pytest.raises(DataError, match=r'column "site": there is no site "mil".*Did you mean mill\?'):
        read(path, UTC, site="mil")
    with pytest.raises(DataError, match=r"mill or dairy\? There are 2 sites"):
        read(path, UTC, site="zzz")


def test_the_only_site_of_a_file_may_have_another_name_where_it_is_alone(write) -> None:
    path = write(csv([f"mill,{x},{i}" for i, x in enumerate(FOUR)], "site,ds,y"))
    assert list(read(path, UTC, site="plant-a", alone=True)) == ["plant-a"]
    with pytest.raises(DataError, match='there is no site "plant-a"'):
        read(path, UTC, site="plant-a")
    two = write(csv([f"{site},{x},{i}" for site in ("mill", "dairy") for i, x in enumerate(FOUR)], "site,ds,y"))
    with pytest.raises(DataError, match='there is no site "plant-a"'):
        read(two, UTC, site="plant-a", alone=True)


def test_a_comma_that_was_set_and_a_point_in_the_file(write) -> None:
    layout = Layout(timezone="UTC", separator=";", decimal=",")
    with pytest.raises(DataError, match=r'line 3.*"1\.234,5" is not a number.*thousands'):
        read(write(csv([f"{FOUR[0]};1", f"{FOUR[1]};1.234,5"], "ds;y")), layout)
    with pytest.raises(DataError, match=r'line 3.*"1\.5" is not a number'):
        read(write(csv([f"{FOUR[0]};1,5", f"{FOUR[1]};1.5"], "ds;y")), layout)


def test_bad_cells_of_frames_are_named_by_position() -> None:
    frame = frame_of(FOUR, [1, 2, "x", 4]).set_axis([9, 9, 9, 9], axis=0)
    with pytest.raises(DataError, match=r'frame, row 2, column "load_kw": "x" is not a number'):
        from_frame(frame, UTC)
    with pytest.raises(DataError, match=r'memory, row 1, column "timestamp": there is no stamp'):
        from_frame(frame_of(pd.DatetimeIndex([FOUR[0], None]), [1, 2]), UTC, source="memory")
    with pytest.raises(DataError, match=r"row 0.*stamps are plain numbers"):
        from_frame(frame_of([1704067200, 1704070800], [1, 2]), UTC)
    with pytest.raises(DataError, match=r"row 1.*\[3\].*is not a number"):
        from_frame(frame_of(FOUR[:2], [1, [3]]), UTC)
    with pytest.raises(DataError, match=r"row 1.*1900 to 2199"):
        from_frame(frame_of(np.array(["2024-01-01", "9999-01-01"], "datetime64[s]"), [1, 2]), UTC)


@pytest.mark.parametrize(
    "option",
    [
        {"negative": "maybe"},
        {"duplicates": "last"},
        {"ambiguous": "no"},
        {"separator": ";;"},
        {"decimal": "x"},
    ],
)
def test_options_that_do_not_exist(option: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        Layout(**option)  # type: ignore[arg-type]


def test_a_federation_file_can_say_every_option() -> None:
    options = {field.name for field in fields(Layout)} - {"site", "covariates"}  # the column; the task's
    assert options | {"site_column"} <= set(DataTable.__struct_fields__)


def test_errors_survive_a_process_boundary(write) -> None:
    with pytest.raises(DataError) as caught:
        read(write("x\n1\n"), UTC)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


# --- Parquet --------------------------------------------------------------------------------------------


def parquet(path: Path, frame: pd.DataFrame) -> Path:
    fastparquet.write(str(path), frame)
    return path


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_parquet_reads_as_the_frame_it_was_written_from(tmp_path: Path, zone: str | None) -> None:
    stamps = pd.date_range("2024-01-01", periods=48, freq="30min", tz=zone)
    frame = pd.concat(
        pd.DataFrame({"site": site, "timestamp": stamps, "load_mw": np.arange(48, dtype=np.float32) + i, "t": i})
        for i, site in enumerate("ab")
    )
    frame["site"] = frame["site"].astype("category")
    layout = Layout(timezone="Europe/Berlin", covariates=("t",))
    sites = read(parquet(tmp_path / "sites.parquet", frame), layout)
    expected = from_frame(frame, layout)
    assert list(sites) == ["a", "b"]
    assert all(same(sites[site], expected[site]) for site in "ab")
    assert sites["b"].data["load_kw"].iloc[2] == 3000
    assert sites["a"].data.index[0] == pd.Timestamp("2024-01-01", tz=zone or "Europe/Berlin")


def test_parquet_in_utc_without_the_metadata_of_pandas(tmp_path: Path) -> None:
    stamps = pd.date_range("2024-03-31", periods=4, freq="1h", tz="UTC")
    path = parquet(tmp_path / "bare.parquet", frame_of(stamps, [1.0, 2.0, 3.0, 4.0]))
    fastparquet.update_file_custom_metadata(str(path), {"pandas": None})
    load = one(read(path, BERLIN))
    assert load.data.index[0] == stamps[0]


def test_damaged_parquet(tmp_path: Path) -> None:
    good = parquet(tmp_path / "good.parquet", frame_of(pd.date_range("2024-01-01", periods=99, freq="1h"), range(99)))
    raw = good.read_bytes()
    for name, content in {
        "cut": raw[: len(raw) // 2],
        "head": raw[:4],
        "tail": b"PAR1" + bytes(60) + raw[-200:],
        "text": b"timestamp,load_kw\n",
    }.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}\.parquet: the Parquet file is damaged"):
            read(path, UTC)


def test_parquet_errors_name_the_row(tmp_path: Path) -> None:
    frame = frame_of(pd.date_range("2024-01-01", periods=5, freq="1h"), [1.0, 2.0, -3.0, 4.0, 5.0])
    with pytest.raises(DataError, match=r'bad\.parquet, row 2, column "load_kw": the load is negative'):
        read(parquet(tmp_path / "bad.parquet", frame), UTC)
    with pytest.raises(DataError, match=r"Set load .*timestamp, power"):
        read(parquet(tmp_path / "none.parquet", frame.set_axis(["timestamp", "power"], axis=1)), UTC)


# --- resample and window --------------------------------------------------------------------------------


def quarters(start: str = "2024-01-01", values: object = range(1, 13), zone: str = "Europe/Berlin") -> SiteLoad:
    stamps = pd.date_range(start, periods=len(list(values)), freq="15min", tz=zone)  # type: ignore[call-overload]
    return one(from_frame(frame_of(stamps, list(values)).assign(t=2.0), Layout(timezone=zone, covariates=("t",))))


def test_resample_takes_the_mean_power() -> None:
    hourly = resample(quarters(), "1h")
    assert hourly.data["load_kw"].tolist() == [2.5, 6.5, 10.5]
    assert hourly.data["t"].tolist() == [2.0, 2.0, 2.0]
    assert hourly.step == pd.Timedelta("1h")
    assert hourly.data.index.name == "ds"
    assert resample(quarters(), pd.Timedelta("30min")).data["load_kw"].tolist() == [
        1.5,
        3.5,
        5.5,
        7.5,
        9.5,
        11.5,
    ]


def test_resample_misses_an_interval_with_a_missing_reading() -> None:
    hourly = resample(quarters(values=[1, 2, 3, 4, 5, None, 7, 8, 9, 10, 11, 12]), "1h")
    assert hourly.data["load_kw"].isna().tolist() == [False, True, False]
    assert hourly.data["t"].tolist() == [2.0, 2.0, 2.0]


def test_resample_keeps_to_full_local_hours() -> None:
    # Kolkata is half an hour off, so its hours start at half past in UTC; the cut ends are missing.
    hourly = resample(quarters("2024-01-01 00:15", zone="Asia/Kolkata"), "1h")
    assert hourly.data.index[0] == pd.Timestamp("2024-01-01 00:00", tz="Asia/Kolkata")
    np.testing.assert_array_equal(hourly.data["load_kw"], [np.nan, 5.5, 9.5, np.nan])


def test_resample_to_the_same_step_changes_nothing() -> None:
    load = quarters()
    assert resample(load, "15min") is load


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("5min", "readings of 15 min do not make up intervals of 5 min"),
        ("2h", '"2h" is not a step that is supported.*5 min, 10 min'),
        ("soon", '"soon" is not a step'),
        ("NaT", '"NaT" is not a step'),
    ],
)
def test_resample_to_steps_that_cannot_be(step: str, message: str) -> None:
    with pytest.raises(DataError, match=f"site frame: {message}"):
        resample(quarters(), step)


def test_resample_to_a_step_that_does_not_divide() -> None:
    stamps = pd.date_range("2024-01-01", periods=6, freq="10min", tz="UTC")
    with pytest.raises(DataError, match="readings of 10 min do not make up intervals of 15 min"):
        resample(one(from_frame(frame_of(stamps, range(6)), UTC)), "15min")


def test_window_is_in_local_days_and_leaves_out_its_end() -> None:
    load = quarters("2024-03-30", range(4 * 24 * 4))
    day = window(load, "2024-03-31", "2024-04-01").data
    assert len(day) == 23 * 4
    assert day.index[0] == pd.Timestamp("2024-03-31", tz="Europe/Berlin")
    assert day.index.freq == pd.Timedelta("15min")
    assert same(window(load, None, None), load)
    assert len(window(load, pd.Timestamp("2024-04-01").date(), None).data) == 4 * 24 * 4 - 24 * 4 - 23 * 4


def test_window_where_midnight_does_not_exist() -> None:
    # Lebanon leaps from 00:00 to 01:00 on 2024-03-31.
    load = quarters("2024-03-30", range(200), zone="Asia/Beirut")
    assert window(load, "2024-03-31", None).data.index[0] == pd.Timestamp("2024-03-31 01:00", tz="Asia/Beirut")


@pytest.mark.parametrize(("start", "end"), [("2025-01-01", None), (None, "2023-01-01"), ("2024-01-02", "2024-01-02")])
def test_an_empty_window_says_what_there_is(start: str | None, end: str | None) -> None:
    message = r"site frame: there is no reading.*2024-01-01 00:00\+01:00 to 2024-01-02 00:45\+01:00"
    with pytest.raises(DataError, match=message):
        window(quarters(values=range(100)), start, end)


@pytest.mark.parametrize("text", ["yesterday", "2024-02-30", "2024-01-01 10:00", "9999-01-01"])
def test_a_window_needs_dates(text: str) -> None:
    with pytest.raises(ConfigError, match=r'start: ".*" is not a date.*2024-03-31'):
        window(quarters(), text, None)


# --- round trips and size -------------------------------------------------------------------------------


@st.composite
def loads(draw: st.DrawFn) -> SiteLoad:
    zone = draw(st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]))
    step = draw(st.sampled_from(["5min", "10min", "15min", "30min", "1h"]))
    day = draw(st.sampled_from(["2024-03-09", "2024-03-30", "2024-04-06", "2024-10-05", "2024-10-26", "2024-11-02"]))
    value = st.none() | st.floats(0, 1e6, allow_subnormal=False)
    values = draw(st.lists(value, min_size=3, max_size=80).filter(lambda x: len(set(x) - {None}) > 1))
    # Midnight of the day before a change of the clock: short series end before it, long ones run over it.
    stamps = pd.date_range(day, periods=len(values), freq=step, tz=zone)
    data = pd.DataFrame({"timestamp": stamps, "load_kw": pd.array(values, dtype="Float64")})
    return one(from_frame(data, Layout(timezone=zone), site=draw(st.sampled_from(["a", "7", "site, one", 'q"']))))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(loads(), st.sampled_from(["naive", "offset", "utc"]), st.randoms(use_true_random=False))
def test_what_is_written_is_read_back(tmp_path: Path, load: SiteLoad, stamps: str, random) -> None:
    zone = "UTC" if stamps == "utc" else load.zone
    local = load.data.index.tz_convert(zone)
    local = local.tz_localize(None) if stamps == "naive" else local
    table = pd.DataFrame({"site": load.site, "timestamp": local.map(str), "load_kw": load.data["load_kw"].to_numpy()})
    if stamps != "naive":  # without an offset, only the order tells the repeated hours apart
        table = table.sample(frac=1, random_state=random.randrange(1000))
    path = tmp_path / "load.csv"
    table.to_csv(path, index=False)
    back = read(path, Layout(timezone=load.zone))[load.site]
    # The text of a float is parsed to within one unit in the last place.
    pd.testing.assert_frame_equal(back.data, load.data, rtol=1e-14, atol=0)
    assert (back.zone, back.step) == (load.zone, load.step)


def test_a_million_rows_of_forty_sites(tmp_path: Path) -> None:
    stamps = pd.date_range("2021-01-01", periods=25_000, freq="1h", tz="Europe/Berlin").tz_localize(None)
    values = np.tile(np.arange(25_000) % 24, 40)
    rows = pd.DataFrame(
        {
            "unique_id": np.repeat([f"s{i}" for i in range(40)], 25_000),
            "ds": np.tile(stamps.map(str), 40),
            "y": values,
        }
    )
    path = tmp_path / "many.csv"
    rows.to_csv(path, index=False)
    start = time.perf_counter()
    sites = read(path, BERLIN)
    seconds = time.perf_counter() - start
    assert len(sites) == 40
    assert sum(load.data["load_kw"].sum() for load in sites.values()) == values.sum()
    assert seconds < 20  # about 1 s; the bound is for a slow, busy machine
