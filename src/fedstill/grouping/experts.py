"""Members as experts for the classes that they have seen: an aggregate for label skew.

A member that has never seen a seven shares its whole belief among the other digits, and is often sure of it. In a mean
such beliefs count in full; in a median the seven needs more than half of the members. Here a member is asked only what
it can know: how the classes that it has seen compare with each other. We look for the one distribution q over all
classes which, seen through every member's own mix of classes, comes nearest to what each member said:

    member i says of an item    p_i(c)  ~  pi_i(c) q(c) / sum_d pi_i(d) q(d)

with pi_i the member's mix of classes, taken from its own soft labels (their mean over the items), so that nothing more
than these leaves a site. The sum below the line is how likely the member finds such an item at all. Where it is small,
as for a seven at a member without sevens, what the member said weighs little in q.

Where this comes from: all this is pairwise coupling (Hastie and Tibshirani, Annals of Statistics 1998) and its
generalised Bradley-Terry model (Huang, Weng and Lin, JMLR 2006), for classifiers that know different classes; the mix
of classes enters as in the adjustment of outputs to new priors (Saerens, Latinne and Decaestecker, Neural Computation
2002; Menon et al., arXiv:2007.07314). Its use for the soft labels of a federation, the weights of members
(`credibility`) and the mix that is put back (`restored`) are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedstill.grouping.votes import entropy, result, shared
from fedstill.labels import Array, SoftLabels, Space

STEPS = 40
"""Steps of the fixed-point iteration; after 10 the teacher's accuracy hardly changed any more."""

STRICTNESS = 2.0
"""How fast credibility falls with what cannot be explained; see `credibility`."""

RAREST = 1e-4
"""A mix of classes holds at least this of each: no class is out of the question."""


def experts(votes: Sequence[SoftLabels], weights: Array | None = None, *, power: float = 3.0) -> SoftLabels:
    """Probabilities that fit best what each member can know, given the classes that it has seen.

    The q that fit all members, each counting on an item by how certain it is there; how credible these make each
    member, and q once more with that as its weight; then a mix of classes is put back (`restored`), and the whole made
    more decided by `power`. With a power of 1, where all say the same, that is the result.

    Parameters
    ----------
    votes:
        K soft labels about the same n items, probabilities.
    weights:
        Weights of the voices, shape (K,), not negative; None weighs all alike.
    power:
        Probabilities are raised to it, then divided by their sum; 1 leaves them. What members of unlike classes say is
        blurred by those who cannot know, and a student takes the blur for truth. The entropy reduction of DS-FL
        (arXiv:2008.06180), in the form of SCARLET (arXiv:2504.19602).

    Raises
    ------
    ValueError
        The power is not positive, the votes are quantiles or differ in items, columns or space, or the weights do not
        fit them.
    """
    values, shares = shared(votes, weights)
    if not 0 < power < np.inf:
        raise ValueError(f"power must be a positive number, not {power}")
    if votes[0].space is not Space.PROBABILITIES:
        raise ValueError("experts know classes; quantiles have none")
    mixes = class_mixes(values, shares)
    sure = shares * certainty(values)
    credible = credibility(values, shares, mixes, couple(values, sure, mixes))
    likely = couple(values, sure * credible[:, None], mixes)
    whole = likely * restored(mixes, shares.sum(axis=1) * credible)
    whole /= whole.max(axis=1, keepdims=True)  # so that no row vanishes in a high power
    return result(votes[0], _rows(whole**power), shares)


def certainty(values: Array) -> Array:
    """How certain each member is of each item, shape (K, n): 1 - entropy / log k, a little above 0 even at no idea."""
    return np.asarray(np.maximum(1 - entropy(values) / np.log(values.shape[2]), RAREST))


def class_mixes(values: Array, shares: Array) -> Array:
    """Each member's mix of classes, shape (K, k): the mean of what it says over the items that it speaks about.

    A good model's mean is nearer to the mix of the items than to that of its training rows. What matters is that it is
    near 0 for classes that the member has never seen.
    """
    sums = np.einsum("in,inc->ic", shares, values)
    mixes = sums / np.maximum(sums.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return _rows(np.maximum(mixes, RAREST))


def couple(values: Array, shares: Array, mixes: Array) -> Array:
    """For each item the q that makes what the members say of it most likely, shape (n, k), rows summing to 1.

    Maximises sum_i share_i sum_c p_i(c) log(pi_i(c) q(c) / sum_d pi_i(d) q(d)), which is concave in log q, by the
    minorise-maximise steps of the Bradley-Terry model (Hunter, Annals of Statistics 2004).

    Parameters
    ----------
    values, shares:
        What the members say, (K, n, k), and how much it counts, (K, n).
    mixes:
        Their mixes of classes, (K, k), positive.
    """
    said = np.einsum("in,inc->nc", shares, values)
    q = np.full(said.shape, 1 / said.shape[1])
    spoken = shares.sum(axis=0) > 0
    for _ in range(STEPS):
        expected = np.einsum("in,ic->nc", shares / (q @ mixes.T).T, mixes)
        q[spoken] = _rows(said[spoken] / expected[spoken])
    return q


def credibility(values: Array, shares: Array, mixes: Array, likely: Array) -> Array:
    """How much each member's say should count by how well all together explain it, shape (K,), at most 1.

    exp(-STRICTNESS D), with D the mean Kullback-Leibler divergence, in nats, from what the member says to what `likely`
    would have it say. So it is 1 for a member that is explained in full. Random answers, or another order of classes,
    fit no mix of classes; they count a fraction.
    """
    explained = mixes[:, None, :] * likely
    explained /= explained.sum(axis=2, keepdims=True)
    logs = np.log(np.maximum(explained, np.finfo(float).tiny))
    apart = -entropy(values) - np.sum(values * logs, axis=2)
    items = np.maximum(shares.sum(axis=1), np.finfo(float).tiny)
    return np.asarray(np.exp(-STRICTNESS * np.maximum(np.sum(shares * apart, axis=1) / items, 0.0)))


def restored(mixes: Array, weights: Array) -> Array:
    """The mix of classes to put back, shape (k,): the members' mean where they are alike, flatter the less they are.

    `couple` speaks of classes as if all were equally frequent. Where all members have the same mix, theirs is the best
    guess for the items. Where the mixes have little in common, their mean says who happens to take part and nothing of
    the items. So it is raised to the power 1 - `unlikeness`.
    """
    total = weights.sum()
    parts = weights / total if total > 0 else np.full(len(mixes), 1 / len(mixes))
    return _rows((parts @ mixes) ** (1 - unlikeness(mixes, parts)))


def unlikeness(mixes: Array, parts: Array) -> float:
    """How unlike the members' mixes of classes are: 0 where they are the same, 1 where each has one class of k.

    The Jensen-Shannon distance: the root of the divergence, here over log k.
    """
    divergence = (entropy(parts @ mixes) - parts @ entropy(mixes)) / np.log(mixes.shape[1])
    return float(np.sqrt(np.clip(divergence, 0.0, 1.0)))


def _rows(positive: Array) -> Array:
    """Last axis divided by its sum."""
    return np.asarray(positive / positive.sum(axis=-1, keepdims=True))
