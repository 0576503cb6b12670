"""The codec that changes nothing: float32 values as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fedstill.errors import WireError
from fedstill.labels import Array, Release, SoftLabels, Space
from fedstill.wire import pack, unpack

_PARAMETER = "p:"


@dataclass(frozen=True)
class _Header:
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
        if release.sketch is not None:
            arrays["sketch"] = np.asarray(release.sketch, "<f4")
        if not math.isnan(release.within):
            arrays["within"] = np.asarray(release.within, "<f4")
        labels = release.labels
        if labels is not None:
            arrays["values"] = labels.values
            if not np.array_equal(labels.items, np.arange(len(labels.items))):
                arrays["items"] = labels.items.astype("<u4")
            if not np.all(labels.weight == 1):
                arrays["weight"] = labels.weight
        return pack(_Header(labels.space if labels else None, release.count, release.score), arrays)

    def decode(self, payload: bytes | memoryview) -> Release:
        """Decode a release. Raises WireError where the bytes are not one."""
        header, arrays = unpack(payload, _Header)
        named = [name for name in arrays if name.startswith(_PARAMETER)]
        parameters = {name.removeprefix(_PARAMETER): arrays.pop(name) for name in named}
        if any(array.dtype.str != "<f4" for array in parameters.values()):
            raise WireError("parameters come in another element type than float32")
        sketch = arrays.pop("sketch", None)
        if sketch is not None and (sketch.ndim != 1 or sketch.dtype.str != "<f4"):
            raise WireError("a sketch needs a row of values, float32")
        within = arrays.pop("within", None)
        if within is not None and (within.ndim or within.dtype.str != "<f4" or np.isnan(within)):
            raise WireError("whether an update was within the clip is one number, float32")
        labels = None if header.space is None else self._labels(header.space, arrays)
        if arrays:
            raise WireError(f"an array '{next(iter(arrays))[:40]}' has no place in a release")
        return Release(
            labels, parameters, header.count, header.score, sketch, math.nan if within is None else float(within)
        )

    @staticmethod
    def _labels(space: Space, arrays: dict[str, Array]) -> SoftLabels:
        values = arrays.pop("values", None)
        # A table without columns takes no bytes however many rows it claims, but its items would.
        if values is None or values.ndim != 2 or not values.shape[1] or values.dtype.str != "<f4":
            raise WireError("soft labels need a table of values, float32, with a column or more")
        items, weight = arrays.pop("items", None), arrays.pop("weight", None)
        for given, dtype in ((items, "<u4"), (weight, "<f4")):
            if given is not None and (given.shape != values.shape[:1] or given.dtype.str != dtype):
                raise WireError("the items or weights do not fit the table of values")
        all_items, ones = _implied(len(values))
        return SoftLabels.of(all_items if items is None else items, values, space, ones if weight is None else weight)


@lru_cache(maxsize=1)
def _implied(size: int) -> tuple[Array, Array]:
    """Items 0..size-1 and weights of 1, which all of a round share."""
    items, weight = np.arange(size, dtype=np.int64), np.ones(size, np.float32)
    for array in (items, weight):
        array.flags.writeable = False
    return items, weight
