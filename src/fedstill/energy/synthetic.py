"""Artificial load of a federation of sites, from a small physical model. Nothing here was ever measured.

Load of a site at an instant, in kW (`SiteModel` names the parameters):

    (base + process * working * season) * growth
        + heating * max(0, heating_balance - T) + cooling * max(0, T - cooling_balance),  all times noise

`working` is 1 in a shift, 0 outside; T is the regional temperature plus the site's own offset. Everything is
rendered on a grid of quarter hours and then averaged, so a longer step is the mean of its quarters.

Left out on purpose: public holidays, thermal inertia, on-site generation, and any tie between sites other
than the shared weather. A forecaster that does well here has learned this page, not industry.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from fedstill.energy.frame import SiteLoad, resample
from fedstill.energy.skew import FACTORS, PLAIN, REAL, Skew
from fedstill.errors import ConfigError
from fedstill.labels import Array

QUARTERS_PER_STEP = {"15min": 1, "30min": 2, "1h": 4}
QUARTERS_PER_YEAR = 365.25 * 96
SHIFT_HOURS = 8
WORDS = {1: "one-shift", 2: "two-shift", 3: "three-shift"}
NOTE = "artificial: made by a small model, nothing was measured"
MAX_ROWS = 20_000_000
"""Most rows that are made at once; 20 million take some 2 GB of memory."""


@dataclass(frozen=True)
class SiteModel:
    """What determines a site's load. Clock times are local wall-clock hours.

    Attributes
    ----------
    base_kw, process_kw:
        Load that is always on, and what working adds to it.
    shifts, start_hour, days_per_week:
        How many shifts of 8 h follow each other, when the first begins, and on how many days from Monday on.
        A shift that runs past midnight belongs to the day on which the first one began.
    lunch_dip:
        Share of the process load that rests from 12:00 to 13:00.
    season:
        Share by which the process load swings over the year, highest on 15 January.
    heating_kw_per_k, heating_balance_c, cooling_kw_per_k, cooling_balance_c:
        Added load for each kelvin below, or above, a balance temperature.
    temperature_offset_k:
        How much warmer the site is than its region.
    closures:
        Company holidays as (month, day, number of days), the same every year.
    growth_per_year:
        Yearly change of base and process load, as a share.
    noise, noise_hours:
        Standard deviation of the logarithm of the load, and the time constant of its autocorrelation.
    stops_per_year, stop_hours:
        How often on average the process fails, and for how long.
    """

    base_kw: float = 100.0
    process_kw: float = 300.0
    shifts: int = 2
    start_hour: float = 6.0
    days_per_week: int = 5
    lunch_dip: float = 0.15
    season: float = 0.05
    heating_kw_per_k: float = 3.0
    heating_balance_c: float = 15.0
    cooling_kw_per_k: float = 5.0
    cooling_balance_c: float = 21.0
    temperature_offset_k: float = 0.0
    closures: tuple[tuple[int, int, int], ...] = ((12, 24, 9),)
    growth_per_year: float = 0.0
    noise: float = 0.05
    noise_hours: float = 6.0
    stops_per_year: float = 4.0
    stop_hours: float = 4.0


def draw(rng: np.random.Generator, skew: float | Skew) -> SiteModel:
    """Draw a site. With `skew` 0 every site is the typical one, with 1 the sites differ as much as they can.

    Parameters
    ----------
    rng:
        Where the differences come from.
    skew:
        0 to 1, for all factors or for each: scales every continuous difference, and is the chance that a site
        draws its shifts, its week or its summer closure by itself. One number has the narrower `PLAIN` ranges.
    """
    typical = SiteModel()
    by = asdict(skew) if isinstance(skew, Skew) else dict.fromkeys(FACTORS, skew)
    ranges = REAL if isinstance(skew, Skew) else PLAIN

    def about(factor: str, centre: float, spread: float) -> float:
        return centre + by[factor] * spread * rng.uniform(-1, 1)

    def one_of(factor: str, common: int, *others: int) -> int:
        own = rng.random() < by[factor]
        choice = int(rng.choice((common, *others)))
        return choice if own else common

    # The order of the draws is part of what a seed means.
    size = 8.0 ** about("level", 0, ranges.size_power)
    shifts = one_of("daily", typical.shifts, 1, 3)
    summer_days = 7 * one_of("season", 0, 1, 2, 3)
    return SiteModel(
        base_kw=size * about("swing", typical.base_kw, ranges.base_kw),
        process_kw=size * typical.process_kw,
        shifts=shifts,
        start_hour=one_of("daily", 6, 5, 7, 8),
        days_per_week=one_of("weekly", 5, 6, 7),
        lunch_dip=0.0 if shifts == 3 else about("daily", typical.lunch_dip, 0.15),
        season=about("season", typical.season, ranges.season),
        # Where a range goes below zero it is folded: no slope and no noise is negative.
        heating_kw_per_k=size * abs(about("weather", typical.heating_kw_per_k, ranges.heating_kw_per_k)),
        heating_balance_c=about("weather", typical.heating_balance_c, 2),
        cooling_kw_per_k=size * abs(about("weather", typical.cooling_kw_per_k, ranges.cooling_kw_per_k)),
        cooling_balance_c=about("weather", typical.cooling_balance_c, 3),
        temperature_offset_k=about("weather", 0, 2),
        closures=((8, 1, summer_days), *typical.closures),
        growth_per_year=about("season", 0, 0.05),
        noise=abs(about("noise", typical.noise, ranges.noise)),
        noise_hours=about("noise", typical.noise_hours, 4),
        stops_per_year=about("noise", typical.stops_per_year, 4),
        stop_hours=about("noise", typical.stop_hours, 3),
    )


def synthetic(
    n_sites: int = 12,
    days: int = 365,
    step: str = "1h",
    start: str = "2016-01-01",
    zone: str = "Europe/Berlin",
    seed: int = 0,
    skew: float | Skew = 0.5,
    *,
    on_progress: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """Make the artificial load of a federation. The same arguments give the same numbers.

    A site's series depends on the seed and the site's number, not on how many sites there are.

    Parameters
    ----------
    n_sites:
        How many sites, 1 or more.
    days:
        How many local days, 1 or more; those of the clock changes have 23 and 25 hours.
    step:
        "15min", "30min" or "1h".
    start:
        First local day, YYYY-MM-DD.
    zone:
        IANA time zone whose wall clock the shifts follow.
    seed:
        0 or more.
    skew:
        How unlike the sites are, 0 (all alike but for noise and stops) to 1; a `Skew` says so for each factor,
        with 1 as unlike as real sites. See `draw`.
    on_progress:
        Called after each site with 1.

    Returns
    -------
    DataFrame
        Long form: `unique_id` ("synthetic-01-two-shift"), `ds` (start of the step, UTC), `y` (mean load in
        the step, kW) and `temperature_c` (mean regional temperature, the same for all sites). With a skew of
        history sites begin on days of their own; all end on the same.

    Raises
    ------
    ConfigError
        An argument names something that cannot be.
    """
    frames = []
    for name, site in _made(n_sites, days, step, start, zone, seed, skew):
        frames.append(site.rename_axis("ds").reset_index().assign(unique_id=name))
        if on_progress:
            on_progress(1)
    return pd.concat(frames, ignore_index=True)[["unique_id", "ds", "y", "temperature_c"]]


def sites(
    n_sites: int = 12,
    skew: float | Skew = 0.5,
    *,
    days: int = 365,
    step: str = "1h",
    start: str = "2016-01-01",
    zone: str = "Europe/Berlin",
    seed: int = 0,
    weather: SiteLoad | None = None,
) -> dict[str, SiteLoad]:
    """Make a federation of artificial sites that are as unlike as asked for, measured by real sites.

    The same as `synthetic` with a `Skew`, ready for `Member` and `Forecast`: a number is `Skew.all` of it.
    Parameters and errors are those of `synthetic`, and `weather`: real columns for every site, but for `load_kw`,
    on a grid as fine as the step or finer. Heating and cooling follow its `temperature_c` (degrees Celsius) where
    there is one. What is missing there stays missing, with the load that follows it.

    Returns
    -------
    dict[str, SiteLoad]
        Sites by name, each with `temperature_c` of the region and the other columns of `weather`.
    """
    by = skew if isinstance(skew, Skew) else Skew.all(skew)
    real = pd.DataFrame() if weather is None else resample(weather, step).data.drop(columns="load_kw", errors="ignore")
    made = {}
    for name, site in _made(n_sites, days, step, start, zone, seed, by, real.get("temperature_c")):
        columns = {str(column): real[column].reindex(site.index) for column in real}
        made[name] = SiteLoad(name, site.rename(columns={"y": "load_kw"}).assign(**columns), zone, (NOTE,))
    return made


def _made(
    n_sites: int,
    days: int,
    step: str,
    start: str,
    zone: str,
    seed: int,
    skew: float | Skew,
    real_c: pd.Series[float] | None = None,
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Names and series (`y`, `temperature_c`, by UTC) of all sites, one after the other. Raises ConfigError.

    `real_c` is the region's temperature in each step, by UTC; None makes one.
    """
    _require(n_sites >= 1, "n_sites", n_sites, "Ask for 1 or more")
    _require(days >= 1, "days", days, "Ask for 1 or more")
    _require(seed >= 0, "seed", seed, "Use a whole number that is not negative")
    _require(isinstance(skew, Skew) or 0 <= skew <= 1, "skew", skew, "Use a number from 0 to 1")
    _require(step in QUARTERS_PER_STEP, "step", step, f"Use one of {', '.join(QUARTERS_PER_STEP)}")
    rows = n_sites * days * 96 // QUARTERS_PER_STEP[step]
    _require(rows <= MAX_ROWS, "n_sites x days", rows, f"Ask for {MAX_ROWS} rows or less at once")
    quarters = _quarters(start, days, zone)

    count = QUARTERS_PER_STEP[step]
    whole = len(quarters) // count * count

    def mean(values: Array) -> Array:
        averaged: Array = values[:whole].reshape(-1, count).mean(axis=1)
        return averaged

    ds = pd.date_range(quarters[0].tz_convert("UTC"), periods=whole // count, freq=step, name="ds")
    if real_c is None:
        region_c = weather(quarters, np.random.default_rng([seed, 0]))
    else:  # what is left of a last step is not rendered into any
        region_c = np.resize(np.repeat(real_c.reindex(ds).to_numpy(np.float64), count), len(quarters))
    temperature_c = mean(region_c).round(2)
    for number in range(1, n_sites + 1):
        # One stream each, so that a longer series begins like a shorter one.
        model = draw(np.random.default_rng([seed, number, 0]), skew)
        noise_rng, stop_rng, history_rng = (np.random.default_rng([seed, number, part]) for part in (1, 2, 3))
        y = mean(render(model, quarters, region_c, noise_rng, stop_rng)).round(3)
        site = pd.DataFrame({"y": y, "temperature_c": temperature_c}, index=ds)
        share = 10.0 ** (-history_rng.random() * skew.history) if isinstance(skew, Skew) else 1.0
        first = ds.searchsorted(_day_after(quarters[0], days - max(1, round(share * days))))
        yield f"synthetic-{number:02d}-{WORDS[model.shifts]}", site.iloc[first:]


def weather(quarters: pd.DatetimeIndex, rng: np.random.Generator) -> Array:
    """Regional temperature, degrees Celsius, shape (n,): a year, a day, and weather that lasts for days.

    Mean 10 °C; coldest on 15 January and 10 K below the mean then; warmest at 15:00 and 4 K above the day's
    mean; on top an autocorrelated deviation of 3.5 K with a time constant of 72 h.
    """
    year = -10.0 * np.cos(2 * np.pi * _year_share(quarters))
    day = 4.0 * np.cos(2 * np.pi * (_hour(quarters) - 15.0) / 24.0)
    result: Array = 10.0 + year + day + _lasting(rng, len(quarters), 3.5, 72.0)
    return result


def render(
    model: SiteModel,
    quarters: pd.DatetimeIndex,
    region_c: Array,
    noise_rng: np.random.Generator,
    stop_rng: np.random.Generator,
) -> Array:
    """A site's load, kW, shape (n,).

    Parameters
    ----------
    model:
        The site.
    quarters:
        Starts of n quarter hours without a gap, in the zone whose wall clock the site follows.
    region_c:
        Regional temperature, degrees Celsius, shape (n,).
    noise_rng, stop_rng:
        Where noise and stops come from.
    """
    season = 1 + model.season * np.cos(2 * np.pi * _year_share(quarters))
    growth = (1 + model.growth_per_year) ** (np.arange(len(quarters)) / QUARTERS_PER_YEAR)
    process = model.process_kw * working(model, quarters) * season * ~_stopped(model, len(quarters), stop_rng)
    site_c = region_c + model.temperature_offset_k
    heating = model.heating_kw_per_k * np.maximum(0, model.heating_balance_c - site_c)
    cooling = model.cooling_kw_per_k * np.maximum(0, site_c - model.cooling_balance_c)
    noise = np.exp(_lasting(noise_rng, len(quarters), model.noise, model.noise_hours) - model.noise**2 / 2)
    load: Array = ((model.base_kw + process) * growth + heating + cooling) * noise
    return load


def working(model: SiteModel, quarters: pd.DatetimeIndex) -> Array:
    """Share of the process that runs by plan, 0 to 1, shape (n,)."""
    hour = _hour(quarters)
    into_day = (hour - model.start_hour) % 24
    # Before the first shift starts, the clock is still in the working day that began yesterday.
    clock = quarters.tz_localize(None).normalize()
    day = clock - pd.to_timedelta((hour < model.start_hour).astype(int), unit="D")
    runs = (into_day < SHIFT_HOURS * model.shifts) & (day.day_of_week < model.days_per_week) & ~_closed(model, day)
    lunch = (hour >= 12) & (hour < 13)
    result: Array = runs * np.where(lunch, 1 - model.lunch_dip, 1.0)
    return result


def _closed(model: SiteModel, day: pd.DatetimeIndex) -> Array:
    closed = np.zeros(len(day), dtype=bool)
    for year in range(day[0].year - 1, day[-1].year + 1):  # a closure may run into the next year
        for month, first, length in model.closures:
            begin = pd.Timestamp(year, month, first)
            closed |= (day >= begin) & (day < begin + pd.Timedelta(days=length))
    return closed


def _stopped(model: SiteModel, n: int, rng: np.random.Generator) -> Array:
    """Whether the process stands still; stops begin at random, by day and by night alike, shape (n,)."""
    begins = rng.random(n) < model.stops_per_year / QUARTERS_PER_YEAR
    length = max(1, round(4 * model.stop_hours))
    stopped: Array = np.convolve(begins, np.ones(length, dtype=int))[:n] > 0
    return stopped


def _lasting(rng: np.random.Generator, n: int, sigma: float, hours: float) -> Array:
    """Stationary first-order autoregressive noise, mean 0: standard deviation, time constant in hours."""
    keep = math.exp(-0.25 / hours)
    shocks = rng.normal(size=n)
    shocks[1:] *= math.sqrt(1 - keep**2) / (1 - keep)  # the moving mean scales all but the first by 1 - keep
    noise: Array = pd.Series(shocks).ewm(alpha=1 - keep, adjust=False).mean().to_numpy() * sigma
    return noise


def _hour(quarters: pd.DatetimeIndex) -> Array:
    hour: Array = quarters.hour.to_numpy() + quarters.minute.to_numpy() / 60
    return hour


def _year_share(quarters: pd.DatetimeIndex) -> Array:
    """Share of the year that has passed since 15 January."""
    share: Array = (quarters.day_of_year.to_numpy() - 15 + _hour(quarters) / 24) / 365.25
    return share


def _quarters(start: str, days: int, zone: str) -> pd.DatetimeIndex:
    """Starts of all quarter hours of some local days, in the zone."""
    try:
        first = datetime.date.fromisoformat(start)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{start!r} is no day", where="start", remedy="Write it as 2016-01-31") from error
    _require(first.year >= 1970 and first.year + days / 365 < 2200, "start", start, "Stay in 1970 to 2199")
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, KeyError) as error:
        remedy = "Use an IANA name such as Europe/Berlin or UTC"
        raise ConfigError(f"{zone!r} is no time zone", where="zone", remedy=remedy) from error
    # Where the clock changes at midnight, the day begins with the first instant that it really has.
    ends = pd.DatetimeIndex([first, first + datetime.timedelta(days=days)]).as_unit("ns")
    ends = ends.tz_localize(zone, nonexistent="shift_forward", ambiguous=np.array([True, True]))
    return pd.date_range(ends[0], ends[1], freq="15min", inclusive="left")


def _day_after(moment: pd.Timestamp, days: int) -> pd.Timestamp:
    """The local midnight so many days after that of a moment, or the first instant of that day."""
    day = pd.DatetimeIndex([moment.tz_localize(None).normalize() + pd.Timedelta(days=days)])
    return day.tz_localize(moment.tz, nonexistent="shift_forward", ambiguous=np.array([True]))[0]


def _require(holds: bool, where: str, value: object, remedy: str) -> None:
    if not holds:
        raise ConfigError(f"{value!r} cannot be", where=where, remedy=remedy)
