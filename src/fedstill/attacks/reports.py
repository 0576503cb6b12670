"""What the attacks found, as it stands in JSON."""

from __future__ import annotations

import math

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


class Attempt(msgspec.Struct, frozen=True):
    """One attack by itself: the mean ratio of errors, and the same from an unrelated participant's release."""

    ratio: Estimate
    floor: Estimate


class Reconstruction(msgspec.Struct, frozen=True):
    """What an attacker reads of private columns.

    A ratio is a mean squared error of guesses over that of the best guess without a release: 1 has learned nothing, 0
    is exact.

    Attributes
    ----------
    mean:
        Ratio over a participant's days, mean over participants.
    median:
        Median of the ratios of single days.
    correlation:
        Mean over days of the correlation of guess and truth, less that of the prior and the truth.
    floor:
        As `mean`, with everything the same but that the release is another participant's: how far `mean` lies below it
        is due to the release.
    habits:
        As `mean`, of one who knows exactly what is usual at the site on days with such public columns, and nothing of
        single days. An attack well below it has read days; one above it, what is usual at most.
    chosen:
        The attack on each participant: the one, and the trust in it, that does best on all others, whose data the
        attacker is taken to have; "prior" where none saves a hundredth of its
        error.
    attacks:
        Each attack by itself; the lowest is the attacker's best in hindsight.
    participants, days:
        How many were attacked, and how many days (or rows) of each.
    prior_error:
        Mean squared error of the prior, in units of the variance over the transfer set.
    """

    mean: Estimate
    median: Estimate
    correlation: Estimate
    floor: Estimate
    habits: Estimate
    chosen: dict[str, str]
    attacks: dict[str, Attempt]
    participants: int
    days: int
    prior_error: float


class BatchPoint(msgspec.Struct, frozen=True):
    """What is read of days when an answer comes of so many of them."""

    batch: int
    found: Reconstruction


class AttackReport(msgspec.Struct):
    """What all attacks found; None where one was not made.

    Attributes
    ----------
    strategy, participants, worlds, seed:
        What was attacked, and with how much effort.
    unit:
        What membership and audit are about, "day" for forecasts.
    membership, audit, reconstruction:
        By who looks: "coordinator", "participant" or "sums" (who sees opened sums alone).
    reconstruction_by_days:
        Where parameters or gradients travel: what a first answer to so many days would tell; else None.
    property:
        By property, and by who looks.
    """

    strategy: str
    participants: int
    worlds: int
    seed: int
    unit: str
    membership: dict[str, Membership] | None = None
    reconstruction: dict[str, Reconstruction] | None = None
    reconstruction_by_days: list[BatchPoint] | None = None
    property: dict[str, dict[str, Property]] | None = None
    audit: dict[str, Audit] | None = None
    format: int = 1
