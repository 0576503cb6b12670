"""The profile of one site: what its load is like, in a few numbers that can be compared between enterprises.

All is measured on hourly means in local time; an hour with a reading missing is missing.

* Level, load factor (mean over peak) and coefficient of variation are as everywhere in energy statistics.
* A shape is the means by hour, weekday or month over their own mean, as a typical day is in load profiling.
* Noise and strength take the load apart into a trend (centred moving mean of a week), a shape (mean of each of the 168
  hours of the week) and a remainder R. Noise is the standard deviation of R; strength is that of seasonality,
  1 - Var(R) / Var(shape + R) (Wang, Smith and Hyndman, Characteristic-based clustering for time series data, Data
  Mining and Knowledge Discovery 13, 2006). The squares of R are divided by their degrees of freedom, so that a short
  history is not flattered.
* The weather response is a regression of the mean load of working days on heating and cooling degrees: a
  change-point model (Kissock, Haberl and Claridge, Inverse modeling toolkit, ASHRAE Transactions 109, 2003) with both
  points fixed. What else goes with the season, such as a summer break, is in it too.

Public holidays count as working days: so a profile needs no country.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from fedstill.energy.calendar import LocalCalendar, local_calendar
from fedstill.energy.frame import SiteLoad, resample
from fedstill.energy.heterogeneity import Profile, Shape
from fedstill.labels import Array

TEMPERATURE = "temperature_c"
"""The column of the outdoor temperature, degrees Celsius."""
HEATING_BELOW_C = 15.0
COOLING_ABOVE_C = 21.0
WEEK_HOURS = 168
MIN_DAYS = 14
"""Days of readings that the shapes of day and week need."""
MIN_NOISE_DAYS = 21
"""Days of readings that noise and strength need: half a week at each end has no trend."""
MIN_MONTH_DAYS = 20
"""Days of readings that a season needs in every calendar month."""
MIN_DEGREE_DAYS = 10
"""Working days with heating, or cooling, degrees that its slope needs."""
MIN_DAY_HOURS = 20
"""Hours that such a day needs."""
MIN_KNOWN = 0.8
"""Share of the readings of a week that its moving mean needs."""
TINY = 1e-12
"""A variance, relative to the level squared, at which the load never departs from its trend."""


def profile(load: SiteLoad, counts: Array | None = None) -> Profile:
    """Measure a site.

    Parameters
    ----------
    load:
        Its load on a grid of an hour or finer; perhaps with a column `temperature_c`.
    counts:
        Which intervals are looked at, bool, shape (n,); None: all.

    Returns
    -------
    Profile
        None for what the readings do not tell: the shapes of day and week need 14 days, noise and strength 21, a
        season 20 days of every month, a slope 10 working days on its side; all but level and history need a mean
        load above 0.
    """
    if counts is not None:
        load = replace(load, data=load.data.where(np.broadcast_to(counts[:, None], load.data.shape)))
    hourly = resample(load, "1h").data
    hourly = hourly.loc[hourly["load_kw"].first_valid_index() : hourly["load_kw"].last_valid_index()]
    y = hourly["load_kw"].to_numpy(np.float64)
    known = np.isfinite(y)
    level = float(y[known].mean()) if known.any() else None
    nothing = Profile(
        level_kw=level, swing=None, load_factor=None, daily=None, weekly=None, season=None, heating_per_k=None,
        cooling_per_k=None, noise=None, strength=None, history_days=round(float(known.sum()) / 24, 2),
    )  # fmt: skip
    if level is None or level <= 0:
        return nothing
    y = y / level
    local = local_calendar(pd.DatetimeIndex(hourly.index), load.zone)
    found = replace(
        nothing, swing=float(y[known].std()), load_factor=float(1 / y[known].max()), season=_season(y, local)
    )
    if TEMPERATURE in hourly:
        heating, cooling = _slopes(y, hourly[TEMPERATURE].to_numpy(np.float64), local)
        found = replace(found, heating_per_k=heating, cooling_per_k=cooling)
    if nothing.history_days < MIN_DAYS:
        return found
    works = local.weekday < 5
    noise, strength = _remainder(y, local) if nothing.history_days >= MIN_NOISE_DAYS else (None, None)
    return replace(
        found,
        daily=_shape(y[works], _hour(local)[works], 24),
        weekly=_shape(y, local.weekday, 7),
        noise=noise,
        strength=strength,
    )


def _hour(local: LocalCalendar) -> Array:
    hour: Array = local.minute // 60
    return hour


def _means(values: Array, place: Array, places: int) -> tuple[Array, Array]:
    """Means of the known values at each place, and how many there are; NaN where there is none."""
    known = np.isfinite(values)
    count = np.bincount(place[known], minlength=places)
    total = np.bincount(place[known], values[known], minlength=places)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), count


def _shape(y: Array, place: Array, places: int, least: int = 1) -> Shape:
    """Means at the places over their mean; None where a place has fewer than `least` readings, or all is idle."""
    means, count = _means(y, place, places)
    if count.min() < least or means.mean() <= 0:
        return None
    return tuple(float(value) for value in means / means.mean())


def _season(y: Array, local: LocalCalendar) -> Shape:
    month = local.day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    return _shape(y, month, 12, 24 * MIN_MONTH_DAYS)


def _remainder(y: Array, local: LocalCalendar) -> tuple[float | None, float | None]:
    """Noise and strength."""
    trend = pd.Series(y).rolling(WEEK_HOURS, center=True, min_periods=round(MIN_KNOWN * WEEK_HOURS)).mean().to_numpy()
    around = y - trend
    # A window that reaches beyond the ends would hold more of some days of the week than of others.
    around[: WEEK_HOURS // 2], around[1 - WEEK_HOURS // 2 :] = np.nan, np.nan
    place = 24 * local.weekday + _hour(local)
    means, count = _means(around, place, WEEK_HOURS)
    rest = (around - means[place])[np.isfinite(around)]
    free = len(rest) - int((count > 0).sum())
    if free <= 0:
        return None, None
    left, moved = float((rest**2).sum() / free), float(np.nanvar(around))
    return float(np.sqrt(left)), max(0.0, 1 - left / moved) if moved > TINY else None


def _slopes(y: Array, temperature_c: Array, local: LocalCalendar) -> tuple[float | None, float | None]:
    """Share of the level that working days gain for each kelvin of heating, and of cooling; None where too few tell."""
    usable = np.isfinite(y) & np.isfinite(temperature_c) & (local.weekday < 5)
    days, place, hours = np.unique(local.day[usable], return_inverse=True, return_counts=True)
    whole = hours >= MIN_DAY_HOURS
    load, air = (_means(values[usable], place, len(days))[0][whole] for values in (y, temperature_c))
    if len(air) < MIN_DEGREE_DAYS:
        return None, None
    degrees = np.column_stack([np.maximum(0, HEATING_BELOW_C - air), np.maximum(0, air - COOLING_ABOVE_C)])
    # Days that are all equally cold tell no slope; they would only take the place of the constant.
    told = ((degrees > 0).sum(axis=0) >= MIN_DEGREE_DAYS) & (np.ptp(degrees, axis=0) > 1)
    columns = np.column_stack([np.ones(len(air)), degrees[:, told]])
    slopes = iter(np.linalg.lstsq(columns, load, rcond=None)[0][1:])
    heating, cooling = (float(next(slopes)) if side else None for side in told)
    return heating, cooling
