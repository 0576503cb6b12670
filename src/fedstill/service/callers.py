"""Who asks a coordinator for something, and what is said where it cannot have that: the same over HTTPS and MQTT."""

from __future__ import annotations

import errno
import logging
import math
from dataclasses import dataclass

from fedstill.errors import FedstillError, LinkRefused, RunError, WireError
from fedstill.labels import Party
from fedstill.service.clerk import Clerk
from fedstill.transports.roles import Role

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who asks: a party of this federation, by its certificate."""

    name: Party
    role: Role
    fingerprint: str


class Refused(Exception):  # noqa: N818 - says what happened
    """A request that gets no for an answer.

    Parameters
    ----------
    status:
        Of HTTP.
    error, remedy:
        What is wrong, and what whoever asks can do.
    headers:
        To go with the answer.
    """

    def __init__(self, status: int, error: str, remedy: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.remedy = remedy
        self.headers = headers or {}


async def recognise(clerk: Clerk, fingerprint: str) -> Caller:
    """Who has this certificate. Raises Refused where it is nobody who has joined."""
    found = await clerk.who(fingerprint)
    if found is None:
        raise Refused(
            403, "this certificate is of nobody who has joined, or was revoked", "Ask the operator for an invitation"
        )
    return Caller(*found, fingerprint)


def too_often(wait_s: float) -> Refused:
    """The answer to who asks too often, and may again in so many seconds."""
    seconds = str(math.ceil(wait_s))
    return Refused(429, "too many requests", f"Try again in {seconds} s", {"Retry-After": seconds})


def begin_upload(clerk: Clerk, caller: Caller, digest: str, size: int) -> None:
    """Note that somebody uploads so much of a payload. Raises Refused where no letter of it names what is here."""
    uploaded_bytes = clerk.pending.begin(caller.name, digest, size)
    if uploaded_bytes:
        raise Refused(
            413,
            f"you have uploaded {uploaded_bytes} bytes that no letter of yours has named",
            "Post the letters about them first, or ask the operator for a higher bound (pending_bytes)",
        )


def told(fault: Exception) -> Refused:
    """What is said about a fault to whoever asked; what it says of places in here is for the log."""
    match fault:
        case Refused():
            return fault
        case LinkRefused():
            return Refused(403, _placed(fault), fault.remedy)
        case WireError():
            return Refused(422, _placed(fault), fault.remedy)
        case RunError():
            # A store that another process leads, or that fails: the next coordinator may do better.
            LOG.warning("not ready: %s", fault)
            return Refused(503, "the coordinator cannot work right now", "Try again", {"Retry-After": "1"})
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            LOG.error("the disk is full: %s", fault)
            return Refused(507, "the coordinator's disk is full", "Try again later")
        case _:
            LOG.error("a request failed", exc_info=fault)
            return Refused(500, "a fault inside the coordinator", "Its operator finds the details in its log")


def _placed(fault: FedstillError) -> str:
    return f"{fault.where}: {fault.what}" if fault.where else fault.what
