"""FedMD: everyone distils the plain mean of all soft labels.

Li and Wang, "FedMD: Heterogenous Federated Learning via Model Distillation", 2019, arXiv:1910.03581. There a
student first fits the mean on the public set and then its own rows again, in turns; here it learns from both
at once, with `share` saying how much the teacher counts, because trees have no turns.
"""

from __future__ import annotations

import numpy as np

from fedstill.grouping.aggregates import resolve
from fedstill.grouping.doubt import check_doubt, doubted
from fedstill.labels import Release
from fedstill.messages import Recipe
from fedstill.strategy import Ballot, Lesson, Strategy


def fedmd(*, share: float = 0.5, aggregate: str = "mean", doubt: float | None = None) -> Strategy:
    """Everyone distils the mean of all soft labels (FedMD).

    Parameters
    ----------
    share:
        The teacher's share of the weight a student learns from, 0 to 1.
    aggregate:
        "mean" as published; "median", "trimmed" or "geometric-median" withstand a member whose labels are far off;
        "certainty", "precision" and "mixture" listen to how sure each is.
    doubt:
        Disagreement between members at which an item counts half (see `grouping.doubt`); None: all count alike.
    """
    resolve(aggregate)  # so that a wrong name shows before anybody has trained
    check_doubt(doubt)

    def teach(ballot: Ballot) -> Lesson:
        voices = [vote.labels for vote in ballot.votes]
        together = resolve(aggregate, ballot.outputs)(voices, np.ones(len(voices)))
        teacher = Release(labels=doubted(together, voices, doubt))
        return Lesson(dict.fromkeys(ballot.parties, teacher))

    return Strategy("fedmd", teach, Recipe(share=share))
