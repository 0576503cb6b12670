"""`fedstill coordinator`: what an operator of a consortium does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from fedstill.cli.output import need_network, print_json

FOLDER = click.argument("folder", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
SET = click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Replace a value of the file.")
EXAMPLES = """\b
FOLDER is the consortium's. For status, invite and revoke it can also be what an observer, auditor or operator
got from `fedstill join`, on a machine of its own.

\b
Examples:
  fedstill coordinator init my-consortium FEDERATION.toml --address https://coordinator.example.org:8443
  fedstill coordinator invite my-consortium plant-a
  fedstill coordinator invite my-consortium ada --role auditor
  fedstill coordinator serve my-consortium
  fedstill coordinator status my-consortium
"""


@click.group(epilog=EXAMPLES)
def coordinator() -> None:
    """Coordinate a federation between machines: you, the operator, serve; enterprises connect to you."""
    need_network()


@coordinator.command()
@FOLDER
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--address", required=True, help="Where participants find you: https://host:port")
@click.option("--database", default="", help="URL of the database  [default: a file in FOLDER]")
@SET
def init(folder: Path, file: Path, address: str, database: str, changes: Sequence[str]) -> None:
    """Make FOLDER with certificates and a database, and draw up the terms that FILE describes."""
    from fedstill import config
    from fedstill.service.founding import found

    described = config.load(file, changes)
    consortium = found(folder, described, file.parent, address, database)
    consortium.close()
    click.echo(f"{folder} is made. Its *.key files let anybody act as the consortium: keep them to yourself.")
    click.echo("Next:")
    for table in described.participants:
        click.echo(f"  fedstill coordinator invite {folder} {table.name}")
    click.echo(f"  fedstill coordinator serve {folder}")


@coordinator.command()
@FOLDER
@click.argument("file", type=click.Path(path_type=Path))
@SET
def plan(folder: Path, file: Path, changes: Sequence[str]) -> None:
    """Draw up the terms of the next run, from FILE. Restart `serve` afterwards."""
    from fedstill import config
    from fedstill.service.consortium import Consortium
    from fedstill.service.founding import plan as draw_up

    run = draw_up(Consortium(folder), config.load(file, changes), file.parent)
    click.echo(f"Run {run.number} is planned; its terms have the SHA-256 {run.terms_digest}.")


@coordinator.command()
@FOLDER
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["participant", "observer", "auditor", "operator"]),
    default="participant",
    show_default=True,
    help="What NAME may do.",
)
@click.option(
    "--days", type=click.FloatRange(0, min_open=True), default=14, show_default=True, help="Until it expires."
)
@click.option("--mqtt", is_flag=True, help="The participant shall come over MQTT instead of HTTPS.")
def invite(folder: Path, name: str, role: str, days: float, mqtt: bool) -> None:
    """Write an invite for NAME: a file that lets it join, once."""
    from fedstill.cli.coordinating import invite as write

    path = write(folder, name, role, days, mqtt=mqtt)
    click.echo(f"{path}: give it to {name} by a way that nobody else can read; it works once, for {days:g} days.")
    if role != "participant":
        click.echo(f"To join: fedstill join {path.name}")


@coordinator.command()
@FOLDER
@click.option("--address", required=True, help="Where all find the broker: mqtts://host:port/name?enrol=port")
@click.option("--user", default="", help="Whom the broker becomes where root starts it  [default: mosquitto]")
def broker(folder: Path, address: str, user: str) -> None:
    """Write the configuration of a Mosquitto broker to FOLDER/broker, and serve over it as well."""
    from fedstill.cli.coordinating import write_broker

    click.echo(f"Start the broker: mosquitto -c {write_broker(folder, address, user)}")
    click.echo(f"Then restart serve, and invite with --mqtt: fedstill coordinator invite {folder} NAME --mqtt")


@coordinator.command()
@FOLDER
@click.argument("name")
def revoke(folder: Path, name: str) -> None:
    """Let NAME in no more."""
    from fedstill.cli.coordinating import revoke as shut_out

    shut_out(folder, name)
    click.echo(f"{name} is let in no more, within two seconds.")


@coordinator.command()
@FOLDER
def renew(folder: Path) -> None:
    """Renew the coordinator's and its server's certificates, which end after a year. Restart `serve` afterwards."""
    from fedstill.service.consortium import Consortium

    Consortium(folder).renew()
    click.echo("The certificates are new; restart serve.")


@coordinator.command()
@FOLDER
@click.argument("file", type=click.Path(path_type=Path))
def backup(folder: Path, file: Path) -> None:
    """Write all of FOLDER to FILE, also while it is served. It holds every key: keep it to yourself."""
    from fedstill.service.backup import backup as write

    write(folder, file)
    click.echo(f"{file} holds keys, database and payloads. Restore it: fedstill coordinator restore {file} NEW_FOLDER")


@coordinator.command()
@click.argument("file", type=click.Path(path_type=Path))
@FOLDER
def restore(file: Path, folder: Path) -> None:
    """Make FOLDER from a backup."""
    from fedstill.service.backup import restore as read

    read(file, folder)
    click.echo(f"{folder} is restored. Before you serve it, see that nobody serves the old one.")


@coordinator.command()
@FOLDER
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def serve(folder: Path, log_level: str) -> None:
    """Serve FOLDER's newest run until stopped; started again, it goes on where it was."""
    from fedstill.cli.coordinating import serve as run

    run(folder, log_level)


@coordinator.command()
@FOLDER
@JSON
def status(folder: Path, as_json: bool) -> None:
    """Say how far the newest run is."""
    from fedstill.cli import coordinating

    told = coordinating.status(folder)
    if as_json:
        print_json(told)
    else:
        coordinating.show_status(told)
