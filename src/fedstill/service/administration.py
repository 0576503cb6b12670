"""What operators and auditors do from their own machines, in a consortium's folder."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from fedstill.errors import LinkRefused
from fedstill.labels import Party
from fedstill.service.consortium import Consortium
from fedstill.service.export import pieces
from fedstill.service.rights import FROM_AFAR
from fedstill.transports.roles import Role


@dataclass(frozen=True)
class Administrator:
    """Fulfils `clerk.Administration`."""

    consortium: Consortium

    def invite(self, name: Party, role: Role, days: float, by: Party, *, mqtt: bool = False) -> bytes:
        """See `clerk.Administration`."""
        _check_from_afar("invite", role)
        return self.consortium.invitation(name, days, role, mqtt=mqtt, by=by).to_bytes()

    def revoke(self, name: Party, by: Party) -> None:
        """See `clerk.Administration`."""
        known = self.consortium.store.party(name)
        if known is not None:
            _check_from_afar("revoke", Role(known.role))
        self.consortium.registry.revoke(name, by)

    def export(self) -> Generator[bytes, None, None]:
        """See `clerk.Administration`."""
        return pieces(self.consortium)


def _check_from_afar(what: str, role: Role) -> None:
    if role not in FROM_AFAR:
        raise LinkRefused(
            f"nobody can {what} an {role} from afar",
            remedy=f"Do it on the coordinator's machine: fedstill coordinator {what}",
        )
