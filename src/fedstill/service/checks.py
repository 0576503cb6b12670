"""What `fedstill doctor` finds in an operator's folder; and what a check is."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from fedstill.errors import FedstillError
from fedstill.service.consortium import Consortium
from fedstill.service.store.chain import verify_chain
from fedstill.transports.certificates import Certificate

WARN_DAYS = 30
"""A certificate that ends sooner is worth a word."""

LEAST_FREE_BYTES = 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    what:
        The thing.
    good:
        Whether it is as it should be.
    found:
        What was found.
    remedy:
        What to do; empty where it is good.
    """

    what: str
    good: bool
    found: str
    remedy: str = ""


def attempt(what: str, look: Callable[[], str]) -> Check:
    """A check that is good unless looking raises."""
    try:
        return Check(what, True, look())
    except FedstillError as error:
        return Check(what, False, f"{error.where}: {error.what}" if error.where else error.what, error.remedy)
    except OSError as error:
        return Check(what, False, f"{error.filename or ''}: {error.strerror or error}", "Look at the disk")


def private(path: Path) -> Check:
    """Whether only its owner can read a key."""
    what = f"{path.name} is private"
    if os.name != "posix" or not path.exists():
        return Check(
            what, path.exists(), "there" if path.exists() else "missing", "" if path.exists() else "Restore it"
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    good = not mode & 0o077
    return Check(what, good, f"mode {mode:o}", "" if good else f"Run: chmod 600 {path}")


def certificate(what: str, pem: bytes, now: datetime, remedy: str) -> Check:
    """Whether a certificate is valid, and for long enough."""
    try:
        found = Certificate.from_pem(pem)
    except FedstillError as error:
        return Check(what, False, str(error), remedy)
    days = (found.ends - now).days
    good = found.valid(now) and days >= WARN_DAYS
    return Check(what, good, f"ends {found.ends:%Y-%m-%d}, in {days} days", "" if good else remedy)


def free_disk(folder: Path) -> Check:
    """Whether there is room."""
    free = shutil.disk_usage(folder).free
    good = free >= LEAST_FREE_BYTES
    return Check("disk", good, f"{free / 2**30:.1f} GiB free", "" if good else "Free some space")


def check_consortium(folder: Path) -> Iterator[Check]:
    """Look at a consortium's folder, without changing it."""
    now = datetime.now(UTC)
    for key in ("authority.key", "coordinator.key", "server.key"):
        yield private(folder / key)
    opened: list[Consortium] = []

    def look() -> str:
        opened.append(Consortium(folder))
        return f"{opened[0].settings.name} at {opened[0].settings.address}"

    yield attempt("settings, keys and database", look)
    yield free_disk(folder)
    if not opened:
        return
    consortium = opened[0]
    for name in ("coordinator", "server"):
        pem = (folder / f"{name}.pem").read_bytes()
        yield certificate(f"{name}.pem", pem, now, "Run: fedstill coordinator renew FOLDER, then restart serve")
    bad = verify_chain(consortium.store.records())
    remedy = "" if bad is None else "Restore a backup, and compare with fedstill audit verify"
    yield Check("chain of events", bad is None, "whole" if bad is None else f"breaks at event {bad}", remedy)
    yield _serving(consortium)
    for party in consortium.store.parties():
        if party.certificate:
            remedy = "Ask it to run; its certificate renews itself, or invite it again"
            yield certificate(f"certificate of {party.name}", party.certificate.encode(), now, remedy)
    consortium.close()


def _serving(consortium: Consortium) -> Check:
    """Whether somebody serves; or else whether the port could be had."""
    port = urlsplit(consortium.settings.address).port or 443
    lease = consortium.store.lease()
    if lease.owner:
        silent = time.time() - lease.beat
        good = silent < 10
        remedy = "" if good else "It was killed, or its clock is wrong: start serve again"
        return Check("serving", good, f"{lease.owner}, last heard of {silent:.0f} s ago", remedy)
    try:
        socket.create_server((consortium.settings.listen, port)).close()
    except OSError as error:
        return Check("port", False, f"{port}: {error.strerror}", "Stop what uses it, or change address")
    return Check("serving", True, f"nobody now; port {port} is free")
