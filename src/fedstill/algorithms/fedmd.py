"""FedMD: everyone distils the plain mean of all soft labels.

Li and Wang, "FedMD: Heterogenous Federated Learning via Model Distillation", 2019, arXiv:1910.03581. There a
student first fits the mean on the public set and then its own rows again, in turns; here it learns from both
at once, with `share` saying how much the teacher counts, because trees have no turns.
"""

from __future__ import annotations

from fedstill.grouping.aggregates import resolve
from fedstill.messages import Recipe
from fedstill.strategy import Strategy, everyone


def fedmd(*, share: float = 0.5, aggregate: str = "mean") -> Strategy:
    """Everyone distils the mean of all soft labels (FedMD).

    Parameters
    ----------
    share:
        The teacher's share of the weight a student learns from, 0 to 1.
    aggregate:
        "mean" as published; "median" or "trimmed" withstand a member whose labels are far off.
    """
    return Strategy("fedmd", everyone(resolve(aggregate)), Recipe(share=share))
