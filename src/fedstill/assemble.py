"""From a federation file to a federation: reads the data, builds the task, names every fault."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import fastparquet
import msgspec
import pandas as pd

from fedstill import plugins
from fedstill.config import DataTable, FederationFile, ParticipantTable, convert
from fedstill.energy import simbench
from fedstill.energy.frame import Layout, SiteLoad, read, window
from fedstill.errors import ConfigError, DataError
from fedstill.federation import Federation
from fedstill.members import Member
from fedstill.tasks.base import Task
from fedstill.tasks.forecast import Forecast


def assemble(
    file: FederationFile, folder: Path, on_read: Callable[[str], None] = lambda _: None
) -> Federation:
    """Build the federation that a file describes.

    Parameters
    ----------
    file:
        What the federation file says.
    folder:
        Where it lies: relative paths start there, or else in the current folder.
    on_read:
        Told each participant's name once its data have been read.

    Raises
    ------
    ConfigError, DataError, MissingExtra, DownloadError
        Where something is wrong, with its place and what to do.
    """
    task = build_task(file)
    reader = _Reader(folder, task)
    if not file.participants:
        raise ConfigError(
            "nobody takes part",
            where="participants",
            remedy="Add [[participants]] tables with name and learner",
        )
    members = []
    for table in file.participants:
        members.append(
            Member(table.name, reader.read(table, file.data), table.learner, table.options, table.history)
        )
        on_read(table.name)
    options = dict(file.strategy)
    return Federation(
        task,
        members,
        reader.public(file),
        strategy=options.pop("name", "grouped"),
        options=options,
        rounds=file.rounds,
        quorum=file.quorum,
        items=file.transfer.items,
        codec=file.codec,
        workers=file.workers,
        seed=file.seed,
        settings=msgspec.to_builtins(file),
    )


def build_task(file: FederationFile) -> Task:
    """The task that a file describes. Raises ConfigError."""
    settings = dict(file.task)
    name = settings.pop("kind", "forecast")
    kind = plugins.resolve("tasks", name)
    for key in settings:
        if key not in kind.__dataclass_fields__:
            raise ConfigError(
                f"there is no key '{key}'",
                where="task",
                remedy=plugins.did_you_mean(key, set(kind.__dataclass_fields__) - {"name"}),
            )
    task: Task = convert(settings, kind, "task")
    return task


class _Reader:
    """Reads each file once, however many participants are in it."""

    def __init__(self, folder: Path, task: Task) -> None:
        self._folder = folder
        self._task = task
        self._sites = lru_cache(maxsize=None)(read)

    def read(self, table: ParticipantTable, default: DataTable) -> Any:
        """A participant's data."""
        return self._one(table.over(default), table.site or table.name, f"participant {table.name}")

    def public(self, file: FederationFile) -> Any:
        """The transfer set's data."""
        table = file.transfer.over(file.data)
        sites: list[str | None] = [*file.transfer.sites] or [table.site]
        for private in file.participants:
            if private.file == file.transfer.file and (private.site or private.name) in sites:
                raise ConfigError(
                    f"site '{private.site or private.name}' is the private data of participant {private.name}",
                    where="transfer",
                    remedy="Take sites that do not take part, or public data",
                )
        public = [self._one(table, site, "transfer") for site in sites]
        windowed = [window(d, *file.transfer.history) if isinstance(d, SiteLoad) else d for d in public]
        return windowed if file.transfer.sites else windowed[0]

    def _one(self, table: DataTable, site: str | None, where: str) -> Any:
        path = self._path(table, where)
        if not isinstance(self._task, Forecast):
            return read_table(path)
        layout = _layout(table, self._task.covariates)
        sites = self._sites(path, layout, site=site)
        if site is None and len(sites) > 1:
            raise ConfigError(
                f"{path.name} holds {len(sites)} sites",
                where=f"{where}.site",
                remedy=f"Choose one: {', '.join(sites)}",
            )
        return next(iter(sites.values()))

    def _path(self, table: DataTable, where: str) -> Path:
        if table.file is None:
            raise ConfigError(
                "no file is given", where=where, remedy='Add file = "..." there or under [data]'
            )
        if table.file == "simbench":
            path = simbench.path()
            if not path.exists():
                raise DataError(
                    "the SimBench profiles are not here yet",
                    where=where,
                    remedy="Run: fedstill data simbench",
                )
            return path
        here = [self._folder / table.file, Path(table.file)]
        return next((path for path in here if path.exists()), here[0])


def _layout(table: DataTable, covariates: tuple[str, ...]) -> Layout:
    renamed = {"site_column": "site"}
    fields = set(DataTable.__struct_fields__) - {"file", "site"}
    given = {renamed.get(key, key): getattr(table, key) for key in fields if getattr(table, key) is not None}
    layout: Layout = convert({**given, "covariates": covariates}, Layout, "data")
    return layout


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet table. Raises DataError."""
    if not path.is_file():
        raise DataError(
            "there is no such file", where=str(path), remedy="Give the path of a CSV or Parquet file"
        )
    try:
        if path.suffix == ".parquet":
            frame: pd.DataFrame = fastparquet.ParquetFile(path).to_pandas()
            return frame
        return pd.read_csv(path)
    except Exception as error:  # whatever a parser raises on a damaged file: the file is what is wrong
        raise DataError(
            f"cannot be read as a table: {error}", where=str(path), remedy="Check the file"
        ) from None
