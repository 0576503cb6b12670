"""One HTTPS server, asked with aiohttp: whatever goes wrong becomes an error of ours."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

import fedstill
from fedstill.errors import ConfigError, FedstillError, LinkDown, LinkRefused, WireError
from fedstill.transports.certificates import Certificate
from fedstill.transports.protocol import HEADER, SPOKEN, UNSAID, check_spoken
from fedstill.transports.tls import refusal
from fedstill.transports.transfers import Persistence

T = TypeVar("T")

MAX_SAID_BYTES = 256 * 1024
"""Of an answer in JSON."""

_MAY_PASS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507})
"""Answers after which the same question can have another answer."""


@dataclass(frozen=True)
class Patience(Persistence):
    """How long to wait over HTTPS.

    Attributes
    ----------
    answer_s:
        For an answer, from the first byte of the question to the last of the answer; a request for letters may take as
        much longer as it is to wait.
    transfer_s:
        For one attempt to move a payload. What it moved stays, and the next attempt goes on behind it.
    """

    answer_s: float = 60.0
    transfer_s: float = 300.0


class _Complaint(msgspec.Struct):
    error: str
    remedy: str = ""


class Web:
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
        """End all connections; whoever asks then gets a LinkDown."""
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
            f"the proxy answers {error.status} {line(error.message)}",
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
    said = line(str(error) or type(error).__name__)
    if isinstance(error, ValueError) and not isinstance(error, OSError | aiohttp.ClientError):
        return LinkRefused(f"address or proxy cannot be used: {said}", where=address, remedy="Look at HTTPS_PROXY")
    what = "no answer in time" if isinstance(error, TimeoutError) else f"no connection, or it broke: {said}"
    return LinkDown(what, where=address, remedy="Try again; if it stays so, check network and proxy")


async def _refusal(response: aiohttp.ClientResponse) -> FedstillError:
    """The error for an answer that is none."""
    kind = LinkDown if response.status in _MAY_PASS else LinkRefused
    try:
        said = await read_json(response, _Complaint)
    except WireError:
        said = _Complaint(f"it answers {response.status}")
    return kind(line(said.error), where=f"coordinator ({response.status})", remedy=line(said.remedy))


async def read_whole(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """An answer's body. Raises WireError where it is over the bound."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > max_bytes:
            raise WireError(f"the coordinator's answer is over the bound of {max_bytes} bytes")
    return bytes(data)


async def read_json(response: aiohttp.ClientResponse, kind: type[T]) -> T:
    """An answer's body as JSON of this kind. Raises WireError where it is something else."""
    data = await read_whole(response, MAX_SAID_BYTES)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"the coordinator's answer is not what it should be: {line(str(error))}") from None


def line(text: str) -> str:
    """What another machine says, fit for a line of a log."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:500]).strip()
