"""What a local model must do to take part, and what the shipped ones share; each family has its own file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from fedstill.errors import LearnerError
from fedstill.labels import Array, Outputs, Parameters
from fedstill.learners import store
from fedstill.learners.options import Option, brief, check_options, check_outputs
from fedstill.learners.rows import Rows, Scale, check_matrix, check_parameters, tidy
from fedstill.messages import Part


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

    def distil(self, X: Array, y: Array, X_transfer: Array, teacher: Array, weight: Array, share: float) -> Self:
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

    def head(self) -> tuple[str, ...]:
        """Names of the parameters of the output layer; the others, its body, make a representation of the inputs."""
        ...

    def train(self, X: Array, y: Array, epochs: int, learning_rate: float, proximal: float = 0.0) -> None:
        """Go on from the present parameters for some passes over private rows.

        Parameters
        ----------
        X, y:
            Private rows and targets, (n, f) and (n,).
        epochs, learning_rate:
            Passes over the rows, and step size.
        proximal:
            mu of the term mu/2 ||w - w_t||^2, added to the loss, that holds all parameters w near those at the start
            of this call, w_t (FedProx, arXiv:1812.06127). 0 is plain training, bit for bit.
        """
        ...

    def gradient(self, X: Array, y: Array) -> Parameters:
        """The gradient of the mean loss over the rows at the present parameters."""
        ...


def divide(model: Parametric, parameters: Parameters, home: Part) -> tuple[Parameters, Parameters]:
    """Parameters of a model, or what belongs to them, as two: those that travel, and those that stay at home."""
    kept: set[str] = set()
    if home is not Part.NONE:
        head = set(model.head())
        kept = head if home is Part.HEAD else set(parameters) - head
    return (
        {name: array for name, array in parameters.items() if name not in kept},
        {name: array for name, array in parameters.items() if name in kept},
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

    def distil(self, X: Array, y: Array, X_transfer: Array, teacher: Array, weight: Array, share: float) -> Self:
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
            raise LearnerError(f"a {type(self).__name__} has not learned anything yet", remedy="Call fit or load first")
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


class BaseNetwork(BaseLearner):
    """What all networks share: their options, and parameters that are shared on a common scale only.

    `fit` and `distil` put rows on a scale of their own (`Scale`). Averaged networks must share one: after
    `initialise` and `set_parameters` rows are taken as they come, on the federation's common scale, and only
    clipped to +-3. Therefore `parameters` after `fit` or `distil` is refused.

    A network fills in `_arrays` and `_take`.
    """

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "hidden": Option((64,), 1, 100_000),
        "epochs": Option(80, 1, 100_000),
        "batch": Option(64, 1, 1_000_000),
        "learning_rate": Option(0.004, 1e-9, 10),
        "decay": Option(10.0, 0, 1e9),
    }

    def __init__(self, outputs: Outputs, seed: int = 0, **options: Any) -> None:
        super().__init__(outputs, seed, **options)
        self._scale = Scale.common(1)

    def parameters(self) -> Parameters:
        """Weights and biases; see `Parametric.parameters`."""
        self._trained()
        if not self._scale.is_common:
            raise LearnerError(
                "this network was fitted on a scale of its own, so its parameters mean nothing to others",
                remedy="Call initialise and train instead of fit",
            )
        return self._arrays()

    def set_parameters(self, parameters: Parameters) -> None:
        """Take on weights; see `Parametric.set_parameters`."""
        n_features = self._trained()
        check_parameters(self._arrays(), parameters)
        self._take(parameters)
        self._scale = Scale.common(n_features)

    def head(self) -> tuple[str, ...]:
        """Weights and biases of the output layer; see `Parametric.head`."""
        self._trained()
        return tuple(self._arrays())[-2:]

    @abstractmethod
    def _arrays(self) -> dict[str, Array]:
        """Copies of the weights and biases by name, those of the output layer last."""

    @abstractmethod
    def _take(self, parameters: Parameters) -> None:
        """Replace weights and biases by checked ones."""
