"""Certificates (X.509, RFC 5280): who has a public key, in which role; and what may stand in one.

Nothing here reads a file or a clock: certificates are PEM bytes, and `now` is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from fedstill.errors import ConfigError, FedstillError, WireError
from fedstill.labels import Party
from fedstill.transports.keys import UNREADABLE, PublicKey, known, loaded
from fedstill.transports.letters import MAX_NAME_LENGTH
from fedstill.transports.roles import Role


@dataclass(frozen=True)
class Certificate:
    """Says whose a public key is. True only where `issued_by` the consortium's authority and `valid` now.

    Attributes
    ----------
    name:
        The party.
    role:
        What it may do.
    fingerprint:
        SHA-256 of the certificate's DER bytes, as 64 lower-case hex digits.
    starts, ends:
        When it is valid, both inclusive, in UTC.
    public_key:
        Of the party: Ed25519 or ECDSA on P-256.
    document:
        The certificate as the library has it.
    """

    name: Party
    role: Role
    fingerprint: str
    starts: datetime
    ends: datetime
    public_key: PublicKey = field(repr=False, compare=False)
    document: x509.Certificate = field(repr=False, compare=False)

    @classmethod
    def from_pem(cls, pem: bytes) -> Certificate:
        """Read a certificate. Raises WireError where it is none, or not one of a party of a federation."""
        return cls._read(x509.load_pem_x509_certificate, pem)

    @classmethod
    def from_der(cls, der: bytes) -> Certificate:
        """Read a certificate as TLS hands it over. Raises WireError as `from_pem` does."""
        return cls._read(x509.load_der_x509_certificate, der)

    @classmethod
    def _read(cls, load: Callable[[bytes], x509.Certificate], data: bytes) -> Certificate:
        document = loaded(load, data, "certificate")
        try:
            name = checked_name(only(document.subject, NameOID.COMMON_NAME))
            role = Role(only(document.subject, NameOID.ORGANIZATIONAL_UNIT_NAME))
            starts, ends = document.not_valid_before_utc, document.not_valid_after_utc
            key = known(document.public_key())
        except (*UNREADABLE, FedstillError):
            raise WireError(
                "it is not the certificate of a party of a federation: one name, one role, a key of a known kind",
                where="certificate",
                remedy="Use one that the consortium's authority made",
            ) from None
        return cls(name, role, fingerprint_of(document), starts, ends, key, document)

    @property
    def pem(self) -> bytes:
        """The certificate as PEM text."""
        return self.document.public_bytes(serialization.Encoding.PEM)

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether a signature of data was made with this party's key; no other key than Ed25519 signs data."""
        if not isinstance(self.public_key, ed25519.Ed25519PublicKey):
            return False
        try:
            self.public_key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def issued_by(self, authority_cert_pem: bytes) -> bool:
        """Whether this authority made it: the issuer's name and the signature fit. Says nothing about `valid`.

        Raises
        ------
        ConfigError
            Where what is given as the authority's certificate is none.
        """
        try:
            authority = load_authority(authority_cert_pem)
        except WireError as error:
            raise ConfigError(error.what, where=error.where, remedy=error.remedy) from None
        try:
            self.document.verify_directly_issued_by(authority)
        except (*UNREADABLE, InvalidSignature):
            return False
        return True

    def valid(self, now: datetime) -> bool:
        """Whether `now` (with a time zone) is within its time."""
        return self.starts <= utc(now) <= self.ends


def load_authority(pem: bytes) -> x509.Certificate:
    """The certificate of an authority as the library has it; not checked. Raises WireError."""
    return loaded(x509.load_pem_x509_certificate, pem, "the authority's certificate")


def checked_name(name: str) -> str:
    """The name itself, where it can stand in a certificate, a log line and a page. Raises ConfigError."""
    if name != name.strip() or not name.isprintable() or not 1 <= len(name.encode()) <= MAX_NAME_LENGTH:
        raise ConfigError(
            f"{name[:80]!r} cannot be a name",
            where="name",
            remedy=f"Use 1 to {MAX_NAME_LENGTH} bytes of printable text (UTF-8) without blanks around it",
        )
    return name


def utc(now: datetime) -> datetime:
    """The same time in UTC. Raises ConfigError where it has no time zone."""
    if now.tzinfo is None:
        raise ConfigError("a time without a time zone", where="now", remedy="Use datetime.now(UTC)")
    return now.astimezone(UTC)


def only(subject: x509.Name, oid: x509.ObjectIdentifier) -> str:
    """The one value of a field of a name. Raises ValueError where it stands there not once, or is no text."""
    (attribute,) = subject.get_attributes_for_oid(oid)
    if not isinstance(attribute.value, str):
        raise ValueError("no text")
    return attribute.value


def fingerprint_of(document: x509.Certificate) -> str:
    """SHA-256 of its DER bytes, as 64 lower-case hex digits."""
    return document.fingerprint(hashes.SHA256()).hex()
