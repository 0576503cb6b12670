"""What a forecast is made of: the rows of a site and their inputs, all relative to the site's level and scale.

Nothing in a row ends after its issue time, see `energy.known`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedstill.energy.known import RECENT_HOURS, Known, Naive, utc_stamps
from fedstill.labels import Array

LAGS = tuple(range(1, 8))
"""Days back, counted from the last day whose load at that time is known."""
WARM_UP_DAYS = 9
"""Days before a row that its inputs may look back on: a lag of eight days, and the seven-day level a day earlier."""

CALENDAR, AHEAD = ("minute_", "weekday_", "holiday"), ("covariate_", "change_of_")
"""How names of inputs begin that no load is in: of the calendar, and of what is known in advance."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of one site; `X` (n, f), the rest (n,). Targets are `(load_kw - base) / scale`.

    `left_out` holds the days of the rows that lack a reading, one element a row, shape (m,).
    """

    X: Array
    load_kw: Array
    base: Array
    scale: Array
    time: Array
    day: Array
    rules: dict[str, Array]
    left_out: Array

    @property
    def y(self) -> Array:
        """Targets: residuals over the naive rule in units of the site's scale."""
        return ((self.load_kw - self.base) / self.scale).astype(np.float32)

    def where(self, chosen: Array) -> Table:
        """The rows that a mask of shape (n,) chooses."""
        return Table(
            X=self.X[chosen],
            load_kw=self.load_kw[chosen],
            base=self.base[chosen],
            scale=self.scale[chosen],
            time=self.time[chosen],
            day=self.day[chosen],
            rules={name: values[chosen] for name, values in self.rules.items()},
            left_out=self.left_out,
        )


def names(holidays: bool, covariates: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns of X."""
    return (
        "minute_sin",
        "minute_cos",
        *(f"weekday_{i}" for i in range(7)),
        *(("holiday", "holiday_of_base") if holidays else ()),
        *(f"lag_{k}" for k in LAGS),
        "week",
        "similar",
        "base",
        "last_error",
        "last_bias",
        *(f"covariate_{name}" for name in covariates),
        *(f"change_of_{name}" for name in covariates),
        *(f"recent_{h}" for h in range(RECENT_HOURS, 0, -1)),
    )


def rules_by_column(features: Sequence[str]) -> dict[str, dict[int, float]]:
    """The naive rules as sums of columns of X, which hold them relative to the base (see `sites.Floor`)."""
    day, week, similar = (features.index(name) for name in ("lag_1", "week", "similar"))
    return {
        "naive_day": {day: 1.0},
        "naive_week": {week: 1.0},
        "naive_mixed": {day: 0.5, week: 0.5},
        "naive_similar": {similar: 1.0},
        "naive_both": {day: 0.5, similar: 0.5},
    }


def table(
    known: Known,
    naive: Naive,
    scale: float,
    covariates: Mapping[str, Array],
    *,
    holidays: bool = False,
    future: bool = False,
) -> Table:
    """All rows of a site's load that have what their inputs need.

    Parameters
    ----------
    known:
        The load, and what of it is known when.
    naive:
        The rule that targets are residuals over.
    scale:
        The site's scale, kW.
    covariates:
        What is known in advance, each of shape (n,).
    holidays:
        Whether public holidays are inputs.
    future:
        Keep rows whose own load is not known yet: what is to be forecast.
    """
    rules = {"naive_day": known.lag(1), "naive_week": known.back(7), "naive_similar": known.similar()}
    rules["naive_mixed"] = (rules["naive_day"] + rules["naive_week"]) / 2
    rules["naive_both"] = (rules["naive_day"] + rules["naive_similar"]) / 2
    base = rules[f"naive_{naive}"]
    X = np.column_stack(_columns(known, naive, rules, scale, covariates, holidays)).astype(np.float32)
    usable = np.isfinite(X).all(axis=1) & np.isfinite(base)
    if not future:
        usable &= np.isfinite(known.load)
    warm = known.day >= known.day[0] + WARM_UP_DAYS
    full = Table(
        X,
        known.load,
        base,
        np.full(len(base), scale),
        utc_stamps(known.index),
        known.day,
        rules,
        known.day[warm & ~usable],
    )
    return full.where(usable & warm)


def calendar_columns(known: Known, naive: Naive, *, holidays: bool) -> list[Array]:
    """The first columns of X, which are public: time of day, weekday, holidays."""
    calendar = known.calendar
    angle = calendar.minute * (2 * np.pi / 1440)
    columns: list[Array] = [np.sin(angle), np.cos(angle)]
    columns += [calendar.weekday == i for i in range(7)]
    if holidays:
        before = known.holiday_days_before(calendar.holiday, known.days_to_base(naive))
        columns += [calendar.holiday, before]
    return columns


def _columns(
    known: Known,
    naive: Naive,
    rules: Mapping[str, Array],
    scale: float,
    covariates: Mapping[str, Array],
    holidays: bool,
) -> list[Array]:
    """The columns of X, in the order of `names`."""
    base = rules[f"naive_{naive}"]
    columns = calendar_columns(known, naive, holidays=holidays)
    level = known.level()
    errors = known.load - base
    columns += [(known.lag(k) - base) / scale for k in LAGS]
    columns += [(rules[f"naive_{name}"] - base) / scale for name in ("week", "similar")]
    columns += [
        (base - level) / scale,
        known.lag(1, errors) / scale,
        known.mean_of_last_day(errors) / scale,
    ]
    columns += covariates.values()
    columns += [values - known.lag(1, values) for values in covariates.values()]
    columns += [(recent - level) / scale for recent in known.recent()]
    return columns
