"""Both sides of TLS between the parties of a federation: version 1.2 or newer, and one authority that all trust."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedstill.errors import ConfigError, LinkRefused, WireError
from fedstill.transports.certificates import Certificate

_REJECTING = ("CERTIFICATE", "UNKNOWN_CA", "DECRYPT_ERROR", "ACCESS_DENIED", "PROTOCOL_VERSION", "HANDSHAKE_FAILURE")
"""Parts of the names of alerts by which a server turns a client down."""


def server_side(certificate: Path, key: Path, authority_pem: bytes) -> ssl.SSLContext:
    """For a server, whose clients may show a certificate of the authority, and no other.

    Parameters
    ----------
    certificate, key:
        Files (PEM) of an identity in the role SERVER.
    authority_pem:
        The authority's certificate.

    Raises
    ------
    ConfigError
        Where one of them cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, authority_pem)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    with _usable(certificate, key):
        context.load_cert_chain(certificate, key)
    return context


def client_side(
    authority_pem: bytes, pair: tuple[Path, Path] | None = None, bundle: Path | None = None
) -> ssl.SSLContext:
    """For a client, which checks the server's certificate and name.

    Parameters
    ----------
    authority_pem:
        The authority's certificate.
    pair:
        Files (PEM) with the client's certificate and key; None before it has them.
    bundle:
        A file (PEM) with further authorities to trust.

    Raises
    ------
    ConfigError
        Where one of them cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, authority_pem)
    if pair is not None:
        with _usable(*pair):
            context.load_cert_chain(*pair)
    if bundle is not None:
        with _usable(bundle):
            context.load_verify_locations(bundle)
    return context


def own_certificate(certificate: Path, authority_pem: bytes) -> Certificate:
    """A client's certificate from its file (PEM), which TLS has read before.

    Raises
    ------
    ConfigError
        Where it is none of this authority.
    """
    with suppress(WireError):
        own = Certificate.from_pem(certificate.read_bytes())
        if own.issued_by(authority_pem):
            return own
    raise ConfigError(
        "it is no certificate of this federation's authority",
        where=str(certificate),
        remedy="Enrol with an invitation of this federation",
    )


def refusal(error: BaseException, address: str) -> LinkRefused | None:
    """What a client's error means, where one side did not accept the other; None where it means something else.

    Parameters
    ----------
    error:
        Of any library; the errors that it came from are looked at, too.
    address:
        To be named.
    """
    inner: BaseException | None = error
    while inner is not None and not (isinstance(inner, ssl.SSLError) and getattr(inner, "reason", None)):
        inner = inner.__cause__ or inner.__context__
    if isinstance(inner, ssl.SSLCertVerificationError):
        return LinkRefused(
            f"whoever answers is not a server of this federation: {inner.verify_message}",
            where=address,
            remedy="Check address, clock and the authority's certificate; a proxy may break encryption open",
        )
    reason = "" if inner is None else inner.reason
    if "ALERT" in reason and any(name in reason for name in _REJECTING):
        return LinkRefused(
            f"the other side does not accept this one's TLS: {reason.lower().replace('_', ' ')}",
            where=address,
            remedy="The certificate may have ended or be of another authority: enrol again",
        )
    return None


def _context(protocol: ssl._SSLMethod, authority_pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=authority_pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise ConfigError("it cannot be read", where="the authority's certificate", remedy="Give a PEM file") from None
    return context


@contextmanager
def _usable(*paths: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"a certificate or key cannot be used: {error}",
            where=", ".join(map(str, paths)),
            remedy="Give PEM files; a certificate and its key belong together",
        ) from None
