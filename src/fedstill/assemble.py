"""From a federation file to a federation: reads the data, builds the task, names every fault."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints

import fastparquet
import msgspec
import pandas as pd
from msgspec import structs

from fedstill import plugins
from fedstill.config import DataTable, FederationFile, ParticipantTable, PrivacyTable, convert
from fedstill.energy import simbench, synthetic
from fedstill.energy.frame import Layout, SiteLoad, read, window
from fedstill.energy.grids import show_span
from fedstill.errors import ConfigError, DataError, FedstillError
from fedstill.federation import Federation
from fedstill.members import Member, check_names
from fedstill.privacy.guard import HIDES_ALL, Privacy
from fedstill.privacy.spending import Budget, Unit
from fedstill.tasks.base import Task
from fedstill.tasks.forecast import Forecast
from fedstill.tasks.inputs import WARM_UP_DAYS
from fedstill.tasks.spans import check_span, date_of, day_number

YEAR_DAYS = 365
"""What is generated unless days are given: all seasons, up to the test."""


def assemble(
    file: FederationFile, folder: Path, on_read: Callable[[str], None] = lambda _: None, *, private: bool = True
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
    private:
        Read the participants' data. Without them nothing can run here, but a coordinator's side of it is complete.

    Raises
    ------
    ConfigError, DataError, MissingExtra, DownloadError
        Where something is wrong, with its place and what to do.
    """
    task = build_task(file)
    options = dict(file.strategy)
    strategy = options.pop("name", "grouped")
    _check_options(_resolve("algorithms", strategy, "strategy.name"), options)
    _resolve("codecs", file.codec, "codec")
    if not file.participants:
        raise ConfigError(
            "nobody takes part",
            where="participants",
            remedy="Add [[participants]] tables with name and learner",
        )
    check_names([table.name for table in file.participants])
    for table in file.participants:
        for key, names in (("learner", [table.learner]), ("companions", table.companions or [])):
            for name in names:
                _resolve("learners", name, f"participant {table.name}, {key}")
    reader = _Reader(folder, task)
    members = []
    for table in file.participants:
        data = reader.read(table, file.data) if private else None
        contributes = table.contributes or 0
        if contributes and not private:
            raise ConfigError(
                "rows can be contributed only where all data are on one machine",
                where=f"participant {table.name}, contributes",
                remedy="Publish them as a file, and name it under [transfer]",
            )
        members.append(replace(member_of(table, task, data, file.privacy), contributes=contributes))
        on_read(table.name)
    return Federation(
        task,
        members,
        reader.public(file, members),
        strategy=strategy,
        options=options,
        rounds=file.rounds,
        stop_after=file.stop_after,
        quorum=file.quorum,
        deadline_s=file.deadline_s,
        items=file.transfer.items,
        codec=file.codec,
        workers=file.workers,
        seed=file.seed,
        settings=msgspec.to_builtins(file),
    )


def read_member(table: ParticipantTable, task: Task, folder: Path) -> Member:
    """One participant with its data, without a federation. Raises ConfigError, DataError."""
    for key, names in (("learner", [table.learner]), ("companions", table.companions or [])):
        for name in names:
            _resolve("learners", name, key)
    return member_of(table, task, _Reader(folder, task).read(table, DataTable()))


def member_of(table: ParticipantTable, task: Task, data: Any, default: PrivacyTable | None = None) -> Member:
    """A participant as its table says, with its data."""
    said = table.privacy or default or PrivacyTable()
    usual = Unit.PARTICIPANT if said.mechanism in HIDES_ALL else Unit(task.units[0])
    budget = Budget(
        math.inf if said.epsilon is None else said.epsilon, said.delta, usual if said.unit is None else Unit(said.unit)
    )
    privacy = Privacy(said.mechanism, budget, said.options)
    privacy.build(f"participant {table.name}, privacy")
    return Member(table.name, data, table.learner, table.options, table.history, table.companions, privacy=privacy)


def build_task(file: FederationFile) -> Task:
    """The task that a file describes. Raises ConfigError."""
    settings = dict(file.task)
    kind = _resolve("tasks", settings.pop("kind", "forecast"), "task.kind")
    known = set(kind.__dataclass_fields__) - {"name"}
    for key in settings:
        if key not in known:
            remedy = plugins.did_you_mean(key, {*known, "kind"})
            raise ConfigError(f"there is no key '{key}'", where="task", remedy=remedy)
    task: Task = convert(settings, kind, "task")
    return task


def _resolve(group: str, name: Any, key: str) -> Any:
    """What a name in the file stands for; errors say at which key the name is, before any data are read."""
    if not isinstance(name, str):
        raise ConfigError(f"{name!r} is no name", where=key, remedy=f"There are: {', '.join(plugins.names(group))}")
    try:
        return plugins.resolve(group, name)
    except FedstillError as error:
        raise type(error)(error.what, where=key, remedy=error.remedy) from None


def _check_options(algorithm: Any, options: Mapping[str, Any]) -> None:
    """Raise ConfigError where an option's value is not of the type that the algorithm says it takes."""
    hints = get_type_hints(algorithm)
    for key in options.keys() & hints.keys():
        convert(options[key], hints[key], f"strategy, {key}")


class _Reader:
    """Reads what participants and transfer set are made of."""

    def __init__(self, folder: Path, task: Task) -> None:
        self._folder = folder
        self._task = task
        self._sites = lru_cache(maxsize=None)(read)
        self._tables = lru_cache(maxsize=None)(read_table)

    def read(self, table: ParticipantTable, default: DataTable) -> Any:
        """A participant's data."""
        # A participant's own file may call its only site what it likes.
        alone = table.file is not None and table.site is None
        return self._one(table.over(default), table.site or table.name, f"participant {table.name}", alone=alone)

    def public(self, file: FederationFile, members: Sequence[Member]) -> Any:
        """The transfer set's data, none of which may be a member's; None where members contribute all of it."""
        check_span(file.transfer.history, "transfer.history")
        if file.transfer.generated is not None:
            return self._generated(file, file.transfer.generated, members)
        named = file.transfer.sites or file.transfer.site or file.transfer.file
        if not named and any(member.contributes for member in members):
            return None
        if file.transfer.sites and file.transfer.site:
            raise ConfigError("both 'site' and 'sites' are given", where="transfer", remedy="Give one of them")
        table = file.transfer.over(file.data)
        sites: list[str | None] = [*file.transfer.sites] or [table.site]
        found = [self._one(table, site, "transfer") for site in sites]
        for data, site in zip(found, sites, strict=True):
            for member in members:
                if member.data is not None and _same(data, member.data):
                    raise ConfigError(
                        f"{f'site {site!r}' if site else 'the file'} is the private data of participant {member.name}",
                        where="transfer",
                        remedy="Take sites that do not take part, or let its owner write contributes = ... for it",
                    )
        if isinstance(self._task, Forecast):
            return [window(one, *file.transfer.history) for one in found]
        return pd.concat(found, ignore_index=True)

    def _generated(self, file: FederationFile, sites: int, members: Sequence[Member]) -> list[SiteLoad]:
        """Load of artificial sites over public days, with public weather where a file has it; no site's data."""
        task, table = self._task, file.transfer
        if not isinstance(task, Forecast):
            raise ConfigError("only load can be generated", where="transfer.generated", remedy="Give public rows")
        if table.sites or (table.site and not table.file):
            raise ConfigError("both sites and 'generated' are given", where="transfer", remedy="Give one of them")
        merged = table.over(file.data)
        first, end = table.history[0], table.history[1] or task.test[0]
        if end is None:
            remedy = 'Write for example history = ["2015-01-01", "2016-01-01"]'
            raise ConfigError("no days are given to generate", where="transfer.history", remedy=remedy)
        first = first or date_of(day_number(end) - YEAR_DAYS - WARM_UP_DAYS)
        check_span((first, end), "transfer.history")
        weather = window(self._weather(merged, task.covariates), first, end) if table.file else None
        missing = sorted(set(task.covariates) - {"temperature_c"}) if weather is None else []
        if missing:
            raise ConfigError(
                f"generated load comes with temperature_c, not with {', '.join(missing)}",
                where="transfer.generated",
                remedy="Name a public file that has all covariates: transfer.file",
            )
        made = synthetic.sites(
            sites,
            skew=1.0,  # many shapes: who is not covered learns nothing, an item too many costs some bytes
            days=day_number(end) - day_number(first),
            step=task.step or show_span(self._known(members, "step", "task.step")),
            start=first,
            zone=merged.calendar or merged.timezone or self._known(members, "zone", "transfer.timezone"),
            seed=zlib.crc32(f"{file.seed}/transfer".encode()),  # not a participant's, where those are artificial, too
            weather=weather,
        )
        return list(made.values())

    @staticmethod
    def _known(members: Sequence[Member], name: str, key: str) -> Any:
        """What the first participant's data say where the file does not."""
        if members[0].data is None:
            raise ConfigError(f"the {name} of generated load is not given", where=key, remedy=f"Write {key} = ...")
        return getattr(members[0].data, name)

    def _weather(self, table: DataTable, covariates: tuple[str, ...]) -> SiteLoad:
        """What a public file knows in advance. The reader wants a load: the first column stands in for it."""
        if not covariates:
            raise ConfigError(
                "a file is given, but the task has no covariates to take from it",
                where="transfer.file",
                remedy="Leave it out, or name its columns in task.covariates",
            )
        as_load = structs.replace(table, load=covariates[0], unit="kW", negative="allow", site_column=None)
        try:
            read: SiteLoad = self._one(as_load, table.site, "transfer", covariates[1:])
        except DataError as error:
            remedy = error.remedy.replace("Set load to", "Set task.covariates to")
            raise DataError(error.what, where=error.where, remedy=remedy) from None
        return replace(read, data=read.data.rename(columns={"load_kw": covariates[0]}))

    def _one(
        self,
        table: DataTable,
        site: str | None,
        where: str,
        covariates: tuple[str, ...] | None = None,
        *,
        alone: bool = False,
    ) -> Any:
        path = self._path(table, where)
        if not isinstance(self._task, Forecast):
            return _rows_of(self._tables(path), path, table.site_column, site)
        layout = layout_of(table, self._task.covariates if covariates is None else covariates)
        sites = self._sites(path, layout, site=site, alone=alone)
        if site is None and len(sites) > 1:
            raise ConfigError(
                f"{path.name} holds {len(sites)} sites",
                where=f"{where}.site",
                remedy=f"Choose one: {', '.join(sites)}",
            )
        return next(iter(sites.values()))

    def _path(self, table: DataTable, where: str) -> Path:
        if table.file is None:
            raise ConfigError("no file is given", where=where, remedy='Add file = "..." there or under [data]')
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


def _same(one: Any, other: Any) -> bool:
    """Whether two sites have the same readings, wherever they came from."""
    if isinstance(one, SiteLoad):
        return bool(one.data["load_kw"].equals(other.data["load_kw"]))
    return bool(one.equals(other))


def _rows_of(table: pd.DataFrame, path: Path, column: str | None, site: str | None) -> pd.DataFrame:
    """The rows of a site in a table of many; a table without a column of sites is all of one."""
    if column is None:
        return table
    if column not in table:
        columns = ", ".join(map(str, table.columns))
        raise DataError(f"there is no column '{column}'", where=str(path), remedy=f"Columns are: {columns}")
    names = table[column].astype(str)
    if site not in set(names):
        remedy = plugins.did_you_mean(site or "", set(names))
        raise DataError(f"there is no site '{site or ''}'", where=f"{path}, column {column}", remedy=remedy)
    return table[names == site]


def layout_of(table: DataTable, covariates: tuple[str, ...]) -> Layout:
    """How a table says that its file is laid out. Raises ConfigError."""
    renamed = {"site_column": "site"}
    fields = set(DataTable.__struct_fields__) - {"file", "site"}
    given = {renamed.get(key, key): getattr(table, key) for key in fields if getattr(table, key) is not None}
    layout: Layout = convert({**given, "covariates": covariates}, Layout, "data")
    return layout


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet table. Raises DataError."""
    if not path.is_file():
        raise DataError("there is no such file", where=str(path), remedy="Give the path of a CSV or Parquet file")
    try:
        if path.suffix == ".parquet":
            frame: pd.DataFrame = fastparquet.ParquetFile(path).to_pandas()
            return frame
        return pd.read_csv(path)
    except Exception as error:  # whatever a parser raises on a damaged file: the file is what is wrong
        raise DataError(f"cannot be read as a table: {error}", where=str(path), remedy="Check the file") from None
