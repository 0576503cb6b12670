"""A link over HTTPS (aiohttp): each side shows the other a certificate of the consortium's authority.

Proxies are taken from the usual environment variables (HTTPS_PROXY, NO_PROXY). The connection is encrypted through them
from end to end; a proxy that breaks encryption open cannot be passed, because it cannot show the participant's
certificate. Transfers of payloads go on where they were cut off.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import msgspec

from fedstill.errors import LinkRefused, WireError
from fedstill.transports.letters import INLINE_BYTES, Parcel, digest_of, pack_parcels, read, unpack_parcels
from fedstill.transports.tls import client_side, own_certificate
from fedstill.transports.transfers import HOPED_BYTES, MAX_TERMS_BYTES, carry_through
from fedstill.transports.web import Patience, Web, line, read_json, read_whole

MAX_PARCELS_BYTES = 16 * 2**20
PIECE_BYTES = 256 * 1024


class HttpsLink:
    """The HTTPS way of a participant to its coordinator; see `links.Link`.

    Parameters
    ----------
    address:
        Of the coordinator: https://host or https://host:port.
    certificate, key:
        Files (PEM) of the participant's identity.
    authority_pem:
        The certificate of the consortium's authority.
    bundle:
        A file (PEM) of further authorities, for a proxy that is itself reached by TLS. Whoever has a key of one of
        these can also pass for the coordinator's server, though not sign its letters.
    patience:
        How long to wait.

    Raises
    ------
    ConfigError
        Where the address or a file cannot be used, or the certificate is of another authority.
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
    ) -> None:
        self._patience = patience or Patience()
        context = client_side(authority_pem, (certificate, key), bundle)
        self._web = Web(address, context, self._patience, own_certificate(certificate, authority_pem))

    async def terms(self) -> bytes:
        """See `links.Link.terms`."""
        async with self._web.ask("GET", "/v1/terms") as response:
            return await read_whole(response, MAX_TERMS_BYTES)

    async def letters(self, after: int, wait_s: float) -> list[Parcel]:
        """See `links.Link.letters`; `wait_s` up to 60."""
        asked = {"after": str(after), "wait_s": str(wait_s)}
        seconds = self._patience.answer_s + wait_s
        async with self._web.ask("GET", "/v1/letters", seconds=seconds, params=asked) as response:
            data = await read_whole(response, MAX_PARCELS_BYTES)
        return unpack_parcels(data, MAX_PARCELS_BYTES)

    async def fetch(self, digest: str, size: int) -> bytes:
        """See `links.Link.fetch`."""
        pieces: list[bytes] = []
        got = 0

        async def attempt() -> bool:
            nonlocal got
            headers = {"Range": f"bytes={got}-"} if got else {}
            path = f"/v1/payloads/{digest}"
            async with self._web.ask("GET", path, seconds=self._patience.transfer_s, headers=headers) as response:
                if response.status != 206:
                    pieces.clear()
                    got = 0
                async for piece in response.content.iter_any():
                    pieces.append(piece)
                    got += len(piece)
                    if got > size:
                        raise WireError(f"it is larger than the {size} bytes of its letter", where=f"payload {digest}")
            return got == size

        await self._persist(attempt, lambda: got)
        payload = b"".join(pieces)
        if await asyncio.to_thread(digest_of, payload) != digest:
            raise WireError("what came has another SHA-256", where=f"payload {digest}", remedy="Fetch it again")
        return payload

    async def post(self, letter: bytes, payload: bytes) -> str:
        """See `links.Link.post`; a payload over 64 kB is uploaded before its letter."""
        beside = len(payload) <= INLINE_BYTES
        if not beside:
            verdict = await self._upload(payload, letter)
            if verdict is not None:
                return line(verdict.why)
        parcel = pack_parcels([Parcel(letter, payload if beside else None)])
        async with self._web.ask("POST", "/v1/letters", data=parcel) as response:
            return line((await read_json(response, _Verdict)).why)

    async def renew(self, request_pem: bytes) -> bytes:
        """A new certificate (PEM) for the participant, for which it makes a request. Raises as the others do."""
        async with self._web.ask("POST", "/v1/renew", json={"request": request_pem.decode()}) as response:
            return (await read_json(response, _Certified)).certificate.encode()

    async def clock(self) -> float:
        """The coordinator's time in Unix seconds, to the second. Raises as the others do."""
        async with self._web.ask("GET", "/health") as response:
            try:
                return parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
            except ValueError:
                raise WireError("the answer has no time") from None

    async def close(self) -> None:
        """See `links.Link.close`."""
        await self._web.close()

    async def _upload(self, payload: bytes, letter: bytes) -> _Verdict | None:
        """Upload a payload; returns what was said of its letter, if that could go with it."""
        digest = read(letter).header.digest  # which the coordinator checks
        path, there, hope = f"/v1/payloads/{digest}", 0, len(payload) <= HOPED_BYTES
        verdict: _Verdict | None = None

        async def attempt() -> bool:
            nonlocal there, hope
            if hope:  # that nothing of it is there, which is so unless a connection broke
                hope = False
                if await send(0, 409):
                    return True
            async with self._web.ask("HEAD", path) as response:
                if response.headers.get("Upload-Complete") == "?1":
                    return True
                at = _offset(response, len(payload))
            there = max(there, at)
            # What an interrupted upload left may not be a part of this payload: it is deleted now.
            return await send(at, 422 if at else 0)

        async def send(at: int, and_also: int) -> bool:
            nonlocal verdict
            headers = {"Upload-Offset": str(at), "Upload-Complete": "?1", "Content-Length": str(len(payload) - at)}
            headers["Letter"] = binascii.b2a_base64(letter, newline=False).decode()
            pieces, seconds = _pieces(payload, at), self._patience.transfer_s
            async with self._web.ask(
                "PATCH", path, seconds=seconds, headers=headers, data=pieces, and_also=and_also
            ) as sent:
                if sent.status == 200:
                    verdict = await read_json(sent, _Verdict)
                return sent.status != and_also

        await self._persist(attempt, lambda: there)
        return verdict

    async def _persist(self, attempt: Callable[[], Awaitable[bool]], moved: Callable[[], int]) -> None:
        await carry_through(attempt, moved, self._patience)


async def enrol(
    address: str,
    token: str,
    request_pem: bytes,
    authority_pem: bytes,
    *,
    bundle: Path | None = None,
    patience: Patience | None = None,
) -> tuple[bytes, bytes]:
    """Join a federation with an invitation.

    Parameters
    ----------
    address:
        Of the coordinator: https://host or https://host:port.
    token:
        Of the invitation.
    request_pem:
        From `Identity.request_pem`.
    authority_pem:
        The certificate of the consortium's authority, as it came with the invitation.
    bundle, patience:
        See `HttpsLink`.

    Returns
    -------
    The participant's certificate, and the authority's: PEM.

    Raises
    ------
    LinkRefused, LinkDown, WireError, ConfigError
        See `links.Link` and `HttpsLink`.
    """
    web = Web(address, client_side(authority_pem, bundle=bundle), patience or Patience())
    try:
        said = {"token": token, "request": request_pem.decode()}
        async with web.ask("POST", "/v1/enrol", json=said) as response:
            answer = await read_json(response, _Enrolled)
    finally:
        await web.close()
    return answer.certificate.encode(), answer.authority.encode()


class _Verdict(msgspec.Struct):
    why: str


class _Certified(msgspec.Struct):
    certificate: str


class _Enrolled(msgspec.Struct):
    certificate: str
    authority: str


def _offset(response: aiohttp.ClientResponse, size: int) -> int:
    """How much of a payload of `size` bytes the coordinator has. Raises LinkRefused where it would never take it."""
    said = response.headers.get("Upload-Offset", "")
    if not (said.isascii() and said.isdigit() and len(said) < 19 and int(said) <= size):
        raise WireError(f"the coordinator has '{line(said)[:40]}' of {size} bytes of a payload")
    name, _, bound = response.headers.get("Upload-Limit", "").partition("=")
    if name == "max-size" and bound.isascii() and bound.isdigit() and size > int(bound[:18]):
        raise LinkRefused(
            f"a payload of {size} bytes is over the coordinator's bound of {bound}",
            remedy="Ask its operator for a higher bound, or release less: fewer items, a codec that packs tighter",
        )
    return int(said)


async def _pieces(payload: bytes, at: int) -> AsyncIterator[memoryview]:
    view = memoryview(payload)
    for start in range(at, len(payload), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]
