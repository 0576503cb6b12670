"""Profiles and distances against numbers that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill.energy.frame import SiteLoad, window
from fedstill.energy.heterogeneity import LANDMARKS, SPANS, Profile, heterogeneity
from fedstill.energy.profile import profile
from fedstill.energy.skew import FACTORS
from fedstill.labels import Array

FLAT = Profile(
    level_kw=100.0,
    swing=0.5,
    load_factor=0.5,
    daily=(1.0,) * 24,
    weekly=(1.0,) * 7,
    season=(1.0,) * 12,
    heating_per_k=0.0,
    cooling_per_k=0.0,
    noise=0.1,
    strength=0.8,
    history_days=100.0,
)


def site(y: Array, start: str = "2016-01-04", zone: str = "UTC", step: str = "1h", **columns: Array) -> SiteLoad:
    """A site whose first reading is at local midnight; 4 January 2016 is a Monday."""
    begin = pd.Timestamp(start, tz=zone).tz_convert("UTC")
    index = pd.date_range(begin, periods=len(y), freq=step, name="ds", unit="ns")
    return SiteLoad("a", pd.DataFrame({"load_kw": y, **columns}, index=index).astype(float), zone)


def shift(weeks: int) -> Array:
    """100 kW, and 400 kW on Monday to Friday from 6 to 14 o'clock."""
    day = np.full(24, 100.0)
    day[6:14] = 400.0
    return np.tile(np.concatenate([np.tile(day, 5), np.full(48, 100.0)]), weeks)


# --- the profile of a site ------------------------------------------------------------------------------


def test_one_shift_by_hand() -> None:
    found = profile(site(shift(3)))
    mean = (168 * 100 + 40 * 300) / 168
    assert found.level_kw == pytest.approx(mean)
    assert found.load_factor == pytest.approx(mean / 400)
    assert found.swing == pytest.approx(300 * math.sqrt(40 / 168 * 128 / 168) / mean)
    # A working day has 24 x 100 + 8 x 300 kWh, 200 kW on average.
    assert found.daily == pytest.approx([0.5] * 6 + [2.0] * 8 + [0.5] * 10)
    # The days have 200 kW five times and 100 kW twice, 1200 / 7 on average.
    assert found.weekly == pytest.approx([200 * 7 / 1200] * 5 + [100 * 7 / 1200] * 2)
    assert found.weekend_ratio == pytest.approx(0.5)
    assert found.noise == pytest.approx(0, abs=1e-9)
    assert found.strength == pytest.approx(1)
    assert found.history_days == 21
    assert found.season is found.season_amplitude is found.season_peak_month is None
    assert found.heating_per_k is found.cooling_per_k is None


def test_a_load_that_never_changes() -> None:
    found = profile(site(np.full(24 * 366, 50.0), "2016-01-01"))
    assert (found.level_kw, found.swing, found.load_factor, found.noise) == (50, 0, 1, 0)
    assert found.strength is None  # there is nothing to explain
    assert found.daily == (1.0,) * 24
    assert found.season == (1.0,) * 12
    assert found.season_amplitude == pytest.approx(0)
    assert found.season_peak_month is None


def test_shapes_follow_the_local_clock() -> None:
    hours = pd.date_range("2016-01-01", "2016-12-31 23:00", freq="1h", tz="Europe/Berlin")
    found = profile(site(np.where(hours.hour == 7, 3.0, 1.0), "2016-01-01", "Europe/Berlin"))
    assert found.daily is not None
    assert found.daily[7] / found.daily[8] == pytest.approx(3)


def test_finer_readings_count_by_their_hourly_means() -> None:
    hourly = shift(2)
    wiggle = np.tile([-20.0, 20.0, -5.0, 5.0], len(hourly))
    assert profile(site(np.repeat(hourly, 4) + wiggle, step="15min")) == profile(site(hourly))


def test_missing_readings_are_left_out() -> None:
    holes = shift(8)
    holes[::7] = np.nan  # every hour of the week is missing at some time, none always
    found, whole = profile(site(holes)), profile(site(shift(8)))
    assert found.daily == pytest.approx(whole.daily)
    assert found.weekly == pytest.approx(whole.weekly, rel=0.05)
    assert found.history_days == 48


def test_a_season_is_that_of_the_months() -> None:
    index = pd.date_range("2015-01-01", "2016-12-31 23:00", freq="1h")
    wave = 1 + 0.2 * np.cos(2 * np.pi * (index.month - 1 - 5) / 12)  # highest in June
    found = profile(site(40 * wave.to_numpy(), "2015-01-01"))
    assert found.season == pytest.approx([1 + 0.2 * math.cos(math.pi * (k - 5) / 6) for k in range(12)], rel=1e-3)
    assert found.season_amplitude == pytest.approx(0.2, rel=1e-3)
    assert found.season_peak_month == pytest.approx(6, abs=0.01)
    assert profile(window(site(40 * wave.to_numpy(), "2015-01-01"), "2015-01-01", "2015-12-01")).season is None


def test_slopes_are_those_of_the_working_days() -> None:
    days = 28 * 3
    air = np.concatenate([np.linspace(-5, 15, 28), np.full(28, 18.0), np.linspace(21, 31, 28)])
    load = 100 + 2 * np.maximum(0, 15 - air) + 5 * np.maximum(0, air - 21)
    load[np.arange(days) % 7 >= 5] = 10  # weekends know no weather
    found = profile(site(np.repeat(load, 24), temperature_c=np.repeat(air, 24)))
    assert found.heating_per_k == pytest.approx(2 / load.mean())
    assert found.cooling_per_k == pytest.approx(5 / load.mean())
    winter = profile(site(np.repeat(load[:28], 24), temperature_c=np.repeat(air[:28], 24)))
    assert winter.heating_per_k == pytest.approx(2 / load[:28].mean())
    assert winter.cooling_per_k is None
    assert profile(site(np.repeat(load, 24), temperature_c=np.full(24 * days, 5.0))).heating_per_k is None


@pytest.mark.parametrize("weeks", [3, 6, 52])
def test_noise_is_found_whatever_the_length_of_the_history(weeks: int) -> None:
    rng = np.random.default_rng(weeks)
    y = shift(weeks) + rng.normal(0, 20, 168 * weeks)
    found = profile(site(y))
    assert found.level_kw is not None
    assert found.noise == pytest.approx(20 / found.level_kw, rel=0.1)
    explained = np.var(shift(1)) / (np.var(shift(1)) + 400)
    assert found.strength == pytest.approx(explained, abs=0.01)


@pytest.mark.parametrize("load", [np.zeros(720), np.full(720, -3.0), np.full(720, np.nan)])
def test_without_a_load_above_zero_there_is_nothing_relative(load: Array) -> None:
    found = profile(site(load))
    assert found == replace(
        FLAT, level_kw=found.level_kw, swing=None, load_factor=None, daily=None, weekly=None, season=None,
        heating_per_k=None, cooling_per_k=None, noise=None, strength=None, history_days=np.isfinite(load).sum() / 24,
    )  # fmt: skip


def test_a_short_history_has_no_shapes() -> None:
    found = profile(site(shift(2)[:-24]))  # 13 days
    assert found.daily is found.weekly is None
    assert found.swing is not None
    assert found.history_days == 13
    found = profile(site(shift(3)[:-24]))
    assert found.daily is not None
    assert found.noise is found.strength is None


def test_only_the_intervals_that_count_are_looked_at() -> None:
    rng = np.random.default_rng(0)
    whole = site(shift(10) * rng.uniform(0.9, 1.1, 1680), temperature_c=rng.uniform(-5, 10, 1680))
    days = np.arange(1680) // 24
    part = profile(window(whole, "2016-01-04", "2016-02-15"))
    counted = profile(whole, days < 42)
    assert counted.history_days == 42
    assert counted.daily == pytest.approx(part.daily)
    assert counted.noise == pytest.approx(part.noise)
    assert counted.heating_per_k == pytest.approx(part.heating_per_k)


# --- distances ------------------------------------------------------------------------------------------


def moved(places: int, share: float) -> tuple[float, ...]:
    """A flat shape, of which a share of the energy has moved from the last place to the first."""
    shape = [1.0] * places
    shape[0] += share * places
    shape[-1] -= share * places
    return tuple(shape)


@pytest.mark.parametrize(
    ("factor", "other", "distance"),
    [
        ("level", {"level_kw": 10.0}, 0.5),  # a tenth; a hundredth counts as 1
        ("level", {"level_kw": 1e6}, 1.0),
        ("swing", {"swing": 0.7}, 0.2),
        ("daily", {"daily": moved(24, 0.04)}, 0.1),  # 4 % of the energy at another hour; 40 % count as 1
        ("weekly", {"weekly": moved(7, 0.05)}, 0.2),
        ("season", {"season": moved(12, 0.05)}, 0.25),
        ("weather", {"heating_per_k": 0.04}, 0.2),  # 0.04 and 0 make 0.02 on average
        ("weather", {"heating_per_k": 0.04, "cooling_per_k": None}, 0.4),
        ("noise", {"noise": 0.2}, 0.25),
        ("history", {"history_days": 10.0}, 1.0),
    ],
)
def test_each_distance_by_hand(factor: str, other: dict[str, object], distance: float) -> None:
    found = heterogeneity([FLAT, replace(FLAT, **other)])  # type: ignore[arg-type]
    assert found.means == {name: pytest.approx(distance if name == factor else 0, abs=1e-12) for name in SPANS}
    assert found.index == pytest.approx(distance / 8)


def test_factors_that_one_of_two_lacks_are_left_out() -> None:
    young = replace(FLAT, season=None, history_days=10.0)
    found = heterogeneity([FLAT, young, young])
    assert found.means["season"] is None
    assert found.distances[0, 1] == pytest.approx(1 / 7)  # of seven factors the history alone differs
    assert found.index == pytest.approx((1 / 7 + 1 / 7 + 0) / 3)


def test_too_few_sites_have_no_index() -> None:
    assert heterogeneity([]).index is None
    assert heterogeneity([FLAT]).index is None
    blank = replace(
        FLAT, level_kw=None, swing=None, daily=None, weekly=None, season=None, heating_per_k=None, cooling_per_k=None,
        noise=None, history_days=0.0,
    )  # fmt: skip
    assert heterogeneity([blank, FLAT]).index is None


def test_identical_sites_are_not_unlike() -> None:
    found = heterogeneity([profile(site(shift(4)))] * 5)
    assert found.index == 0
    assert np.nan_to_num(found.distances).max() == 0


def test_twice_the_load_differs_by_its_level_alone() -> None:
    rng = np.random.default_rng(1)
    y, air = shift(60) * rng.uniform(0.8, 1.2, 168 * 60), rng.uniform(-5, 30, 168 * 60)
    found = heterogeneity([profile(site(factor * y, temperature_c=air)) for factor in (1, 2)])
    assert found.means == {
        name: pytest.approx(math.log(2) / math.log(100) if name == "level" else 0, abs=1e-9) for name in SPANS
    }


shapes = {
    name: st.lists(st.floats(0.01, 3), min_size=n, max_size=n).map(tuple)
    for name, n in (("daily", 24), ("weekly", 7), ("season", 12))
}
profiles = st.builds(
    Profile,
    level_kw=st.floats(0.1, 1e7),
    swing=st.floats(0, 3),
    load_factor=st.floats(0, 1),
    heating_per_k=st.floats(-0.2, 0.2),
    cooling_per_k=st.floats(-0.2, 0.2),
    noise=st.floats(0, 2),
    strength=st.floats(0, 1),
    history_days=st.floats(1, 4000),
    **shapes,
)


@given(st.lists(profiles, min_size=3, max_size=5), st.randoms())
def test_distances_are_a_metric_and_the_index_knows_no_order(sites: list[Profile], random: object) -> None:
    found = heterogeneity(sites)
    for matrix in (*found.factors.values(), found.distances):
        assert ((matrix >= 0) & (matrix <= 1)).all()
        assert (matrix == matrix.T).all()
        assert (np.diag(matrix) == 0).all()
        through = matrix[:, :, None] + matrix[None, :, :]  # from i over j to k
        assert (matrix[:, None, :] <= through + 1e-9).all()
    mixed = list(sites)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert heterogeneity(mixed).index == pytest.approx(found.index)


def test_factors_go_by_the_same_names_everywhere() -> None:
    assert tuple(SPANS) == tuple(heterogeneity([FLAT]).factors) == FACTORS
    assert list(LANDMARKS.values()) == sorted(LANDMARKS.values())
