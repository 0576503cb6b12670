"""The artificial load against sums that can be done by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fedstill.cli.data import data
from fedstill.energy.frame import Layout, SiteLoad, from_frame
from fedstill.energy.heterogeneity import Heterogeneity, heterogeneity
from fedstill.energy.profile import profile
from fedstill.energy.skew import FACTORS, Skew, parse_skew
from fedstill.energy.synthetic import (
    QUARTERS_PER_STEP,
    QUARTERS_PER_YEAR,
    SiteModel,
    draw,
    render,
    sites,
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


# --- skew by factors ------------------------------------------------------------------------------------

LARGEST_MEANS = {
    "level": 0.43, "swing": 0.33, "daily": 0.47, "weekly": 0.40, "season": 0.38, "weather": 0.48, "noise": 0.32,
}  # fmt: skip
"""Mean distance by factor of the most varied real set (docs/heterogeneity.md)."""


@cache
def unlike(skew: float | Skew, seed: int = 0, n: int = 8) -> Heterogeneity:
    return heterogeneity([profile(site) for site in sites(n, skew, days=366, seed=seed).values()])


def test_the_seeds_of_older_versions_give_the_same_load() -> None:
    frame = synthetic(3, 30, seed=4)
    assert frame["unique_id"].unique().tolist() == [f"synthetic-0{n}-shift" for n in ("1-three", "2-two", "3-two")]
    assert frame["y"].sum() == pytest.approx(1480046.223, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_measured_index_grows_with_the_skew(seed: int) -> None:
    indices = [unlike(skew, seed).index or 0 for skew in (0, 0.25, 0.5, 0.75, 1)]
    assert indices[0] < 0.03
    assert all(b > a for a, b in pairwise(indices)), indices
    assert indices[-1] > 0.2


@pytest.mark.parametrize("factor", FACTORS)
def test_a_factor_is_skewed_by_its_own_name(factor: str) -> None:
    none, half, full = (unlike(Skew(**{factor: skew})).means[factor] or 0 for skew in (0.0, 0.5, 1.0))
    assert none < 0.05
    assert none < half < full
    assert full > 0.12


def test_skew_1_is_about_as_unlike_as_real_sites_are() -> None:
    found = [unlike(1, seed, n=16).means for seed in range(2)]
    for factor, largest in LARGEST_MEANS.items():
        mean = np.mean([one[factor] or 0 for one in found])
        assert 0.5 * largest < mean < 1.25 * largest, (factor, mean)


def test_sites_are_the_frame_ready_for_a_federation() -> None:
    by = Skew.all(0.7, history=1.0)
    made = sites(4, by, days=60, step="30min", seed=3)
    layout = Layout(timezone="Europe/Berlin", covariates=("temperature_c",))
    read = from_frame(synthetic(4, 60, "30min", seed=3, skew=by), layout)
    assert made.keys() == read.keys()
    for name, site in made.items():
        pd.testing.assert_frame_equal(site.data, read[name].data)
        assert site.zone == read[name].zone
        assert any("nothing was measured" in note for note in site.notes)


def test_a_skew_of_history_takes_the_first_days_away() -> None:
    whole, cut = (sites(12, Skew(history=skew), days=100, seed=1) for skew in (0, 1))
    lengths = []
    for name, site in cut.items():
        pd.testing.assert_frame_equal(site.data, whole[name].data.iloc[-len(site.data) :], check_freq=False)
        assert site.data.index[0].tz_convert("Europe/Berlin").hour == 0
        lengths.append(profile(site).history_days)
    assert 10 <= min(lengths) < 30
    assert 60 < max(lengths) <= 100
    assert {len(site.data) for site in whole.values()} == {len(sites(1, 0, days=100)["synthetic-01-two-shift"].data)}


def test_a_number_is_the_same_skew_of_every_factor_but_history() -> None:
    by = Skew.all(0.4)
    assert {getattr(by, factor) for factor in FACTORS if factor != "history"} == {0.4}
    assert by.history == 0
    for one, other in zip(sites(2, 0.4, days=3).values(), sites(2, by, days=3).values(), strict=True):
        pd.testing.assert_frame_equal(one.data, other.data)


def test_large_federations_can_be_made() -> None:
    made = sites(300, 0.5, days=2)
    assert len(made) == 300
    assert len({site.data["load_kw"].sum() for site in made.values()}) == 300


@given(seed=st.integers(0, 2**32), skew=st.floats(0, 1))
def test_every_site_that_a_skew_draws_can_be(seed: int, skew: float) -> None:
    model = draw(np.random.default_rng(seed), Skew.all(skew))
    assert min(model.base_kw, model.heating_kw_per_k, model.cooling_kw_per_k) > 0
    assert 0 <= model.noise < 0.5
    assert abs(model.season) < 1
    assert model.heating_balance_c < model.cooling_balance_c


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0.5", 0.5),
        ("all=0.5", Skew.all(0.5)),
        ("level=1, daily=0.5", Skew(level=1.0, daily=0.5)),
        ("all=0.5,level=0,history=1", replace(Skew.all(0.5, history=1.0), level=0.0)),
    ],
)
def test_a_skew_can_be_written(text: str, meant: float | Skew) -> None:
    assert parse_skew(text) == meant


@pytest.mark.parametrize(
    ("text", "where", "remedy"),
    [
        ("a lot", "skew", "level=1,daily=0.5"),
        ("weakly=1", "skew", "Did you mean weekly?"),
        ("colour=1", "skew", "There are: all, level"),
        ("level=", "skew, level", "number from 0 to 1"),
        ("level=1.5", "skew, level", "number from 0 to 1"),
        ("noise=nan", "skew, noise", "number from 0 to 1"),
    ],
)
def test_what_is_no_skew_is_refused(text: str, where: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_skew(text)
    assert caught.value.where == where
    assert remedy in caught.value.remedy


def test_the_command_line_takes_a_skew_by_factors(tmp_path: Path) -> None:
    out = tmp_path / "load.csv"
    command = ["synthetic", str(out), "--sites", "3", "--days", "20", "--skew", "all=0.5,history=1"]
    told = CliRunner().invoke(data, command)
    assert told.exit_code == 0, told.output
    written = pd.read_csv(out, parse_dates=["ds"])
    expected = synthetic(3, 20, skew=Skew.all(0.5, history=1.0))
    pd.testing.assert_frame_equal(written, expected, check_dtype=False)
    assert len(expected) < 3 * 480
    refused = CliRunner().invoke(data, [*command[:-1], "daly=1", "--force"])
    assert isinstance(refused.exception, ConfigError)
    assert refused.exception.remedy == "Did you mean daily?"


def test_a_skew_must_be_a_number() -> None:
    with pytest.raises(ConfigError, match="'much' cannot be"):
        Skew(level="much")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="True cannot be"):
        sites(2, True)


# --- real weather ------------------------------------------------------------------------------------------


def outside(days: int, step: str = "1h", **columns: np.ndarray | float) -> SiteLoad:
    """Weather from 1 January 2016 on, by the clock of Berlin."""
    begin = pd.Timestamp("2016-01-01", tz="Europe/Berlin").tz_convert("UTC")
    index = pd.date_range(begin, periods=days * int(pd.Timedelta("1D") / pd.Timedelta(step)), freq=step, name="ds")
    return SiteLoad("weather", pd.DataFrame(columns, index=index, dtype=np.float64), "Europe/Berlin")


def test_load_follows_the_weather_that_is_given() -> None:
    """Ten kelvin less are ten times the heating slope more, but for the noise that both have."""
    mild, cold = (sites(1, 0.0, days=5, weather=outside(5, temperature_c=here)) for here in (10.0, 0.0))
    (one,), (other,) = mild.values(), cold.values()
    assert set(one.data["temperature_c"]) == {10.0}
    model = SiteModel()
    night = one.data.index.tz_convert("Europe/Berlin").hour == 2  # outside the shifts there is base and heating alone
    expected = (model.base_kw + model.heating_kw_per_k * 15) / (model.base_kw + model.heating_kw_per_k * 5)
    ratio = (other.data["load_kw"] / one.data["load_kw"])[night]
    assert ratio.to_numpy() == pytest.approx(expected, rel=0.01)


def test_other_columns_are_taken_and_the_temperature_is_made() -> None:
    wind = np.arange(5 * 24.0)
    (site,) = sites(1, days=5, weather=outside(5, wind=wind)).values()
    (plain,) = sites(1, days=5).values()
    assert site.data["wind"].tolist() == wind.tolist()
    pd.testing.assert_frame_equal(site.data[["load_kw", "temperature_c"]], plain.data)
    assert site.data.index.freq is not None


@pytest.mark.parametrize("step", ["15min", "30min", "1h"])
def test_finer_weather_is_averaged_to_the_step(step: str) -> None:
    quarters = np.arange(3 * 96.0)
    (site,) = sites(1, days=3, step=step, weather=outside(3, "15min", temperature_c=quarters)).values()
    assert site.data["temperature_c"].tolist() == quarters.reshape(-1, QUARTERS_PER_STEP[step]).mean(axis=1).tolist()


def test_where_the_weather_is_missing_the_load_is() -> None:
    (site,) = sites(1, 0.0, days=5, weather=outside(3, temperature_c=0.0)).values()
    assert site.data["load_kw"].isna().tolist() == [False] * 72 + [True] * 48
