"""Reconstruction: how much of its load on a given day a participant's releases tell an honest-but-curious coordinator.

The attacker knows the transfer set, every release, the kinds of models, the recipe, the public columns of each day
(date, weather), and the data of all *other* participants. The last is more than it has, and generous to it: it tries
its attacks on them, learns from them how releases go with days, and its prior knows them too, so that only the release
can make the difference. What it is to guess are the private columns of days that were learned from.

Days that are alike in all public columns are told alike: no attack here follows the load from one day to the next. So
what is read is either a single day, where few go into an answer, or what is usual at the site on such days, its habits.
The report says beside what knowing the habits exactly would give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedstill.attacks.inverters import Heard, Knowledge, direct, guesses, learned
from fedstill.attacks.learned import Surrogate
from fedstill.attacks.reports import Reconstruction
from fedstill.attacks.scoring import Trial, judged
from fedstill.attacks.sights import Said
from fedstill.errors import ConfigError
from fedstill.labels import Party
from fedstill.learners.base import Learner
from fedstill.tasks.base import Prepared, Task, TransferSet

SHADOW_DAYS = 80
"""Days of each other participant that an attacker learns from."""


def reconstruct(
    said: Mapping[Party, Sequence[Said]],
    prepared: Mapping[Party, Prepared],
    transfer: TransferSet,
    task: Task,
    makes: Mapping[Party, Callable[..., Learner]],
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
            f"{len(parties)} of the participants have said something, an attack learns from two or more",
            where="said",
            remedy="Attack a run in which two participants or more have answered",
        )
    rng = np.random.default_rng(seed)
    parametric = any(one.start is not None for party in parties for one in said[party])
    knowledge = Knowledge.of({party: prepared[party] for party in parties}, transfer, task, parametric=parametric)
    surrogate = Surrogate(knowledge.transfer)
    heard = {party: Heard.of(said[party], surrogate, makes[party], len(task.features)) for party in parties}
    samples = {party: [(heard[party], knowledge.blocks[party].some(SHADOW_DAYS, rng))] for party in parties}
    attacks = {**direct(knowledge), **learned(knowledge, samples)}
    number = min(days, *(len(blocks) for blocks in knowledge.blocks.values()))
    order = rng.permutation(parties).tolist()
    other = dict(zip(order, [*order[1:], order[0]], strict=True))
    trials = {}
    for party in parties:
        blocks = knowledge.blocks[party].some(number, rng)
        own, unrelated = (guesses(attacks, party, heard[who], blocks) for who in (party, other[party]))
        trials[party] = Trial(
            blocks.truth, knowledge.guess(party, party, blocks), knowledge.habits(party, blocks), own, unrelated
        )
    return judged(trials, rng)
