"""A site's load as it is known when a forecast is issued: lags, levels and recent hours that see nothing later."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from fedstill.energy.calendar import LocalCalendar, days_back, local_calendar
from fedstill.energy.frame import SiteLoad
from fedstill.labels import Array

RECENT_HOURS = 24
LEVEL_DAYS = 7
MIN_KNOWN = 0.8
"""Share of the readings of a window that must be there for its mean to count."""
DAY = np.timedelta64(1, "D")
HOUR = np.timedelta64(1, "h")
SATURDAY, SUNDAY = 5, 6
SIMILAR_DAYS = 8
"""How far back similar days are looked for: the last of the same weekday is among them."""
FADING = 0.7
"""What a similar day counts against one a day nearer; 0.6 to 0.8 do alike on the development years."""
Naive = Literal["day", "week", "mixed", "similar", "both"]


class Known:
    """A site's load as it is known at the issue time of each row's day. Arrays have one element an interval."""

    def __init__(
        self, load: SiteLoad, issue_hour: int, country: str | None = None, subdivision: str | None = None
    ) -> None:
        self.zone = load.zone
        self.issue_hour = issue_hour
        self.index = pd.DatetimeIndex(load.data.index)
        self.load: Array = load.data["load_kw"].to_numpy(np.float64)
        self.step = pd.Timedelta(load.step).to_timedelta64().astype("timedelta64[ns]")
        self.calendar: LocalCalendar = local_calendar(self.index, load.zone, country, subdivision)
        self.day = self.calendar.day
        self._stamps: dict[int, Array] = {}
        self._start = utc_stamps(self.index)
        # The issue time of a row is a wall-clock hour on the local day before.
        days, self._which = np.unique(self.day, return_inverse=True)
        local = pd.DatetimeIndex(days.astype("datetime64[D]") - 1 * DAY + issue_hour * HOUR)
        issued = local.tz_localize(load.zone, ambiguous=np.ones(len(local), bool), nonexistent="shift_forward")
        self._issued = utc_stamps(issued.tz_convert("UTC"))

    def _issue_of(self, values: Array) -> Array:
        """A value a day, spread over the day's rows."""
        return values[self._which]

    def _back(self, days: int) -> Array:
        """UTC stamps of the same wall-clock time so many days back; worked out once, since every lag asks again."""
        if days not in self._stamps:
            self._stamps[days] = utc_stamps(days_back(self.index, self.zone, days))
        return self._stamps[days]

    def back(self, days: int, values: Array | None = None) -> Array:
        """The load (or `values`) so many days back; NaN where there is none or it is not known at issue time."""
        values = self.load if values is None else values
        when = self._back(days)
        position = (when - self._start[0]) // self.step
        inside = (position >= 0) & (position < len(values)) & (when + self.step <= self._issue_of(self._issued))
        return np.where(inside, values[np.clip(position, 0, len(values) - 1)], np.nan)

    def lag(self, k: int, values: Array | None = None) -> Array:
        """Same time of day, `k` days back from the last day on which that time is known."""
        return np.where(self._reaches_yesterday, self.back(k, values), self.back(k + 1, values))

    @cached_property
    def _reaches_yesterday(self) -> Array:
        """Whether the same time yesterday is known at issue time."""
        known: Array = self._back(1) + self.step <= self._issue_of(self._issued)
        return known

    def similar(self) -> Array:
        """Same time on the similar days of the last eight: working days, Saturdays, or days of rest.

        Days of rest are Sundays and public holidays. The mean is weighted by `FADING` for each day back, so that it
        follows the level and yet averages noise away: exponential smoothing over similar days. Without a similar day
        in reach (a holiday after none) it is the same weekday a week before.
        """
        days, first = np.unique(self.day, return_index=True)
        weekday, holiday = self.calendar.weekday[first], self.calendar.holiday[first]
        kind = np.where(holiday | (weekday == SUNDAY), SUNDAY, np.where(weekday == SATURDAY, SATURDAY, 0))
        total, weight = np.zeros(len(self.day)), np.zeros(len(self.day))
        for back in range(1, SIMILAR_DAYS + 1):
            position = np.searchsorted(days, days - back)
            alike = self._issue_of((days[position] == days - back) & (kind[position] == kind))
            load = self.back(back)
            counts = np.where(alike & np.isfinite(load), FADING**back, 0.0)
            total += counts * np.where(counts > 0, load, 0.0)
            weight += counts
        return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), self.back(7))

    def days_to_base(self, naive: Naive) -> Array:
        """How many days back the naive rule looks (for "mixed": its nearer part)."""
        return np.where(naive == "week", 7, np.where(self._reaches_yesterday, 1, 2))

    def holiday_days_before(self, holiday: Array, back: Array) -> Array:
        """Whether the day so many days before was a holiday."""
        days, first = np.unique(self.day, return_index=True)
        position = np.searchsorted(days, self.day - back)
        found = (position < len(days)) & (days[np.minimum(position, len(days) - 1)] == self.day - back)
        return np.where(found, holiday[first][np.minimum(position, len(days) - 1)], False)

    def _window_means(self, values: Array, starts: Array, stops: Array) -> Array:
        """Means of `values[start:stop]`; NaN where more than a fifth of a window is missing or outside."""
        finite = np.isfinite(values)
        total = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
        count = np.concatenate([[0], np.cumsum(finite)])
        low, high = np.clip(starts, 0, len(values)), np.clip(stops, 0, len(values))
        there = count[high] - count[low]
        enough = there >= np.maximum(1, MIN_KNOWN * (stops - starts))
        return np.where(enough, (total[high] - total[low]) / np.maximum(there, 1), np.nan)

    def _before_issue(self, first_hour: int, last_hour: int, values: Array | None = None) -> Array:
        """Mean over the window from `first_hour` to `last_hour` hours before issue, one value a row."""
        end = (self._issued - self._start[0]) // self.step
        per_hour = int(HOUR.astype("timedelta64[ns]") // self.step)
        means = self._window_means(
            self.load if values is None else values, end - first_hour * per_hour, end - last_hour * per_hour
        )
        return self._issue_of(means)

    def level(self) -> Array:
        """Mean load of the last seven days before issue."""
        return self._before_issue(LEVEL_DAYS * 24, 0)

    def mean_of_last_day(self, values: Array) -> Array:
        """Mean of `values` over the last 24 hours before issue."""
        return self._before_issue(24, 0, values)

    def first_recent_day(self) -> Array:
        """Local day in which the last 24 hours before issue begin, counted from 1970-01-01."""
        steps = RECENT_HOURS * int(HOUR.astype("timedelta64[ns]") // self.step)
        begin = (self._issued - self._start[0]) // self.step - steps
        return self._issue_of(self.day[np.clip(begin, 0, len(self.day) - 1)])

    def recent(self) -> list[Array]:
        """Hourly means of the last 24 hours before issue, oldest first.

        Each is of its own readings to the last bit, and not the difference of two sums over all that came before: a
        private model must not see by the rounding what no reading of its hours says.
        """
        per_hour = int(HOUR.astype("timedelta64[ns]") // self.step)
        end = (self._issued - self._start[0]) // self.step
        means = []
        for hour in range(RECENT_HOURS, 0, -1):
            position = (end - hour * per_hour)[:, None] + np.arange(per_hour)
            inside = (position >= 0) & (position < len(self.load))
            read = np.where(inside, self.load[np.clip(position, 0, len(self.load) - 1)], np.nan)
            known = np.isfinite(read)
            count = known.sum(axis=1)
            mean = np.where(known, read, 0.0).sum(axis=1) / np.maximum(count, 1)
            means.append(self._issue_of(np.where(count >= np.maximum(1, MIN_KNOWN * per_hour), mean, np.nan)))
        return means


def utc_stamps(stamps: pd.DatetimeIndex) -> Array:
    """UTC stamps as NumPy has them, without a zone."""
    return stamps.tz_localize(None).to_numpy().astype("datetime64[ns]")
