"""The codec that changes nothing: float32 values as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fedstill.errors import WireError
from fedstill.labels import Array, Release, SoftLabels, Space
from fedstill.wire import pack, unpack

_PARAMETER = "p:"


class _Header(NamedTuple):
    space: Space | None
    count: int
    score: float


@dataclass(frozen=True)
class Raw:
    """Values at full precision. Items 0..n-1 and weights of 1 are implied, not sent."""

    def encode(self, release: Release) -> bytes:
        """Encode a release."""
        arrays: dict[str, Array] = {
            _PARAMETER + name: np.asarray(array, "<f4") for name, array in release.parameters.items()
        }
        labels = release.labels
        if labels is not None:
            arrays["values"] = labels.values
            if not np.array_equal(labels.items, np.arange(len(labels.items))):
                arrays["items"] = labels.items.astype("<u4")
            if not np.all(labels.weight == 1):
                arrays["weight"] = labels.weight
        return pack(_Header(labels.space if labels else None, release.count, release.score), arrays)

    def decode(self, payload: bytes) -> Release:
        """Decode a release. Raises WireError where the bytes are not one."""
        header, arrays = unpack(payload, _Header)
        parameters = {
            name.removeprefix(_PARAMETER): array for name, array in arrays.items() if name.startswith(_PARAMETER)
        }
        labels = None if header.space is None else self._labels(header.space, arrays)
        return Release(labels=labels, parameters=parameters, count=header.count, score=header.score)

    @staticmethod
    def _labels(space: Space, arrays: dict[str, Array]) -> SoftLabels:
        values = arrays.get("values")
        if values is None or values.ndim != 2:
            raise WireError("soft labels need a table of values")
        items = arrays.get("items", np.arange(len(values)))
        return SoftLabels.of(items, values, space, arrays.get("weight"))
