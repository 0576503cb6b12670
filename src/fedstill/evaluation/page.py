"""What the page shows, worked out before the template sees it, so that the template decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from fedstill.evaluation import heterogeneity, plots, wording
from fedstill.evaluation.plots import Panel
from fedstill.evaluation.schema import Gain, ParticipantReport, Report

SHOWN = 12
"""Participants whose forecasts are drawn; all of them are in the tables and in report.json."""

OPEN = 3
"""Of these, how many are unfolded: the one that gained most, one in the middle, the one that gained least."""


@dataclass(frozen=True)
class Dot:
    """A loss on the axis; `beyond` where the axis ends before it."""

    role: str
    at: float
    beyond: bool
    text: str


@dataclass(frozen=True)
class Bar:
    """A gain with its interval on the axis, 0 to 100."""

    at: float
    low: float
    high: float
    better: str
    text: str


@dataclass(frozen=True)
class Row:
    """One participant, or all of them, in the picture of errors and gains."""

    name: str
    detail: str
    dots: Sequence[Dot]
    bar: Bar | None


@dataclass(frozen=True)
class Forecast:
    """The forecasts of one participant, unfolded or not."""

    name: str
    gain: str
    unfolded: bool
    panels: Sequence[Panel]


def page(report: Report) -> dict[str, Any]:
    """Everything the template names. Charts are markup already; all else is text to be escaped."""
    metric = report.overall.fairness.metric
    charts = {
        "loss": plots.loss_chart(report.rounds),
        "bytes": plots.bytes_chart(report.rounds),
        "reliability": plots.reliability_chart(report.reliability),
    }
    groups = plots.group_numbers(report.rounds)
    used = [
        name for name in wording.METRICS if any(name in of for p in report.participants for of in p.metrics.values())
    ]
    return {
        "report": report,
        "metric": metric,
        "headline": wording.headline(report),
        "remarks": wording.remarks(report),
        "labels": wording.PREDICTIONS,
        "glossary": {name: wording.METRICS[name] for name in used},
        "metrics": used,
        "means": _ordered(report.overall.mean),
        "picture": _picture(report, metric),
        "forecasts": _forecasts(report, metric),
        # Drawn by pygal, which escapes what it is given; the page would escape it once more.
        "charts": {name: Markup(svg) if svg else None for name, svg in charts.items()},  # noqa: S704
        "rivals": [wording.PREDICTIONS[name] for name in report.overall.gains.get(metric, {})],
        "groups": groups,
        "unlike": heterogeneity.picture(report.heterogeneity, groups[-1] if groups else {}),
        "settings": wording.flat(report.settings),
        "environment": wording.flat(report.environment),
        "predictions": list(_ordered({name: 0 for p in report.participants for name in p.metrics})),
    }


def _ordered(named: Mapping[str, Any]) -> dict[str, Any]:
    """Floor, alone and after first, as the reader meets them everywhere; then the rest."""
    first = [name for name in ("floor", "local", "local_safe", "distilled", "federated") if name in named]
    return {name: named[name] for name in [*first, *(name for name in named if name not in first)]}


def _ranked(report: Report, metric: str) -> list[ParticipantReport]:
    """From the one that gained most to the one that gained least."""

    def rank(p: ParticipantReport) -> float:
        gain = p.gains.get(metric, {}).get("local")
        return -gain.relative if gain is not None and gain.relative is not None else float("inf")

    return sorted(report.participants, key=rank)


def _picture(report: Report, metric: str) -> dict[str, Any]:
    """Errors and gains of all participants and of their mean, on two common axes."""
    ranked = _ranked(report, metric)
    mean = {name: of.get(metric) for name, of in report.overall.mean.items()}
    entries = [
        ("All participants", "mean", mean, report.overall.gains.get(metric, {}).get("local")),
        *(
            (p.name, f"{p.learner}, keeps {p.kept}", {n: of.get(metric) for n, of in p.metrics.items()},
             p.gains.get(metric, {}).get("local"))
            for p in ranked
        ),
    ]  # fmt: skip
    losses = [v for entry in entries for r in ("floor", "local", "federated") if (v := entry[2].get(r)) is not None]
    top = _top(losses)
    gains = [entry[3] for entry in entries if entry[3] is not None]
    ends = [v for g in gains for v in (g.relative, g.low, g.high) if v is not None]
    left, right = max(-1.0, min([-0.05, *ends])), min(1.0, max([0.05, *ends]))
    percent = wording.metric_unit(metric) == "%"
    return {
        "rows": [
            Row(name, detail, _dots(values, metric, top), _bar(gain, left, right))
            for name, detail, values, gain in entries
        ],
        "loss_ticks": plots.axis(0.0, top, factor=100.0 if percent else 1.0, unit=" %" if percent else ""),
        "gain_ticks": plots.axis(left, right, factor=100.0, unit=" %"),
        "zero": _at(0.0, left, right),
    }


def _top(losses: Sequence[float]) -> float:
    """End of the axis: one model gone astray may not squeeze everybody else into a corner."""
    if not losses or max(losses) <= 0:
        return 1.0
    return 1.04 * min(max(losses), 3 * float(np.quantile(losses, 0.75)) or max(losses))


def _dots(values: Mapping[str, float | None], metric: str, top: float) -> list[Dot]:
    return [
        Dot(role, min(100.0, 100 * value / top), value > top, wording.metric_value(value, metric))
        for role in ("floor", "local", "federated")
        if (value := values.get(role)) is not None
    ]


def _bar(gain: Gain | None, left: float, right: float) -> Bar | None:
    if gain is None or gain.relative is None:
        return None
    low = gain.relative if gain.low is None else gain.low
    high = gain.relative if gain.high is None else gain.high
    better = "better" if low > 0 else "worse" if high < 0 else "unsure"
    at, start, end = (_at(value, left, right) for value in (gain.relative, low, high))
    return Bar(at, start, end, better, wording.saved(gain))


def _at(value: float, left: float, right: float) -> float:
    return 100 * (min(max(value, left), right) - left) / (right - left)


def _forecasts(report: Report, metric: str) -> list[Forecast]:
    ranked = [p for p in _ranked(report, metric) if p.name in report.samples]
    shown = _spread(ranked, SHOWN)
    unfolded = {p.name for p in _spread(shown, OPEN)}
    return [
        Forecast(
            p.name,
            wording.saved(p.gains.get(metric, {}).get("local")),
            p.name in unfolded,
            plots.panels(report.samples[p.name]),
        )
        for p in shown
    ]


def _spread(ranked: Sequence[ParticipantReport], wanted: int) -> list[ParticipantReport]:
    """So many of a ranking, both ends included, at even steps."""
    if len(ranked) <= wanted:
        return list(ranked)
    return [ranked[round(i * (len(ranked) - 1) / (wanted - 1))] for i in range(wanted)]
