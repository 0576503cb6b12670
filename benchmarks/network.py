"""Time rounds between machines over loopback mTLS, without training: what the network, the desk and the disk cost.

    python benchmarks/network.py --participants 2 --participants 20 --megabytes 1

The coordinator is a process of its own with its store on disk; all participants are in another, each with its own
journal and link. A round is: asked, every participant sends soft labels of the given size, the desk averages them
(`fedmd`) and sends the teacher back, of the same size, and everybody has written it down. The first round is left out.
Beside it, in the same run, stands a plain exchange of the same bytes over TCP, without TLS, disk, signatures or
averaging: each side sends and receives as many bytes as in a round. With --flower, so do rounds of Flower's deployment
engine with a model of the same size.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Self

import click
import common
import numpy as np
import pandas as pd
from flower import flower_rounds

from fedstill import config
from fedstill.agent.home import Home
from fedstill.agent.joining import join
from fedstill.agent.journal import Journal
from fedstill.agent.loop import Patience, work
from fedstill.agent.taking_part import link_of, offered
from fedstill.agent.worker import Worker
from fedstill.codecs.raw import Raw
from fedstill.labels import Outputs, Release, SoftLabels, Space
from fedstill.messages import Answer, Ask, Message, Reply
from fedstill.privacy.durable import SQLiteLedger
from fedstill.privacy.guard import Guard, Privacy
from fedstill.privacy.ledger import Ledger
from fedstill.privacy.spending import Budget
from fedstill.service.founding import found
from fedstill.transports.links import Link

CLASSES = tuple("abcde")
COLUMN = "x"


@dataclass
class Stub:
    """A participant that answers at once: the same soft labels each time."""

    party: str
    outputs: Outputs
    payload: bytes
    guard: Guard = field(default_factory=Guard.open)
    losses: dict[int, float] = field(default_factory=dict)
    taught_at: dict[int, float] = field(default_factory=dict)

    def remember(self, reply: Reply) -> None:
        """Nothing to remember."""

    def handle(self, message: Message) -> Reply | None:
        """Answer, or note when a teacher came."""
        if isinstance(message, Ask):
            answer = Answer(message.round, self.party, self.payload, message.question)
            self.guard.charge(answer, "labels", free=False)
            return answer
        self.taught_at[message.round] = time.perf_counter()
        self.losses[message.round] = 0.0
        return None


@dataclass(frozen=True)
class Readymade:
    """What a worker needs of an agreement, without training."""

    stub: Stub
    distils: bool = True

    def make(self, member: Any) -> Any:
        """Anything."""
        return member

    def prepare(self, member: Any) -> Any:
        """Anything."""
        return member

    def guard(self, member: Any, ledger: Ledger, noise: Any) -> Guard:
        """No mechanism; everything is written down, as it is for a real participant."""
        del member
        self.stub.guard = Guard(Privacy(), None, 0, ledger, noise)
        return self.stub.guard

    def build(self, make: Any, prepared: Any, guard: Guard) -> Callable[[], Stub]:
        """The stub."""
        del make, prepared, guard
        return lambda: self.stub


def described(folder: Path, parties: Sequence[str], items: int, rounds: int) -> config.FederationFile:
    """A federation file of classification, with a transfer set of so many items of one column."""
    frame = pd.DataFrame({COLUMN: np.arange(items, dtype=np.float64), "y": "a"})
    frame.to_csv(folder / "public.csv", index=False)
    return config.parse(
        {
            "name": "bench",
            "rounds": rounds,
            "quorum": len(parties),
            "task": {"kind": "classification", "target": "y", "classes": CLASSES, "columns": [COLUMN]},
            "transfer": {"file": str(folder / "public.csv"), "items": items},
            "strategy": {"name": "fedmd"},
            "participants": [{"name": party} for party in parties],
        }
    )


async def take_part(folder: Path, consortium: Any, parties: Sequence[str], items: int) -> list[Stub]:
    """Let everybody join, and then work to the end."""
    payload = labels(items)
    homes = [await join(consortium.invite(p, 1), folder / p, {"file": "none.csv"}) for p in parties]
    stubs, links, workers = [], [], []
    for home in homes:
        link = link_of(home)
        worker = await worker_of(home, link, payload)
        stubs.append(worker.participant)
        workers.append(worker)
        links.append(link)
    running = (work(one, link, clock=time.time, patience=Patience()) for one, link in zip(workers, links, strict=True))
    await asyncio.gather(*running)
    for link in links:
        await link.close()
    return stubs


async def worker_of(home: Home, link: Link, payload: bytes) -> Worker:
    """A worker whose participant is a stub."""
    contract, _ = await offered(home, link)
    party = home.settings.participant.name
    stub = Stub(party, contract.agreement.task.outputs, payload)
    standing = replace(contract, agreement=Readymade(stub))  # type: ignore[arg-type]
    journal = Journal(home.journal_path, contract.digest)
    ledger = SQLiteLedger(home.ledger_path, party, Budget(), time.time)
    return Worker(standing, _Member(party), journal, ledger, home.blobs, time.time)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Member:
    name: str


def labels(items: int) -> bytes:
    """Soft labels of so many items, as the codec writes them."""
    said = SoftLabels.of(np.arange(items), np.full((items, len(CLASSES)), 0.2, np.float32), Space.PROBABILITIES)
    return Raw().encode(Release(labels=said))


class Memory:
    """Watches the resident memory of a process while it is entered: of its own, and with mapped files; Linux alone."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self.peak_own = 0
        self._status = Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def resident(self, what: str = "VmRSS") -> int:
        """Bytes now."""
        lines = self._status.read_text(encoding="utf-8").splitlines() if self._status.exists() else []
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{what}:")), 0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.peak = max(self.peak, self.resident())
            self.peak_own = max(self.peak_own, self.resident("RssAnon"))


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A coordinator in a process of its own."""
    command = [sys.executable, "-m", "fedstill.cli.main", "coordinator", "serve", str(folder), "--log-level", "error"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603
    for line in process.stderr or ():
        if "is served at" in line:
            break
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def measure(number: int, items: int, rounds: int) -> dict[str, Any]:
    """Seconds of each round but the first."""
    parties = [f"p{i:03}" for i in range(number)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"https://127.0.0.1:{listener.getsockname()[1]}"
        consortium = found(folder / "c", described(folder, parties, items, rounds), folder, address)
        with (folder / "c" / "consortium.toml").open("a", encoding="utf-8") as settings:
            settings.write("[limits]\nenrolments_per_minute = 1000\n")  # all come at once, from one address
        with serving(folder / "c") as process, Memory(process.pid) as memory:
            stubs = asyncio.run(take_part(folder, consortium, parties, items))
        ends = [max(stub.taught_at[done] for stub in stubs) for done in range(1, rounds + 1)]
        consortium.close()
    payload = len(stubs[0].payload)
    seconds = np.diff(ends).tolist()
    plain = asyncio.run(exchanged(number, payload, rounds))
    kept = {"peak_bytes": memory.peak, "peak_own_bytes": memory.peak_own}
    return {"participants": number, "bytes": payload, "round_s": seconds, "plain_tcp_s": plain, **kept}


async def exchanged(number: int, size: int, rounds: int) -> list[float]:
    """Seconds in which as many bytes go up and down over plain TCP, on connections that are open already."""
    body = bytes(size)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readexactly(size)
                writer.write(body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**20)
    port = server.sockets[0].getsockname()[1]
    pairs = [await asyncio.open_connection("127.0.0.1", port, limit=2**20) for _ in range(number)]

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(body)
        await writer.drain()
        await reader.readexactly(size)

    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        await asyncio.gather(*(once(*pair) for pair in pairs))
        taken.append(time.perf_counter() - began)
    for _, writer in pairs:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return taken[1:]


@click.command()
@click.option("--participants", "numbers", multiple=True, type=click.IntRange(2), default=(2, 5, 10, 20))
@click.option("--megabytes", type=float, default=1.0, show_default=True, help="Of one release, and of the teacher.")
@click.option("--rounds", type=click.IntRange(2), default=11, show_default=True)
@click.option(
    "--flower", type=click.Path(exists=True, path_type=Path), help="Virtual environment of Flower, to compare."
)
@click.option("--quick", is_flag=True, help="Two participants, three rounds.")
@common.out_option
def main(numbers: Sequence[int], megabytes: float, rounds: int, flower: Path | None, quick: bool, out: Path) -> None:
    """Measure rounds and keep what was measured as JSON."""
    numbers, rounds = ((2,), 3) if quick else (numbers, rounds)
    items = max(1, round(megabytes * 2**20 / (4 * len(CLASSES))))
    measured = []
    for number in numbers:
        measured.append(measure(number, items, rounds))
        took, plain = median(measured[-1]["round_s"]), median(measured[-1]["plain_tcp_s"])
        print(
            f"{number:5} participants: {took:.3f} s a round, plain TCP {plain:.4f} s, {took / plain:.1f} times; "
            f"{measured[-1]['peak_bytes'] / 1e6:.0f} MB"
        )
        if flower is not None:
            measured[-1]["flower_s"] = flower_rounds(flower, number, measured[-1]["bytes"], min(rounds, 5))
            theirs = median(measured[-1]["flower_s"])
            print(f"      Flower: {theirs:.2f} s a round, {theirs / took:.0f} times")
    written = out / f"network{'-quick' if quick else ''}.json"
    common.keep(written, {"megabytes": megabytes, "rounds": rounds, "transport": "https"}, {}, measured)
    print(f"written: {written}")


if __name__ == "__main__":
    main()
