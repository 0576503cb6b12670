"""Kill a coordinator again and again while it works, and see that it serves again and has lost nothing.

    python benchmarks/kills.py --kills 1000

Three participants that answer at once keep it busy with rounds; it is sent SIGKILL at random moments, half a second on
average after it serves, and started again. After every fifty kills another run begins in a new folder, since a start
reads all events of its run, and runs of ten thousands of rounds are not what there is. At the end of each run everybody
must go on once more, every letter that a participant was told had been taken must stand in the events, in order and
once, and an audit must find no fault. "Serving again" is the time from the start of the new process to its word that it
serves: Python's own start is in it. Results are written after each run.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import click
import common
from tqdm import tqdm

from fedstill.agent.joining import join
from fedstill.agent.loop import Patience, work
from fedstill.agent.taking_part import link_of
from fedstill.agent.worker import Worker
from fedstill.service.consortium import Consortium
from fedstill.service.export import verify
from fedstill.service.founding import found
from fedstill.transports.letters import read
from network import described, labels, worker_of

PARTIES = ("a", "b", "c")
ITEMS = 500
MOST_ROUNDS = 1_000_000
PER_RUN = 50
"""Kills of one run."""
HANGS_S = 60.0
"""Nobody needs so long to go on after the last kill."""
QUICKLY = Patience(poll_s=5.0, first_s=0.05, most_s=0.2)


async def start(folder: Path) -> tuple[asyncio.subprocess.Process, float]:
    """Start a coordinator; returns it and the seconds until it serves."""
    began = time.perf_counter()
    command = ("-m", "fedstill.cli.main", "coordinator", "serve", str(folder), "--log-level", "error")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    async for line in process.stderr:
        if b"is served at" in line:
            return process, time.perf_counter() - began
    raise RuntimeError("the coordinator did not start")


async def kill_often(
    folder: Path, kills: int, chance: random.Random, bar: tqdm[Any]
) -> tuple[list[float], list[Worker]]:
    """Seconds until it served again after each kill, and the participants."""
    process, _ = await start(folder / "c")
    consortium = Consortium(folder / "c")
    homes = [await join(consortium.invite(party, 1), folder / party, {"file": "none.csv"}) for party in PARTIES]
    consortium.close()
    links = [link_of(home) for home in homes]
    workers = [await worker_of(home, link, labels(ITEMS)) for home, link in zip(homes, links, strict=True)]
    pairs = zip(workers, links, strict=True)
    working = [asyncio.create_task(work(one, link, clock=time.time, patience=QUICKLY)) for one, link in pairs]
    taken = []
    try:
        for _ in range(kills):
            await asyncio.sleep(chance.expovariate(2))
            process.kill()
            await process.wait()
            process, seconds = await start(folder / "c")
            taken.append(seconds)
            bar.update()
        await go_on(workers, working)
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        for link in links:
            await link.close()
        process.terminate()
        await process.wait()
    return taken, workers


async def go_on(workers: list[Worker], working: list[asyncio.Task[None]]) -> None:
    """Wait until each has heard two further letters. Raises where somebody has given up, or hangs."""
    until = [worker.after + 2 for worker in workers]
    async with asyncio.timeout(HANGS_S):
        while any(worker.after < last for worker, last in zip(workers, until, strict=True)):
            for task in working:
                if task.done():
                    task.result()
            await asyncio.sleep(0.05)


def lost(folder: Path, workers: list[Worker]) -> dict[str, int]:
    """What was acknowledged and does not stand in the events, and what the audit says."""
    consortium = Consortium(folder / "c")
    written: dict[str, list[int]] = {}
    for record in consortium.store.records(1):
        if record.kind == "received":
            header = read(record.body).header
            written.setdefault(header.sender, []).append(header.number)
    rounds = len(written[PARTIES[0]])
    consortium.close()
    missing = 0
    for worker, party in zip(workers, PARTIES, strict=True):
        acknowledged = [one.number for one in worker.journal.sent() if one.posted_at is not None]
        missing += len(set(acknowledged) - set(written[party]))
        missing += written[party] != sorted(set(written[party]))
    faults = verify(folder / "c").faults
    for fault in faults:
        print(fault, file=sys.stderr)
    return {"runs": 1, "acknowledged and lost": missing, "answers of each": rounds, "faults": len(faults)}


@click.command()
@click.option("--kills", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--quick", is_flag=True, help="Five kills.")
@common.out_option
def main(kills: int, seed: int, quick: bool, out: Path) -> None:
    """Kill, and keep what was found as JSON."""
    kills = 5 if quick else kills
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    written = out / f"kills{'-quick' if quick else ''}.json"
    taken: list[float] = []
    told: Counter[str] = Counter({"acknowledged and lost": 0, "faults": 0})
    with tqdm(total=kills, file=sys.stderr) as bar:
        while len(taken) < kills:
            seconds, found = one_run(min(PER_RUN, kills - len(taken)), chance, bar)
            taken += seconds
            told.update(found)
            common.keep(written, {"kills": len(taken), "seed": seed, **told}, {}, [{"serving_again_s": taken}])
    print(f"{kills} kills: serving again after {median(taken):.2f} s (most {max(taken):.2f} s); {dict(told)}")
    print(f"written: {written}")


def one_run(kills: int, chance: random.Random, bar: tqdm[Any]) -> tuple[list[float], dict[str, int]]:
    """A run with so many kills, in a folder of its own, and what was found at its end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"https://127.0.0.1:{listener.getsockname()[1]}"
        found(folder / "c", described(folder, PARTIES, ITEMS, MOST_ROUNDS), folder, address).close()
        taken, workers = asyncio.run(kill_often(folder, kills, chance, bar))
        return taken, lost(folder, workers)


if __name__ == "__main__":
    main()
