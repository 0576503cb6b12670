"""The proxy through which a broker is reached, from the usual environment variables.

HTTPS_PROXY and NO_PROXY count as for the way over HTTPS: the proxy is asked to CONNECT (RFC 9110, section 9.3.6), and
TLS goes through it from end to end. A proxy may also be one of SOCKS 5 (RFC 1928): socks5://host:port.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from fedstill.errors import ConfigError, MissingExtra

PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}
"""Of kinds of proxies, where none is named."""


def proxy_to(host: str) -> dict[str, Any] | None:
    """How to reach a host, as `Client.proxy_set` of paho wants it; None where no proxy is set.

    Raises
    ------
    ConfigError
        Where what is set cannot be used.
    MissingExtra
        Where the package that speaks to proxies is not installed.
    """
    said = getproxies().get("https", "")
    if not said or proxy_bypass(host):
        return None
    try:
        parts = urlsplit(said if "://" in said else f"http://{said}")
        usual = PORTS.get(parts.scheme, 0)
        name, port = parts.hostname, parts.port or usual
    except ValueError:
        name, port, usual = None, 0, 0
    if not name or not usual:
        raise ConfigError(
            "the proxy cannot be used for MQTT",
            where="HTTPS_PROXY",
            remedy="Write http://host:port or socks5://host:port, or name the broker in NO_PROXY",
        )
    try:
        import socks  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra(
            "a way over MQTT through a proxy needs the package 'PySocks'",
            where="HTTPS_PROXY",
            remedy='Install it: pip install "fedstill[mqtt]"; or name the broker in NO_PROXY',
        ) from None
    return {
        "proxy_type": socks.HTTP if parts.scheme == "http" else socks.SOCKS5,
        "proxy_addr": name,
        "proxy_port": port,
        "proxy_username": None if parts.username is None else unquote(parts.username),
        "proxy_password": None if parts.password is None else unquote(parts.password),
    }
