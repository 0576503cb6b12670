"""Who is who in a federation between machines: keys, certificates and the consortium's authority.

Every party makes its key at home and sends a request; the authority answers with a certificate (X.509, RFC 5280) that
binds the key to a name and a role. Whoever signs letters has an Ed25519 key (RFC 8032). The TLS server and the
authority have ECDSA keys on P-256 (FIPS 186-5), because browsers know no Ed25519.

Nothing here reads a file or a clock: keys and certificates are PEM bytes, and `now` is given. The library
`cryptography` comes with the extra `network`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal, TypeAlias, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedstill.errors import ConfigError, FedstillError, WireError
from fedstill.labels import Party
from fedstill.transports.letters import COORDINATOR, MAX_NAME_LENGTH

MAX_PEM_BYTES = 16 * 1024
"""Of a key, request or certificate; those made here have under 2 kB."""

MAX_DAYS = 36_500
CLOCK_SKEW = timedelta(minutes=5)
"""Certificates start so much before they are made, for those whose clocks are behind."""

KeyKind = Literal["ed25519", "p256"]
PrivateKey: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey

_UNREADABLE = (
    *(ValueError, TypeError, KeyError, UnsupportedAlgorithm, InternalError),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
"""What the library raises for bytes that are not what they should be."""

T = TypeVar("T")


class Role(StrEnum):
    """What the bearer of a certificate may do; stands in its organisational unit."""

    COORDINATOR = "coordinator"
    SERVER = "server"
    OPERATOR = "operator"
    PARTICIPANT = "participant"
    OBSERVER = "observer"
    AUDITOR = "auditor"


_KEYS: dict[Role, KeyKind] = {
    Role.COORDINATOR: "ed25519",  # these two sign letters
    Role.PARTICIPANT: "ed25519",
    Role.SERVER: "p256",  # browsers speak with it
}
"""Roles that need a kind of key; the others may have either."""


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
        document = _loaded(load, data, "certificate")
        try:
            name = _name(_only(document.subject, NameOID.COMMON_NAME))
            role = Role(_only(document.subject, NameOID.ORGANIZATIONAL_UNIT_NAME))
            starts, ends = document.not_valid_before_utc, document.not_valid_after_utc
            key = _known(document.public_key())
        except (*_UNREADABLE, FedstillError):
            raise WireError(
                "it is not the certificate of a party of a federation: one name, one role, a key of a known kind",
                where="certificate",
                remedy="Use one that the consortium's authority made",
            ) from None
        return cls(name, role, _fingerprint(document), starts, ends, key, document)

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
            authority = _loaded(x509.load_pem_x509_certificate, authority_cert_pem, "the authority's certificate")
        except WireError as error:
            raise ConfigError(error.what, where=error.where, remedy=error.remedy) from None
        try:
            self.document.verify_directly_issued_by(authority)
        except (*_UNREADABLE, InvalidSignature):
            return False
        return True

    def valid(self, now: datetime) -> bool:
        """Whether `now` (with a time zone) is within its time."""
        return self.starts <= _utc(now) <= self.ends


class Identity:
    """A party's private key, and its certificate once it has one.

    Attributes
    ----------
    certificate:
        What the authority said of this key; None before it did.
    """

    def __init__(self, key: PrivateKey, certificate: Certificate | None = None) -> None:
        self._key = key
        self.certificate = certificate

    @classmethod
    def create(cls, kind: KeyKind = "ed25519") -> Identity:
        """Make a new key: "ed25519" for who signs letters, "p256" for a TLS server."""
        if kind == "ed25519":
            return cls(ed25519.Ed25519PrivateKey.generate())
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, key_pem: bytes, cert_pem: bytes | None = None) -> Identity:
        """Take up a key that was kept, and its certificate.

        Raises
        ------
        ConfigError
            Where the key cannot be read, is of another kind, or is not the one that the certificate is about.
        WireError
            Where the certificate cannot be read.
        """
        key = _private_key(key_pem)
        certificate = None if cert_pem is None else Certificate.from_pem(cert_pem)
        if certificate is not None and certificate.public_key != key.public_key():
            raise ConfigError(
                f"the certificate of '{certificate.name}' is about another key",
                where="private key",
                remedy="Use the key that the certificate was asked for with, or enrol again",
            )
        return cls(key, certificate)

    @property
    def kind(self) -> KeyKind:
        """What kind of key it is."""
        return _kind(self._key.public_key())

    @property
    def key_pem(self) -> bytes:
        """The private key as PEM text (PKCS 8), not encrypted: keep it where its owner alone can read."""
        return _key_pem(self._key)

    def request_pem(self, name: Party) -> bytes:
        """A request for a certificate (PKCS 10), signed with the key; the authority decides about the name.

        Raises
        ------
        ConfigError
            Where the name cannot stand in a certificate.
        """
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _name(name))])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        digest = hashes.SHA256() if self.kind == "p256" else None
        return request.sign(self._key, digest).public_bytes(serialization.Encoding.PEM)

    def sign(self, data: bytes) -> bytes:
        """The signature of data: 64 bytes. Raises ConfigError where the key is not Ed25519."""
        if not isinstance(self._key, ed25519.Ed25519PrivateKey):
            raise ConfigError(
                "a key on P-256 is for TLS and signs no letters",
                where="private key",
                remedy='Make the identity with Identity.create("ed25519")',
            )
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"Identity({self.kind}, {self.certificate})"


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
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(_name(consortium), "authority", _name(consortium))
        start, end = _lifetime(now, days)
        built = _builder(subject, subject, key.public_key(), key.public_key(), start, end, is_authority=True)
        return cls(key, built.sign(key, hashes.SHA256()))

    @classmethod
    def from_pem(cls, key_pem: bytes, cert_pem: bytes) -> Authority:
        """Take up an authority that was kept. Raises ConfigError where the two are not one."""
        key = _private_key(key_pem)
        try:
            certificate = _loaded(x509.load_pem_x509_certificate, cert_pem, "the authority's certificate")
            fits = certificate.public_key() == key.public_key()
            fits &= certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            _only(certificate.subject, NameOID.COMMON_NAME)
            certificate.verify_directly_issued_by(certificate)
        except (*_UNREADABLE, WireError, InvalidSignature, x509.ExtensionNotFound):
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
        return _key_pem(self._key)

    @property
    def cert_pem(self) -> bytes:
        """The certificate that all parties trust, as PEM text."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def consortium(self) -> str:
        """The consortium's name."""
        return _only(self._certificate.subject, NameOID.COMMON_NAME)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER bytes, as 64 lower-case hex digits."""
        return _fingerprint(self._certificate)

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
        if end < _utc(now):
            raise ConfigError("the authority has ended", where="now", remedy="Make a new one and enrol all parties")
        subject, issuer = _subject(self.consortium, role, _name(name)), self._certificate.subject
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
    if _kind(key) != _KEYS.get(role, _kind(key)):
        raise WireError(
            f"a certificate for the role '{role}' needs a key of the kind {_KEYS[role]}, and this is {_kind(key)}",
            where="certificate request",
            remedy=f'Make the key with Identity.create("{_KEYS[role]}")',
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
    now = _utc(now).replace(microsecond=0)  # certificates count in seconds
    return now - CLOCK_SKEW, now + timedelta(days=days)


def _utc(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise ConfigError("a time without a time zone", where="now", remedy="Use datetime.now(UTC)")
    return now.astimezone(UTC)


def _name(name: str) -> str:
    """The name itself, where it can stand in a certificate, a log line and a page."""
    if name != name.strip() or not name.isprintable() or not 1 <= len(name.encode()) <= MAX_NAME_LENGTH:
        raise ConfigError(
            f"{name[:80]!r} cannot be a name",
            where="name",
            remedy=f"Use 1 to {MAX_NAME_LENGTH} bytes of printable text (UTF-8) without blanks around it",
        )
    return name


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


# Reading what others give.


def _loaded(load: Callable[[bytes], T], data: bytes, what: str) -> T:
    if len(data) > MAX_PEM_BYTES:
        raise WireError(f"{len(data)} bytes are over the bound of {MAX_PEM_BYTES}", where=what)
    try:
        return load(data)
    except _UNREADABLE:
        raise WireError("it cannot be read", where=what, remedy="Get it anew, and whole") from None


def _requested(request_pem: bytes) -> PublicKey:
    """The public key of a request, whose sender has the private one."""
    request = _loaded(x509.load_pem_x509_csr, request_pem, "certificate request")
    try:
        key = _known(request.public_key())
        signed = request.is_signature_valid
    except _UNREADABLE:
        signed = False
    if not signed:
        raise WireError(
            "it is not signed with the key that it is about",
            where="certificate request",
            remedy="Make a new one with Identity.request_pem",
        )
    return key


def _private_key(key_pem: bytes) -> PrivateKey:
    try:
        key = _loaded(lambda pem: serialization.load_pem_private_key(pem, password=None), key_pem, "private key")
        _known(key.public_key())
        # Older versions of the library take a file whose two halves are not one key.
        if isinstance(key, ec.EllipticCurvePrivateKey):
            whole = ec.derive_private_key(key.private_numbers().private_value, key.curve)
            if whole.public_key() != key.public_key():
                raise ValueError("two keys")
    except (*_UNREADABLE, WireError):
        # The library's own words are left out: nothing of a key may stand in an error.
        raise ConfigError(
            "it cannot be read, is encrypted, or is neither Ed25519 nor ECDSA on P-256",
            where="private key",
            remedy="Use the PEM file that was written when the key was made",
        ) from None
    return cast("PrivateKey", key)


def _known(key: object) -> PublicKey:
    """The key itself. Raises WireError where it is of neither kind in use."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise WireError(
        "its key is neither Ed25519 nor ECDSA on P-256", where="public key", remedy="Make one with Identity.create"
    )


def _kind(key: PublicKey) -> KeyKind:
    return "ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "p256"


def _only(subject: x509.Name, oid: x509.ObjectIdentifier) -> str:
    """The one value of a field of a name. Raises ValueError where it stands there not once, or is no text."""
    (attribute,) = subject.get_attributes_for_oid(oid)
    if not isinstance(attribute.value, str):
        raise ValueError("no text")
    return attribute.value


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _fingerprint(document: x509.Certificate) -> str:
    return document.fingerprint(hashes.SHA256()).hex()
