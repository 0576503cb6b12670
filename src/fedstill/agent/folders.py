"""What lies in the folder of every party on its own machine: its key, and certificates of the consortium.

key.pem              its private key, for its owner alone to read
certificate.pem  authority.pem  coordinator.pem
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from fedstill.errors import ConfigError, DataError, WireError
from fedstill.files import write_whole
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.roles import Role


class PartyFolder:
    """The folder; nothing is read before it is asked for.

    Every method raises ConfigError where a file is missing or wrong, with what to do.
    """

    JOIN: ClassVar[str]
    """What to do where it has not joined."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def certificate(self) -> Certificate:
        """Its certificate; of the consortium, and of nobody else than the settings name."""
        raise NotImplementedError

    @property
    def identity(self) -> Identity:
        """Its key and certificate."""
        certificate = self.certificate
        with placed(self.folder / "key.pem"):
            return Identity.from_pem(self._file("key.pem"), certificate.pem)

    @property
    def authority(self) -> bytes:
        """The certificate of the consortium's authority, PEM."""
        return self._file("authority.pem")

    @property
    def coordinator(self) -> Certificate:
        """Whose letters it follows."""
        return self._certificate("coordinator.pem", Role.COORDINATOR)

    def write(self, name: str, data: bytes, *, private: bool = False) -> None:
        """Write a file, whole or not at all; a private one only its owner can read, from the first byte on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / name, data, private=private)

    def _certificate(self, name: str, role: Role) -> Certificate:
        path = self.folder / name
        with placed(path):
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
            raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), remedy=self.JOIN) from None


@contextmanager
def placed(path: Path, remedy: str = "") -> Iterator[None]:
    """Say in errors which file it is; nobody but its owner has written it, so it is no error of the wire."""
    try:
        yield
    except (ConfigError, WireError, DataError) as error:
        if error.where.startswith(str(path.parent)):
            raise
        raise ConfigError(error.what, where=str(path), remedy=remedy or error.remedy) from None
