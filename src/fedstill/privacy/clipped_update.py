"""Noise on clipped updates of parameters, so that averaging them hides the participant as a whole (DP-FedAvg).

McMahan, Ramage, Talwar and Zhang, "Learning Differentially Private Recurrent Language Models", ICLR 2018,
arXiv:1710.06963, with the adaptive clip of Andrew, Thakkar, McMahan and Ramaswamy, "Differentially Private Learning
with Adaptive Clipping", NeurIPS 2021, arXiv:1905.03871. There the server adds the noise. Here a coordinator's seed is
known to all, so each participant adds a part of it, from its own source (distributed noise: Dwork et al., "Our Data,
Ourselves", EUROCRYPT 2006).

There, too, a participant is there or not, and moves a sum by the clip. Here any two data sets are neighbours, so two
updates may lie twice the clip apart, and what tells whether an update was within the clip by 1, where the paper has a
half: the same noise has half the multiplier of the paper's.

The number of parameters does not show in the price, but in what the noise does: its length is the root of that number
times the standard deviation of each. With a few participants it is far longer than the clip at any small epsilon; with
thousands it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from fedstill.errors import ConfigError, LearnerError
from fedstill.labels import Array, Parameters
from fedstill.messages import check_clip
from fedstill.privacy.base import Asked, Told, multiplier_of
from fedstill.privacy.noise import Noise
from fedstill.privacy.pricing import multiplier_for
from fedstill.privacy.spending import Budget, Event, Gaussian, Spend, Unit

Against = Literal["coordinator", "participants"]
"""From whom a participant is hidden: from a coordinator that sees its answers, or from those who see their mean."""


class ClippedUpdate:
    """Gaussian noise on clipped updates: hides the whole participant where parameters or gradients are averaged.

    Parameters
    ----------
    clip:
        The most that an update may be, as an L2 norm, where the algorithm names none.
    against:
        "coordinator": each answer has all the noise that its price asks for, whoever sees it. "participants": the
        coordinator is trusted, the price is that of the mean, and each answer has a part of the noise. This relies on
        others who answer to add as much: of a quorum, all but whoever looks, since it can take its own noise off.
    share:
        With an adaptive clip, the part of the price that goes to telling whether an update was within it.

    Raises
    ------
    ConfigError
        Where an option makes no sense.
    """

    def __init__(self, clip: float = 1.0, against: Against = "coordinator", share: float = 0.1) -> None:
        try:
            check_clip(clip or -1.0)
        except ValueError as error:
            raise ConfigError(str(error), where="privacy.options", remedy="Use for example clip = 1.0") from None
        if against not in ("coordinator", "participants"):
            raise ConfigError(
                f"against = '{against}' is no choice",
                where="privacy.options",
                remedy="Use 'coordinator', or 'participants' where the coordinator is trusted",
            )
        if not 0 < share < 1:
            raise ConfigError(
                f"share = {share} leaves nothing for one of two", where="privacy.options", remedy="Use for example 0.1"
            )
        self.clip = clip
        self.against = against
        self.share = share

    @property
    def relies_on_others(self) -> bool:
        """Whether its price holds only if others add noise as well; see `UpdateMechanism`."""
        return self.against == "participants"

    def spends(self, asked: Asked, budget: Budget, already: Sequence[Event]) -> Sequence[Spend]:
        """One part of the budget for each answer that may be asked for; see `UpdateMechanism`."""
        del already  # the part is the same for each answer; what earlier runs took shows when it is paid

        def all_answers(multiplier: float) -> Gaussian:
            return Gaussian(multiplier, asked.answers)

        least = multiplier_for(all_answers, budget.epsilon, budget.delta)
        what = "an update" + (", and whether it was within the clip," if asked.adaptive else "") + " with noise"
        seen = "as the coordinator sees it"
        if self.relies_on_others:
            others = self._parts(asked) - 1
            trusted = f", and {others} other{'s' if others > 1 else ''} to add as much" if others else ""
            seen = f"as seen in a mean: the coordinator is trusted{trusted}"
        return [Spend(Gaussian(least), Unit.PARTICIPANT, f"{what}, {seen}")]

    def protect(self, update: Parameters, asked: Asked, spends: Sequence[Spend], noise: Noise) -> Told:
        """Clip, and add noise; see `UpdateMechanism`."""
        of_update, of_bit = self.deviations(asked, spends[0])
        clipped, within = clip_to(update, asked.clip or self.clip)
        told = {name: array + of_update * noise.normal(array.shape) for name, array in clipped.items()}
        bit = within + of_bit * float(noise.normal((1,))[0]) if asked.adaptive else float("nan")
        return Told(told, bit)

    def deviations(self, asked: Asked, spend: Spend) -> tuple[float, float]:
        """Standard deviation of the noise on each number of an update, and on whether it was within the clip.

        Two answers differ by a vector of 2 clip in the update and 1 in the bit. With noise of z_u and z_b times these
        they are 1/z apart in units of the noise, 1/z^2 = 1/z_u^2 + 1/z_b^2: two Gaussians at the price of one of
        multiplier z (Andrew et al., theorem 1). The bit has `share` of 1/z^2.

        Noise of n participants adds up to the root of n times that of one, so each adds that part of it.
        """
        multiplier = multiplier_of(spend) / np.sqrt(self._parts(asked) if self.relies_on_others else 1)
        share = self.share if asked.adaptive else 0.0
        of_update = multiplier / np.sqrt(1 - share) * 2 * (asked.clip or self.clip)
        return float(of_update), float(multiplier / np.sqrt(share)) if share else 0.0

    @staticmethod
    def _parts(asked: Asked) -> int:
        """How many parts of noise are in a mean for sure, after somebody who answered as well took off its own."""
        return max(asked.quorum - 1, 1)


def clip_to(update: Parameters, clip: float) -> tuple[Mapping[str, Array], bool]:
    """Shorten an update, all its arrays together, to an L2 norm of at most `clip`, in float64.

    Returns
    -------
    The update, and whether it was within the clip before.

    Raises
    ------
    LearnerError
        Where a number is not finite.
    """
    arrays = {name: np.asarray(array, np.float64) for name, array in update.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise LearnerError("an update is not finite", remedy="Lower the learning rate")
    largest = max((float(np.abs(array).max(initial=0)) for array in arrays.values()), default=0.0)
    if largest == 0:
        return arrays, True
    # Over the largest, since squares of large numbers overflow.
    norm = np.sqrt(sum(float(np.sum((array / largest) ** 2)) for array in arrays.values()))
    within = bool(norm <= clip / largest)
    return (arrays if within else {name: array / largest / norm * clip for name, array in arrays.items()}), within
