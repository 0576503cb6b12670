"""A model for releases, trained by DP-SGD; all that it ever says is post-processing.

In every step the gradient of each block (a day) is clipped, their sum gets noise, and the model moves (Abadi et al.,
Deep Learning with Differential Privacy, CCS 2016, arXiv:1607.00133). Trained once for a version of the data, it answers
any number of questions in any number of rounds at the same price. Its participant learns from the teacher with a model
of its own choice, without noise, which never leaves.

The model is linear in public components (see `basis`): for forecasts one slope for all quantiles and an offset for
each, for classes the multinomial logit. A year has 365 days, and noise grows with the number of parameters: what a
bigger model could say better, it does not get to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import softmax

from fedstill.errors import ConfigError
from fedstill.labels import Array, Outputs, Parameters, Space
from fedstill.learners.networks import network_loss
from fedstill.learners.rows import tidy
from fedstill.privacy.base import Work, multiplier_of
from fedstill.privacy.basis import Basis, private_size, public_size, sized, sized_spends
from fedstill.privacy.noise import Noise
from fedstill.privacy.spending import Budget, Event, SampledGaussian, Spend
from fedstill.sites import View

MOMENTUM = 0.9

Sums = Callable[[Parameters, Array], Sequence[Array]]
"""Gradients of the chosen blocks (a mask) at these parameters, each block's clipped; one sum for each parameter."""


class DPSGD:
    """A release model trained with differential privacy, once for each version of the data.

    Parameters
    ----------
    steps:
        Steps of training.
    rate:
        Probability with which a block takes part in a step. With 1 all do: with few blocks that costs the least.
    clip:
        The longest gradient (L2) of a block.
    learning_rate:
        Of the first step; it falls to a tenth.
    components:
        Public components that the model sees, at most.
    share:
        The part of the budget that the size of the load takes; classes need none.

    Raises
    ------
    ConfigError
        Where an option makes no sense.

    Notes
    -----
    The defaults were chosen on PJM's development years. No option may be chosen on the private data.
    """

    once = True

    def __init__(
        self,
        steps: int = 80,
        rate: float = 1.0,
        clip: float = 0.1,
        learning_rate: float = 2.0,
        components: int = 24,
        share: float = 0.05,
    ) -> None:
        if not (steps >= 1 and 0 < rate <= 1 and clip > 0 and learning_rate > 0 and components >= 1 and 0 < share < 1):
            raise ConfigError(
                "these options train no release model",
                where="privacy.options",
                remedy="steps and components are 1 or more, rate and share above 0 and at most 1, the others above 0",
            )
        self.steps, self.rate, self.clip = steps, rate, clip
        self.learning_rate, self.components, self.share = learning_rate, components, share

    def tied(self, outputs: Outputs) -> bool:
        """Never: a model answers for any items; see `Mechanism`."""
        del outputs
        return False

    def spends(self, work: Work, budget: Budget, already: Sequence[Event]) -> Sequence[Spend]:
        """A share for the size of the load, the rest of the budget for training; see `Mechanism`."""

        def event(multiplier: float) -> SampledGaussian:
            return SampledGaussian(self.rate, multiplier, self.steps, work.own.reach)

        said = f"a release model of {work.own.blocks} {budget.unit}s"
        return sized_spends(work.own, budget, already, self.share, event, said)

    def release(self, work: Work, spends: Sequence[Spend], noise: Noise) -> Parameters:
        """Train; see `Mechanism`."""
        size = private_size(work.own, spends, noise)
        basis = Basis.of(work.public, self.components)
        sums = self._sums(basis.components(work.own, size), sized(work.own, size), work.outputs)
        start = self._start(basis.axes.shape[1], work.outputs)
        return {**basis.arrays(), **self._train(start, sums, work.own, multiplier_of(spends[-1]), noise)}

    def labels(self, released: Parameters, public: View, outputs: Outputs) -> Array:
        """Ask the release model; see `Mechanism`."""
        size = public_size(public)
        said = self._say(released, Basis.from_arrays(released).components(public, size))
        if outputs.space is Space.PROBABILITIES:
            return tidy(outputs, softmax(said, axis=1))
        return tidy(outputs, public.offset[:, None] + size * said)

    def _start(self, components: int, outputs: Outputs) -> Parameters:
        """Parameters before the first step, which depend on no data: slopes, (r, 1) or (r, k), and offsets, (k,)."""
        slopes = 1 if outputs.space is Space.QUANTILES else len(outputs)
        return {"weights": np.zeros((components, slopes)), "bias": first_offsets(outputs)}

    def _sums(self, Z: Array, own: View, outputs: Outputs) -> Sums:
        """What gives clipped gradients of components (n, r)."""
        target, starts = targets(own, outputs), block_starts(own)

        def sums(model: Parameters, chosen: Array) -> Sequence[Array]:
            gradients = _block_gradients(Z, target, model["weights"], model["bias"], outputs, starts)
            return clipped_sums([gradient[chosen] for gradient in gradients], self.clip)

        return sums

    def _say(self, model: Parameters, Z: Array) -> Array:
        """What the model says of components (n, r), before it is put in the unit of the task; (n, k)."""
        said: Array = Z @ model["weights"] + model["bias"]
        return said

    def _train(self, start: Parameters, sums: Sums, own: View, multiplier: float, noise: Noise) -> Parameters:
        """Move from the start by noisy sums; the mean of the parameters after each step of the second half."""
        model = {name: array.copy() for name, array in start.items()}
        moved = [np.zeros_like(array) for array in model.values()]
        passed: list[list[Array]] = []
        present = len(block_starts(own))
        for step in range(1, self.steps + 1):
            chosen = noise.uniform(present) < self.rate if self.rate < 1 else np.ones(present, bool)
            size = self.learning_rate * (1 - 0.9 * step / self.steps) / (1 - MOMENTUM**step)
            for array, move, total in zip(model.values(), moved, sums(model, chosen), strict=True):
                noisy = total + multiplier * self.clip * noise.normal(total.shape)
                move += (1 - MOMENTUM) * (noisy / (self.rate * max(own.blocks, 1)) - move)
                array -= size * move
            passed.append([array.copy() for array in model.values()])
        means = (np.mean(arrays, axis=0) for arrays in zip(*passed[self.steps // 2 :], strict=True))
        return dict(zip(model, means, strict=True))


def clipped_sums(gradients: Sequence[Array], clip: float) -> list[Array]:
    """Sums over blocks of gradients whose parts, each of shape (blocks, ...), are together no longer than `clip`."""
    squares = sum((gradient**2).sum(axis=tuple(range(1, gradient.ndim))) for gradient in gradients)
    factor = np.minimum(1.0, clip / np.maximum(np.sqrt(squares), 1e-300))
    return [np.tensordot(factor, gradient, 1) for gradient in gradients]


def _block_gradients(
    Z: Array, target: Array, weights: Array, bias: Array, outputs: Outputs, starts: Array
) -> list[Array]:
    """Gradients of each block's loss, the mean over its rows."""
    if not len(Z):
        return [np.zeros((0, *weights.shape)), np.zeros((0, *bias.shape))]
    said = Z @ weights + bias
    rows = np.diff(np.append(starts, len(Z)))
    by_said = network_loss(outputs, said, target, np.ones(len(Z)))[1] * (len(Z) / np.repeat(rows, rows))[:, None]
    by_weights = by_said.sum(axis=1, keepdims=True) if weights.shape[1] == 1 else by_said
    each = Z[:, :, None] * by_weights[:, None, :]
    return [np.add.reduceat(each, starts, axis=0), np.add.reduceat(by_said, starts, axis=0)]


def block_starts(own: View) -> Array:
    """Where the rows of each block begin, shape (blocks,); those of one block lie together."""
    starts: Array = np.unique(own.block, return_index=True)[1]
    return starts


def targets(own: View, outputs: Outputs) -> Array:
    """What each output should be, shape (n, k)."""
    y = np.zeros(0) if own.y is None else own.y
    if outputs.space is Space.PROBABILITIES:
        return np.eye(len(outputs))[y]
    return np.repeat(y[:, None], len(outputs), axis=1)


def first_offsets(outputs: Outputs) -> Array:
    """Where training begins: no class is likelier, and quantiles lie as for errors of a fifth of the load's swing."""
    if outputs.space is Space.PROBABILITIES:
        return np.zeros(len(outputs))
    start: Array = 0.4 * (outputs.levels - 0.5)
    return start
