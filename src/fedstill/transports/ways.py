"""The way to an address by its scheme: https:// or mqtts://. Each is imported only when chosen.

Proxies are taken from the usual environment variables. For one that is itself reached by TLS, FEDSTILL_CA_BUNDLE names
a file (PEM) with the authorities that vouch for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from fedstill.errors import ConfigError, MissingExtra
from fedstill.transports.links import Link


class Way(Link, Protocol):
    """A link that can also renew a certificate, and tell the coordinator's time."""

    async def renew(self, request_pem: bytes) -> bytes:
        """A new certificate (PEM) for the participant."""
        ...

    async def clock(self) -> float:
        """The coordinator's time in Unix seconds."""
        ...


def bundle() -> Path | None:
    """The file that FEDSTILL_CA_BUNDLE names; None where it is not set."""
    name = os.environ.get("FEDSTILL_CA_BUNDLE")
    return Path(name) if name else None


def connect(address: str, *, certificate: Path, key: Path, authority_pem: bytes) -> Way:
    """A participant's link to a coordinator.

    Raises
    ------
    ConfigError
        Where the address or a file cannot be used.
    MissingExtra
        Where the package of its transport is not installed.
    """
    if _scheme(address) == "https":
        from fedstill.transports.https import HttpsLink

        return HttpsLink(address, certificate=certificate, key=key, authority_pem=authority_pem, bundle=bundle())
    _need_mqtt()
    from fedstill.transports.mqtt.link import MqttLink

    return MqttLink(address, certificate=certificate, key=key, authority_pem=authority_pem, bundle=bundle())


async def enrol(address: str, token: str, request_pem: bytes, authority_pem: bytes) -> tuple[bytes, bytes]:
    """Join with an invitation: the participant's certificate and the authority's, PEM. Raises as the links do."""
    if _scheme(address) == "https":
        from fedstill.transports.https import enrol as over_https

        return await over_https(address, token, request_pem, authority_pem, bundle=bundle())
    _need_mqtt()
    from fedstill.transports.mqtt.link import enrol as over_mqtt

    return await over_mqtt(address, token, request_pem, authority_pem, bundle=bundle())


def _scheme(address: str) -> str:
    scheme = address.partition("://")[0]
    if scheme not in ("https", "mqtts"):
        raise ConfigError(
            f"'{address}' is not the address of a coordinator",
            where="address",
            remedy="It begins with https:// or mqtts://",
        )
    return scheme


def _need_mqtt() -> None:
    from importlib.util import find_spec

    if find_spec("paho") is None:
        raise MissingExtra(
            "a way over MQTT needs the package 'paho-mqtt'", remedy='Install it: pip install "fedstill[mqtt]"'
        )
