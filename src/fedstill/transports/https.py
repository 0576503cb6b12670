"""A link over HTTPS (aiohttp): each side shows the other a certificate of the consortium's authority.

Proxies are taken from the usual environment variables (HTTPS_PROXY, NO_PROXY). The connection is encrypted through them
from end to end; a proxy that breaks encryption open cannot be passed, because it cannot show the participant's
certificate. Transfers of payloads go on where they were cut off.
"""

from __future__ import annotations

import asyncio
import binascii
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

import fedstill
from fedstill.errors import ConfigError, FedstillError, LinkDown, LinkRefused, WireError
from fedstill.transports.certificates import Certificate
from fedstill.transports.letters import INLINE_BYTES, Parcel, digest_of, pack_parcels, read, unpack_parcels
from fedstill.transports.protocol import HEADER, SPOKEN, UNSAID, check_spoken
from fedstill.transports.tls import client_side, own_certificate, refusal
from fedstill.transports.transfers import HOPED_BYTES, MAX_TERMS_BYTES, carry_through

T = TypeVar("T")

MAX_PARCELS_BYTES = 16 * 2**20
MAX_SAID_BYTES = 256 * 1024
"""Of any other answer."""

PIECE_BYTES = 256 * 1024
_MAY_PASS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507})
"""Answers after which the same question can have another answer."""


@dataclass(frozen=True)
class Patience:
    """How long to wait, and how often to try again.

    Attributes
    ----------
    connect_s:
        For a connection.
    answer_s:
        For an answer, from the first byte of the question to the last of the answer; a request for letters may take as
        much longer as it is to wait.
    transfer_s:
        For one attempt to move a payload. What it moved stays, and the next attempt goes on behind it.
    attempts:
        In a row that move nothing of a payload; then the link is down.
    pause_s:
        After the first of these; twice as long after each next.
    """

    connect_s: float = 15.0
    answer_s: float = 60.0
    transfer_s: float = 300.0
    attempts: int = 5
    pause_s: float = 0.5


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
        self._web = _Web(address, context, self._patience, own_certificate(certificate, authority_pem))

    async def terms(self) -> bytes:
        """See `links.Link.terms`."""
        async with self._web.ask("GET", "/v1/terms") as response:
            return await _read(response, MAX_TERMS_BYTES)

    async def letters(self, after: int, wait_s: float) -> list[Parcel]:
        """See `links.Link.letters`; `wait_s` up to 60."""
        asked = {"after": str(after), "wait_s": str(wait_s)}
        seconds = self._patience.answer_s + wait_s
        async with self._web.ask("GET", "/v1/letters", seconds=seconds, params=asked) as response:
            data = await _read(response, MAX_PARCELS_BYTES)
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
                return _line(verdict.why)
        parcel = pack_parcels([Parcel(letter, payload if beside else None)])
        async with self._web.ask("POST", "/v1/letters", data=parcel) as response:
            return _line((await _read_json(response, _Verdict)).why)

    async def renew(self, request_pem: bytes) -> bytes:
        """A new certificate (PEM) for the participant, for which it makes a request. Raises as the others do."""
        async with self._web.ask("POST", "/v1/renew", json={"request": request_pem.decode()}) as response:
            return (await _read_json(response, _Certified)).certificate.encode()

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
                    verdict = await _read_json(sent, _Verdict)
                return sent.status != and_also

        await self._persist(attempt, lambda: there)
        return verdict

    async def _persist(self, attempt: Callable[[], Awaitable[bool]], moved: Callable[[], int]) -> None:
        patience = self._patience
        await carry_through(attempt, moved, attempts=patience.attempts, pause_s=patience.pause_s)


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
    web = _Web(address, client_side(authority_pem, bundle=bundle), patience or Patience())
    try:
        said = {"token": token, "request": request_pem.decode()}
        async with web.ask("POST", "/v1/enrol", json=said) as response:
            answer = await _read_json(response, _Enrolled)
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


class _Complaint(msgspec.Struct):
    error: str
    remedy: str = ""


class _Web:
    """Asks one server, and turns whatever goes wrong into errors of ours."""

    def __init__(
        self, address: str, context: ssl.SSLContext, patience: Patience, own: Certificate | None = None
    ) -> None:
        self._address = _checked(address)
        self._own = own
        self._context = context
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, *, seconds: float | None = None, and_also: int = 0, **rest: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, and yield an answer that is no refusal; `and_also` is a status that the caller looks after."""
        patience = self._patience
        timeout = aiohttp.ClientTimeout(
            total=patience.answer_s if seconds is None else seconds, sock_connect=patience.connect_s
        )
        with _translated(self._address, self._own):
            session = self._opened()
            async with session.request(
                method, self._address + path, allow_redirects=False, timeout=timeout, **rest
            ) as response:
                if response.status >= 300 and response.status != and_also:
                    raise await _refusal(response)
                check_spoken(coordinator=response.headers.get(HEADER, UNSAID))
                yield response

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise LinkDown("this link is closed", where=self._address)
        if self._session is None:  # made here, because it needs the loop that it is used in
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._context, limit=8),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "User-Agent": f"fedstill/{fedstill.__version__}",
                    HEADER: SPOKEN,
                    "Accept-Encoding": "identity",
                },
                auto_decompress=False,
                trust_env=True,
            )
        return self._session


def _checked(address: str) -> str:
    """The address without a slash at its end."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme == "https" and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(
            f"{address[:200]!r} is not the address of a coordinator", remedy="Write https://host or https://host:port"
        )
    return f"https://{parts.netloc}"


@contextmanager
def _translated(address: str, own: Certificate | None) -> Iterator[None]:
    try:
        yield
    except aiohttp.ClientHttpProxyError as error:
        kind = LinkDown if error.status in _MAY_PASS else LinkRefused
        raise kind(
            f"the proxy answers {error.status} {_line(error.message)}",
            where=address,
            remedy="Look at HTTPS_PROXY and NO_PROXY, and whether the proxy lets this address through",
        ) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
        fault = _fault(error, address)
        # Servers may end a connection without a word where they do not accept a certificate.
        if isinstance(fault, LinkDown) and own is not None and not own.valid(datetime.now(UTC)):
            fault = LinkRefused(
                f"the certificate of '{own.name}' is valid from {own.starts} to {own.ends}, and not now",
                where=address,
                remedy="Enrol again with a new invitation, or set the clock",
            )
        raise fault from None


def _fault(error: Exception, address: str) -> FedstillError:
    refused = refusal(error, address)
    if refused is not None:
        return refused
    said = _line(str(error) or type(error).__name__)
    if isinstance(error, ValueError) and not isinstance(error, OSError | aiohttp.ClientError):
        return LinkRefused(f"address or proxy cannot be used: {said}", where=address, remedy="Look at HTTPS_PROXY")
    what = "no answer in time" if isinstance(error, TimeoutError) else f"no connection, or it broke: {said}"
    return LinkDown(what, where=address, remedy="Try again; if it stays so, check network and proxy")


async def _refusal(response: aiohttp.ClientResponse) -> FedstillError:
    """The error for an answer that is none."""
    kind = LinkDown if response.status in _MAY_PASS else LinkRefused
    try:
        said = await _read_json(response, _Complaint)
    except WireError:
        said = _Complaint(f"it answers {response.status}")
    return kind(_line(said.error), where=f"coordinator ({response.status})", remedy=_line(said.remedy))


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > max_bytes:
            raise WireError(f"the coordinator's answer is over the bound of {max_bytes} bytes")
    return bytes(data)


async def _read_json(response: aiohttp.ClientResponse, kind: type[T]) -> T:
    data = await _read(response, MAX_SAID_BYTES)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"the coordinator's answer is not what it should be: {_line(str(error))}") from None


def _offset(response: aiohttp.ClientResponse, size: int) -> int:
    """How much of a payload of `size` bytes the coordinator has. Raises LinkRefused where it would never take it."""
    said = response.headers.get("Upload-Offset", "")
    if not (said.isascii() and said.isdigit() and len(said) < 19 and int(said) <= size):
        raise WireError(f"the coordinator has '{_line(said)[:40]}' of {size} bytes of a payload")
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


def _line(text: str) -> str:
    """What another machine says, fit for a line of a log."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:500]).strip()
