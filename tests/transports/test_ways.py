"""The way to an address, and what the environment says of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedstill.errors import ConfigError, LinkDown
from fedstill.testing.coordinator import Consortium
from fedstill.transports.authority import Authority
from fedstill.transports.identity import Identity
from fedstill.transports.roles import Role
from fedstill.transports.ways import connect, enrol

ADDRESSES = ["https://127.0.0.1:1", "mqtts://127.0.0.1:1/name?enrol=1"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_authorities_of_a_proxy_are_trusted_where_the_environment_names_them(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if address.startswith("mqtts"):
        pytest.importorskip("paho.mqtt")
    consortium = Consortium(tmp_path, "test")
    papers = consortium.papers("ann", Role.PARTICIPANT)
    authority = consortium.authority.cert_pem
    kept = {"certificate": papers.certificate, "key": papers.key, "authority_pem": authority}
    bundle = tmp_path / "corporate.pem"
    monkeypatch.setenv("FEDSTILL_CA_BUNDLE", str(bundle))
    with pytest.raises(ConfigError, match=r"corporate\.pem"):
        connect(address, **kept)
    with pytest.raises(ConfigError, match=r"corporate\.pem"):
        asyncio.run(enrol(address, "token", Identity.create().request_pem("ann"), authority))
    bundle.write_bytes(Authority.create("corporate", datetime.now(UTC)).cert_pem)

    async def reach() -> None:
        link = connect(address, **kept)
        try:
            await link.terms()
        finally:
            await link.close()

    if address.startswith("https"):
        with pytest.raises(LinkDown):  # all files are usable, and nobody is there
            asyncio.run(reach())
