"""What every request passes: who asks, how often, and what is said where something is wrong.

An ASGI middleware that knows no framework. The server puts what it knows of the client's certificate into the scope,
as `extensions["fedstill.peer"] = {"fingerprint": sha256 hex of DER, "ends": unix seconds}`; TLS has checked that the
consortium's authority made it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import msgspec

from fedstill.service.callers import Caller, Refused, recognise, told, too_often
from fedstill.service.clerk import Clerk
from fedstill.service.http.gauges import Gauges
from fedstill.service.limits import Buckets, Limits
from fedstill.service.rights import OPEN
from fedstill.transports.protocol import HEADER, SPOKEN, UNSAID, check_spoken

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

PEER = "fedstill.peer"
_SPOKEN = (HEADER.lower().encode(), SPOKEN.encode())
_OPEN = frozenset(endpoint.partition(" ")[2] for endpoint in OPEN)


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
                message["headers"] = [*message.get("headers", ()), _SPOKEN]
            await send(message)

        try:
            scope.setdefault("state", {})["caller"] = await self._admit(scope)
            await self._app(scope, receive, noted)
        except Gone:
            status = status or 499  # as others count it; nobody sees it
        except Exception as fault:
            if status:  # too late to say anything but that it broke
                raise
            await _answer(told(fault), noted)
        finally:
            route = getattr(scope.get("route"), "path", "")
            method = scope["method"] if route else ""
            self._gauges.answered(method, route, status, self._clock() - began)

    async def _admit(self, scope: Scope) -> Caller | None:
        if scope["path"].startswith("/v1/"):
            check_spoken(participant=_spoken(scope))
        if scope["path"] in _OPEN:
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


def _spoken(scope: Scope) -> str:
    """The version of the protocol that a request is of."""
    said = [value.decode("latin-1") for name, value in scope["headers"] if name == _SPOKEN[0]]
    return ", ".join(said) or UNSAID


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
