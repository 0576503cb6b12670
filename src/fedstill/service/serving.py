"""Runs a consortium's coordinator until it is told to stop: lead, open the desk, serve, keep time."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from fedstill.errors import ConfigError
from fedstill.service.administration import Administrator
from fedstill.service.clerk import Bell, Clerk
from fedstill.service.consortium import Consortium
from fedstill.service.desk import Desk
from fedstill.service.http.api import create_app
from fedstill.service.http.server import Server
from fedstill.service.store.databases import StoreError

LOG = logging.getLogger(__name__)

BEAT_S = 1.0
"""How often a coordinator says that it leads, and looks at the time."""

BROKER_S = 10.0
"""How long a start waits for the broker before it goes on without it."""

STALE_S = 3.0
"""Silence after which another one takes the lead."""

GARBAGE = (20_000, 20, 50)
"""How much must be new before what is no longer used is looked for: a coordinator holds very many small objects."""


async def serve(consortium: Consortium, stopping: asyncio.Event, tell: Callable[[str], None] = lambda _: None) -> None:
    """Serve the newest run until it is told to stop.

    Parameters
    ----------
    consortium:
        Whose.
    stopping:
        Set, in the same loop, to stop.
    tell:
        Told in a line what an operator should see.

    Raises
    ------
    ConfigError
        Where the port cannot be had.
    NotLeading
        Where another coordinator has taken over.
    """
    if not await _lead(consortium, stopping, tell):
        return
    bell = Bell()
    desk = open_desk(consortium, bell)
    app = create_app(desk, bell=bell, administration=Administrator(consortium), limits=consortium.settings.limits)
    server = Server(
        app,
        bell,
        host=consortium.settings.listen,
        port=urlsplit(consortium.settings.address).port or 443,
        certificate=consortium.folder / "server.pem",
        key=consortium.folder / "server.key",
        authority_pem=consortium.authority.cert_pem,
        limits=consortium.settings.limits,
    )
    gc.freeze()  # what stands for as long as the process does need not be looked at again and again
    gc.set_threshold(*GARBAGE)
    serving = asyncio.create_task(server.serve())
    beating = asyncio.create_task(_beat(app.state.house.clerk, desk))
    stopped = asyncio.create_task(stopping.wait())
    bridging = await _bridged(consortium, app.state.house.clerk, bell, desk, tell)
    tell(f"run {desk.status()['run']} is served at {consortium.settings.address}")
    done, _ = await asyncio.wait({serving, beating, stopped, *bridging}, return_when=asyncio.FIRST_COMPLETED)
    for task in (beating, stopped, *bridging):
        task.cancel()
    await asyncio.gather(*bridging, return_exceptions=True)
    server.stop()
    await asyncio.gather(serving, return_exceptions=True)
    for task in done - {stopped}:
        task.result()  # raises what ended it
    consortium.store.release()


def open_desk(consortium: Consortium, bell: Bell) -> Desk:
    """The desk of the newest run. Raises ConfigError where there is none."""
    runs = consortium.store.runs()
    if not runs:
        raise ConfigError(
            "no run is planned", where=str(consortium.folder), remedy="Plan one: fedstill coordinator plan"
        )
    return Desk(consortium.store, consortium.blobs, runs[-1], consortium.identity, consortium.registry, bell.announce)


async def _bridged(
    consortium: Consortium, clerk: Clerk, bell: Bell, desk: Desk, tell: Callable[[str], None]
) -> list[asyncio.Task[None]]:
    """The way over MQTT, where a broker is set; it goes on trying where the broker cannot be reached yet."""
    if not consortium.settings.broker:
        return []
    from fedstill.service.mqtt.bridge import Bridge  # an extra of its own

    bridge = Bridge(
        clerk,
        bell,
        consortium.settings.limits,
        address=consortium.settings.broker,
        certificate=consortium.folder / "coordinator.pem",
        key=consortium.folder / "coordinator.key",
        authority_pem=consortium.authority.cert_pem,
        newcomers=desk,
    )
    running = asyncio.create_task(bridge.run())
    try:
        await asyncio.wait_for(bridge.connected.wait(), BROKER_S)
    except TimeoutError:
        tell(f"the broker cannot be reached yet: {consortium.settings.broker}")
    return [running]


async def _lead(consortium: Consortium, stopping: asyncio.Event, tell: Callable[[str], None]) -> bool:
    """Take the lead, however long that takes; whether it was taken before being stopped."""
    owner = f"{socket.gethostname()}:{os.getpid()}"
    waiting, beat, since = False, -1.0, 0.0
    while not stopping.is_set():
        lease = consortium.store.lease()
        if lease.beat != beat:
            beat, since = lease.beat, time.monotonic()
        # By this machine's clock alone: that of whoever led may have been hours ahead.
        silent = time.monotonic() - since >= STALE_S
        if consortium.store.lead(owner, time.time(), 0.0 if silent or _gone(lease.owner) else STALE_S):
            return True
        if not waiting:
            tell(f"another coordinator leads ({lease.owner}); waiting until it falls silent")
        waiting = True
        await asyncio.wait({asyncio.create_task(stopping.wait())}, timeout=BEAT_S / 4)
    return False


def _gone(owner: str) -> bool:
    """Whether an owner was a process of this machine that is no more: nobody has to wait for it to fall silent."""
    host, _, number = owner.rpartition(":")
    if host != socket.gethostname() or not number.isdigit() or os.name != "posix":
        return False
    try:
        os.kill(int(number), 0)  # asks, and signals nothing
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


async def _beat(clerk: Clerk, desk: Desk) -> None:
    while True:
        try:
            await clerk.call(desk.beat)
            await clerk.call(desk.tick)
        except (StoreError, OSError) as error:  # both may pass; until then nothing is taken, and so nothing is lost
            LOG.error("database or disk fails", extra={"why": str(error)})
        await asyncio.sleep(BEAT_S)
