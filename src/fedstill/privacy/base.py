"""What a mechanism is: it makes of private rows something that may leave, and says what that costs.

There are two kinds. A `Mechanism` makes soft labels, an `UpdateMechanism` what averaging parameters asks for.

All that a mechanism sees of private data it sees in `release`, and all that it gives away there it has told before, in
`spends`, without looking at a value. What is said of the transfer set afterwards comes from the release and from public
inputs alone: post-processing, and free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fedstill.labels import Array, Outputs, Parameters
from fedstill.learners.base import Learner
from fedstill.privacy.noise import Noise
from fedstill.privacy.spending import Budget, Event, Gaussian, SampledGaussian, Spend
from fedstill.sites import View


@dataclass(frozen=True, eq=False)
class Work:
    """What a mechanism works on.

    Attributes
    ----------
    own:
        The private rows.
    public:
        The transfer set, seen in the same way.
    outputs:
        What is predicted.
    make:
        Builds an untrained model of the participant's own kind.
    voice:
        What the participant would say of the transfer set without any protection, shape (m, k).
    answers:
        How many answers will be asked for, at most.
    """

    own: View
    public: View
    outputs: Outputs
    make: Callable[[], Learner]
    voice: Callable[[], Array]
    answers: int


@runtime_checkable
class Mechanism(Protocol):
    """Bounds what one unit may change, and adds noise to it; options in the constructor."""

    once: bool
    """Whether one release serves all answers, of any round and run, as long as the data are the same."""

    def tied(self, outputs: Outputs) -> bool:
        """Whether a release answers for no transfer set but the one that it was made for."""
        ...

    def spends(self, work: Work, budget: Budget, already: Sequence[Event]) -> Sequence[Spend]:
        """What a release will cost, so that it stays within the budget after what was spent already.

        Nothing of it depends on a private value.

        Raises
        ------
        BudgetSpent
            Where no noise is enough.
        """
        ...

    def release(self, work: Work, spends: Sequence[Spend], noise: Noise) -> Parameters:
        """Make what may leave, as named arrays, for the price of these spends."""
        ...

    def labels(self, released: Parameters, public: View, outputs: Outputs) -> Array:
        """What the release says of public items: soft labels as every learner's, float32, shape (m, k)."""
        ...


@dataclass(frozen=True)
class Asked:
    """What is known of an exchange of updates before anybody trains.

    Attributes
    ----------
    clip:
        The L2 norm to which everybody clips its update; 0: as the mechanism chooses.
    adaptive:
        Whether an answer also tells if its update was within the clip.
    answers:
        How many answers will be asked for, at most.
    quorum:
        The least number of answers that a round teaches from.
    """

    clip: float
    adaptive: bool
    answers: int
    quorum: int


@dataclass(frozen=True, eq=False)
class Told:
    """What an answer may tell of an update: its arrays, and whether it was within the clip (NaN: not asked for)."""

    update: Parameters
    within: float = float("nan")


@runtime_checkable
class UpdateMechanism(Protocol):
    """Bounds an update, what training has changed in the parameters or their gradient, and adds noise to it."""

    @property
    def relies_on_others(self) -> bool:
        """Whether its price holds only if others add noise as well, and the coordinator tells their mean alone."""
        ...

    def spends(self, asked: Asked, budget: Budget, already: Sequence[Event]) -> Sequence[Spend]:
        """What an answer will cost, so that all that may be asked for stay within the budget.

        Raises
        ------
        BudgetSpent
            Where no noise is enough.
        """
        ...

    def protect(self, update: Parameters, asked: Asked, spends: Sequence[Spend], noise: Noise) -> Told:
        """Make what may leave of an update, for the price of these spends.

        Raises
        ------
        LearnerError
            Where a number is not finite.
        """
        ...


def multiplier_of(spend: Spend) -> float:
    """The noise multiplier of something spent. Raises TypeError where its event has no noise."""
    event = spend.event
    if not isinstance(event, Gaussian | SampledGaussian):
        raise TypeError(f"a {type(event).__name__} has no noise")
    return event.multiplier
