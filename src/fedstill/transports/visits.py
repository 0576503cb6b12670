"""What observers, auditors and operators ask a coordinator over HTTPS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from fedstill.errors import WireError
from fedstill.labels import Party
from fedstill.transports.https import HttpsLink
from fedstill.transports.roles import Role

MAX_ANSWER_BYTES = 16 * 2**20
AUDIT_S = 24 * 3600.0
"""How long the way of an audit may take."""

SILENCE_S = 300.0
"""Its database may have to be copied first, a payload packed."""

T = TypeVar("T")


class PartyStatus(msgspec.Struct):
    """How a party stands: "not invited", "invited", "joined", "revoked"; `last_seen` in Unix seconds."""

    status: str
    last_seen: float | None
    heard: bool


class Closing(msgspec.Struct):
    """How a round has ended."""

    round: int
    taught: bool
    answered: list[str]
    refused: dict[str, str]
    missing: list[str]
    groups: list[list[str]] = []


class RunStatus(msgspec.Struct):
    """How far a run is; `closes_at` in Unix seconds."""

    federation: str
    run: int
    terms: str
    phase: str
    why: str
    round: int
    rounds: int
    closes_at: float | None
    parties: dict[str, PartyStatus]
    closings: list[Closing]


class VisitorLink(HttpsLink):
    """The way of somebody who takes no part in rounds; parameters and errors are those of `HttpsLink`.

    The coordinator refuses what the role in the certificate may not ask for.
    """

    async def status(self) -> RunStatus:
        """How far the newest run is."""
        return _decoded(await self._asked("GET", "/v1/status"), RunStatus)

    async def invite(self, name: Party, role: Role, days: float, *, mqtt: bool = False) -> bytes:
        """An invite, as a file."""
        said = {"name": name, "role": str(role), "days": days, "mqtt": mqtt}
        return await self._asked("POST", "/v1/invitations", json=said)

    async def revoke(self, name: Party) -> None:
        """Have a party let in no more."""
        await self._asked("POST", "/v1/revocations", json={"name": name})

    async def audit(self, write: Callable[[bytes], object]) -> None:
        """Have all that an auditor needs written, piece by piece as it comes."""
        async with self._web.ask("GET", "/v1/audit", seconds=AUDIT_S) as response:
            pieces = response.content.iter_any()
            while True:
                async with asyncio.timeout(SILENCE_S):
                    piece = await anext(pieces, b"")
                if not piece:
                    return
                write(piece)

    async def _asked(self, method: str, path: str, **rest: Any) -> bytes:
        data = bytearray()
        async with self._web.ask(method, path, **rest) as response:
            async for piece in response.content.iter_any():
                data += piece
                if len(data) > MAX_ANSWER_BYTES:
                    raise WireError(f"the coordinator's answer is over the bound of {MAX_ANSWER_BYTES} bytes")
        return bytes(data)


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise WireError("the coordinator's answer is not what it should be", remedy="Upgrade fedstill") from None
