"""What a task is: it turns a site's data into rows, and model outputs back into units."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from fedstill.energy.heterogeneity import Profile
from fedstill.errors import ConfigError
from fedstill.labels import Array, Outputs
from fedstill.sites import Site, View

MOST_FOLDS = 20
"""Every fold is one more training."""


Change = Callable[[Any], Any]
"""Makes of a participant's data what they would be had it some property."""


@dataclass(frozen=True, eq=False)
class Examination:
    """The rows on which models are judged at the end, which nothing before has seen.

    Attributes
    ----------
    X:
        Inputs, shape (n, f).
    actual:
        The truth in its own unit (kW), or class indices, shape (n,).
    base, scale:
        `base + scale * output` is a model's output in the truth's unit, shape (n,); None for classes.
    block:
        Local day since 1970-01-01, or row number, shape (n,): what is resampled together.
    time:
        UTC start of each interval, datetime64[ns]; None for classes.
    rules:
        Other floors by name (`naive_day`, ...), in the truth's unit, shape (n,).
    """

    X: Array
    actual: Array
    block: Array
    base: Array | None = None
    scale: Array | None = None
    time: Array | None = None
    rules: Mapping[str, Array] = field(default_factory=dict)

    @property
    def targets(self) -> Array:
        """The truth as a model should say it, shape (n,): residuals on the site's scale, or class indices."""
        if self.base is None or self.scale is None:
            return self.actual
        found: Array = (self.actual - self.base) / self.scale
        return found

    def restore(self, predicted: Array) -> Array:
        """Model outputs, shape (n, k), in the truth's unit."""
        if self.base is None or self.scale is None:
            return predicted
        restored: Array = self.base[:, None] + self.scale[:, None] * predicted
        return restored


@dataclass(frozen=True, eq=False)
class Scaling:
    """A public scale for inputs, the same for all participants: centre and spread of each column, shape (f,)."""

    centre: Array
    spread: Array

    def apply(self, X: Array) -> Array:
        """Inputs on that scale, float32, shape (n, f)."""
        scaled: Array = ((X - self.centre) / self.spread).astype(np.float32)
        return scaled


@dataclass(frozen=True, eq=False)
class Prepared:
    """A site made ready: what it learns from, what it is judged on, and what its owner should know."""

    site: Site
    examination: Examination
    notes: tuple[str, ...] = ()
    left_out_rows: int = 0
    zone: str | None = None
    scale: float = 1.0
    """What a model output of 1 is in the truth's unit."""
    profile: Profile | None = None
    """What the load of its history is like; private, and sent to nobody: only a simulation reports it."""
    coverage: float | None = None
    """Share of its inputs that the transfer set covers, as private; None where no soft labels of items travel."""

    def scaled(self, scaling: Scaling) -> Prepared:
        """The same with all inputs put on a scale."""
        rows, exam = self.site.rows, self.examination
        site = replace(
            self.site,
            rows=replace(rows, X=scaling.apply(rows.X)),
            floor=self.site.floor.scaled(scaling.centre, scaling.spread),
        )
        return replace(self, site=site, examination=replace(exam, X=scaling.apply(exam.X)))


@dataclass(frozen=True, eq=False)
class TransferSet:
    """Unlabelled inputs that all participants can read.

    Attributes
    ----------
    X:
        Inputs, float32, shape (m, f); items are its row numbers.
    n_bytes:
        What it takes to hand the data behind `X` to one participant, as float32.
    block:
        Which items have much in common, shape (m,): those of one day of one site. None: each stands for itself.
    """

    X: Array
    n_bytes: int
    block: Array | None = None

    @classmethod
    def join(cls, parts: Sequence[TransferSet]) -> TransferSet:
        """The items of one or more sets, one set after the other; no block is in two of them."""
        blocks, used = [], 0
        for one in parts:
            own = np.arange(len(one.X)) if one.block is None else np.unique(one.block, return_inverse=True)[1]
            blocks.append(own.ravel() + used)
            used += len(one.X)
        return cls(np.concatenate([one.X for one in parts]), sum(one.n_bytes for one in parts), np.concatenate(blocks))

    def sample(self, items: int, seed: int) -> TransferSet:
        """At most so many of its items, drawn at random, in their order."""
        if len(self.X) <= items:
            return self
        drawn = np.sort(np.random.default_rng(seed).choice(len(self.X), items, replace=False))
        return replace(self, X=self.X[drawn], block=None if self.block is None else self.block[drawn])

    @cached_property
    def scaling(self) -> Scaling:
        """The scale that makes its columns have mean 0 and standard deviation 1; constant columns stay."""
        spread = self.X.std(axis=0, dtype=np.float64)
        centre = self.X.mean(axis=0, dtype=np.float64)
        return Scaling(centre.astype(np.float32), np.where(spread > 1e-6, spread, 1.0).astype(np.float32))


def contributed(prepared: Prepared, items: int, seed: int = 0) -> TransferSet:
    """Items that a participant gives away: inputs of some of the rows that it learns from, for everybody to read.

    No target and no test row is in it. But inputs of forecasts hold past load relative to the site's
    level and scale, so that the days before a row can be read from it up to their unit.

    Parameters
    ----------
    prepared:
        What the task made of its data, before any scaling.
    items:
        At most so many rows, drawn at random.
    seed:
        Of the draw, together with the participant's name, so that another participant changes nothing for this one.
    """
    site = prepared.site
    whole = TransferSet(site.rows.X, 0, site.rows.block)
    drawn = whole.sample(items, zlib.crc32(f"{seed}/{site.party}".encode()))
    return replace(drawn, n_bytes=drawn.X.nbytes)


class Task(Protocol):
    """What is predicted, the same for all participants of a federation."""

    name: str

    @property
    def outputs(self) -> Outputs:
        """What every model predicts."""
        ...

    @property
    def companions(self) -> tuple[str, ...]:
        """Learners that train beside every participant's own, unless it says otherwise."""
        ...

    @property
    def units(self) -> tuple[str, ...]:
        """Units of privacy that one block of a view hides (see `privacy.spending.Unit`), the usual one first."""
        ...

    @property
    def properties(self) -> Mapping[str, Change]:
        """What an owner may not want known of its data as a whole, by name: what attacks try to tell."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns of X."""
        ...

    def prepare(self, party: str, data: Any, history: tuple[str | None, str | None] = (None, None)) -> Prepared:
        """Make a site's data ready; `history` bounds what it learns from. Raises DataError."""
        ...

    def transfer(self, data: Any) -> TransferSet:
        """Make a transfer set of public data. Raises DataError."""
        ...

    def view(self, X: Array, block: Array | None = None) -> View:
        """What a release model sees of a transfer set's inputs, as they were before any scaling; shape (m, f)."""
        ...


def check_folds(folds: int) -> None:
    """Refuse a number of folds that cannot be. Raises ConfigError."""
    if not 1 <= folds <= MOST_FOLDS:
        raise ConfigError(
            f"a history cannot be held back in {folds} folds",
            where="task.folds",
            remedy=f"Use 2 to {MOST_FOLDS}, or 1 to hold nothing back",
        )
