"""Many changed inputs for everything that reads bytes from elsewhere, guided by coverage where atheris is installed.

    python tests/fuzz/run.py --frames 1000000
    python tests/fuzz/run.py --frames 1000 --target letter

Fails where something raises what it must not, takes over a second for an input, or keeps memory. The bytes that did it
are written to the folder of `--out`.
"""

# ruff: noqa: S311, T201 - chance that can be repeated, and what it prints is its report

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:  # it is there for few versions of Python, and for Linux
    atheris = None

with atheris.instrument_imports(include=["fedstill"]) if atheris else nullcontext():
    from mutations import mutate
    from targets import FAST, TARGETS, Target

MAX_S = 1.0
"""Processor time for one input."""
MAX_WAIT_S = 4.0
"""Time for one input by the clock: nothing waits for a lock. Other processes may hold this one up for some of it."""
MAX_GROWTH_MB = 64.0
"""What the process may hold more at the end than after a tenth of the inputs; the fuzzer keeps inputs, too."""
MAX_PEAK_MB = 512.0
"""What the process may have held at any time more than before the first input."""
MAX_BYTES = 64 * 1024


class Watched:
    """Runs a target and keeps what is to be known of it.

    Attributes
    ----------
    bugs:
        One input for each kind of exception and place.
    """

    def __init__(self, target: Target, frames: int, ended: Callable[[Watched], None]) -> None:
        self.target, self.frames, self.ended = target, frames, ended
        self.count, self.read, self.slowest_s = 0, 0, 0.0
        self.bugs: dict[str, bytes] = {}
        self.before_mb, self.settled_mb = _rss_mb(), 0.0

    def __call__(self, data: bytes) -> None:
        began, begun = time.thread_time(), time.monotonic()
        try:
            self.target.run(data)
            self.read += 1
        except self.target.allowed:
            pass
        except Exception as error:
            self.bugs.setdefault(_kind(error), data)
        took_s = time.thread_time() - began
        if took_s > max(self.slowest_s, MAX_S):
            self.bugs["takes too long"] = data
        if time.monotonic() - begun > MAX_WAIT_S:
            self.bugs.setdefault("waits", data)
        self.slowest_s = max(self.slowest_s, took_s)
        self.count += 1
        if self.count == max(1, self.frames // 10):
            self.settled_mb = _rss_mb()
        if self.count == self.frames:
            self.ended(self)

    def told(self) -> dict[str, Any]:
        """What was found."""
        return {
            "frames": self.count,
            "read": self.read,
            "slowest_ms": round(1000 * self.slowest_s, 1),
            "grown_mb": round(_rss_mb() - self.settled_mb, 1),
            "peak_mb": round(_peak_mb() - self.before_mb, 1),
            "bugs": sorted(self.bugs),
        }


def _kind(error: Exception) -> str:
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if "fedstill" in frame.filename]
    place = f"{Path(places[-1].filename).name}:{places[-1].lineno}" if places else "here"
    return f"{type(error).__name__} at {place}"


def _rss_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return _peak_mb()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def fuzz(name: str, frames: int, seed: int, out: Path, folder: Path) -> None:
    """Fuzz one target in this process, which ends with that, and leaves what is in the folder to its parent."""
    logging.disable()
    target = TARGETS[name](folder)
    watched = Watched(target, frames, lambda watched: _end(watched, name, out))
    if atheris is None:
        chance = random.Random(seed)
        while True:
            watched(mutate(target.seeds, chance))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(data)

    def mutated(data: bytes, max_size: int, chance: int) -> bytes:
        drawn = random.Random(chance)
        if drawn.random() < 0.3:
            return bytes(atheris.Mutate(data, max_size))
        return mutate((data, data, drawn.choice(target.seeds)), drawn)[:max_size]

    options = [f"-max_len={MAX_BYTES}", f"-seed={seed}", "-timeout=60", "-rss_limit_mb=4096", "-verbosity=0"]
    options += [f"-artifact_prefix={out}/{name}-"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], watched, custom_mutator=mutated)
    atheris.Fuzz()


def _end(watched: Watched, name: str, out: Path) -> None:
    for kind, data in watched.bugs.items():
        (out / f"{name}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}").write_bytes(data)
    sys.stdout.write(json.dumps(watched.told()) + "\n")
    sys.stdout.flush()
    os._exit(0)  # atheris would go on


def faults(told: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    found = list(told["bugs"])
    if told["grown_mb"] > MAX_GROWTH_MB:
        found.append(f"holds {told['grown_mb']} MB more than after a tenth of the inputs")
    if told["peak_mb"] > MAX_PEAK_MB:
        found.append(f"held {told['peak_mb']} MB")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz everything that reads bytes from elsewhere.")
    parser.add_argument("--frames", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--target", choices=TARGETS, help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder for bytes that did harm")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)  # a folder: work in this process
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.here:
        fuzz(asked.target, asked.frames, asked.seed, asked.out, asked.here)
    with tempfile.TemporaryDirectory() as folder:
        names = [asked.target] if asked.target else list(TARGETS)
        shares = {name: TARGETS[name](_made(folder, name)).share for name in names}
    print("guided by coverage" if atheris else "not guided by coverage: atheris is not installed", flush=True)
    bad, total = 0, 0
    for name, share in shares.items():
        frames = max(1, round(asked.frames * share / sum(shares.values())))
        told, complaints = _apart(name, frames, asked.seed, asked.out)
        total += told.get("frames", 0)
        bad += bool(complaints)
        print(f"{name:22} {json.dumps({**told, 'bugs': complaints})}", flush=True)
    print(f"{total} frames, {bad} of {len(shares)} targets with faults" + (f": see {asked.out}" if bad else ""))
    sys.exit(bool(bad))


def _made(folder: str, name: str) -> Path:
    made = Path(folder) / name
    made.mkdir()
    return made


def _apart(name: str, frames: int, seed: int, out: Path) -> tuple[dict[str, Any], list[str]]:
    """Fuzz a target in a process of its own, so that memory is its own, and a crash ends nothing else."""
    command = [sys.executable, __file__, "--target", name, "--frames", str(frames), "--seed", str(seed)]
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        command += ["--out", str(out), "--here", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        told = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return {}, [f"the process ended with {done.returncode}: {done.stderr[-2000:]}"]
    return told, faults(told)


if __name__ == "__main__":
    main()
