"""What `predict` does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import pandas as pd

from fedstill import models
from fedstill.assemble import layout_of, read_table
from fedstill.config import DataTable, convert
from fedstill.energy.frame import SiteLoad, read
from fedstill.errors import DataError
from fedstill.files import write_whole
from fedstill.plugins import did_you_mean
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
        write_whole(out, text.encode())


def _forecast(
    model: models.Model,
    task: Forecast,
    readings: Path,
    site: str | None,
    given: Mapping[str, str],
    first: str | None,
    days: int,
) -> pd.DataFrame:
    layout: DataTable = convert({"calendar": model.zone, **given}, DataTable, "--layout")
    load = _site(read(readings, layout_of(layout, task.covariates), site=site), model.party, readings)
    table = task.ahead(load, model.scale, first, days)
    if len(table.left_out):
        click.echo(
            f"{len(table.left_out)} intervals are left out: readings that their inputs need are missing", err=True
        )
    values = table.base[:, None] + table.scale[:, None] * model.predict(table.X)
    when = pd.DatetimeIndex(table.time).tz_localize("UTC").tz_convert(load.zone)
    columns = {f"load_kw_q{level:g}": np.round(values[:, i], 6) for i, level in enumerate(task.levels)}
    return pd.DataFrame({"unique_id": load.site, "ds": [stamp.isoformat() for stamp in when], **columns})


def _site(sites: Mapping[str, SiteLoad], party: str, readings: Path) -> SiteLoad:
    """The site of the model's owner, or the only one there is."""
    if party not in sites and len(sites) > 1:
        raise DataError(
            f"it holds {len(sites)} sites, none of them called {party}",
            where=str(readings),
            remedy=f"Name one with --site. {did_you_mean(party, sites)}",
        )
    return sites[party] if party in sites else next(iter(sites.values()))


def _classify(model: models.Model, task: Classification, cases: Path) -> pd.DataFrame:
    table = read_table(cases)
    values = model.predict(task.inputs(table, model.party))
    named = {f"p_{name}": np.round(values[:, i], 6) for i, name in enumerate(task.classes)}
    return pd.DataFrame({"row": np.arange(1, len(table) + 1), **named})
