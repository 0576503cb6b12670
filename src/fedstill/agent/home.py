"""A participant's folder on its own machine.

participant.toml     its name, its coordinator, its data and learner, its rules: the owner's to change
key.pem              its private key, for its owner alone to read
certificate.pem  authority.pem  coordinator.pem
terms.json           the terms that its owner has accepted
journal.db  payloads/  lock
models/1/  report/1/ what it keeps of run 1, and how good that is
dry-run/  waiting/   what would leave, for its owner to look at
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fedstill.agent.limits import Hours, Rules
from fedstill.agreement import Terms, read_terms
from fedstill.assemble import read_member
from fedstill.config import ParticipantTable, convert, plain, read_toml
from fedstill.errors import ConfigError, DataError, WireError
from fedstill.files import write_whole
from fedstill.members import Member
from fedstill.service.store.blobs import Blobs
from fedstill.tasks.base import Task
from fedstill.transports.identity import Certificate, Identity, Role
from fedstill.transports.letters import digest_of

MAX_PAYLOAD_BYTES = 256 * 2**20
JOIN = "Run `fedstill participant join` first"


@dataclass(frozen=True)
class Settings:
    """`participant.toml`: the coordinator's address, the participant with its data, and what it may do."""

    address: str
    participant: ParticipantTable
    rules: Rules


class _File(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    participant: dict[str, Any]
    work: dict[str, Any] = {}


@dataclass(frozen=True)
class Accepted:
    """Terms that the owner has accepted: their bytes, what these say, and their SHA-256."""

    data: bytes
    terms: Terms
    digest: str


class Home:
    """The folder; nothing is read before it is asked for.

    Every method raises ConfigError where a file is missing or wrong, with what to do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def settings(self) -> Settings:
        """What the owner has written."""
        path = self.folder / "participant.toml"
        file: _File = convert(plain(read_toml(path, JOIN)), _File, str(path))
        participant: ParticipantTable = convert(file.participant, ParticipantTable, f"{path}, participant")
        rules: Rules = convert(file.work, Rules, f"{path}, work")
        Hours.read(rules.hours, f"{path}, work, hours")
        return Settings(file.address, participant, rules)

    @property
    def identity(self) -> Identity:
        """Its key and certificate."""
        certificate = self.certificate
        with _in(self.folder / "key.pem"):
            return Identity.from_pem(self._file("key.pem"), certificate.pem)

    @property
    def certificate(self) -> Certificate:
        """Its certificate; of the consortium, and of nobody else than the settings name."""
        found = self._certificate("certificate.pem", Role.PARTICIPANT)
        name = self.settings.participant.name
        if found.name != name:
            raise ConfigError(
                f"the certificate is about '{found.name}', and participant.toml about '{name}'",
                where=str(self.folder),
                remedy=f'Write name = "{found.name}"; a file of many names its site with site = ...',
            )
        return found

    @property
    def authority(self) -> bytes:
        """The certificate of the consortium's authority, PEM."""
        return self._file("authority.pem")

    @property
    def coordinator(self) -> Certificate:
        """Whose letters it follows."""
        return self._certificate("coordinator.pem", Role.COORDINATOR)

    @property
    def accepted(self) -> bytes | None:
        """The terms that its owner has accepted; None before."""
        return self._file("terms.json") if (self.folder / "terms.json").exists() else None

    @property
    def standing_on(self) -> Accepted | None:
        """The same, read."""
        data = self.accepted
        if data is None:
            return None
        with _in(
            self.folder / "terms.json", "Look at the terms and accept them again: fedstill participant terms --accept"
        ):
            return Accepted(data, read_terms(data), digest_of(data))

    @property
    def payloads(self) -> Path:
        """The folder of its payloads."""
        return self.folder / "payloads"

    @property
    def blobs(self) -> Blobs:
        """Its payloads; makes their folder."""
        return Blobs(self.payloads, MAX_PAYLOAD_BYTES)

    @property
    def journal_path(self) -> Path:
        """Its journal."""
        return self.folder / "journal.db"

    def member(self, task: Task) -> Member:
        """The enterprise with its data. Raises DataError, too."""
        return read_member(self.settings.participant, task, self.folder)

    def write(self, name: str, data: bytes, *, private: bool = False) -> None:
        """Write a file, whole or not at all; a private one only its owner can read, from the first byte on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / name, data, private=private)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only process that takes part from this folder. Raises ConfigError where another one does."""
        _ = self.settings  # which says what is wrong, where this is no participant's folder
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _try_lock(descriptor):
                raise ConfigError(
                    "another process takes part from this folder already",
                    where=str(self.folder),
                    remedy="Let it work; `fedstill participant status` says where it stands",
                )
            yield
        finally:
            os.close(descriptor)

    def _certificate(self, name: str, role: Role) -> Certificate:
        path = self.folder / name
        with _in(path):
            found = Certificate.from_pem(self._file(name))
            if not found.issued_by(self.authority) or found.role is not role:
                raise ConfigError(
                    f"this is no {role}'s certificate of this consortium",
                    where=str(path),
                    remedy="Put the file back that joining wrote, or ask the operator for a new invitation",
                )
        return found

    def _file(self, name: str) -> bytes:
        path = self.folder / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), remedy=JOIN) from None


@contextmanager
def _in(path: Path, remedy: str = "") -> Iterator[None]:
    """Say in errors which file it is; nobody but its owner has written it, so it is no error of the wire."""
    try:
        yield
    except (ConfigError, WireError, DataError) as error:
        if error.where.startswith(str(path.parent)):
            raise
        raise ConfigError(error.what, where=str(path), remedy=remedy or error.remedy) from None


if sys.platform == "win32":  # there nothing keeps two processes apart

    def _try_lock(descriptor: int) -> bool:
        del descriptor
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        """Lock a file until it is closed; False where it is locked."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
