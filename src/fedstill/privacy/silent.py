"""Listening only: a participant that has too little to hide it well learns from the others and says nothing."""

from __future__ import annotations

from collections.abc import Sequence

from fedstill.errors import BudgetSpent
from fedstill.labels import Array, Outputs, Parameters
from fedstill.privacy.base import Asked, Told, Work
from fedstill.privacy.noise import Noise
from fedstill.privacy.spending import Budget, Event, Spend
from fedstill.sites import View


class Silent:
    """No release at all: every question is refused, whatever the data; costs nothing."""

    once = True
    relies_on_others = False

    def tied(self, outputs: Outputs) -> bool:
        """Nothing is released; see `Mechanism`."""
        del outputs
        return False

    def spends(self, work: Work | Asked, budget: Budget, already: Sequence[Event]) -> Sequence[Spend]:
        """Refuse; see `Mechanism`."""
        del work, budget, already
        raise BudgetSpent("this participant only listens", remedy="Choose another mechanism to let it speak")

    def release(self, work: Work, spends: Sequence[Spend], noise: Noise) -> Parameters:
        """Nothing: `spends` has refused."""
        raise NotImplementedError

    def protect(self, update: Parameters, asked: Asked, spends: Sequence[Spend], noise: Noise) -> Told:
        """Nothing: `spends` has refused."""
        raise NotImplementedError

    def labels(self, released: Parameters, public: View, outputs: Outputs) -> Array:
        """Nothing: `spends` has refused."""
        raise NotImplementedError
