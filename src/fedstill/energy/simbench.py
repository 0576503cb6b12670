"""A year of load of 21 German businesses and farms (SimBench), fetched once and kept as a small Parquet file.

The profiles are a part of the wheel of the package `simbench`. Installing that package would bring several
hundred megabytes of other libraries, so pip downloads the one wheel (91 MB), its SHA-256 is checked, and the
wanted columns are read straight from the archive. `docs/data.md` says what is known about where the numbers
come from.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastparquet
import pandas as pd
import platformdirs

from fedstill.errors import DataError, DownloadError
from fedstill.files import fill_whole, write_whole

VERSION = "1.6.3"
SHA256 = "8b48bdab2445286a96649eb18bb09476d000a0e212fd57fdba83399df54af4de"
"""SHA-256 of the wheel of `VERSION`."""

MEMBER = "simbench/networks/1-complete_data-mixed-all-0-sw/LoadProfile.csv"
"""Where the profiles are inside the wheel."""

# fmt: off
SITES = (
    "BL-H",
    "G0-A", "G0-M", "G1-A", "G1-B", "G1-C", "G2-A", "G3-A", "G3-H", "G3-M",
    "G4-A", "G4-B", "G4-H", "G4-M", "G5-A", "G6-A",
    "L0-A", "L1-A", "L2-A", "L2-M",
    "WB-H",
)
# fmt: on
"""Every load profile of the data set that is not a household, a heat pump, a car, storage or a whole grid."""

ZONE = "Europe/Berlin"
STEP = pd.Timedelta(minutes=15)

SOURCE = f"SimBench load profiles, from the PyPI package simbench {VERSION}"
LICENCE = "Open Database License 1.0 (ODbL); contents under the Database Contents License 1.0 (DbCL)"
CITATION = (
    "S. Meinecke et al.: SimBench - A Benchmark Dataset of Electric Power Systems to Compare Innovative "
    "Solutions Based on Power Flow Analysis. Energies 13(12), 3290, 2020. doi:10.3390/en13123290"
)

TIMEOUT_S = 1800
"""How long pip may take; 91 MB in half an hour is 0.4 Mbit/s."""

Progress = Callable[[str], None]

_ELSEWHERE = (
    f"Where this cannot be mended: run `pip download simbench=={VERSION} --no-deps` on another machine, "
    "bring the wheel here and run `fedstill data simbench --wheel FILE`; or name your own CSV in a "
    "federation file (`fedstill run`); or make artificial data with `fedstill data synthetic OUT.csv`"
)

_REASONS = (
    ("No module named pip", "this Python has no pip"),
    (
        "DO NOT MATCH THE HASHES",
        "the package index offers another file than the one expected (hash mismatch)",
    ),
    ("No space left", "the disk is full"),
    ("Retrying", "the package index could not be reached; check the network, the proxy and pip's settings"),
)


def path(cache: Path | None = None) -> Path:
    """Where the profiles are kept (whether or not they are there yet).

    Parameters
    ----------
    cache:
        Folder to keep them in. By default what the environment variable FEDSTILL_CACHE names, or the user's
        cache folder.
    """
    usual = platformdirs.user_cache_dir("fedstill", appauthor=False)
    return Path(cache or os.environ.get("FEDSTILL_CACHE") or usual).expanduser() / f"simbench-{VERSION}.parquet"


def load(cache: Path | None = None) -> pd.DataFrame:
    """Read the profiles that `fetch` has kept.

    Returns
    -------
    DataFrame
        Long form, 21 sites x 35 136 quarter hours of 2016: `unique_id` (text), `ds` (the file's time of the
        quarter hour, in UTC) and `y` (float32, load as a share of the site's peak of the year, so 1 is that
        peak; no unit).

    Raises
    ------
    DataError
        The profiles are not there, or the file is damaged.
    """
    kept = path(cache)
    remedy = "Run `fedstill data simbench`"
    if not kept.exists():
        raise DataError("the SimBench profiles are not here yet", where=str(kept), remedy=remedy)
    if not _intact(kept):
        raise DataError("the kept SimBench profiles are damaged", where=str(kept), remedy=remedy)
    frame: pd.DataFrame = fastparquet.ParquetFile(str(kept)).to_pandas()
    return frame.astype({"unique_id": str})


def fetch(
    cache: Path | None = None,
    *,
    wheel: Path | None = None,
    sha256: str = SHA256,
    run: Callable[..., Any] = subprocess.run,
    on_progress: Progress | None = None,
) -> Path:
    """Make sure that the profiles are kept; download them where they are absent or damaged.

    Parameters
    ----------
    cache:
        Folder to keep them in, as in `path`.
    wheel:
        A wheel that is already on this machine; nothing is downloaded then.
    sha256:
        What the wheel's SHA-256 must be.
    run:
        Called as `subprocess.run` to start pip.
    on_progress:
        Told in a few words what is done next.

    Returns
    -------
    Path
        The Parquet file, as `path` says.

    Raises
    ------
    DownloadError
        The wheel could not be had, is not the expected one, or its profiles could not be kept.
    DataError
        The wheel does not hold the profiles.
    """
    say = on_progress or (lambda _: None)
    target = path(cache)
    if wheel is None and _intact(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()  # Better known before 91 MB than after.
        with tempfile.TemporaryDirectory(prefix="fedstill-") as folder:
            if wheel is None:
                say(f"downloading simbench {VERSION} with pip (91 MB)")
                wheel = _download(Path(folder), sha256, run)
            say("checking the wheel")
            _check(wheel, sha256)
            say(f"reading {len(SITES)} profiles")
            frame = _read(wheel)
        say("writing")
        _keep(frame, target)
    except OSError as error:
        raise DownloadError(
            f"the profiles could not be kept: {error.strerror or error}",
            where=str(error.filename or target),
            remedy="Free some disk space, or choose folders that can be written: --cache or FEDSTILL_CACHE "
            "for the profiles, TMPDIR for the download",
        ) from error
    return target


def write_parquet(frame: pd.DataFrame, target: Path, notes: dict[str, str]) -> None:
    """Write a frame as Parquet with notes about its origin.

    fastparquet is called by itself because pandas 3 announces the end of `engine="fastparquet"`.
    """
    fastparquet.write(
        str(target),
        frame,
        compression="ZSTD",
        object_encoding="infer",
        write_index=False,
        custom_metadata=notes,
    )


def _download(folder: Path, sha256: str, run: Callable[..., Any]) -> Path:
    """Let pip fetch the wheel into `folder`; the user's own index, proxy and certificates apply."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"simbench=={VERSION} --hash=sha256:{sha256}\n", encoding="utf-8")
    # Wheels only: of a source archive pip would run the code. No input: pip must not wait for a password.
    command = [sys.executable or "python", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["-r", str(wanted), "-d", str(folder)]
    quiet = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "errors": "replace"}
    try:
        done = run(command, timeout=TIMEOUT_S, **quiet)
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"pip had not finished after {TIMEOUT_S} s", remedy=_ELSEWHERE) from error
    except OSError as error:
        raise DownloadError(f"pip could not be started: {error}", remedy=_ELSEWHERE) from error
    if done.returncode != 0:
        raise DownloadError(f"the download failed: {_reason(done.stderr)}", remedy=_ELSEWHERE)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        raise DownloadError("pip reported success but left no wheel", remedy=_ELSEWHERE)
    return wheels[0]


def _reason(stderr: str) -> str:
    """Say in a few words why pip failed; its own last words where the case is not known."""
    for sign, meaning in _REASONS:
        if sign in stderr:
            return meaning
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ").rstrip(".") if lines else "pip gave no reason"


def _check(wheel: Path, sha256: str) -> None:
    try:
        found = _digest(wheel)
    except OSError as error:
        what = f"the wheel cannot be read: {error.strerror or error}"
        raise DownloadError(what, where=str(wheel), remedy="Check the path of the wheel") from error
    if found != sha256:
        raise DownloadError(
            f"this is not the wheel of simbench {VERSION}: its SHA-256 is {found}, not {sha256}",
            where=str(wheel),
            remedy=f"Fetch it again: `pip download simbench=={VERSION} --no-deps`",
        )


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(wheel: Path) -> pd.DataFrame:
    """Read the profiles of `SITES` from the wheel into long form, in UTC."""
    columns = {f"{site}_pload": site for site in SITES}
    where = f"{wheel}: {MEMBER}"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member:
            wide = pd.read_csv(member, sep=";", usecols=["time", *columns])
        clock = pd.to_datetime(wide.pop("time"), format="%d.%m.%Y %H:%M")
        wide = wide.rename(columns=columns)[list(SITES)].astype("float32")
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"it does not hold the profiles of simbench {VERSION}: {error}", where=where) from error
    if wide.empty or wide.isna().to_numpy().any():
        raise DataError("a profile is empty or has a gap", where=where)
    wide["ds"] = _instants(clock, where)
    return wide.melt("ds", var_name="unique_id", value_name="y")[["unique_id", "ds", "y"]]


def _instants(clock: pd.Series[pd.Timestamp], where: str) -> pd.DatetimeIndex:
    """Turn the wall clock of Germany into UTC, and make sure that it runs on without a gap.

    The autumn hour stands there twice and the spring hour not at all, so the instants are counted on from
    the first row and their wall clock is compared with the file's, row by row.
    """
    start = clock.iloc[0].tz_localize(ZONE).tz_convert("UTC")
    instants = pd.date_range(start, periods=len(clock), freq=STEP, unit="ns")
    wrong = (instants.tz_convert(ZONE).tz_localize(None) != pd.DatetimeIndex(clock)).nonzero()[0]
    if len(wrong):
        row = int(wrong[0])
        what = f"the time {clock.iloc[row]} does not follow on from the row before"
        raise DataError(what, where=f"{where}, line {row + 2}")
    return instants


def _seal(kept: Path) -> Path:
    return kept.with_name(f"{kept.name}.sha256")


def _keep(frame: pd.DataFrame, target: Path) -> None:
    """Write the Parquet file and, beside it, its SHA-256 in the form that `sha256sum -c` reads."""
    notes = {"source": SOURCE, "licence": LICENCE, "citation": CITATION}
    fill_whole(target, lambda part: write_parquet(frame, part, notes))
    seal = f"{_digest(target)}  {target.name}\n"
    write_whole(_seal(target), seal.encode())


def _intact(kept: Path) -> bool:
    """Whether the file is there, byte for byte as it was written. Nothing is parsed before this is known."""
    try:
        return _seal(kept).read_text(encoding="utf-8").split()[:1] == [_digest(kept)]
    except (OSError, UnicodeDecodeError):
        return False
