"""The file that an operator gives to whoever shall come in: a way in, once."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fedstill.errors import ConfigError
from fedstill.service.rights import MEMBERS
from fedstill.transports.roles import Role

FORMAT = 1


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the coordinator is, how to know it, and a token that lets one party join once.

    Attributes
    ----------
    format:
        Of this file.
    federation, name:
        Of what, and as whom.
    address:
        https://host:port, or that of a broker.
    token, expires:
        Lets in once, until this Unix time.
    authority, coordinator:
        Certificates, PEM: of the consortium's authority, and of who signs the coordinator's letters.
    role:
        Left out for a participant.
    """

    format: int
    federation: str
    name: str
    address: str
    token: str
    expires: float
    authority: str
    coordinator: str
    role: Role = Role.PARTICIPANT

    def __post_init__(self) -> None:
        """Refuse roles that nobody is invited in. Raises ValueError."""
        if self.role not in MEMBERS:
            raise ValueError(f"nobody is invited as a {self.role}")

    def to_bytes(self) -> bytes:
        """The file."""
        return msgspec.json.format(msgspec.json.encode(self))


def file_name(name: str) -> str:
    """A party's name, where it can also be that of a file or folder. Raises ConfigError."""
    if set("/\\\0") & set(name) or name.startswith("."):
        raise ConfigError(
            f"'{name}' cannot be the name of a file", where="name", remedy="Use letters, digits, blanks and - _ @ ."
        )
    return name


def invite_path(folder: Path, name: str) -> Path:
    """Where the invite for a party lies below a folder. Raises ConfigError."""
    return folder / "invites" / f"{file_name(name)}.invite"


def read_invite(path: Path) -> Invite:
    """Read an invite. Raises ConfigError."""
    try:
        return parse_invite(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="Give the file that the operator sent"
        ) from None


def parse_invite(data: bytes, where: str) -> Invite:
    """The invite that a file holds. Raises ConfigError."""
    try:
        invite = msgspec.json.decode(data, type=Invite)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ConfigError("this is no invite", where=where, remedy="Give the file that the operator sent") from None
    if invite.format != FORMAT:
        raise ConfigError(f"the invite has format {invite.format}", where=where, remedy="Upgrade fedstill")
    return invite
