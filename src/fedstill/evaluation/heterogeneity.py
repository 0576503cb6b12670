"""How unlike the participants of a run are: the report's part on it, the words for it, and the geometry of its picture.

Only a simulation can make it: in a real federation a profile is private and stays at its site.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fedstill.energy.heterogeneity import LANDMARKS, Profile, heterogeneity
from fedstill.evaluation import plots, wording
from fedstill.evaluation.plots import Tick
from fedstill.evaluation.schema import HeterogeneityReport, ProfileReport
from fedstill.labels import Array

DIGITS = 5
"""Significant digits of a profile in the report."""
MAX_SQUARE = 48
"""Participants in the picture of distances; more could not be told apart."""
MAX_SHAPES = 24
"""Participants whose typical day is drawn."""
CLEAR = 1.25
"""An index so many times that of the nearest real set is no longer "about as unlike"."""

FACTORS = {
    "level": "level",
    "swing": "swing",
    "daily": "shape of the day",
    "weekly": "shape of the week",
    "season": "season",
    "weather": "weather response",
    "noise": "noise",
    "history": "length of history",
}
"""Plain words for the factors."""


@dataclass(frozen=True)
class FactorBar:
    """How far apart participants are by one factor, 0 to 100, and between which values they lie."""

    name: str
    at: float
    text: str
    values: str


@dataclass(frozen=True)
class Cell:
    """The distance of two participants in the picture: place, strength of the colour 0 to 1, words."""

    column: int
    row: int
    strength: float
    text: str


@dataclass(frozen=True)
class Day:
    """The typical working day of one participant in a square of 100 by 100, y downwards."""

    number: int
    name: str
    level: str
    group: int | None
    line: str


@dataclass(frozen=True)
class Picture:
    """Everything the section shows; participants are in order of similarity."""

    sentences: Sequence[str]
    bars: Sequence[FactorBar]
    names: Sequence[str]
    groups: Sequence[int | None]
    cells: Sequence[Cell]
    largest: str
    days: Sequence[Day]
    mean_day: str
    loads: Sequence[Tick]
    left_out: int


def measured(profiles: Mapping[str, Profile]) -> HeterogeneityReport | None:
    """The report's part on participants with these profiles; None without any."""
    if not profiles:
        return None
    found = heterogeneity(list(profiles.values()))
    return HeterogeneityReport(
        index=_short(found.index),
        factors={name: _short(mean) for name, mean in found.means.items()},
        participants={name: _plain(one) for name, one in profiles.items()},
    )


def picture(report: HeterogeneityReport | None, groups: Mapping[str, int]) -> Picture | None:
    """What the page draws; None where there are not two participants to compare.

    Parameters
    ----------
    report:
        The report's part.
    groups:
        Participant -> number of its group in the last round.
    """
    if report is None or report.index is None:
        return None
    profiles = {name: _profile(one) for name, one in report.participants.items()}
    distances = np.nan_to_num(heterogeneity(list(profiles.values())).distances, nan=report.index)
    order = _similar(distances)
    shown = [order[i] for i in _evenly(len(order), MAX_SQUARE)]
    names = [list(profiles)[i] for i in shown]
    square = distances[np.ix_(shown, shown)]
    marks = [groups.get(name) for name in names] if len(set(groups.values())) > 1 else [None] * len(names)
    days, mean_day, loads = _days(profiles, names, marks)
    return Picture(
        sentences=sentences(report),
        bars=[_bar(factor, mean, profiles) for factor, mean in report.factors.items() if factor in FACTORS],
        names=names,
        groups=marks,
        cells=_cells(square, names),
        largest=f"{square.max():.2f}",
        days=days,
        mean_day=mean_day,
        loads=loads,
        left_out=len(profiles) - len(names),
    )


def sentences(report: HeterogeneityReport) -> list[str]:
    """What the index means, and by what the participants differ."""
    index = report.index or 0.0
    known = {name: mean for name, mean in report.factors.items() if mean is not None and name in FACTORS}
    ranked = [FACTORS[name] for name in sorted(known, key=lambda name: -known[name])]
    found = [f"The heterogeneity index is {index:.2f}: these participants are {_compared(index)}."]
    if len(ranked) > 2:
        found.append(f"They differ most by {ranked[0]} and {ranked[1]}, least by {ranked[-1]}.")
    missing = [FACTORS[name] for name in FACTORS if report.factors.get(name) is None]
    if missing:
        found.append(f"Not measured, since no two of them have the readings it takes: {', '.join(missing)}.")
    return found


def _compared(index: float) -> str:
    name, value = min(LANDMARKS.items(), key=lambda entry: abs(entry[1] - index))
    what = f"{name}, {value:.2f}"
    if index > CLEAR * value:
        return f"more unlike than {what}"
    if index < value / CLEAR:
        return f"less unlike than {what}"
    return f"about as unlike as {what}"


def _short(value: Any) -> Any:
    """A number or a shape with the digits that a report shows; None stays None."""
    if isinstance(value, tuple):
        return [_short(entry) for entry in value]
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _plain(one: Profile) -> ProfileReport:
    return ProfileReport(**{name: _short(getattr(one, name)) for name in ProfileReport.__struct_fields__})


def _profile(one: ProfileReport) -> Profile:
    values: dict[str, Any] = {field.name: getattr(one, field.name) for field in fields(Profile)}
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Profile(**values)


def _similar(distances: Array) -> list[int]:
    """Order in which neighbours are alike: leaves of average linkage, turned for the shortest way along them."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(distances) < 3:
        return list(range(len(distances)))
    condensed = distances[np.triu_indices(len(distances), 1)]
    # Turning the branches takes the cube of their number.
    tree = linkage(condensed, "average", optimal_ordering=len(distances) <= 300)
    return [int(leaf) for leaf in leaves_list(tree)]


def _evenly(n: int, wanted: int) -> list[int]:
    """At most so many of n places, both ends included, at even steps."""
    return list(range(n)) if n <= wanted else [round(i * (n - 1) / (wanted - 1)) for i in range(wanted)]


def _cells(square: Array, names: Sequence[str]) -> list[Cell]:
    largest = float(square.max()) or 1.0
    return [
        Cell(column, row, float(square[row, column]) / largest, f"{mine} – {theirs}: {square[row, column]:.2f}")
        for row, mine in enumerate(names)
        for column, theirs in enumerate(names)
        if row != column
    ]


def _days(
    profiles: Mapping[str, Profile], names: Sequence[str], marks: Sequence[int | None]
) -> tuple[list[Day], str, list[Tick]]:
    """Typical days on one scale, the mean of all of them, and the ticks of that scale in percent."""
    shapes = {name: one.daily for name, one in profiles.items() if one.daily is not None}
    drawn = [i for i, name in enumerate(names) if name in shapes]
    if not drawn:
        return [], "", []
    chosen = [drawn[i] for i in _evenly(len(drawn), MAX_SHAPES)]
    low = min(0.0, *(min(shape) for shape in shapes.values()))
    high = max(max(shapes[names[i]] or (1.0,)) for i in chosen)

    def line(values: Sequence[float]) -> str:
        return " ".join(f"{100 * k / 23:.1f},{100 * (high - v) / (high - low):.1f}" for k, v in enumerate(values))

    days = [
        Day(i + 1, names[i], _kw(profiles[names[i]].level_kw), marks[i], line(shapes[names[i]] or ())) for i in chosen
    ]
    mean = np.mean(list(shapes.values()), axis=0)
    return days, line(np.clip(mean, low, high).tolist()), plots.axis(low, high, count=2, factor=100, unit=" %")


def _bar(factor: str, mean: float | None, profiles: Mapping[str, Profile]) -> FactorBar:
    text = wording.NOTHING if mean is None else f"{mean:.2f}"
    return FactorBar(FACTORS[factor], 100 * (mean or 0.0), text, _between(factor, profiles))


def _kw(value: float | None) -> str:
    """A load in the unit that needs the fewest digits."""
    if value is None:
        return wording.NOTHING
    of, unit = next(((of, unit) for of, unit in ((1e6, "GW"), (1e3, "MW")) if abs(value) >= of), (1.0, "kW"))
    return f"{wording.number(value / of)}{wording.NBSP}{unit}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}{wording.NBSP}%".replace("-", "−")


_SAID: Mapping[str, tuple[str, Callable[[Profile], float | None], Callable[[float], str]]] = {
    "level": ("mean load {} to {}", lambda p: p.level_kw, _kw),
    "swing": ("standard deviation {} to {} of the mean", lambda p: p.swing, _percent),
    "daily": (
        "highest hour {} to {} of the working day's mean",
        lambda p: None if p.daily is None else max(p.daily),
        _percent,
    ),
    "weekly": ("weekend {} to {} of Monday to Friday", lambda p: p.weekend_ratio, _percent),
    "season": ("yearly wave of {} to {}", lambda p: p.season_amplitude, _percent),
    "weather": (
        "heating {} to {} a kelvin",
        lambda p: p.heating_per_k,
        lambda value: f"{100 * value:.1f}{wording.NBSP}%".replace("-", "−"),
    ),
    "noise": ("{} to {} of the mean", lambda p: p.noise, _percent),
    "history": ("{} to {} days", lambda p: p.history_days, lambda value: f"{value:.0f}"),
}
"""Factor -> how its span is said, the number that is said, and how that is written."""


def _between(factor: str, profiles: Mapping[str, Profile]) -> str:
    words, value, write = _SAID[factor]
    known = [found for one in profiles.values() if (found := value(one)) is not None]
    if not known:
        return ""
    low, high = write(min(known)), write(max(known))
    return words.format(low, high) if low != high else words.replace("{} to {}", "{}").format(low)
