"""Pieces of payloads that come in any order, written in the order of the payload."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

from fedstill.errors import WireError
from fedstill.service.store.blobs import Blobs
from fedstill.transports.mqtt.frames import Extent, Piece

HOLD_S = 5.0
"""How long a piece waits for those before it, which may have been lost."""


class _Upload:
    """What has come of one payload and is not written yet."""

    def __init__(self) -> None:
        self.gate = asyncio.Condition()
        self.waiting: list[Piece] = []
        self.extent = Extent(0, whole=False)


class Uploads:
    """Puts payloads together.

    Parameters
    ----------
    blobs:
        Where they shall lie.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._uploads: WeakValueDictionary[str, _Upload] = WeakValueDictionary()

    def extent(self, digest: str) -> Extent:
        """How much of a payload is there. Reads the disk."""
        whole = self._blobs.has(digest)  # first: what becomes whole in between is not short then
        return Extent(self._blobs.offset(digest), whole)

    async def add(self, piece: Piece) -> Extent:
        """Write a piece, once those before it are there, or give it up after a while.

        Returns
        -------
        How much is there then. The last piece is answered once the whole payload has been checked, and is on the disk.

        Raises
        ------
        WireError
            Where the piece reaches over the end of its payload.
        """
        if piece.offset + len(piece.data) > piece.size:
            raise WireError("a piece reaches over the end of its payload", where=f"payload {piece.digest}")
        upload = self._uploads.setdefault(piece.digest, _Upload())
        upload.waiting.append(piece)
        until = asyncio.get_running_loop().time() + HOLD_S
        try:
            async with upload.gate:
                await self._write(upload, piece)
                with suppress(TimeoutError):
                    while _waits(upload, piece):
                        async with asyncio.timeout_at(until):
                            await upload.gate.wait()
                        await self._write(upload, piece)
                upload.gate.notify_all()
        finally:
            upload.waiting = [other for other in upload.waiting if other is not piece]
        return upload.extent

    async def _write(self, upload: _Upload, piece: Piece) -> None:
        """Write what fits of all that waits by now: while one is written, others come."""
        if _waits(upload, piece):
            pieces, upload.waiting = upload.waiting, []
            upload.extent, later = await asyncio.to_thread(self._append, piece.digest, pieces)
            upload.waiting += later

    def _append(self, digest: str, pieces: Sequence[Piece]) -> tuple[Extent, list[Piece]]:
        """Add pieces to a payload; returns how much is there then, and which have to wait for others."""
        before = self.extent(digest)
        if before.whole:
            return before, []
        present, fresh, sizes, later = before.present, [], set(), []
        for piece in sorted(pieces, key=lambda piece: piece.offset):
            if piece.offset > present:
                later.append(piece)
                continue
            fresh.append(memoryview(piece.data)[present - piece.offset :])
            sizes.add(piece.size)
            present = max(present, piece.offset + len(piece.data))
        with suppress(WireError):  # somebody else may send the same payload, with whatever else in it
            if present > before.present:
                self._blobs.append(digest, before.present, b"".join(fresh))
            if present in sizes:
                self._blobs.finish(digest)
        return self.extent(digest), later


def _waits(upload: _Upload, piece: Piece) -> bool:
    return any(other is piece for other in upload.waiting)
