"""How many days a gradient, or an update, must sum over before it hides each of them.

The literature on gradient inversion attacks small batches; a run of this package puts all rows into one gradient. This
says what lies between: for the same participants and the same untrained network, the answer to the rows of some days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from scipy.optimize import linear_sum_assignment

from fedstill.attacks.hidden import Blocks, clipped
from fedstill.attacks.inversion import slopes, steady, unmixed
from fedstill.attacks.inverters import Attack, Heard, Knowledge, direct, guesses, learned
from fedstill.attacks.reports import BatchPoint
from fedstill.attacks.scoring import HINDSIGHT, Trial, judged
from fedstill.attacks.sights import Said
from fedstill.labels import Array, Party, Release
from fedstill.learners.base import Learner, Parametric
from fedstill.messages import Kind, Recipe
from fedstill.tasks.base import Prepared, Task, TransferSet

SIZES = (1, 7, 28, None)
GRADIENT = Recipe(release=Kind.GRADIENTS)
REPEATS = 4
"""Batches of each participant, unless fewer hold the days that are asked for."""
SAMPLES, SAMPLED_DAYS = 12, 240
"""Batches of each other participant that an attacker learns from, at most, and the days that are in all of them."""
MOST_SOURCES = 64
"""Above so many blocks in a batch nothing is unmixed."""


def batch_curve(
    prepared: Mapping[Party, Prepared],
    transfer: TransferSet,
    task: Task,
    makes: Mapping[Party, Callable[..., Learner]],
    *,
    seed: int,
    recipe: Recipe = GRADIENT,
    sizes: Sequence[int | None] = SIZES,
    days: int = 40,
) -> tuple[BatchPoint, ...]:
    """Attack the first answer of a parameter algorithm, with more and more days in it.

    Days of a batch follow each other; rows of a table are drawn. Attacks are those through the first layer, what is
    learned of them from batches as large of the other participants, and unmixing, whose components are matched with
    the truth and which is therefore shown beside and never chosen.

    Parameters
    ----------
    prepared, transfer, task, makes, days:
        See `reconstruct`.
    seed:
        Draws batches and resamples.
    recipe:
        What is asked for: the gradient at the common start, or parameters after training from there. The default is the
        gradient, as in FedSGD.
    sizes:
        Days (or rows) in a batch; None: all that a participant learns from.

    Returns
    -------
    One point a size; none where fewer than two participants have models with parameters.
    """
    f = len(task.features)
    models = {}
    for party in sorted(prepared):
        model = makes[party](seed=recipe.seed)
        if isinstance(model, Parametric):
            models[party] = model.initialise(f)
    if len(models) < 2:
        return ()
    knowledge = Knowledge.of({party: prepared[party] for party in models}, transfer, task, parametric=True)
    fewest = min(len(blocks) for blocks in knowledge.blocks.values())
    counts = sorted({fewest if size is None else min(size, fewest) for size in sizes})
    rng = np.random.default_rng(seed)
    return tuple(
        BatchPoint(count, judged(_trials(knowledge, models, count, days, recipe, rng), rng)) for count in counts
    )


def _trials(
    knowledge: Knowledge,
    models: Mapping[Party, Parametric],
    count: int,
    days: int,
    recipe: Recipe,
    rng: np.random.Generator,
) -> dict[Party, Trial]:
    """Batches of so many blocks of each participant, and what is made of the answers to them."""
    repeats = max(1, min(REPEATS, days // count))
    enough = max(repeats, min(SAMPLES, SAMPLED_DAYS // count))
    samples = {
        party: [_sample(model, knowledge.blocks[party], count, recipe, rng) for _ in range(enough)]
        for party, model in models.items()
    }
    other = dict(zip(models, [*list(models)[1:], next(iter(models))], strict=True))
    attacks = {
        **direct(knowledge),
        **learned(knowledge, samples),
        f"unmixed, matched {HINDSIGHT}": _unmixing(knowledge, rng),
    }
    asked = np.sort(rng.choice(count, min(count, days), replace=False))
    trials = {}
    for party in models:
        drawn = [batch for _, batch in samples[party][:repeats]]
        own, unrelated = (
            [guesses(attacks, party, heard, batch) for (heard, _), batch in zip(samples[who], drawn, strict=False)]
            for who in (party, other[party])
        )
        names = set.intersection(*(set(told) for told in (*own, *unrelated)))
        trials[party] = Trial(
            np.vstack([batch.truth[asked] for batch in drawn]),
            np.vstack([knowledge.guess(party, party, batch)[asked] for batch in drawn]),
            np.vstack([knowledge.habits(party, batch)[asked] for batch in drawn]),
            *({name: np.vstack([one[name][asked] for one in told]) for name in names} for told in (own, unrelated)),
        )
    return trials


def _sample(
    model: Parametric, blocks: Blocks, count: int, recipe: Recipe, rng: np.random.Generator
) -> tuple[Heard, Blocks]:
    """A batch, and what is heard of one who has its rows alone."""
    batch = _batch(blocks, count, rng)
    common = model.parameters()
    if recipe.release is Kind.GRADIENTS:
        told = model.gradient(batch.X, batch.y)
    else:
        model.train(batch.X, batch.y, recipe.epochs, recipe.learning_rate, recipe.proximal)
        told = model.parameters()
        model.set_parameters(common)
    said = Said(1, Release(parameters=told), common, recipe)
    return Heard(slopes([said], batch.X.shape[1])), batch


def _batch(blocks: Blocks, count: int, rng: np.random.Generator) -> Blocks:
    """So many days that follow each other, or rows of a table."""
    if len(blocks) == len(blocks.X):
        return blocks.some(count, rng)
    first = int(rng.integers(len(blocks) - count + 1))
    return blocks.take(np.arange(first, first + count))


def _unmixing(knowledge: Knowledge, rng: np.random.Generator) -> Attack:
    @cache
    def same(party: Party) -> Array:
        return steady([one for other, one in knowledge.blocks.items() if other != party])

    def attack(party: Party, heard: Heard, blocks: Blocks) -> Array | None:
        if heard.table is None or len(blocks) > MOST_SOURCES:
            return None
        found = unmixed(heard.table, same(party), len(blocks), rng)
        if found is None:
            return None
        private = clipped(found[:, blocks.columns.private])
        gap = ((blocks.truth[:, None] - private) ** 2).mean(axis=2)
        guess = np.empty_like(blocks.truth)
        rows, columns = linear_sum_assignment(gap)
        guess[rows] = private[columns]
        return guess

    return attack
