"""Coverage of own rows by a transfer set: by hand, and on load of another season or shape."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from fedstill import Federation, Forecast, Member
from fedstill.coverage import ENOUGH, MOST_ROWS, coverage, warning
from fedstill.energy.frame import SiteLoad, window
from fedstill.energy.skew import Skew
from fedstill.energy.synthetic import sites


def draw(seed, n, f=1, centre=0.0):
    return np.random.default_rng(seed).normal(centre, 1, size=(n, f))


def test_by_hand():
    """Items stand a step apart, so a row is covered up to a step from the nearest one."""
    items = np.arange(10.0)[:, None]
    own = np.array([[0.0], [4.5], [10.0], [10.1], [-0.9], [-3.0]])
    assert coverage(own, items) == pytest.approx(4 / 6)


def test_a_row_is_far_by_its_worst_column():
    """On a lattice of unit steps each way, what is within a step by every column is near."""
    items = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    own = np.array([[2.5, 2.5], [6.0, 6.0], [2.0, 6.1], [-1.1, 0.0]])
    assert coverage(own, items) == 0.5


@pytest.mark.parametrize("f", [1, 5, 40])
def test_rows_drawn_like_the_items_are_covered_but_for_one_in_twenty(f):
    assert coverage(draw(1, 2000, f), draw(2, 2000, f)) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("f", [1, 5, 40])
def test_rows_far_away_are_not_covered(f):
    own = np.concatenate([draw(1, 500, f), draw(3, 500, f, centre=8.0)])
    assert coverage(own, draw(2, 1000, f)) == pytest.approx(0.475, abs=0.02)


def test_hours_of_one_day_do_not_make_other_days_far():
    """Days alike, each with many items that are nearly one: without blocks, no new day would be near."""
    days, own = draw(1, 200, 10), draw(2, 300, 10)
    items = np.repeat(days, 10, axis=0) + 0.01 * draw(3, 2000, 10)
    assert coverage(own, items) < 0.05
    assert coverage(own, items, np.repeat(np.arange(200), 10)) > 0.9


def test_a_value_that_no_item_has_is_far():
    """A column that is constant in the transfer set says nothing about scale, but what differs there is new."""
    items = np.column_stack([draw(1, 500), np.zeros(500)])
    own = np.column_stack([draw(2, 500), np.repeat([0.0, 1e-3], 250)])
    assert coverage(own, items) == pytest.approx(0.475, abs=0.02)


def test_the_units_of_the_columns_do_not_matter():
    own, items = draw(1, 300, 3, centre=0.7), draw(2, 300, 3)
    stretch, shift = np.array([1000.0, 1.0, 0.01]), np.array([5.0, -3.0, 0.0])
    assert coverage(own * stretch + shift, items * stretch + shift) == pytest.approx(coverage(own, items))


def test_many_rows_are_sampled_and_always_the_same():
    own, items = draw(1, 10 * MOST_ROWS, 3), draw(2, 5 * MOST_ROWS, 3).astype(np.float32)
    assert coverage(own, items) == coverage(own, items) == pytest.approx(0.95, abs=0.03)


def test_one_block_alone_says_nothing():
    own = draw(1, 5)
    assert np.isnan(coverage(own, draw(2, 1)))
    assert np.isnan(coverage(own, draw(2, 5), np.zeros(5, int)))
    assert coverage(np.zeros((1, 2)), np.zeros((2, 2))) == 1


def test_a_warning_says_how_much():
    assert "covers 42 %" in (warning(0.42) or "")
    assert warning(ENOUGH) is warning(1.0) is warning(float("nan")) is None


# --- load --------------------------------------------------------------------------------------------------

YEAR = list(sites(5, Skew(level=0.5, weather=0.3, noise=0.2), days=420, start="2015-11-01").values())
WEATHER = Forecast(test=("2016-12-01", "2016-12-20"), levels=(0.1, 0.5, 0.9), covariates=("temperature_c",))
SUMMER = ("2016-06-01", "2016-08-15")


def covered(public: list[SiteLoad], task: Forecast = WEATHER, members: list[SiteLoad] = YEAR[:2]) -> Federation:
    described = [
        Member(name, load, "linear", {"iterations": 5}, SUMMER) for name, load in zip("ab", members, strict=True)
    ]
    return Federation(task, described, public, items=1500)


def test_all_seasons_cover_a_summer():
    for one in covered([window(site, "2015-11-01", "2016-11-01") for site in YEAR[2:]]).prepare().values():
        assert one.coverage > ENOUGH
        assert not any("transfer set" in note for note in one.notes)


def test_winter_does_not_cover_a_summer():
    for one in covered([window(site, "2015-11-20", "2016-02-20") for site in YEAR[2:]]).prepare().values():
        assert one.coverage < 0.5
        assert any(f"the transfer set covers {100 * one.coverage:.0f} % of its inputs" in note for note in one.notes)


def shaped(shape) -> SiteLoad:
    """A year of load that is a function of the hour of the day, with a little noise."""
    first = date(2015, 11, 1)
    index = pd.date_range(first, first + timedelta(days=420), freq="1h", tz="UTC", inclusive="left", name="ds")
    load = shape(index.hour.to_numpy()) + np.random.default_rng(0).normal(0, 0.1, len(index))
    return SiteLoad("shape", pd.DataFrame({"load_kw": load}, index=index), "UTC")


def test_another_shape_of_day_does_not_cover():
    by_day, by_night = (shaped(lambda hour, on=on: 5.0 + ((hour - on) % 24 < 8)) for on in (8, 20))
    plain = replace(WEATHER, covariates=())
    twins = [by_day, by_day]
    assert all(one.coverage > 0.9 for one in covered([by_day], plain, twins).prepare().values())
    assert all(one.coverage < 0.1 for one in covered([by_night], plain, twins).prepare().values())


@pytest.mark.parametrize("strategy", ["local", "pooled", "fedavg"])
def test_it_is_of_no_interest_where_no_labels_of_items_travel(strategy):
    members = [Member(name, YEAR[0], "mlp", {"hidden": [4], "epochs": 1}, SUMMER) for name in "ab"]
    public = [window(site, "2015-11-20", "2016-02-20") for site in YEAR[2:]]
    for one in Federation(WEATHER, members, public, strategy=strategy).prepare().values():
        assert one.coverage is None
        assert not any("transfer set" in note for note in one.notes)
