"""Many participants at once: how soon a round reaches all, how fast their answers are taken, in what memory.

    python benchmarks/many.py --participants 2000 --participants 10000 --rounds 5

The coordinator is a process of its own, bound to one core, with its store on disk. All participants are in this
process, on another core: each with its own certificate, connection and signed letters, speaking the HTTP interface
directly, because so many whole participants would need more than the core that is left for them. Everybody waits for
letters; a round *opens* from the moment when the last answer of the round before was acknowledged until the last
participant has the next question (so a teacher for everybody counts, too). Only then do all answer at once: *answers*
is the time until the last of them is acknowledged, which is when it is on the disk. The first round is left out.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
import common
import msgspec
from tqdm import tqdm

from fedstill import wire
from fedstill.messages import Answer, Ask
from fedstill.service.consortium import Consortium
from fedstill.service.founding import found
from fedstill.service.invites import read_invite
from fedstill.transports.identity import Identity
from fedstill.transports.letters import (
    COORDINATOR,
    Header,
    Parcel,
    digest_of,
    pack_parcels,
    read,
    unpack_parcels,
    write,
)
from fedstill.transports.protocol import HEADER, SPOKEN
from fedstill.transports.tls import client_side
from network import Memory, described, labels, serving

ITEMS = 200
"""Of five classes: an answer of 4 kB."""

LIMITS = "[limits]\nconnections = 30000\nrequests_per_s = 1000\nburst = 1000\n"
WAIT_S = 60


@dataclass
class Guest:
    """One participant: its connection, and what it has heard."""

    name: str
    identity: Identity
    context: ssl.SSLContext
    after: int = 0
    terms: str = ""
    reader: asyncio.StreamReader = field(init=False)
    writer: asyncio.StreamWriter = field(init=False)

    async def connect(self, port: int) -> None:
        """Open the one connection."""
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=self.context, server_hostname="127.0.0.1"
        )

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of an answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{HEADER}: {SPOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        size = next(int(line[15:]) for line in lines if line.startswith("content-length:"))
        said = await self.reader.readexactly(size)
        if " 200 " not in lines[0]:
            raise RuntimeError(f"{self.name}: {lines[0]}: {said[:200]!r}")
        return said

    async def letters(self) -> list[Any]:
        """What the next letters say: messages, or the kind of the end."""
        data = await self.ask("GET", f"/v1/letters?after={self.after}&wait_s={WAIT_S}")
        heard = []
        for parcel in unpack_parcels(data, len(data)):
            header = read(parcel.letter).header
            self.after, self.terms = header.number, header.terms
            heard.append(wire.decode(parcel.payload) if header.kind == "frame" else header.kind)
        return heard

    async def answer(self, number: int, release: bytes) -> None:
        """Answer a round. Raises RuntimeError where the answer is not taken."""
        payload = wire.encode(Answer(number, self.name, release, 1))
        header = Header(
            self.terms, self.name, COORDINATOR, number, "frame", digest_of(payload), len(payload), time.time()
        )
        letter = write(header, self.identity.sign).to_bytes()
        why = msgspec.json.decode(await self.ask("POST", "/v1/letters", pack_parcels([Parcel(letter, payload)])))["why"]
        if why:
            raise RuntimeError(f"{self.name}: round {number}: {why}")


def welcomed(consortium: Consortium, names: Sequence[str], folder: Path) -> list[Guest]:
    """Participants that have joined; each joins at the registry, without the network."""
    guests = []
    certificate, key = folder / "guest.pem", folder / "guest.key"
    for name in tqdm(names, desc="joining", leave=False, disable=None):
        invite = read_invite(consortium.invite(name, 1))
        identity = Identity.create()
        pem, authority = consortium.registry.enrol(invite.token, identity.request_pem(name))
        certificate.write_bytes(pem)
        key.write_bytes(identity.key_pem)
        guests.append(Guest(name, identity, client_side(authority, (certificate, key))))
    return guests


async def meet(guests: Sequence[Guest], port: int, rounds: int, memory: Memory) -> dict[str, Any]:
    """All rounds; seconds in which each but the first opened to all, and its answers were acknowledged."""
    doors = asyncio.Semaphore(100)  # a backlog has its bounds

    async def first(guest: Guest) -> None:
        async with doors:
            await guest.connect(port)
        await asked(guest, 1)

    release, opens, answers, resident = labels(ITEMS), [], [], []
    closed = time.perf_counter()
    for number in range(1, rounds + 1):
        await asyncio.gather(*(first(guest) if number == 1 else asked(guest, number) for guest in guests))
        opened = time.perf_counter()
        resident.append(memory.resident())
        await asyncio.gather(*(guest.answer(number, release) for guest in guests))
        answered = time.perf_counter()
        opens.append(opened - closed)
        answers.append(answered - opened)
        closed = answered
    await asyncio.gather(*(asked(guest, "finished") for guest in guests))
    for guest in guests:
        guest.writer.close()
    return {"opens_s": opens[1:], "answers_s": answers[1:], "resident_bytes": resident, "bytes": len(release)}


async def asked(guest: Guest, about: int | str) -> None:
    """Wait for the question of a round, or for the end."""
    while True:
        for one in await guest.letters():
            if one == about or (isinstance(one, Ask) and one.round == about):
                return


def measure(number: int, rounds: int) -> dict[str, Any]:
    """A run of so many participants."""
    names = [f"p{i:05}" for i in range(number)]
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        consortium = found(folder / "c", described(folder, names, ITEMS, rounds), folder, f"https://127.0.0.1:{port}")
        with (folder / "c" / "consortium.toml").open("a", encoding="utf-8") as settings:
            settings.write(LIMITS)
        guests = welcomed(consortium, names, folder)
        with serving(folder / "c") as process, Memory(process.pid) as memory:
            os.sched_setaffinity(process.pid, cores[:1])
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores[:1])
            os.sched_setaffinity(0, cores[1:] or cores)
            found_ = asyncio.run(meet(guests, port, rounds, memory))
            os.sched_setaffinity(0, cores)
        consortium.close()
    return {"participants": number, **found_, "peak_bytes": memory.peak}


@click.command()
@click.option("--participants", "numbers", multiple=True, type=click.IntRange(2), default=(200, 2000, 10_000))
@click.option("--rounds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--quick", is_flag=True, help="Twenty participants, three rounds.")
@common.out_option
def main(numbers: Sequence[int], rounds: int, quick: bool, out: Path) -> None:
    """Measure rounds of many participants and keep what was measured as JSON."""
    numbers, rounds = ((20,), 3) if quick else (numbers, rounds)
    measured = []
    for number in numbers:
        one = measure(number, rounds)
        measured.append(one)
        print(
            f"{number:6} participants: a round opens to all in {median(one['opens_s']):.3f} s, all answers are on the "
            f"disk in {median(one['answers_s']):.3f} s, {one['peak_bytes'] / 1e6:.0f} MB at most"
        )
    written = out / f"many{'-quick' if quick else ''}.json"
    common.keep(written, {"rounds": rounds, "items": ITEMS, "transport": "https"}, {}, measured)
    print(f"written: {written}")


if __name__ == "__main__":
    main()
