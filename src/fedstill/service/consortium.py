"""An operator's folder: what makes a consortium, and how it comes to be.

consortium.toml      address, database, limits: the operator's to change
authority.pem  authority.key  coordinator.pem  coordinator.key  server.pem  server.key
store.db  payloads/  invites/
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from fedstill.agreement import read_terms
from fedstill.config import convert, read_toml
from fedstill.errors import ConfigError
from fedstill.files import write_whole
from fedstill.service.invites import FORMAT, Invite, file_name, invite_path
from fedstill.service.limits import Limits
from fedstill.service.registry import CERTIFICATE_DAYS, Registry
from fedstill.service.store.blobs import Blobs
from fedstill.service.store.store import Store
from fedstill.service.store.tables import RunRow
from fedstill.transports.authority import Authority
from fedstill.transports.certificates import checked_name
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR
from fedstill.transports.roles import Role


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`consortium.toml`.

    Attributes
    ----------
    name:
        Of the consortium.
    address:
        Where participants find it: https://host:port
    listen:
        The address of this machine to listen at; the port is that of `address`.
    database:
        URL; "" is store.db in the folder.
    broker:
        Where the consortium meets over MQTT as well, `mqtts://host:port/name?enrol=port`; "" is nowhere.
    limits:
        See `service.limits.Limits`.
    """

    name: str
    address: str
    listen: str = "0.0.0.0"  # noqa: S104 - a server is there to be reached
    database: str = ""
    broker: str = ""
    limits: Limits = msgspec.field(default_factory=Limits)


class Consortium:
    """The folder of a consortium that has been founded.

    Raises
    ------
    ConfigError
        Where the folder holds none, or a file of it is missing or wrong.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        raw = read_toml(folder / "consortium.toml", "Run `fedstill coordinator init` first")
        self.settings: Settings = convert(raw, Settings, str(folder / "consortium.toml"))
        self.authority = Authority.from_pem(self._file("authority.key"), self._file("authority.pem"))
        self.identity = Identity.from_pem(self._file("coordinator.key"), self._file("coordinator.pem"))
        self.blobs = Blobs(folder / "payloads", self.settings.limits.max_payload_bytes)
        self.store = Store.open(self.settings.database or f"sqlite:///{folder / 'store.db'}")
        self.registry = Registry(self.store, self.authority, time.time)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def invite(self, name: str, days: float, role: Role = Role.PARTICIPANT, *, mqtt: bool = False) -> Path:
        """Write an invite, for a participant to come over HTTPS or MQTT, for others over HTTPS; returns the file.

        Raises
        ------
        ConfigError
            See `invitation`.
        """
        invite = self.invitation(name, days, role, mqtt=mqtt)
        path = invite_path(self.folder, name)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, invite.to_bytes(), private=True)
        return path

    def invitation(
        self, name: str, days: float, role: Role = Role.PARTICIPANT, *, mqtt: bool = False, by: str = ""
    ) -> Invite:
        """A way in for a party.

        Parameters
        ----------
        name, role:
            Of whom.
        days:
            Until it ends.
        mqtt:
            Over MQTT, where participants alone have anything to do.
        by:
            The operator who has asked for it from its own machine; empty: somebody at this one.

        Raises
        ------
        ConfigError
            Where there is no broker, no such participant, or the name is taken or none.
        """
        address = self.settings.broker if mqtt else self.settings.address
        if not address:
            raise ConfigError(
                "no broker is set", where="broker", remedy="Run `fedstill coordinator broker`, or set it by hand"
            )
        self._check_invited(name, role, mqtt=mqtt)
        token = self.registry.invite(name, role, days, by)
        return Invite(
            format=FORMAT,
            federation=self.settings.name,
            name=name,
            address=address,
            token=token,
            expires=time.time() + 86_400 * days,
            authority=self.authority.cert_pem.decode(),
            coordinator=self._file("coordinator.pem").decode(),
            role=role,
        )

    def _check_invited(self, name: str, role: Role, *, mqtt: bool) -> None:
        """Participants are those of the newest run; nobody else can have the name of one."""
        run = self.store.runs()[-1:]
        named = {party for one in run for party in _parties(one)}
        file_name(name)
        if role is Role.PARTICIPANT:
            if name not in named:
                raise ConfigError(
                    f"'{name}' is not named in the federation file",
                    where="participants",
                    remedy=f"Named there are: {', '.join(sorted(named))}",
                )
            return
        if mqtt:
            raise ConfigError(f"an {role} comes over HTTPS", where="--mqtt", remedy="Leave it out")
        if checked_name(name) == COORDINATOR or name in named:
            raise ConfigError(f"'{name}' takes part itself", where="name", remedy=f"Choose another for the {role}")

    def renew(self) -> None:
        """Give the coordinator and its server new certificates for the keys that they have."""
        server = Identity.from_pem(self._file("server.key"))
        host = checked_address(self.settings.address)
        made = certificates_of(self.authority, self.identity, server, host, datetime.now(UTC))
        for key, pem in made.items():
            write_whole(self.folder / f"{key}.pem", pem)

    def _file(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot be read: {error.strerror}",
                where=str(self.folder / name),
                remedy="Restore it from a backup of this folder",
            ) from None


def certificates_of(
    authority: Authority, coordinator: Identity, server: Identity, host: str, now: datetime
) -> dict[str, bytes]:
    """Certificates of who signs letters, and of the TLS server, which end after a year."""
    asked = {"coordinator": (coordinator, Role.COORDINATOR, []), "server": (server, Role.SERVER, [host])}
    return {
        key: authority.certify(
            one.request_pem(COORDINATOR), COORDINATOR, role, now, CERTIFICATE_DAYS, addresses=addresses
        )
        for key, (one, role, addresses) in asked.items()
    }


def checked_address(address: str) -> str:
    """The host of https://host:port. Raises ConfigError."""
    try:
        parts = urlsplit(address)
        good = parts.scheme == "https" and parts.hostname and parts.port and not parts.path.strip("/")
    except ValueError:
        good = False
    if not good or parts.hostname is None:
        raise ConfigError(
            f"'{address}' is no address", where="--address", remedy="Write it as https://coordinator.example.org:8443"
        )
    return parts.hostname


def _parties(run: RunRow) -> tuple[str, ...]:
    return read_terms(run.terms).parties
