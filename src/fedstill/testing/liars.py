"""Participants that lie, for simulations and tests: what a liar says in place of what its model says.

A lie is a pure function. It keeps to the format, since an answer that does not is ignored anyhow (`flaws.py`): values
are finite, quantiles do not cross, probabilities sum to 1. Weights of items, and what else a release tells, stay as
they are. `lying` has some participants of a simulated federation lie, whose own code does not know of it::

    Federation(task, members, public, strategy=lying(grouped(), {"AEP": "constant", "DOM": "constant"}))

What is 0 for all items tells nothing that could be scaled or shifted; a lie about it may be the truth.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from fedstill.grouping.votes import choose
from fedstill.labels import Array, Party, Release, SoftLabels, Space
from fedstill.strategy import Ballot, Lesson, Strategy

TIMES = 10.0
"""What `scaled` multiplies by."""

SPREADS = 3.0
"""By how many spreads `noise` and `collusion` are off; the spread is the standard deviation of all values together."""

LITTLE = 0.7
"""The same for `nudge`: of 0.2 to 3, what hurt `grouped` most among utilities, with three liars of eight."""

SURE = 0.991
"""What `collusion` gives to the class that it names; nobody is ever quite sure."""

Lie = Callable[[Release, Sequence[Release], np.random.Generator], Release]
"""What a liar would say in truth, what all that tell the same lie would (itself among them), and chance: to what it
says. It knows nothing of the honest."""


def lying(strategy: Strategy, liars: Mapping[Party, str | Lie], seed: int = 0) -> Strategy:
    """The same algorithm with liars among its participants: their answers turn into lies before it sees them.

    Liars train, and are taught, like everybody; they lie in every round anew. With no liars the strategy is returned as
    it is.

    Parameters
    ----------
    strategy:
        An algorithm.
    liars:
        Who lies, and how: a name of `LIES`, or a lie. Sketches stay true.
    seed:
        Of lies that chance has a part in, together with the liar's name.

    Raises
    ------
    ConfigError
        There is no such lie.
    """
    if not liars:
        return strategy
    lies = {party: choose(lie, LIES, "lie") if isinstance(lie, str) else lie for party, lie in liars.items()}

    def teach(ballot: Ballot) -> Lesson:
        truth = {vote.party: vote.release for vote in ballot.votes if vote.party in lies}
        truth = {party: release for party, release in truth.items() if release.sketch is None}

        def said(party: Party) -> Release:
            allies = [truth[other] for other in truth if lies[other] is lies[party]]
            return lies[party](truth[party], allies, np.random.default_rng([seed, zlib.crc32(party.encode())]))

        votes = [replace(vote, release=said(vote.party)) if vote.party in truth else vote for vote in ballot.votes]
        return strategy.teach(replace(ballot, votes=votes))

    return replace(strategy, name=f"{strategy.name} among liars", teach=teach)


def flip(told: Release, allies: Sequence[Release], draw: np.random.Generator) -> Release:
    """Say the opposite: the columns in reverse, and of forecasts with the other sign.

    What was said of one class is said of another (of an odd number of classes the middle one stays), and quantile tau
    becomes minus the quantile 1 - tau: high where the load is low. Parameters have no labels to flip; see `sign`.
    """
    del allies, draw
    labels = _labels(told)
    turned = labels.values[:, ::-1]
    return _saying(told, -turned if labels.space is Space.QUANTILES else turned)


def sign(told: Release, allies: Sequence[Release], draw: np.random.Generator) -> Release:
    """Turn the sign: of parameters and gradients each by itself; forecasts as `flip`.

    Of classes the most probable becomes the least probable: (1 - p) / (k - 1).
    """
    if told.labels is None:
        return _mapped(told, np.negative)
    if told.labels.space is Space.QUANTILES:
        return flip(told, allies, draw)
    values = told.labels.values
    return _saying(told, (1 - values) / (values.shape[1] - 1))


def constant(told: Release, allies: Sequence[Release], draw: np.random.Generator) -> Release:
    """Say the same of every item: the mean of what would be said of all. Of parameters, one number for each array."""
    del allies, draw
    if told.labels is None:
        return _mapped(told, lambda array: np.full_like(array, array.mean()))
    values = told.labels.values
    return _saying(told, np.tile(values.mean(axis=0, dtype=np.float64), (len(values), 1)))


def scaled(told: Release, allies: Sequence[Release], draw: np.random.Generator) -> Release:
    """Exaggerate: `TIMES` as far from the mean of all values, or of each array of parameters.

    Of classes it is log-probabilities, p^`TIMES` over its sum: sure of itself where it should not be.
    """
    del allies, draw

    def away(array: Array) -> Array:
        centre = array.mean(dtype=np.float64)
        return np.asarray(centre + TIMES * (array - centre))

    if told.labels is None:
        return _mapped(told, away)
    if told.labels.space is Space.QUANTILES:
        return _saying(told, away(told.labels.values))
    values = told.labels.values.astype(np.float64)
    raised = (values / values.max(axis=1, keepdims=True)) ** TIMES  # over the largest, so that not all vanish
    return _saying(told, raised / raised.sum(axis=1, keepdims=True))


def noise(told: Release, allies: Sequence[Release], draw: np.random.Generator) -> Release:
    """Say something at random: normal noise of `SPREADS` spreads, the same for all quantiles of an item.

    Of classes, probabilities drawn from a Dirichlet distribution (0.3), whatever the item is.
    """
    del allies
    if told.labels is None:
        return _mapped(told, lambda array: array + SPREADS * array.std() * draw.normal(size=array.shape))
    values = told.labels.values
    n, k = values.shape
    if told.labels.space is Space.PROBABILITIES:
        return _saying(told, draw.dirichlet(np.full(k, 0.3), n))
    return _saying(told, values + SPREADS * values.std() * draw.normal(size=(n, 1)))


def collusion(
    told: Release, allies: Sequence[Release], draw: np.random.Generator, *, spreads: float = SPREADS
) -> Release:
    """Say what all allies say, word for word: the median of what they would say, so many spreads higher.

    The allies know each other's labels and not those of the honest, which they take to be like their own. So the lie
    has a plausible shape and width, makes a group of its own, and lies beyond what the honest say: a mean follows it,
    and a median is pushed to the outermost of the honest on that side. Of classes they are all sure of the one that
    they would name least often. Of parameters it is their mean, each array shifted by so many of its spreads.

    After Baruch, Baruch and Goldberg, "A Little Is Enough", NeurIPS 2019, arXiv:1902.06156, who take the spread between
    liars; one liar by itself has none.
    """
    del draw
    if told.labels is None:
        together = {name: np.mean([one.parameters[name] for one in allies], axis=0) for name in told.parameters}
        return _mapped(replace(told, parameters=together), lambda array: array + spreads * array.std())
    median = np.median([_labels(one).values for one in allies], axis=0)
    if told.labels.space is Space.QUANTILES:
        return _saying(told, median + spreads * median.std())
    n, k = median.shape
    rarest = np.bincount(median.argmax(axis=1), minlength=k).argmin()
    return _saying(told, np.tile(np.where(np.arange(k) == rarest, SURE, (1 - SURE) / (k - 1)), (n, 1)))


nudge = partial(collusion, spreads=LITTLE)
"""`collusion` by so little that its labels stay in the company of honest ones."""

LIES: Mapping[str, Lie] = {
    "collusion": collusion,
    "constant": constant,
    "flip": flip,
    "noise": noise,
    "nudge": nudge,
    "scaled": scaled,
    "sign": sign,
}
"""Lies by name."""


def _labels(told: Release) -> SoftLabels:
    if told.labels is None:
        raise ValueError("this lie is about soft labels, and the release has none")
    return told.labels


def _saying(told: Release, values: Array) -> Release:
    """The release with other values in its soft labels, in float32."""
    labels = _labels(told)
    return replace(told, labels=SoftLabels.of(labels.items, values, labels.space, labels.weight))


def _mapped(told: Release, change: Callable[[Array], Array]) -> Release:
    """The release with each array of parameters changed, in float32."""
    return replace(told, parameters={n: np.asarray(change(array), np.float32) for n, array in told.parameters.items()})
