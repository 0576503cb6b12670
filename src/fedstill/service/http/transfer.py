"""Bodies of requests as they come, and payloads in pieces: nothing here holds a whole payload in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader

from fastapi import Response

from fedstill.errors import WireError
from fedstill.service.callers import Refused
from fedstill.service.http.gate import Gone, Receive, Scope, Send
from fedstill.service.limits import Limits
from fedstill.service.store.blobs import Blobs, Taken

PIECE_BYTES = 512 * 1024
"""What is read from or written to a payload's file at once."""


@dataclass(frozen=True)
class Body:
    """The body of a request.

    Attributes
    ----------
    receive:
        As ASGI has it.
    declared:
        What the request says of its length, as it stands in its headers; empty where it says nothing.
    limits:
        How long it may take.
    """

    receive: Receive
    declared: str
    limits: Limits

    async def pieces(self, max_bytes: int, within_s: float) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises
        ------
        Refused
            Where it is too large (before any of it is read, if it says so) or too slow.
        Gone
            Where it is cut off.
        """
        if self.declared.isascii() and self.declared.isdigit() and int(self.declared) > max_bytes:
            raise _too_large(max_bytes)
        clock = asyncio.get_running_loop().time
        end, read_bytes, more = clock() + within_s, 0, True
        while more:
            try:
                async with asyncio.timeout(min(self.limits.body_s, end - clock())):
                    message = await self.receive()
            except TimeoutError:
                raise Refused(408, "the body comes too slowly", "Send it in smaller pieces") from None
            if message["type"] == "http.disconnect":
                raise Gone
            piece = message.get("body", b"")
            read_bytes += len(piece)
            if read_bytes > max_bytes:
                raise _too_large(max_bytes)
            yield piece
            more = message.get("more_body", False)

    async def whole(self, max_bytes: int) -> bytes:
        """A small body. Raises as `pieces` does."""
        data = bytearray()
        async for piece in self.pieces(max_bytes, self.limits.body_s):
            data += piece
        return bytes(data)


async def append(
    body: Body, blobs: Blobs, digest: str, at: int, *, last: bool, max_bytes: int, count: Callable[[int], None]
) -> None:
    """Write a body behind the first `at` bytes of a payload. What came before it broke off stays.

    Parameters
    ----------
    body, blobs:
        From where to where.
    digest, at:
        Of which payload, behind how many bytes.
    last:
        Whether this is all that was missing: then the payload is checked, and is on the disk when this returns.
    max_bytes:
        Of the whole payload.
    count:
        Told how many bytes were written, each time.

    Raises
    ------
    Refused
        409 where the piece does not fit what is here, or somebody else is about to send the same payload; and as
        `Body.pieces` does.
    Gone
        Where the body is cut off.
    WireError
        Where the whole payload has another digest; it is deleted then.
    """
    present, whole = await asyncio.to_thread(lambda: (blobs.offset(digest), blobs.has(digest)))
    if at != present or whole:
        raise _misfit(f"the piece begins at byte {at}, where {present} are here", present)
    fault: Exception | None = None
    block = bytearray()
    try:
        async for piece in body.pieces(max_bytes - at, body.limits.transfer_s):
            block += piece
            if len(block) >= PIECE_BYTES:
                written, block = block, bytearray()
                await asyncio.to_thread(_write, blobs, digest, at, written)
                at += len(written)
                count(len(written))
    except (Gone, Refused) as error:
        fault = error
    await asyncio.to_thread(_write, blobs, digest, at, block, last=last and fault is None)
    count(len(block))
    if fault is not None:
        raise fault


class Content(Response):
    """What a file holds from a byte on, a piece at a time; closes it."""

    def __init__(self, file: BufferedReader, start: int, status: int, headers: Mapping[str, str], kind: str) -> None:
        super().__init__(status_code=status, headers=headers, media_type=kind)
        del self.headers["content-length"]  # of a body that is empty
        self.headers.update(headers)
        self._file = file
        self._start = start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        del scope, receive
        with self._file as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            file.seek(self._start)
            more = True
            while more:
                piece = await asyncio.to_thread(file.read, PIECE_BYTES)
                more = len(piece) == PIECE_BYTES
                await send({"type": "http.response.body", "body": piece, "more_body": more})


def _write(blobs: Blobs, digest: str, at: int, block: bytearray, *, last: bool = False) -> None:
    try:
        if block:
            blobs.append(digest, at, memoryview(block))
        if last:
            blobs.finish(digest)
    except WireError as error:
        present = blobs.offset(digest)
        if present or isinstance(error, Taken):  # who was quicker may have written nothing yet, or all of it
            raise _misfit(error.what, present) from None
        raise


def _misfit(error: str, present: int) -> Refused:
    return Refused(409, error, f"Go on from byte {present}", {"Upload-Offset": str(present)})


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, f"the body is over the bound of {max_bytes} bytes", "Send less")
