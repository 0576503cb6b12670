"""Rows of the forecasting task: nothing later than the issue time is in them, and the rest is as one counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstill import Layout, from_frame
from fedstill.energy.frame import SiteLoad
from fedstill.energy.known import FADING, Naive
from fedstill.energy.synthetic import synthetic
from fedstill.errors import ConfigError, DataError
from fedstill.tasks.base import Prepared, Scaling
from fedstill.tasks.forecast import Forecast
from fedstill.tasks.inputs import LAGS, WARM_UP_DAYS, Table

BERLIN = "Europe/Berlin"
SPRING, AUTUMN = date(2016, 3, 27), date(2016, 10, 30)
HOURLY, QUARTERLY = "1h", "15min"
Shape = Callable[[pd.DatetimeIndex], np.ndarray]


def site(shape: Shape, first: date, days: int, step: str = HOURLY, zone: str = BERLIN, **covariates: Shape) -> SiteLoad:
    """A site whose load is a function of the wall clock."""
    ends = pd.DatetimeIndex([first, first + timedelta(days=days)])
    begin, end = ends.tz_localize(zone, nonexistent="shift_forward", ambiguous=np.ones(2, bool)).tz_convert("UTC")
    index = pd.date_range(begin, end, freq=step, inclusive="left", name="ds").as_unit("ns")
    wall = index.tz_convert(zone).tz_localize(None)
    columns = {"load_kw": shape(wall), **{name: make(wall) for name, make in covariates.items()}}
    data = pd.DataFrame({name: np.asarray(column, np.float64) for name, column in columns.items()}, index=index)
    data.index.freq = pd.tseries.frequencies.to_offset(step)
    return SiteLoad("here", data, zone)


def number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def day_number(wall: pd.DatetimeIndex) -> np.ndarray:
    return (wall.normalize() - pd.Timestamp("2016-01-01")).days.to_numpy()


def hour(wall: pd.DatetimeIndex) -> np.ndarray:
    return wall.hour.to_numpy()


def day_and_hour(wall: pd.DatetimeIndex) -> np.ndarray:
    return day_number(wall) + hour(wall) / 100


def noise(wall: pd.DatetimeIndex) -> np.ndarray:
    return np.random.default_rng(7).uniform(1, 9, len(wall))


def rows_of(table: Table, day: date) -> Table:
    return table.where(table.day == number(day))


def column(task: Forecast, table: Table, name: str) -> np.ndarray:
    return table.X[:, task.features.index(name)]


# --- the leak test -----------------------------------------------------------------------------------------

ANY_DAY = st.dates(date(2016, 1, 20), date(2016, 12, 20))
NEAR_CHANGE = st.builds(
    lambda change, after: change + timedelta(days=after), st.sampled_from([SPRING, AUTUMN]), st.integers(-1, 10)
)
TASKS = st.builds(
    Forecast,
    issue_hour=st.sampled_from([24, 12, 9, 0]),
    step=st.sampled_from([HOURLY, QUARTERLY]),
    naive=st.sampled_from(["day", "week", "mixed", "similar", "both"]),
)


def issued_at(task: Forecast, day: date, zone: str = BERLIN) -> pd.Timestamp:
    """The issue time as its definition says: a clock time on the day before."""
    clock = pd.Timestamp(day) - pd.Timedelta(days=1) + pd.Timedelta(hours=task.issue_hour)
    return clock.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")


def around(task: Forecast, day: date) -> SiteLoad:
    return site(noise, day - timedelta(days=WARM_UP_DAYS + 1), WARM_UP_DAYS + 4, task.step or HOURLY)


def spoiled(load: SiteLoad, late: np.ndarray, value: float) -> SiteLoad:
    data = load.data.copy()
    data.loc[late, "load_kw"] = value
    return replace(load, data=data)


@settings(max_examples=150, deadline=None)
@given(day=st.one_of(ANY_DAY, NEAR_CHANGE), task=TASKS, value=st.sampled_from([np.nan, 1e30, -1e30]))
def test_nothing_after_the_issue_time_is_in_the_inputs(day: date, task: Forecast, value: float) -> None:
    load = around(task, day)
    late = load.data.index + load.step > issued_at(task, day)
    before = rows_of(task.table(load, 2.0, future=True), day)
    after = rows_of(task.table(spoiled(load, late, value), 2.0, future=True), day)
    assert len(before.X) >= 23
    for name in ("X", "base", "scale", "time", "day"):
        assert getattr(before, name).tobytes() == getattr(after, name).tobytes(), name
    for name in before.rules:
        assert before.rules[name].tobytes() == after.rules[name].tobytes(), name


@settings(max_examples=40, deadline=None)
@given(day=st.one_of(ANY_DAY, NEAR_CHANGE), task=TASKS)
def test_the_last_reading_before_the_issue_time_is_in_the_inputs(day: date, task: Forecast) -> None:
    """Without it the test above would pass for inputs that look at nothing."""
    load = around(task, day)
    last = load.data.index + load.step == issued_at(task, day)
    assert last.sum() == 1
    before = rows_of(task.table(load, 2.0, future=True), day)
    after = rows_of(task.table(spoiled(load, last, 1e6), 2.0, future=True), day)
    assert (column(task, before, "recent_1") < 10).all()
    assert (column(task, after, "recent_1") > 1000).all()


@settings(max_examples=40, deadline=None)
@given(day=st.one_of(ANY_DAY, NEAR_CHANGE), task=TASKS, fine=st.booleans())
def test_ahead_of_readings_cut_at_the_issue_time_is_the_same(day: date, task: Forecast, fine: bool) -> None:
    """What a model is asked in earnest is what it was trained and judged on, also through averaging to the step."""
    step = QUARTERLY if fine else task.step
    whole = site(noise, day - timedelta(days=WARM_UP_DAYS + 1), WARM_UP_DAYS + 4, step)
    cut = replace(whole, data=whole.data.loc[: issued_at(task, day) - whole.step])
    cut.data.index.freq = whole.data.index.freq
    told = task.ahead(cut, 2.0)
    assert set(told.day) == {number(day)}
    assert told.left_out.size == 0
    assert np.isnan(told.load_kw).any()
    past = task.ahead(whole, 2.0, day.isoformat())
    assert not np.isnan(past.load_kw).any()
    for other in (past, task.ahead(cut, 2.0, day.isoformat())):
        assert told.X.tobytes() == other.X.tobytes()
        assert told.base.tobytes() == other.base.tobytes()


# --- columns by hand ---------------------------------------------------------------------------------------

MID = date(2016, 5, 20)
FROM, DAYS = date(2016, 5, 1), 30


def test_load_that_is_the_number_of_the_day() -> None:
    """Base is yesterday; a lag is so many days before it; the level of seven days lies three below yesterday."""
    task = Forecast(naive="day")
    table = rows_of(task.table(site(day_number, FROM, DAYS), 2.0), MID)
    today = 140  # 20 May is day 140 after 1 January in a leap year
    assert table.load_kw.tolist() == [today] * 24
    assert table.base.tolist() == [today - 1] * 24
    assert table.y.tolist() == [0.5] * 24
    for k in LAGS:
        assert column(task, table, f"lag_{k}").tolist() == [(1 - k) / 2] * 24
    assert column(task, table, "base").tolist() == [1.5] * 24
    assert column(task, table, "last_error").tolist() == [0.5] * 24
    assert column(task, table, "last_bias").tolist() == [0.5] * 24
    assert column(task, table, "recent_24").tolist() == [1.5] * 24


def test_load_that_is_the_hour() -> None:
    task = Forecast()
    table = rows_of(task.table(site(hour, FROM, DAYS), 1.0), MID)
    assert table.base.tolist() == list(range(24))
    assert table.y.tolist() == [0] * 24
    assert column(task, table, "lag_7").tolist() == [0] * 24
    assert column(task, table, "base").tolist() == [h - 11.5 for h in range(24)]
    assert column(task, table, "minute_sin") == pytest.approx(np.sin(np.arange(24) * np.pi / 12), abs=1e-6)
    assert column(task, table, "minute_cos") == pytest.approx(np.cos(np.arange(24) * np.pi / 12), abs=1e-6)


def test_recent_columns_are_the_last_24_hours_in_order() -> None:
    """With a load that counts its hours, day 19 of the series begins at 456: the hours before are 432 to 455."""
    task = Forecast(country="DE")
    table = rows_of(task.table(site(lambda wall: np.arange(len(wall)), FROM, DAYS), 1.0), MID)
    first, end = task.recent_columns
    assert [task.features[i] for i in (first, end - 1)] == ["recent_24", "recent_1"]
    level = np.mean(np.arange(456 - 168, 456))
    assert (table.X[:, first:end] + level).tolist() == [list(range(432, 456))] * 24


def test_recent_columns_are_hours_whatever_the_step() -> None:
    task = Forecast(step=QUARTERLY)
    table = rows_of(task.table(site(hour, FROM, DAYS, QUARTERLY), 1.0), MID)
    first, end = task.recent_columns
    assert len(table.X) == 96
    assert (table.X[:, first:end] + 11.5).tolist() == [list(range(24))] * 96


def test_recent_columns_end_at_the_issue_time() -> None:
    task = Forecast(issue_hour=9)
    table = rows_of(task.table(site(hour, FROM, DAYS), 1.0), MID)
    first, end = task.recent_columns
    assert (table.X[0, first:end] + 11.5).tolist() == [*range(9, 24), *range(9)]


@pytest.mark.parametrize(
    ("issue_hour", "days_back"),
    [
        (24, [1] * 24),
        (12, [1] * 12 + [2] * 12),  # the interval from 11 to 12 ends at noon and is known, the next is not
        (9, [1] * 9 + [2] * 15),
        (0, [2] * 24),
    ],
)
def test_the_naive_rule_takes_the_last_day_on_which_the_time_is_known(issue_hour: int, days_back: list[int]) -> None:
    load = site(day_and_hour, FROM, DAYS)
    back = np.array(days_back)
    near = 140 - back + np.arange(24) / 100
    week = 133 + np.arange(24) / 100
    for naive, expected in (("day", near), ("week", week), ("mixed", (near + week) / 2)):
        task = Forecast(issue_hour=issue_hour, naive=naive)  # type: ignore[arg-type]
        table = rows_of(task.table(load, 1.0), MID)
        assert table.base == pytest.approx(expected, abs=1e-12)
        assert table.rules["naive_day"] == pytest.approx(near, abs=1e-12)
        assert table.rules["naive_week"] == pytest.approx(week, abs=1e-12)
        lag_3 = 140 - back - 2 + np.arange(24) / 100
        assert column(task, table, "lag_3") == pytest.approx(lag_3 - expected, abs=1e-5)


@pytest.mark.parametrize(
    ("day", "back"),
    [
        (date(2016, 5, 19), (1, 2, 6, 7, 8)),  # a Thursday; Monday is Whit Monday, a holiday, then comes a weekend
        (date(2016, 5, 21), (7,)),  # a Saturday
        (date(2016, 5, 22), (6, 7)),  # a Sunday: Whit Monday is a day of rest as well
        (date(2016, 5, 16), (1, 8)),  # Whit Monday itself: the Sundays before
    ],
)
def test_the_similar_rule_by_hand(day: date, back: tuple[int, ...]) -> None:
    """The load is the number of the day; similar days of the last eight count 0.7 for each day back."""
    table = rows_of(Forecast(country="DE").table(site(day_number, FROM, DAYS), 1.0), day)
    assert FADING == 0.7
    weights = [0.7**days for days in back]
    today = (day - date(2016, 1, 1)).days
    expected = sum(weight * (today - days) for weight, days in zip(weights, back, strict=True)) / sum(weights)
    assert table.rules["naive_similar"] == pytest.approx([expected] * 24)
    assert table.base == pytest.approx([(today - 1 + expected) / 2] * 24)


def test_a_similar_day_whose_time_is_not_known_yet_does_not_count() -> None:
    """At 12 the afternoon of Thursday is not known: what is left are Wednesday, Tuesday, Monday and last week."""
    table = rows_of(Forecast(issue_hour=12).table(site(day_number, FROM, DAYS), 1.0), MID)
    for hours, back in ((slice(0, 12), (1, 2, 3, 4, 7, 8)), (slice(12, 24), (2, 3, 4, 7, 8))):
        expected = np.average([140 - days for days in back], weights=[0.7**days for days in back])
        assert table.rules["naive_similar"][hours] == pytest.approx(expected)


@pytest.mark.parametrize("naive", ["day", "week", "mixed", "similar", "both"])
def test_the_floor_is_the_best_rule_of_the_history(naive: Naive) -> None:
    """A load that repeats every week: the rule of the week is never wrong, whatever the residuals are over."""
    load = site(lambda wall: wall.day_of_week.to_numpy() * 10 + wall.hour.to_numpy(), FROM, 60)
    task = Forecast(naive=naive, test=("2016-06-15", None))
    prepared = task.prepare("a", load, (None, "2016-06-15"))
    floor, exam = prepared.site.floor, prepared.examination
    assert floor.rule == "naive_week"
    assert exam.restore(floor.predict(exam.X))[:, 2] == pytest.approx(exam.actual, abs=1e-3)
    scaling = Scaling(np.full(exam.X.shape[1], 3, np.float32), np.full(exam.X.shape[1], 2, np.float32))
    moved = prepared.scaled(scaling)
    assert moved.site.floor.predict(moved.examination.X) == pytest.approx(floor.predict(exam.X), abs=1e-4)


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), (MID, 24)])
@pytest.mark.parametrize(("step", "per_hour"), [(HOURLY, 1), (QUARTERLY, 4)])
def test_days_of_the_clock_changes_are_shorter_and_longer(day: date, hours: int, step: str, per_hour: int) -> None:
    task = Forecast(step=step)
    table = task.table(site(day_and_hour, day - timedelta(days=12), 16, step), 1.0)
    assert len(rows_of(table, day).X) == hours * per_hour
    assert table.left_out.size == 0


def test_the_day_after_the_clocks_change_by_hand() -> None:
    task = Forecast(naive="day")
    spring = task.table(site(day_and_hour, SPRING - timedelta(days=12), 16), 1.0)
    after = rows_of(spring, SPRING + timedelta(days=1))
    # 27 March is day 86; at 2 the clock showed 3 at once.
    assert after.base == pytest.approx(86 + np.array([0, 1, 3, *range(3, 24)]) / 100)
    autumn = task.table(site(day_and_hour, AUTUMN - timedelta(days=12), 16), 1.0)
    # 29 October is day 302; on the 30th both hours that the clock shows as 2 look back on the only one of the 29th.
    assert rows_of(autumn, AUTUMN).base == pytest.approx(302 + np.array([0, 1, 2, 2, *range(3, 24)]) / 100)


@pytest.mark.parametrize(
    "task",
    [
        Forecast(),
        Forecast(country="DE"),
        Forecast(covariates=("plan",)),
        Forecast(country="US", covariates=("plan", "sun"), levels=(0.5,), naive="mixed", issue_hour=12),
    ],
    ids=["plain", "holidays", "covariate", "all"],
)
def test_every_column_has_a_name(task: Forecast) -> None:
    load = site(noise, FROM, DAYS, plan=hour, sun=day_number)
    table = task.table(load, 1.0)
    assert table.X.shape == (len(table.base), len(task.features))
    assert len(set(task.features)) == len(task.features)
    assert table.X.dtype == np.float32
    assert task.transfer(load).X.shape[1] == len(task.features)


def test_weekdays_and_holidays() -> None:
    """Whit Monday was 16 May 2016; for the day after, the base is a holiday."""
    task = Forecast(country="DE")
    table = task.table(site(noise, FROM, DAYS), 1.0)
    monday, tuesday = (rows_of(table, date(2016, 5, day)) for day in (16, 17))
    assert column(task, monday, "weekday_0").all()
    assert column(task, tuesday, "weekday_1").all()
    assert monday.X[:, 2:9].sum() == 24
    assert column(task, monday, "holiday").all()
    assert not column(task, monday, "holiday_of_base").any()
    assert not column(task, tuesday, "holiday").any()
    assert column(task, tuesday, "holiday_of_base").all()
    weekly = replace(task, naive="week")
    week_later = rows_of(weekly.table(site(noise, FROM, DAYS), 1.0), date(2016, 5, 23))
    assert column(weekly, week_later, "holiday_of_base").all()


def test_covariates_are_known_in_advance() -> None:
    """The value of the row's own hour, and how far it is from that of the base."""
    task = Forecast(covariates=("plan",), issue_hour=12)
    table = rows_of(task.table(site(noise, FROM, DAYS, plan=day_number), 1.0), MID)
    assert column(task, table, "covariate_plan").tolist() == [140] * 24
    assert column(task, table, "change_of_plan").tolist() == [1] * 12 + [2] * 12


def test_a_missing_covariate_is_named() -> None:
    with pytest.raises(DataError, match="covariate 'wind' is missing") as caught:
        Forecast(covariates=("wind",)).table(site(noise, FROM, DAYS, plan=hour), 1.0)
    assert caught.value.remedy == "Columns are: load_kw, plan"


# --- sites made ready --------------------------------------------------------------------------------------

YEAR = site(lambda wall: 5 + noise(wall) + hour(wall), date(2016, 1, 1), 200)
SPAN = ("2016-02-01", "2016-04-01")
TASK = Forecast(test=("2016-05-01", "2016-06-01"))
JANUARY, FEBRUARY, APRIL, MAY, JUNE = (number(date(2016, month, 1)) for month in (1, 2, 4, 5, 6))


def test_days_are_learned_from_or_judged_on_but_never_both() -> None:
    ready = TASK.prepare("here", YEAR, SPAN)
    assert set(ready.site.rows.block) == set(range(FEBRUARY, APRIL))
    assert set(ready.examination.block) == set(range(MAY, JUNE))
    assert len(ready.site.rows) == 60 * 24 - 1  # the 23 hours of 27 March
    assert len(ready.examination.X) == 31 * 24


def test_the_test_wins_over_the_history() -> None:
    """A history without end, or one that runs into the test or beyond it, ends where the test begins."""
    for history in ((None, None), ("2016-01-01", "2016-05-15"), ("2016-01-01", "2016-07-01")):
        ready = TASK.prepare("here", YEAR, history)
        assert set(ready.site.rows.block) == set(range(JANUARY + WARM_UP_DAYS, MAY))
        assert set(ready.examination.block) == set(range(MAY, JUNE))


@pytest.mark.parametrize("history", [(None, None), ("2016-02-01", "2016-06-15"), SPAN])
def test_nothing_from_the_test_on_shows_in_what_is_learned(history: tuple[str | None, str | None]) -> None:
    """Not even through the scale."""
    late = YEAR.data.index >= pd.Timestamp("2016-05-01", tz=BERLIN)
    data = YEAR.data.copy()
    data.loc[late, "load_kw"] *= 1000
    before, after = (TASK.prepare("here", load, history) for load in (YEAR, replace(YEAR, data=data)))
    assert before.scale == after.scale
    assert before.site.floor == after.site.floor
    assert before.site.rows.X.tobytes() == after.site.rows.X.tobytes()
    assert before.site.rows.y.tobytes() == after.site.rows.y.tobytes()
    assert before.site.fold.tobytes() == after.site.fold.tobytes()


def folds_of_days(ready: Prepared) -> dict[int, int]:
    """The fold of each day, by its number; a day has one."""
    block, fold = ready.site.rows.block, ready.site.fold
    assert block is not None
    days = dict(zip(block.tolist(), fold.tolist(), strict=True))
    assert [days[day] for day in block.tolist()] == fold.tolist()
    return days


@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        (4, [0] * 14 + [1] * 14 + [2] * 14 + [3] * 14 + [0] * 4),
        (2, [0] * 14 + [1] * 14 + [0] * 14 + [1] * 14 + [0] * 4),
        (5, [0] * 12 + [1] * 12 + [2] * 12 + [3] * 12 + [4] * 12),
    ],
)
def test_held_back_are_stretches_of_two_weeks_at_most(folds: int, expected: list[int]) -> None:
    """February and March have 60 days, the day of the clock change among them."""
    days = folds_of_days(replace(TASK, folds=folds).prepare("here", YEAR, SPAN))
    assert days == dict(zip(range(FEBRUARY, APRIL), expected, strict=True))


def test_stretches_are_of_days_that_there_are() -> None:
    """Ten days without readings, and those after that lack what they look back on, are in no stretch."""
    data = YEAR.data.copy()
    data.loc[pd.Timestamp("2016-02-05", tz=BERLIN) : pd.Timestamp("2016-02-14 23:00", tz=BERLIN), "load_kw"] = np.nan
    days = folds_of_days(replace(TASK, folds=2).prepare("here", replace(YEAR, data=data), SPAN))
    assert (
        set(range(FEBRUARY, FEBRUARY + 4))
        < set(days)
        < set(range(FEBRUARY, APRIL)) - set(range(FEBRUARY + 4, FEBRUARY + 14))
    )
    first = [days[day] for day in sorted(days)][:28]
    assert first == [0] * 14 + [1] * 14


def test_nothing_is_held_back_where_nothing_is_asked_for() -> None:
    ready = replace(TASK, folds=1).prepare("here", YEAR, SPAN)
    assert list(ready.site.folds) == []
    assert len(ready.site.rows) == 60 * 24 - 1


def test_a_history_of_two_days_has_two_folds() -> None:
    ready = TASK.prepare("here", YEAR, ("2016-02-01", "2016-02-03"))
    assert folds_of_days(ready) == {FEBRUARY: 0, FEBRUARY + 1: 1}


def test_restoring_the_targets_gives_the_load() -> None:
    exam = TASK.prepare("here", YEAR, SPAN).examination
    y = ((exam.actual - exam.base) / exam.scale)[:, None]
    assert exam.restore(y)[:, 0] == pytest.approx(exam.actual)
    assert exam.restore(np.zeros_like(y))[:, 0].tolist() == exam.base.tolist()
    wall = pd.DatetimeIndex(exam.time).tz_localize("UTC")
    assert exam.actual.tolist() == YEAR.data.loc[wall, "load_kw"].tolist()


def test_targets_are_residuals_over_the_rule_in_units_of_the_scale() -> None:
    ready = replace(TASK, naive="day").prepare("here", YEAR, SPAN)
    known = YEAR.data.loc["2016-01-31 23:00":"2016-03-31 21:00", "load_kw"]  # 1 February to 31 March by the local clock
    assert ready.scale == pytest.approx(known.std())
    residuals = (YEAR.data["load_kw"] - YEAR.data["load_kw"].shift(24)).loc["2016-01-31 23:00":"2016-02-29 22:00"]
    assert ready.site.rows.y[: 29 * 24] == pytest.approx(residuals.to_numpy() / ready.scale, abs=1e-5)


def rows(ready: Prepared) -> int:
    return len(ready.site.rows) + len(ready.examination.X)


def test_rows_that_lack_a_reading_are_left_out_and_counted() -> None:
    """A missing hour takes its own row, the next day (its last 24 hours), and its hour on six days more (lags).

    The first one lies on a Saturday, so it takes the rule from the next Saturday, and its error from the Sunday after.
    """
    whole = TASK.prepare("here", YEAR, SPAN)
    assert whole.left_out_rows == 0
    for gap, lost in (("2016-02-20 11:00", 1 + 24 + 6 + 1), ("2016-05-30 11:00", 1 + 24)):
        data = YEAR.data.copy()
        data.loc[pd.Timestamp(gap, tz=BERLIN), "load_kw"] = np.nan
        ready = TASK.prepare("here", replace(YEAR, data=data), SPAN)
        assert ready.left_out_rows == rows(whole) - rows(ready) == lost


def test_only_rows_that_were_asked_for_count_as_left_out() -> None:
    data = YEAR.data.copy()
    data.loc[pd.Timestamp("2016-04-10", tz=BERLIN) : pd.Timestamp("2016-04-12", tz=BERLIN), "load_kw"] = np.nan
    assert TASK.prepare("here", replace(YEAR, data=data), SPAN).left_out_rows == 0


def test_days_before_the_history_are_looked_back_on() -> None:
    """The first day of the history has rows where nine days before it are there, and only then."""
    for begins in ("2016-01-10", "2016-01-09"):
        ready = TASK.prepare("here", YEAR, (begins, "2016-03-01"))
        assert ready.site.rows.block[0] == JANUARY + 9


@settings(max_examples=20, deadline=None)
@given(factor=st.sampled_from([1000.0, 1e-3, 2.0]), task=TASKS)
def test_the_unit_of_the_load_does_not_matter(factor: float, task: Forecast) -> None:
    task = replace(task, test=("2016-05-28", "2016-05-31"))
    load = site(noise, FROM, DAYS, task.step)
    scaled = replace(load, data=load.data * factor)
    one, other = task.prepare("here", load), task.prepare("here", scaled)
    assert other.scale == pytest.approx(factor * one.scale)
    for name in ("X", "y"):
        np.testing.assert_allclose(getattr(one.site.rows, name), getattr(other.site.rows, name), atol=1e-5)
    np.testing.assert_allclose(task.transfer(load).X, task.transfer(scaled).X, atol=1e-5)


def test_a_transfer_set_of_many_sites_is_their_rows_one_after_the_other() -> None:
    one, other = site(noise, FROM, DAYS), site(hour, FROM, 20)
    both = TASK.transfer([one, other])
    assert both.X.tolist() == [*TASK.transfer(one).X.tolist(), *TASK.transfer(other).X.tolist()]
    assert len(both.X) == (30 + 20 - 2 * WARM_UP_DAYS) * 24
    assert both.n_bytes == 4 * 24 * 50


def test_a_sample_of_the_transfer_set_keeps_its_order() -> None:
    transfer = TASK.transfer(YEAR)
    sample = transfer.sample(100, seed=3)
    places = [np.flatnonzero((row == transfer.X).all(axis=1))[0] for row in sample.X]
    assert len(places) == 100
    assert places == sorted(places)
    assert transfer.sample(10**6, seed=3) is transfer


# --- days ahead --------------------------------------------------------------------------------------------


def until(stamp: str, zone: str = BERLIN) -> SiteLoad:
    """Readings up to a clock time."""
    load = site(day_and_hour, FROM, DAYS, zone=zone)
    end = pd.Timestamp(stamp).tz_localize(zone)
    data = load.data.loc[: end - load.step]
    data.index.freq = load.data.index.freq
    return replace(load, data=data)


@pytest.mark.parametrize(
    ("end", "issue_hour", "due"),
    [
        ("2016-05-20 00:00", 24, "2016-05-20"),
        ("2016-05-20 13:00", 24, "2016-05-20"),  # that of the 21st is not due before midnight
        ("2016-05-19 23:00", 24, "2016-05-19"),
        ("2016-05-19 12:00", 12, "2016-05-20"),
        ("2016-05-19 11:00", 12, "2016-05-19"),
        ("2016-05-20 00:00", 12, "2016-05-20"),
        ("2016-05-19 00:00", 0, "2016-05-20"),
    ],
)
def test_the_day_whose_forecast_is_due(end: str, issue_hour: int, due: str) -> None:
    task = Forecast(issue_hour=issue_hour)
    table = task.ahead(until(end), 1.0)
    assert set(table.day) == {number(date.fromisoformat(due))}
    assert len(table.X) == 24
    with pytest.raises(DataError, match=f"no forecast after that of {due} is due"):
        task.ahead(until(end), 1.0, days=2)


def test_readings_that_are_still_missing_at_the_end_do_not_count() -> None:
    load = until("2016-05-20 00:00")
    table = Forecast().ahead(spoiled(load, load.data.index >= "2016-05-18 22:00+00:00", np.nan), 1.0)
    assert set(table.day) == {number(date(2016, 5, 19))}


@pytest.mark.parametrize("days", [1, 5, 20])
def test_ahead_of_past_days_is_the_table(days: int) -> None:
    load, task = site(noise, FROM, DAYS), Forecast(naive="mixed", issue_hour=9)
    table, told = task.table(load, 3.0), task.ahead(load, 3.0, "2016-05-11", days)
    chosen = table.where((table.day >= number(date(2016, 5, 11))) & (table.day < number(date(2016, 5, 11)) + days))
    for name in ("X", "base", "load_kw", "time"):
        assert getattr(told, name).tobytes() == getattr(chosen, name).tobytes()


def test_ahead_tells_which_rows_it_leaves_out() -> None:
    load = site(noise, FROM, DAYS)
    gap = load.data.index == pd.Timestamp("2016-05-19 05:00", tz=BERLIN)
    told = Forecast().ahead(spoiled(load, gap, np.nan), 1.0, "2016-05-19", 2)
    assert len(told.X) + len(told.left_out) == 48
    assert set(told.left_out) == {number(MID)}  # its last 24 hours are not whole
    assert len(told.X) == 24  # a day is told although its own reading is missing


@pytest.mark.parametrize(("zone", "day"), [("Asia/Beirut", date(2016, 3, 27)), ("America/Havana", date(2016, 11, 6))])
def test_days_whose_midnight_is_missing_or_comes_twice(zone: str, day: date) -> None:
    load = site(day_and_hour, day - timedelta(days=12), 12, zone=zone)
    table = Forecast().ahead(load, 1.0)
    assert set(table.day) == {number(day)}
    assert len(table.X) == (23 if zone == "Asia/Beirut" else 25)


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings_", "key", "remedy"),
    [
        ({"levels": ()}, "task.levels", "levels ="),
        ({"levels": (0.1, 0.9)}, "task.levels", "levels ="),
        ({"levels": (0.5, 0.5)}, "task.levels", "levels ="),
        ({"levels": (0.9, 0.5)}, "task.levels", "levels ="),
        ({"levels": (0.0, 0.5)}, "task.levels", "levels ="),
        ({"levels": (0.5, 1.0)}, "task.levels", "levels ="),
        ({"issue_hour": 25}, "task.issue_hour", "0 to 24"),
        ({"issue_hour": -1}, "task.issue_hour", "0 to 24"),
        ({"folds": 0}, "task.folds", "2 to 20, or 1 to hold nothing back"),
        ({"folds": 21}, "task.folds", "2 to 20"),
        ({"naive": "month"}, "task.naive", "day, week, mixed"),
        ({"test": ("2016-02-30", None)}, "task.test", "2016-01-31"),
        ({"test": ("today", None)}, "task.test", "2016-01-31"),
        ({"test": ("2016-06-01", "2016-06-01")}, "task.test", "the day after the last"),
    ],
)
def test_settings_that_cannot_be(settings_: dict[str, object], key: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Forecast(**settings_)  # type: ignore[arg-type]
    assert caught.value.where == key
    assert remedy in caught.value.remedy


def test_without_test_days_nothing_can_be_judged() -> None:
    with pytest.raises(ConfigError, match="no test days") as caught:
        Forecast().prepare("here", YEAR)
    assert caught.value.where == "task.test"


@pytest.mark.parametrize(
    ("history", "test", "error", "message"),
    [
        (("2016-13-01", None), TASK.test, ConfigError, "participant here, history: '2016-13-01' is no date"),
        (("2016-03-01", "2016-02-01"), TASK.test, ConfigError, "no day lies from 2016-03-01 until before 2016-02-01"),
        (("2015-01-01", "2015-02-01"), TASK.test, DataError, "site here: there is no reading from 2015-01-01"),
        (("2016-01-01", "2016-01-11"), TASK.test, DataError, "site here: 24 usable rows of history are left"),
        (("2016-05-01", "2016-06-01"), TASK.test, ConfigError, "begins on 2016-05-01, when the test has begun"),
        (SPAN, ("2017-01-01", "2017-02-01"), DataError, "site here: 0 usable rows of test days are left"),
        (SPAN, ("2015-01-01", "2015-02-01"), ConfigError, "when the test has begun .2015-01-01."),
    ],
    ids=["no date", "reversed", "outside", "short", "all test", "test later", "test earlier"],
)
def test_spans_that_leave_nothing(
    history: tuple[str, str], test: tuple[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        replace(TASK, test=test).prepare("here", YEAR, history)


def test_a_load_that_does_not_change() -> None:
    data = YEAR.data.copy()
    data.loc["2016-01-31":"2016-04-01", "load_kw"] = 5.0
    with pytest.raises(DataError, match="site here: the load does not change within the history"):
        TASK.prepare("here", replace(YEAR, data=data), SPAN)


def test_too_few_days_for_a_transfer_set() -> None:
    with pytest.raises(DataError, match="site here: 24 usable rows are left for the transfer set") as caught:
        TASK.transfer([YEAR, site(noise, FROM, WARM_UP_DAYS + 1)])
    assert "11 days" in caught.value.remedy


def test_a_step_finer_than_the_data() -> None:
    with pytest.raises(DataError, match="do not make up"):
        replace(TASK, step=QUARTERLY).prepare("here", YEAR, SPAN)


@pytest.mark.parametrize(
    ("first", "days", "error", "message"),
    [
        ("soon", 1, ConfigError, "first: 'soon' is no date"),
        ("2016-05-31", 2, DataError, "no forecast after that of 2016-05-31 is due"),
        ("2190-01-01", 1, DataError, "no forecast after that of 2016-05-31 is due"),
        ("2016-05-05", 1, DataError, "no interval from 2016-05-05 until before 2016-05-06"),
        ("1950-05-05", 1, DataError, "no interval from 1950-05-05"),
    ],
)
def test_days_that_cannot_be_told(first: str, days: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Forecast().ahead(site(noise, FROM, DAYS), 1.0, first, days)


def test_readings_too_few_to_look_back_on() -> None:
    with pytest.raises(DataError, match="no interval from 2016-05-08") as caught:
        Forecast().ahead(site(noise, FROM, 7), 1.0)
    assert "9 days before" in caught.value.remedy


def test_no_readings_at_all() -> None:
    load = site(lambda wall: np.full(len(wall), np.nan), FROM, DAYS)
    with pytest.raises(DataError, match="site here: there is no reading"):
        Forecast().ahead(load, 1.0)


def test_a_history_that_reaches_into_the_test_is_cut_and_says_so() -> None:
    task = Forecast(test=("2016-03-01", "2016-03-08"))
    load = next(iter(from_frame(synthetic(1, 70), Layout(timezone="Europe/Berlin")).values()))
    whole = task.prepare("plant", load, ("2016-01-10", "2016-03-01"))
    longer = task.prepare("plant", load, ("2016-01-10", "2016-03-05"))
    assert np.array_equal(whole.site.rows.X, longer.site.rows.X)
    assert longer.notes[-1] == "days of the history from 2016-03-01 on are not learned from: the test begins there"
    with pytest.raises(ConfigError, match="the history begins on 2016-03-01, when the test has begun"):
        task.prepare("plant", load, ("2016-03-01", "2016-04-01"))
