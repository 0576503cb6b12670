"""Keeps a worker and its coordinator in touch: outward connections only, trying again for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from fedstill.agent.worker import Worker
from fedstill.errors import LinkDown, RunError, WireError
from fedstill.transports.letters import Parcel, digest_of
from fedstill.transports.links import Link

LOG = logging.getLogger(__name__)
Observe = Callable[[str], None]
Sleep = Callable[[float], Awaitable[object]]
T = TypeVar("T")


class Replaced(RunError):  # noqa: N818 - says what happened
    """The coordinator serves another run now; what it still had to say about this one cannot be heard any more."""


@dataclass(frozen=True)
class Patience:
    """How long a participant waits, in seconds.

    Attributes
    ----------
    poll_s:
        For a letter, in one call.
    first_s, most_s:
        Before it tries again after a fault: twice as long each time, up to a most.
    owner_s:
        For a letter, while its owner may approve an answer at any moment.
    next_s:
        Before it looks again whether there is a next run.
    """

    poll_s: float = 25.0
    first_s: float = 0.5
    most_s: float = 30.0
    owner_s: float = 2.0
    next_s: float = 30.0


def nobody(line: str) -> None:
    """Observes nothing."""
    del line


async def persist(
    step: Callable[[], Awaitable[T]],
    patience: Patience,
    observe: Observe,
    sleep: Sleep = asyncio.sleep,
) -> T:
    """Do a step as often as it takes to do it without LinkDown."""
    pause = patience.first_s
    while True:
        try:
            return await step()
        except LinkDown as error:
            LOG.warning("no connection", extra={"why": str(error), "again_s": pause})
            observe(f"no connection ({error.what}); trying again")
            await sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all come back at once
            pause = min(2 * pause, patience.most_s)


async def work(
    worker: Worker,
    link: Link,
    *,
    clock: Callable[[], float],
    patience: Patience,
    observe: Observe = nobody,
    sleep: Sleep = asyncio.sleep,
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
    sleep:
        Waits so many seconds.

    Raises
    ------
    LinkRefused
        Where the coordinator lets this participant in no more.
    WireError
        Where what comes is not from this coordinator, or not what the terms say.
    Replaced
        Where the coordinator serves another run.
    """

    async def step() -> None:
        try:
            heard = await turn(worker, link, clock=clock, patience=patience, observe=observe, sleep=sleep)
        except WireError:
            await _check_served(worker, link)  # which may explain it
            raise
        if not heard:
            await _check_served(worker, link)

    while not worker.ended:
        await persist(step, patience, observe, sleep)


async def turn(
    worker: Worker,
    link: Link,
    *,
    clock: Callable[[], float],
    patience: Patience,
    observe: Observe = nobody,
    sleep: Sleep = asyncio.sleep,
) -> int:
    """Send what has not been sent, and take what has come; returns how many letters that were.

    Raises what `work` does, and LinkDown.
    """
    await _post(worker, link, clock, observe)
    wait_s = min(patience.poll_s, patience.owner_s) if worker.waits else patience.poll_s
    parcels = await link.letters(worker.after, wait_s)
    for parcel in parcels:
        while await closed(worker, clock, patience.poll_s, observe, sleep):
            await _post(worker, link, clock, observe)  # what its owner has approved meanwhile
        observe(await asyncio.to_thread(worker.handle, await _whole(worker, link, parcel)))
        await _post(worker, link, clock, observe)
    return len(parcels)


async def closed(
    worker: Worker, clock: Callable[[], float], most_s: float, observe: Observe, sleep: Sleep = asyncio.sleep
) -> bool:
    """Wait up to `most_s` for the hours in which it may train; False where it may now."""
    closed_s = worker.hours.closed_s(clock())
    if closed_s:
        spans = ", ".join(worker.rules.hours)
        observe(f"it trains at {spans} and waits until then; a round may close without it")
        await sleep(min(closed_s, most_s))
    return closed_s > 0


async def _check_served(worker: Worker, link: Link) -> None:
    if digest_of(await link.terms()) != worker.contract.digest:
        raise Replaced(
            f"the coordinator does not serve run {worker.contract.terms.run} any more, whose end was not heard here",
            remedy="Look at the terms that it offers now: fedstill participant terms",
        )


async def _whole(worker: Worker, link: Link, parcel: Parcel) -> Parcel:
    if parcel.payload is not None:
        return parcel
    header = worker.checked(parcel.letter).header  # before anything is fetched in its name
    return replace(parcel, payload=await link.fetch(header.digest, header.size))


async def _post(worker: Worker, link: Link, clock: Callable[[], float], observe: Observe) -> None:
    for sent, payload in await asyncio.to_thread(worker.unposted):
        why = await link.post(sent.letter, payload)
        worker.journal.posted(sent.number, clock(), why)
        observe(f"sent {sent.what}, {sent.size} bytes" + (f"; not used: {why}" if why else ""))
