"""`fedstill audit`: prove what happened in a federation between machines."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from fedstill.cli.output import need_network, print_json
from fedstill.errors import RunError

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
EXAMPLES = """\b
Examples:
  fedstill audit verify my-consortium
  fedstill audit export my-consortium audit.zip
  fedstill audit verify audit.zip
"""


@click.group(epilog=EXAMPLES)
def audit() -> None:
    """Verify every event, signature and teacher of a consortium; export that for an auditor."""
    need_network()


@audit.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="FOLDER_OR_FILE")
@JSON
def verify(path: Path, as_json: bool) -> None:
    """Replay all runs, compute every teacher anew, and name the first event that does not fit."""
    from fedstill.service.export import verify as verified

    found = verified(path)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        click.echo(f"{found.events} events and {found.letters} letters of the coordinator; head {found.head}")
    if found.faults:
        raise RunError("; ".join(found.faults), where=str(path), remedy="Do not trust what follows these events")
    if not as_json:
        click.echo("Every signature is right, and every teacher follows from the answers.")


@audit.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def export(folder: Path, file: Path) -> None:
    """Write what an auditor needs to one FILE, which verifies without the server. It holds soft labels, no keys.

    FOLDER is the consortium's, or an auditor's, who fetches the file from the coordinator.
    """
    from fedstill.cli.coordinating import visitor_in
    from fedstill.service.consortium import Consortium
    from fedstill.service.export import export as exported
    from fedstill.service.export import verify as verified

    visitor = visitor_in(folder)
    if visitor is not None:
        visitor.fetch_audit(file)
        found = verified(file)
    else:
        consortium = Consortium(folder)
        try:
            found = exported(consortium, file)
        finally:
            consortium.close()
    click.echo(f"{file}: {found.events} events; head {found.head}. Verify it: fedstill audit verify {file}")
