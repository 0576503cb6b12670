"""A link over MQTT 5: participant and coordinator meet at a broker that neither has to trust.

The broker can delay and drop what they say, and see payloads, unless rounds are sealed; it can neither forge nor change
anything (`frames`), and what it drops is sent again (`window`). An address names broker and consortium:
mqtts://host:port/consortium. The broker shows a certificate of the consortium's authority, or of one in `bundle`.

Payloads travel in pieces of 256 kB, several at a time, and go on where they were cut off.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from fedstill.errors import ConfigError, LinkDown, WireError
from fedstill.labels import Party
from fedstill.transports.identity import Identity
from fedstill.transports.letters import INLINE_BYTES, Parcel, digest_of, read, unpack_parcels
from fedstill.transports.mqtt.connection import one_line
from fedstill.transports.mqtt.frames import (
    MAX_MESSAGE_BYTES,
    MAX_WAIT_S,
    PIECE_BYTES,
    Address,
    Certified,
    Enrol,
    Extent,
    Fetch,
    Letters,
    Look,
    Parcels,
    Part,
    Piece,
    Post,
    Renew,
    Terms,
    Verdict,
    newcomer,
)
from fedstill.transports.mqtt.line import Line, Patience, Speaker
from fedstill.transports.tls import client_side, own_certificate
from fedstill.transports.transfers import HOPED_BYTES, MAX_TERMS_BYTES, carry_through


class MqttLink:
    """The MQTT way of a participant to its coordinator; see `links.Link`.

    Parameters
    ----------
    address:
        Of the consortium: mqtts://host:port/consortium.
    certificate, key:
        Files (PEM) of the participant's identity.
    authority_pem:
        The certificate of the consortium's authority.
    bundle:
        A file (PEM) of further authorities, for a broker whose certificate is of one of these. The coordinator's
        answers have to be signed with a certificate of the consortium all the same.
    patience:
        How long to wait.
    clock:
        Unix seconds; coordinators refuse requests whose time is minutes off.

    Raises
    ------
    ConfigError
        Where the address or a file cannot be used, the certificate is of another authority, or its name cannot stand
        in a topic.
    """

    def __init__(
        self,
        address: str,
        *,
        certificate: Path,
        key: Path,
        authority_pem: bytes,
        bundle: Path | None = None,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._patience = patience or Patience()
        where, context = Address.parse(address), client_side(authority_pem, (certificate, key), bundle)
        own = own_certificate(certificate, authority_pem)
        identity = Identity.from_pem(key.read_bytes(), own.pem)
        _check_name(own.name)
        topics = where.topics
        self._line = Line(
            where,
            context,
            Speaker(own.name, topics.up(own.name), (topics.down(own.name), topics.gone), own.pem, identity.sign, own),
            authority_pem,
            self._patience,
            clock,
        )

    async def terms(self) -> bytes:
        """See `links.Link.terms`."""
        part = await self._line.ask(Terms(0), Part)
        got, digest, size = bytearray(part.data), part.digest, part.size
        while len(got) < size <= MAX_TERMS_BYTES and part.data:
            part = await self._line.ask(Terms(len(got)), Part)
            got += part.data
        if len(got) != size or digest_of(bytes(got)) != digest:
            raise WireError(f"{len(got)} bytes of terms came that should be {size}, or others", where="terms")
        return bytes(got)

    async def letters(self, after: int, wait_s: float) -> list[Parcel]:
        """See `links.Link.letters`; `wait_s` up to 60."""
        wait_s = min(max(wait_s, 0.0), MAX_WAIT_S)
        said = await self._line.ask(Letters(after, wait_s), Parcels, longer_s=wait_s)
        return unpack_parcels(said.packed, MAX_MESSAGE_BYTES)

    async def fetch(self, digest: str, size: int) -> bytes:
        """See `links.Link.fetch`."""
        first = await self._line.ask(Fetch(digest, 0), Part)
        if first.size != size:
            raise WireError(f"it has {first.size} bytes, and its letter says {size}", where=f"payload {digest}")
        pieces: dict[int, bytes | None] = dict.fromkeys(range(0, size, PIECE_BYTES))
        found, hashed = hashlib.sha256(), deque(pieces)

        def keep(offset: int, part: Part) -> None:
            if part.size != size or len(part.data) != min(PIECE_BYTES, size - offset):
                raise WireError("a piece of it has another size than it should", where=f"payload {digest}")
            pieces[offset] = part.data
            while hashed and (data := pieces[hashed[0]]) is not None:  # while others are on their way
                found.update(data)
                hashed.popleft()

        async def one(offset: int) -> None:
            keep(offset, await self._line.ask(Fetch(digest, offset), Part))

        def missing() -> list[int]:
            return [offset for offset, data in pieces.items() if data is None]

        async def attempt() -> bool:
            await self._side_by_side(one, missing())
            return True

        if size:
            keep(0, first)
        await self._persist(attempt, lambda: -len(missing()))
        if found.hexdigest() != digest:
            raise WireError("what came has another SHA-256", where=f"payload {digest}", remedy="Fetch it again")
        return b"".join(filter(None, pieces.values()))

    async def post(self, letter: bytes, payload: bytes) -> str:
        """See `links.Link.post`; a payload over 64 kB is sent before its letter, which has to be readable then."""
        beside = len(payload) <= INLINE_BYTES
        if not beside:
            await self._upload(read(letter).header.digest, payload)
        return one_line((await self._line.ask(Post(letter, payload if beside else None), Verdict)).why)

    async def renew(self, request_pem: bytes) -> bytes:
        """A new certificate (PEM) for the participant, for which it makes a request. Raises as the others do."""
        return (await self._line.ask(Renew(request_pem), Certified)).certificate

    async def clock(self) -> float:
        """The coordinator's time in Unix seconds. Raises as the others do."""
        await self._line.ask(Terms(0), Part)
        return self._line.told_at

    async def close(self) -> None:
        """See `links.Link.close`."""
        await self._line.close()

    async def _upload(self, digest: str, payload: bytes) -> None:
        size, there, hope = len(payload), 0, len(payload) <= HOPED_BYTES
        extent = Extent(0, whole=False)

        async def one(offset: int) -> None:
            nonlocal extent, there
            data = payload[offset : offset + PIECE_BYTES]
            said = await self._line.ask(Piece(digest, size, offset, data), Extent)
            there = max(there, said.present)
            # The last piece is answered once the whole payload was checked; one that did not fit was deleted.
            if said.whole or offset + len(data) == size:
                extent = said

        async def attempt() -> bool:
            nonlocal extent, there, hope
            if not hope:
                extent = await self._line.ask(Look(digest, size), Extent)
            if extent.whole:
                return True
            began, there, hope = extent.present, max(there, extent.present), False
            await self._side_by_side(one, range(began, size, PIECE_BYTES))
            if not began and not extent.whole and not extent.present:
                raise LinkDown("a payload does not arrive as it was sent", where=digest, remedy="Try again later")
            return extent.whole

        await self._persist(attempt, lambda: there)

    async def _side_by_side(self, one: Callable[[int], Awaitable[None]], offsets: Iterable[int]) -> None:
        """Do it for all, begun in their order; as many at the same time as may be under way."""
        rest = iter(offsets)

        async def some() -> None:
            for offset in rest:
                await one(offset)

        tasks = [asyncio.create_task(some()) for _ in range(self._patience.timing.widest)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _persist(self, attempt: Callable[[], Awaitable[bool]], moved: Callable[[], int]) -> None:
        await carry_through(attempt, moved, self._patience, closed=lambda: self._line.closed)


async def enrol(
    address: str,
    token: str,
    request_pem: bytes,
    authority_pem: bytes,
    *,
    bundle: Path | None = None,
    patience: Patience | None = None,
    clock: Callable[[], float] = time.time,
) -> tuple[bytes, bytes]:
    """Join a federation with an invitation, whose token is proven and does not travel.

    Parameters
    ----------
    address:
        Of the consortium: mqtts://host:port/consortium?enrol=port, where the second port is one at which the broker
        takes clients without a certificate.
    token:
        Of the invitation.
    request_pem:
        From `Identity.request_pem`.
    authority_pem:
        The certificate of the consortium's authority, as it came with the invitation.
    bundle, patience, clock:
        See `MqttLink`.

    Returns
    -------
    The participant's certificate, and the authority's: PEM.

    Raises
    ------
    LinkRefused, LinkDown, WireError, ConfigError
        See `links.Link` and `MqttLink`.
    """
    members = Address.parse(address)
    where = Address(members.host, members.enrol_port, members.topics, members.enrol_port)
    name = secrets.token_hex(16)
    speaker = Speaker(
        name,
        where.topics.new_up(name),
        (where.topics.new_down(name),),
        b"",
        newcomer(digest_of(token.encode())),
    )
    line = Line(where, client_side(authority_pem, bundle=bundle), speaker, authority_pem, patience or Patience(), clock)
    try:
        answer = await line.ask(Enrol(request_pem), Certified)
    finally:
        await line.close()
    return answer.certificate, answer.authority


def _check_name(party: Party) -> None:
    if set("/+#") & set(party) or party.startswith("$"):
        raise ConfigError(
            f"the name '{party}' cannot stand in a topic of MQTT",
            where="certificate",
            remedy="Join by a name without / + #, or over HTTPS",
        )
