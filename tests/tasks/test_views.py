"""What a release model sees: one day is in as few blocks as is accounted for, and public items look the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fedstill.energy.frame import SiteLoad, window
from fedstill.energy.synthetic import sites
from fedstill.errors import DataError
from fedstill.sites import Rows, View
from fedstill.tasks.classification import Classification
from fedstill.tasks.forecast import Forecast

TEST = ("2016-05-01", "2016-06-01")
HISTORY = ("2016-03-01", "2016-05-01")
"""With the change to summer time on 27 March."""
EPOCH = np.datetime64("1970-01-01")


@pytest.fixture(scope="module")
def load() -> SiteLoad:
    (one,) = sites(1, skew=0.3, days=152, step="1h", start="2016-01-01", zone="Europe/Berlin", seed=3).values()
    return one


def view_of(task: Forecast, load: SiteLoad) -> View:
    view = task.prepare("here", load, HISTORY).site.view
    assert view is not None
    return view


def without(load: SiteLoad, day: str) -> SiteLoad:
    """The same load, of which one local day was never measured."""
    data = load.data.copy()
    local = pd.DatetimeIndex(data.index).tz_convert(load.zone)
    data.loc[local.strftime("%Y-%m-%d") == day, "load_kw"] = np.nan
    return replace(load, data=data)


def by_block(view: View) -> dict[int, bytes]:
    parts = np.column_stack([view.known, view.relative, view.y])
    return {int(day): parts[view.block == day].tobytes() for day in np.unique(view.block)}


@pytest.mark.parametrize("issue_hour", [0, 9, 24])
@pytest.mark.parametrize("day", ["2016-03-10", "2016-03-26", "2016-03-27", "2016-03-28", "2016-04-16"])
def test_without_a_day_its_blocks_are_gone_and_all_others_are_as_they_were(load, issue_hour, day):
    """What the price of a release stands on, around the change of clocks as well."""
    task = Forecast(test=TEST, issue_hour=issue_hour)
    whole, less = view_of(task, load), view_of(task, without(load, day))
    before, after = by_block(whole), by_block(less)
    gone = set(before) - set(after)
    assert set(after) <= set(before)
    assert all(before[block] == after[block] for block in after)
    assert 1 <= len(gone) <= whole.reach
    number = int((np.datetime64(day) - EPOCH).astype(int))
    assert max(gone) <= number + whole.back
    assert len(whole.swing) - len(less.swing) == 1
    assert (less.blocks, less.first, less.reach) == (whole.blocks, whole.first, whole.reach)


def test_a_day_among_others_is_in_its_own_block_and_in_those_of_the_next_day_and_week(load):
    task = Forecast(test=TEST)
    whole, less = view_of(task, load), view_of(task, without(load, "2016-04-06"))
    number = int((np.datetime64("2016-04-06") - EPOCH).astype(int))
    assert set(whole.block) - set(less.block) == {number, number + 1, number + 7}
    assert whole.reach == 3


def test_targets_are_what_the_last_day_and_week_do_not_say(load):
    """By hand, on one row: load at noon less the mean of noon a day and a week before."""
    view = view_of(Forecast(test=TEST), load)
    local = pd.DatetimeIndex(load.data.index).tz_convert(load.zone)
    at = dict(zip(local.strftime("%Y-%m-%d %H"), load.data["load_kw"], strict=True))
    number = int((np.datetime64("2016-04-20") - EPOCH).astype(int))
    expected = at["2016-04-20 12"] - (at["2016-04-19 12"] + at["2016-04-13 12"]) / 2
    assert view.y[view.block == number][12] == pytest.approx(expected)
    yesterday = [at[f"2016-04-19 {hour:02}"] for hour in range(24)]
    np.testing.assert_allclose(view.relative[view.block == number][12][:24], yesterday - np.mean(yesterday))
    assert view.blocks == 61


def test_public_items_show_the_same_columns_in_their_own_unit(load):
    """A site's rows as a transfer set: the same known columns, and relative ones and targets over the site's scale."""
    task = Forecast(test=TEST)
    private = view_of(task, load)
    days = window(load, *HISTORY)
    transfer = task.transfer(days)
    public = task.view(transfer.X, transfer.block)
    scale = float(days.data["load_kw"].std())
    same = np.isin(private.block, public.block)
    there = np.isin(public.block, private.block[same])
    np.testing.assert_allclose(public.known[there], private.known[same], atol=1e-6)
    np.testing.assert_allclose(public.relative[there] * scale, private.relative[same], atol=1e-4 * scale)
    table = task.table(days, scale)
    rows = np.isin(table.day, private.block[same])
    # What a model says of an item, moved by the item's offset, is the task's own target.
    moved = public.offset[there] + private.y[same] / scale
    np.testing.assert_allclose(moved, table.y[rows], atol=1e-4)


def table(n: int = 40) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame({"x": random.normal(size=n), "on": random.choice(["a", "b"], n), "who": np.arange(n) % 7})


def test_rows_of_a_table_are_blocks_of_their_own():
    task = Classification("on", ("a", "b"), ("x",))
    site = task.prepare("here", table()).site
    np.testing.assert_array_equal(site.view.block, np.arange(len(site.rows)))
    np.testing.assert_array_equal(site.view.y, site.rows.y)
    assert (site.view.reach, site.view.blocks) == (1, len(site.rows))
    assert task.units == ("reading",)


@pytest.mark.parametrize("customer", [None, "who"])
def test_without_a_row_or_a_customer_no_other_moves_to_another_teacher(customer):
    """What the price of a committee stands on: its lot follows from the unit itself."""
    task = Classification("on", ("a", "b"), ("x",), customer=customer)
    data, chosen = table(), np.arange(40)
    X, y = task.inputs(data, "here"), (data["on"] == "b").to_numpy(np.int64)
    whole = task._view(Rows(X, y, task._customers(data, chosen, "here")))
    for gone in range(7):
        stay = np.flatnonzero(data["who"] != gone) if customer else np.delete(chosen, gone)
        less = task._view(Rows(X[stay], y[stay], task._customers(data, stay, "here")))
        before, after = (sorted(zip(one.lot, one.known[:, 0], strict=True)) for one in (whole, less))
        assert len(before) - len(after) == len(chosen) - len(stay)
        assert set(after) <= set(before)
    assert len(set(whole.lot)) == (7 if customer else 40)


def test_all_rows_of_a_customer_are_one_block():
    task = Classification("on", ("a", "b"), ("x",), customer="who")
    view = task.prepare("here", table()).site.view
    assert view.blocks == len(np.unique(view.block)) == 7
    assert (np.diff(view.block) >= 0).all()
    assert task.units[0] == "customer"
    with pytest.raises(DataError, match="'who' of customers is missing"):
        task.prepare("here", table().drop(columns="who"))
