"""A participant's folder on its own machine.

participant.toml     its name, its coordinator, its data and learner: the owner's to change
key.pem              its private key, for its owner alone to read
certificate.pem  authority.pem  coordinator.pem
terms.json           the terms that its owner has accepted
journal.db  payloads/
models/1/  report/1/ what it keeps of run 1, and how good that is
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from fedstill.assemble import read_member
from fedstill.config import ParticipantTable, convert, plain, read_toml
from fedstill.errors import ConfigError
from fedstill.files import write_whole
from fedstill.members import Member
from fedstill.service.blobs import Blobs
from fedstill.tasks.base import Task
from fedstill.transports.identity import Certificate, Identity

MAX_PAYLOAD_BYTES = 256 * 2**20


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`participant.toml`."""

    address: str
    participant: ParticipantTable


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
        raw = read_toml(path, "Run `fedstill participant join` first")
        settings: Settings = convert(plain(raw), Settings, str(path))
        return settings

    @property
    def identity(self) -> Identity:
        """Its key and certificate."""
        return Identity.from_pem(self._file("key.pem"), self._file("certificate.pem"))

    @property
    def authority(self) -> bytes:
        """The certificate of the consortium's authority, PEM."""
        return self._file("authority.pem")

    @property
    def coordinator(self) -> Certificate:
        """Whose letters it follows."""
        found = Certificate.from_pem(self._file("coordinator.pem"))
        if not found.issued_by(self.authority):
            raise ConfigError(
                "the coordinator's certificate is not of this consortium",
                where=str(self.folder / "coordinator.pem"),
                remedy="Ask the operator for a new invitation",
            )
        return found

    @property
    def accepted(self) -> bytes | None:
        """The terms that its owner has accepted; None before."""
        path = self.folder / "terms.json"
        return path.read_bytes() if path.exists() else None

    @property
    def blobs(self) -> Blobs:
        """Its payloads."""
        return Blobs(self.folder / "payloads", MAX_PAYLOAD_BYTES)

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

    def _file(self, name: str) -> bytes:
        path = self.folder / name
        try:
            return path.read_bytes()
        except OSError as error:
            remedy = "Run `fedstill participant join` first"
            raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from None
