"""`fedstill join`: come in as an observer, auditor or operator."""

from __future__ import annotations

from pathlib import Path

import click

from fedstill.cli.output import need_network

EXAMPLES = """\b
Examples:
  fedstill join ada.invite
  fedstill coordinator status ada            what observers, auditors and operators may
  fedstill audit export ada audit.zip        what auditors may
  fedstill coordinator invite ada plant-c    what operators may
  fedstill coordinator revoke ada plant-c
"""


@click.command(epilog=EXAMPLES)
@click.argument("invite", type=click.Path(path_type=Path))
@click.option("--folder", type=click.Path(path_type=Path), help="Where your key will lie  [default: your name, here]")
def join(invite: Path, folder: Path | None) -> None:
    """Join with INVITE as an observer, auditor or operator, who bring no data; enterprises: `participant join`."""
    need_network()
    import asyncio

    from fedstill.agent.joining import join_as_visitor

    visitor = asyncio.run(join_as_visitor(invite, folder))
    click.echo(f"{visitor.folder} is made; {visitor.folder / 'key.pem'} is your private key.")
    click.echo(f"You are an {visitor.settings.role}:\n  fedstill coordinator status {visitor.folder}")
    if visitor.settings.role == "auditor":
        click.echo(f"  fedstill audit export {visitor.folder} audit.zip")
    if visitor.settings.role == "operator":
        click.echo(f"  fedstill coordinator invite {visitor.folder} NAME")
        click.echo(f"  fedstill coordinator revoke {visitor.folder} NAME")
