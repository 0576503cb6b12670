"""The attackers: from a release, and all that is known beside it, to guesses of private columns.

Each looks at its target's rows for their public columns alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from fedstill.attacks.hidden import FARTHEST, Blocks, Columns, Prior, clipped
from fedstill.attacks.inversion import slopes, through_first_layer
from fedstill.attacks.learned import Surrogate, Voice, profiles, regression, voice
from fedstill.attacks.sights import Said
from fedstill.labels import Array, Party
from fedstill.learners.base import Learner
from fedstill.participant import WATCHED
from fedstill.sites import Rows
from fedstill.tasks.base import Prepared, Task, TransferSet

TRUSTS = {"exact": 1e-12, "firm": 1e-2, "wary": 1e-1, "barely": 1.0}
"""Penalties of `through_first_layer`, by name."""


@dataclass(frozen=True, eq=False)
class Heard:
    """One participant's releases, as attackers use them.

    Attributes
    ----------
    table:
        Slopes of the first layer, see `inversion.slopes`; None where there are none.
    voice:
        What the releases say of any inputs; None where they say nothing of that kind.
    """

    table: Array | None
    voice: Voice | None = None

    @classmethod
    def of(cls, said: Sequence[Said], surrogate: Surrogate, make: Callable[..., Learner], n_features: int) -> Heard:
        """What a participant has said in a run; `make` builds its kind of model."""
        return cls(slopes(said, n_features), voice(said, surrogate, make, n_features))


Attack = Callable[[Party, Heard, Blocks], Array | None]
"""Private columns, (d, q), of blocks of a participant by releases that are taken for its own; None: does not apply."""

Samples = Mapping[Party, Sequence[tuple[Heard, Blocks]]]
"""Releases of participants, with blocks that they learned from."""


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What the attacker has before it looks at its target's release.

    Attributes
    ----------
    blocks:
        What each participant has learned from.
    prior:
        The best guess without a release.
    transfer:
        The transfer set's inputs on its own scale, clipped, (m, f).
    """

    blocks: Mapping[Party, Blocks]
    prior: Prior
    transfer: Array

    @classmethod
    def of(
        cls, prepared: Mapping[Party, Prepared], transfer: TransferSet, task: Task, *, parametric: bool
    ) -> Knowledge:
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

    def habits(self, party: Party, blocks: Blocks) -> Array:
        """The guess of a participant's blocks by who knows its habits, and nothing of single days, (d, q)."""
        return blocks.means(self.prior.habits(party)(blocks.public))


def guesses(attacks: Mapping[str, Attack], party: Party, heard: Heard, blocks: Blocks) -> dict[str, Array]:
    """What the attacks that apply say of a participant's blocks."""
    found = {name: attack(party, heard, blocks) for name, attack in attacks.items()}
    return {
        name: clipped(np.nan_to_num(guess, posinf=FARTHEST, neginf=-FARTHEST))
        for name, guess in found.items()
        if guess is not None
    }


def direct(knowledge: Knowledge) -> dict[str, Attack]:
    """Attacks through the first layer, which look at nothing but the release and the prior."""

    def told(trust: float) -> Attack:
        def attack(party: Party, heard: Heard, blocks: Blocks) -> Array | None:
            if heard.table is None:
                return None
            return through_first_layer(heard.table, blocks, knowledge.prior.without({party}, linear=True), trust)

        return attack

    return {f"first layer, {name}": told(trust) for name, trust in TRUSTS.items()}


Sign = Callable[[Party, Party, Heard, Blocks], Array | None]
"""What who attacks a target (the first) sees of a participant's blocks (the second's), (d, s)."""


def learned(knowledge: Knowledge, samples: Samples) -> dict[str, Attack]:
    """Attacks that learn from samples of the other participants how what a release says goes with days."""

    def said(target: Party, party: Party, heard: Heard, blocks: Blocks) -> Array | None:
        if heard.voice is None:
            return None
        return profiles(heard.voice, blocks, knowledge.prior.without({party, target})(blocks.public))

    def layer(target: Party, party: Party, heard: Heard, blocks: Blocks) -> Array | None:
        if heard.table is None:
            return None
        linear = knowledge.prior.without({party, target}, linear=True)
        before = blocks.means(linear(blocks.public))
        trusts = [trust for name, trust in TRUSTS.items() if name != "exact"]
        return np.hstack([through_first_layer(heard.table, blocks, linear, trust) - before for trust in trusts])

    def both(target: Party, party: Party, heard: Heard, blocks: Blocks) -> Array | None:
        one, other = (sign(target, party, heard, blocks) for sign in (said, layer))
        return None if one is None or other is None else np.hstack([one, other])

    signs = {"what it says": said, "its first layer": layer, "both": both}
    return {f"learned from {name}": _learned(knowledge, samples, sign) for name, sign in signs.items()}


def _learned(knowledge: Knowledge, samples: Samples, sign: Sign) -> Attack:
    @cache
    def lesson(target: Party) -> Callable[[Array], Array] | None:
        """What the others' samples teach who attacks this one."""
        signs, gaps = {}, {}
        for party, pairs in samples.items():
            seen = [sign(target, party, *pair) for pair in pairs if party != target]
            if seen and all(one is not None for one in seen):
                signs[party] = np.vstack([one for one in seen if one is not None])
                gaps[party] = np.vstack([known.truth - knowledge.guess(party, target, known) for _, known in pairs])
        return regression(signs, gaps) if signs else None

    def attack(target: Party, heard: Heard, blocks: Blocks) -> Array | None:
        own = sign(target, target, heard, blocks)
        correct = None if own is None else lesson(target)
        if own is None or correct is None:
            return None
        return knowledge.guess(target, target, blocks) + correct(own)

    return attack
