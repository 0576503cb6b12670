"""How unlike the loads of enterprises are: a distance between sites for each factor of their profiles, and one index.

Distance of two sites a and b by a factor, from 0 (alike) to 1 (as far apart as pairs of measured sites are; `SPANS`),
cut off at 1:

    level, history             |ln(a / b)| / span
    swing, noise               |a - b| / span
    daily, weekly, season      half the mean of |a[k] - b[k]| over the places k of the shape / span
    weather                    mean of |a - b| over heating and cooling, as far as both have them / span

The second but last is the total variation of two shapes: the share of the energy that would have to move to another
hour, weekday or month to make one the other. The distance of two sites is the mean over the factors that both have;
the heterogeneity index is the mean of that over all pairs of sites. Every factor but the level is free of scale: it
stays what it is when all of a site's load is doubled. Where all sites have all factors, the distance is a
metric but for sites of equal profile (a pseudometric).
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedstill.labels import Array

Shape = tuple[float, ...] | None

SPANS: Mapping[str, float] = {
    "level": math.log(100),
    "swing": 1.0,
    "daily": 0.4,
    "weekly": 0.25,
    "season": 0.2,
    "weather": 0.1,
    "noise": 0.4,
    "history": math.log(10),
}
"""Factor -> the difference that counts as 1: rounded; 3 to 9 % of the pairs of the most varied real set exceed it.

The histories of each real set are equally long; for them ten times as long is a choice. docs/heterogeneity.md has the
measurements.
"""

LANDMARKS: Mapping[str, float] = {
    "eight neighbouring utilities (PJM)": 0.07,
    "three zones of one town (Tetouan)": 0.13,
    "four business sectors (EnerNOC)": 0.18,
    "45 buildings of one university (Cambridge)": 0.26,
    "21 German businesses and farms (SimBench)": 0.28,
}
"""Real sets by their index, lowest first, as benchmarks/heterogeneity.py measures it."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one site's load is like; a value is None where its history does not tell. Made by `energy.profile`.

    Attributes
    ----------
    level_kw:
        Mean load, kW.
    swing:
        Coefficient of variation: standard deviation of the hourly load over its mean.
    load_factor:
        Mean over the highest hourly load. For the reader: one bad reading moves it, so no distance is made of it.
    daily:
        Load of the 24 local hours on working days (Monday to Friday) over their mean.
    weekly:
        Load of the 7 weekdays from Monday on over their mean.
    season:
        Load of the 12 calendar months over their mean.
    heating_per_k, cooling_per_k:
        Added load for each kelvin below 15 °C, or above 21 °C, as a share of the level, 1/K.
    noise:
        Standard deviation of what neither trend nor weekly shape explains, as a share of the level.
    strength:
        Share of the variance around the trend that the weekly shape explains, 0 to 1. For the reader: a site that
        runs round the clock has none, however quiet it is.
    history_days:
        Days of readings.
    """

    level_kw: float | None
    swing: float | None
    load_factor: float | None
    daily: Shape
    weekly: Shape
    season: Shape
    heating_per_k: float | None
    cooling_per_k: float | None
    noise: float | None
    strength: float | None
    history_days: float

    @property
    def weekend_ratio(self) -> float | None:
        """Mean load of Saturday and Sunday over that of Monday to Friday; None where the week is idle."""
        if self.weekly is None or sum(self.weekly[:5]) <= 0:
            return None
        return (sum(self.weekly[5:]) / 2) / (sum(self.weekly[:5]) / 5)

    @property
    def season_amplitude(self) -> float | None:
        """Amplitude of the yearly wave (first harmonic of the months), as a share of the level."""
        return None if self.season is None else abs(_wave(self.season))

    @property
    def season_peak_month(self) -> float | None:
        """The middle of the month at which that wave is highest: 1.0 January to 12.9; None without a wave."""
        if self.season is None or abs(_wave(self.season)) < 1e-9:
            return None
        return 1 + cmath.phase(_wave(self.season)) / (2 * math.pi) * 12 % 12


@dataclass(frozen=True, eq=False)
class Heterogeneity:
    """How unlike n sites are.

    Attributes
    ----------
    factors:
        Factor -> distances, shape (n, n), symmetric, 0 to 1; NaN where one of the two lacks the factor.
    """

    factors: Mapping[str, Array]

    @cached_property
    def distances(self) -> Array:
        """Mean over the factors that both sites have, shape (n, n); NaN where they share none."""
        return _mean_of_known(list(self.factors.values()))

    @property
    def means(self) -> dict[str, float | None]:
        """Mean distance by each factor over all pairs that have it; None where no pair has."""
        return {name: _mean_of_pairs(one) for name, one in self.factors.items()}

    @property
    def index(self) -> float | None:
        """The heterogeneity index: mean distance of all pairs of sites, 0 to 1; None for fewer than two."""
        return _mean_of_pairs(self.distances)


def heterogeneity(profiles: Sequence[Profile]) -> Heterogeneity:
    """Compare sites factor by factor; matrices are in the order of the profiles."""
    heating, cooling = (
        _apart(_column([getattr(one, side) for one in profiles])) for side in ("heating_per_k", "cooling_per_k")
    )
    apart = {
        "level": _apart(_logs([one.level_kw for one in profiles])),
        "swing": _apart(_column([one.swing for one in profiles])),
        "daily": _apart(_shapes([one.daily for one in profiles], 24)) / 2,
        "weekly": _apart(_shapes([one.weekly for one in profiles], 7)) / 2,
        "season": _apart(_shapes([one.season for one in profiles], 12)) / 2,
        "weather": _mean_of_known([heating, cooling]),
        "noise": _apart(_column([one.noise for one in profiles])),
        "history": _apart(_logs([one.history_days for one in profiles])),
    }
    return Heterogeneity({name: np.minimum(1.0, one / SPANS[name]) for name, one in apart.items()})


def _wave(season: Sequence[float]) -> complex:
    """First harmonic of twelve months: amplitude and phase of its highest point, 0 for January."""
    return sum(value * cmath.rect(1, 2 * math.pi * k / 12) for k, value in enumerate(season)) / 6


def _column(values: Sequence[float | None]) -> Array:
    """Numbers as a column, NaN for None, shape (n, 1)."""
    return np.array([math.nan if value is None else value for value in values], np.float64)[:, None]


def _logs(values: Sequence[float | None]) -> Array:
    """Logarithms as a column, NaN for what has none, shape (n, 1)."""
    column = _column(values)
    logs: Array = np.log(np.where(column > 0, column, np.nan))
    return logs


def _shapes(shapes: Sequence[Shape], places: int) -> Array:
    """Shapes as rows, NaN for None, shape (n, places)."""
    return np.array([[math.nan] * places if one is None else one for one in shapes], np.float64).reshape(-1, places)


def _apart(rows: Array) -> Array:
    """Mean absolute difference of all pairs of rows, shape (n, n); column by column, to be thrifty with memory."""
    total: Array = np.zeros((len(rows), len(rows)))
    for column in rows.T:
        total += np.abs(column[:, None] - column[None, :])
    total /= rows.shape[1]
    return total


def _mean_of_known(matrices: Sequence[Array]) -> Array:
    """Mean over matrices, element by element, of what is no NaN; NaN where nothing is left."""
    total, count = np.zeros_like(matrices[0]), np.zeros(matrices[0].shape, np.int64)
    for one in matrices:
        known = np.isfinite(one)
        total += np.where(known, one, 0.0)
        count += known
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _mean_of_pairs(matrix: Array) -> float | None:
    """Mean of a matrix above its diagonal, as far as known."""
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    pairs = pairs[np.isfinite(pairs)]
    return float(pairs.mean()) if len(pairs) else None
