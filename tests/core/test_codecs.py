"""The shipped codecs keep the contract."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fedstill.codecs.raw import Raw
from fedstill.errors import WireError
from fedstill.labels import Release, Space
from fedstill.testing.codecs import RELEASES, CodecContract
from fedstill.testing.fakes import QUANTILES, soft
from fedstill.wire import pack

NAN = float("nan")


class TestRaw(CodecContract):
    def make(self):
        return Raw()

    def most_bytes(self, release):
        """4 bytes a number, and 32 for each array and what stands around it."""
        labels = release.labels
        numbers = sum(array.size for array in release.parameters.values())
        numbers += 0 if release.sketch is None else release.sketch.size
        if labels is not None:
            numbers += labels.values.size + labels.items.size + labels.weight.size
        return 96 + 4 * numbers + 32 * len(release.parameters)


def test_what_is_implied_is_not_sent():
    """A 2 x 3 table takes its 24 bytes and 64 around it; items and weights are sent only where they say something."""
    plain = Raw().encode(Release(soft(QUANTILES, [0, 1])))
    weighted = Raw().encode(Release(soft(QUANTILES, [0, 1], weight=[1, 2])))
    assert plain.endswith(np.float32([0, 0, 0, 1, 1, 1]).tobytes())
    assert len(plain) == 24 + 64
    assert b"weight" not in plain
    assert b"items" not in plain
    assert weighted.endswith(np.float32([1, 2]).tobytes())


F4, TABLE = np.float32, np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({}, "table"),
        ({"values": np.zeros(3, F4)}, "table"),
        ({"values": np.zeros((2, 3))}, "table"),
        ({"values": np.zeros((2**31 - 1, 0), F4)}, "table"),
        ({"values": TABLE, "items": np.array(0, "u4")}, "fit"),
        ({"values": TABLE, "items": np.zeros(3, "u4")}, "fit"),
        ({"values": TABLE, "items": np.array([0.2, 1.7])}, "fit"),
        ({"values": TABLE, "items": np.array([-1, 0])}, "fit"),
        ({"values": TABLE, "weight": np.array(1, F4)}, "fit"),
        ({"values": TABLE, "weight": np.ones((2, 1), F4)}, "fit"),
        ({"values": TABLE, "weight": np.ones(2, bool)}, "fit"),
        ({"values": TABLE, "more": np.ones(2)}, "'more' has no place"),
        ({"values": TABLE, "p:w": np.ones(2)}, "element type"),
    ],
    ids=lambda given: ",".join(given) if isinstance(given, dict) else given,
)
def test_tables_that_cannot_be_are_refused(arrays, why):
    header = {"space": "quantiles", "count": 0, "score": NAN}
    with pytest.raises(WireError, match=why):
        Raw().decode(pack(header, arrays))


@pytest.mark.parametrize("sketch", [np.zeros((2, 2), F4), np.array(1, F4), np.zeros(2)], ids=["2-d", "0-d", "f8"])
def test_sketches_that_cannot_be_are_refused(sketch):
    with pytest.raises(WireError, match="sketch"):
        Raw().decode(pack({"space": None, "count": 0, "score": NAN}, {"sketch": sketch}))


def test_a_release_without_labels_has_no_table():
    with pytest.raises(WireError, match="'values' has no place"):
        Raw().decode(pack({"space": None, "count": 0, "score": NAN}, {"values": TABLE}))


@pytest.mark.parametrize(
    "header", [{"space": "logits", "count": 0, "score": NAN}, {"space": None, "count": "1", "score": 0.0}, [], None]
)
def test_headers_that_cannot_be_are_refused(header):
    with pytest.raises(WireError, match="header"):
        Raw().decode(pack(header, {}))


def test_the_space_is_told_apart():
    """Both spaces come back as themselves, and nothing as None."""
    spaces = [release.labels and Raw().decode(Raw().encode(release)).labels.space for release in RELEASES.values()]
    assert set(spaces) == {Space.QUANTILES, Space.PROBABILITIES, None}
    assert msgspec.msgpack.encode(Space.QUANTILES) == b"\xa9quantiles"
