"""Keys of two kinds, made, read and written.

Whoever signs letters has an Ed25519 key (RFC 8032). The TLS server and the authority have ECDSA keys on P-256 (FIPS
186-5), because browsers know no Ed25519.

Nothing here reads a file: keys are PEM bytes. The library `cryptography` comes with the extra `network`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fedstill.errors import ConfigError, WireError

MAX_PEM_BYTES = 16 * 1024
"""Of a key, request or certificate; those made here have under 2 kB."""

KeyKind = Literal["ed25519", "p256"]
PrivateKey: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey

UNREADABLE = (
    *(ValueError, TypeError, KeyError, UnsupportedAlgorithm, InternalError),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
"""What the library raises for bytes that are not what they should be."""

T = TypeVar("T")


def new_key(kind: KeyKind) -> PrivateKey:
    """Make a key."""
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else new_p256()


def new_p256() -> ec.EllipticCurvePrivateKey:
    """Make a key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def kind_of(key: PublicKey) -> KeyKind:
    """What kind of key it is."""
    return "ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "p256"


def known(key: object) -> PublicKey:
    """The key itself. Raises WireError where it is of neither kind in use."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise WireError(
        "its key is neither Ed25519 nor ECDSA on P-256", where="public key", remedy="Make one with Identity.create"
    )


def loaded(load: Callable[[bytes], T], data: bytes, what: str) -> T:
    """Read what others give. Raises WireError where it is too large, or not what it should be."""
    if len(data) > MAX_PEM_BYTES:
        raise WireError(f"{len(data)} bytes are over the bound of {MAX_PEM_BYTES}", where=what)
    try:
        return load(data)
    except UNREADABLE:
        raise WireError("it cannot be read", where=what, remedy="Get it anew, and whole") from None


def read_key(key_pem: bytes) -> PrivateKey:
    """Read a private key (PEM). Raises ConfigError."""
    try:
        key = loaded(lambda pem: serialization.load_pem_private_key(pem, password=None), key_pem, "private key")
        known(key.public_key())
        # Older versions of the library take a file whose two halves are not one key.
        if isinstance(key, ec.EllipticCurvePrivateKey):
            whole = ec.derive_private_key(key.private_numbers().private_value, key.curve)
            if whole.public_key() != key.public_key():
                raise ValueError("two keys")
    except (*UNREADABLE, WireError):
        # The library's own words are left out: nothing of a key may stand in an error.
        raise ConfigError(
            "it cannot be read, is encrypted, or is neither Ed25519 nor ECDSA on P-256",
            where="private key",
            remedy="Use the PEM file that was written when the key was made",
        ) from None
    return cast("PrivateKey", key)


def write_key(key: PrivateKey) -> bytes:
    """The key as PEM text (PKCS 8), not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
