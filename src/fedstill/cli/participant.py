"""`fedstill participant`: what an enterprise does to take part in a federation between machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from fedstill.cli.output import need_network, print_json, show_time

FOLDER = click.argument("folder", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
EXAMPLES = """\b
Examples:
  fedstill participant join plant-a.invite --data meters.csv --learner lightgbm
  fedstill participant terms plant-a
  fedstill participant dry-run plant-a
  fedstill participant run plant-a --accept
  fedstill participant log plant-a
"""


@click.group(epilog=EXAMPLES)
def participant() -> None:
    """Take part in a federation between machines, with data and models that never leave your site."""
    need_network()


@participant.command()
@click.argument("invite", type=click.Path(path_type=Path))
@click.option("--data", "file", required=True, type=click.Path(path_type=Path), help="Your readings: CSV or Parquet.")
@click.option("--learner", default="hist_gradient_boosting", show_default=True, help="Your kind of model.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where you will live  [default: your name, here]")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other key of [[participants]] or [data] in a federation file: timezone=Europe/Berlin, unit=kWh.",
)
def join(invite: Path, file: Path, learner: str, folder: Path | None, changes: Sequence[str]) -> None:
    """Join with INVITE, and show the terms and what would leave your site."""
    import asyncio

    from fedstill.agent.joining import join as joining
    from fedstill.cli.participating import table_of

    home = asyncio.run(joining(invite, folder, table_of(file, learner, changes)))
    click.echo(f"{home.folder} is made; {home.folder / 'key.pem'} is your private key.")
    click.echo(f"Next: look at the terms, and take part if you agree:\n  fedstill participant terms {home.folder}")
    click.echo(f"  fedstill participant run {home.folder} --accept")


@participant.command()
@FOLDER
@click.option("--accept", is_flag=True, help="Accept them, for this run or until you accept others.")
@JSON
def terms(folder: Path, accept: bool, as_json: bool) -> None:
    """Show the coordinator's terms, and what would leave your site under them. Sends nothing, trains nothing."""
    from fedstill.cli.participating import show_terms

    show_terms(folder, accept=accept, as_json=as_json)


@participant.command("dry-run")
@FOLDER
@click.option("--out", type=click.Path(path_type=Path), help="Where to write it  [default: dry-run in FOLDER]")
@JSON
def dry_run(folder: Path, out: Path | None, as_json: bool) -> None:
    """Train, and write what your first answer would be for you to look at. Sends nothing."""
    from fedstill.cli import participating

    participating.dry_run(folder, out, as_json=as_json)


@participant.command()
@FOLDER
@click.option("--accept", is_flag=True, help="Accept the coordinator's terms, where they are new.")
@click.option("--stay", is_flag=True, help="Go on with the next run, and the next, until stopped.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="warning")
@JSON
def run(folder: Path, accept: bool, stay: bool, log_level: str, as_json: bool) -> None:
    """Take part to the end of the run; stopped and started again, it goes on where it was."""
    from fedstill.cli import participating
    from fedstill.cli.logs import log_as_json

    log_as_json(log_level)

    def observe(line: str) -> None:
        click.echo(line, err=True)

    if stay:
        participating.stay(folder, accept=accept, observe=observe)
        return
    result = participating.take_part(folder, accept=accept, observe=observe)
    if as_json:
        print_json({"model": str(result.model), "report": str(result.report), "errors": result.errors})
        return
    errors = result.errors or {}
    click.echo(", ".join(f"{way} {value:.4g}" for way, value in errors.items() if value is not None))
    click.echo(f"Model: {result.model}; report: {result.report}")


@participant.command()
@FOLDER
@click.option(
    "--number", type=int, help="The answer that you mean, as `status` numbers it  [default: the one there is]"
)
@click.option("--refuse", "refusal", metavar="REASON", help="Do not let it leave; the coordinator is told this reason.")
@click.option("--look", is_flag=True, help="Write it to FOLDER/waiting for you to look at, and decide nothing.")
@JSON
def approve(folder: Path, number: int | None, refusal: str | None, look: bool, as_json: bool) -> None:
    """Let an answer leave that waits for you, or refuse it; with approve = "ask" under [work] all of them wait."""
    from fedstill.cli import participating

    participating.decide(folder, number, refusal, only_look=look, as_json=as_json)


@participant.command()
@FOLDER
@JSON
def log(folder: Path, as_json: bool) -> None:
    """List all that has left your site, in all runs: when, what, how many bytes, by which SHA-256."""
    from fedstill.cli.participating import left

    told = left(folder)
    if as_json:
        print_json(told)
        return
    for one in told:
        when = show_time(one["posted_at"]) if one["posted_at"] else "not sent yet"
        why = f"; not used: {one['why']}" if one["why"] else ""
        click.echo(f"{when}  {one['size']:>10} bytes  {one['digest'][:16]}  {one['what']}{why}")


@participant.command()
@FOLDER
@JSON
def status(folder: Path, as_json: bool) -> None:
    """Say where your participant stands, from its own files."""
    from fedstill.cli.participating import standing

    told = standing(folder)
    if as_json:
        print_json(told)
        return
    for key, value in told.items():
        click.echo(f"{key.replace('_', ' ')}: {value}")
