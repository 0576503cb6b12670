"""`fedstill ledger`: what a site's data have lost of their privacy, and to what."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fedstill.cli.output import one_line, print_json, show_time
from fedstill.errors import ConfigError, RunError
from fedstill.files import write_whole

if TYPE_CHECKING:
    from fedstill.privacy.ledger import Entry, Statement

LAST = 10
"""Entries that are shown."""
PATH = click.argument("path", type=click.Path(path_type=Path), metavar="FOLDER_OR_FILE")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
EXAMPLES = """\b
Examples:
  fedstill ledger show plant-a
  fedstill ledger export plant-a entries.jsonl
  fedstill ledger verify plant-a
"""


@click.group(epilog=EXAMPLES)
def ledger() -> None:
    """Show what a participant's data have lost of their privacy, from its ledger; also while it works."""


@ledger.command()
@PATH
@JSON
def show(path: Path, as_json: bool) -> None:
    """Show what was spent of each data set's budget, on what, and the last entries."""
    entries = _entries(path)
    statements = _statements(entries)
    if as_json:
        last = [_plain(entry) for entry in entries[-LAST:]]
        print_json({"data_sets": {name: _plain(told) for name, told in statements.items()}, "last": last})
        return
    for name, told in statements.items():
        most = f" of {told.budget_epsilon:g}" if math.isfinite(told.budget_epsilon) else ", without a budget"
        spent = f"epsilon {told.epsilon:.4g}{most}, for each {told.unit} at delta {told.delta:g}"
        click.echo(f"{one_line(name) or 'the data'}: {spent}; {told.entries} entries")
        for line in told.what:
            click.echo(f"  {line.count} x {one_line(line.what)}: {_price(line.epsilon)}")
    if entries:
        click.echo(_table(entries[-LAST:]))


@ledger.command()
@PATH
@click.argument("file", type=click.Path(path_type=Path))
def export(path: Path, file: Path) -> None:
    """Write all entries to FILE, a line of JSON each; it holds no release."""
    entries = _entries(path)
    if file.exists() and file.samefile(_file(path)):
        raise ConfigError("this is the ledger itself", where=str(file), remedy="Name another file to write")
    write_whole(file, b"".join(msgspec.json.encode(_plain(entry)) + b"\n" for entry in entries), private=True)
    click.echo(f"{file}: {len(entries)} entries{f'; head {entries[-1].hash}' if entries else ''}")


@ledger.command()
@PATH
@JSON
def verify(path: Path, as_json: bool) -> None:
    """Compute the chain of entries and all prices anew, and name what does not fit."""
    from fedstill.privacy.verifying import verify as verified

    entries, faults = _entries(path), verified(_file(path))
    head = entries[-1].hash if entries else ""
    if as_json:
        print_json({"entries": len(entries), "head": head, "faults": faults})
    else:
        click.echo(f"{len(entries)} entries; head {head or 'none yet'}")
    if faults:
        raise RunError("; ".join(faults), where=str(_file(path)), remedy="Restore the ledger from a copy that is whole")
    if not as_json:
        click.echo("Every entry is as it was written, and was paid for.")


def _file(path: Path) -> Path:
    """A participant's ledger where its folder is given."""
    from fedstill.privacy.durable import FILE

    return path / FILE if path.is_dir() else path


def _entries(path: Path) -> list[Entry]:
    from fedstill.privacy.durable import entries_in, reading

    with reading(_file(path)) as connection:
        return entries_in(connection)


def _statements(entries: list[Entry]) -> dict[str, Statement]:
    """By data set, under the budget of its last entry."""
    from fedstill.privacy.ledger import statement_of

    budgets = {entry.data_set: entry.budget for entry in entries}
    return {
        name: statement_of(budget, Counter(entry.spend for entry in entries if entry.data_set == name))
        for name, budget in budgets.items()
    }


def _price(epsilon: float | None) -> str:
    if epsilon is None:
        return "free"
    return f"epsilon {epsilon:.4g} alone" if math.isfinite(epsilon) else "without protection"


def _table(entries: list[Entry]) -> str:
    from prettytable import PrettyTable

    table = PrettyTable(["entry", "when", "data set", "what", "for each", "how", "SHA-256"], align="l")
    for entry in entries:
        how = type(entry.spend.event).__name__
        when, names = show_time(entry.at), [one_line(text) for text in (entry.data_set, entry.spend.what)]
        table.add_row([entry.number, when, *names, entry.spend.unit, how, entry.digest[:12]])
    return str(table.get_string())


def _plain(value: Any) -> Any:
    """Entries and statements fit for JSON, which has no infinite numbers: they are "inf"."""
    match value:
        case dict():
            return {name: _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case float() if math.isinf(value):
            return "inf"
        case str() | int() | float() | None:
            return value
    return _plain(msgspec.to_builtins(value))
