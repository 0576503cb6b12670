"""Keeps a worker and its coordinator in touch: outward connections only, trying again for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from fedstill.agent.worker import Worker
from fedstill.errors import LinkDown
from fedstill.transports.letters import Parcel
from fedstill.transports.links import Link

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a participant waits, in seconds.

    Attributes
    ----------
    poll_s:
        For a letter, in one call.
    first_s, most_s:
        Before it tries again after a fault: twice as long each time, up to a most.
    """

    poll_s: float = 25.0
    first_s: float = 0.5
    most_s: float = 30.0


async def work(
    worker: Worker,
    link: Link,
    *,
    clock: Callable[[], float],
    patience: Patience,
    observe: Callable[[str], None] = lambda _: None,
) -> None:
    """Take part until the run ends.

    Parameters
    ----------
    worker:
        The participant.
    link:
        Its way to the coordinator.
    clock:
        Unix seconds.
    patience:
        How long to wait for what.
    observe:
        Told in a line what happens.

    Raises
    ------
    LinkRefused
        Where the coordinator lets this participant in no more.
    WireError
        Where what comes is not from this coordinator, or not what the terms say.
    """
    pause = patience.first_s
    while not worker.ended:
        try:
            await turn(worker, link, clock=clock, patience=patience, observe=observe)
            pause = patience.first_s
        except LinkDown as error:
            LOG.warning("no connection", extra={"why": str(error), "again_s": pause})
            observe(f"no connection ({error.what}); trying again")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all come back at once
            pause = min(2 * pause, patience.most_s)


async def turn(
    worker: Worker,
    link: Link,
    *,
    clock: Callable[[], float],
    patience: Patience,
    observe: Callable[[str], None] = lambda _: None,
) -> None:
    """Send what has not been sent, and take what has come. Raises what `work` does, and LinkDown."""
    await _post(worker, link, clock, observe)
    for parcel in await link.letters(worker.after, patience.poll_s):
        observe(await asyncio.to_thread(worker.handle, await _whole(worker, link, parcel)))
        await _post(worker, link, clock, observe)


async def _whole(worker: Worker, link: Link, parcel: Parcel) -> Parcel:
    if parcel.payload is not None:
        return parcel
    header = worker.checked(parcel.letter).header  # before anything is fetched in its name
    return replace(parcel, payload=await link.fetch(header.digest, header.size))


async def _post(worker: Worker, link: Link, clock: Callable[[], float], observe: Callable[[str], None]) -> None:
    for sent, payload in await asyncio.to_thread(worker.unposted):
        why = await link.post(sent.letter, payload)
        worker.journal.posted(sent.number, clock(), why)
        observe(f"sent {sent.what}, {sent.size} bytes" + (f"; not used: {why}" if why else ""))
