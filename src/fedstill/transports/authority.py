"""The consortium's certificate authority, and what certificates are made of.

Nothing here reads a file or a clock: keys and certificates are PEM bytes, and `now` is given.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedstill.errors import ConfigError, WireError
from fedstill.labels import Party
from fedstill.transports.certificates import checked_name, fingerprint_of, load_authority, only, utc
from fedstill.transports.keys import (
    UNREADABLE,
    KeyKind,
    PublicKey,
    kind_of,
    known,
    loaded,
    new_p256,
    read_key,
    write_key,
)
from fedstill.transports.letters import COORDINATOR
from fedstill.transports.roles import Role

MAX_DAYS = 36_500
CLOCK_SKEW = timedelta(minutes=5)
"""Certificates start so much before they are made, for those whose clocks are behind."""

KEYS: dict[Role, KeyKind] = {
    Role.COORDINATOR: "ed25519",  # these two sign letters
    Role.PARTICIPANT: "ed25519",
    Role.SERVER: "p256",  # browsers speak with it
}
"""Roles that need a kind of key; the others may have either."""


class Authority:
    """The consortium's certificate authority: one key that all parties trust. Make it with `create` or `from_pem`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @classmethod
    def create(cls, consortium: str, now: datetime, days: int = 3650) -> Authority:
        """Make a new authority.

        Parameters
        ----------
        consortium:
            Its name.
        now:
            With a time zone.
        days:
            After which it ends, and all its certificates with it.

        Raises
        ------
        ConfigError
            Where the name cannot stand in a certificate, or a time is none.
        """
        key = new_p256()
        subject = _subject(checked_name(consortium), "authority", checked_name(consortium))
        start, end = _lifetime(now, days)
        built = _builder(subject, subject, key.public_key(), key.public_key(), start, end, is_authority=True)
        return cls(key, built.sign(key, hashes.SHA256()))

    @classmethod
    def from_pem(cls, key_pem: bytes, cert_pem: bytes) -> Authority:
        """Take up an authority that was kept. Raises ConfigError where the two are not one."""
        key = read_key(key_pem)
        try:
            certificate = load_authority(cert_pem)
            fits = certificate.public_key() == key.public_key()
            fits &= certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            only(certificate.subject, NameOID.COMMON_NAME)
            certificate.verify_directly_issued_by(certificate)
        except (*UNREADABLE, WireError, InvalidSignature, x509.ExtensionNotFound):
            fits = False
        if not fits or not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(
                "this is not an authority's certificate and the key that belongs to it",
                where="the authority's certificate",
                remedy="Give both as the authority was made with",
            )
        return cls(key, certificate)

    @property
    def key_pem(self) -> bytes:
        """The private key as PEM text (PKCS 8), not encrypted: who has it can be anybody in the consortium."""
        return write_key(self._key)

    @property
    def cert_pem(self) -> bytes:
        """The certificate that all parties trust, as PEM text."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def consortium(self) -> str:
        """The consortium's name."""
        return only(self._certificate.subject, NameOID.COMMON_NAME)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER bytes, as 64 lower-case hex digits."""
        return fingerprint_of(self._certificate)

    def certify(
        self, request_pem: bytes, name: Party, role: Role, now: datetime, days: int, addresses: Sequence[str] = ()
    ) -> bytes:
        """Make a certificate. Of the request only the public key counts: name and role are what is said here.

        Parameters
        ----------
        request_pem:
            From whoever has the private key (`Identity.request_pem`), who proves that by signing it.
        name, role:
            What the key shall stand for.
        now:
            With a time zone. The certificate starts five minutes before.
        days:
            After which it ends; earlier where the authority ends earlier.
        addresses:
            DNS names and IP addresses at which a server is reached; needed for SERVER, and for no other role.

        Returns
        -------
        The certificate as PEM text.

        Raises
        ------
        WireError
            Where the request cannot be read, is not signed with its own key, or has a key of a kind that the role
            cannot use.
        ConfigError
            Where name, times or addresses cannot be.
        """
        key = _requested(request_pem)
        _check_bearer(key, name, role, addresses)
        start, end = _lifetime(now, days)
        end = min(end, self._certificate.not_valid_after_utc)
        if end < utc(now):
            raise ConfigError("the authority has ended", where="now", remedy="Make a new one and enrol all parties")
        subject, issuer = _subject(self.consortium, role, checked_name(name)), self._certificate.subject
        built = _builder(subject, issuer, key, self._key.public_key(), start, end, is_authority=False)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if role is Role.SERVER else ExtendedKeyUsageOID.CLIENT_AUTH
        built = built.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if addresses:
            names = x509.SubjectAlternativeName([_address(address) for address in addresses])
            built = built.add_extension(names, critical=False)
        return built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def __repr__(self) -> str:
        return f"Authority('{self.consortium}')"


# What certificates are made of.


def _check_bearer(key: PublicKey, name: Party, role: Role, addresses: Sequence[str]) -> None:
    if kind_of(key) != KEYS.get(role, kind_of(key)):
        raise WireError(
            f"a certificate for the role '{role}' needs a key of the kind {KEYS[role]}, and this is {kind_of(key)}",
            where="certificate request",
            remedy=f'Make the key with Identity.create("{KEYS[role]}")',
        )
    if name == COORDINATOR and role not in (Role.COORDINATOR, Role.SERVER):
        raise ConfigError(f"the name '{name}' is the coordinator's own", where="name", remedy="Choose another")
    if (role is Role.SERVER) != bool(addresses):
        raise ConfigError("a server needs addresses, and no other role has any", where="addresses")


def _subject(consortium: str, unit: str, name: str) -> x509.Name:
    fields = (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME)
    values = zip(fields, (consortium, unit, name), strict=True)
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in values])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PublicKey,
    issuer_key: PublicKey,
    start: datetime,
    end: datetime,
    *,
    is_authority: bool,
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
    # An authority makes certificates for parties only: its path has no room for another authority.
    constraints = x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None)
    # Strict verifiers (Python 3.13 is one by default) want both key identifiers.
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(constraints, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _lifetime(now: datetime, days: int) -> tuple[datetime, datetime]:
    if not 1 <= days <= MAX_DAYS:
        raise ConfigError(f"a certificate cannot be valid for {days} days", where="days", remedy=f"1 to {MAX_DAYS}")
    if not 1970 <= now.year <= 9000:
        raise ConfigError(f"the year is {now.year}", where="now", remedy="Set the clock")
    now = utc(now).replace(microsecond=0)  # certificates count in seconds
    return now - CLOCK_SKEW, now + timedelta(days=days)


def _address(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        pass
    label = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
    # A last part of digits alone would be a mistyped IP address.
    if len(address) <= 253 and re.fullmatch(rf"(\*\.)?({label}\.)*(?!\d+\Z){label}", address):
        return x509.DNSName(address)
    raise ConfigError(
        f"{address[:80]!r} is neither a DNS name nor an IP address",
        where="addresses",
        remedy="Write names such as hub.example.org, without scheme, port or path",
    )


def _requested(request_pem: bytes) -> PublicKey:
    """The public key of a request, whose sender has the private one."""
    request = loaded(x509.load_pem_x509_csr, request_pem, "certificate request")
    try:
        key = known(request.public_key())
        signed = request.is_signature_valid
    except UNREADABLE:
        signed = False
    if not signed:
        raise WireError(
            "it is not signed with the key that it is about",
            where="certificate request",
            remedy="Make a new one with Identity.request_pem",
        )
    return key
