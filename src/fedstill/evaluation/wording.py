"""The words of a report: how numbers are written, what metrics mean, and the answer in one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedstill.evaluation.schema import Fairness, Gain, Number, PrivacyReport, Report

NOTHING = "–"
NBSP = "\N{NO-BREAK SPACE}"


def privacy(told: PrivacyReport | None) -> str:
    """The privacy of a participant in a word: its epsilon and for which unit, or that nothing protects it."""
    if told is None:
        return NOTHING
    if told.epsilon is None:
        return "none"
    if told.epsilon == 0:
        return "nothing told"
    return f"\N{GREEK SMALL LETTER EPSILON} {told.epsilon:.2g} a {told.unit}"


PREDICTIONS = {
    "floor": "floor",
    "local": "alone",
    "federated": "after federation",
    "local_safe": "alone, chosen with care",
    "distilled": "distilled, before the choice",
}
"""Plain words for the predictions; other floors go by their own names."""


@dataclass(frozen=True)
class Metric:
    """How a metric is called, written and defined; `unit` is "share", "%", "kW" or empty."""

    label: str
    unit: str
    meaning: str


METRICS = {
    "nmae": Metric("nMAE", "share", "Sum of absolute errors over the sum of absolute loads (WAPE). Smaller is better."),
    "cvrmse": Metric(
        "CV(RMSE)",
        "%",
        "Root mean square error over the mean load, with n − 1 in the denominator (ASHRAE Guideline 14).",
    ),
    "nmbe": Metric(
        "NMBE",
        "%",
        "Mean of load minus forecast over the mean load, with n − 1 (ASHRAE Guideline 14); above 0 the "
        "forecast is too low.",
    ),
    "mae": Metric("MAE", "kW", "Mean absolute error."),
    "rmse": Metric("RMSE", "kW", "Root mean square error."),
    "mape": Metric(
        "MAPE",
        "share",
        "Mean of the absolute error over the absolute load, without rows at or under 1 % of the mean load.",
    ),
    "mape_left_out_share": Metric("left out of MAPE", "share", "Share of rows too near zero for MAPE."),
    "r2": Metric("R²", "", "Share of the load's variance that the forecast explains; 1 is perfect."),
    "peak_error": Metric(
        "peak error",
        "share",
        "Mean over days of |highest forecast − highest load| over the highest load of the day.",
    ),
    "pinball": Metric(
        "pinball loss", "kW", "Quantile loss, mean over all levels: scores the whole forecast distribution."
    ),
    "npinball": Metric("normalised pinball", "share", "Pinball loss over the mean absolute load."),
    "coverage": Metric("coverage", "share", "Share of loads inside the interval of the outermost levels."),
    "coverage_nominal": Metric("nominal coverage", "share", "What coverage should be."),
    "interval_width": Metric("interval width", "kW", "Mean width of that interval."),
    "log_loss": Metric("log loss", "", "Mean of −ln of the probability given to the true class."),
    "accuracy": Metric("accuracy", "share", "Share of rows whose most probable class is the true one."),
    "error_rate": Metric("error rate", "share", "1 − accuracy."),
    "brier": Metric(
        "Brier score", "", "Mean squared distance between probabilities and the true class, 0 to 2 (1950)."
    ),
    "ece": Metric(
        "ECE",
        "share",
        "Expected calibration error: mean gap of confidence and accuracy over 15 bins (Guo et al. 2017).",
    ),
}


def metric_label(name: str) -> str:
    """The name of a metric in a heading."""
    return METRICS[name].label if name in METRICS else name


def metric_value(value: Number, name: str, *, unit: bool = True) -> str:
    """A metric as people read it: shares in percent, others with three digits that say something."""
    kind = METRICS[name].unit if name in METRICS else ""
    if value is None:
        return NOTHING
    if kind in ("share", "%"):
        text = _minus(f"{value * (100 if kind == 'share' else 1):.1f}")
        return f"{text}{NBSP}%" if unit else text
    return f"{number(value)}{NBSP}{kind}" if kind and unit else number(value)


def metric_unit(name: str) -> str:
    """The unit in the head of a column."""
    return {"share": "%"}.get(METRICS[name].unit, METRICS[name].unit) if name in METRICS else ""


def number(value: Number) -> str:
    """Three significant digits, thousands apart, never in powers of ten unless tiny or huge."""
    if value is None:
        return NOTHING
    if value != 0 and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.2e}"
    places = 3 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return _minus(f"{value:,.{places}f}".replace(",", NBSP))


def count(value: int) -> str:
    """A whole number, thousands apart."""
    return f"{value:,}".replace(",", NBSP)


def size(value: int) -> str:
    """Bytes in powers of 1000 (kB, MB, GB)."""
    amount, unit = float(value), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if abs(amount) < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f}{NBSP}B" if unit == "B" else f"{amount:.3g}{NBSP}{unit}"


def duration(seconds: Number) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NBSP}h {minutes}{NBSP}min" if hours else f"{minutes}{NBSP}min {rest}{NBSP}s"


def weights(parts: Mapping[str, Number]) -> str:
    """The parts of a blend that count, in percent."""
    said = [f"{100 * part:.0f}{NBSP}% {name}" for name, part in parts.items() if part]
    return ", ".join(said) or NOTHING


def signed(share: Number) -> str:
    """A change in percent, with its sign."""
    return NOTHING if share is None else _minus(f"{100 * share:+.1f}{NBSP}%")


def saved(gain: Gain | None) -> str:
    """A gain with its interval; plus is better."""
    if gain is None or gain.relative is None:
        return NOTHING
    return signed(gain.relative) + ("" if gain.low is None or gain.high is None else f" ({span(gain)})")


def span(gain: Gain) -> str:
    """The interval of a gain."""
    return _minus(f"{100 * (gain.low or 0):.1f} to {100 * (gain.high or 0):.1f}")


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of a dotted key and a value."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and not any(isinstance(item, list | Mapping) for item in value):
            rows.append((f"{prefix}{key}", ", ".join(str(item) for item in value) or NOTHING))
        else:
            rows.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)))
    return rows


def headline(report: Report) -> str:
    """The answer in one sentence, honest where federation did not pay."""
    return f"{_verdict(report)}; {_shares(report.overall.fairness)}."


def remarks(report: Report) -> list[str]:
    """What must be said beside the headline: how sure it is, and what care alone or a floor reaches."""
    metric = report.overall.fairness.metric
    gains = report.overall.gains.get(metric, {})
    found = []
    alone = gains.get("local")
    if alone is not None and alone.relative is not None:
        less = "less" if alone.relative >= 0 else "more"
        found.append(
            f"Against working alone that is {100 * abs(alone.relative):.1f}{NBSP}% {less} {_what(report)} "
            f"(95{NBSP}% interval of the saving: {span(alone)}{NBSP}%)."
        )
    safe = gains.get("local_safe")
    if safe is not None and safe.relative is not None:
        chance = "" if (safe.low or 0) > 0 or (safe.high or 0) < 0 else ", which could be chance"
        found.append(
            f"The same careful choice without the federation reaches {_mean(report, 'local_safe')}; the federation "
            f"itself {'saves' if safe.relative >= 0 else 'costs'} {100 * abs(safe.relative):.1f}{NBSP}% "
            f"(95{NBSP}% interval of the saving: {span(safe)}{NBSP}%){chance}."
        )
    floor = gains.get("floor")
    if floor is not None and floor.relative is not None and floor.relative < 0:
        found.append(f"The floor, which learns nothing, does better: {_mean(report, 'floor')}.")
    return found


def _verdict(report: Report) -> str:
    gain = report.overall.gains.get(report.overall.fairness.metric, {}).get("local")
    what = _what(report)
    values = f"from {_mean(report, 'local')} (alone) to {_mean(report, 'federated')}"
    if gain is None or gain.relative is None or gain.low is None or gain.high is None:
        return f"Whether federation lowered the mean {what} cannot be said, because it is not defined"
    if gain.low > 0:
        return f"Federation lowered the mean {what} {values}"
    if gain.high < 0:
        return f"Federation did not pay: it raised the mean {what} {values}"
    if gain.relative == 0:
        return f"Federation did not pay: the mean {what} stayed at {_mean(report, 'federated')}"
    if gain.relative > 0:
        return f"The mean {what} went down {values}, which could be chance"
    return f"Federation did not pay: the mean {what} went up {values}, which could be chance"


def _shares(fairness: Fairness) -> str:
    against = fairness.against.get("local")
    if against is None or against.participants == 0:
        return "participants could not be compared"
    n = against.participants
    worse = n - against.no_worse
    tail = "none is" if worse == 0 else f"{worse} {'is' if worse == 1 else 'are'}"
    people = "participant" if n == 1 else "participants"
    return f"{against.improved} of {n} {people} improved, {tail} worse by more than {100 * fairness.tolerance:g}{NBSP}%"


def _what(report: Report) -> str:
    return "error" if report.overall.fairness.metric == "nmae" else metric_label(report.overall.fairness.metric)


def _mean(report: Report, prediction: str) -> str:
    metric = report.overall.fairness.metric
    return metric_value(report.overall.mean.get(prediction, {}).get(metric), metric)


def _minus(text: str) -> str:
    """A number with a real minus sign, and none before nothing."""
    return text.replace("-", "−") if any(digit in text for digit in "123456789") else text.replace("-", "")
