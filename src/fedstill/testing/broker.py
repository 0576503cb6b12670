"""A real Mosquitto broker on this machine, and a coordinator at it, for tests."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from fedstill.service.clerk import Bell, Clerk
from fedstill.service.limits import Limits
from fedstill.service.mqtt.bridge import Bridge
from fedstill.service.mqtt.mosquitto import write_broker
from fedstill.service.store.blobs import Blobs
from fedstill.testing.coordinator import Consortium, MemoryDesk, Papers
from fedstill.transports.authority import Authority
from fedstill.transports.letters import COORDINATOR
from fedstill.transports.mqtt.line import Patience
from fedstill.transports.mqtt.link import MqttLink
from fedstill.transports.mqtt.window import Timing
from fedstill.transports.roles import Role

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
"""Where the program is; None where it is not installed."""


class Mosquitto:
    """A broker for a consortium named "test", which can be killed and started again at the same ports.

    Parameters
    ----------
    folder:
        For its files; tests may change these before `start`.
    authority:
        Of the consortium.

    Attributes
    ----------
    address:
        Of the consortium, as participants need it.
    configuration:
        Its file.
    log:
        What it has said.
    """

    def __init__(self, folder: Path, authority: Authority) -> None:
        ports = free_ports(2)
        self.address = f"mqtts://127.0.0.1:{ports[0]}/test?enrol={ports[1]}"
        user = (
            "root" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
        )  # folders of tests are their owner's alone
        self.configuration = write_broker(
            folder, authority, self.address, datetime.now(UTC), listen="127.0.0.1", user=user
        )
        self.log: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and return when it listens. Raises RuntimeError with what it said where it does not."""
        if MOSQUITTO is None:
            raise RuntimeError("mosquitto is not installed")
        self._process = subprocess.Popen(  # noqa: S603 - a program of this machine
            [MOSQUITTO, "-c", str(self.configuration)], stderr=subprocess.PIPE, text=True, errors="replace"
        )
        for line in self._lines():
            if line.endswith(" running"):
                threading.Thread(target=lambda: list(self._lines()), daemon=True).start()
                return
        raise RuntimeError("\n".join(self.log))

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it live and do nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def _lines(self) -> Iterator[str]:
        if self._process is None or self._process.stderr is None:
            return
        for line in self._process.stderr:
            self.log.append(line.rstrip())
            yield self.log[-1]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody uses right now."""
    with _bound(count) as sockets:
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _bound(count: int) -> Iterator[list[socket.socket]]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


QUICK = Patience(attempts=3, pause_s=0.01, timing=Timing(first_s=0.3, least_s=0.1, silence_s=20))
BRIEF = Patience(attempts=1, pause_s=0, timing=Timing(first_s=0.1, least_s=0.1, silence_s=0.4))


@asynccontextmanager
async def linked(
    consortium: Consortium, address: str, papers: Papers, patience: Patience = QUICK, **more: Any
) -> AsyncIterator[MqttLink]:
    """A member's link to a coordinator at a broker; `more` as `MqttLink` takes it."""
    given = {"authority_pem": consortium.authority.cert_pem, "patience": patience, **more}
    link = MqttLink(address, certificate=papers.certificate, key=papers.key, **given)
    try:
        yield link
    finally:
        await link.close()


class Invitations:
    """Fulfils `service.mqtt.office.Newcomers` with the tokens of a desk."""

    def __init__(self, desk: MemoryDesk) -> None:
        self._desk = desk

    def invitations(self) -> Sequence[str]:
        """See `Newcomers`."""
        return list(map(_hash, self._desk.tokens))

    def enrol_hash(self, token_hash: str, request_pem: bytes) -> tuple[bytes, bytes]:
        """See `Newcomers`."""
        token = next(token for token in self._desk.tokens if _hash(token) == token_hash)
        return self._desk.enrol(token, request_pem)


class Hall:
    """A desk and a bridge to it, in the running event loop; made by `bridged`."""

    def __init__(self, desk: MemoryDesk, bridge: Bridge, clerk: Clerk) -> None:
        self.desk = desk
        self.bridge = bridge
        self._clerk = clerk
        self._running: asyncio.Task[None] | None = None

    async def enter(self) -> None:
        """Let the bridge run, and wait until it is connected."""
        self._running = asyncio.create_task(self.bridge.run(first_s=0.01, most_s=0.1))
        await asyncio.wait_for(self.bridge.connected.wait(), 10)

    async def leave(self) -> None:
        """Stop the bridge."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running


@asynccontextmanager
async def bridged(
    broker: Mosquitto,
    consortium: Consortium,
    blobs: Blobs,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.time,
    *,
    papers: Papers | None = None,
    open_to_newcomers: bool = True,
) -> AsyncIterator[Hall]:
    """A coordinator at a broker, with a key of its own or what `papers` says, for as long as the block lasts."""
    bell = Bell()
    desk = MemoryDesk(consortium, blobs, bell.announce)
    clerk = Clerk(desk)
    papers = papers or consortium.papers(COORDINATOR, Role.COORDINATOR)
    bridge = Bridge(
        clerk,
        bell,
        limits or Limits(),
        address=broker.address,
        certificate=papers.certificate,
        key=papers.key,
        authority_pem=consortium.authority.cert_pem,
        newcomers=Invitations(desk) if open_to_newcomers else None,
        clock=clock,
    )
    hall = Hall(desk, bridge, clerk)
    try:
        await hall.enter()
        yield hall
    finally:
        await hall.leave()
        desk.free.set()
        await clerk.close()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
