"""A link that goes no faster than its owner wants: a token bucket for each way.

(Turner 1986, "New directions in communications", IEEE Communications Magazine 24(10).)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fedstill.transports.letters import Parcel
from fedstill.transports.links import Link


class Bucket:
    """Lets through a second's worth at once, and so many bytes a second in the long run.

    Parameters
    ----------
    bytes_per_s:
        The rate.
    clock:
        Seconds by a clock that never goes back.
    sleep:
        Waits so many seconds.
    """

    def __init__(
        self,
        bytes_per_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._there = bytes_per_s
        self._at = clock()

    async def take(self, size: int) -> None:
        """Wait until so many bytes may pass."""
        now = self._clock()
        self._there = min(self._rate, self._there + (now - self._at) * self._rate) - size
        self._at = now
        if self._there < 0:
            await self._sleep(-self._there / self._rate)


@dataclass(frozen=True)
class PacedLink:
    """A link behind two buckets; see `links.Link`.

    One payload moves as fast as the line allows: what is kept is the mean. What is sent waits for its turn before;
    after what was fetched, the next one waits.
    """

    link: Link
    up: Bucket
    down: Bucket

    async def terms(self) -> bytes:
        """See `links.Link.terms`."""
        data = await self.link.terms()
        await self.down.take(len(data))
        return data

    async def letters(self, after: int, wait_s: float) -> list[Parcel]:
        """See `links.Link.letters`."""
        parcels = await self.link.letters(after, wait_s)
        await self.down.take(sum(len(parcel.letter) + len(parcel.payload or b"") for parcel in parcels))
        return parcels

    async def fetch(self, digest: str, size: int) -> bytes:
        """See `links.Link.fetch`."""
        data = await self.link.fetch(digest, size)
        await self.down.take(len(data))
        return data

    async def post(self, letter: bytes, payload: bytes) -> str:
        """See `links.Link.post`."""
        await self.up.take(len(letter) + len(payload))
        return await self.link.post(letter, payload)

    async def close(self) -> None:
        """See `links.Link.close`."""
        await self.link.close()
