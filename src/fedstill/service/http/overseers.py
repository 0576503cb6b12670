"""Routes of those who take no part: observers, auditors and operators."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Generator
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import iterate_in_threadpool
from fastapi.responses import StreamingResponse

from fedstill.errors import ConfigError
from fedstill.service.callers import Refused
from fedstill.service.http.gauges import CONTENT_TYPE
from fedstill.service.http.house import (
    Guarded,
    House,
    T,
    caller_of,
    complaint,
    giving,
    house_of,
    incoming,
    read_json,
    taking,
)
from fedstill.transports.letters import MAX_NAME_LENGTH
from fedstill.transports.roles import Role

LOG = logging.getLogger(__name__)

ZIP = "application/zip"
_MAX_ASKED_BYTES = 4096

overseers = APIRouter(responses=complaint(), route_class=Guarded)

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]


class Inviting(msgspec.Struct, forbid_unknown_fields=True):
    """Whom an operator invites, in which role, for how many days, and whether to come over MQTT."""

    name: _Name
    role: Literal["participant", "observer", "auditor", "operator"] = "participant"
    days: Annotated[float, msgspec.Meta(gt=0, le=365)] = 14.0
    mqtt: bool = False


class Revoking(msgspec.Struct, forbid_unknown_fields=True):
    """Whom an operator revokes."""

    name: _Name


@overseers.get("/metrics", response_class=Response, responses=giving("text/plain"))
async def metrics(request: Request) -> Response:
    """Counts for Prometheus."""
    house = house_of(request)
    return Response(house.gauges.page(), headers={"Content-Type": CONTENT_TYPE})


@overseers.get("/v1/audit", response_class=Response, responses=giving(ZIP))
async def audit(request: Request) -> Response:
    """All events, letters, payloads and certificates, for `fedstill audit verify`; no keys."""
    house, caller = house_of(request), caller_of(request)
    _check_free(house)
    pieces = house.administration.export()
    LOG.info("audit exported", extra={"by": caller.name})
    return StreamingResponse(_exported(house, pieces), media_type=ZIP)


@overseers.post("/v1/invitations", openapi_extra=taking("application/json", Inviting))
async def invite(request: Request) -> Response:
    """An invite for a participant or an observer, which lets it in once."""
    house, caller = house_of(request), caller_of(request)
    asked = read_json(await incoming(request).whole(_MAX_ASKED_BYTES), Inviting)
    made = await _done(
        house,
        lambda: house.administration.invite(asked.name, Role(asked.role), asked.days, caller.name, mqtt=asked.mqtt),
    )
    return Response(made, media_type="application/json")


@overseers.post("/v1/revocations", openapi_extra=taking("application/json", Revoking))
async def revoke(request: Request) -> dict[str, str]:
    """A participant or an observer is let in no more."""
    house, caller = house_of(request), caller_of(request)
    asked = read_json(await incoming(request).whole(_MAX_ASKED_BYTES), Revoking)
    await _done(house, lambda: house.administration.revoke(asked.name, caller.name))
    return {"revoked": asked.name}


async def _done(house: House, work: Callable[[], T]) -> T:
    """Do it in the desk's thread. What an operator has got wrong is its to mend."""
    try:
        return await house.clerk.call(work)
    except ConfigError as error:
        raise Refused(422, error.what, error.remedy) from None


def _check_free(house: House) -> None:
    if house.exporting:
        raise Refused(429, "an audit is on its way to somebody else", "Try again later", {"Retry-After": "60"})


async def _exported(house: House, pieces: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    _check_free(house)  # of two who asked at once one goes on; the other's download breaks
    house.exporting = True
    try:
        async for piece in iterate_in_threadpool(pieces):
            yield piece
    finally:
        pieces.close()
        house.exporting = False
