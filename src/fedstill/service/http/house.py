"""What all routes of the coordinator's HTTP interface share: the house that they are in, and what they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute

from fedstill.service.callers import Caller, Refused
from fedstill.service.clerk import Administration, Bell, Clerk, Counter
from fedstill.service.http.gauges import Gauges
from fedstill.service.http.transfer import Body
from fedstill.service.limits import Buckets, Limits
from fedstill.service.rights import check_right

T = TypeVar("T")

BYTES = "application/octet-stream"


class House:
    """What all requests of an app share."""

    def __init__(
        self,
        counter: Counter,
        bell: Bell,
        administration: Administration | None,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self.limits = limits
        self.bell = bell
        self.clock = clock
        self.gauges = Gauges()
        self.clerk = Clerk(counter, clock, limits)
        self.newcomers = Buckets(limits.enrolments_per_minute / 60, limits.enrolments_per_minute)
        self.ready_until = -math.inf
        self.exporting = False
        self._administration = administration

    @property
    def desk(self) -> Counter:
        """The desk; its methods are called by the clerk, its blobs by anybody."""
        return self.clerk.counter

    @property
    def administration(self) -> Administration:
        """What operators and auditors come for. Raises Refused where there is nothing for them here."""
        if self._administration is None:
            raise Refused(404, "nothing is administered here")
        return self._administration

    @property
    def max_payload_bytes(self) -> int:
        """The largest payload that is taken."""
        return min(self.limits.max_payload_bytes, self.desk.blobs.max_bytes)


# What routes ask for. As dependencies of the framework these would take half of a small request's time.


class Guarded(APIRoute):
    """A route for those whose role may ask for it; others get a Refused."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute.get_route_handler`."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            check_right(caller_of(request), f"{request.method} {self.path}")
            return await handle(request)

        return guarded


def house_of(request: Request) -> House:
    """Where it is asked."""
    house: House = request.app.state.house
    return house


def caller_of(request: Request) -> Caller:
    """Who asks, on a guarded route."""
    caller: Caller = request.state.caller
    return caller


def incoming(request: Request) -> Body:
    """The body of a request, as it comes."""
    return Body(request.receive, request.headers.get("content-length", ""), house_of(request).limits)


def read_json(data: bytes, kind: type[T]) -> T:
    """Read a body. Raises Refused."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused(422, f"not what this takes: {error}", "See /v1/openapi.json") from None


# What the OpenAPI document cannot see by itself.


def taking(media: str, kind: type[msgspec.Struct] | None = None) -> dict[str, Any]:
    """A body of this kind; bytes where there is none."""
    if kind is None:
        schema: dict[str, Any] = {"type": "string", "format": "binary"}
    else:
        schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
    return {"requestBody": {"required": True, "content": {media: {"schema": schema}}}}


def giving(media: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """An answer that is not JSON; its route says so by `response_class=Response`, too."""
    return {status: {"content": {media: {}}} for status in statuses or (200,)}


def complaint() -> dict[int | str, dict[str, Any]]:
    """Any other answer."""
    told: dict[str, Any] = {"type": "object", "required": ["error", "remedy"]}
    told["properties"] = {name: {"type": "string"} for name in ("error", "remedy")}
    return {"default": {"description": "An error", "content": {"application/json": {"schema": told}}}}
