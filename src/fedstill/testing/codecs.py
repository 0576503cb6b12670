"""The contract of a codec, as tests to inherit.

A module of tests derives a class and says how to make the codec, how coarse it may be, and how large::

    class TestMine(CodecContract):
        tolerance = 0.01

        def make(self):
            return Mine()

        def most_bytes(self, release):
            return 100 + release.labels.values.size
"""
# ruff: noqa: S101 - these are tests, although they are shipped

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest

from fedstill.codecs.base import Codec
from fedstill.errors import WireError
from fedstill.flaws import flaw_of_labels
from fedstill.labels import Array, Release, SoftLabels, Space
from fedstill.testing.fakes import CLASSES, QUANTILES

MUTATIONS = 500


def _labels(space: Space, n: int, *, items: Array | None = None, weight: Array | None = None) -> SoftLabels:
    random = np.random.default_rng(n)
    values = np.sort(random.normal(size=(n, 3)), axis=1)
    if space is Space.PROBABILITIES:
        values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    return SoftLabels.of(np.arange(n) if items is None else items, values, space, weight)


_PARAMETERS = {"w": np.array([[-2.5, 0, 1], [2, 3, 4e7]], "f4"), "b": np.array([0.5], "f4"), "s": np.array(3, "f4")}
RELEASES = {
    "quantiles": Release(_labels(Space.QUANTILES, 5)),
    "probabilities": Release(_labels(Space.PROBABILITIES, 5)),
    "weighted": Release(_labels(Space.QUANTILES, 4, weight=np.array([0, 1, 0.5, 2], "f4"))),
    "some items": Release(_labels(Space.QUANTILES, 3, items=np.array([1, 4, 2**31]))),
    "no items": Release(_labels(Space.QUANTILES, 0)),
    "told": Release(_labels(Space.PROBABILITIES, 2), count=2**40, score=0.25),
    "parameters": Release(parameters=_PARAMETERS),
    "sketch": Release(sketch=np.array([-1.5, 0, 3e7, 0.25], "f4"), score=0.5),
    "within a clip": Release(parameters=_PARAMETERS, within=-1.75),
    "nothing": Release(),
}
"""What every codec has to carry."""


class CodecContract:
    """What every codec keeps to. Derive, and override `make`, `most_bytes` and, if it is coarse, `tolerance`."""

    tolerance: ClassVar[float] = 0.0
    """How far a value may be from what was encoded."""

    def make(self) -> Codec:
        """Build the codec."""
        raise NotImplementedError

    def most_bytes(self, release: Release) -> int:
        """The most bytes that this release may take."""
        raise NotImplementedError

    @pytest.fixture(params=RELEASES)
    def release(self, request: pytest.FixtureRequest) -> Release:
        """Each kind of release in turn."""
        return RELEASES[request.param]

    def test_what_goes_in_comes_out(self, release: Release) -> None:
        """All of a release comes back, within the tolerance, in the types of soft labels."""
        codec = self.make()
        back = codec.decode(codec.encode(release))
        assert (back.count, math.isnan(back.score)) == (release.count, math.isnan(release.score))
        assert math.isnan(release.score) or back.score == release.score
        assert math.isnan(back.within) if math.isnan(release.within) else back.within == release.within
        assert set(back.parameters) == set(release.parameters)
        for name, array in release.parameters.items():
            assert back.parameters[name].shape == array.shape
            np.testing.assert_allclose(back.parameters[name], array, atol=self.tolerance, rtol=0)
        assert (back.sketch is None) == (release.sketch is None)
        if back.sketch is not None and release.sketch is not None:
            assert back.sketch.dtype == np.float32
            np.testing.assert_allclose(back.sketch, release.sketch, atol=self.tolerance, rtol=0)
        assert (back.labels is None) == (release.labels is None)
        if back.labels is None or release.labels is None:
            return
        assert back.labels.space is release.labels.space
        types = [array.dtype for array in (back.labels.items, back.labels.values, back.labels.weight)]
        assert types == [np.int64, np.float32, np.float32]
        assert np.array_equal(back.labels.items, release.labels.items)
        np.testing.assert_allclose(back.labels.values, release.labels.values, atol=self.tolerance, rtol=0)
        np.testing.assert_allclose(back.labels.weight, release.labels.weight, atol=self.tolerance, rtol=0)

    def test_what_comes_out_is_well_formed(self) -> None:
        """However coarse, quantiles do not cross and probabilities sum to 1: a coordinator takes them."""
        codec = self.make()
        for outputs in (QUANTILES, CLASSES):
            labels = codec.decode(codec.encode(Release(_labels(outputs.space, 50)))).labels
            assert labels is not None
            assert flaw_of_labels(labels, outputs, 50) == ""

    def test_it_is_pure(self, release: Release) -> None:
        """Same release, same bytes; and what came out goes in again as the same bytes."""
        codec = self.make()
        payload = codec.encode(release)
        assert self.make().encode(release) == payload
        assert codec.encode(codec.decode(payload)) == payload
        assert codec.encode(codec.decode(memoryview(payload))) == payload  # as a coordinator has it on its disk

    def test_the_bound_holds(self, release: Release) -> None:
        """A release takes no more bytes than declared."""
        assert 0 < len(self.make().encode(release)) <= self.most_bytes(release)

    def test_parts_are_refused(self, release: Release) -> None:
        """No prefix of a payload is one, nor is a payload with something behind it."""
        codec = self.make()
        payload = codec.encode(release)
        for part in (*(payload[:stop] for stop in range(len(payload))), payload + b"\0"):
            with pytest.raises(WireError):
                codec.decode(part)

    def test_noise_is_refused_or_harmless(self, release: Release) -> None:
        """Flipped bits and random bytes give WireError or a release whose parts fit together; nothing else."""
        codec, random = self.make(), np.random.default_rng(0)
        payload = np.frombuffer(codec.encode(release), np.uint8)
        for _ in range(MUTATIONS):
            damaged = payload.copy()
            damaged[random.integers(len(damaged), size=random.integers(1, 4))] ^= np.uint8(1 << random.integers(8))
            for data in (damaged.tobytes(), random.bytes(int(random.integers(64)))):
                try:
                    labels = codec.decode(data).labels
                except WireError:
                    continue
                if labels is not None:
                    assert labels.items.shape == labels.weight.shape == labels.values.shape[:1]
