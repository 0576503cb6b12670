"""Selective-FD: nobody speaks of items unlike its own rows, and items on which the mean is torn are not taught.

Shao, Wu and Zhang, "Selective knowledge sharing for privacy-preserving federated distillation without a good teacher",
Nature Communications 2024, arXiv:2304.01731. Two selectors:

* A participant estimates the density of its own rows (see `fedstill.density`) and abstains where it is low. Where its
  data are, and where not, can be read off what it abstains on: these weights are a release like the labels are.
* The coordinator drops items whose mean prediction is far (L1) from the one-hot of its likeliest class.

The reference of the density is the transfer set, where the paper takes noise. For forecasts the second selector is
ours: an item is dropped where members differ by more than the threshold in units of the teacher's interval (see
`grouping.doubt.disagreement`). The soft form, weights in place of abstentions, is ours too: the teacher's weight of an
item is then the largest of anyone's, so that an item at which nobody is at home counts little.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import mean
from fedstill.grouping.doubt import disagreement
from fedstill.grouping.votes import choose
from fedstill.labels import Release, SoftLabels, Space
from fedstill.messages import Recipe
from fedstill.strategy import Ballot, Lesson, Strategy


def selective(
    *, form: Literal["hard", "soft"] = "hard", cutoff: float = 0.125, ambiguous: float = 1.0, share: float = 0.5
) -> Strategy:
    """Members abstain on items unlike their own rows, and torn items are dropped (Selective-FD).

    Parameters
    ----------
    form:
        "hard": members abstain outside their own density; "soft": their words count by the density ratio, at most 1.
    cutoff:
        Part of its own rows that a member takes to lie outside its density, 0 to 1 ("hard").
    ambiguous:
        Items beyond this are dropped. Classes: L1 distance of the mean to its one-hot, 0 to 2; 1 asks for a class with
        half of the probability, 2 drops nothing. Forecasts: disagreement in widths of the teacher's interval.
    share:
        The teacher's share of the weight a student learns from, 0 to 1.
    """
    choose(form, dict.fromkeys(("hard", "soft")), "form")
    if not ambiguous >= 0:
        raise ConfigError(f"{ambiguous} is no distance", where="ambiguous", remedy="Use 0 or more")

    def teach(ballot: Ballot) -> Lesson:
        voices = [vote.labels for vote in ballot.votes]
        together = mean(voices)
        if ballot.outputs.space is Space.QUANTILES:
            torn = disagreement(voices, together)
        else:
            torn = 2 * (1 - together.values.astype(np.float64).max(axis=1))  # |p - 1| + the rest, which is 1 - p
        known = np.minimum(np.max([voice.weight for voice in voices], axis=0), 1.0)
        kept = np.where(torn <= ambiguous, known, 0.0)
        teacher = SoftLabels.of(together.items, together.values, together.space, kept)
        return Lesson(dict.fromkeys(ballot.parties, Release(labels=teacher)))

    return Strategy("selective", teach, Recipe(share=share, certainty=form, cutoff=cutoff))
