"""How near guesses of private columns come: against the best guess that needs no release, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedstill.attacks.reports import Attempt, Estimate, Reconstruction
from fedstill.evaluation.bootstrap import interval
from fedstill.labels import Array, Party

RESAMPLES = 1000
WORTH = 0.99
"""An attack must do so well on the others, against the prior, to be followed at all."""
HINDSIGHT = "in hindsight"
"""How the name of an attack ends that looks at the truth to put its guesses in order: shown, never chosen."""


@dataclass(frozen=True, eq=False)
class Trial:
    """Guesses of one participant's blocks; arrays have shape (d, q), d the same for all participants.

    Attributes
    ----------
    truth, prior:
        What there is, and the best guess without a release.
    habits:
        The guess of one who knows how private columns go with public ones at this very site.
    guesses:
        By attack, from the participant's own release.
    unrelated:
        By attack, from the release of another participant.
    """

    truth: Array
    prior: Array
    habits: Array
    guesses: Mapping[str, Array]
    unrelated: Mapping[str, Array]


def judged(trials: Mapping[Party, Trial], rng: np.random.Generator) -> Reconstruction:
    """What the attacks on two participants or more come to.

    Which attack to use on one is decided by how they do on the others; what was learned for those knew the one as well,
    a small favour to the attacker that saves learning everything twice.
    """
    names = sorted(set.intersection(*(set(one.guesses) for one in trials.values())))
    chosen = {party: _choice(trials, party, names) for party in trials}
    alone = {name: {party: (name, _trust(trials, party, name)) for party in trials} for name in names}
    prior = _table(trials, {party: one.prior for party, one in trials.items()})
    errors = _table(trials, _weighed(trials, chosen))
    gains = _gains(trials, _weighed(trials, chosen))

    def ratio(weighed: Mapping[Party, Array]) -> Estimate:
        return _estimate(_mean_ratio, (_table(trials, weighed), prior), rng)

    return Reconstruction(
        mean=_estimate(_mean_ratio, (errors, prior), rng),
        median=_estimate(_median_ratio, (errors, prior), rng),
        correlation=_estimate(_mean, (gains,), rng),
        floor=ratio(_weighed(trials, chosen, unrelated=True)),
        habits=ratio({party: one.habits for party, one in trials.items()}),
        chosen={party: name or "prior" for party, (name, _) in chosen.items()},
        attacks={
            name: Attempt(ratio(_weighed(trials, how)), ratio(_weighed(trials, how, unrelated=True)))
            for name, how in alone.items()
        },
        participants=len(trials),
        days=prior.shape[1],
        prior_error=float(prior.mean()),
    )


Choice = tuple[str, float]
"""An attack, and how far its guess is followed from the prior on, 0 to 1."""


def _trust(trials: Mapping[Party, Trial], target: Party, name: str) -> float:
    """How far to follow an attack on the target: the median of what is best for each of the others."""
    best = []
    for party, one in trials.items():
        step, gap = one.guesses[name] - one.prior, one.truth - one.prior
        if party != target and step.any():
            best.append(float(np.clip((step * gap).sum() / (step**2).sum(), 0, 1)))
    return float(np.median(best)) if best else 0.0


def _choice(trials: Mapping[Party, Trial], target: Party, names: Sequence[str]) -> Choice:
    """The attack that does best on the others, and how far to follow it; none where none is worth it."""
    others = {party: one for party, one in trials.items() if party != target}
    prior = _table(others, {party: one.prior for party, one in others.items()})
    best, least = ("", 0.0), WORTH
    for name in names:
        if name.endswith(HINDSIGHT):
            continue
        how = name, _trust(trials, target, name)
        ratio = _mean_ratio(_table(others, _weighed(others, dict.fromkeys(others, how))), prior)
        if ratio < least:
            best, least = how, ratio
    return best


def _weighed(
    trials: Mapping[Party, Trial], how: Mapping[Party, Choice], *, unrelated: bool = False
) -> dict[Party, Array]:
    """The guesses that come of choices."""
    found = {}
    for party, one in trials.items():
        name, trust = how[party]
        guess = (one.unrelated if unrelated else one.guesses)[name] if name else one.prior
        found[party] = one.prior + trust * (guess - one.prior)
    return found


def _table(trials: Mapping[Party, Trial], guesses: Mapping[Party, Array]) -> Array:
    """Mean squared error of each participant's days, shape (K, d)."""
    return np.stack([((guesses[party] - one.truth) ** 2).mean(axis=1) for party, one in trials.items()])


def _gains(trials: Mapping[Party, Trial], guesses: Mapping[Party, Array]) -> Array:
    """Correlation of guess and truth less that of prior and truth, of each participant's days, shape (K, d)."""
    return np.stack(
        [
            _correlations(guesses[party], one.truth) - _correlations(one.prior, one.truth)
            for party, one in trials.items()
        ]
    )


def _correlations(guess: Array, truth: Array) -> Array:
    """Correlation along each row, (d,); 0 where a row does not vary."""
    a, b = (values - values.mean(axis=1, keepdims=True) for values in (guess, truth))
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    found: Array = np.divide((a * b).sum(axis=1), size, out=np.zeros(len(size)), where=size > 1e-12)
    return found


def _mean_ratio(errors: Array, prior: Array) -> float:
    total = prior.sum(axis=1)
    ratios = np.divide(errors.sum(axis=1), total, out=np.ones(len(total)), where=total > 0)
    return float(ratios.mean())


def _median_ratio(errors: Array, prior: Array) -> float:
    return float(np.median(np.divide(errors, prior, out=np.ones_like(prior), where=prior > 0)))


def _mean(values: Array) -> float:
    return float(values.mean())


def _estimate(figure: Callable[..., float], tables: Sequence[Array], rng: np.random.Generator) -> Estimate:
    """A figure of tables (K, d), with an interval from drawing participants, and then days of each."""
    k, d = tables[0].shape
    draws = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        who, when = rng.integers(0, k, size=(k, 1)), rng.integers(0, d, size=(k, d))
        draws[i] = figure(*(table[who, when] for table in tables))
    return Estimate(figure(*tables), *interval(draws))
