"""Becoming a party with an invite: a key of one's own, a certificate for it, and a folder for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from fedstill.agent.folders import PartyFolder
from fedstill.agent.home import Home
from fedstill.agent.visitor import Visitor
from fedstill.config import ParticipantTable, convert
from fedstill.errors import ConfigError, WireError
from fedstill.service.invites import Invite, file_name, read_invite
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.roles import Role
from fedstill.transports.ways import enrol


async def join(invite_path: Path, folder: Path | None, table: dict[str, Any]) -> Home:
    """Become a participant, and write its folder.

    May be repeated, where the answer got lost: the key that was made the first time is used again.

    Parameters
    ----------
    invite_path:
        From the operator.
    folder:
        Where its key, settings and models will be; None: a folder with its name, here.
    table:
        Its data and learner, as in a `[[participants]]` table of a federation file, without its name.

    Raises
    ------
    ConfigError, LinkRefused, LinkDown, WireError
        Where that cannot be, with what to do.
    """
    invite = read_invite(invite_path)
    if invite.role is not Role.PARTICIPANT:
        raise ConfigError(
            f"'{invite.name}' is invited as an {invite.role}, who brings no data",
            where=str(invite_path),
            remedy=f"Run: fedstill join {invite_path}",
        )
    home = Home(folder or Path(file_name(invite.name)))
    participant = {"name": invite.name, **table}
    convert(participant, ParticipantTable, "--set")
    await _enrolled(home, invite, "participant.toml", {"address": invite.address, "participant": participant})
    return home


async def join_as_visitor(invite_path: Path, folder: Path | None) -> Visitor:
    """Become an observer, auditor or operator, and write its folder. May be repeated and raises as `join`."""
    invite = read_invite(invite_path)
    if invite.role is Role.PARTICIPANT:
        raise ConfigError(
            f"'{invite.name}' is invited as a participant, who brings data",
            where=str(invite_path),
            remedy=f"Run: fedstill participant join {invite_path} --data READINGS",
        )
    visitor = Visitor(folder or Path(file_name(invite.name)))
    settings = {"name": invite.name, "role": str(invite.role), "address": invite.address}
    await _enrolled(visitor, invite, Visitor.SETTINGS, settings)
    return visitor


async def _enrolled(home: PartyFolder, invite: Invite, settings_file: str, settings: dict[str, Any]) -> None:
    """Make a key, or take the one of an earlier attempt; get a certificate for it; write all that belongs to it."""
    if (home.folder / "certificate.pem").exists():
        raise ConfigError(
            "somebody lives here already", where=str(home.folder), remedy="Name another folder with --folder"
        )
    key = home.folder / "key.pem"
    identity = Identity.from_pem(key.read_bytes()) if key.exists() else Identity.create()
    home.write("key.pem", identity.key_pem, private=True)
    request, authority = identity.request_pem(invite.name), invite.authority.encode()
    certificate, _ = await enrol(invite.address, invite.token, request, authority)
    mine = Certificate.from_pem(certificate)
    if not mine.issued_by(authority) or (mine.name, mine.role) != (invite.name, invite.role):
        raise WireError("the certificate that came is not of this consortium", where=invite.address)
    home.write(settings_file, tomli_w.dumps(settings).encode())
    home.write("authority.pem", authority)
    home.write("coordinator.pem", invite.coordinator.encode())
    home.write("certificate.pem", certificate)
