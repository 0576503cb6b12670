"""How likely a unit was there, told from what was seen: two statistics, each compared with shadow worlds.

Shadows are worlds in which the attacker knows what was there. Those that a statistic is judged by are none of them.

* "direction": what is said moves a little towards a unit that is there. Which way, shadows show: the linear
  discriminant between those with and without it, regularised since there are more numbers than shadows.
* "loss": a model errs less on what it has seen (LiRA: Carlini et al., Membership Inference Attacks From First
  Principles, S&P 2022, arXiv:2112.03570; with a fixed variance, as for few shadows, and for regression the logarithm of
  the loss). Of soft labels the attacker asks a surrogate that was fitted to them, which remembers what its teacher does
  (Jagielski et al., Students Parrot Their Teachers, NeurIPS 2023, arXiv:2303.03446); of gradients it is how fast the
  unit's loss rises along them, the product with its own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from scipy.spatial.distance import cdist

from fedstill.attacks.sights import Said
from fedstill.federation import Federation
from fedstill.labels import Array, Outputs, Party
from fedstill.learners.base import Parametric
from fedstill.learners.rows import tidy
from fedstill.messages import Kind
from fedstill.sites import Rows, losses

NARROW, RIDGE = 2.0, 0.003
"""Of the surrogate: its kernel is exp(-NARROW d^2 / median d^2), and RIDGE keeps it from following every number."""
STEP = 0.01
"""Along a gradient, as part of the length of all parameters."""
_TINY = 1e-9


def by_direction(told: Array, there: Array, shadows: Sequence[int], tested: Sequence[int]) -> Array:
    """Discriminant of each unit in the tested worlds, shape (tested, units); higher: rather there.

    Parameters
    ----------
    told:
        What was seen, a row a world, shape (worlds, f).
    there:
        What was there, boolean, shape (worlds, units); each unit in half of the shadows.
    shadows, tested:
        Which worlds, none in both.
    """
    score, length = discriminant(told[shadows], there[shadows], told[tested])
    comparable: Array = score / np.maximum(length, _TINY)
    return comparable


def discriminant(known: Array, there: Array, unknown: Array) -> tuple[Array, Array]:
    """Linear discriminants by ridge regression in the span of what is known, which has more columns than rows.

    Parameters
    ----------
    known, unknown:
        What was seen where it is known what was there, shape (s, f), and where it is asked for, (t, f).
    there:
        What was there, boolean, shape (s, n).

    Returns
    -------
    Scores of what is asked for, (t, n), and the length of each discriminant, (n,).
    """
    middle, spread = known.mean(axis=0), known.std(axis=0)
    known, unknown = ((part - middle) / np.where(spread > 0, spread, np.inf) for part in (known, unknown))
    alike = known @ known.T
    ridge = max(float(np.trace(alike)) / max(len(alike), 1), _TINY)
    weights = np.linalg.solve(alike + ridge * np.eye(len(alike)), np.where(there, 1.0, -1.0))
    return unknown @ known.T @ weights, np.sqrt(np.einsum("sn,st,tn->n", weights, alike, weights))


def by_loss(loss: Array, there: Array, shadows: Sequence[int], tested: Sequence[int]) -> Array:
    """Log-likelihood ratio of each unit in the tested worlds by one number a world and unit, shape (worlds, units)."""
    known, member = loss[shadows], there[shadows]
    with_it = np.where(member, known, 0).sum(axis=0) / np.maximum(member.sum(axis=0), 1)
    without = np.where(member, 0, known).sum(axis=0) / np.maximum((~member).sum(axis=0), 1)
    variance = max(float(((known - np.where(member, with_it, without)) ** 2).mean()), _TINY)
    ratio: Array = (loss[tested] - (with_it + without) / 2) * (with_it - without) / variance
    return ratio


Query = Callable[[Sequence[Said]], Array]
"""One number for each unit of a participant from what was seen in a world, shape (units,)."""


def query(federation: Federation, target: Party, rows: Rows) -> Query:
    """How well what was seen fits each unit of a participant; zeros where it cannot be asked.

    Parameters
    ----------
    federation, target:
        The run, and whose rows they are.
    rows:
        All its rows.
    """
    nothing = np.zeros(len(rows.block_means(np.zeros(len(rows)))))
    outputs, inputs = federation.task.outputs, federation.agreement.inputs
    surrogate = cache(lambda: _surrogate(inputs, rows.X))  # made where soft labels are met

    def fit(one: Said) -> Array:
        labels = one.release.labels
        if labels is not None and len(labels.values) == len(inputs):
            return _loss(outputs, rows, tidy(outputs, surrogate() @ labels.values))
        if not one.release.parameters or one.start is None:
            return nothing
        model = federation.makes[target](seed=one.recipe.seed)
        if not isinstance(model, Parametric):
            return nothing
        model = model.initialise(inputs.shape[1])
        if one.recipe.release is Kind.GRADIENTS:
            return _slope(model, one, lambda: _loss(outputs, rows, model.predict(rows.X)))
        model.set_parameters({**one.start, **one.release.parameters})
        return _loss(outputs, rows, model.predict(rows.X))

    def ask(said: Sequence[Said]) -> Array:
        found: Array = np.mean([fit(one) for one in said], axis=0) if said else nothing
        return found

    return ask


def _loss(outputs: Outputs, rows: Rows, predicted: Array) -> Array:
    """Logarithm of the mean loss of each unit."""
    return np.asarray(np.log(rows.block_means(losses(outputs, rows.y, predicted)) + _TINY))


def _slope(model: Parametric, one: Said, loss: Callable[[], Array]) -> Array:
    """How fast the loss of each unit rises along a gradient that was released: it falls fastest against its own."""
    start = {name: np.asarray(array, np.float64) for name, array in (one.start or {}).items()}
    along = {name: np.asarray(one.release.parameters[name], np.float64) for name in start}
    far, size = (np.sqrt(sum(float((array**2).sum()) for array in part.values())) for part in (start, along))
    step = STEP * far / max(size, _TINY)
    ends = []
    for sign in (1, -1):
        model.set_parameters({name: start[name] + sign * step * along[name] for name in start})
        ends.append(loss())
    found: Array = ends[0] - ends[1]
    return found


def _surrogate(inputs: Array, X: Array) -> Array:
    """What makes predictions for rows X (n, f) of labels of inputs (m, f), by kernel ridge regression; shape (n, m)."""
    apart = cdist(inputs, inputs, "sqeuclidean")
    unit = max(float(np.median(apart)), _TINY)
    alike = np.exp(-NARROW / unit * apart) + RIDGE * np.eye(len(inputs))
    found: Array = np.linalg.solve(alike, np.exp(-NARROW / unit * cdist(inputs, X, "sqeuclidean"))).T
    return found
