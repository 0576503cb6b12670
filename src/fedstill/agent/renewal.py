"""A link whose certificate never gets old: it asks for the next one while it works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from fedstill.agent.folders import PartyFolder
from fedstill.errors import FedstillError, WireError
from fedstill.transports.certificates import Certificate
from fedstill.transports.letters import Parcel
from fedstill.transports.links import Link

LOG = logging.getLogger(__name__)

AGAIN = timedelta(hours=1)
"""Between two attempts."""


class Renewable(Link, Protocol):
    """A link on which a certificate can be asked for."""

    async def renew(self, request_pem: bytes) -> bytes:
        """A new certificate (PEM), for the key that the present one is about."""
        ...


class RenewingLink:
    """Renews the certificate in a participant's folder once less than a third of its life is left.

    Where that fails, the work goes on, the log warns, and it is tried again an hour later.

    Parameters
    ----------
    folder:
        The folder.
    connect:
        Opens a link with the certificate that lies there.
    clock:
        Unix seconds.
    """

    def __init__(self, folder: PartyFolder, connect: Callable[[], Renewable], clock: Callable[[], float]) -> None:
        self._folder = folder
        self._connect = connect
        self._clock = clock
        self._link = connect()
        self._not_before = datetime.min.replace(tzinfo=UTC)
        self._certificate = folder.certificate

    async def terms(self) -> bytes:
        """See `links.Link.terms`."""
        await self._renew_in_time()
        return await self._link.terms()

    async def letters(self, after: int, wait_s: float) -> list[Parcel]:
        """See `links.Link.letters`."""
        await self._renew_in_time()
        return await self._link.letters(after, wait_s)

    async def fetch(self, digest: str, size: int) -> bytes:
        """See `links.Link.fetch`."""
        return await self._link.fetch(digest, size)

    async def post(self, letter: bytes, payload: bytes) -> str:
        """See `links.Link.post`."""
        return await self._link.post(letter, payload)

    async def close(self) -> None:
        """See `links.Link.close`."""
        await self._link.close()

    async def _renew_in_time(self) -> None:
        now, old = datetime.fromtimestamp(self._clock(), UTC), self._certificate
        if not due(old, now) or now < self._not_before:
            return
        self._not_before = now + AGAIN
        try:
            pem = await self._link.renew(self._folder.identity.request_pem(old.name))
            renewed = continued(pem, old, self._folder.authority)
            self._folder.write("certificate.pem", pem)
        except (FedstillError, OSError) as error:
            told = {"why": str(error), "days_left": round((old.ends - now) / timedelta(days=1), 1)}
            LOG.warning("the certificate could not be renewed", extra=told)
            return
        LOG.info("certificate renewed", extra={"ends": renewed.ends.isoformat()})
        before, self._link = self._link, self._connect()
        self._certificate = renewed
        await before.close()


def due(certificate: Certificate, now: datetime) -> bool:
    """Whether less than a third of its life is left."""
    return certificate.ends - now < (certificate.ends - certificate.starts) / 3


def continued(pem: bytes, old: Certificate, authority: bytes) -> Certificate:
    """A new certificate, that says of the same key what the old one said. Raises WireError."""
    new = Certificate.from_pem(pem)
    same = (new.name, new.role, new.public_key) == (old.name, old.role, old.public_key)
    if not same or not new.issued_by(authority) or new.ends <= old.ends:
        raise WireError("the certificate that came does not go on from the present one")
    return new
