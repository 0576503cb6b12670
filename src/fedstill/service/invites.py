"""The file that an operator gives to an enterprise: a way in, once."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fedstill.errors import ConfigError

FORMAT = 1


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the coordinator is, how to know it, and a token that lets one party join once.

    Attributes
    ----------
    format:
        Of this file.
    federation, name:
        Of what, and as whom.
    address:
        https://host:port
    token, expires:
        Lets in once, until this Unix time.
    authority, coordinator:
        Certificates, PEM: of the consortium's authority, and of who signs the coordinator's letters.
    """

    format: int
    federation: str
    name: str
    address: str
    token: str
    expires: float
    authority: str
    coordinator: str


def read_invite(path: Path) -> Invite:
    """Read an invite. Raises ConfigError."""
    try:
        invite = msgspec.json.decode(path.read_bytes(), type=Invite)
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="Give the file that the operator sent"
        ) from None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ConfigError("this is no invite", where=str(path), remedy="Give the file that the operator sent") from None
    if invite.format != FORMAT:
        raise ConfigError(f"the invite has format {invite.format}", where=str(path), remedy="Upgrade fedstill")
    return invite
