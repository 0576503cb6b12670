"""A party's private key, and its certificate once it has one.

Every party makes its key at home and sends a request; the consortium's authority answers with a certificate that binds
the key to a name and a role.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from fedstill.errors import ConfigError
from fedstill.labels import Party
from fedstill.transports.certificates import Certificate, checked_name
from fedstill.transports.keys import KeyKind, PrivateKey, kind_of, new_key, read_key, write_key


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
        return cls(new_key(kind))

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
        key = read_key(key_pem)
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
        return kind_of(self._key.public_key())

    @property
    def key_pem(self) -> bytes:
        """The private key as PEM text (PKCS 8), not encrypted: keep it where its owner alone can read."""
        return write_key(self._key)

    def request_pem(self, name: Party) -> bytes:
        """A request for a certificate (PKCS 10), signed with the key; the authority decides about the name.

        Raises
        ------
        ConfigError
            Where the name cannot stand in a certificate.
        """
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, checked_name(name))])
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
