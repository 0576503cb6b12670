"""What participants tell each other: soft labels, parameters, and the release that carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Party = str
"""The id of a participant."""

Parameters = Mapping[str, Array]
"""Named arrays of a model, or of a gradient of one."""


class Space(StrEnum):
    """What the columns of soft labels are."""

    PROBABILITIES = "probabilities"
    """One column a class; a row sums to 1."""
    QUANTILES = "quantiles"
    """One column a quantile level; a row does not decrease."""


@dataclass(frozen=True)
class Outputs:
    """What every model of a federation predicts: the space and the meaning of its columns.

    Attributes
    ----------
    space:
        Class probabilities or forecast quantiles.
    columns:
        Class names, or quantile levels between 0 and 1 in rising order.
    """

    space: Space
    columns: tuple[str, ...] | tuple[float, ...]

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def levels(self) -> Array:
        """Quantile levels, shape (k,)."""
        return np.asarray(self.columns, dtype=np.float64)

    @property
    def median(self) -> int:
        """The column of the median (or of the level nearest to it)."""
        return int(np.argmin(np.abs(self.levels - 0.5)))


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """One voice's beliefs about items of the transfer set.

    Attributes
    ----------
    items:
        Row ids of the transfer set, int64, shape (n,), rising.
    values:
        Beliefs, float32, shape (n, k).
    weight:
        How much each item's belief counts, float32, shape (n,), not negative; 0 abstains.
    space:
        What the k columns are.
    """

    items: Array
    values: Array
    weight: Array
    space: Space

    @classmethod
    def of(cls, items: Array, values: Array, space: Space, weight: Array | None = None) -> SoftLabels:
        """Build soft labels in the dtypes of the wire; every item counts 1 unless `weight` is given."""
        n = len(items)
        return cls(
            items=np.asarray(items, dtype=np.int64),
            values=np.ascontiguousarray(values, dtype=np.float32),
            weight=np.ones(n, np.float32) if weight is None else np.asarray(weight, np.float32),
            space=space,
        )


@dataclass(frozen=True, eq=False)
class Release:
    """Everything that leaves a site in one answer, or that a teacher carries back.

    Attributes
    ----------
    labels:
        Soft labels, where the algorithm exchanges beliefs.
    parameters:
        Model parameters or gradients, where it exchanges those.
    count:
        Number of private rows, where the recipe asks for it; 0 says nothing.
    score:
        Held-out loss of the model that speaks, where the recipe asks for it; NaN says nothing.
    sketch:
        Sketch of soft labels (see `grouping.sketch`), float32, shape (m,), where the recipe asks for one.
    within:
        1 where the update was within an adaptive clip, 0 where it was clipped, with noise or without, where the recipe
        asks for it; NaN says nothing.
    """

    labels: SoftLabels | None = None
    parameters: Parameters = field(default_factory=dict)
    count: int = 0
    score: float = float("nan")
    sketch: Array | None = None
    within: float = float("nan")
