"""What is done to private data, and what may be: events, for whom they count, and a budget. No prices here.

Guarantees are those of (epsilon, delta)-differential privacy: Dwork and Roth, The Algorithmic Foundations of
Differential Privacy, 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from numbers import Real
from typing import Any

import msgspec


class Unit(StrEnum):
    """What stays hidden: neighbours are two data sets that differ in one of these.

    A READING, DAY or CUSTOMER is there in one of them and missing in the other, together with all rows that need it.
    PARTICIPANT is all that a participant has: any two data sets are neighbours. Whatever is hidden at that distance is
    hidden at any smaller one, so what is paid for a PARTICIPANT is paid for every unit.
    """

    READING = "reading"
    DAY = "day"
    CUSTOMER = "customer"
    PARTICIPANT = "participant"


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """As JSON an object with its kind as `type`; hashes are of that, so a new field needs a default."""

    def _check(self, name: str, low: float, high: float, kind: type[float] = float) -> None:
        """Make a field a plain number, for NumPy has others. Raises ValueError where it is none within the bounds."""
        value = getattr(self, name)
        number: Any = value if isinstance(value, Real) else math.nan
        if not (low <= number <= high and kind(number) == number):
            whole = "a whole number" if kind is int else "a number"
            raise ValueError(f"{name} has to be {whole} from {low:g} to {high:g}, not {value!r}")
        msgspec.structs.force_setattr(self, name, kind(number))


class Unprotected(_Event, frozen=True, tag="unprotected"):
    """No mechanism: whatever was in the data may be in the release. Its price is infinite."""


class Nothing(_Event, frozen=True, tag="nothing"):
    """No private data, or only what is paid for already: post-processing is free."""


class Gaussian(_Event, frozen=True, tag="gaussian"):
    """Something with noise of the normal distribution added.

    Attributes
    ----------
    multiplier:
        Standard deviation of the noise, over how far apart (L2) two neighbours can be without it.
    times:
        So many releases, each with noise of its own.

    Raises
    ------
    ValueError
        Where a number makes no sense.
    """

    multiplier: float
    times: int = 1

    def __post_init__(self) -> None:
        self._check("multiplier", 1e-30, 1e9)
        self._check("times", 1, 1e9, int)


class SampledGaussian(_Event, frozen=True, tag="sampled_gaussian"):
    """Training by DP-SGD (Abadi et al., CCS 2016): noise on sums over blocks that are drawn anew in every step.

    Attributes
    ----------
    rate:
        Probability with which each block is drawn in a step, whatever else is drawn (Poisson sampling).
    multiplier:
        Standard deviation of the noise, over the most (L2) that one block may add to a sum.
    steps:
        So many sums.
    reach:
        Blocks that one unit has a part in, at most. Without the unit these blocks are not there, and all others are as
        they were: where a block would stay and only change, this event is not what happened.

    Raises
    ------
    ValueError
        Where a number makes no sense.
    """

    rate: float
    multiplier: float
    steps: int
    reach: int = 1

    def __post_init__(self) -> None:
        self._check("rate", 1e-9, 1)
        self._check("multiplier", 1e-9, 1e9)
        self._check("steps", 1, 1e7, int)
        self._check("reach", 1, 1e6, int)


Event = Unprotected | Nothing | Gaussian | SampledGaussian


@dataclass(frozen=True)
class Spend:
    """What was done, for which unit, and in words for the owner: "a release model of 365 days"."""

    event: Event
    unit: Unit
    what: str


@dataclass(frozen=True)
class Budget:
    """What may be spent: `epsilon` at `delta`, for one `unit`; an infinite one allows everything, and is still kept.

    Raises
    ------
    ValueError
        Where epsilon is not above 0, or delta not between 0 and 1.
    """

    epsilon: float = math.inf
    delta: float = 1e-5
    unit: Unit = Unit.DAY

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon has to be above 0, not {self.epsilon}")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta has to be between 0 and 1, not {self.delta}")


def counted(spend: Spend, unit: Unit) -> Event:
    """What something spent counts as in a ledger of this unit.

    Its own event where it was spent for the same unit, or for a PARTICIPANT. Any other pair of units counts as no
    protection: a day protected says little of a customer, who has many. (Some such pairs have a price. Nobody needs it
    enough for a rule that could be wrong.)
    """
    if isinstance(spend.event, Nothing):
        return spend.event
    if spend.unit is Unit.PARTICIPANT and isinstance(spend.event, SampledGaussian):
        # Of any two data sets, each block of one can stand against another block of the other: a sum moves by twice
        # what all of them may add. What sampling saves is proven for blocks that are missing, and not claimed here.
        return Gaussian(spend.event.multiplier / (2 * spend.event.reach), spend.event.steps)
    return spend.event if spend.unit in (unit, Unit.PARTICIPANT) else Unprotected()
