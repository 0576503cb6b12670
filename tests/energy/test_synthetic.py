"""The artificial load against sums that can be done by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill.energy.synthetic import (
    QUARTERS_PER_YEAR,
    SiteModel,
    draw,
    render,
    synthetic,
    weather,
    working,
)
from fedstill.errors import ConfigError
from fedstill.labels import Array

BERLIN = "Europe/Berlin"

STEADY = SiteModel(
    base_kw=100,
    process_kw=300,
    shifts=1,
    start_hour=6,
    days_per_week=5,
    lunch_dip=0,
    season=0,
    heating_kw_per_k=0,
    cooling_kw_per_k=0,
    closures=(),
    noise=0,
    stops_per_year=0,
)
"""100 kW, and 400 kW on Monday to Friday from 6 to 14 o'clock."""


def quarters(start: str, days: int) -> pd.DatetimeIndex:
    end = pd.Timestamp(start) + pd.Timedelta(days=days)
    return pd.date_range(start, end, freq="15min", inclusive="left", tz=BERLIN, unit="ns")


def load(model: SiteModel, start: str = "2016-01-04", days: int = 7, region_c: float = 18.0) -> pd.Series:
    """Quarter-hourly load; 4 January 2016 is a Monday, and 18 °C ask for neither heat nor cold."""
    index = quarters(start, days)
    region = np.full(len(index), region_c)
    return pd.Series(render(model, index, region, np.random.default_rng(1), np.random.default_rng(2)), index)


def test_one_shift_on_five_days() -> None:
    hourly = load(STEADY).to_numpy().reshape(7, 24, 4)
    for day in hourly[:5]:
        assert (day[:6] == 100).all()
        assert (day[6:14] == 400).all()
        assert (day[14:] == 100).all()
    assert (hourly[5:] == 100).all()
    assert hourly.sum() / 4 == 7 * 24 * 100 + 5 * 8 * 300  # kWh


@pytest.mark.parametrize(("shifts", "hours"), [(1, 8), (2, 16), (3, 24)])
@pytest.mark.parametrize("days_per_week", [5, 6, 7])
def test_a_week_has_its_shifts(shifts: int, hours: int, days_per_week: int) -> None:
    model = replace(STEADY, shifts=shifts, days_per_week=days_per_week)
    index = quarters("2016-01-04", 14)[24:-648]  # one week from Monday 06:00 on
    assert len(index) == 7 * 96
    assert working(model, index).sum() / 4 == hours * days_per_week


def test_the_night_shift_belongs_to_the_day_on_which_work_began() -> None:
    series = load(replace(STEADY, shifts=3))
    assert series["2016-01-04 05:45"].item() == 100  # Monday morning: nobody began on Sunday
    assert series["2016-01-04 06:00"].item() == 400
    assert series["2016-01-09 05:45"].item() == 400  # Saturday morning: Friday's night shift
    assert series["2016-01-09 06:00"].item() == 100


def test_lunch() -> None:
    monday = load(replace(STEADY, lunch_dip=0.2), days=1)
    assert (monday.between_time("12:00", "12:45") == 100 + 300 * 0.8).all()
    assert (monday.between_time("06:00", "11:45") == 400).all()
    assert (monday.between_time("13:00", "13:45") == 400).all()


def test_shifts_follow_the_wall_clock_over_the_change_to_summer_time() -> None:
    series = load(STEADY, "2016-03-25", 5)  # Friday to Tuesday; the clock changes on Sunday the 27th
    starts = series.index[(series == 400) & (series.shift(1) == 100)].tz_convert("UTC")
    assert [f"{start:%a %H:%M}" for start in starts] == ["Fri 05:00", "Mon 04:00", "Tue 04:00"]
    assert len(series) == 4 * (5 * 24 - 1)


def test_heating_and_cooling_are_straight_lines_with_a_dead_band() -> None:
    model = replace(
        STEADY,
        days_per_week=0,
        heating_kw_per_k=3,
        heating_balance_c=15,
        cooling_kw_per_k=5,
        cooling_balance_c=21,
    )
    assert load(model, region_c=-5).unique().tolist() == [100 + 3 * 20]
    assert load(model, region_c=15).unique().tolist() == [100]
    assert load(model, region_c=21).unique().tolist() == [100]
    assert load(model, region_c=31).unique().tolist() == [100 + 5 * 10]
    warmer = replace(model, temperature_offset_k=2)
    assert load(warmer, region_c=31).unique().tolist() == [100 + 5 * 12]


def test_load_follows_the_heating_degrees() -> None:
    index = quarters("2016-01-01", 366)
    region = weather(index, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    degrees = np.maximum(0, 15 - region)
    cold = render(replace(STEADY, heating_kw_per_k=20, noise=0.05), index, region, rng, rng)
    indifferent = render(replace(STEADY, noise=0.05), index, region, rng, rng)
    assert np.corrcoef(cold, degrees)[0, 1] > 0.6
    assert abs(np.corrcoef(indifferent, degrees)[0, 1]) < 0.2


def test_season_is_highest_in_mid_january_and_lowest_half_a_year_later() -> None:
    year = load(replace(STEADY, season=0.1, shifts=3, days_per_week=7), "2016-01-01", 366)
    assert year["2016-01-15 00:00"].item() == pytest.approx(100 + 300 * 1.1)
    assert year.min() == pytest.approx(100 + 300 * 0.9, abs=0.01)
    assert f"{year.idxmin():%m}" == "07"


def test_company_holidays_run_over_new_year() -> None:
    model = replace(STEADY, days_per_week=7, closures=((12, 24, 9), (8, 1, 14)))
    working_days = load(model, "2016-01-01", 366).resample("D").max() == 400
    closed = [f"{day:%m-%d}" for day in working_days.index[~working_days]]
    # 24 December and the eight days after it: 1 January of the next year, and of this year for the last.
    assert closed == ["01-01"] + [f"08-{d:02d}" for d in range(1, 15)] + [f"12-{d}" for d in range(24, 32)]


def test_growth_is_compound_and_yearly() -> None:
    years = load(replace(STEADY, days_per_week=0, growth_per_year=0.1), "2014-01-01", 1461)  # 4 x 365.25 days
    assert years.iloc[0] == 100
    assert years.iloc[-1] * 1.1 ** (1 / QUARTERS_PER_YEAR) == pytest.approx(100 * 1.1**4)


def test_stops_take_the_process_and_leave_the_base() -> None:
    always = replace(STEADY, stops_per_year=QUARTERS_PER_YEAR, stop_hours=1)
    assert load(always).unique().tolist() == [100]
    rare = replace(STEADY, shifts=3, days_per_week=7, stops_per_year=4.0, stop_hours=3)
    stopped = load(rare, "2000-01-01", 14610) == 100  # 40 years
    begins = (stopped & ~stopped.shift(1, fill_value=False)).sum()
    assert 100 < begins < 220  # 160 expected; five standard deviations are 63
    assert stopped.sum() / begins == pytest.approx(12, rel=0.02)  # quarter hours


def test_noise_has_its_spread_its_memory_and_keeps_the_mean() -> None:
    noisy = load(replace(STEADY, days_per_week=0, noise=0.1, noise_hours=6), "2000-01-01", 3650)
    logs = np.log(noisy / 100)
    assert logs.std() == pytest.approx(0.1, rel=0.05)
    assert logs.autocorr(24) == pytest.approx(np.exp(-1), abs=0.05)  # 24 quarters are the time constant
    assert noisy.mean() == pytest.approx(100, rel=0.01)


def test_weather_has_a_year_and_a_day() -> None:
    index = quarters("2001-01-01", 3652)
    region = pd.Series(weather(index, np.random.default_rng(0)), index)
    assert region.mean() == pytest.approx(10, abs=0.5)
    by_month = region.groupby(index.month).mean()
    assert by_month.idxmin() == 1
    assert by_month.idxmax() == 7
    assert by_month.max() - by_month.min() == pytest.approx(20, abs=2)
    by_hour = region.groupby(index.hour).mean()
    assert by_hour.idxmax() in (14, 15)
    assert by_hour.max() - by_hour.min() == pytest.approx(8, abs=0.3)


def test_the_frame() -> None:
    frame = synthetic(n_sites=3, days=2)
    assert list(frame.columns) == ["unique_id", "ds", "y", "temperature_c"]
    assert str(frame["ds"].dtype) == "datetime64[ns, UTC]"
    assert len(frame) == 3 * 48
    assert frame["ds"].iloc[0] == pd.Timestamp("2015-12-31 23:00", tz="UTC")
    names = frame["unique_id"].unique()
    assert [name[:13] for name in names] == ["synthetic-01-", "synthetic-02-", "synthetic-03-"]
    assert all(name.endswith("-shift") for name in names)
    temperatures = frame["temperature_c"].to_numpy().reshape(3, 48)
    assert (temperatures == temperatures[0]).all()
    assert (frame["y"] > 0).all()


def test_same_seed_same_numbers() -> None:
    pd.testing.assert_frame_equal(synthetic(2, 3, seed=7), synthetic(2, 3, seed=7))
    assert not synthetic(2, 3, seed=7)["y"].equals(synthetic(2, 3, seed=8)["y"])


def test_a_site_does_not_depend_on_how_many_there_are_nor_on_what_comes_later() -> None:
    few = synthetic(2, 5)
    pd.testing.assert_frame_equal(few, synthetic(4, 5).iloc[: len(few)])
    longer = synthetic(2, 9)
    for name in few["unique_id"].unique():
        short, long = (frame[frame["unique_id"] == name].reset_index(drop=True) for frame in (few, longer))
        pd.testing.assert_frame_equal(short, long.iloc[: len(short)], rtol=0, atol=0.002)


def test_an_hour_is_the_mean_of_its_quarters() -> None:
    hours, quarter_hours = synthetic(2, 3, "1h"), synthetic(2, 3, "15min")
    means = quarter_hours["y"].to_numpy().reshape(-1, 4).mean(axis=1)
    np.testing.assert_allclose(hours["y"], means, atol=0.001)
    assert hours["ds"].tolist() == quarter_hours["ds"].iloc[::4].tolist()


def test_days_of_the_clock_change_have_23_and_25_hours() -> None:
    assert len(synthetic(1, 1, start="2016-03-27")) == 23
    assert len(synthetic(1, 1, start="2016-10-30")) == 25
    assert len(synthetic(1, 1, start="2016-03-27", zone="UTC")) == 24
    # In São Paulo the clock went forward at midnight: the day began at 01:00, which is 03:00 UTC.
    frame = synthetic(1, 1, start="2018-11-04", zone="America/Sao_Paulo")
    assert (len(frame), frame["ds"].iloc[0].hour) == (23, 3)


def test_skew_0_makes_sites_alike() -> None:
    assert draw(np.random.default_rng(1), 0) == draw(np.random.default_rng(2), 0)
    frame = synthetic(3, 28, skew=0)
    means = frame.groupby("unique_id")["y"].mean()
    assert means.max() / means.min() < 1.1  # noise and stops alone
    assert set(frame["unique_id"].str[13:]) == {"two-shift"}


def test_skew_1_makes_them_unlike() -> None:
    models = [draw(np.random.default_rng(number), 1) for number in range(40)]
    assert {model.shifts for model in models} == {1, 2, 3}
    assert {model.days_per_week for model in models} == {5, 6, 7}
    sizes = [model.process_kw for model in models]
    assert max(sizes) / min(sizes) > 8


@given(seed=st.integers(0, 2**64), skew=st.floats(0, 1))
def test_every_site_that_is_drawn_can_be(seed: int, skew: float) -> None:
    model = draw(np.random.default_rng(seed), skew)
    assert model.base_kw > 0
    assert 300 / 8 - 1e-9 <= model.process_kw <= 300 * 8 + 1e-9
    assert 0 <= model.lunch_dip <= 0.3 + 1e-9
    assert min(model.heating_kw_per_k, model.cooling_kw_per_k, model.stops_per_year) >= -1e-9
    assert model.heating_balance_c < model.cooling_balance_c
    assert min(model.noise, model.noise_hours, model.stop_hours) > 0
    assert model.start_hour + 8 * min(model.shifts, 2) <= 24


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"n_sites": 0}, "n_sites"),
        ({"days": 0}, "days"),
        ({"days": 10**9}, "n_sites x days"),
        ({"seed": -1}, "seed"),
        ({"skew": 1.1}, "skew"),
        ({"skew": float("nan")}, "skew"),
        ({"step": "5min"}, "step"),
        ({"start": "1.1.2016"}, "start"),
        ({"start": "1016-01-01"}, "start"),
        ({"start": "2199-12-31", "days": 400}, "start"),
        ({"zone": "Europe/Atlantis"}, "zone"),
        ({"zone": "../etc"}, "zone"),
        ({"zone": ""}, "zone"),
    ],
)
def test_what_cannot_be_is_named(arguments: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        synthetic(**arguments)  # type: ignore[arg-type]
    assert caught.value.where == where
    assert caught.value.remedy


def test_progress_is_told_for_each_site() -> None:
    told: list[int] = []
    synthetic(3, 1, on_progress=told.append)
    assert told == [1, 1, 1]


def test_noise_free_rendering_ignores_its_streams() -> None:
    index = quarters("2016-01-04", 1)
    region: Array = np.full(len(index), 18.0)
    one, two = (render(STEADY, index, region, *map(np.random.default_rng, pair)) for pair in ((1, 2), (3, 4)))
    np.testing.assert_array_equal(one, two)
