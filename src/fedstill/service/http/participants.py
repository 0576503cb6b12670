"""Routes of participants: letters and payloads.

Uploads resume as in draft-ietf-httpbis-resumable-upload: `Upload-Offset` says what is here, `Upload-Complete: ?1` that
a body is the last piece, with which the letter about the payload can come as well. No request holds more than a piece
of a payload in memory.
"""

from __future__ import annotations

import asyncio
import binascii
import os
import re
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response

from fedstill.service.callers import Caller, Refused, begin_upload, recognise
from fedstill.service.clerk import Ear
from fedstill.service.http.house import BYTES, Guarded, House, caller_of, complaint, giving, house_of, incoming, taking
from fedstill.service.http.transfer import Content, append
from fedstill.service.limits import MAX_WAIT_S
from fedstill.transports.letters import MAX_LETTER_BYTES, Parcel, pack_parcels, read, unpack_parcels

Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the payload")]

participants = APIRouter(responses=complaint(), route_class=Guarded)


# Letters.


@participants.get("/v1/letters", response_class=Response, responses=giving(BYTES))
async def letters(
    request: Request,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, allow_inf_nan=False)] = 0.0,
) -> Response:
    """Letters with a number above `after`, as packed parcels; where there are none, wait for them."""
    house, caller = house_of(request), caller_of(request)
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


@participants.post("/v1/letters", openapi_extra=taking(BYTES))
async def post_letter(request: Request) -> dict[str, str]:
    """Give one packed parcel to the coordinator; when this answers, it is on the disk.

    `why` is empty where the letter was taken, else says why it was not used.
    """
    house, caller = house_of(request), caller_of(request)
    bound = house.limits.max_letter_bytes
    parcels = unpack_parcels(await incoming(request).whole(bound), bound)
    if len(parcels) != 1:
        raise Refused(422, f"{len(parcels)} parcels", "Post one at a time")
    (parcel,) = parcels
    if parcel.payload is None:
        digest = read(parcel.letter).header.digest
        if not await asyncio.to_thread(house.desk.blobs.keeps, digest):
            raise Refused(409, "its payload is not here", "Upload the payload, then post the letter again")
    return {"why": await house.clerk.take(caller.name, parcel.letter, parcel.payload)}


# Payloads.


@participants.head("/v1/payloads/{digest}", response_class=Response)
async def look_at_payload(request: Request, digest: Digest) -> Response:
    """How much of a payload is here, and how large one may be."""
    house = house_of(request)
    return Response(headers=await asyncio.to_thread(_extent, house, digest))


@participants.patch(
    "/v1/payloads/{digest}",
    response_model=dict[str, str],
    responses={204: {"description": "Added, without a letter"}},
    openapi_extra=taking(BYTES),
)
async def send_payload(
    request: Request,
    digest: Digest,
    upload_offset: Annotated[int, Header(ge=0)],
    upload_complete: Annotated[str, Header(pattern=r"^\?[01]$")] = "?0",
    letter: Annotated[str, Header(max_length=2 * MAX_LETTER_BYTES)] = "",
) -> Response | dict[str, str]:
    """Add a piece; the last one is answered when the payload is checked and on the disk.

    `letter`, in base64, is the letter about this payload; with the last piece it is given to the coordinator, as when
    it is posted alone, and the answer is the verdict.
    """
    house, caller = house_of(request), caller_of(request)
    last, about = upload_complete == "?1", _letter(letter, digest)
    count, bound = house.gauges.payload_bytes.labels("up").inc, house.max_payload_bytes
    begin_upload(house.clerk, caller, digest, _upto(request, upload_offset, bound))
    await append(incoming(request), house.desk.blobs, digest, upload_offset, last=last, max_bytes=bound, count=count)
    if last and about:
        return {"why": await house.clerk.take(caller.name, about, None)}
    return Response(status_code=204, headers=await asyncio.to_thread(_extent, house, digest))


def _upto(request: Request, at: int, bound: int) -> int:
    """How many bytes of a payload there are at most after a request whose body begins at byte `at`."""
    said = request.headers.get("content-length", "")
    return min(at + int(said) if said.isascii() and said.isdigit() else bound, bound)


def _letter(text: str, digest: str) -> bytes:
    """A letter about this payload, which came in a header; empty where none came."""
    try:
        letter = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise Refused(422, "the letter is not in base64", "See /v1/openapi.json") from None
    if letter and read(letter).header.digest != digest:
        raise Refused(422, "the letter is about another payload", "Post it to /v1/letters")
    return letter


@participants.get("/v1/payloads/{digest}", response_class=Response, responses=giving(BYTES, 200, 206))
async def fetch_payload(
    request: Request, digest: Digest, range_: Annotated[str, Header(alias="Range")] = ""
) -> Response:
    """A payload that a letter to the caller names, or the part from a byte on (`Range: bytes=N-`)."""
    house, caller = house_of(request), caller_of(request)
    blobs = house.desk.blobs
    allowed = await house.clerk.call(house.desk.reads, caller.name, digest)
    if not allowed or not await asyncio.to_thread(blobs.has, digest):
        raise Refused(404, "no letter to you names such a payload, or it is not kept any more")
    file = await asyncio.to_thread(blobs.open_path(digest).open, "rb")
    size = os.fstat(file.fileno()).st_size
    asked = re.fullmatch(r"bytes=(\d{1,18})-", range_)
    start = int(asked[1]) if asked else 0
    if asked and start >= size:
        file.close()
        raise Refused(416, f"it has {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    headers = {"Content-Length": str(size - start), "Accept-Ranges": "bytes"}
    if asked:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    house.gauges.payload_bytes.labels("down").inc(size - start)
    return Content(file, start, 206 if asked else 200, headers, BYTES)


def _extent(house: House, digest: str) -> dict[str, str]:
    whole = house.desk.blobs.has(digest)
    return {
        "Upload-Offset": str(house.desk.blobs.offset(digest)),
        "Upload-Complete": "?1" if whole else "?0",
        "Upload-Limit": f"max-size={house.max_payload_bytes}",
    }
