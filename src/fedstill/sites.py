"""What a task hands to a participant: rows to learn from, the folds to hold back of them, and the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedstill.labels import Array, Outputs, Party, Space


@dataclass(frozen=True, eq=False)
class Rows:
    """Inputs `X`, float32, shape (n, f), and targets `y`, shape (n,): floats, or class indices.

    `block` says which rows have errors in common, shape (n,): their day. None: every row stands for itself.
    """

    X: Array
    y: Array
    block: Array | None = None

    def __len__(self) -> int:
        return len(self.y)

    def block_means(self, values: Array) -> Array:
        """Mean of row values, shape (n,), over each block, shape (blocks,)."""
        if self.block is None:
            return values
        _, of = np.unique(self.block, return_inverse=True)
        means: Array = np.bincount(of, values) / np.bincount(of)
        return means

    def where(self, chosen: Array) -> Rows:
        """The rows where `chosen`, shape (n,), is true."""
        return Rows(self.X[chosen], self.y[chosen], None if self.block is None else self.block[chosen])

    @classmethod
    def stack(cls, parts: Sequence[Rows]) -> Rows:
        """All rows, one part after the other; blocks of the same name are one block."""
        blocks = [one.block for one in parts if one.block is not None]
        return cls(
            np.concatenate([one.X for one in parts]),
            np.concatenate([one.y for one in parts]),
            np.concatenate(blocks) if len(blocks) == len(parts) else None,
        )


@dataclass(frozen=True, eq=False)
class View:
    """Rows as a model sees them whose training is accounted for: what one day says is in few of them.

    The inputs of `Rows` look back over more than a week, so that one day is in the rows of ten. Those of a view look
    back as little as they can.

    Attributes
    ----------
    known:
        Inputs on no private scale: what is known in advance, or all columns of a table; float64, shape (n, a).
    relative:
        Inputs in the unit of the targets, to be divided by their size: load relative to that of the day before, shape
        (n, b); b is 0 for classes.
    swing:
        How far the load swings on each day (standard deviation), in the same unit, shape (days,): what a size is told
        from. Each number needs the readings of one day alone. None for classes.
    offset:
        What added to a prediction makes it one of the task's outputs, in the same unit, shape (n,); zero for classes.
    y:
        Targets, in the same unit, or class indices, shape (n,); None for a transfer set.
    block:
        The unit of privacy that each row is of, shape (n,): its day, or its place; rows of one block lie together.
    reach:
        So many blocks need something of one unit, at most: its own, and those of days that look back on it. Without
        the unit these are not there, and all others are as they were.
    back:
        How many days the rows of a day look back, at most.
    first:
        The first block that the history has room for.
    blocks:
        How many blocks the history has room for, which is public: days from its first to its last, or rows.
    lot:
        Where units are in no order: a number that follows from a row's own unit and from nothing else, uint64, shape
        (n,). None: blocks are days, whose numbers do not depend on what other days there are.
    """

    known: Array
    relative: Array
    swing: Array | None
    offset: Array
    y: Array | None
    block: Array
    reach: int
    blocks: int
    back: int = 0
    first: int = 0
    lot: Array | None = None

    def __len__(self) -> int:
        return len(self.known)

    def where(self, chosen: Array) -> View:
        """The rows where `chosen`, shape (n,), is true; what is public, and the swings of all days, stay."""
        known, relative, offset, block = (part[chosen] for part in (self.known, self.relative, self.offset, self.block))
        y, lot = (None if part is None else part[chosen] for part in (self.y, self.lot))
        return replace(self, known=known, relative=relative, offset=offset, block=block, y=y, lot=lot)


@dataclass(frozen=True)
class Floor:
    """The best that can be done without learning: a fixed rule, with the spread that its errors had in training.

    For classes the rule is empty: how often each class came up. For forecasts it is the seasonal-naive rule that did
    best on the site's own training days; targets are residuals over the federation's base, so another rule shows as
    a sum of inputs.

    Attributes
    ----------
    values:
        Soft label of every item before the rule is added, k numbers.
    rule:
        Name of the rule; empty where there is none.
    slopes:
        What the rule adds: so many times that column of the inputs.
    """

    values: tuple[float, ...]
    rule: str = ""
    slopes: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def fit(cls, outputs: Outputs, y: Array) -> Floor:
        """Take the floor from training targets, shape (n,)."""
        if outputs.space is Space.QUANTILES:
            quantiles = np.quantile(y, outputs.levels)
            return cls(tuple((quantiles - quantiles[outputs.median]).tolist()))
        counts = np.bincount(y, minlength=len(outputs)) + 1.0  # Laplace's rule: no class is impossible
        return cls(tuple((counts / counts.sum()).tolist()))

    @classmethod
    def best(cls, outputs: Outputs, X: Array, y: Array, rules: Mapping[str, Mapping[int, float]]) -> Floor:
        """The rule with the lowest loss on training rows, X (n, f) and y (n,); rules are slopes by name."""
        floors = []
        for name, slopes in rules.items():
            rest = y - _sloped(X, slopes)
            floors.append(replace(cls.fit(outputs, rest), rule=name, slopes=dict(slopes)))
        return min(floors, key=lambda floor: loss(outputs, y, floor.predict(X)))

    def predict(self, X: Array) -> Array:
        """What the rule says of each row of X, shape (n, f); float32, shape (n, k)."""
        values: Array = (np.asarray(self.values) + _sloped(X, self.slopes)[:, None]).astype(np.float32)
        return values

    def scaled(self, centre: Array, spread: Array) -> Floor:
        """The same floor for inputs on the scale `(X - centre) / spread`, both (f,)."""
        moved = sum(slope * float(centre[column]) for column, slope in self.slopes.items())
        slopes = {column: slope * float(spread[column]) for column, slope in self.slopes.items()}
        return replace(self, values=tuple(value + moved for value in self.values), slopes=slopes)


def _sloped(X: Array, slopes: Mapping[int, float]) -> Array:
    """What a rule adds to each row, float64, shape (n,)."""
    total = np.zeros(len(X))
    for column, slope in slopes.items():
        total += slope * np.asarray(X[:, column], np.float64)
    return total


@dataclass(frozen=True, eq=False)
class Site:
    """One enterprise's side of a task. Its rows never leave it.

    Attributes
    ----------
    party:
        Whose it is.
    rows:
        Rows that models learn from.
    floor:
        The floor, from the targets of these rows.
    fold:
        The fold of each row, shape (n,), counted from 0: rows of a fold are held back together, to judge a model that
        learned from the others. -1: never held back.
    view:
        The same rows for a model whose training is accounted for; None where the task has none.
    """

    party: Party
    rows: Rows
    floor: Floor
    fold: Array
    view: View | None = None

    @property
    def folds(self) -> range:
        """All folds; none where nothing is held back."""
        return range(int(self.fold.max(initial=-1)) + 1)

    def held_back(self, folds: Sequence[int]) -> Rows:
        """The rows of these folds, in their order."""
        return self.rows.where(np.isin(self.fold, folds))

    @property
    def units(self) -> Array:
        """The day of each row, or its place where each row stands for itself, shape (n,)."""
        return np.arange(len(self.rows)) if self.rows.block is None else self.rows.block

    def of_units(self, there: Array) -> Site:
        """The site as it would be had it only the rows of these units."""
        chosen = np.isin(self.units, there)
        view = None if self.view is None else self.view.where(np.isin(self.view.block, there))
        return replace(self, rows=self.rows.where(chosen), fold=self.fold[chosen], view=view)

    def without(self, fold: int) -> Rows:
        """The rows that are left to learn from when a fold is held back."""
        return self.rows.where(self.fold != fold)


def stretches(day: Array, folds: int, longest: int) -> Array:
    """Folds of rows by their day, both shape (n,): whole stretches of the days there are, dealt out in turn.

    What comes next is unlike what is known; so is a stretch of which no neighbour was seen, more than single days are
    whose eve and morrow are known. Stretches have at most `longest` days, so that a long history has every
    season in every fold. Fewer than two folds: nothing is held back.
    """
    days, position = np.unique(day, return_inverse=True)
    folds = min(folds, len(days))
    if folds < 2:
        return np.full(len(day), -1)
    length = min(-(-len(days) // folds), longest)
    dealt: Array = position // length % folds
    return dealt


def dealt(y: Array, folds: int) -> Array:
    """Folds of rows in random order with classes y, both shape (n,): each class is dealt out in turn.

    Fewer than two folds: nothing is held back.
    """
    folds = min(folds, len(y))
    fold = np.full(len(y), -1)
    if folds > 1:
        fold[np.argsort(y, kind="stable")] = np.arange(len(y)) % folds
    return fold


def losses(outputs: Outputs, y: Array, predicted: Array) -> Array:
    """Pinball loss of each row, mean over levels, or log-loss; shape (n,)."""
    if outputs.space is Space.QUANTILES:
        error = y[:, None] - np.asarray(predicted, np.float64)
        pinball: Array = np.maximum(outputs.levels * error, (outputs.levels - 1) * error).mean(axis=1)
        return pinball
    chosen = np.asarray(predicted, np.float64)[np.arange(len(y)), y]
    log_loss: Array = -np.log(np.clip(chosen, 1e-12, 1))
    return log_loss


def loss(outputs: Outputs, y: Array, predicted: Array) -> float:
    """Mean loss over rows, NaN without rows: the one number by which models are compared inside a federation."""
    return float(losses(outputs, y, predicted).mean()) if len(y) else float("nan")
