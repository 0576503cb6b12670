"""What a local model must do to take part, and what the shipped ones share; each family has its own file."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from fedstill.errors import ConfigError, LearnerError, MissingExtra
from fedstill.labels import Array, Outputs, Parameters, Space
from fedstill.learners import store


@runtime_checkable
class Learner(Protocol):
    """A local model, in scikit-learn's habits: options in the constructor, nothing learned before `fit`.

    A learner is built as `Kind(outputs, seed=0, **options)`. Rows `X` are float32 or float64, shape (n, f),
    finite. Targets `y` have shape (n,): floats where the outputs are quantiles, class indices (int64)
    where they are probabilities. The same seed and rows give the same model, bit for bit.
    """

    outputs: Outputs

    def fit(self, X: Array, y: Array) -> Self:
        """Learn from private rows alone, from scratch."""
        ...

    def predict(self, X: Array) -> Array:
        """Quantiles that do not decrease along a row, or probabilities that sum to 1; float32, (n, k)."""
        ...

    def distil(
        self, X: Array, y: Array, X_transfer: Array, teacher: Array, weight: Array, share: float
    ) -> Self:
        """Learn from private rows and from a teacher's soft labels together.

        Parameters
        ----------
        X, y:
            Private rows and targets, (n, f) and (n,).
        X_transfer, teacher, weight:
            Transfer inputs (m, f), the teacher's beliefs about them (m, k) and how much each counts (m,).
        share:
            The part of the total weight that the teacher gets: 0 is `fit`, 1 ignores the private rows.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the model into an existing, empty folder, without pickle."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises LearnerError where the folder does not hold such a model."""
        ...


@runtime_checkable
class Parametric(Learner, Protocol):
    """A learner whose model is a fixed set of arrays, so that these can be averaged."""

    def initialise(self, n_features: int) -> Self:
        """Set start parameters that depend on the seed, the options and the shapes alone."""
        ...

    def parameters(self) -> Parameters:
        """The model's arrays by name (copies)."""
        ...

    def set_parameters(self, parameters: Parameters) -> None:
        """Replace the model's arrays. Raises LearnerError where names or shapes differ."""
        ...

    def train(self, X: Array, y: Array, epochs: int, learning_rate: float) -> None:
        """Go on from the present parameters for some passes over private rows."""
        ...

    def gradient(self, X: Array, y: Array) -> Parameters:
        """The gradient of the mean loss over the rows at the present parameters."""
        ...


def teacher_weights(n: int, weight: Array, share: float) -> tuple[float, Array]:
    """Weights of one private row and of each transfer row, so that the teacher has `share` of the total.

    The weights sum to n, as they would without a teacher, so options that depend on the number of rows
    (regularisation, leaf sizes) keep their meaning.
    """
    total = float(weight.sum())
    if total <= 0 or share <= 0:
        return 1.0, np.zeros(len(weight))
    return 1.0 - share, np.asarray(weight, np.float64) * (share * n / total)


def tidy(outputs: Outputs, raw: Array) -> Array:
    """Make raw predictions soft labels: quantiles sorted, probabilities clipped and summing to 1."""
    if outputs.space is Space.QUANTILES:
        ordered: Array = np.sort(raw, axis=1).astype(np.float32)
        return ordered
    clipped = np.clip(np.asarray(raw, np.float64), 1e-6, None)
    shares: Array = (clipped / clipped.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


@dataclass(frozen=True)
class Option:
    """One option of a learner; the type of its default is the type it has.

    Attributes
    ----------
    default:
        A whole number, a number, or a tuple of whole numbers.
    low, high:
        The least and the greatest value allowed (of each item, where it is a tuple).
    """

    default: int | float | tuple[int, ...]
    low: float
    high: float

    def check(self, kind: str, name: str, value: Any) -> Any:
        """Return the value as the default's type. Raises ConfigError where it cannot be that."""
        if isinstance(self.default, tuple):
            fits = isinstance(value, list | tuple) and all(self._is_number(item, int) for item in value)
            wanted = "a list of whole numbers"
        else:
            fits = self._is_number(value, type(self.default))
            wanted = "a whole number" if isinstance(self.default, int) else "a number"
        if not fits:
            raise ConfigError(
                f"{kind} cannot take {name} = {value!r}",
                remedy=f"{name} is {wanted} from {self.low:g} to {self.high:g}; without it {self.default}",
            )
        return type(self.default)(value)

    def _is_number(self, value: Any, kind: type) -> bool:
        kinds = (int, np.integer) if kind is int else (int, float, np.integer, np.floating)
        return (
            isinstance(value, kinds) and not isinstance(value, bool) and bool(self.low <= value <= self.high)
        )


def check_known(kind: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise ConfigError for the first name that is not known, with the nearest one that is."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{close[0]}'? " if close else ""
            raise ConfigError(
                f"{kind} has no option '{name}'", remedy=f"{hint}There are: {', '.join(known) or 'none'}"
            )


def check_options(kind: str, known: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in defaults. Raises ConfigError for a bad value or an unknown name, with the nearest known."""
    check_known(kind, given, known)
    return {
        name: option.check(kind, name, given[name]) if name in given else option.default
        for name, option in known.items()
    }


def check_outputs(outputs: Outputs) -> None:
    """Raise ConfigError where outputs have no meaning: levels out of (0, 1) or not rising, a single class."""
    if outputs.space is Space.QUANTILES:
        levels = outputs.levels
        if not len(levels) or levels[0] <= 0 or levels[-1] >= 1 or np.any(np.diff(levels) <= 0):
            raise ConfigError(
                f"{outputs.columns} are not quantile levels", remedy="Give rising numbers in (0, 1)"
            )
    elif len(outputs) < 2 or len(set(outputs.columns)) < len(outputs):
        raise ConfigError(
            f"{outputs.columns} are not classes to tell apart", remedy="Name two or more different classes"
        )


def brief(error: BaseException) -> str:
    """What an error of another library says, fit for the middle of a sentence of ours."""
    return " ".join(str(error).split())[:300].rstrip(". ")


def need(module: str, extra: str) -> Any:
    """Import a library that an extra brings. Raises MissingExtra where it is absent or cannot be loaded."""
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: a system library beneath it is missing
        raise MissingExtra(
            f"the library '{module}' cannot be used: {brief(error)}",
            remedy=f'Run: pip install "fedstill[{extra}]"',
        ) from error


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
        raise LearnerError(
            f"{name} has {len(values)} rows but {other} has {n}", remedy="Give one for each row"
        )


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
            raise LearnerError(
                "a weight is negative", where=f"row {np.argmax(weight < 0)}", remedy="Use 0 to abstain"
            )
        if not 0 <= share <= 1:
            raise LearnerError(f"the teacher's share cannot be {share}", remedy="Give a number from 0 to 1")
        if outputs.space is Space.PROBABILITIES and len(teacher):
            wrong = (teacher < 0).any(axis=1) | (np.abs(teacher.sum(axis=1) - 1) > 0.01)
            if wrong.any():
                raise LearnerError(
                    "the teacher's row is no distribution over classes", where=f"row {np.argmax(wrong)}"
                )
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


def check_training(epochs: int, learning_rate: float) -> None:
    """Raise LearnerError for a recipe that no network can be trained by."""
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
            raise LearnerError(
                f"parameter '{name}' holds values that are not finite", remedy="Refuse this update"
            )


class BaseLearner(ABC):
    """The shared half of the shipped learners: options, checks, and the frame of what is stored.

    A family names its `kind` and `OPTIONS` and fills in `_learn`, `_raw`, `_write` and `_read`. `fit` and
    `distil` differ only in the rows that `_learn` gets. Both start from scratch: what was learned before
    has no say.
    """

    kind: ClassVar[str]
    OPTIONS: ClassVar[Mapping[str, Option]] = {}

    def __init__(self, outputs: Outputs, seed: int = 0, **options: Any) -> None:
        check_outputs(outputs)
        self.outputs = outputs
        self.seed: int = Option(0, 0, 2**32 - 1).check(type(self).__name__, "seed", seed)
        self.options = check_options(type(self).__name__, self.OPTIONS, options)
        self.n_features: int | None = None

    def fit(self, X: Array, y: Array) -> Self:
        """Learn from private rows alone; see `Learner.fit`."""
        return self._learn_checked(Rows.private(self.outputs, X, y))

    def distil(
        self, X: Array, y: Array, X_transfer: Array, teacher: Array, weight: Array, share: float
    ) -> Self:
        """Learn from private rows (or none) and a teacher; see `Learner.distil`."""
        own = Rows.private(self.outputs, X, y)
        return self._learn_checked(own.taught(self.outputs, X_transfer, teacher, weight, share))

    def _learn_checked(self, rows: Rows) -> Self:
        self._learn(rows.filled())
        self.n_features = rows.X.shape[1]
        return self

    def predict(self, X: Array) -> Array:
        """Soft labels for rows; see `Learner.predict`."""
        X = check_matrix("X", X, self._trained())
        raw = self._raw(X) if len(X) else np.empty((0, len(self.outputs)))
        if not np.isfinite(raw).all():
            raise LearnerError(
                f"a {type(self).__name__} predicts values that are not finite",
                remedy="Its training went astray: lower the learning rate",
            )
        return tidy(self.outputs, raw)

    def _trained(self) -> int:
        if self.n_features is None:
            raise LearnerError(
                f"a {type(self).__name__} has not learned anything yet", remedy="Call fit or load first"
            )
        return self.n_features

    def save(self, folder: Path) -> None:
        """Write the model, its card last: without that nothing is complete; see `Learner.save`."""
        n_features = self._trained()
        store.check_empty(folder)
        self._write(folder)
        store.write_card(
            folder,
            store.Card(self.kind, self.outputs, self.seed, dict(self._stored_options()), n_features),
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; see `Learner.load`."""
        card = store.read_card(folder)
        if card.kind != cls.kind:
            raise LearnerError(
                f"the folder holds a model of kind '{card.kind}', not '{cls.kind}'",
                where=str(folder),
                remedy="Load it with the learner that wrote it",
            )
        try:
            learner = cls(card.outputs, card.seed, **card.options)
            learner.n_features = card.n_features
            learner._read(folder)
        except LearnerError:
            raise
        except Exception as error:  # whatever the library beneath makes of such a file
            raise LearnerError(
                f"the model cannot be read: {brief(error)}", where=str(folder), remedy="Train it again"
            ) from error
        return learner

    def _stored_options(self) -> Mapping[str, Any]:
        return self.options

    @abstractmethod
    def _learn(self, rows: Rows) -> None:
        """Learn from scratch."""

    @abstractmethod
    def _raw(self, X: Array) -> Array:
        """Predict (n, k) for one row or more; `tidy` comes after."""

    @abstractmethod
    def _write(self, folder: Path) -> None:
        """Write the model's own files."""

    @abstractmethod
    def _read(self, folder: Path) -> None:
        """Read them; any exception means that they are not what they should be."""
