"""A coordinator's desk that keeps everything in memory, and a consortium whose parties have certificates in files."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from fedstill.errors import LinkRefused, WireError
from fedstill.labels import Party
from fedstill.service.store.blobs import Blobs
from fedstill.transports.authority import Authority
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import (
    COORDINATOR,
    INLINE_BYTES,
    Header,
    Parcel,
    check_payload,
    digest_of,
    read,
    write,
)
from fedstill.transports.roles import Role

TERMS = b"the terms of a test"


class Papers(NamedTuple):
    """Where a party's certificate and key lie, and what it signs with."""

    certificate: Path
    key: Path
    identity: Identity

    @property
    def fingerprint(self) -> str:
        """Of the certificate."""
        return Certificate.from_pem(self.certificate.read_bytes()).fingerprint


class Consortium:
    """An authority, and papers for whoever needs some.

    Parameters
    ----------
    folder:
        For the papers.
    name:
        Of the consortium.
    """

    def __init__(self, folder: Path, name: str = "test") -> None:
        self.folder = folder
        self.begun = datetime.now(UTC) - timedelta(days=30)
        self.authority = Authority.create(name, self.begun)

    def papers(self, name: Party, role: Role = Role.PARTICIPANT, days: int = 60) -> Papers:
        """A key and a certificate, from 30 days ago on; one for under 30 days has ended."""
        identity = Identity.create("p256" if role is Role.SERVER else "ed25519")
        addresses = ("127.0.0.1", "localhost") if role is Role.SERVER else ()
        request = identity.request_pem(name)
        pem = self.authority.certify(request, name, role, self.begun, days, addresses)
        stem = f"{self.authority.consortium}-{name}-{role}-{days}"
        papers = Papers(self.folder / f"{stem}.pem", self.folder / f"{stem}.key", identity)
        papers.certificate.write_bytes(pem)
        papers.key.write_bytes(identity.key_pem)
        return papers


class MemoryDesk:
    """Fulfils `service.clerk.Counter`; a test looks at its fields and changes them.

    Attributes
    ----------
    members:
        Who has joined: fingerprint to name and role.
    tokens:
        Open invitations.
    batches:
        What `take` was given, call by call.
    threads:
        Names of the threads that called.
    fault:
        Raised by every call, where there is one.
    free:
        While it is not set, `take` does not return.
    busy:
        Set when `take` has begun.
    asked:
        Released once for every call of `letters`.
    """

    def __init__(
        self,
        consortium: Consortium,
        blobs: Blobs,
        announce: Callable[[Iterable[Party]], None] = lambda _: None,
    ) -> None:
        self.terms = TERMS
        self.blobs = blobs
        self.members: dict[str, tuple[Party, Role]] = {}
        self.tokens: dict[str, tuple[Party, Role]] = {}
        self.batches: list[list[tuple[Party, bytes, bytes | None]]] = []
        self.threads: set[str] = set()
        self.fault: Exception | None = None
        self.free, self.busy, self.asked = threading.Event(), threading.Event(), threading.Semaphore(0)
        self.free.set()
        self._consortium = consortium
        self._announce = announce
        self._signer = Identity.create()
        self._mail: defaultdict[Party, list[Parcel]] = defaultdict(list)
        self._named: set[tuple[Party, str]] = set()

    def join(self, name: Party, role: Role = Role.PARTICIPANT) -> Papers:
        """Make a party a member."""
        papers = self._consortium.papers(name, role)
        self.members[papers.fingerprint] = (name, role)
        return papers

    def send(self, to: Party, *payloads: bytes) -> list[str]:
        """Write letters to a party and announce them; returns the digests of their payloads."""
        digests = []
        for payload in payloads:
            digest = digest_of(payload)
            letter = self.letter(COORDINATOR, to, 1 + len(self._mail[to]), payload, self._signer)
            inline = len(payload) <= INLINE_BYTES
            if not inline:
                self.blobs.put(payload)
            self._mail[to].append(Parcel(letter, payload if inline else None))
            self._named.add((to, digest))
            digests.append(digest)
        self._announce([to])
        return digests

    def letter(self, sender: Party, to: Party, number: int, payload: bytes, signer: Identity) -> bytes:
        """A signed letter."""
        header = Header(digest_of(TERMS), sender, to, number, "frame", digest_of(payload), len(payload), 0.0)
        return write(header, signer.sign).to_bytes()

    def who(self, fingerprint: str) -> tuple[Party, Role] | None:
        """See `Counter`."""
        self._called()
        return self.members.get(fingerprint)

    def enrol(self, token: str, request_pem: bytes) -> tuple[bytes, bytes]:
        """See `Counter`."""
        self._called()
        if token not in self.tokens:
            raise LinkRefused("no such invitation", remedy="Ask the operator for one")
        name, role = self.tokens[token]
        certificate = self._certify(name, role, request_pem)
        del self.tokens[token]
        return certificate, self._consortium.authority.cert_pem

    def renew(self, name: Party, request_pem: bytes) -> bytes:
        """See `Counter`."""
        self._called()
        return self._certify(name, dict(self.members.values())[name], request_pem)

    def take(self, batch: Sequence[tuple[Party, bytes, bytes | None]]) -> list[str]:
        """See `Counter`; a letter counts where its payload is the one that it names."""
        self._called()
        self.batches.append(list(batch))
        self.busy.set()
        self.free.wait()
        return [self._verdict(letter, payload) for _, letter, payload in batch]

    def letters(self, party: Party, after: int) -> list[Parcel]:
        """See `Counter`."""
        self.asked.release()
        self._called()
        return self._mail[party][after:]

    def reads(self, party: Party, digest: str) -> bool:
        """See `Counter`."""
        self._called()
        return (party, digest) in self._named

    def seen(self, party: Party) -> None:
        """See `Counter`."""
        del party
        self._called()

    def status(self) -> dict[str, Any]:
        """See `Counter`."""
        self._called()
        return {"members": sorted(name for name, _ in self.members.values())}

    def _verdict(self, letter: bytes, payload: bytes | None) -> str:
        try:
            header = read(letter).header
            check_payload(header, self.blobs.view(header.digest) if payload is None else payload)
        except WireError as error:
            return str(error)
        return ""

    def _certify(self, name: Party, role: Role, request_pem: bytes) -> bytes:
        pem = self._consortium.authority.certify(request_pem, name, role, self._consortium.begun, 60)
        self.members[Certificate.from_pem(pem).fingerprint] = (name, role)
        return pem

    def _called(self) -> None:
        self.threads.add(threading.current_thread().name)
        if self.fault is not None:
            raise self.fault
