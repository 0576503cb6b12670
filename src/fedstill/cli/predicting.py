"""What `predict` does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fedstill import models
from fedstill.assemble import read_table
from fedstill.config import convert
from fedstill.energy.frame import Layout, read
from fedstill.tasks.classification import Classification
from fedstill.tasks.forecast import Forecast


def predict(
    folder: Path,
    readings: Path,
    site: str | None,
    layout: Mapping[str, str],
    first: str | None,
    days: int,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Forecast with a stored model and write a long frame, one row an interval or case."""
    model = models.load(folder)
    if isinstance(model.task, Forecast):
        frame = _forecast(model, model.task, readings, site, layout, first, days)
    else:
        frame = _classify(model, model.task, readings)  # type: ignore[arg-type]
    text = frame.to_json(orient="records", date_format="iso") if as_json else frame.to_csv(index=False)
    if out is None:
        sys.stdout.write(text + ("\n" if as_json else ""))
    else:
        new = out.with_name(out.name + ".new")
        new.write_text(text, encoding="utf-8")
        new.replace(out)


def _forecast(
    model: models.Model,
    task: Forecast,
    readings: Path,
    site: str | None,
    given: Mapping[str, str],
    first: str | None,
    days: int,
) -> pd.DataFrame:
    layout: Layout = convert({"calendar": model.zone, **given, "covariates": task.covariates}, Layout, "predict")
    sites = read(readings, layout, site=site)
    load = sites[model.party] if site is None and model.party in sites else next(iter(sites.values()))
    table = task.ahead(load, model.scale, first, days)
    values = table.base[:, None] + table.scale[:, None] * model.predict(table.X)
    when = pd.DatetimeIndex(table.time).tz_localize("UTC").tz_convert(load.zone)
    columns = {f"q{level:g}": np.round(values[:, i], 6) for i, level in enumerate(task.levels)}
    return pd.DataFrame({"unique_id": load.site, "ds": [stamp.isoformat() for stamp in when], **columns})


def _classify(model: models.Model, task: Classification, cases: Path) -> pd.DataFrame:
    table = read_table(cases)
    values = model.predict(task.inputs(table, model.party))
    named = {f"p_{name}": np.round(values[:, i], 6) for i, name in enumerate(task.classes)}
    return pd.DataFrame({"row": np.arange(1, len(table) + 1), **named})
