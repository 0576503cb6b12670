"""Two small networks in NumPy: a linear model and a multi-layer perceptron.

They are not scikit-learn's because that has none for quantiles, and none that gives a gradient to share;
its linear quantile regression is an exact linear programme, which takes tens of times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax
from threadpoolctl import threadpool_limits

from fedstill.errors import LearnerError
from fedstill.labels import Array, Outputs, Parameters, Space
from fedstill.learners import store
from fedstill.learners.base import BaseNetwork
from fedstill.learners.options import Option
from fedstill.learners.rows import Rows, Scale, check_trained, check_training

Layers = list[tuple[Array, Array]]
"""Weights (inputs, outputs) and bias (outputs,) of each layer."""


BANDWIDTH = 0.01
"""Half-width of the rounded kink of the pinball loss, in units of the (standardised) target."""


def network_loss(outputs: Outputs, said: Array, target: Array, weight: Array) -> tuple[float, Array]:
    """Mean loss over rows, and its gradient by what the network says.

    Quantiles: the pinball loss, smoothed by a logistic kernel so that it has a gradient everywhere
    ("conquer", He, Pan, Tan and Zhou, Journal of Econometrics 2023), mean over levels. Classes:
    cross-entropy of the softmax with the soft target.

    Parameters
    ----------
    outputs:
        What the k columns are.
    said, target:
        Raw outputs of the network and what they should be, (n, k).
    weight:
        Of each row, (n,); counts as given, so with weights of mean 1 the loss is a weighted mean.
    """
    each = weight[:, None] / len(said)
    if outputs.space is Space.PROBABILITIES:
        loss = -(each * target * log_softmax(said, axis=1)).sum()
        return float(loss), each * (softmax(said, axis=1) * target.sum(axis=1, keepdims=True) - target)
    each, levels, miss = each / len(outputs), outputs.levels, (target - said) / BANDWIDTH
    loss = (each * BANDWIDTH * (levels * miss + np.logaddexp(0, -miss))).sum()
    return float(loss), each * (expit(-miss) - levels)


class MLP(BaseNetwork):
    """A multi-layer perceptron (rectified linear units) that says all quantiles, or all classes, at once.

    It is trained on the quantile loss itself, so federated averaging needs nothing beside its weights.
    `fit` and `distil` put rows on a scale of their own (`Scale`). Averaged networks must share one: after
    `initialise` and `set_parameters` rows are taken as they come, on the federation's common scale, and
    only clipped to +-3.

    Parameters
    ----------
    outputs, seed:
        As for every learner.
    hidden:
        Units of each hidden layer.
    epochs, batch, learning_rate:
        Passes over the rows, rows a step, and the first step size of Adam, which falls to 0; for `fit` and `distil`.
    decay:
        Penalty on squared weights, counted once against the sum of the rows' losses: the more rows, the less it
        matters.

    Notes
    -----
    `parameters` after `fit` or `distil` is refused, since weights on private scales must not be averaged.
    """

    kind = "mlp"

    def __init__(self, outputs: Outputs, seed: int = 0, **options: Any) -> None:
        super().__init__(outputs, seed, **options)
        self._layers: Layers = []

    def initialise(self, n_features: int) -> Self:
        """Set start weights (Glorot and Bengio, AISTATS 2010); see `Parametric.initialise`."""
        random = np.random.default_rng(self.seed)
        sizes = [n_features, *self._hidden(), len(self.outputs)]
        self._layers = []
        for wide, narrow in pairwise(sizes):
            bound = 1 / np.sqrt(wide)
            self._layers.append((random.uniform(-bound, bound, (wide, narrow)), np.zeros(narrow)))
        self._scale, self.n_features = Scale.common(n_features), n_features
        return self

    def _arrays(self) -> dict[str, Array]:
        return {name: array.copy() for name, array in self._named(self._layers).items()}

    def _take(self, parameters: Parameters) -> None:
        self._layers = [
            (np.array(parameters[f"weight_{i}"], np.float64), np.array(parameters[f"bias_{i}"], np.float64))
            for i in range(len(self._layers))
        ]

    def train(self, X: Array, y: Array, epochs: int, learning_rate: float, proximal: float = 0.0) -> None:
        """Go on with Adam from the present weights; see `Parametric.train`."""
        check_training(epochs, learning_rate, proximal)
        scaled = self._scaled(X, y)
        with threadpool_limits(limits=1):
            self._adam(*scaled, epochs, lambda _: learning_rate, proximal)

    def loss(self, X: Array, y: Array) -> float:
        """Mean loss over rows at the present weights: what `gradient` is the gradient of."""
        Z, target, weight = self._scaled(X, y)
        return network_loss(self.outputs, self._forward(Z)[-1], target, weight)[0]

    def gradient(self, X: Array, y: Array) -> Parameters:
        """Exact gradient of `loss` over all rows; see `Parametric.gradient`."""
        return self._named(self._backward(*self._scaled(X, y))[1])

    def _hidden(self) -> tuple[int, ...]:
        hidden: tuple[int, ...] = self.options["hidden"]
        return hidden

    @staticmethod
    def _named(layers: Layers) -> dict[str, Array]:
        return {
            f"{part}_{i}": array
            for i, layer in enumerate(layers)
            for part, array in zip(("weight", "bias"), layer, strict=True)
        }

    def _scaled(self, X: Array, y: Array) -> tuple[Array, Array, Array]:
        rows = Rows.private(self.outputs, X, y, self._trained()).filled()
        return self._scale.inputs(rows.X), self._scale.targets(rows.target), rows.weight

    def _forward(self, Z: Array) -> list[Array]:
        """What each layer gets, and last what the network says."""
        flow = [Z]
        for i, (weights, bias) in enumerate(self._layers):
            said = flow[-1] @ weights + bias
            flow.append(said if i == len(self._layers) - 1 else np.maximum(said, 0))
        return flow

    def _backward(self, Z: Array, target: Array, weight: Array) -> tuple[float, Layers]:
        flow = self._forward(Z)
        loss, back = network_loss(self.outputs, flow[-1], target, weight)
        gradient: Layers = []
        for (weights, _), inputs in zip(reversed(self._layers), reversed(flow[:-1]), strict=True):
            gradient.insert(0, (inputs.T @ back, back.sum(axis=0)))
            if inputs is not Z:  # behind the first layer there is nothing to learn
                back = (back @ weights.T) * (inputs > 0)
        return loss, gradient

    def _learn(self, rows: Rows) -> None:
        self.initialise(rows.X.shape[1])
        self._scale = Scale.of(self.outputs, rows)
        target = self._scale.targets(rows.target)
        with threadpool_limits(limits=1):
            self._optimise(self._scale.inputs(rows.X), target, rows.weight / rows.weight.mean())

    def _optimise(self, Z: Array, target: Array, weight: Array) -> None:
        rate = self.options["learning_rate"]
        self._adam(Z, target, weight, self.options["epochs"], lambda done: rate * (1 - done))

    def _adam(
        self,
        Z: Array,
        target: Array,
        weight: Array,
        epochs: int,
        rate: Callable[[float], float],
        proximal: float = 0.0,
    ) -> None:
        """Mini-batches by Adam (Kingma and Ba, ICLR 2015); `rate` gets the part that is done, 0 to 1."""
        random, batch = np.random.default_rng(self.seed), self.options["batch"]
        before, decay, step = self._layers, self.options["decay"] / len(Z), 0
        anchors = [array for layer in before for array in layer]
        arrays = [array.copy() for array in anchors]
        self._layers = list(zip(arrays[::2], arrays[1::2], strict=True))
        moments = [(np.zeros_like(array), np.zeros_like(array)) for array in arrays]
        with np.errstate(over="ignore", invalid="ignore"):  # what runs away is told below
            for epoch in range(epochs):
                order = random.permutation(len(Z))
                for start in range(0, len(Z), batch):
                    chosen, step = order[start : start + batch], step + 1
                    _, layers = self._backward(Z[chosen], target[chosen], weight[chosen])
                    gradient = [slope for layer in layers for slope in layer]
                    size = rate(epoch / epochs) * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                    for array, anchor, slope, (first, second) in zip(arrays, anchors, gradient, moments, strict=True):
                        if array.ndim == 2:
                            slope += decay * array
                        if proximal:
                            slope += proximal * (array - anchor)
                        first += 0.1 * (slope - first)
                        second += 0.001 * (slope**2 - second)
                        array -= size * first / (np.sqrt(second) + 1e-8)
        try:
            check_trained(arrays)
        except LearnerError:
            self._layers = before
            raise

    def _raw(self, X: Array) -> Array:
        said = self._forward(self._scale.inputs(X))[-1]
        if self.outputs.space is Space.PROBABILITIES:
            shares: Array = softmax(said, axis=1)
            return shares
        return self._scale.restore(said)

    def _write(self, folder: Path) -> None:
        store.write_arrays(folder / "model.npz", {**self._named(self._layers), **self._scale.arrays()})

    def _read(self, folder: Path) -> None:
        arrays = store.read_arrays(folder / "model.npz")
        self.initialise(self._trained())
        weights = {name: array for name, array in arrays.items() if not name.startswith("scale.")}
        self.set_parameters(weights)
        self._scale = Scale.from_arrays(arrays)


class Linear(MLP):
    """Linear quantile regression, or multinomial logistic regression: the network without a hidden layer.

    Fitted by L-BFGS on all rows. The pinball loss is smoothed over a hundredth of the targets' spread, which
    costs little accuracy and makes five levels of 3000 rows and 40 columns a matter of a tenth of a second, where
    the exact linear programme needs about five.

    Parameters
    ----------
    outputs, seed:
        As for every learner; the seed matters to `initialise` and `train` alone.
    decay:
        Ridge penalty, as in MLP.
    iterations:
        The most steps of L-BFGS in `fit` and `distil`.
    batch:
        Rows a step of `train`.
    """

    kind = "linear"
    OPTIONS: ClassVar = {
        "iterations": Option(300, 1, 100_000),
        "batch": Option(64, 1, 1_000_000),
        "decay": Option(10.0, 0, 1e9),
    }

    def _hidden(self) -> tuple[int, ...]:
        return ()

    def _optimise(self, Z: Array, target: Array, weight: Array) -> None:
        shape, ridge = self._layers[0][0].shape, self.options["decay"] / len(Z)

        def objective(flat: Array) -> tuple[float, Array]:
            table = flat.reshape(shape[0] + 1, shape[1])
            self._layers = [(table[:-1], table[-1])]
            loss, [(slope, bias_slope)] = self._backward(Z, target, weight)
            loss += ridge / 2 * float((table[:-1] ** 2).sum())
            return loss, np.concatenate([slope + ridge * table[:-1], bias_slope[None]]).ravel()

        start = np.zeros((shape[0] + 1, shape[1])).ravel()
        best = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": self.options["iterations"], "gtol": 1e-6},
        ).x.reshape(shape[0] + 1, shape[1])
        self._layers = [(best[:-1], best[-1])]
