"""Day-ahead load as quantiles, issued at a stated hour, from what is known at that hour.

One row is one interval of one local day. Its target is the residual of the load over the seasonal-naive
rule, divided by the site's scale; its inputs say when it is, what the load was at the same time on the last known
days, the last known 24 hours, and what is known in advance. All inputs are relative to the site's recent
level and scale, so that a model of one site says something about another.

Nothing an input is made of ends after the issue time; `tests/tasks/test_forecast.py` proves it by changing
everything that comes later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd

from fedstill.energy.calendar import local_calendar
from fedstill.energy.changes import august_closure, night_shift
from fedstill.energy.frame import SiteLoad, resample, window
from fedstill.energy.known import RECENT_HOURS, Known, Naive
from fedstill.energy.profile import profile
from fedstill.errors import ConfigError, DataError
from fedstill.labels import Array, Outputs, Space
from fedstill.sites import Floor, Rows, Site, View, stretches
from fedstill.tasks.base import Change, Examination, Prepared, TransferSet, check_folds
from fedstill.tasks.inputs import WARM_UP_DAYS, Table, calendar_columns, names, rules_by_column, table
from fedstill.tasks.spans import Span, between, check_span, date_of, day_number, midnight
from fedstill.tasks.views import view_of_items, view_of_site

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
MIN_ROWS = 48
STRETCH_DAYS = 14
"""Longest stretch of days that is held back at once."""


@dataclass(frozen=True)
class Forecast:
    """The load-forecasting task.

    Attributes
    ----------
    levels:
        Quantile levels, rising, with 0.5.
    step:
        Length of an interval; finer data are averaged to it, None keeps the data's own.
    issue_hour:
        Local hour of the day before at which the forecast is issued, 0 to 24 (24: at midnight).
    naive:
        The seasonal-naive rule that targets are residuals over: same time on the last known "day", same time last
        "week", the mean of those ("mixed"), same time on the last "similar" days (working days, Saturdays, days of
        rest), or the mean of "day" and "similar" ("both"). The floor is the best of all five by the site's own history.
    test:
        First and last local day (exclusive) on which models are judged; None leaves an end open.
    folds:
        In so many parts the history is held back in turn, to choose what to keep (`crossfit`); 1: nothing is.
    covariates:
        Columns known in advance (weather forecast, production plan).
    country, subdivision:
        Whose public holidays count, as in the package `holidays`.
    companions:
        Learners that train beside every participant's own and are averaged with it, see `learners.committee`.
    """

    levels: tuple[float, ...] = LEVELS
    step: str | None = "1h"
    issue_hour: int = 24
    naive: Naive = "both"
    test: Span = (None, None)
    folds: int = 4
    covariates: tuple[str, ...] = ()
    country: str | None = None
    subdivision: str | None = None
    companions: tuple[str, ...] = ("linear", "mlp")
    name: str = "forecast"

    def __post_init__(self) -> None:
        """Refuse settings that cannot be."""
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if not (self.levels and rising and self.levels[0] > 0 and self.levels[-1] < 1 and 0.5 in self.levels):
            raise ConfigError(
                f"quantile levels {list(self.levels)} are not rising numbers between 0 and 1 with 0.5",
                where="task.levels",
                remedy=f"Write for example levels = {list(LEVELS)}",
            )
        if not 0 <= self.issue_hour <= 24:
            raise ConfigError(
                f"issue hour {self.issue_hour} is no hour of a day",
                where="task.issue_hour",
                remedy="Use 0 to 24",
            )
        check_folds(self.folds)
        if self.naive not in get_args(Naive):
            raise ConfigError(
                f"there is no naive rule '{self.naive}'",
                where="task.naive",
                remedy=f"Use {', '.join(get_args(Naive))}",
            )
        check_span(self.test, "task.test")

    @property
    def outputs(self) -> Outputs:
        """Quantiles of the normalised residual."""
        return Outputs(Space.QUANTILES, self.levels)

    @property
    def units(self) -> tuple[str, ...]:
        """A block of a view is a day."""
        return ("day",)

    @property
    def properties(self) -> dict[str, Change]:
        """Whether the site works at night, and whether it closes in August."""
        return {"night_shift": night_shift, "august_closure": august_closure}

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns of X."""
        return names(bool(self.country), self.covariates)

    @property
    def recent_columns(self) -> tuple[int, int]:
        """First and last column (exclusive) of X that hold the last known hours in order of time."""
        return len(self.features) - RECENT_HOURS, len(self.features)

    def prepare(self, party: str, data: SiteLoad, history: Span = (None, None)) -> Prepared:
        """Make a site's load ready.

        Raises
        ------
        ConfigError
            Where no test days are given, or `history` is no span of dates.
        DataError
            Where too few rows are left to learn from or to be judged on.
        """
        check_span(history, f"participant {party}, history")
        if self.test == (None, None):
            raise ConfigError(
                "no test days are given",
                where="task.test",
                remedy='Write for example test = ["2017-01-01", "2018-01-01"]',
            )
        begins, ends = self.test[0], history[1]
        if begins is not None and history[0] is not None and history[0] >= begins:
            raise ConfigError(
                f"the history begins on {history[0]}, when the test has begun ({begins})",
                where=f"participant {party}, history",
                remedy="Learn from days before the test",
            )
        learned = self._at_step(window(data, *history))
        # The days of the test must not show in the scale, nor in anything else that is learned.
        counts = self._learning(_days(learned), history)
        scale = _swing(learned, counts)
        table = self.table(self._at_step(self._needed(data, history)), scale)
        days = table.day
        learning = self._learning(days, history)
        left_out = int((self._learning(table.left_out, history) | between(table.left_out, self.test)).sum())
        parts = {
            "history": table.where(learning),
            "test days": table.where(between(days, self.test) & ~learning),
        }
        for name, part in parts.items():
            if len(part.load_kw) < MIN_ROWS:
                raise DataError(
                    f"{len(part.load_kw)} usable rows of {name} are left, {MIN_ROWS} are needed "
                    f"({left_out} rows had readings missing that their inputs need)",
                    where=f"site {party}",
                    remedy="Give more days, or mend history or test in the federation file",
                )
        known, test = parts.values()
        site = Site(
            party,
            Rows(known.X, known.y, known.day),
            Floor.best(self.outputs, known.X, known.y, rules_by_column(self.features)),
            stretches(known.day, self.folds, STRETCH_DAYS),
            self._view(learned, counts),
        )
        examination = Examination(test.X, test.load_kw, test.day, test.base, test.scale, test.time, test.rules)
        cut = begins is not None and ends is not None and ends > begins
        late = (f"days of the history from {begins} on are not learned from: the test begins there",) if cut else ()
        return Prepared(site, examination, (*data.notes, *late), left_out, data.zone, scale, profile(learned, counts))

    def transfer(self, data: SiteLoad | Sequence[SiteLoad]) -> TransferSet:
        """Make the days of one or more public sites a transfer set; their load as truth is not used.

        Raises DataError where a site has too few rows.
        """
        sites = [self._at_step(one) for one in ([data] if isinstance(data, SiteLoad) else data)]
        parts = []
        for one in sites:
            table = self.table(one, _swing(one, np.ones(len(one.data), bool)))
            parts.append(TransferSet(table.X, 4 * len(one.data) * (1 + len(self.covariates)), table.day))
            if len(table.X) < MIN_ROWS:
                raise DataError(
                    f"{len(table.X)} usable rows are left for the transfer set, {MIN_ROWS} are needed",
                    where=f"site {one.site}",
                    remedy=f"Give {WARM_UP_DAYS + 2} days or more without gaps",
                )
        return TransferSet.join(parts)

    def ahead(self, data: SiteLoad, scale: float, first: str | None = None, days: int = 1) -> Table:
        """Rows of days that have not come yet, or of past days as if they had not.

        Parameters
        ----------
        data:
            The site's readings; those after an issue time are not looked at.
        scale:
            The site's scale in kW, as it was learned with.
        first:
            First local day; None: the last one whose forecast is due.
        days:
            Number of days; all of them must be due, or lie in the past.

        Returns
        -------
        The rows whose inputs are known; `left_out` holds the days of the others.

        Raises
        ------
        ConfigError
            Where `first` is no date.
        DataError
            Where a day is not due yet, or readings that the inputs need are missing.
        """
        load = self._at_step(data)
        due, clock = self._due(load)
        begin = due if first is None else day_number(first, "first")
        end = begin + days
        if end > due + 1:
            raise DataError(
                f"the readings end at {clock:%Y-%m-%d %H:%M}, so no forecast after that of {date_of(due)} is due",
                where=f"site {load.site}",
                remedy=f"Ask for days up to {date_of(due)}, or give later readings",
            )
        stop = max(midnight(end, load.zone), load.data.index[-1] + load.step)
        index = pd.date_range(load.data.index[0], stop, freq=load.step, inclusive="left")
        longer = replace(load, data=load.data.reindex(index.rename("ds")))
        table = self.table(longer, scale, future=True)
        asked = (date_of(begin), date_of(end))
        chosen = between(table.day, asked)
        if not chosen.any():
            raise DataError(
                f"no interval from {asked[0]} until before {asked[1]} has the readings that its inputs need",
                where=f"site {load.site}",
                remedy=f"Give readings of the {WARM_UP_DAYS} days before, up to the hour of issue, without gaps",
            )
        return replace(table.where(chosen), left_out=table.left_out[between(table.left_out, asked)])

    def _due(self, load: SiteLoad) -> tuple[int, pd.Timestamp]:
        """The last day with an issue time that the readings reach, and the clock time at which they end."""
        known = load.data["load_kw"].dropna()
        if known.empty:
            raise DataError("there is no reading", where=f"site {load.site}", remedy="Give a file with readings")
        clock = (known.index[-1] + load.step).tz_convert(load.zone).tz_localize(None)
        return day_number((clock + pd.Timedelta(hours=24 - self.issue_hour)).date().isoformat()), clock

    def _learning(self, days: Array, history: Span) -> Array:
        """Which days may be learned from: those of the history that come before the test, shape (n,)."""
        learning = between(days, history) & ~between(days, self.test)
        if self.test[0] is not None:
            learning &= days < day_number(self.test[0])
        return learning

    def _needed(self, data: SiteLoad, history: Span) -> SiteLoad:
        """The days that history and test ask for, and those before that their inputs look back on."""
        firsts, lasts = zip(history, self.test, strict=True)
        first = min((day_number(one) for one in firsts if one), default=None) if all(firsts) else None
        last = max((day_number(one) for one in lasts if one), default=None) if all(lasts) else None
        start = None if first is None else date_of(first - WARM_UP_DAYS)
        return window(data, start, None if last is None else date_of(last))

    def _at_step(self, data: SiteLoad) -> SiteLoad:
        return data if self.step is None else resample(data, self.step)

    def view(self, X: Array, block: Array | None = None) -> View:
        """What a release model sees of a transfer set's inputs, shape (m, f); see `tasks.views`."""
        return view_of_items(X, self.features, block)

    def _view(self, load: SiteLoad, learning: Array) -> View:
        """What it learns from: the days of the load that are chosen, and no day before them."""
        known = Known(load, self.issue_hour, self.country, self.subdivision)
        calendar = calendar_columns(known, self.naive, holidays=bool(self.country))
        return view_of_site(known, calendar, {name: _covariate(load, name) for name in self.covariates}, learning)

    def table(self, load: SiteLoad, scale: float, *, future: bool = False) -> Table:
        """All rows of a site's load that have what their inputs need.

        Parameters
        ----------
        load:
            The load at the task's step.
        scale:
            The site's scale, kW.
        future:
            Keep rows whose own load is not known yet: what is to be forecast.
        """
        known = Known(load, self.issue_hour, self.country, self.subdivision)
        ahead = {name: _covariate(load, name) for name in self.covariates}
        return table(known, self.naive, scale, ahead, holidays=bool(self.country), future=future)


def _covariate(load: SiteLoad, name: str) -> Array:
    if name not in load.data:
        raise DataError(
            f"covariate '{name}' is missing",
            where=f"site {load.site}",
            remedy=f"Columns are: {', '.join(map(str, load.data.columns))}",
        )
    return load.data[name].to_numpy(np.float64)


def _swing(load: SiteLoad, chosen: Array) -> float:
    """The scale in kW of a site: how far its load swings in the chosen intervals, shape (n,)."""
    known = load.data["load_kw"][chosen].dropna()
    swing = float(known.std()) if len(known) > 1 else 0.0
    if swing <= 1e-9 * float(known.abs().max() if len(known) else 1.0):
        raise DataError(
            "the load does not change within the history, or has no readings there",
            where=f"site {load.site}",
            remedy="Give another period",
        )
    return swing


def _days(load: SiteLoad) -> Array:
    """Local day of each interval, counted from 1970-01-01, shape (n,)."""
    return local_calendar(pd.DatetimeIndex(load.data.index), load.zone).day
