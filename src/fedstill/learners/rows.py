"""Rows that models learn from, private and taught, checked once; and how networks see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedstill.errors import LearnerError
from fedstill.labels import Array, Outputs, Parameters, Space


def teacher_weights(n: int, weight: Array, share: float) -> tuple[float, Array]:
    """Weights of one private row and of each transfer row, so that the teacher has `share` of the total.

    The weights sum to n, as they would without a teacher, so options that depend on the number of rows
    (regularisation, leaf sizes) keep their meaning.
    """
    total = float(weight.sum())
    if total <= 0 or share <= 0:
        return 1.0, np.zeros(len(weight))
    return 1.0 - share, np.asarray(weight, np.float64) / total * (share * n)


def tidy(outputs: Outputs, raw: Array) -> Array:
    """Make raw predictions soft labels: quantiles sorted, probabilities clipped and summing to 1."""
    if outputs.space is Space.QUANTILES:
        ordered: Array = np.sort(raw, axis=1).astype(np.float32)
        return ordered
    clipped = np.clip(np.asarray(raw, np.float64), 1e-6, None)
    shares: Array = (clipped / clipped.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def check_matrix(name: str, values: Any, columns: int | None) -> Array:
    """Return values as finite float64 of shape (n, columns), or (n,) where columns is 0 (None: any number).

    Raises
    ------
    LearnerError
        Where the shape differs or a value is not finite in float32, in which many libraries count.
    """
    try:
        matrix: Array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise LearnerError(f"{name} does not hold numbers", remedy="Turn its columns into numbers") from error
    axes = 1 if columns == 0 else 2
    if matrix.ndim != axes or (columns and matrix.shape[1] != columns):
        wanted = "(n,)" if axes == 1 else f"(n, {columns or 'features'})"
        raise LearnerError(f"{name} has the shape {matrix.shape}, not {wanted}")
    if axes == 2 and matrix.shape[1] == 0:
        raise LearnerError(f"{name} has no columns", remedy="Give each row one feature or more")
    usable = np.abs(matrix) <= np.finfo(np.float32).max
    if not usable.all():
        place = np.argwhere(~usable)[0]
        where = ", ".join(f"{axis} {index}" for axis, index in zip(("row", "column"), place, strict=False))
        raise LearnerError(
            f"{name} holds {matrix[tuple(place)]}, which no model can learn from",
            where=where,
            remedy="Leave such rows out or fill them before",
        )
    return matrix


def check_length(name: str, values: Array, other: str, n: int) -> None:
    """Raise LearnerError where two things that belong together differ in length."""
    if len(values) != n:
        raise LearnerError(f"{name} has {len(values)} rows but {other} has {n}", remedy="Give one for each row")


def check_targets(outputs: Outputs, y: Any) -> Array:
    """Return targets (n,): float64, or int64 class indices. Raises LearnerError where they are not that."""
    values = check_matrix("y", y, columns=0)
    if outputs.space is Space.QUANTILES:
        return values
    classes: Array = values.astype(np.int64)
    wrong = np.flatnonzero((classes != values) | (classes < 0) | (classes >= len(outputs)))
    if len(wrong):
        raise LearnerError(
            f"y holds {values[wrong[0]]:g}, which is no class",
            where=f"row {wrong[0]}",
            remedy=f"Classes are whole numbers from 0 to {len(outputs) - 1}",
        )
    return classes


@dataclass(frozen=True)
class Rows:
    """What a model learns from: the private rows, and below them the transfer rows; none without weight.

    Attributes
    ----------
    X:
        Inputs, float64, (n, f).
    target:
        What each column of the outputs shall be, float64, (n, k): at private rows the value in every
        column, or 1 at the class; at transfer rows the teacher's belief.
    weight:
        How much each row counts, float64, (n,), positive.
    own:
        How many of the rows are private.
    """

    X: Array
    target: Array
    weight: Array
    own: int

    @classmethod
    def private(cls, outputs: Outputs, X: Any, y: Any, n_features: int | None = None) -> Rows:
        """Check private rows; they count 1 each. Raises LearnerError where they cannot be learned from."""
        X, y = check_matrix("X", X, n_features), check_targets(outputs, y)
        check_length("y", y, "X", len(X))
        k = len(outputs)
        target = np.eye(k)[y] if outputs.space is Space.PROBABILITIES else np.repeat(y[:, None], k, axis=1)
        return cls(X, target, np.ones(len(y)), len(y))

    def taught(self, outputs: Outputs, X: Any, teacher: Any, weight: Any, share: float) -> Rows:
        """Add transfer rows (m, f), the teacher's beliefs (m, k) and weights (m,), so that they have `share`.

        Without private rows the teacher has it all, unless `share` is 0.
        """
        X = check_matrix("X_transfer", X, self.X.shape[1])
        teacher = check_matrix("teacher", teacher, len(outputs))
        weight = check_matrix("weight", weight, columns=0)
        check_length("teacher", teacher, "X_transfer", len(X))
        check_length("weight", weight, "X_transfer", len(X))
        if np.any(weight < 0):
            raise LearnerError("a weight is negative", where=f"row {np.argmax(weight < 0)}", remedy="Use 0 to abstain")
        if not 0 <= share <= 1:
            raise LearnerError(f"the teacher's share cannot be {share}", remedy="Give a number from 0 to 1")
        if outputs.space is Space.PROBABILITIES and len(teacher):
            wrong = (teacher < 0).any(axis=1) | (np.abs(teacher.sum(axis=1) - 1) > 0.01)
            if wrong.any():
                raise LearnerError("the teacher's row is no distribution over classes", where=f"row {np.argmax(wrong)}")
        if self.own:
            each, theirs = teacher_weights(self.own, weight, share)
        else:
            each, theirs = teacher_weights(len(weight), weight, float(share > 0))
        every = np.concatenate([np.full(self.own, each), theirs])
        kept = every > 0
        return Rows(
            np.concatenate([self.X, X])[kept],
            np.concatenate([self.target, teacher])[kept],
            every[kept],
            int(kept[: self.own].sum()),
        )

    @property
    def share(self) -> float:
        """The part of the total weight that the transfer rows have."""
        return float(self.weight[self.own :].sum() / self.weight.sum())

    def filled(self) -> Rows:
        """Return the rows themselves. Raises LearnerError where there are none."""
        if not len(self.X):
            raise LearnerError("there are no rows to learn from", remedy="Give one row with weight or more")
        return self

    def by_class(self) -> tuple[Array, Array, Array]:
        """Rows with one class each: X, class index, weight.

        A row is repeated for each class that has a probability, which is then part of the weight. The
        cross-entropy to a soft target is linear in it, so this is exact, not an approximation.
        """
        row, label = np.nonzero(self.target > 0)
        return self.X[row], label, self.weight[row] * self.target[row, label]


@dataclass(frozen=True)
class Scale:
    """How a network sees rows: inputs standardised and clipped to +-3, targets standardised, outputs bounded.

    A network goes on in a straight line beyond the rows it has seen, and a site has seen a few weeks. Clipped
    inputs and bounded outputs keep its summer forecast sane when it was trained in winter.

    Attributes
    ----------
    mean, inverse:
        Of each column, (f,): what is subtracted, and what the rest is multiplied by (0 for a constant
        column).
    target:
        (4,): what is subtracted from targets, what the rest is divided by, and their bounds.
    """

    mean: Array
    inverse: Array
    target: Array

    @classmethod
    def common(cls, n_features: int) -> Scale:
        """Leave everything as it is but for the clipping: the scale that federated parameters live on."""
        return cls(np.zeros(n_features), np.ones(n_features), np.array([0.0, 1.0, -np.inf, np.inf]))

    @classmethod
    def of(cls, outputs: Outputs, rows: Rows) -> Scale:
        """Take the scale from the rows that a network is trained on."""
        mean = np.average(rows.X, axis=0, weights=rows.weight)
        spread = np.sqrt(np.average((rows.X - mean) ** 2, axis=0, weights=rows.weight))
        varies = spread > 1e-9 * np.maximum(np.abs(mean), 1e-9)
        inverse = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
        target = cls.common(1).target
        if outputs.space is Space.QUANTILES:
            centre = np.average(rows.target.mean(axis=1), weights=rows.weight)
            size = np.sqrt(np.average(((rows.target - centre) ** 2).mean(axis=1), weights=rows.weight))
            target = np.array([centre, max(size, 1e-9), rows.target.min(), rows.target.max()])
        return cls(mean, inverse, target)

    @property
    def is_common(self) -> bool:
        """Whether this is the scale of federated parameters."""
        return not self.mean.any() and bool(np.all(self.inverse == 1))

    def inputs(self, X: Array) -> Array:
        """What the network gets, (n, f)."""
        scaled: Array = np.clip((X - self.mean) * self.inverse, -3, 3)
        return scaled

    def targets(self, target: Array) -> Array:
        """What the network learns to say, (n, k)."""
        scaled: Array = (target - self.target[0]) / self.target[1]
        return scaled

    def restore(self, said: Array) -> Array:
        """What the network says in the units of the targets, (n, k)."""
        values: Array = np.clip(said * self.target[1] + self.target[0], self.target[2], self.target[3])
        return values

    def arrays(self) -> dict[str, Array]:
        """By name, for a file."""
        return {"scale.mean": self.mean, "scale.inverse": self.inverse, "scale.target": self.target}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Scale:
        """The opposite of `arrays`."""
        return cls(arrays["scale.mean"], arrays["scale.inverse"], arrays["scale.target"])


def check_training(epochs: int, learning_rate: float, proximal: float = 0.0) -> None:
    """Raise LearnerError for a recipe that no network can be trained by."""
    if not 0 <= proximal < np.inf:
        raise LearnerError(
            f"a network cannot be held near its start by a proximal term of {proximal}",
            remedy="Give a finite number, 0 or more",
        )
    if epochs < 1 or not 0 < learning_rate < np.inf:
        raise LearnerError(
            f"a network cannot be trained for {epochs} epochs at the learning rate {learning_rate}",
            remedy="Give one epoch or more and a positive, finite rate",
        )


def check_trained(arrays: Iterable[Array]) -> None:
    """Raise LearnerError where training has run away."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise LearnerError("the training of the network ran away", remedy="Lower the learning rate")


def check_parameters(present: Parameters, given: Parameters) -> None:
    """Raise LearnerError where names or shapes are not the present ones, or a value is not finite."""
    if set(present) != set(given):
        raise LearnerError(
            f"the parameters are {', '.join(sorted(given)) or 'none'}, not {', '.join(sorted(present))}",
            remedy="Let all participants choose the same kind of learner and the same options",
        )
    for name, array in present.items():
        if np.shape(given[name]) != array.shape:
            raise LearnerError(
                f"parameter '{name}' has the shape {np.shape(given[name])}, not {array.shape}",
                remedy="Let all participants choose the same options and features",
            )
        if not np.isfinite(given[name]).all():
            raise LearnerError(f"parameter '{name}' holds values that are not finite", remedy="Refuse this update")
