"""`fedstill data`: get the SimBench profiles, or make artificial load."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from fedstill import files
from fedstill.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

NOTICE = "Artificial data from a small physical model; nothing in it was measured (see docs/data.md)."

STEPS = ("15min", "30min", "1h")
"""As `energy.synthetic` knows them; that module, and pandas with it, is imported only when it has work to do."""

# The lone \b tells click to keep the lines of the paragraph as they are.
SIMBENCH_EXAMPLES = """\b
Examples:
  fedstill data simbench
  fedstill data simbench --cache ./data
  fedstill data simbench --wheel simbench-1.6.3-py3-none-any.whl
"""
SYNTHETIC_EXAMPLES = """\b
Examples:
  fedstill data synthetic load.csv
  fedstill data synthetic load.parquet --sites 30 --days 730 --step 15min --skew 0.8
  fedstill data synthetic load.csv --sites 200 --skew all=0.5
  fedstill data synthetic load.csv --skew level=1,daily=0.5
"""


@click.group()
def data() -> None:
    """Get data to try fedstill with: SimBench profiles, or artificial load."""


@data.command("simbench", epilog=SIMBENCH_EXAMPLES)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to keep the profiles in. Default: what FEDSTILL_CACHE names, or your cache folder.",
)
@click.option(
    "--wheel",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The wheel of simbench, where it cannot be downloaded from here.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def simbench_command(cache: Path | None, wheel: Path | None, as_json: bool) -> None:
    """Fetch a year of load of 21 German businesses and farms (SimBench).

    pip downloads one wheel (91 MB) with your own settings; the profiles are kept as a Parquet file of 2 MB,
    and the wheel is thrown away. From then on nothing is downloaded. Values are shares of each site's peak
    of the year: 1 is that peak.
    """
    from fedstill.energy import simbench

    kept = simbench.fetch(cache, wheel=wheel, on_progress=lambda what: click.echo(what, err=True))
    facts = {
        "path": str(kept),
        "sites": len(simbench.SITES),
        "source": simbench.SOURCE,
        "licence": simbench.LICENCE,
        "citation": simbench.CITATION,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(f"{name:<9} {fact}" for name, fact in facts.items()))


@data.command("synthetic", epilog=SYNTHETIC_EXAMPLES)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--sites", default=12, show_default=True, help="Number of sites.")
@click.option("--days", default=365, show_default=True, help="Number of local days.")
@click.option("--step", type=click.Choice(STEPS), default="1h", show_default=True)
@click.option("--start", default="2016-01-01", show_default=True, help="First local day.")
@click.option("--zone", default="Europe/Berlin", show_default=True, help="Time zone that the shifts follow.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same numbers.")
@click.option(
    "--skew",
    default="0.5",
    show_default=True,
    help="How unlike the sites are: 0 (alike) to 1. Or by factors, with 1 as unlike as real sites: all=0.5, or any of "
    "level, swing, daily, weekly, season, weather, noise, history, such as level=1,daily=0.5.",
)
@click.option("--force", is_flag=True, help="Replace OUT where it exists.")
def synthetic_command(
    out: Path, sites: int, days: int, step: str, start: str, zone: str, seed: int, skew: str, force: bool
) -> None:
    """Make artificial load of a federation and write it to OUT (.csv or .parquet).

    One row a site and step: unique_id, ds (UTC), y (mean kW), temperature_c (of the region). Everything is
    made by a small physical model of shifts, weather, holidays and stops; nothing in it was measured.
    """
    from fedstill.energy import synthetic as artificial
    from fedstill.energy.skew import parse_skew

    by = parse_skew(skew)
    _check_target(out, force)
    with tqdm(total=sites, unit=" sites", file=sys.stderr, disable=None, leave=False) as bar:
        frame = artificial.synthetic(sites, days, step, start, zone, seed, by, on_progress=bar.update)
    _write(frame, out)
    click.echo(f"{NOTICE}\n{out}: {len(frame)} rows, {sites} sites, {step}, from {start} on ({zone})")


def _check_target(out: Path, force: bool) -> None:
    if out.suffix not in (".csv", ".parquet"):
        raise ConfigError("the name must end in .csv or .parquet", where=str(out))
    if out.exists() and not force:
        raise ConfigError("it exists already", where=str(out), remedy="Give another name, or --force")
    if not out.parent.is_dir():
        raise ConfigError("there is no such folder", where=str(out.parent), remedy="Create it first")


def _write(frame: pd.DataFrame, out: Path) -> None:
    from fedstill.energy import simbench

    def write(part: Path) -> None:
        if out.suffix == ".csv":
            frame.to_csv(part, index=False, date_format="%Y-%m-%dT%H:%M:%SZ", lineterminator="\n")
        else:
            simbench.write_parquet(frame, part, {"source": NOTICE})

    try:
        files.fill_whole(out, write)
    except OSError as error:
        remedy = "Choose a folder that you can write, or free some disk space"
        raise ConfigError(f"it cannot be written: {error.strerror or error}", where=str(out), remedy=remedy) from error
