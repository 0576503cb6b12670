"""Who gained and who paid: a mean can improve while somebody loses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedstill.evaluation.schema import Comparison, Fairness, Named

TOLERANCE = 0.02
"""A loss up to this share above the other still counts as no worse."""


def jain_index(values: Sequence[float]) -> float | None:
    """How evenly something is shared, from 1/n (one has it all) to 1 (all have the same).

    (sum x)² / (n sum x²), Jain, Chiu and Hawe, "A Quantitative Measure of Fairness and Discrimination for
    Resource Allocation in Shared Computer Systems", DEC Research Report TR-301, 1984.

    Parameters
    ----------
    values:
        What each one has, finite; negative values count as 0, because the index is not defined for debts.

    Returns
    -------
    The index; None where nobody has anything.
    """
    shares = [max(0.0, value) for value in values]
    largest = max(shares, default=0.0)
    if largest == 0:
        return None
    shares = [share / largest for share in shares]  # the index has no unit, and squares may not overflow
    return math.fsum(shares) ** 2 / (len(shares) * math.fsum(share**2 for share in shares))


def compare(ours: Sequence[float], theirs: Sequence[float], tolerance: float = TOLERANCE) -> Comparison:
    """Shares of participants with a smaller loss, and with a loss within the tolerance, than another way."""
    pairs = list(zip(ours, theirs, strict=True))
    improved = sum(a < b for a, b in pairs)
    no_worse = sum(a <= b * (1 + tolerance) for a, b in pairs)
    n = len(pairs)
    return Comparison(
        participants=n,
        improved=improved,
        improved_share=improved / n if n else None,
        no_worse=no_worse,
        no_worse_share=no_worse / n if n else None,
    )


def assess(losses: Mapping[str, Mapping[str, float | None]], metric: str, rivals: Sequence[str]) -> Fairness:
    """Fairness of what participants keep.

    Parameters
    ----------
    losses:
        Participant -> prediction -> loss; "federated" is what is kept. Undefined losses are left out.
    metric:
        The name of the loss.
    rivals:
        The predictions to compare with.
    """
    kept = {name: loss for name, of in losses.items() if (loss := of.get("federated")) is not None}
    against = {}
    for rival in rivals:
        other = {name: loss for name in kept if (loss := losses[name].get(rival)) is not None}
        against[rival] = compare([kept[name] for name in other], list(other.values()))
    gains = {
        name: 1 - kept[name] / alone for name in kept if (alone := losses[name].get("local")) is not None and alone > 0
    }
    worst = max(kept, key=lambda name: kept[name], default=None)
    least = min(gains, key=lambda name: gains[name], default=None)
    return Fairness(
        metric=metric,
        tolerance=TOLERANCE,
        worst=None if worst is None else Named(name=worst, value=kept[worst]),
        least_gain=None if least is None else Named(name=least, value=gains[least]),
        against=against,
        jain_gain=jain_index(list(gains.values())),
    )
