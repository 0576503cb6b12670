"""The folder of an observer, auditor or operator on its own machine, and what they ask the coordinator for.

visitor.toml         its name, role and coordinator
key.pem  certificate.pem  authority.pem  coordinator.pem
invites/             those that an operator has asked for
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from fedstill.agent.folders import PartyFolder
from fedstill.agent.renewal import continued, due
from fedstill.config import convert, plain, read_toml
from fedstill.errors import ConfigError, FedstillError
from fedstill.files import write_whole
from fedstill.service.export import fill_private
from fedstill.service.invites import invite_path, parse_invite
from fedstill.transports.certificates import Certificate
from fedstill.transports.roles import Role
from fedstill.transports.visits import VisitorLink
from fedstill.transports.ways import bundle

LOG = logging.getLogger(__name__)
T = TypeVar("T")


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`visitor.toml`: who it is, and where the coordinator is."""

    name: str
    role: Literal["observer", "auditor", "operator"]
    address: str


class Visitor(PartyFolder):
    """Somebody who takes no part in rounds, and asks the coordinator for what its role may have.

    Where the coordinator is asked, LinkRefused, LinkDown and WireError are raised as by any link. The certificate is
    renewed on the way, once less than a third of its life is left.
    """

    JOIN = "Run `fedstill join` first"
    SETTINGS = "visitor.toml"

    @property
    def settings(self) -> Settings:
        """Who it is, and where the coordinator is."""
        path = self.folder / self.SETTINGS
        settings: Settings = convert(plain(read_toml(path, self.JOIN)), Settings, str(path))
        return settings

    @property
    def certificate(self) -> Certificate:
        """Its certificate; of the consortium, and of nobody else than the settings name."""
        settings = self.settings
        found = self._certificate("certificate.pem", Role(settings.role))
        if found.name != settings.name:
            raise ConfigError(
                f"the certificate is about '{found.name}', and {self.SETTINGS} about '{settings.name}'",
                where=str(self.folder),
                remedy=f'Write name = "{found.name}"',
            )
        return found

    def status(self) -> dict[str, Any]:
        """How far the coordinator's newest run is."""
        told: dict[str, Any] = msgspec.to_builtins(self._ask(lambda link: link.status()))
        return told

    def invite(self, name: str, days: float, role: Role, *, mqtt: bool) -> Path:
        """Have an invite made, and write it; returns the file."""
        path = invite_path(self.folder, name)
        data = self._ask(lambda link: link.invite(name, role, days, mqtt=mqtt))
        parse_invite(data, self.settings.address)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, data, private=True)
        return path

    def revoke(self, name: str) -> None:
        """Have a participant or an observer let in no more."""
        self._ask(lambda link: link.revoke(name))

    def fetch_audit(self, target: Path) -> None:
        """Fetch what an auditor needs into a file, whole or not at all. It holds soft labels."""
        fill_private(target, lambda file: self._ask(lambda link: link.audit(file.write)))

    def _ask(self, question: Callable[[VisitorLink], Awaitable[T]]) -> T:
        _ = self.identity  # whatever is wrong with it shows before anything else

        async def ask() -> T:
            link = VisitorLink(
                self.settings.address,
                certificate=self.folder / "certificate.pem",
                key=self.folder / "key.pem",
                authority_pem=self.authority,
                bundle=bundle(),
            )
            try:
                answer = await question(link)
                await self._renew_in_time(link)
            finally:
                await link.close()
            return answer

        return asyncio.run(ask())

    async def _renew_in_time(self, link: VisitorLink) -> None:
        own = self.certificate
        if not due(own, datetime.now(UTC)):
            return
        try:
            pem = await link.renew(self.identity.request_pem(own.name))
            continued(pem, own, self.authority)
            self.write("certificate.pem", pem)
        except (FedstillError, OSError) as error:  # what was asked for has been answered
            LOG.warning("the certificate could not be renewed", extra={"why": str(error)})
