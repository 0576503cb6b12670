"""What members and newcomers may ask over MQTT, carried out: as `api.py` does it for HTTP, without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from fedstill.labels import Party
from fedstill.service.callers import Caller, Refused, begin_upload, recognise
from fedstill.service.clerk import Bell, Clerk
from fedstill.service.limits import Limits
from fedstill.service.mqtt.uploads import Uploads
from fedstill.service.rights import check_right
from fedstill.transports.letters import Parcel, digest_of, pack_parcels, read
from fedstill.transports.mqtt.frames import (
    MAX_TEXT,
    PIECE_BYTES,
    Certified,
    Enrol,
    Envelope,
    Fetch,
    Letters,
    Look,
    Parcels,
    Part,
    Piece,
    Post,
    Renew,
    Reply,
    Request,
    Terms,
    Verdict,
    fits,
)

LIKE: Mapping[type, str] = {
    Terms: "GET /v1/terms",
    Renew: "POST /v1/renew",
    Letters: "GET /v1/letters",
    Post: "POST /v1/letters",
    Look: "HEAD /v1/payloads/{digest}",
    Piece: "PATCH /v1/payloads/{digest}",
    Fetch: "GET /v1/payloads/{digest}",
}
"""What asks for the same over HTTPS, so that the same have a right to it."""


class Newcomers(Protocol):
    """Who lets newcomers in whose tokens are not told. All calls come from the desk's thread."""

    def invitations(self) -> Sequence[str]:
        """SHA-256 (64 hex digits) of the tokens of all invitations that are not too old, used ones as well."""
        ...

    def enrol_hash(self, token_hash: str, request_pem: bytes) -> tuple[bytes, bytes]:
        """As `Counter.enrol`, with the SHA-256 of the token."""
        ...


class Office:
    """Carries out what members ask.

    Parameters
    ----------
    clerk, bell, limits, newcomers:
        See `Bridge`.
    """

    def __init__(self, clerk: Clerk, bell: Bell, limits: Limits, newcomers: Newcomers | None) -> None:
        self._clerk = clerk
        self._bell = bell
        self._newcomers = newcomers
        self._blobs = clerk.counter.blobs
        self._max_bytes = min(limits.max_payload_bytes, self._blobs.max_bytes)
        self._uploads = Uploads(self._blobs)
        self._readers: set[tuple[Party, str]] = set()

    async def carry_out(self, caller: Caller, body: object) -> Reply:
        """What a member asks. Raises Refused, WireError, LinkRefused and whatever goes wrong at the desk."""
        desk = self._clerk.counter
        check_right(caller, LIKE.get(type(body), ""))
        match body:
            case Terms():
                return _part(await self._clerk.call(lambda: desk.terms), body.offset)
            case Renew():
                return Certified(await self._clerk.call(desk.renew, caller.name, body.request), b"")
            case Letters():
                return _fitting(await self._letters(caller, body))
            case Fetch():
                return await self._fetch(caller.name, body)
            case Look():
                self._check_size(body.size)
                return await asyncio.to_thread(self._uploads.extent, body.digest)
            case Piece():
                self._check_size(body.size)
                begin_upload(self._clerk, caller, body.digest, body.size)
                return await self._uploads.add(body)
            case Post():
                return await self._post(caller.name, body)
        raise Refused(403, "not for members", "Ask for what members may ask for")

    async def enrol(self, envelope: Envelope[Request]) -> Reply:
        """Let a newcomer in, whose seal fits one of the open invitations."""
        newcomers, body = self._newcomers, envelope.message.body
        if newcomers is None or not isinstance(body, Enrol):
            raise Refused(403, "nobody can enrol here", "Enrol where the invitation says")
        for token_hash in await self._clerk.call(newcomers.invitations):
            if fits(envelope, token_hash):
                return Certified(*await self._clerk.call(newcomers.enrol_hash, token_hash, body.request))
        raise Refused(403, "there is no such invitation", "Ask the operator for a new invitation")

    async def _letters(self, caller: Caller, asked: Letters) -> list[Parcel]:
        letters = self._clerk.counter.letters
        with self._bell.listening(caller.name) as ear:
            parcels = await self._clerk.call(letters, caller.name, asked.after)
            if not parcels and asked.wait_s:
                with suppress(TimeoutError):
                    async with asyncio.timeout(asked.wait_s):
                        while not parcels and ear.open:
                            await ear.heard()
                            parcels = await self._clerk.call(letters, caller.name, asked.after)
                await recognise(self._clerk, caller.fingerprint)  # it may have been revoked meanwhile
        return parcels

    async def _fetch(self, party: Party, asked: Fetch) -> Part:
        named = (party, asked.digest)
        if named not in self._readers and await self._clerk.call(self._clerk.counter.reads, *named):
            if len(self._readers) >= 10_000:
                self._readers.clear()
            self._readers.add(named)  # letters are not taken back
        part = await asyncio.to_thread(self._read, asked) if named in self._readers else None
        if part is None:
            raise Refused(404, "no letter to you names such a payload, or it is not kept any more")
        return part

    def _read(self, asked: Fetch) -> Part | None:
        if not self._blobs.has(asked.digest):
            return None
        with self._blobs.open_path(asked.digest).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(min(asked.offset, size))
            return Part(asked.digest, size, file.read(PIECE_BYTES))

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise Refused(
                413,
                f"a payload of {size} bytes is over the coordinator's bound of {self._max_bytes}",
                "Ask its operator for a higher bound, or release less: fewer items, a codec that packs tighter",
            )

    async def _post(self, party: Party, asked: Post) -> Verdict:
        if asked.payload is None:
            digest = read(asked.letter).header.digest
            if not await asyncio.to_thread(self._blobs.keeps, digest):
                raise Refused(409, "its payload is not here", "Send the payload, then post the letter again")
        return Verdict((await self._clerk.take(party, asked.letter, asked.payload))[:MAX_TEXT])


def _part(data: bytes, offset: int) -> Part:
    return Part(digest_of(data), len(data), data[offset : offset + PIECE_BYTES])


def _fitting(parcels: list[Parcel]) -> Parcels:
    """As many parcels as one message holds: the first always does, by the bounds on letters and what is beside them."""
    room, count = PIECE_BYTES, 0
    for parcel in parcels:
        room -= len(parcel.letter) + len(parcel.payload or b"") + 16
        if room < 0:
            break
        count += 1
    return Parcels(pack_parcels(parcels[:count]))
