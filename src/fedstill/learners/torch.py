"""Networks in PyTorch, one for tables and one for sequences; needs the extra `torch`."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from fedstill.errors import LearnerError
from fedstill.labels import Array, Outputs, Parameters, Space
from fedstill.learners.base import BaseNetwork
from fedstill.learners.options import Option, need
from fedstill.learners.rows import Rows, Scale, check_trained, check_training

torch = need("torch", "torch safetensors")
tensors = need("safetensors.numpy", "safetensors")
nn = torch.nn

BANDWIDTH = 0.01
"""Half-width of the rounded kink of the pinball loss, in units of the (standardised) target."""


@contextmanager
def quiet(seed: int) -> Iterator[None]:
    """One thread and a random state of our own; both are as they were afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        torch.set_num_threads(1)  # sums in a fixed order, so that results do not depend on the machine's cores
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def row_losses(outputs: Outputs, said: Any, target: Any) -> Any:
    """Loss of each row, tensors of shapes (..., k) to (...): as `network_loss`, which tells its sources."""
    if outputs.space is Space.PROBABILITIES:
        return -(target * torch.log_softmax(said, dim=-1)).sum(dim=-1)
    levels = torch.tensor(outputs.levels, dtype=said.dtype)
    miss = (target - said) / BANDWIDTH
    return BANDWIDTH * (levels * miss + nn.functional.softplus(-miss)).mean(dim=-1)


class _Network(BaseNetwork):
    """What both networks share: loss, training by Adam, federated parameters, storage.

    Distillation minimises one loss over private and transfer rows, each part with its share of the weight.
    This is FedMD's "digest" of the consensus and "revisit" of private data (Li and Wang 2019,
    arXiv:1910.03581) in one phase, so neither is forgotten for the other and the result does not depend on
    what the network had learned before.

    Quantiles are learned all at once by the pinball loss, smoothed by a logistic kernel (He, Pan, Tan and
    Zhou, Journal of Econometrics 2023), and sorted when predicted. Classes are learned by cross-entropy
    with the soft targets, which differs from the Kullback-Leibler divergence by a constant.
    """

    def __init__(self, outputs: Outputs, seed: int = 0, **options: Any) -> None:
        super().__init__(outputs, seed, **options)
        self._net: Any = None

    @abstractmethod
    def _build(self, n_features: int) -> Any:
        """Make the network, its weights drawn from torch's random state."""

    def _say(self, net: Any, Z: Any) -> Any:
        """What a network says about scaled rows, (n, k)."""
        return net(Z)

    def initialise(self, n_features: int) -> Self:
        """Set start weights; see `Parametric.initialise`."""
        with quiet(self.seed):
            self._net = self._build(n_features)
        self._scale, self.n_features = Scale.common(n_features), n_features
        return self

    def _arrays(self) -> dict[str, Array]:
        return {name: array.detach().numpy().copy() for name, array in self._net.named_parameters()}

    def _take(self, parameters: Parameters) -> None:
        with torch.no_grad():
            for name, array in self._net.named_parameters():
                array.copy_(torch.tensor(np.array(parameters[name], np.float32)))

    def train(self, X: Array, y: Array, epochs: int, learning_rate: float, proximal: float = 0.0) -> None:
        """Go on with Adam from the present weights; see `Parametric.train`."""
        check_training(epochs, learning_rate, proximal)
        rows = Rows.private(self.outputs, X, y, self._trained()).filled()
        self._adam(rows, epochs, lambda _: learning_rate, proximal)

    def loss(self, X: Array, y: Array) -> float:
        """Mean loss over rows at the present weights: what `gradient` is the gradient of."""
        return float(self._exact_loss(X, y)[1].detach())

    def gradient(self, X: Array, y: Array) -> Parameters:
        """Gradient of `loss` over all rows, computed in float64; see `Parametric.gradient`."""
        net, loss = self._exact_loss(X, y)
        with quiet(self.seed):
            loss.backward()
        return {name: array.grad.numpy().astype(np.float32) for name, array in net.named_parameters()}

    def _exact_loss(self, X: Array, y: Array) -> tuple[Any, Any]:
        rows = Rows.private(self.outputs, X, y, self._trained()).filled()
        with quiet(self.seed):
            net = copy.deepcopy(self._net).double()
            return net, self._loss(net, *self._tensors(rows, torch.float64))

    def _tensors(self, rows: Rows, dtype: Any) -> tuple[Any, Any, Any]:
        weight = rows.weight / rows.weight.mean()
        arrays = (self._scale.inputs(rows.X), self._scale.targets(rows.target), weight)
        inputs, target, each = (torch.tensor(array, dtype=dtype) for array in arrays)
        return inputs, target, each

    def _loss(self, net: Any, Z: Any, target: Any, weight: Any) -> Any:
        return (weight * row_losses(self.outputs, self._say(net, Z), target)).mean()

    def _learn(self, rows: Rows) -> None:
        self.initialise(rows.X.shape[1])
        self._scale = Scale.of(self.outputs, rows)
        rate = self.options["learning_rate"]
        self._adam(rows, self.options["epochs"], lambda done: rate * (1 - done))

    def _adam(self, rows: Rows, epochs: int, rate: Callable[[float], float], proximal: float = 0.0) -> None:
        """Mini-batches by Adam (Kingma and Ba, ICLR 2015); `rate` gets the part that is done, 0 to 1."""
        random, batch = np.random.default_rng(self.seed), self.options["batch"]
        before, decay = copy.deepcopy(self._net), self.options["decay"] / len(rows.X)
        with quiet(self.seed):
            inputs, target, weight = self._tensors(rows, torch.float32)
            arrays = list(self._net.parameters())
            anchors = [array.detach().clone() for array in arrays]
            optimiser = torch.optim.Adam(
                [
                    {"params": [array for array in arrays if array.ndim > 1], "weight_decay": decay},
                    {"params": [array for array in arrays if array.ndim == 1]},
                ]
            )
            for epoch in range(epochs):
                order = torch.tensor(random.permutation(len(rows.X)))
                for group in optimiser.param_groups:
                    group["lr"] = rate(epoch / epochs)
                for chosen in order.split(batch):
                    optimiser.zero_grad()
                    self._loss(self._net, inputs[chosen], target[chosen], weight[chosen]).backward()
                    if proximal:
                        for array, anchor in zip(arrays, anchors, strict=True):
                            array.grad.add_(array.detach() - anchor, alpha=proximal)
                    optimiser.step()
        try:
            check_trained(self._arrays().values())
        except LearnerError:
            self._net = before
            raise

    def _raw(self, X: Array) -> Array:
        with quiet(self.seed), torch.inference_mode():
            said = self._say(self._net, torch.tensor(self._scale.inputs(X), dtype=torch.float32))
            if self.outputs.space is Space.PROBABILITIES:
                said = torch.softmax(said, dim=1)
        return said.numpy() if self.outputs.space is Space.PROBABILITIES else self._scale.restore(said.numpy())

    def _write(self, folder: Path) -> None:
        tensors.save_file({**self._arrays(), **self._scale.arrays()}, folder / "model.safetensors")

    def _read(self, folder: Path) -> None:
        arrays = tensors.load_file(folder / "model.safetensors")
        self.initialise(self._trained())
        self.set_parameters({name: array for name, array in arrays.items() if not name.startswith("scale.")})
        self._scale = Scale.from_arrays(arrays)

    def _head(self, wide: int) -> Any:
        """Layers from so many numbers to the outputs."""
        layers = []
        for hidden in self.options["hidden"]:
            layers += [nn.Linear(wide, hidden), nn.ReLU()]
            wide = hidden
        return nn.Sequential(*layers, nn.Linear(wide, len(self.outputs)))


class TorchMLP(_Network):
    """A multi-layer perceptron on the columns as they are."""

    kind = "torch_mlp"

    def _build(self, n_features: int) -> Any:
        return self._head(n_features)


class TorchSequence(_Network):
    """A temporal convolution over recent history, joined by the other columns in a perceptron.

    Each layer convolves in time and halves the length (stride 2), until 8 steps are left: the convolutional
    encoder for series of Bai, Kolter and Koltun 2018 (arXiv:1803.01271) with strides in place of dilation,
    which is cheaper and loses nothing here, where only the end of the history has to say something.

    Parameters
    ----------
    outputs, seed:
        As for every learner.
    sequence:
        So many of the last columns of X are the recent history, oldest first: 24 as the forecasting task lays its
        inputs out. 0, or more than there are columns: all of them.
    channels:
        Numbers per step that the convolutions carry.
    hidden, epochs, batch, learning_rate, decay:
        As in TorchMLP.
    """

    kind = "torch_sequence"
    OPTIONS: ClassVar = {
        **BaseNetwork.OPTIONS,
        "sequence": Option(24, 0, 1_000_000),
        "channels": Option(16, 1, 10_000),
    }

    def _length(self, n_features: int) -> int:
        return min(self.options["sequence"] or n_features, n_features)

    def _build(self, n_features: int) -> Any:
        length, channels = self._length(n_features), 1
        static = n_features - length
        layers: list[Any] = []
        while length > 8 or not layers:
            layers += [nn.Conv1d(channels, self.options["channels"], 5, stride=2, padding=2), nn.ReLU()]
            length, channels = (length + 1) // 2, self.options["channels"]
        encoder = nn.Sequential(*layers, nn.Flatten())
        return nn.ModuleDict({"encoder": encoder, "head": self._head(length * channels + static)})

    def _say(self, net: Any, Z: Any) -> Any:
        start = Z.shape[1] - self._length(Z.shape[1])
        history = net["encoder"](Z[:, None, start:])
        return net["head"](torch.cat([history, Z[:, :start]], dim=1))
