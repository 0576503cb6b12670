"""Routes for newcomers and for all members, whatever their role."""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import suppress
from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from fedstill.service.callers import Refused, too_often
from fedstill.service.http.house import (
    BYTES,
    Guarded,
    caller_of,
    complaint,
    giving,
    house_of,
    incoming,
    read_json,
    taking,
)
from fedstill.transports.keys import MAX_PEM_BYTES
from fedstill.transports.protocol import SPOKEN

READY_S = 2.0
"""A desk that does not answer within this time is not ready; its answer is good for as long."""

_REQUEST = 2 * MAX_PEM_BYTES  # JSON with a request for a certificate, whose line ends are escaped

strangers = APIRouter(responses=complaint())
members = APIRouter(responses=complaint(), route_class=Guarded)


class Enrolment(msgspec.Struct, forbid_unknown_fields=True):
    """What a newcomer sends: the token of its invitation and a PKCS 10 request, PEM."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    request: Annotated[str, msgspec.Meta(max_length=MAX_PEM_BYTES)]


class Renewal(msgspec.Struct, forbid_unknown_fields=True):
    """A PKCS 10 request, PEM."""

    request: Annotated[str, msgspec.Meta(max_length=MAX_PEM_BYTES)]


@strangers.get("/health")
async def health() -> dict[str, bool | str]:
    """The process lives, and speaks this protocol."""
    return {"alive": True, "protocol": SPOKEN}


@strangers.get("/ready")
async def ready(request: Request) -> dict[str, bool]:
    """The desk answers."""
    house = house_of(request)
    if house.clock() >= house.ready_until:
        try:
            async with asyncio.timeout(READY_S):
                await house.clerk.call(house.desk.status)
        except TimeoutError:
            raise Refused(503, "the desk does not answer", "Try again", {"Retry-After": "1"}) from None
        house.ready_until = house.clock() + READY_S
    return {"ready": True}


@strangers.post("/v1/enrol", openapi_extra=taking("application/json", Enrolment))
async def enrol(request: Request) -> dict[str, str]:
    """Join with an invitation: a certificate for a request, and the authority's certificate."""
    house = house_of(request)
    wait_s = house.newcomers.take(_network(request), house.clock())
    if wait_s:
        raise too_often(wait_s)
    asked = read_json(await incoming(request).whole(_REQUEST), Enrolment)
    certificate, authority = await house.clerk.call(house.desk.enrol, asked.token, asked.request.encode())
    return {"certificate": certificate.decode(), "authority": authority.decode()}


@members.post("/v1/renew", openapi_extra=taking("application/json", Renewal))
async def renew(request: Request) -> dict[str, str]:
    """A new certificate before the present one ends."""
    house, caller = house_of(request), caller_of(request)
    asked = read_json(await incoming(request).whole(_REQUEST), Renewal)
    certificate = await house.clerk.call(house.desk.renew, caller.name, asked.request.encode())
    return {"certificate": certificate.decode()}


@members.get("/v1/terms", response_class=Response, responses=giving(BYTES))
async def terms(request: Request) -> Response:
    """What all have agreed on for this run."""
    house = house_of(request)
    return Response(await house.clerk.call(lambda: house.desk.terms), media_type=BYTES)


@members.get("/v1/status")
async def status(request: Request) -> Response:
    """What goes on, for people."""
    house = house_of(request)
    said = await house.clerk.call(house.desk.status)
    return Response(msgspec.json.encode(said), media_type="application/json")


@members.get("/v1/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    """What this interface can do."""
    return JSONResponse(request.app.openapi())


def _network(request: Request) -> str:
    """The address of who asks; of IPv6 the network, of which a single machine has all addresses."""
    host = request.client.host if request.client else ""
    with suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.version == 6:
            return str(ipaddress.ip_network((address, 64), strict=False))
    return host
