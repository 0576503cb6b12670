"""FEDERATION.toml: who takes part in what, with which algorithm. Every key is checked before anything runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec

from fedstill.errors import ConfigError
from fedstill.plugins import did_you_mean

Span = tuple[str | None, str | None]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Table(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A table of the file: a key that is not known is refused."""


class DataTable(_Table, kw_only=True):
    """`[data]`: where the data are and how they are laid out; participants may say otherwise.

    Attributes
    ----------
    file:
        CSV or Parquet, relative to the federation file's folder or else to the current one; or "simbench".
    site:
        The site's name within a file of many; a participant's own name unless given.
    timezone, calendar, site_column, timestamp, load, unit, negative, duplicates, ambiguous, separator, decimal:
        The layout, see `fedstill.energy.frame.Layout`.
    """

    file: str | None = None
    site: str | None = None
    timezone: str | None = None
    calendar: str | None = None
    site_column: str | None = None
    timestamp: str | None = None
    load: str | None = None
    unit: str | None = None
    negative: str | None = None
    duplicates: str | None = None
    ambiguous: str | None = None
    separator: str | None = None
    decimal: str | None = None

    def over(self, default: DataTable) -> DataTable:
        """The same table, with what it leaves open taken from another."""
        chosen = {
            key: getattr(self, key) if getattr(self, key) is not None else getattr(default, key)
            for key in DataTable.__struct_fields__
        }
        return DataTable(**chosen)


class PrivacyTable(_Table, kw_only=True):
    """`[privacy]`: what is done to what leaves a participant, and what it may cost; participants may say otherwise.

    Attributes
    ----------
    mechanism:
        "none", "dp_sgd", "committee", "label_noise", "clipped_update" or "silent".
    epsilon, delta, unit:
        The budget, for one "reading", "day", "customer" or "participant"; without epsilon there is none.
    options:
        Options of the mechanism.
    """

    mechanism: str = "none"
    epsilon: Annotated[float, msgspec.Meta(gt=0)] | None = None
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-5
    unit: Literal["reading", "day", "customer", "participant"] | None = None
    options: dict[str, Any] = {}


class ParticipantTable(DataTable, kw_only=True):
    """`[[participants]]`: an enterprise, its data, its learner."""

    name: str
    learner: str = "hist_gradient_boosting"
    options: dict[str, Any] = {}
    companions: list[str] | None = None
    history: Span = (None, None)
    contributes: Count | None = None
    privacy: PrivacyTable | None = None


class TransferTable(DataTable, kw_only=True):
    """`[transfer]`: what everybody may read: public data of a `site` or `sites`, or load `generated` for so many."""

    sites: list[str] = []
    generated: Count | None = None
    history: Span = (None, None)
    items: Count = 1000


class FederationFile(_Table, kw_only=True):
    """The whole file.

    Attributes
    ----------
    task:
        `kind` and the settings of the task.
    strategy:
        `name` and the options of the algorithm.
    privacy:
        What protects participants that say nothing else.
    rounds, stop_after, quorum, deadline_s, workers, seed, codec:
        See `fedstill.federation.Federation`.
    """

    name: str = ""
    rounds: Count = 1
    stop_after: Count | None = None
    quorum: Count | None = None
    deadline_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    workers: Count = 1
    seed: Seed = 0
    codec: str = "raw"
    task: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "forecast"})
    data: DataTable = msgspec.field(default_factory=DataTable)
    transfer: TransferTable = msgspec.field(default_factory=TransferTable)
    strategy: dict[str, Any] = msgspec.field(default_factory=lambda: {"name": "grouped"})
    privacy: PrivacyTable = msgspec.field(default_factory=PrivacyTable)
    participants: list[ParticipantTable] = []


def load(path: Path, changes: Iterable[str] = ()) -> FederationFile:
    """Read and check a federation file.

    Parameters
    ----------
    path:
        The file.
    changes:
        `key=value` texts that replace what the file says: "rounds=5", "data.file=other.csv",
        "participants.AEP.learner=mlp". A value is read as TOML, or else as text.

    Raises
    ------
    ConfigError
        Where the file is missing, is no TOML, or a key or value is wrong; names the key and the remedy.
    """
    raw = read_toml(path, "Give the path of a FEDERATION.toml; examples/ has some")
    for change in changes:
        set_value(raw, change)
    return parse(raw, where=str(path))


def read_toml(path: Path, remedy: str) -> dict[str, Any]:
    """What a TOML file says. Raises ConfigError, where it is missing with this remedy."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError("there is no such file", where=str(path), remedy=remedy) from None
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="Check its permissions"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"not TOML: {error}", where=str(path), remedy="Mend that line") from None


def parse(raw: Mapping[str, Any], where: str = "") -> FederationFile:
    """Check what a federation file says. Raises ConfigError."""
    file: FederationFile = convert(plain(raw), FederationFile, where)
    return file


def plain(value: Any) -> Any:
    """What TOML says with dates as text, and "" in a span of dates as None: TOML has no word for an open end."""
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if not isinstance(value, Mapping):
        return msgspec.to_builtins(value)
    return {
        key: [None if end == "" else plain(end) for end in entry]
        if key in ("history", "test") and isinstance(entry, list)
        else plain(entry)
        for key, entry in value.items()
    }


def convert(raw: Any, kind: Any, where: str) -> Any:
    """Check a value against a type. Raises ConfigError that names the key and the remedy."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at ")
        key = place.strip("`").removeprefix("$").removeprefix(".")
        unknown = re.match(r"Object contains unknown field `(.*)`", text)
        missing = re.match(r"Object missing required field `(.*)`", text)
        choice = re.match(r"Invalid enum value '(.*)'", text)
        here = ", ".join(part for part in (where, key) if part)
        if unknown:
            remedy = did_you_mean(unknown[1], _fields(kind, key))
            raise ConfigError(f"there is no key '{unknown[1]}'", where=here, remedy=remedy) from None
        if missing:
            remedy = f"Add {missing[1]} = ..."
            raise ConfigError(f"the key '{missing[1]}' is missing", where=here, remedy=remedy) from None
        if choice:
            remedy = did_you_mean(choice[1], _choices(kind, key))
            raise ConfigError(f"'{choice[1]}' is no choice", where=here, remedy=remedy) from None
        raise ConfigError(text[0].lower() + text[1:], where=here, remedy="Change the value") from None


def _choices(kind: Any, key: str) -> list[str]:
    """What a key that takes one of some words can be."""
    hint = get_type_hints(kind).get(key) if key else kind
    return [word for word in get_args(hint) if isinstance(word, str)]


def _fields(kind: Any, key: str) -> tuple[str, ...]:
    tables = {"data": DataTable, "transfer": TransferTable, "participants": ParticipantTable, "privacy": PrivacyTable}
    table = tables.get(re.split(r"[.\[]", key)[0], kind)
    fields: tuple[str, ...] = getattr(table, "__struct_fields__", tuple(getattr(table, "__dataclass_fields__", ())))
    return fields


def set_value(raw: dict[str, Any], change: str) -> None:
    """Carry out a change such as "data.file=other.csv" in place; see `load`. Raises ConfigError."""
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"'{change}' is no change", where="--set", remedy="Write key=value, for example rounds=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *path, last = key.strip().split(".")
    at: Any = raw
    for part in path:
        at = _entry(at, part, change)
    if not isinstance(at, dict):
        raise ConfigError(f"'{key}' leads nowhere", where="--set", remedy="Name a key of a table")
    at[last] = value


def _entry(at: Any, part: str, change: str) -> Any:
    if isinstance(at, dict):
        return at.setdefault(part, {})
    if isinstance(at, list):
        for position, entry in enumerate(at):
            if isinstance(entry, dict) and part in (str(position), entry.get("name")):
                return entry
        named = [entry.get("name", str(i)) for i, entry in enumerate(at) if isinstance(entry, dict)]
        raise ConfigError(f"no entry '{part}' in '{change}'", where="--set", remedy=did_you_mean(part, named))
    raise ConfigError(f"'{part}' in '{change}' leads nowhere", where="--set", remedy="Name a key of a table")
