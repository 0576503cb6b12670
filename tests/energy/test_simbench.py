"""SimBench profiles: a doctored wheel and a pretended pip stand in for the download."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedstill.energy import simbench
from fedstill.errors import DataError, DownloadError

AUTUMN = [f"30.10.2016 {hour:02d}:{minute:02d}" for hour in (1, 2, 2, 3) for minute in (0, 15, 30, 45)]


def make_wheel(file: Path, times: list[str] = AUTUMN, spoil: str = "0.01") -> Path:
    """Site number s has s + row/100 in each row; the reactive power beside it is -1."""
    head = ["time"] + [f"{site}_{kind}load" for site in simbench.SITES for kind in "qp"]
    lines = [";".join(head)]
    for row, time in enumerate(times):
        cells = [cell for number in range(len(simbench.SITES)) for cell in ("-1", f"{number + row / 100}")]
        lines.append(";".join([time, *cells]))
    lines[2] = lines[2].replace(";0.01;", f";{spoil};")  # the first site's value in the second row
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(simbench.MEMBER, "\n".join(lines) + "\n")
    return file


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Pip:
    """Puts a wheel where pip would, or fails as pip would."""

    def __init__(self, wheel: Path | None = None, stderr: str = "", error: Exception | None = None) -> None:
        self.wheel, self.stderr, self.error = wheel, stderr, error
        self.commands: list[list[str]] = []
        self.requirements = ""

    def __call__(self, command: list[str], **options: Any) -> SimpleNamespace:
        self.commands.append(command)
        assert options["timeout"] == simbench.TIMEOUT_S
        if self.error:
            raise self.error
        self.requirements = Path(command[command.index("-r") + 1]).read_text(encoding="utf-8")
        if self.wheel:
            shutil.copy(self.wheel, command[command.index("-d") + 1])
        return SimpleNamespace(returncode=1 if self.stderr else 0, stdout="", stderr=self.stderr)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "simbench-1.6.3-py3-none-any.whl")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "deeper"


def test_fetch_downloads_once_and_load_reads_it_in_utc(wheel: Path, cache: Path) -> None:
    pip = Pip(wheel)
    told: list[str] = []
    kept = simbench.fetch(cache, sha256=sha256(wheel), run=pip, on_progress=told.append)
    assert kept == simbench.path(cache)
    assert len(told) == 4

    frame = simbench.load(cache)
    assert list(frame.columns) == ["unique_id", "ds", "y"]
    assert frame["unique_id"].drop_duplicates().tolist() == list(simbench.SITES)
    assert str(frame["ds"].dtype) == "datetime64[ns, UTC]"
    assert frame["y"].dtype == np.float32
    site = frame[frame["unique_id"] == "G0-A"]  # the second site
    # 01:00 summer time is 23:00 UTC the day before; the doubled hour becomes 00:00 and 01:00 UTC.
    expected = pd.date_range("2016-10-29 23:00", "2016-10-30 02:45", freq="15min", tz="UTC")
    assert pd.DatetimeIndex(site["ds"]).equals(expected.as_unit("ns"))
    assert site["y"].tolist() == pytest.approx([1 + row / 100 for row in range(16)])

    simbench.fetch(cache, sha256=sha256(wheel), run=pip)
    assert len(pip.commands) == 1


def test_pip_is_told_the_hash_and_no_index(wheel: Path, cache: Path) -> None:
    pip = Pip(wheel)
    simbench.fetch(cache, sha256=sha256(wheel), run=pip)
    assert pip.requirements == f"simbench==1.6.3 --hash=sha256:{sha256(wheel)}\n"
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:", "--no-input"} <= set(pip.commands[0])
    assert not any("index" in word or "host" in word or "://" in word for word in pip.commands[0])


def test_the_download_is_thrown_away(wheel: Path, cache: Path) -> None:
    pip = Pip(wheel)
    simbench.fetch(cache, sha256=sha256(wheel), run=pip)
    assert not Path(pip.commands[0][-1]).exists()
    assert sorted(file.name for file in cache.iterdir()) == [
        "simbench-1.6.3.parquet",
        "simbench-1.6.3.parquet.sha256",
    ]


def test_the_spring_hour_is_missing_on_the_wall_clock_but_not_in_utc(tmp_path: Path, cache: Path) -> None:
    times = [f"27.03.2016 {hour:02d}:{minute:02d}" for hour in (1, 3) for minute in (0, 15, 30, 45)]
    wheel = make_wheel(tmp_path / "spring.whl", times)
    simbench.fetch(cache, wheel=wheel, sha256=sha256(wheel))
    steps = pd.DatetimeIndex(simbench.load(cache)["ds"].iloc[:8])
    assert steps.equals(pd.date_range("2016-03-27", periods=8, freq="15min", tz="UTC").as_unit("ns"))


def test_absent_profiles_say_how_to_get_them(cache: Path) -> None:
    with pytest.raises(DataError, match=r"not here yet.*fedstill data simbench"):
        simbench.load(cache)


@pytest.mark.parametrize("where", [0.0, 0.3, 0.999])
def test_a_damaged_file_is_noticed_and_made_anew(wheel: Path, cache: Path, where: float) -> None:
    kept = simbench.fetch(cache, wheel=wheel, sha256=sha256(wheel))
    good = kept.read_bytes()
    spot = int(where * len(good))
    kept.write_bytes(good[:spot] + bytes([good[spot] ^ 1]) + good[spot + 1 :])
    with pytest.raises(DataError, match="damaged"):
        simbench.load(cache)
    pip = Pip(wheel)
    simbench.fetch(cache, sha256=sha256(wheel), run=pip)
    assert len(pip.commands) == 1
    assert len(simbench.load(cache)) == 16 * 21


@pytest.mark.parametrize("seal", [None, b"", b"\xff\xfe"])
def test_a_file_without_its_seal_counts_as_damaged(wheel: Path, cache: Path, seal: bytes | None) -> None:
    kept = simbench.fetch(cache, wheel=wheel, sha256=sha256(wheel))
    beside = kept.with_name(kept.name + ".sha256")
    assert beside.read_text(encoding="utf-8") == f"{sha256(kept)}  {kept.name}\n"
    beside.unlink() if seal is None else beside.write_bytes(seal)
    with pytest.raises(DataError, match="damaged"):
        simbench.load(cache)


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("/usr/bin/python3: No module named pip\n", "has no pip"),
        ("WARNING: Retrying (Retry(total=4))\nERROR: No matching distribution found", "could not be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "hash mismatch"),
        ("ERROR: Could not install: [Errno 28] No space left on device\n", "disk is full"),
        ("noise\nERROR: Something quite new.\n\n", "the download failed: Something quite new[.] Where"),
    ],
)
def test_a_failed_download_says_why_and_what_to_do(cache: Path, stderr: str, reason: str) -> None:
    with pytest.raises(DownloadError, match=reason) as caught:
        simbench.fetch(cache, run=Pip(stderr=stderr))
    for way_out in (
        "pip download simbench==1.6.3 --no-deps",
        "--wheel FILE",
        "fedstill run",
        "data synthetic",
    ):
        assert way_out in caught.value.remedy
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (subprocess.TimeoutExpired("pip", simbench.TIMEOUT_S), "had not finished after 1800 s"),
        (FileNotFoundError(2, "No such file or directory", "python"), "could not be started"),
    ],
)
def test_a_pip_that_hangs_or_is_not_there(cache: Path, error: Exception, reason: str) -> None:
    with pytest.raises(DownloadError, match=reason):
        simbench.fetch(cache, run=Pip(error=error))


def test_pip_that_leaves_nothing(cache: Path) -> None:
    with pytest.raises(DownloadError, match="left no wheel"):
        simbench.fetch(cache, run=Pip())


def test_the_hash_is_checked_again_here(wheel: Path, cache: Path) -> None:
    with pytest.raises(DownloadError, match=f"its SHA-256 is {sha256(wheel)}, not {simbench.SHA256}"):
        simbench.fetch(cache, run=Pip(wheel))
    with pytest.raises(DownloadError, match="not the wheel"):
        simbench.fetch(cache, wheel=wheel)
    assert list(cache.iterdir()) == []


def test_a_wheel_that_is_not_there(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DownloadError, match=r"none\.whl: the wheel cannot be read"):
        simbench.fetch(cache, wheel=tmp_path / "none.whl")


def test_a_file_that_is_no_archive(tmp_path: Path, cache: Path) -> None:
    text = tmp_path / "text.whl"
    text.write_text("not a zip", encoding="utf-8")
    with pytest.raises(DataError, match="does not hold the profiles"):
        simbench.fetch(cache, wheel=text, sha256=sha256(text))


def test_an_archive_without_the_profiles(tmp_path: Path, cache: Path) -> None:
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("simbench/__init__.py", "")
    with pytest.raises(DataError, match="does not hold the profiles"):
        simbench.fetch(cache, wheel=other, sha256=sha256(other))


@pytest.mark.parametrize(("spoil", "what"), [("", "has a gap"), ("much", "does not hold the profiles")])
def test_values_that_are_no_numbers(tmp_path: Path, cache: Path, spoil: str, what: str) -> None:
    wheel = make_wheel(tmp_path / "spoilt.whl", spoil=spoil)
    with pytest.raises(DataError, match=what):
        simbench.fetch(cache, wheel=wheel, sha256=sha256(wheel))


def test_a_missing_row_is_named(tmp_path: Path, cache: Path) -> None:
    wheel = make_wheel(tmp_path / "gap.whl", AUTUMN[:5] + AUTUMN[6:])
    # Line 1 is the head, so the sixth time stands in line 7.
    with pytest.raises(DataError, match=r"line 7: the time 2016-10-30 02:30:00 does not follow"):
        simbench.fetch(cache, wheel=wheel, sha256=sha256(wheel))


def test_where_the_profiles_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSTILL_CACHE", str(tmp_path))
    assert simbench.path() == tmp_path / "simbench-1.6.3.parquet"
    assert simbench.path(tmp_path / "own") == tmp_path / "own" / "simbench-1.6.3.parquet"
    monkeypatch.setenv("FEDSTILL_CACHE", "")  # empty counts as not set
    assert simbench.path().parent.is_absolute()
    assert "fedstill" in str(simbench.path())


def test_a_folder_that_cannot_be_is_noticed_before_the_download(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    pip = Pip()
    with pytest.raises(DownloadError, match=r"could not be kept.*--cache or FEDSTILL_CACHE"):
        simbench.fetch(file / "cache", run=pip)
    assert pip.commands == []
