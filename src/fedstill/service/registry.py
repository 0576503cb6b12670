"""Who may come in: invitations, certificates, revocation.

A party is let in by its certificate's fingerprint, which stands in the store. So a certificate that the authority never
made known here, or a revoked party, has no way in, whatever it can prove.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from fedstill.errors import ConfigError, LinkRefused
from fedstill.service.store.store import Store, Writer
from fedstill.service.store.tables import JOINED, REVOKED
from fedstill.transports.authority import Authority
from fedstill.transports.certificates import Certificate
from fedstill.transports.roles import Role

CERTIFICATE_DAYS = 365
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registry:
    """The parties of a consortium.

    Attributes
    ----------
    store:
        Where they stand.
    authority:
        Who makes their certificates.
    clock:
        Unix seconds.
    """

    store: Store
    authority: Authority
    clock: Callable[[], float]

    def invite(self, name: str, role: Role, days: float, by: str = "") -> str:
        """A token by which a party can join once within so many days, made for the operator `by`. Raises ConfigError.

        An empty `by` is whoever works in the consortium's own folder.
        """
        token = secrets.token_urlsafe(32)
        with self.store.writing() as writer:
            writer.add_invitation(_hash(token.encode()), name, role, self.clock() + 86_400 * days)
            self._record(writer, "invited", party=name, role=role, by=by)
        LOG.info("invited", extra={"party": name, "role": str(role), "by": by})
        return token

    def enrol(self, token: str, request_pem: bytes) -> tuple[bytes, bytes]:
        """Let a party in by its token.

        Returns
        -------
        Its certificate and the authority's, as PEM text.

        Raises
        ------
        LinkRefused
            Where the token is unknown, used or too old.
        WireError
            Where the request is none.
        """
        return self.enrol_hash(_hash(token.encode()), request_pem)

    def invitations(self) -> list[str]:
        """SHA-256 of the tokens of all invitations that are not too old, used ones as well."""
        now = self.clock()
        return [one.token_hash for one in self.store.invitations() if one.expires > now]

    def enrol_hash(self, token_hash: str, request_pem: bytes) -> tuple[bytes, bytes]:
        """Let a party in that has proved to have a token, by the token's SHA-256. Returns and raises as `enrol`."""
        now = self.clock()
        with self.store.writing() as writer:
            invitation, why = writer.take_invitation(token_hash, now, _hash(request_pem))
            if invitation is None:
                raise LinkRefused(why, remedy="Ask the operator for a new invitation")
            certificate = self._certify(invitation.party, Role(invitation.role), request_pem)
            writer.join(invitation.party, certificate.pem.decode(), certificate.fingerprint, now)
            writer.append(None, "joined", now, certificate.pem)
        LOG.info("joined", extra={"party": invitation.party})
        return certificate.pem, self.authority.cert_pem

    def renew(self, name: str, request_pem: bytes) -> bytes:
        """A new certificate for the key that a party has. Raises LinkRefused, WireError."""
        with self.store.writing() as writer:
            known = writer.party(name)
            if known is None or known.status != JOINED:
                raise LinkRefused(f"'{name}' is not a party", remedy="Ask the operator for an invitation")
            certificate = self._certify(name, Role(known.role), request_pem)
            if certificate.public_key != Certificate.from_pem(known.certificate.encode()).public_key:
                raise LinkRefused(
                    "the request is about another key than the certificate",
                    remedy="Renew with the same key, or ask the operator for a new invitation",
                )
            writer.renew(name, certificate.pem.decode(), certificate.fingerprint)
        LOG.info("renewed", extra={"party": name})
        return certificate.pem

    def revoke(self, name: str, by: str = "") -> None:
        """Let a party in no more, as the operator `by` says. Raises ConfigError where there is no such party."""
        with self.store.writing() as writer:
            if writer.party(name) is None:
                known = ", ".join(party.name for party in writer.parties())
                raise ConfigError(f"there is no party '{name}'", remedy=f"There are: {known}")
            writer.set_status(name, REVOKED)
            self._record(writer, "revoked", party=name, by=by)
        LOG.info("revoked", extra={"party": name, "by": by})

    def who(self, fingerprint: str) -> tuple[str, Role] | None:
        """Whose certificate that is; None where it has no way in."""
        known = self.store.party_of(fingerprint)
        if known is None or known.status != JOINED:
            return None
        return known.name, Role(known.role)

    def _record(self, writer: Writer, kind: str, **said: str) -> None:
        """Into the chain of events as well."""
        writer.append(None, kind, self.clock(), msgspec.json.encode(said))

    def _certify(self, name: str, role: Role, request_pem: bytes) -> Certificate:
        now = datetime.fromtimestamp(self.clock(), UTC)
        return Certificate.from_pem(self.authority.certify(request_pem, name, role, now, CERTIFICATE_DAYS))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
