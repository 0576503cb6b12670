"""Reconstruction: how much of its load on a given day a participant's releases tell an honest-but-curious coordinator.

The attacker knows the transfer set, every release, the kinds of models, the recipe, the public columns of each day
(date, weather), and the data of all *other* participants. The last is more than it has, and generous to it: it tries
its attacks on them, learns from them how releases go with days, and its prior knows them too, so that only the release
can make the difference. What it is to guess are the private columns of days that were learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedstill.attacks.hidden import FARTHEST, Blocks, Columns, Prior, clipped
from fedstill.attacks.inversion import slopes, through_first_layer
from fedstill.attacks.learned import Surrogate, profiles, regressed, voice
from fedstill.attacks.scoring import Reconstruction, Trial, judged
from fedstill.attacks.sights import Said
from fedstill.errors import ConfigError
from fedstill.labels import Array, Party
from fedstill.learners.base import Learner
from fedstill.participant import WATCHED
from fedstill.sites import Rows
from fedstill.tasks.base import Prepared, Task, TransferSet

TRUSTS = {"exact": 1e-12, "firm": 1e-3, "wary": 1e-1}
"""Penalties of `through_first_layer`, by name."""
SHADOW_DAYS = 120
"""Days of each other participant that an attacker learns from."""

Makes = Mapping[Party, Callable[..., Learner]]
Attack = Callable[[Party, Sequence[Said], Blocks], Array | None]
"""Private columns, (d, q), of blocks of a participant by releases that are taken for its own; None: does not apply."""


@dataclass(frozen=True, eq=False)
class World:
    """What the attacker has before it looks at its target's release.

    Attributes
    ----------
    blocks:
        What each participant has learned from.
    prior:
        The best guess without a release.
    transfer:
        The transfer set's inputs on its own scale, (m, f).
    """

    blocks: Mapping[Party, Blocks]
    prior: Prior
    transfer: Array

    @classmethod
    def of(cls, prepared: Mapping[Party, Prepared], transfer: TransferSet, task: Task, *, parametric: bool) -> World:
        """Of participants on the transfer set's scale; with parameters they never learn from the watched fold."""
        columns = Columns.of(task)
        sites = {party: one.site for party, one in prepared.items()}
        blocks = {
            party: Blocks.all(site.without(WATCHED) if parametric else site.rows, columns)
            for party, site in sites.items()
        }
        inputs = clipped(transfer.scaling.apply(transfer.X))
        public = Blocks.all(Rows(inputs, np.zeros(len(inputs)), transfer.block), columns)
        return cls(blocks, Prior(public, blocks), inputs)

    def guess(self, party: Party, target: Party, blocks: Blocks) -> Array:
        """The prior of a participant's blocks by who attacks the target, (d, q)."""
        return blocks.means(self.prior.without({party, target})(blocks.public))


def reconstruct(
    said: Mapping[Party, Sequence[Said]],
    prepared: Mapping[Party, Prepared],
    transfer: TransferSet,
    task: Task,
    makes: Makes,
    *,
    seed: int,
    days: int = 40,
) -> Reconstruction:
    """Attack every participant of a run and say how near the guesses come.

    Parameters
    ----------
    said:
        What the attacker saw of each participant, in order.
    prepared:
        Participants' data on the transfer set's scale, as `Agreement.prepare` makes them; of a target only public
        columns are used, but to say how near a guess came.
    transfer, task, makes:
        What all share, and how each participant's kind of model is built.
    seed:
        Draws days, whose release is taken for whose, and resamples.
    days:
        At most so many days (or rows) of each participant.

    Raises
    ------
    ConfigError
        With fewer than two participants who said something.
    """
    parties = sorted(party for party in prepared if said.get(party))
    if len(parties) < 2:
        raise ConfigError(
            f"{len(parties)} participants have said something, an attack learns from two or more",
            where="said",
            remedy="Attack a run in which two participants or more have answered",
        )
    rng = np.random.default_rng(seed)
    parametric = any(one.start is not None for party in parties for one in said[party])
    world = World.of({party: prepared[party] for party in parties}, transfer, task, parametric=parametric)
    attacks = {**direct(world), **learned(world, said, makes, rng)}
    number = min(days, *(len(blocks) for blocks in world.blocks.values()))
    order = rng.permutation(parties).tolist()
    other = dict(zip(order, [*order[1:], order[0]], strict=True))
    trials = {}
    for party in parties:
        blocks = world.blocks[party].some(number, rng)
        own, unrelated = (guesses(attacks, party, said[who], blocks) for who in (party, other[party]))
        trials[party] = Trial(blocks.truth, world.guess(party, party, blocks), own, unrelated)
    return judged(trials, rng)


def guesses(attacks: Mapping[str, Attack], party: Party, said: Sequence[Said], blocks: Blocks) -> dict[str, Array]:
    """What the attacks that apply say of a participant's blocks."""
    found = {name: attack(party, said, blocks) for name, attack in attacks.items()}
    return {
        name: clipped(np.nan_to_num(guess, posinf=FARTHEST, neginf=-FARTHEST))
        for name, guess in found.items()
        if guess is not None
    }


def direct(world: World) -> dict[str, Attack]:
    """Attacks through the first layer, which look at nothing but the release and the prior."""

    def told(trust: float) -> Attack:
        def attack(party: Party, said: Sequence[Said], blocks: Blocks) -> Array | None:
            table = slopes(said, blocks.X.shape[1])
            if table is None:
                return None
            return through_first_layer(table, blocks, world.prior.without({party}, linear=True), trust)

        return attack

    return {f"first layer, {name}": told(trust) for name, trust in TRUSTS.items()}


def learned(
    world: World, said: Mapping[Party, Sequence[Said]], makes: Makes, rng: np.random.Generator
) -> dict[str, Attack]:
    """Attacks that learn from other participants how what a release says goes with their days."""
    shadows = {party: blocks.some(SHADOW_DAYS, rng) for party, blocks in world.blocks.items()}
    surrogate, voices = Surrogate(world.transfer), {}

    def asked(owner: Party, heard: Sequence[Said], target: Party, blocks: Blocks) -> Array | None:
        key = owner, id(heard)
        if key not in voices:
            voices[key] = voice(heard, surrogate, makes[owner], blocks.X.shape[1])
        says = voices[key]
        if says is None:
            return None
        return profiles(says, blocks, world.prior.without({owner, target})(blocks.public))

    def layer(owner: Party, heard: Sequence[Said], target: Party, blocks: Blocks) -> Array | None:
        table = slopes(heard, blocks.X.shape[1])
        if table is None:
            return None
        linear = world.prior.without({owner, target}, linear=True)
        guess = through_first_layer(table, blocks, linear, TRUSTS["wary"])
        return guess - blocks.means(linear(blocks.public))

    def both(owner: Party, heard: Sequence[Said], target: Party, blocks: Blocks) -> Array | None:
        parts = [sign(owner, heard, target, blocks) for sign in (asked, layer)]
        return None if any(part is None for part in parts) else np.hstack([part for part in parts if part is not None])

    def by(sign: Callable[[Party, Sequence[Said], Party, Blocks], Array | None]) -> Attack:
        def attack(target: Party, heard: Sequence[Said], blocks: Blocks) -> Array | None:
            own = sign(target, heard, target, blocks)
            signs = {
                party: seen
                for party in shadows
                if party != target and (seen := sign(party, said[party], target, shadows[party])) is not None
            }
            if own is None or not signs:
                return None
            gaps = {party: shadows[party].truth - world.guess(party, target, shadows[party]) for party in signs}
            return world.guess(target, target, blocks) + regressed(signs, gaps, own)

        return attack

    signs = {"what it says": asked, "its first layer": layer, "both": both}
    return {f"learned from {name}": by(sign) for name, sign in signs.items()}
