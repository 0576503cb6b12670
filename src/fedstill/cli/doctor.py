"""`fedstill doctor`: what is wrong with the folder of a consortium or a party, and what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from fedstill.cli.output import need_network, print_json
from fedstill.errors import ConfigError

EXAMPLES = """\b
Examples:
  fedstill doctor my-consortium
  fedstill doctor plant-a
"""


@click.command(epilog=EXAMPLES)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def doctor(folder: Path, as_json: bool) -> None:
    """Check FOLDER, a consortium's or anybody's: keys, certificates, disk, data, connection. Changes nothing."""
    need_network()
    if (folder / "consortium.toml").exists():
        from fedstill.service.checks import check_consortium as look
    elif (folder / "participant.toml").exists():
        from fedstill.agent.checks import check_participant as look
    elif (folder / "visitor.toml").exists():
        from fedstill.agent.checks import check_visitor as look
    else:
        raise ConfigError(
            "neither a consortium's nor a party's folder",
            where=str(folder),
            remedy="Give what `coordinator init`, `participant join` or `join` has made",
        )
    found = list(look(folder))
    if as_json:
        print_json([msgspec.to_builtins(check) for check in found])
    else:
        for check in found:
            click.echo(f"{'ok  ' if check.good else 'BAD '} {check.what}: {check.found}")
            if check.remedy:
                click.echo(f"     {check.remedy}")
    if not all(check.good for check in found):
        sys.exit(2)
