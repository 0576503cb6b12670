"""How a participant reaches its coordinator: a protocol that knows of no network in particular."""

from __future__ import annotations

from typing import Protocol

from fedstill.transports.letters import Parcel


class Link(Protocol):
    """One participant's way to its coordinator, for one run.

    Every method raises LinkRefused where the coordinator says no, so that asking again brings the same; LinkDown where
    there is no connection or it broke, so that trying again may help; and WireError where what came is not what it
    should be. A link neither reads nor checks letters: who holds the certificates does.
    """

    async def terms(self) -> bytes:
        """What all have agreed on for this run; its SHA-256 stands in every letter."""
        ...

    async def letters(self, after: int, wait_s: float) -> list[Parcel]:
        """Letters to this participant with a number above `after`, in order.

        Parameters
        ----------
        after:
            The number of the last letter that the participant has; 0 where it has none.
        wait_s:
            Where there is nothing new, wait up to so many seconds for it.

        Returns
        -------
        The parcels, not necessarily all there are; an empty list where nothing came in time.
        """
        ...

    async def fetch(self, digest: str, size: int) -> bytes:
        """The payload with this SHA-256 (64 lower-case hex digits) and size in bytes.

        Goes on where it was cut off, and checks what it got against size and digest.
        """
        ...

    async def post(self, letter: bytes, payload: bytes) -> str:
        """Give a letter and its payload to the coordinator.

        Posting the same letter twice does no harm.

        Returns
        -------
        Empty where it was taken; it is then on the coordinator's disk. Otherwise why it was not used.
        """
        ...

    async def close(self) -> None:
        """End the connection; the link is of no use afterwards. Closing twice does no harm."""
        ...
