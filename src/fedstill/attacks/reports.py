"""What the attacks found, as it stands in JSON."""

from __future__ import annotations

import math
from typing import Any

import msgspec


class Estimate(msgspec.Struct, frozen=True):
    """A number and its 95 % interval; None where it is not defined."""

    estimate: float | None
    low: float | None
    high: float | None


class Membership(msgspec.Struct, frozen=True):
    """How well members are told from others.

    Attributes
    ----------
    statistic:
        Which one does better: "direction" or "loss".
    auc:
        Area under the ROC curve; 0.5 is guessing.
    tpr_at_fpr_0_1_percent, tpr_at_fpr_1_percent:
        True-positive rate at these false-positive rates, which is what guessing reaches.
    members, others:
        Trials of each kind.
    """

    statistic: str
    auc: Estimate
    tpr_at_fpr_0_1_percent: Estimate
    tpr_at_fpr_1_percent: Estimate
    members: int
    others: int


class Audit(msgspec.Struct, frozen=True):
    """Bounds on epsilon.

    Attributes
    ----------
    estimate:
        The epsilon at which as many right guesses are to be expected.
    low:
        What is ruled out with 95 % confidence is below this.
    high:
        What the ledgers promise; None where nothing protects.
    guesses, right, units:
        Guesses made, how many were right, and among how many units.
    """

    estimate: float
    low: float
    high: float | None
    guesses: int
    right: int
    units: int

    def __post_init__(self) -> None:
        """JSON has no infinity."""
        if self.high is not None and not math.isfinite(self.high):
            msgspec.structs.force_setattr(self, "high", None)


class Property(msgspec.Struct, frozen=True):
    """How well it is told whether a participant has a property: the area under the ROC curve and the accuracy."""

    auc: Estimate
    accuracy: Estimate
    trials: int


class AttackReport(msgspec.Struct):
    """What all attacks found; None where one was not made.

    Attributes
    ----------
    strategy, participants, worlds, seed:
        What was attacked, and with how much effort.
    unit:
        What membership and audit are about, "day" for forecasts.
    membership, audit:
        By who looks: "coordinator", "participant" or "sums" (who sees opened sums alone).
    property:
        By property, and by who looks.
    """

    strategy: str
    participants: int
    worlds: int
    seed: int
    unit: str
    membership: dict[str, Membership] | None = None
    reconstruction: Any = None
    property: dict[str, dict[str, Property]] | None = None
    audit: dict[str, Audit] | None = None
    format: int = 1
