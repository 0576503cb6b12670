"""The network of a simulation: it is late, cuts, loses, repeats, reorders, and carries nonsense.

A participant's way to whichever coordinator it reaches. What it asks for is carried out by the same code as over MQTT,
without a broker.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from machines import PROCESS

from fedstill.errors import LinkDown, LinkRefused, WireError
from fedstill.service.callers import Refused
from fedstill.transports.letters import Parcel, digest_of, unpack_parcels
from fedstill.transports.mqtt.frames import Extent, Fetch, Letters, Look, Part, Piece, Post, Terms

if TYPE_CHECKING:
    from simulation import World

ANSWER_S = 60.0
"""How long an answer is waited for."""


@dataclass
class Weather:
    """What a network does to one participant's requests; by itself it loses nothing."""

    latency_s: float = 1.0
    lost: float = 0.0
    repeated: float = 0.0
    mixed: float = 0.0
    cut: bool = False


@dataclass
class Carrier:
    """See `transports.links.Link`."""

    world: World
    name: str
    weather: Weather
    chance: random.Random
    parcels: list[Parcel] = field(default_factory=list)

    async def terms(self) -> bytes:
        part = await self._ask(Terms(0))
        assert isinstance(part, Part)
        return part.data

    async def letters(self, after: int, wait_s: float) -> list[Parcel]:
        said = await self._ask(Letters(after, wait_s), wait_s)
        parcels = unpack_parcels(said.packed, 2**20)
        mixed = parcels
        if parcels and self._happens(self.weather.mixed):
            mixed = [*parcels, *self.chance.sample(self.parcels, min(2, len(self.parcels)))]
            if self.chance.random() < 0.7:
                self.chance.shuffle(mixed)
            if self.chance.random() < 0.2:
                mixed[0] = replace(mixed[0], payload=self._spoilt(mixed[0].payload or b"?"))
        self.parcels.extend(parcels)
        return mixed

    async def fetch(self, digest: str, size: int) -> bytes:
        part = await self._ask(Fetch(digest, 0))
        if digest_of(part.data) != digest or len(part.data) != size:
            raise WireError("what came has another SHA-256")
        data: bytes = part.data
        return data

    async def post(self, letter: bytes, payload: bytes) -> str:
        self.world.said(self.name, letter, payload)
        if self.world.by_reference:
            await self._upload(payload)
        body = Post(letter, None if self.world.by_reference else payload)
        self.world.posts.append((self.name, body))
        verdict = await self._ask(body)
        return str(verdict.why)

    async def close(self) -> None: ...

    async def _upload(self, payload: bytes) -> None:
        digest, size = digest_of(payload), len(payload)
        extent = await self._ask(Look(digest, size))
        while not extent.whole:
            assert isinstance(extent, Extent)
            at = extent.present
            extent = await self._ask(Piece(digest, size, at, payload[at : at + 1 + size // 2]))

    async def _ask(self, body: Any, wait_s: float = 0.0) -> Any:
        process = PROCESS.get()
        assert process is not None
        await self._way(process)
        seat = self.world.reached()
        if seat is None:
            raise LinkDown("nobody listens there")
        answer = asyncio.get_running_loop().create_future()
        seat.serve(self.name, body, answer)
        if self._happens(self.weather.repeated):
            self.world.loop.call_later(self.chance.expovariate(1 / 20), self.world.again, self.name, body)
        try:
            async with asyncio.timeout(ANSWER_S + wait_s):
                said = await answer
        except TimeoutError:
            raise LinkDown("no answer in time") from None
        await self._way(process)
        if isinstance(said, Exception):
            raise _told(said)
        return said

    async def _way(self, process: Any) -> None:
        """There, or back."""
        await process.awake()
        await asyncio.sleep(self.weather.latency_s * self.chance.uniform(0.5, 1.5))
        await process.awake()
        if self.weather.cut or self._happens(self.weather.lost / 2):
            if self.chance.random() < 0.5:
                await asyncio.sleep(ANSWER_S)
                await process.awake()
            raise LinkDown("lost on its way")

    def _happens(self, likely: float) -> bool:
        return likely > 0 and self.chance.random() < likely

    def _spoilt(self, data: bytes) -> bytes:
        at = self.chance.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 + self.chance.randrange(255)]) + data[at + 1 :]


def _told(fault: Exception) -> Exception:
    """What a participant makes of an answer that is none, see `http.gate` and `transports.https`."""
    if isinstance(fault, LinkDown):
        return fault
    if isinstance(fault, LinkRefused | WireError) or (isinstance(fault, Refused) and fault.status not in (409, 429)):
        return LinkRefused(f"refused: {fault}")
    return LinkDown(f"not now: {fault}")
