"""The coordinator's HTTP interface: an ASGI app over a desk. Its OpenAPI document is at `/v1/openapi.json`.

Errors are JSON, `{"error": what, "remedy": what to do}`:

    401 no client certificate    403 not a member, or not in this role    404, 405 no such thing
    408 the body came too slowly    409 a piece or a letter does not fit what is here    413 too large
    416 a range behind the end    422 not what it should be    429 too often    500 our fault
    503 not leading, or not able to write    507 the disk is full

Uploads resume as in draft-ietf-httpbis-resumable-upload: `Upload-Offset` says what is here, `Upload-Complete: ?1` that
a body is the last piece. No request holds more than a piece of a payload in memory.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse

import fedstill
from fedstill.service.clerk import Bell, Clerk, Counter, Ear
from fedstill.service.http.gate import Caller, Gate, Refused, recognise, too_often
from fedstill.service.http.gauges import CONTENT_TYPE, Gauges
from fedstill.service.http.transfer import Body, append, content, finish
from fedstill.service.limits import MAX_WAIT_S, Buckets, Limits
from fedstill.transports.identity import MAX_PEM_BYTES, Role
from fedstill.transports.letters import Parcel, pack_parcels, read, unpack_parcels

T = TypeVar("T")

READY_S = 2.0
"""A desk that does not answer within this time is not ready; its answer is good for as long."""

BYTES = "application/octet-stream"
_REQUEST = 2 * MAX_PEM_BYTES  # JSON with a request for a certificate, whose line ends are escaped


class Enrolment(msgspec.Struct, forbid_unknown_fields=True):
    """What a newcomer sends: the token of its invitation and a PKCS 10 request, PEM."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    request: Annotated[str, msgspec.Meta(max_length=MAX_PEM_BYTES)]


class Renewal(msgspec.Struct, forbid_unknown_fields=True):
    """A PKCS 10 request, PEM."""

    request: Annotated[str, msgspec.Meta(max_length=MAX_PEM_BYTES)]


class House:
    """What all requests of an app share."""

    def __init__(self, counter: Counter, bell: Bell, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.bell = bell
        self.clock = clock
        self.gauges = Gauges()
        self.clerk = Clerk(counter, clock)
        self.newcomers = Buckets(limits.enrolments_per_minute / 60, limits.enrolments_per_minute)
        self.ready_until = -math.inf

    @property
    def desk(self) -> Counter:
        """The desk; its methods are called by the clerk, its blobs by anybody."""
        return self.clerk.counter

    @property
    def max_payload_bytes(self) -> int:
        """The largest payload that is taken."""
        return min(self.limits.max_payload_bytes, self.desk.blobs.max_bytes)


def create_app(
    counter: Counter, *, bell: Bell, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
) -> FastAPI:
    """Make the app.

    Parameters
    ----------
    counter:
        The desk.
    bell:
        Which the desk rings for those who wait for letters.
    limits:
        Bounds on what comes from outside.
    clock:
        Seconds by a clock that never goes back, for how often somebody may ask and how long an answer holds.

    Returns
    -------
    The app. Its `state.house` has `clerk`, by which others work in the desk's thread, and `gauges`.
    """
    house = House(counter, bell, limits or Limits(), clock)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        yield
        await house.clerk.close()

    app = FastAPI(
        title="fedstill coordinator",
        version=fedstill.__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.house = house
    app.include_router(routes)
    for status in (404, 405):
        app.add_exception_handler(status, _unknown)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_middleware(Gate, clerk=house.clerk, limits=house.limits, gauges=house.gauges, clock=clock)
    return app


# What the OpenAPI document cannot see by itself.


def _taking(media: str, kind: type[msgspec.Struct] | None = None) -> dict[str, Any]:
    """A body of this kind; bytes where there is none."""
    if kind is None:
        schema: dict[str, Any] = {"type": "string", "format": "binary"}
    else:
        schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
    return {"requestBody": {"required": True, "content": {media: {"schema": schema}}}}


def _giving(media: str) -> dict[int | str, dict[str, Any]]:
    """An answer that is not JSON."""
    return {200: {"content": {media: {}}}}


def _complaint() -> dict[str, Any]:
    """Any other answer."""
    told: dict[str, Any] = {"type": "object", "required": ["error", "remedy"]}
    told["properties"] = {name: {"type": "string"} for name in ("error", "remedy")}
    return {"description": "An error", "content": {"application/json": {"schema": told}}}


# What routes ask for.


def _house(request: Request) -> House:
    house: House = request.app.state.house
    return house


async def _at_home(request: Request) -> House:
    return _house(request)


def _in_role(*roles: Role) -> Callable[[Request], Awaitable[Caller]]:
    async def check(request: Request) -> Caller:
        caller: Caller = request.state.caller
        if caller.role not in roles:
            raise Refused(403, f"not for the role '{caller.role}'", f"Ask as one of: {', '.join(roles)}")
        return caller

    return check


AtHome = Annotated[House, Depends(_at_home)]
Member = Annotated[Caller, Depends(_in_role(*Role))]
Participant = Annotated[Caller, Depends(_in_role(Role.PARTICIPANT))]
Watcher = Annotated[Caller, Depends(_in_role(Role.OPERATOR, Role.OBSERVER, Role.AUDITOR))]
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the payload")]

routes = APIRouter(responses={"default": _complaint()})


# Open to strangers.


@routes.get("/health")
async def health() -> dict[str, bool]:
    """The process lives."""
    return {"alive": True}


@routes.get("/ready")
async def ready(house: AtHome) -> dict[str, bool]:
    """The desk answers."""
    if house.clock() >= house.ready_until:
        try:
            async with asyncio.timeout(READY_S):
                await house.clerk.call(house.desk.status)
        except TimeoutError:
            raise Refused(503, "the desk does not answer", "Try again", {"Retry-After": "1"}) from None
        house.ready_until = house.clock() + READY_S
    return {"ready": True}


@routes.post("/v1/enrol", openapi_extra=_taking("application/json", Enrolment))
async def enrol(request: Request, house: AtHome) -> dict[str, str]:
    """Join with an invitation: a certificate for a request, and the authority's certificate."""
    wait_s = house.newcomers.take(_network(request), house.clock())
    if wait_s:
        raise too_often(wait_s)
    asked = _read_json(await _body(request, _REQUEST), Enrolment)
    certificate, authority = await house.clerk.call(house.desk.enrol, asked.token, asked.request.encode())
    return {"certificate": certificate.decode(), "authority": authority.decode()}


# For members.


@routes.post("/v1/renew", openapi_extra=_taking("application/json", Renewal))
async def renew(request: Request, house: AtHome, caller: Member) -> dict[str, str]:
    """A new certificate before the present one ends."""
    asked = _read_json(await _body(request, _REQUEST), Renewal)
    certificate = await house.clerk.call(house.desk.renew, caller.name, asked.request.encode())
    return {"certificate": certificate.decode()}


@routes.get("/v1/terms", responses=_giving(BYTES))
async def terms(house: AtHome, caller: Member) -> Response:
    """What all have agreed on for this run."""
    del caller
    return Response(await house.clerk.call(lambda: house.desk.terms), media_type=BYTES)


@routes.get("/v1/status")
async def status(house: AtHome, caller: Member) -> Response:
    """What goes on, for people."""
    del caller
    said = await house.clerk.call(house.desk.status)
    return Response(msgspec.json.encode(said), media_type="application/json")


@routes.get("/metrics", responses=_giving("text/plain"))
async def metrics(house: AtHome, caller: Watcher) -> Response:
    """Counts for Prometheus."""
    del caller
    return Response(house.gauges.page(), headers={"Content-Type": CONTENT_TYPE})


# Letters.


@routes.get("/v1/letters", responses=_giving(BYTES))
async def letters(
    request: Request,
    house: AtHome,
    caller: Participant,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, allow_inf_nan=False)] = 0.0,
) -> Response:
    """Letters with a number above `after`, as packed parcels; where there are none, wait for them."""
    with house.bell.listening(caller.name) as ear:
        parcels = await house.clerk.call(house.desk.letters, caller.name, after)
        if not parcels and wait_s:
            watch = asyncio.create_task(_dismiss_when_gone(request, ear))
            try:
                with suppress(TimeoutError), house.gauges.polls.track_inprogress():
                    async with asyncio.timeout(wait_s):
                        parcels = await _awaited(house, caller, after, ear)
            finally:
                watch.cancel()
            await recognise(house.clerk, caller.fingerprint)  # it may have been revoked meanwhile
    return Response(pack_parcels(parcels), media_type=BYTES)


async def _awaited(house: House, caller: Caller, after: int, ear: Ear) -> list[Parcel]:
    parcels: list[Parcel] = []
    while not parcels and ear.open:
        await ear.heard()
        parcels = await house.clerk.call(house.desk.letters, caller.name, after)
    return parcels


async def _dismiss_when_gone(request: Request, ear: Ear) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    ear.dismiss()


@routes.post("/v1/letters", openapi_extra=_taking(BYTES))
async def post_letter(request: Request, house: AtHome, caller: Participant) -> dict[str, str]:
    """Give one packed parcel to the coordinator; when this answers, it is on the disk.

    `why` is empty where the letter was taken, else says why it was not used.
    """
    bound = house.limits.max_letter_bytes
    parcels = unpack_parcels(await _body(request, bound), bound)
    if len(parcels) != 1:
        raise Refused(422, f"{len(parcels)} parcels", "Post one at a time")
    (parcel,) = parcels
    if parcel.payload is None:
        digest = read(parcel.letter).header.digest
        if not await asyncio.to_thread(house.desk.blobs.has, digest):
            raise Refused(409, "its payload is not here", "Upload the payload, then post the letter again")
    return {"why": await house.clerk.take(caller.name, parcel.letter, parcel.payload)}


# Payloads.


@routes.head("/v1/payloads/{digest}")
async def look_at_payload(house: AtHome, caller: Participant, digest: Digest) -> Response:
    """How much of a payload is here, and how large one may be."""
    del caller
    return Response(headers=await asyncio.to_thread(_extent, house, digest))


@routes.patch("/v1/payloads/{digest}", status_code=204, openapi_extra=_taking(BYTES))
async def send_payload(
    request: Request,
    house: AtHome,
    caller: Participant,
    digest: Digest,
    upload_offset: Annotated[int, Header(ge=0)],
    upload_complete: Annotated[str, Header(pattern=r"^\?[01]$")] = "?0",
) -> Response:
    """Add a piece; the last one is answered when the payload is checked and on the disk."""
    del caller
    blobs, count = house.desk.blobs, house.gauges.payload_bytes.labels("up").inc
    await append(_incoming(request), blobs, digest, upload_offset, house.max_payload_bytes, count)
    if upload_complete == "?1":
        await finish(blobs, digest)
    return Response(status_code=204, headers=await asyncio.to_thread(_extent, house, digest))


@routes.get("/v1/payloads/{digest}", responses=_giving(BYTES))
async def fetch_payload(
    house: AtHome, caller: Participant, digest: Digest, range_: Annotated[str, Header(alias="Range")] = ""
) -> Response:
    """A payload that a letter to the caller names, or the part from a byte on (`Range: bytes=N-`)."""
    blobs = house.desk.blobs
    allowed = await house.clerk.call(house.desk.reads, caller.name, digest)
    if not allowed or not await asyncio.to_thread(blobs.has, digest):
        raise Refused(404, "no letter to you names such a payload, or it is not kept any more")
    file = await asyncio.to_thread(blobs.open_path(digest).open, "rb")
    size = await asyncio.to_thread(file.seek, 0, 2)
    asked = re.fullmatch(r"bytes=(\d{1,18})-", range_)
    start = int(asked[1]) if asked else 0
    if asked and start >= size:
        file.close()
        raise Refused(416, f"it has {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    headers = {"Content-Length": str(size - start), "Accept-Ranges": "bytes"}
    if asked:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    house.gauges.payload_bytes.labels("down").inc(size - start)
    return StreamingResponse(content(file, start), 206 if asked else 200, headers, BYTES)


def _extent(house: House, digest: str) -> dict[str, str]:
    whole = house.desk.blobs.has(digest)
    return {
        "Upload-Offset": str(house.desk.blobs.offset(digest)),
        "Upload-Complete": "?1" if whole else "?0",
        "Upload-Limit": f"max-size={house.max_payload_bytes}",
    }


async def _body(request: Request, max_bytes: int) -> bytes:
    return await _incoming(request).whole(max_bytes)


def _incoming(request: Request) -> Body:
    return Body(request.receive, request.headers.get("content-length", ""), _house(request).limits)


def _read_json(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused(422, f"not what this takes: {error}", "See /v1/openapi.json") from None


def _network(request: Request) -> str:
    """The address of who asks; of IPv6 the network, of which a single machine has all addresses."""
    host = request.client.host if request.client else ""
    with suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.version == 6:
            return str(ipaddress.ip_network((address, 64), strict=False))
    return host


# What the app says of faults that the framework finds.


async def _unknown(request: Request, fault: Exception) -> Response:
    """No such path, or not with this method."""
    raise Refused(
        getattr(fault, "status_code", 404), f"no {request.method} {request.url.path[:80]}", "See /v1/openapi.json"
    )


async def _misread(request: Request, fault: Exception) -> Response:
    """A parameter is not what it should be."""
    del request
    first = fault.errors()[0] if isinstance(fault, RequestValidationError) else {}
    place = ".".join(str(part) for part in first.get("loc", ()))
    raise Refused(422, f"{place}: {first.get('msg', 'not valid')}", "See /v1/openapi.json")
