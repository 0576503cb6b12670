"""The report on disk, on a page and in a terminal."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from prettytable import PrettyTable

from fedstill.errors import ConfigError, DataError
from fedstill.evaluation import wording
from fedstill.evaluation.page import page
from fedstill.evaluation.schema import SCHEMA_VERSION, Report
from fedstill.files import write_whole

JSON_NAME = "report.json"
HTML_NAME = "report.html"
_FILTERS = (
    "metric_label",
    "metric_unit",
    "metric_value",
    "number",
    "count",
    "size",
    "privacy",
    "duration",
    "saved",
    "signed",
    "weights",
)

__all__ = ["read_report", "render_html", "terminal_table", "write_report"]


class _Version(msgspec.Struct):
    schema_version: int


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json` and `report.html` into a folder, which is made where it is missing.

    Each file appears whole or not at all. The numbers go first: a page can be drawn again from them.

    Raises
    ------
    ConfigError
        Where the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / JSON_NAME, msgspec.json.format(msgspec.json.encode(report), indent=1))
        write_whole(folder / HTML_NAME, render_html(report).encode())
    except OSError as error:
        raise ConfigError(
            f"the report cannot be written ({error.strerror or error})",
            where=str(folder),
            remedy="Name a folder that can be written to",
        ) from error


def read_report(folder: Path) -> Report:
    """Read what `write_report` wrote.

    Raises
    ------
    DataError
        Where there is no report, it is damaged, or a newer fedstill wrote it.
    """
    path = folder / JSON_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError("there is no report", where=str(path), remedy="Name the folder of a finished run") from error
    except OSError as error:
        raise DataError(
            f"the report cannot be read ({error.strerror or error})",
            where=str(path),
            remedy="Name the folder of a finished run that you may read",
        ) from error
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version > SCHEMA_VERSION:
            raise DataError(
                f"the report has schema version {version}, and this fedstill knows up to {SCHEMA_VERSION}",
                where=str(path),
                remedy="Install a newer fedstill",
            )
        report = msgspec.json.decode(data, type=Report)
        _check(report)
    # ValueError covers msgspec's own errors, bytes that are no UTF-8, and times that are none.
    except (msgspec.MsgspecError, ValueError, RecursionError, ZoneInfoNotFoundError) as error:
        raise DataError(
            f"the report is damaged ({error})", where=str(path), remedy="Run the federation again"
        ) from error
    return report


def render_html(report: Report) -> str:
    """The report as one page that needs nothing else: no script and no fetch, for screen and paper."""
    return _template().render(**page(report))


def terminal_table(report: Report) -> str:
    """One line a participant, and one for the mean; errors in percent for forecasts, log loss for classes."""
    metric = report.overall.fairness.metric
    unit = wording.metric_unit(metric)
    head = f"{wording.metric_label(metric)}{f' {unit}' if unit else ''}"
    table = PrettyTable(
        ["participant", "learner", "kept", f"{head} floor", "alone", "after", "privacy", "bytes up", "bytes down"]
    )
    table.align = "r"
    table.align["participant"] = table.align["learner"] = table.align["kept"] = "l"
    columns = ("floor", "local", "federated")
    for p in report.participants:
        errors = [wording.metric_value(p.metrics[c].get(metric), metric, unit=False) for c in columns]
        words = [_printable(word) for word in (p.name, p.learner, p.kept)]
        table.add_row(
            [*words, *errors, wording.privacy(p.privacy), wording.size(p.bytes_up), wording.size(p.bytes_down)]
        )
    mean = [wording.metric_value(report.overall.mean.get(c, {}).get(metric), metric, unit=False) for c in columns]
    n = max(1, len(report.participants))
    up, down = (sum(getattr(p, key) for p in report.participants) // n for key in ("bytes_up", "bytes_down"))
    table.add_divider()
    table.add_row(["mean", "", "", *mean, "", wording.size(up), wording.size(down)])
    return str(table.get_string())


def _check(report: Report) -> None:
    """What types cannot say. Raises ValueError or ZoneInfoNotFoundError."""
    for p in report.participants:
        if not {"floor", "local", "federated"} <= p.metrics.keys():
            raise ValueError(f"participant {p.name} lacks metrics")
    for name, sample in report.samples.items():
        ZoneInfo(sample.zone)
        for day in sample.days:
            moments = [datetime.fromisoformat(moment) for moment in day.time]
            lines = (day.actual, day.floor, day.local, day.federated, day.low, day.high)
            if any(moment.tzinfo is None for moment in moments) or {len(x) for x in lines} != {len(moments)}:
                raise ValueError(f"sample of {name} is not whole")
    for name, one in ({} if report.heterogeneity is None else report.heterogeneity.participants).items():
        shapes = ((one.daily, 24), (one.weekly, 7), (one.season, 12))
        if any(shape is not None and len(shape) != places for shape, places in shapes):
            raise ValueError(f"profile of {name} is not whole")


def _printable(text: str) -> str:
    """Names come from elsewhere: no control sequence may reach the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


@cache
def _template() -> Template:
    """The page, with escaping on for every file, whatever its name ends in."""
    environment = Environment(
        loader=PackageLoader("fedstill.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in _FILTERS:
        environment.filters[name] = getattr(wording, name)
    return environment.get_template("report.html.j2")
