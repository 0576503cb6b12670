"""What every request passes: who asks, how often, and what is said where something is wrong.

An ASGI middleware that knows no framework. The server puts what it knows of the client's certificate into the scope,
as `extensions["fedstill.peer"] = {"fingerprint": sha256 hex of DER, "ends": unix seconds}`; TLS has checked that the
consortium's authority made it.
"""

from __future__ import annotations

import errno
import logging
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from fedstill.errors import FedstillError, LinkRefused, RunError, WireError
from fedstill.labels import Party
from fedstill.service.clerk import Clerk
from fedstill.service.http.gauges import Gauges
from fedstill.service.limits import Buckets, Limits
from fedstill.transports.identity import Role

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

PEER = "fedstill.peer"
OPEN = frozenset({"/health", "/ready", "/v1/enrol"})
"""Paths for which nobody needs a certificate."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who asks: a party of this federation, by its certificate."""

    name: Party
    role: Role
    fingerprint: str


class Refused(Exception):  # noqa: N818 - says what happened
    """A request that gets no for an answer.

    Parameters
    ----------
    status:
        Of HTTP.
    error, remedy:
        What is wrong, and what whoever asks can do.
    headers:
        To go with the answer.
    """

    def __init__(self, status: int, error: str, remedy: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.remedy = remedy
        self.headers = headers or {}


class Gone(Exception):  # noqa: N818 - says what happened
    """Whoever asked has closed the connection; there is nobody to answer."""


class Gate:
    """Lets requests of members through to `app`, and turns whatever goes wrong there into an answer in JSON.

    Parameters
    ----------
    app:
        What answers; finds the `Caller` as `scope["state"]["caller"]`, None on an open path.
    clerk, limits, gauges:
        Who knows the members, what they may do, and what is counted.
    clock, now:
        Seconds by a clock that never goes back, and Unix time.
    """

    def __init__(
        self,
        app: App,
        *,
        clerk: Clerk,
        limits: Limits,
        gauges: Gauges,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._clerk = clerk
        self._gauges = gauges
        self._buckets = Buckets(limits.requests_per_s, limits.burst)
        self._clock = clock
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            scope.setdefault("state", {})["caller"] = await self._admit(scope)
            await self._app(scope, receive, noted)
        except Gone:
            status = status or 499  # as others count it; nobody sees it
        except Exception as fault:
            if status:  # too late to say anything but that it broke
                raise
            await _answer(_told(fault), noted)
        finally:
            route = getattr(scope.get("route"), "path", "")
            method = scope["method"] if route else ""
            self._gauges.answered(method, route, status, self._clock() - began)

    async def _admit(self, scope: Scope) -> Caller | None:
        if scope["path"] in OPEN:
            return None
        peer = scope.get("extensions", {}).get(PEER)
        if peer is None:
            raise Refused(401, "no client certificate was shown", "Enrol with an invitation, and use its certificate")
        if self._now() > peer["ends"]:
            raise Refused(401, "the client certificate has ended", "Enrol again with a new invitation")
        caller = await recognise(self._clerk, peer["fingerprint"])
        wait_s = self._buckets.take(caller.name, self._clock())
        if wait_s:
            raise too_often(wait_s)
        await self._clerk.seen(caller.name)
        return caller


async def recognise(clerk: Clerk, fingerprint: str) -> Caller:
    """Who has this certificate. Raises Refused where it is nobody who has joined."""
    found = await clerk.who(fingerprint)
    if found is None:
        raise Refused(
            403, "this certificate is of nobody who has joined, or was revoked", "Ask the operator for an invitation"
        )
    return Caller(*found, fingerprint)


def too_often(wait_s: float) -> Refused:
    """The answer to who asks too often, and may again in so many seconds."""
    seconds = str(math.ceil(wait_s))
    return Refused(429, "too many requests", f"Try again in {seconds} s", {"Retry-After": seconds})


def _told(fault: Exception) -> Refused:
    """What is said about a fault to whoever asked."""
    match fault:
        case Refused():
            return fault
        case LinkRefused():
            return Refused(403, _placed(fault), fault.remedy)
        case WireError():
            return Refused(422, _placed(fault), fault.remedy)
        case RunError():
            # A store that another process leads, or that fails: the next coordinator may do better. What it says of
            # places in here is for the log.
            log.warning("not ready: %s", fault)
            return Refused(503, "the coordinator cannot work right now", "Try again", {"Retry-After": "1"})
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            log.error("the disk is full: %s", fault)
            return Refused(507, "the coordinator's disk is full", "Try again later")
        case _:
            log.error("a request failed", exc_info=fault)
            return Refused(500, "a fault inside the coordinator", "Its operator finds the details in its log")


def _placed(fault: FedstillError) -> str:
    return f"{fault.where}: {fault.what}" if fault.where else fault.what


async def _answer(refused: Refused, send: Send) -> None:
    body = msgspec.json.encode({"error": refused.error, "remedy": refused.remedy})
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refused.headers}
    await send(
        {
            "type": "http.response.start",
            "status": refused.status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
