"""What tests of several folders share: a consortium, and a broker for it. Imports wait: the base install lacks them."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    from fedstill.testing.coordinator import Consortium

    return Consortium(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def broker(consortium, tmp_path_factory):
    """A Mosquitto that runs, with the files that are written for operators."""
    from fedstill.testing.broker import Mosquitto

    with Mosquitto(tmp_path_factory.mktemp("broker"), consortium.authority) as broker:
        yield broker


@pytest.fixture
def blobs(tmp_path):
    from fedstill.service.store.blobs import Blobs

    return Blobs(tmp_path / "blobs", 10**7)
