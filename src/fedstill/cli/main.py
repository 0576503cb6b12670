"""The command line: reads files, shows what happens, decides nothing."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import fedstill
from fedstill.cli.audit import audit
from fedstill.cli.coordinator import coordinator
from fedstill.cli.data import data
from fedstill.cli.doctor import doctor
from fedstill.cli.join import join
from fedstill.cli.ledger import ledger
from fedstill.cli.output import print_json
from fedstill.cli.participant import participant
from fedstill.errors import FedstillError

OK, BUG, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: fine; a fault of fedstill; something the user can mend; stopped by the user."""

# The lone \b tells click to keep the lines of the paragraph as they are.
EXAMPLES = """\b
Examples:
  fedstill demo                          twelve enterprises on real load profiles
  fedstill check my-federation.toml      what would happen, and what is wrong
  fedstill run my-federation.toml --out runs/mine
  fedstill predict runs/mine/models/plant-a new-readings.csv
"""
DEMO_EXAMPLES = """\b
Examples:
  fedstill demo
  fedstill demo --data synthetic --out runs/synthetic
  fedstill demo --set strategy.select=client --set rounds=2
"""
RUN_EXAMPLES = """\b
Examples:
  fedstill run examples/pjm.toml --out runs/pjm
  fedstill run my.toml --set strategy.name=fedmd --set rounds=3 --json
"""
CHECK_EXAMPLES = """\b
Example:
  fedstill check my-federation.toml
"""
PREDICT_EXAMPLES = """\b
Examples:
  fedstill predict runs/demo/models/G0-A readings.csv --timezone Europe/Berlin
  fedstill predict runs/pjm/models/AEP aep.csv --from 2018-01-01 --days 7 --out week.csv
"""
CONTRIBUTIONS_EXAMPLES = """\b
Examples:
  fedstill contributions my-federation.toml
  fedstill contributions my-federation.toml --log runs/mine/events.log --value agreement
"""
REPORT_EXAMPLES = """\b
Example:
  fedstill report runs/demo
"""
ATTACK_EXAMPLES = """\b
Examples:
  fedstill attack runs/mine
  fedstill attack runs/mine --only membership --only audit --worlds 32 --json
"""
ALGORITHMS_EXAMPLES = """\b
Example:
  fedstill algorithms
"""

SET = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the file: rounds=5, data.file=my.csv, participants.AEP.learner=mlp.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
QUIET = click.option("--quiet", is_flag=True, help="Show no progress.")


@click.group(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(fedstill.__version__, prog_name="fedstill")
def cli() -> None:
    """Federated distillation: better energy models together, without showing each other the data."""


for group in (data, coordinator, participant, join, audit, ledger, doctor):
    cli.add_command(group)


@cli.command(epilog=DEMO_EXAMPLES)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option(
    "--data",
    "source",
    type=click.Choice(["simbench", "synthetic"]),
    default="simbench",
    show_default=True,
    help="Measured profiles (downloaded once, 91 MB), or generated ones.",
)
@SET
@JSON
@QUIET
def demo(out: Path, source: str, changes: Sequence[str], as_json: bool, quiet: bool) -> None:
    """Run a federation of twelve enterprises and write a report."""
    from fedstill.cli import running

    running.demo(out, source, changes, as_json=as_json, quiet=quiet)


@cli.command(epilog=RUN_EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for report and models  [default: runs/NAME]")
@SET
@JSON
@QUIET
def run(file: Path, out: Path | None, changes: Sequence[str], as_json: bool, quiet: bool) -> None:
    """Run the federation that FILE describes."""
    from fedstill.cli import running

    running.run(file, out, changes, as_json=as_json, quiet=quiet)


@cli.command(epilog=CHECK_EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@SET
@JSON
def check(file: Path, changes: Sequence[str], as_json: bool) -> None:
    """Read FILE and the data it names, and explain what `run` would do. Trains nothing."""
    from fedstill.cli import running

    running.check(file, changes, as_json=as_json)


@cli.command(epilog=PREDICT_EXAMPLES)
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.argument("readings", type=click.Path(path_type=Path), metavar="DATA")
@click.option("--site", help="The site's name, where DATA holds many.")
@click.option("--timezone", help="Zone of the site, where DATA has plain clock times: Europe/Berlin.")
@click.option("--unit", help="Unit of the load column, where its name does not say it: kWh, kW, MW.")
@click.option(
    "--layout",
    "further",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other key of [data] in a federation file: load=power, separator=;, negative=allow.",
)
@click.option("--from", "first", metavar="DATE", help="First day to forecast  [default: the one that is due]")
@click.option("--days", type=click.IntRange(1, 3660), default=1, show_default=True, help="Days to forecast.")
@click.option("--out", type=click.Path(path_type=Path), help="CSV to write  [default: standard output]")
@JSON
def predict(
    model_dir: Path,
    readings: Path,
    site: str | None,
    timezone: str | None,
    unit: str | None,
    further: Sequence[str],
    first: str | None,
    days: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Forecast with a participant's model: DATA holds its readings up to the day before.

    For a classification model DATA is a table of cases, and each gets its class probabilities.
    """
    from fedstill.cli import predicting

    layout = {key: value for key, value in (("timezone", timezone), ("unit", unit)) if value is not None}
    layout |= {key: value for key, _, value in (text.partition("=") for text in further)}
    predicting.predict(model_dir, readings, site, layout, first, days, out, as_json=as_json)


@cli.command(epilog=REPORT_EXAMPLES)
@click.argument("folder", type=click.Path(path_type=Path))
@JSON
def report(folder: Path, as_json: bool) -> None:
    """Show the table of a finished run in FOLDER, and write its report.html anew."""
    from fedstill.cli import running

    running.report(folder, as_json=as_json)


@cli.command(epilog=CONTRIBUTIONS_EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--log", type=click.Path(path_type=Path), help="events.log of a finished run of FILE, to run nothing.")
@click.option(
    "--value",
    type=click.Choice(["loss", "agreement"]),
    default="loss",
    show_default=True,
    help="What a student of some voices saves on test days, or how near they come to the teacher of all.",
)
@SET
@JSON
@QUIET
def contributions(file: Path, log: Path | None, value: str, changes: Sequence[str], as_json: bool, quiet: bool) -> None:
    """Run the federation that FILE describes, and show who helped whom how much."""
    from fedstill.cli import running

    running.contributed(file, log, value, changes, as_json=as_json, quiet=quiet)


@cli.command(epilog=ATTACK_EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(["membership", "reconstruction", "property", "audit"]),
    help="Only this attack; may be given more than once.",
)
@click.option("--worlds", default=16, show_default=True, help="Runs with half of the data; even.")
@click.option("--seed", default=0, show_default=True, help="Of what is there in them.")
@click.option("--workers", type=click.IntRange(1), help="Processes to use, other than the run did.")
@JSON
@QUIET
def attack(
    run: Path, only: Sequence[str], worlds: int, seed: int, workers: int | None, as_json: bool, quiet: bool
) -> None:
    """Attack the finished run in the folder RUN: say what a curious coordinator or participant could tell."""
    from fedstill.cli import attacking

    attacking.attacked(run, only, worlds, seed, workers, as_json=as_json, quiet=quiet)  # type: ignore[arg-type]


@cli.command(epilog=ALGORITHMS_EXAMPLES)
@JSON
def algorithms(as_json: bool) -> None:
    """List algorithms, learners, codecs and mechanisms, built in and from installed packages."""
    from fedstill import plugins

    listed = {group: plugins.summaries(group) for group in ("algorithms", "learners", "codecs", "mechanisms")}
    if as_json:
        print_json(listed)
        return
    for group, entries in listed.items():
        click.echo(f"{group}:")
        for name, summary in entries.items():
            click.echo(f"  {name:24} {summary}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    try:
        cli.main(args=arguments, prog_name="fedstill", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        said, context = error.format_message(), getattr(error, "ctx", None)
        if not said.startswith("Usage:"):  # which is the whole help, shown where a command is missing
            stop = "" if said.endswith((".", "?")) else "."
            said = f"error: {said}{stop} Try: {context.command_path if context else 'fedstill'} --help"
        click.echo(said, err=True)
        sys.exit(WRONG)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(INTERRUPTED)
    except FedstillError as error:
        click.echo(f"error: {' '.join(str(error).splitlines())}", err=True)
        sys.exit(WRONG)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        remedy = ". Free some space, or choose another folder with --out" if error.errno == errno.ENOSPC else ""
        click.echo(f"error: {place}{error.strerror or error}{remedy}", err=True)
        sys.exit(WRONG)


if __name__ == "__main__":
    main()
