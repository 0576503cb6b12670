"""Who contributes how much to what all reach together: leave-one-out and Shapley values.

A *game* says what a coalition of players is worth to each who has the use of it. Leaving one out tells what the others
lack without it, which is nothing where two say the same. The Shapley value (Shapley 1953) lets players come one after
the other, in every order, and takes the mean of what each adds as it comes. It is the only way to share out all that is
reached (efficiency) that treats players alike who add alike (symmetry), gives nothing to who never adds anything (null
player), and adds up over games. A negative value says that the others do better alone.

With more than `EXACT` players orders are sampled (Castro, Gomez and Tejada, "Polynomial calculation of the Shapley
value based on sampling", 2009, doi:10.1016/j.cor.2008.04.004), each with its reverse, whose errors mostly cancel
(Mitchell et al., JMLR 2022, arXiv:2104.12199), and cut short where little is left to add (Ghorbani and Zou, "Data
Shapley", ICML 2019, arXiv:1904.02868).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from msgspec import Struct
from prettytable import PrettyTable

from fedstill.labels import Array, Party

Game = Callable[[frozenset[Party]], Array]
"""What a coalition is worth to each of J who have the use of it, shape (J,); higher is better."""

EXACT = 8
"""So many players have 256 coalitions, all of which are looked at."""


class Contribution(Struct, frozen=True, kw_only=True):
    """What one participant contributes, in the unit of the game.

    Attributes
    ----------
    name:
        The participant.
    shapley, error:
        Its Shapley value, and the standard error of that; 0 where no orders were sampled.
    left_out:
        What all are worth less what all others are.
    helps:
        Its Shapley value for each who has the use of it; `shapley` is their mean.
    """

    name: str
    shapley: float
    error: float
    left_out: float
    helps: dict[str, float]


class Contributions(Struct, frozen=True, kw_only=True):
    """Everybody's contributions.

    Attributes
    ----------
    value:
        What is shared out, in words.
    together:
        What all are worth less what nobody is; the Shapley values sum to it.
    coalitions:
        How many were looked at.
    participants:
        One each, the highest Shapley value first.
    """

    value: str
    together: float
    coalitions: int
    participants: list[Contribution]

    def table(self) -> str:
        """A line a participant, as text; numbers times 100."""
        shown = PrettyTable(["participant", "Shapley value", "+-", "left out", "helps most", "helps least"])
        shown.align = "r"
        shown.align["participant"] = shown.align["helps most"] = shown.align["helps least"] = "l"
        for one in self.participants:
            others = {party: 100 * helped for party, helped in one.helps.items() if party != one.name}
            ranked = sorted(others, key=lambda party: -others[party]) or [one.name]
            numbers = (f"{100 * number:.2f}" for number in (one.shapley, one.error, one.left_out))
            ends = (f"{party} {others.get(party, 0):.2f}" for party in (ranked[0], ranked[-1]))
            shown.add_row([one.name, *numbers, *ends])
        shown.add_divider()
        shown.add_row(["together", f"{100 * self.together:.2f}", "", "", "", ""])
        return str(shown.get_string())


def shared_out(
    game: Game,
    players: Sequence[Party],
    users: Sequence[Party],
    value: str,
    *,
    pairs: int = 100,
    tolerance: float = 0.0,
    seed: int = 0,
) -> Contributions:
    """Share out among players what they are worth together.

    Parameters
    ----------
    game:
        What a coalition is worth to each of the users, shape (J,). It is asked once about each.
    players, users:
        Who contributes, one or more; who has the use of it.
    value:
        What the game tells, in words.
    pairs, tolerance, seed:
        Of the sample where there are more than `EXACT` players, see `sampled`.
    """
    known = cache(game)
    if len(players) <= EXACT:
        values, spread = shapley(known, players), np.zeros(len(players))
    else:
        values, spread = sampled(known, players, pairs, tolerance=tolerance, seed=seed)
    left_out = leave_one_out(known, players)
    found = [
        Contribution(
            name=player,
            shapley=float(values[i].mean()),
            error=float(spread[i]),
            left_out=float(left_out[i].mean()),
            helps=dict(zip(users, values[i].tolist(), strict=True)),
        )
        for i, player in enumerate(players)
    ]
    return Contributions(
        value=value,
        together=float(np.mean(known(frozenset(players)) - known(frozenset()))),
        coalitions=known.cache_info().currsize,
        participants=sorted(found, key=lambda one: -one.shapley),
    )


def leave_one_out(game: Game, players: Sequence[Party]) -> Array:
    """What all are worth less what all but each one are, shape (K, J)."""
    everyone = frozenset(players)
    return np.stack([game(everyone) - game(everyone - {player}) for player in players])


def shapley(game: Game, players: Sequence[Party]) -> Array:
    """Shapley values by all 2^K coalitions, shape (K, J).

    Of the K! orders, |S|! (K - |S| - 1)! have just the coalition S before a player.
    """
    k = len(players)

    def of(player: Party) -> Array:
        others = [other for other in players if other != player]
        before = [frozenset(some) for size in range(k) for some in itertools.combinations(others, size)]
        added = [(game(some | {player}) - game(some)) / (k * math.comb(k - 1, len(some))) for some in before]
        return np.asarray(np.sum(added, axis=0))

    return np.stack([of(player) for player in players])


def sampled(
    game: Game, players: Sequence[Party], pairs: int, *, tolerance: float = 0.0, seed: int = 0
) -> tuple[Array, Array]:
    """Shapley values by orders drawn at random, each with its reverse.

    Parameters
    ----------
    game, players:
        As above.
    pairs:
        Pairs of orders, 2 or more.
    tolerance:
        Who comes when the worth, as the mean over users, is nearer than this to that of all, is taken to add nothing.
        It saves coalitions, and biases the values. 0: every order is followed to its end.
    seed:
        Of the draw.

    Returns
    -------
    tuple
        Values, shape (K, J), and the standard errors of their means over users, shape (K,). In every order what
        players add sums to what all are worth, but for the tolerance.
    """
    random, everyone = np.random.default_rng(seed), game(frozenset(players))

    def added(order: Sequence[int]) -> Array:
        values, here = np.zeros((len(players), len(everyone))), frozenset[Party]()
        for i in order:
            if abs(np.mean(everyone - game(here))) < tolerance:
                break
            there = here | {players[i]}
            values[i] = game(there) - game(here)
            here = there
        return values

    def pair() -> Array:
        order = random.permutation(len(players)).tolist()
        return np.asarray((added(order) + added(order[::-1])) / 2)

    found = np.stack([pair() for _ in range(pairs)])
    return found.mean(axis=0), found.mean(axis=2).std(axis=0, ddof=1) / math.sqrt(pairs)
