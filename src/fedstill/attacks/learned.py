"""Learning to invert: what goes with a release at other sites, whose data the attacker is taken to have.

The shadow participants of membership inference (Shokri et al., arXiv:1610.05820) used to reconstruct. That all other
participants side with the coordinator is the most that it can have, and generous to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedstill.attacks.hidden import Blocks, known
from fedstill.attacks.sights import Said
from fedstill.errors import LearnerError
from fedstill.labels import Array, Party
from fedstill.learners.base import Learner, Parametric
from fedstill.messages import Kind

Voice = Callable[[Array], Array]
"""What a release says of inputs, (n, f): (n, k)."""

PENALTIES = (0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 1000.0)
SURROGATE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
MOST_ITEMS = 1500
ROUNDS = 3
"""The last rounds whose parameters are asked; a model has settled by then."""


class Surrogate:
    """Kernel ridge regressions from the transfer set's inputs to soft labels, one for each participant.

    They stand for the models that spoke. The kernel is Gaussian, as wide as inputs have columns; the penalty is chosen
    by leaving each item out in turn.
    """

    def __init__(self, inputs: Array) -> None:
        every = -(-len(inputs) // MOST_ITEMS)
        self._items = np.arange(0, len(inputs), every)
        self._inputs = np.asarray(inputs[self._items], np.float64)
        self._width = max(1, inputs.shape[1])
        self._values, self._vectors = np.linalg.eigh(self._kernel(self._inputs))

    def _kernel(self, X: Array) -> Array:
        squares = (X**2).sum(axis=1)[:, None] + (self._inputs**2).sum(axis=1) - 2 * X @ self._inputs.T
        found: Array = np.exp(-np.maximum(squares, 0) / (2 * self._width))
        return found

    def of(self, values: Array) -> Voice:
        """The surrogate of one who said this of all items, (m, k)."""
        told = np.asarray(values, np.float64)[self._items]
        middle = told.mean(axis=0)
        turned = self._vectors.T @ (told - middle)

        def missed(penalty: float) -> float:
            kept = penalty / (np.maximum(self._values, 0) + penalty)
            left = (self._vectors**2) @ kept
            return float((((self._vectors * kept) @ turned / np.maximum(left, 1e-9)[:, None]) ** 2).mean())

        penalty = min(SURROGATE_PENALTIES, key=missed)
        weights = self._vectors @ (turned / (np.maximum(self._values, 0) + penalty)[:, None])
        return lambda X: middle + self._kernel(X) @ weights


def voice(said: Sequence[Said], surrogate: Surrogate, make: Callable[..., Learner], n_features: int) -> Voice | None:
    """What a participant's releases say of any inputs; None where they say nothing of that kind.

    For soft labels it is a surrogate of the model that spoke last; for parameters and gradients what one step or the
    local training changes in the common model's predictions, mean over rounds.
    """
    labelled = [one.release.labels for one in said if one.release.labels is not None and one.recipe.about == "items"]
    if labelled:
        return surrogate.of(labelled[-1].values)
    models = [pair for one in said[-ROUNDS:] if (pair := _models(one, make, n_features)) is not None]
    if not models:
        return None
    return lambda X: np.mean([after.predict(X) - before.predict(X) for before, after in models], axis=0)


def _models(one: Said, make: Callable[..., Learner], n_features: int) -> tuple[Learner, Learner] | None:
    """The common model as it was sent, and as one answer would move it; None where that does not make a whole model."""
    before, after = make(seed=one.recipe.seed), make(seed=one.recipe.seed)
    if one.start is None or not (isinstance(before, Parametric) and isinstance(after, Parametric)):
        return None
    step = one.recipe.learning_rate
    moved = (
        {name: np.asarray(one.start[name]) - step * np.asarray(slope) for name, slope in one.release.parameters.items()}
        if one.recipe.release is Kind.GRADIENTS
        else one.release.parameters
    )
    try:
        before.initialise(n_features).set_parameters(one.start)
        after.initialise(n_features).set_parameters(moved)
    except LearnerError:  # a part of the model stays at home
        return None
    return before, after


def profiles(voice: Voice, blocks: Blocks, typical: Array) -> Array:
    """What a release says of each block's public columns beside typical private ones, (n, q): its level and its shape.

    Returns
    -------
    Means over each block of what is said, times 1 and each public column, shape (d, k (1 + p)).
    """
    told = np.asarray(voice(blocks.imagined(typical)), np.float64)
    products = told[:, :, None] * known(blocks.public, 1)[:, None, :]
    return blocks.means(products).reshape(len(blocks), -1)


def regression(signs: Mapping[Party, Array], gaps: Mapping[Party, Array]) -> Callable[[Array], Array]:
    """What blocks with such signs lack of the prior, by a ridge regression over other sites.

    Parameters
    ----------
    signs, gaps:
        Of each other site what is seen of its blocks, (d, s), and what their truth has more than the prior, (d, q).
        Sites count by what share of their gaps is explained; the penalty is the one that does best on sites left out.

    Returns
    -------
    From what is seen of blocks, (e, s), to what they have more than the prior, (e, q).
    """
    together = np.vstack(list(signs.values()))
    middle, spread = together.mean(axis=0), together.std(axis=0)
    spread = np.where(spread > 1e-9 * np.maximum(np.abs(middle), 1e-12), spread, np.inf)

    def inputs(values: Array) -> Array:
        return np.column_stack([np.ones(len(values)), np.clip((values - middle) / spread, -3, 3)])

    sums = {}
    for party, values in signs.items():
        X, size = inputs(values), max(float((gaps[party] ** 2).sum()), 1e-12)
        sums[party] = X.T @ X / size, X.T @ gaps[party] / size

    def fitted(parties: Sequence[Party], penalty: float) -> Array:
        gram, cross = (np.mean([sums[party][i] for party in parties], axis=0) for i in (0, 1))
        found: Array = np.linalg.solve(gram + penalty * np.trace(gram) / len(gram) * np.eye(len(gram)), cross)
        return found

    def error(penalty: float) -> float:
        """Unexplained shares of the gaps of sites left out, less 1 for each."""
        total = 0.0
        for left, (gram, cross) in sums.items():
            told = fitted([party for party in sums if party != left], penalty)
            total += float((told * (gram @ told - 2 * cross)).sum())
        return total

    best = fitted(list(sums), min(PENALTIES, key=error) if len(sums) > 1 else PENALTIES[-1])
    return lambda asked: np.asarray(inputs(asked) @ best)
