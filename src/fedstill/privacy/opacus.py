"""A release model with a hidden layer, trained by DP-SGD with the gradients of Opacus; needs the extra `opacus`.

All is as in `dp_sgd` but the model and who computes its gradients: Opacus (Yousefpour et al. 2021, arXiv:2109.12298)
has them for each sample apart, and clips them. A sample is a block (a day), all its rows together, so that the price is
that of `DPSGD`. Opacus' noise, sampling and accountant are not used: noise is the project's `Noise`, and so are prices.

The hidden layer lies beside the linear model of `DPSGD`, and what it says is added; alone it erred more (5.8 % against
5.7, PJM's development year, epsilon 2). Its units are hyperbolic tangents, since bounded ones keep gradients short
(Papernot et al., Tempered sigmoid activations for deep learning with differential privacy, 2020, arXiv:2007.14191).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedstill.errors import ConfigError
from fedstill.labels import Array, Outputs, Parameters, Space
from fedstill.learners.options import need
from fedstill.learners.torch import quiet, row_losses
from fedstill.privacy.base import Work
from fedstill.privacy.dp_sgd import DPSGD, Sums, block_starts, targets
from fedstill.privacy.noise import Noise
from fedstill.privacy.spending import Spend
from fedstill.sites import View

torch = need("torch", "torch safetensors")
grad_sample = need("opacus.grad_sample", "opacus")
optimizers = need("opacus.optimizers", "opacus")
nn = torch.nn

ROWS = 2**14
"""Rows whose gradients are computed at a time, which bounds memory; a longer block is computed alone."""


class NetworkDPSGD(DPSGD):
    """A release model with a hidden layer, trained with differential privacy by Opacus.

    Parameters
    ----------
    hidden:
        Units of the hidden layer; 0: no such layer, which leaves the model of `DPSGD`.
    steps, rate, clip, learning_rate, components, share:
        As in `DPSGD`.

    Raises
    ------
    ConfigError
        Where an option makes no sense.

    Notes
    -----
    The defaults were chosen on PJM's development years. No option may be chosen on the private data.
    """

    def __init__(
        self,
        hidden: int = 16,
        steps: int = 80,
        rate: float = 1.0,
        clip: float = 0.1,
        learning_rate: float = 2.0,
        components: int = 24,
        share: float = 0.05,
    ) -> None:
        super().__init__(steps, rate, clip, learning_rate, components, share)
        if hidden < 0:
            raise ConfigError(
                f"a layer cannot have {hidden} units",
                where="privacy.options",
                remedy="hidden is 1 or more; 0: a linear model",
            )
        self.hidden = hidden

    def release(self, work: Work, spends: Sequence[Spend], noise: Noise) -> Parameters:
        """Train, with one thread; see `Mechanism`."""
        with quiet(0):
            return super().release(work, spends, noise)

    def _start(self, components: int, outputs: Outputs) -> Parameters:
        """The linear model's, and random features, the same for all, of which nothing is said yet."""
        linear = super()._start(components, outputs)
        if not self.hidden:
            return linear
        drawn = np.random.default_rng(0).normal(size=(components, self.hidden)) / np.sqrt(components)
        head = np.zeros((self.hidden, linear["weights"].shape[1]))
        return {**linear, "hidden_weights": drawn, "hidden_bias": np.zeros(self.hidden), "head": head}

    def _say(self, model: Parameters, Z: Array) -> Array:
        said = super()._say(model, Z)
        if not self.hidden:
            return said
        added: Array = np.tanh(Z @ model["hidden_weights"] + model["hidden_bias"]) @ model["head"]
        return said + added

    def _sums(self, Z: Array, own: View, outputs: Outputs) -> Sums:
        net = Network(Z.shape[1], self.hidden, outputs).double()
        arrays = [array for array in net.parameters() if array.requires_grad]
        each = grad_sample.GradSampleModule(net, loss_reduction="sum")
        optimiser = optimizers.DPOptimizer(
            torch.optim.SGD(arrays, lr=1.0),  # takes no step: it knows the parameters
            noise_multiplier=0.0,
            max_grad_norm=self.clip,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        parts = list(padded(Z, targets(own, outputs), block_starts(own)))

        def sums(model: Parameters, chosen: Array) -> Sequence[Array]:
            totals = [np.zeros_like(array) for array in model.values()]
            with torch.no_grad():
                for array, value in zip(arrays, model.values(), strict=True):
                    array.copy_(torch.tensor(value.T))
            for part in parts:
                some = torch.tensor(chosen[part.blocks])
                if not some.any():
                    continue
                optimiser.zero_grad()
                # Hooks that get gradients of the first layer's output warn where none of its input are wanted.
                losses = row_losses(outputs, each(part.inputs[some].requires_grad_()), part.target[some])
                (part.weight[some] * losses).sum().backward()
                optimiser.clip_and_accumulate()
                for total, array in zip(totals, arrays, strict=True):
                    total += array.summed_grad.numpy().T
            return totals

        return sums


class Network(nn.Module):  # type: ignore[misc, name-defined]  # torch is not typed here
    """The same model as layers; what is trained of them is, in this order and transposed, what `_start` names."""

    def __init__(self, inputs: int, hidden: int, outputs: Outputs) -> None:
        super().__init__()
        slopes = 1 if outputs.space is Space.QUANTILES else len(outputs)
        self.slopes = nn.Linear(inputs, slopes, bias=False)
        self.offsets = nn.Linear(slopes, len(outputs))  # its weights only spread one slope over all quantiles
        self.offsets.weight = nn.Parameter(torch.eye(slopes).expand(len(outputs), -1).clone(), requires_grad=False)
        self.hidden = nn.Linear(inputs, hidden) if hidden else None
        self.head = nn.Linear(hidden, slopes, bias=False) if hidden else None

    def forward(self, Z: Any) -> Any:
        """What it says of components, (..., r) to (..., k)."""
        said = self.slopes(Z)
        if self.hidden is not None and self.head is not None:
            said = said + self.head(torch.tanh(self.hidden(Z)))
        return self.offsets(said)


@dataclass(frozen=True, eq=False)
class Part:
    """Blocks whose gradients are computed together.

    Attributes
    ----------
    blocks:
        Which, shape (b,).
    inputs, target:
        Of their rows, tensors of shapes (b, t, r) and (b, t, k); those of a short block are filled up with zeros.
    weight:
        Of a row in the loss of its block, a mean: 1 / rows, and 0 where there is none, shape (b, t).
    """

    blocks: Array
    inputs: Any
    target: Any
    weight: Any


def padded(Z: Array, target: Array, starts: Array) -> Iterator[Part]:
    """Blocks of rows, which begin at `starts`, the longest first, so that parts have few rows that are none."""
    rows = np.diff(np.append(starts, len(Z)))
    filled = [torch.tensor(np.vstack([array, np.zeros((1, array.shape[1]))])) for array in (Z, target)]
    order = np.argsort(-rows, kind="stable")
    while len(order):
        blocks, order = np.split(order, [max(1, ROWS // rows[order[0]])])
        place = np.arange(rows[blocks[0]])
        there = place < rows[blocks, None]
        row = torch.tensor(np.where(there, starts[blocks, None] + place, len(Z)))
        inputs, wanted = (array[row] for array in filled)
        yield Part(blocks, inputs, wanted, torch.tensor(there / rows[blocks, None]))
