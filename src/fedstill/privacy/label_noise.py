"""Noise on the soft labels themselves, so that they hide the participant as a whole.

The simplest way, and a lesson: a transfer set of a thousand items and five quantiles has five thousand numbers, and
a participant may choose every one. At epsilon 8 each needs noise of tens of times what it says; a mean over a dozen
participants takes some of that away. With thousands of participants it would work.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedstill.errors import ConfigError
from fedstill.labels import Array, Outputs, Parameters, Space
from fedstill.learners.rows import tidy
from fedstill.privacy.base import Work, multiplier_of
from fedstill.privacy.noise import Noise
from fedstill.privacy.pricing import multiplier_for
from fedstill.privacy.spending import Budget, Event, Gaussian, Spend, Unit
from fedstill.sites import View


class LabelNoise:
    """Gaussian noise on every soft label, in every answer: hides the whole participant, and what it says as well.

    Parameters
    ----------
    bound:
        Forecasts: quantiles are clipped to so many times the site's scale, either way.

    Raises
    ------
    ConfigError
        Where the bound is not above 0.
    """

    once = False

    def __init__(self, bound: float = 1.0) -> None:
        if not bound > 0:
            raise ConfigError(f"bound = {bound} leaves nothing", where="privacy.options", remedy="Use a number above 0")
        self.bound = bound

    def tied(self, outputs: Outputs) -> bool:
        """Always; see `Mechanism`."""
        del outputs
        return True

    def spends(self, work: Work, budget: Budget, already: Sequence[Event]) -> Sequence[Spend]:
        """One part of the budget for each answer that may be asked for; see `Mechanism`."""
        del already  # the part is the same for each answer; what earlier runs took shows when it is paid

        def all_answers(multiplier: float) -> Gaussian:
            return Gaussian(multiplier, work.answers)

        least = multiplier_for(all_answers, budget.epsilon, budget.delta)
        return [Spend(Gaussian(least), Unit.PARTICIPANT, "soft labels with noise")]

    def release(self, work: Work, spends: Sequence[Spend], noise: Noise) -> Parameters:
        """Clip, and add noise; see `Mechanism`."""
        said = np.asarray(work.voice(), np.float64)
        if work.outputs.space is Space.PROBABILITIES:
            apart = np.sqrt(2 * len(said))  # two distributions are no further apart than two of its corners
        else:
            said, apart = np.clip(said, -self.bound, self.bound), 2 * self.bound * np.sqrt(said.size)
        return {"labels": said + multiplier_of(spends[0]) * apart * noise.normal(said.shape)}

    def labels(self, released: Parameters, public: View, outputs: Outputs) -> Array:
        """What was released, made soft labels again; see `Mechanism`."""
        del public
        return tidy(outputs, released["labels"])
