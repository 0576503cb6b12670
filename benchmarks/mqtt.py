"""Time MQTT through a Mosquitto broker on this machine: the plain client, our payloads, rounds of many participants.

    python benchmarks/mqtt.py --participants 10 --participants 200

Three parts, each with sender, receiver and broker in processes of their own:

* *raw*: paho-mqtt alone, one publishes (QoS 1) and one hears: nothing is signed, checked or kept;
* *link*: a participant posts payloads, which are on the coordinator's disk then, and fetches others; each time the
  plain client is measured just before, with TLS and messages of 256 kB, so that what else the machine does counts for
  both;
* *rounds*: a coordinator with its store on disk, and participants that answer at once, each with a link of its own, in
  one event loop. They keep no journals: elsewhere each has a machine of its own. A round is from the moment at which
  all have a teacher, and with it the next question, to the next such moment. The first is left out.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median
from typing import Any

import click
import common
import numpy as np
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from tqdm import tqdm

from fedstill import wire
from fedstill.agent.loop import Patience, persist
from fedstill.messages import Answer, Ask
from fedstill.service.consortium import Consortium as Founded
from fedstill.service.founding import found
from fedstill.service.limits import Limits
from fedstill.service.store.blobs import Blobs
from fedstill.testing.broker import Mosquitto, bridged, free_ports
from fedstill.testing.coordinator import Consortium
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR, Header, digest_of, read, write
from fedstill.transports.mqtt.frames import Address
from fedstill.transports.mqtt.link import MqttLink
from fedstill.transports.roles import Role
from fedstill.transports.tls import client_side
from network import described, labels, serving

KILOBYTES = (256, 1024)
MEGABYTES = (1, 10, 100)
RAW_BYTES = 64 * 2**20
HERE = "127.0.0.1"
UP = "fedstill/test/up/ann"
PROCESSES = multiprocessing.get_context("spawn")


@contextmanager
def beside(work: Callable[..., None], *arguments: Any) -> Iterator[tuple[Pipe, Any]]:
    """Run `work(pipe, ...)` in a process of its own until this ends; gives a pipe to it, and what it says first."""
    mine, others = PROCESSES.Pipe()
    process = PROCESSES.Process(target=work, args=(others, *arguments), daemon=True)
    process.start()
    others.close()
    try:
        yield mine, mine.recv()
    finally:
        mine.close()
        process.join(60)


# ---- the plain client


@dataclass(frozen=True)
class Way:
    """How a plain client reaches the broker; in TLS where it has files to show."""

    port: int
    authority_pem: bytes
    files: tuple[Path, Path] | None

    def client(self) -> Client:
        """A client that is connected, with a thread of its own."""
        made, stands = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5), threading.Event()
        if self.files:
            made.tls_set_context(client_side(self.authority_pem, self.files))
        made.on_socket_open = lambda _, __, plug: plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.on_connect = lambda *_: stands.set()
        made.connect(HERE, self.port)
        made.loop_start()
        stands.wait(10)
        return made


def publish(pipe: Pipe, way: Way, size: int, count: int) -> None:
    """Publish so many messages each time that one is asked to."""
    client, data = way.client(), os.urandom(size)
    pipe.send("ready")
    try:
        while pipe.recv():
            for _ in range(count):
                client.publish(UP, data, qos=1)
    except EOFError:
        client.disconnect()


@contextmanager
def raw(hears: Way, says: Way, size: int) -> Iterator[Callable[[], float]]:
    """Measures, each time it is called, MB/s from publishing the first message to hearing the last."""
    count, came, done = RAW_BYTES // size, 0, threading.Event()

    def heard(*_: Any) -> None:
        nonlocal came
        came += 1
        if came % count == 0:
            done.set()

    client, subscribed = hears.client(), threading.Event()
    client.on_message = heard
    client.on_subscribe = lambda *_: subscribed.set()
    client.subscribe("fedstill/test/up/+", qos=1)
    subscribed.wait(10)
    with beside(publish, says, size, count) as (pipe, _):

        def once() -> float:
            done.clear()
            began = time.perf_counter()
            pipe.send("go")
            if not done.wait(120):
                raise RuntimeError(f"{came} messages came")
            return RAW_BYTES / 1e6 / (time.perf_counter() - began)

        once()
        yield once
    client.disconnect()
    client.loop_stop()


@contextmanager
def plain_ways(folder: Path) -> Iterator[dict[str, tuple[Way, Way]]]:
    """A broker, and how who hears and who says reach it, with and without TLS."""
    consortium = Consortium(folder)
    broker, (port,) = Mosquitto(folder / "broker", consortium.authority), free_ports(1)
    told = re.sub(r"max_packet_size \d+", "max_packet_size 2000000", broker.configuration.read_text())
    broker.configuration.write_text(f"{told}\nlistener {port} {HERE}\nallow_anonymous true\n")
    with broker:
        pem, members = consortium.authority.cert_pem, Address.parse(broker.address).port
        papers = consortium.papers(COORDINATOR, Role.COORDINATOR), consortium.papers("ann")
        hears, says = (Way(members, pem, (one.certificate, one.key)) for one in papers)
        yield {"tls": (hears, says), "plain": (Way(port, pem, None),) * 2}


def raws(folder: Path, repeats: int, shown: tqdm[Any]) -> list[dict[str, Any]]:
    """The plain client with and without TLS."""
    measured = []
    with plain_ways(folder) as ways:
        for name, pair in ways.items():
            for kilobytes in KILOBYTES:
                with raw(*pair, 1024 * kilobytes) as once:
                    rates = [once() for _ in range(repeats)]
                measured.append({"part": "raw", "way": name, "kilobytes": kilobytes, "mb_per_s": rates})
                shown.update()
    return measured


# ---- payloads


def coordinate(pipe: Pipe, folder: Path, sizes: Sequence[int]) -> None:
    """A broker, and a coordinator at it that has letters about payloads of these sizes, until the pipe is closed."""
    consortium = Consortium(folder)

    async def main(broker: Mosquitto) -> None:
        async with bridged(broker, consortium, Blobs(folder / "blobs", 2**30), Limits(burst=10_000)) as hall:
            ann = hall.desk.join("ann")
            hall.desk.send("ann", *map(os.urandom, sizes))
            pipe.send((broker.address, consortium.authority.cert_pem, ann.certificate, ann.key))
            await asyncio.to_thread(pipe.poll, None)

    with Mosquitto(folder / "broker", consortium.authority) as broker:
        asyncio.run(main(broker))


def payloads(folder: Path, sizes: Sequence[int], repeats: int, shown: tqdm[Any]) -> list[dict[str, Any]]:
    """MB/s of posting and fetching payloads of so many megabytes."""
    (folder / "plain").mkdir()
    with (
        plain_ways(folder / "plain") as ways,
        raw(*ways["tls"], 1024 * KILOBYTES[0]) as plain,
        beside(coordinate, folder, [10**6 * size for size in sizes]) as (_, told),
    ):
        return asyncio.run(moved(*told, sizes, repeats, plain, shown))


async def moved(
    address: str,
    authority_pem: bytes,
    certificate: Path,
    key: Path,
    sizes: Sequence[int],
    repeats: int,
    plain: Callable[[], float],
    shown: tqdm[Any],
) -> list[dict[str, Any]]:
    """The same at a coordinator; the first time of each does not count."""
    identity, numbers = Identity.from_pem(key.read_bytes()), itertools.count(1)
    link = MqttLink(address, certificate=certificate, key=key, authority_pem=authority_pem)

    async def post(header: Header) -> float:
        payload = os.urandom(header.size)
        said = replace(header, sender="ann", to=COORDINATOR, number=next(numbers), digest=digest_of(payload))
        letter = write(said, identity.sign).to_bytes()
        began = time.perf_counter()
        if await link.post(letter, payload):
            raise RuntimeError("the letter was not taken")
        return time.perf_counter() - began

    async def fetch(header: Header) -> float:
        began = time.perf_counter()
        await link.fetch(header.digest, header.size)
        return time.perf_counter() - began

    measured = []
    headers = [read(parcel.letter).header for parcel in await link.letters(0, 0)]
    for megabytes, header in zip(sizes, headers, strict=True):
        for what in (post, fetch):
            await what(header)
            pairs = [(await asyncio.to_thread(plain), megabytes / await what(header)) for _ in range(repeats)]
            plains, rates = map(list, zip(*pairs, strict=True))
            one = {"what": what.__name__, "megabytes": megabytes, "mb_per_s": rates, "plain_mb_per_s": plains}
            measured.append({"part": "link", **one})
        shown.update()
    await link.close()
    return measured


# ---- rounds


def rounds(folder: Path, number: int, items: int, count: int) -> dict[str, Any]:
    """Seconds of each round but the first."""
    parties = [f"p{i:03}" for i in range(number)]
    address = f"https://{HERE}:{free_ports(1)[0]}"
    consortium = found(folder / "c", described(folder, parties, items, count), folder, address)
    papers = {party: enrolled(consortium, party, folder) for party in parties}
    terms, authority_pem = digest_of(consortium.store.runs()[-1].terms), consortium.authority.cert_pem
    faults: list[str] = []

    async def main(where: str) -> list[list[float]]:
        links = [MqttLink(where, certificate=c, key=k, authority_pem=authority_pem) for c, k in papers.values()]
        release = labels(items)
        work = [
            take_part(link, party, terms, Identity.from_pem(papers[party][1].read_bytes()), release, faults.append)
            for link, party in zip(links, parties, strict=True)
        ]
        taught = await asyncio.wait_for(asyncio.gather(*work), 60 * count)
        await asyncio.gather(*(link.close() for link in links))
        return taught

    with Mosquitto(folder / "broker", consortium.authority) as broker:
        settings = folder / "c" / "consortium.toml"
        settings.write_text(f'broker = "{broker.address}"\n{settings.read_text()}')
        with serving(folder / "c"):
            taught = asyncio.run(main(broker.address))
    consortium.close()
    seconds = np.diff(np.max(taught, axis=0)).tolist()
    return {
        "part": "rounds",
        "participants": number,
        "bytes": len(labels(items)),
        "round_s": seconds,
        "faults": sorted(set(faults)),
    }


def enrolled(consortium: Founded, party: str, folder: Path) -> tuple[Path, Path]:
    """A party's certificate and key, as files."""
    identity = Identity.create()
    token = consortium.registry.invite(party, Role.PARTICIPANT, 1)
    files = folder / f"{party}.pem", folder / f"{party}.key"
    files[0].write_bytes(consortium.registry.enrol(token, identity.request_pem(party))[0])
    files[1].write_bytes(identity.key_pem)
    return files


async def take_part(
    link: MqttLink, party: str, terms: str, identity: Identity, release: bytes, fault: Callable[[str], None]
) -> list[float]:
    """Answer every question with the same soft labels until the run ends; returns when the teachers came."""
    after, ended, taught = 0, False, []

    async def turn() -> None:
        nonlocal after, ended
        for parcel in await link.letters(after, 25.0):
            header = read(parcel.letter).header
            ended |= header.kind != "frame"
            if header.kind == "frame":
                message = wire.decode(parcel.payload or await link.fetch(header.digest, header.size))
                if isinstance(message, Ask):
                    await answer(message)
                else:
                    taught.append(time.perf_counter())
            after = header.number

    async def answer(asked: Ask) -> None:
        payload = wire.encode(Answer(asked.round, party, release, asked.question))
        said = Header(terms, party, COORDINATOR, asked.round, "frame", digest_of(payload), len(payload), time.time())
        why = await link.post(write(said, identity.sign).to_bytes(), payload)
        if why:
            fault(why)

    while not ended:
        await persist(turn, Patience(), fault)
    return taught


@click.command()
@click.option("--participants", "numbers", multiple=True, type=click.IntRange(2), default=(10, 50, 200))
@click.option("--kilobytes", type=float, default=10.0, show_default=True, help="Of an answer, and of the teacher.")
@click.option("--rounds", "count", type=click.IntRange(2), default=11, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Of every transfer.")
@click.option("--part", "parts", multiple=True, type=click.Choice(["raw", "link", "rounds"]), help="Only these.")
@click.option("--quick", is_flag=True, help="Small payloads, three participants, three rounds.")
@common.out_option
def main(
    numbers: Sequence[int],
    kilobytes: float,
    count: int,
    repeats: int,
    parts: Sequence[str],
    quick: bool,
    out: Path,
) -> None:
    """Measure, and keep what was measured as JSON."""
    sizes: Sequence[int] = MEGABYTES
    if quick:
        numbers, count, repeats, sizes = (3,), 3, 1, (1,)
    items = max(1, round(1024 * kilobytes / 20))
    parts = parts or ("raw", "link", "rounds")
    measured: list[dict[str, Any]] = []
    steps = 2 * len(KILOBYTES) * ("raw" in parts) + len(sizes) * ("link" in parts) + len(numbers) * ("rounds" in parts)
    with tempfile.TemporaryDirectory() as name, tqdm(total=steps) as shown:
        for n, part in enumerate(parts):
            folder = Path(name) / str(n)
            folder.mkdir()
            if part == "raw":
                measured += raws(folder, repeats, shown)
            elif part == "link":
                measured += payloads(folder, sizes, repeats, shown)
            else:
                for number in numbers:
                    (folder / str(number)).mkdir()
                    measured.append(rounds(folder / str(number), number, items, count))
                    shown.update()
    for line in told(measured):
        print(line)
    written = out / f"mqtt{'-quick' if quick else ''}.json"
    setting = {"kilobytes": kilobytes, "rounds": count, "repeats": repeats}
    common.keep(written, setting, {}, measured)
    print(f"written: {written}")


def told(measured: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What was measured, in lines: medians, and what share they are of the plain client's."""
    for one in measured:
        if one["part"] == "rounds":
            faults, most = f"; {one['faults']}" if one["faults"] else "", max(one["round_s"])
            middle = median(one["round_s"])
            yield f"{one['participants']:5} participants: {middle:.3f} s a round, at most {most:.3f}{faults}"
        elif one["part"] == "raw":
            yield f"raw {one['way']:5} {one['kilobytes']:5} kB: {median(one['mb_per_s']):6.1f} MB/s"
        else:
            rate, plain = median(one["mb_per_s"]), median(one["plain_mb_per_s"])
            share = f"{rate / plain:.0%} of the plain client's {plain:.1f}"
            yield f"{one['what']:5} {one['megabytes']:4} MB: {rate:6.1f} MB/s, {share}"


if __name__ == "__main__":
    main()
