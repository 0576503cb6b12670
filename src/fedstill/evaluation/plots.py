"""The pictures of a report: charts drawn by pygal, and the geometry of the small ones that the page draws.

A chart brings neither style nor script: one stylesheet in the page colours all of them, in light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import pygal
from pygal.style import Style

from fedstill.evaluation.schema import ReliabilityBin, RoundReport, Sample, SampleDay
from fedstill.evaluation.wording import size

# pygal needs the sizes of text for its layout; colours come from the page.
_STYLE = Style(font_family="inherit", label_font_size=13, major_label_font_size=13, colors=("#000",) * 8)
MAX_LABELS = 12


def loss_chart(rounds: Sequence[RoundReport]) -> str | None:
    """Validation loss over rounds, each participant's first one being 100 %; None where nothing can be drawn.

    Losses of sites of unlike size share one picture only relative to where each started.
    """
    names = sorted({name for record in rounds for name in record.validation_loss})
    lines = [line for name in names if any(line := _relative(rounds, name))]
    if len(rounds) < 2 or not lines:
        return None
    middle = [median(v) if (v := [x for x in column if x is not None]) else None for column in zip(*lines, strict=True)]
    chart = pygal.Line(**_options("Validation loss over rounds", formatter=lambda value: f"{value:.0f} %"))
    chart.x_labels = _thin([str(record.round) for record in rounds])
    for line in lines:
        chart.add(None, line, show_dots=False)
    chart.add(None, middle)
    return _draw(chart, ["each"] * len(lines) + ["federated"])


def bytes_chart(rounds: Sequence[RoundReport]) -> str | None:
    """Bytes per round, sent and received, stacked; None without rounds."""
    if not rounds:
        return None
    chart = pygal.StackedBar(**_options("Bytes per round", formatter=lambda value: size(int(value))))
    chart.x_labels = _thin([str(record.round) for record in rounds])
    chart.add(None, [record.bytes_up for record in rounds])
    chart.add(None, [record.bytes_down for record in rounds])
    return _draw(chart, ["up", "down"])


def reliability_chart(bins: Mapping[str, Sequence[ReliabilityBin]]) -> str | None:
    """How often a classifier is right against how sure it was; the diagonal is perfect."""
    if not any(bins.values()):
        return None
    chart = pygal.XY(
        **_options(
            "Reliability diagram",
            formatter=lambda value: f"{100 * value:.0f} %",
            x_value_formatter=lambda value: f"{100 * value:.0f} %",
        ),
        range=(0, 1),
        xrange=(0, 1),
    )
    chart.add(None, [(0, 0), (1, 1)], show_dots=False)
    for name in ("floor", "local", "federated"):
        chart.add(None, [(b.confidence, b.accuracy) for b in bins.get(name, ())])
    return _draw(chart, ["each", "floor", "local", "federated"])


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, 0 to 100, and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Panel:
    """One day of a forecast in a square of 100 by 100, y downwards."""

    title: str
    lines: Mapping[str, str]
    band: str
    hours: Sequence[Tick]
    loads: Sequence[Tick]


def panels(sample: Sample) -> list[Panel]:
    """Panels of all days of one participant on one scale of loads."""
    series = [value for day in sample.days for line in _lines(day).values() for value in line]
    if not series:
        return []
    low, high = min(series), max(series)
    if 0 <= low < 0.5 * high:
        low = 0.0
    if high <= low:
        high = low + 1.0
    scale = axis(low, high)
    return [_panel(day, ZoneInfo(sample.zone), low, high, scale) for day in sample.days if day.time]


def axis(low: float, high: float, count: int = 4, factor: float = 1.0, unit: str = "") -> list[Tick]:
    """Round numbers between two ends, about `count` of them, placed from 0 (low) to 100 (high)."""
    raw = (high - low) * factor / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first, last = math.ceil(low * factor / step - 1e-9), math.floor(high * factor / step + 1e-9)
    return [
        Tick(100 * (i * step / factor - low) / (high - low), f"{i * step:g}{unit}".replace("-", "−"))
        for i in range(first, last + 1)
    ]


def group_numbers(rounds: Sequence[RoundReport]) -> list[dict[str, int]]:
    """For each round participant -> number of its group; one that stays much the same keeps its number."""
    found: list[dict[str, int]] = []
    before: dict[str, int] = {}
    fresh = 1
    for record in rounds:
        taken: set[int] = set()
        now: dict[str, int] = {}
        for group in sorted(record.groups, key=len, reverse=True):
            votes = [before[name] for name in group if before.get(name) not in (None, *taken)]
            number = max(sorted(set(votes)), key=votes.count, default=0)
            if number == 0:
                number, fresh = fresh, fresh + 1
            taken.add(number)
            now |= dict.fromkeys(group, number)
        found.append(now)
        before |= now
    return found


def _relative(rounds: Sequence[RoundReport], name: str) -> list[float | None]:
    values = [record.validation_loss.get(name) for record in rounds]
    first = next((value for value in values if value is not None and value > 0), None)
    return [None if value is None or first is None else 100 * value / first for value in values]


def _lines(day: SampleDay) -> dict[str, list[float]]:
    return {
        "low": day.low,
        "high": day.high,
        "floor": day.floor,
        "local": day.local,
        "federated": day.federated,
        "actual": day.actual,
    }


def _panel(day: SampleDay, zone: ZoneInfo, low: float, high: float, scale: Sequence[Tick]) -> Panel:
    moments = [datetime.fromisoformat(moment) for moment in day.time]
    span = (moments[-1] - moments[0]).total_seconds() or 1.0
    x = [100 * (moment - moments[0]).total_seconds() / span for moment in moments]
    local = [moment.astimezone(zone) for moment in moments]
    points = {
        name: [f"{a:.1f},{100 * (high - b) / (high - low):.1f}" for a, b in zip(x, line, strict=True)]
        for name, line in _lines(day).items()
    }
    return Panel(
        title=f"{local[0]:%a} {local[0].day} {local[0]:%b %Y}",
        lines={name: " ".join(points[name]) for name in ("floor", "local", "federated", "actual")},
        band=" ".join(points["low"] + points["high"][::-1]),
        hours=[Tick(a, f"{t.hour}") for a, t in zip(x, local, strict=True) if t.hour % 6 == 0 and t.minute == 0],
        loads=scale,
    )


def _options(title: str, formatter: Any, **more: Any) -> dict[str, Any]:
    return {
        "style": _STYLE, "title": title, "show_legend": False, "js": [], "css": [], "no_prefix": True,
        "disable_xml_declaration": True, "width": 560, "height": 300, "margin": 6, "margin_right": 16,
        "dots_size": 3.5, "max_scale": 6, "min_scale": 3, "value_formatter": formatter, **more,
    }  # fmt: skip


def _thin(labels: list[str]) -> list[str]:
    every = math.ceil(len(labels) / MAX_LABELS)
    return [label if index % every == 0 else "" for index, label in enumerate(labels)]


def _draw(chart: Any, roles: Sequence[str]) -> str:
    chart.add_xml_filter(lambda root: _bare(root, chart.title, roles))
    return str(chart.render(is_unicode=True))


def _bare(root: Any, title: str, roles: Sequence[str]) -> Any:
    """Leave shapes and words only, without style, script and comments; name series by their roles."""
    names = {f"color-{index}": f"role-{role}" for index, role in enumerate(roles)}
    for parent in list(root.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or _layer(child) or _tag(child) in ("defs", "desc", "title"):
                if _tag(child) == "desc" and child.get("class") == "value":
                    child.tag, child.attrib = (
                        "title",
                        {},
                    )  # what browsers show under the mouse without a script
                else:
                    parent.remove(child)
        if "class" in parent.attrib:
            parent.set("class", " ".join(names.get(word, word) for word in parent.get("class").split()))
    root.attrib.pop("id", None)
    root.set("role", "img")
    root.set("aria-label", title)
    return root


def _tag(node: Any) -> str:
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def _layer(node: Any) -> bool:
    words: Iterable[str] = node.get("class", "").split()
    return bool({"titles", "tooltip-overlay", "text-overlay", "background"} & set(words))
