"""How a payload comes to its end over a link that breaks: the same for every way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fedstill.errors import LinkDown

MAX_TERMS_BYTES = 16 * 2**20

HOPED_BYTES = 4 * 2**20
"""A payload up to this size is sent without asking what is there of it."""


@dataclass(frozen=True)
class Persistence:
    """How long to wait for a connection, and how often to try again: of every way.

    Attributes
    ----------
    connect_s:
        For a connection.
    attempts:
        In a row that move nothing of a payload; then the link is down.
    pause_s:
        After the first of these; twice as long after each next.
    """

    connect_s: float = 15.0
    attempts: int = 5
    pause_s: float = 0.5


async def carry_through(
    attempt: Callable[[], Awaitable[bool]],
    moved: Callable[[], int],
    persistence: Persistence,
    closed: Callable[[], bool] = lambda: False,
) -> None:
    """Attempt until it is done.

    Parameters
    ----------
    attempt:
        Goes on with a transfer; returns whether it is done.
    moved:
        How much has been moved so far; what rises is progress.
    persistence:
        How often to attempt.
    closed:
        Whether the link is, so that trying again is of no use.

    Raises
    ------
    LinkDown
        After so many attempts in a row that moved nothing.
    """
    best, in_vain = moved(), 0
    while True:
        fault = LinkDown("the transfer of a payload does not come to its end", remedy="Try again later")
        try:
            if await attempt():
                return
        except LinkDown as error:
            fault = error
        in_vain = 0 if moved() > best else in_vain + 1
        best = max(best, moved())
        if in_vain >= persistence.attempts or closed():
            raise fault
        if in_vain:
            await asyncio.sleep(persistence.pause_s * 2 ** (in_vain - 1))
