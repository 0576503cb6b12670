"""What an attacker wants to read, what of it is public anyway, and the best guess that needs no release.

For forecasts it is a site's load on given days: all inputs that are made of load. The calendar and what is known in
advance (weather) are public. For classes every column is private, and each row stands for itself. What lies more than
three standard deviations of the transfer set away counts as three: networks see no more, and a column that hardly
varies there must not decide alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedstill.labels import Array, Party, Space
from fedstill.sites import Rows
from fedstill.tasks.base import Task
from fedstill.tasks.inputs import AHEAD, CALENDAR

FARTHEST = 3.0
"""Standard deviations of the transfer set from which on a value counts as so many; where networks clip their inputs."""
MOST_ROWS = 6000
"""Rows of a site that its prior is fitted to; a year has more, which say the same."""
PENALTY = 1e-3
DEGREES = (0, 1, 2)


@dataclass(frozen=True, eq=False)
class Columns:
    """Which columns of the inputs are public, and which private, by their numbers."""

    public: Array
    private: Array

    @classmethod
    def of(cls, task: Task) -> Columns:
        """The columns of a task."""
        ahead = task.outputs.space is Space.QUANTILES
        public = np.array([ahead and name.startswith(CALENDAR + AHEAD) for name in task.features], bool)
        return cls(np.flatnonzero(public), np.flatnonzero(~public))


@dataclass(frozen=True, eq=False)
class Blocks:
    """Some days (or single rows) of one site.

    Attributes
    ----------
    X:
        Their rows on the public scale of the transfer set, clipped, float64, shape (n, f).
    y:
        Targets of these rows, (n,).
    of:
        Which block each row belongs to, 0 to d - 1 without a gap, not falling, shape (n,).
    columns:
        Which of the inputs are public.
    """

    X: Array
    y: Array
    of: Array
    columns: Columns

    @classmethod
    def all(cls, rows: Rows, columns: Columns) -> Blocks:
        """All blocks of a site's rows, in their order."""
        of = np.arange(len(rows)) if rows.block is None else np.unique(rows.block, return_inverse=True)[1].ravel()
        order = np.argsort(of, kind="stable")
        return cls(clipped(rows.X[order]), rows.y[order], of[order], columns)

    def __len__(self) -> int:
        return int(self.of.max(initial=-1)) + 1

    def some(self, n: int, rng: np.random.Generator) -> Blocks:
        """At most so many of them, drawn at random, in their order."""
        return self if len(self) <= n else self.take(np.sort(rng.choice(len(self), n, replace=False)))

    def take(self, chosen: Array) -> Blocks:
        """These blocks, shape (d,), rising."""
        rows = np.isin(self.of, chosen)
        return Blocks(self.X[rows], self.y[rows], np.searchsorted(chosen, self.of[rows]), self.columns)

    def means(self, values: Array) -> Array:
        """Mean of row values, (n, ...), over each block, (d, ...)."""
        counts = np.bincount(self.of).astype(np.float64)
        total = np.add.reduceat(values, np.searchsorted(self.of, np.arange(len(counts))), axis=0)
        found: Array = total / counts.reshape(-1, *[1] * (values.ndim - 1))
        return found

    @cached_property
    def public(self) -> Array:
        """What the attacker knows of each row, (n, p)."""
        return self.X[:, self.columns.public]

    @cached_property
    def truth(self) -> Array:
        """What it wants to know of each block: the mean of its private columns, (d, q)."""
        return self.means(self.X[:, self.columns.private])

    def imagined(self, private: Array) -> Array:
        """The rows with other private columns, (n, q), in place of their own; (n, f)."""
        X = self.X.copy()
        X[:, self.columns.private] = private
        return X


def clipped(X: Array) -> Array:
    """Inputs within three standard deviations of the transfer set, float64."""
    return np.clip(np.asarray(X, np.float64), -FARTHEST, FARTHEST)


def known(public: Array, degree: int) -> Array:
    """Public columns (n, p) as inputs of a regression: 1, then the columns, then their products."""
    parts = [np.ones((len(public), 1))]
    if degree >= 1:
        parts.append(public)
    if degree >= 2:
        first, second = np.triu_indices(public.shape[1])
        parts.append(public[:, first] * public[:, second])
    return np.column_stack(parts)


@dataclass(frozen=True, eq=False)
class Guess:
    """Private columns as a polynomial of public ones: coefficients by degree."""

    degree: int
    coefficients: Array

    def __call__(self, public: Array) -> Array:
        """Private columns, (n, q), of rows with these public columns, (n, p)."""
        return clipped(known(public, self.degree) @ self.coefficients)


@dataclass(frozen=True, eq=False)
class Prior:
    """The best guess of a site's private columns by who has the transfer set and the data of other sites, no release.

    It is a ridge regression of the private columns on the public ones, of degree 0, 1 or 2, fitted to the transfer set
    alone or to it and other sites, as does best on sites that it was not fitted to.
    """

    transfer: Blocks
    others: Mapping[Party, Blocks]
    _sums: dict[tuple[Party, int], tuple[Array, Array]] = field(default_factory=dict, init=False, repr=False)
    _found: dict[tuple[frozenset[Party], bool], Guess] = field(default_factory=dict, init=False, repr=False)

    def without(self, hidden: Iterable[Party], *, linear: bool = False) -> Guess:
        """The guess of one who has no data of these participants; `linear`: of degree 1, from the same sites."""
        key = frozenset(hidden), linear
        if key not in self._found:
            self._found[key] = self._fitted(*self._choice(key[0], linear), key[0])
        return self._found[key]

    def habits(self, party: Party) -> Guess:
        """The regression of the highest degree, fitted to a participant's own rows: habits that no other knows."""
        degree = self._degrees[-1]
        return Guess(degree, _ridge(*self._summed(party, degree)))

    def _choice(self, hidden: frozenset[Party], linear: bool) -> tuple[int, bool]:
        shadows = sorted(set(self.others) - hidden)
        degrees = DEGREES[1:2] if linear else self._degrees
        options = [(degree, alone) for degree in degrees for alone in (True, False)]
        if not shadows:
            return degrees[-1 if len(degrees) < 3 else 1], True

        def error(option: tuple[int, bool]) -> float:
            """Mean squared error on sites left out, but for their own mean squares, which all options share."""
            total = 0.0
            for shadow in shadows:
                told = self._fitted(*option, hidden | {shadow}).coefficients
                gram, cross = self._summed(shadow, option[0])
                total += float((told * (gram @ told - 2 * cross)).sum())
            return total

        return min(options, key=error)

    @property
    def _degrees(self) -> tuple[int, ...]:
        return DEGREES if self.transfer.columns.public.size else DEGREES[:1]

    def _fitted(self, degree: int, alone: bool, hidden: frozenset[Party]) -> Guess:
        sites = [""] if alone else ["", *sorted(set(self.others) - hidden)]
        grams, crosses = zip(*(self._summed(site, degree) for site in sites), strict=True)
        return Guess(degree, _ridge(np.mean(grams, axis=0), np.mean(crosses, axis=0)))

    def _summed(self, site: Party, degree: int) -> tuple[Array, Array]:
        """Mean products of a site's regressors with themselves and with its private columns: sites count alike."""
        if (site, degree) not in self._sums:
            blocks = self.others[site] if site else self.transfer
            every = max(1, len(blocks.X) // MOST_ROWS)
            inputs = known(blocks.public[::every], degree)
            private = blocks.X[::every, blocks.columns.private]
            self._sums[site, degree] = inputs.T @ inputs / len(inputs), inputs.T @ private / len(inputs)
        return self._sums[site, degree]


def _ridge(gram: Array, cross: Array) -> Array:
    """Coefficients of a ridge regression from mean products; the first regressor is 1 and not held back."""
    penalty = PENALTY * np.trace(gram) / len(gram) * np.eye(len(gram))
    penalty[0, 0] = 0.0
    found: Array = np.linalg.solve(gram + penalty, cross)
    return found
