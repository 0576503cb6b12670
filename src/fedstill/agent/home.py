"""A participant's folder on its own machine.

participant.toml     its name, its coordinator, its data and learner, its rules: the owner's to change
key.pem              its private key, for its owner alone to read
certificate.pem  authority.pem  coordinator.pem
terms.json           the terms that its owner has accepted
journal.db  payloads/  lock
ledger.db            what was paid, of its owner's privacy budget, for all that has left
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

from fedstill.agent.folders import PartyFolder, placed
from fedstill.agent.limits import Hours, Rules
from fedstill.agreement import Terms, read_terms
from fedstill.assemble import read_member
from fedstill.config import ParticipantTable, convert, plain, read_toml
from fedstill.errors import ConfigError
from fedstill.members import Member
from fedstill.privacy.durable import FILE
from fedstill.service.store.blobs import Blobs
from fedstill.tasks.base import Task
from fedstill.transports.certificates import Certificate
from fedstill.transports.letters import digest_of
from fedstill.transports.roles import Role

MAX_PAYLOAD_BYTES = 256 * 2**20


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


class Home(PartyFolder):
    """A participant's folder; see `PartyFolder`."""

    JOIN = "Run `fedstill participant join` first"

    @property
    def settings(self) -> Settings:
        """What the owner has written."""
        path = self.folder / "participant.toml"
        file: _File = convert(plain(read_toml(path, self.JOIN)), _File, str(path))
        participant: ParticipantTable = convert(file.participant, ParticipantTable, f"{path}, participant")
        rules: Rules = convert(file.work, Rules, f"{path}, work")
        Hours.read(rules.hours, f"{path}, work, hours")
        return Settings(file.address, participant, rules)

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
    def accepted(self) -> bytes | None:
        """The terms that its owner has accepted; None before."""
        return self._file("terms.json") if (self.folder / "terms.json").exists() else None

    @property
    def standing_on(self) -> Accepted | None:
        """The same, read."""
        data = self.accepted
        if data is None:
            return None
        with placed(
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

    @property
    def ledger_path(self) -> Path:
        """Its privacy ledger."""
        return self.folder / FILE

    def member(self, task: Task) -> Member:
        """The enterprise with its data. Raises DataError, too."""
        return read_member(self.settings.participant, task, self.folder)

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
