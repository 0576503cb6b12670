"""A committee inside one site: models of any kind on disjoint parts of its history, and their mean with noise.

Private aggregation of teacher ensembles (PATE; Papernot et al., ICLR 2017, arXiv:1610.05755). Forecasts have shards in
time: a stretch of days and what its rows look back on belong to one teacher alone. Rows and customers, which have no
date, are dealt out by a hash of themselves, so that nobody moves when one is missing. Either way one unit changes one
teacher. It works for learners that cannot be trained with noise, such as trees, and needs many teachers: a year gives
few.

Forecasts: what a teacher says of the transfer set is told by few coefficients of public components, clipped, and their
mean gets the noise; so the noise does not grow with the transfer set. Classes: every teacher votes on every item.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fedstill.errors import BudgetSpent, ConfigError
from fedstill.labels import Array, Outputs, Parameters, Space
from fedstill.learners.rows import tidy
from fedstill.privacy.base import Work, multiplier_of
from fedstill.privacy.basis import Basis, columns, private_size, public_size, sized, sized_spends
from fedstill.privacy.noise import Noise
from fedstill.privacy.spending import Budget, Event, Gaussian, Spend
from fedstill.sites import View


class PrivateCommittee:
    """Models of the participant's own kind on disjoint parts of its rows; their clipped mean is released with noise.

    Parameters
    ----------
    blocks:
        Days of a teacher's stretch, of which the first are only looked back on; or rows or customers for each teacher
        on average.
    components:
        Forecasts: public components in which the teachers' forecasts are told.
    clip:
        Forecasts: the longest vector of a teacher's coefficients, as root mean square over items, in units of the
        size of the load.
    share:
        The part of the budget that the size of the load takes; classes need none.

    Raises
    ------
    ConfigError
        Where an option makes no sense.
    """

    once = True

    def __init__(self, blocks: int = 14, components: int = 8, clip: float = 0.3, share: float = 0.05) -> None:
        if not (blocks >= 1 and components >= 1 and clip > 0 and 0 < share < 1):
            raise ConfigError(
                "these options make no committee",
                where="privacy.options",
                remedy="blocks and components are 1 or more, clip is above 0, and share between 0 and 1",
            )
        self.blocks, self.components, self.clip, self.share = blocks, components, clip, share

    def tied(self, outputs: Outputs) -> bool:
        """Votes are about the items they were cast for, coefficients are not; see `Mechanism`."""
        return outputs.space is Space.PROBABILITIES

    def spends(self, work: Work, budget: Budget, already: Sequence[Event]) -> Sequence[Spend]:
        """A share for the size of the load, the rest for the teachers' mean; see `Mechanism`."""
        if self.blocks <= work.own.back:
            raise ConfigError(
                f"rows look back {work.own.back} days, and a teacher has {self.blocks}",
                where="privacy.options, blocks",
                remedy=f"Use more than {work.own.back}",
            )
        teachers = self._teachers(work.own)
        if teachers < 2:
            raise BudgetSpent(
                f"{work.own.blocks} {budget.unit}s make {teachers} teachers, too few to hide one",
                remedy="Take a longer history, or fewer blocks for each teacher",
            )
        return sized_spends(work.own, budget, already, self.share, Gaussian, f"the mean of {teachers} teachers")

    def release(self, work: Work, spends: Sequence[Spend], noise: Noise) -> Parameters:
        """Train all teachers, and add noise to their mean; see `Mechanism`."""
        size = private_size(work.own, spends, noise)
        own, multiplier = sized(work.own, size), multiplier_of(spends[-1])
        inputs = columns(own, size).astype(np.float32)
        public = columns(work.public, public_size(work.public)).astype(np.float32)
        said = [
            work.make().fit(inputs[shard], np.asarray(own.y)[shard]).predict(public)
            for shard in self._shards(own)
            if shard.any()  # who has no rows says nothing, which is within what a teacher may change
        ]
        put_together = self._votes if work.outputs.space is Space.PROBABILITIES else self._coefficients
        return put_together(said, work, multiplier, noise)

    def _votes(self, said: Sequence[Array], work: Work, multiplier: float, noise: Noise) -> Parameters:
        """How many teachers are for each class of each item, with noise, over the number of teachers."""
        items, k = len(work.public), len(work.outputs)
        votes = np.zeros((items, k))
        for one in said:
            votes += np.eye(k)[np.argmax(one, axis=1)]
        # A teacher that changes its mind on every item takes a vote away from one class and gives another one more.
        noisy = votes + multiplier * np.sqrt(2 * items) * noise.normal(votes.shape)
        return {"votes": noisy / self._teachers(work.own)}

    def _coefficients(self, said: Sequence[Array], work: Work, multiplier: float, noise: Noise) -> Parameters:
        """The mean of the teachers' clipped coefficients of public components, with noise."""
        basis, items = Basis.of(work.public, self.components), len(work.public)
        frame = _frame(basis, work.public)
        orthogonal, upper = np.linalg.qr(frame)
        bound = self.clip * np.sqrt(items)
        told = np.zeros(frame.shape[1] + len(work.outputs))
        for one in said:
            told += _clipped(_told(one, orthogonal, work.outputs), bound)
        # Without a day its teacher may say anything else that is as long, or nothing at all.
        noisy = (told + multiplier * 2 * bound * noise.normal(told.shape)) / self._teachers(work.own)
        slopes = np.linalg.solve(upper, noisy[: frame.shape[1]])
        return {**basis.arrays(), "slopes": slopes, "apart": noisy[frame.shape[1] :] / np.sqrt(items)}

    def labels(self, released: Parameters, public: View, outputs: Outputs) -> Array:
        """What the committee says; see `Mechanism`."""
        if outputs.space is Space.PROBABILITIES:
            return tidy(outputs, np.clip(released["votes"], 0, None) + 1 / len(outputs) ** 2)
        middle = _frame(Basis.from_arrays(released), public) @ released["slopes"]
        return tidy(outputs, public.offset[:, None] + public_size(public) * (middle[:, None] + released["apart"]))

    def _teachers(self, own: View) -> int:
        return own.blocks // self.blocks

    def _shards(self, own: View) -> Iterator[Array]:
        """Rows of each teacher, as masks of shape (n,): its units by hash, or a stretch but for its first days."""
        teachers = self._teachers(own)
        for number in range(teachers):
            if own.lot is not None:
                yield own.lot % teachers == number
                continue
            begin = own.first + number * self.blocks
            yield (own.block >= begin + own.back) & (own.block < begin + self.blocks)


def _frame(basis: Basis, public: View) -> Array:
    inside = basis.components(public, public_size(public))
    return np.column_stack([np.ones(len(inside)), inside])


def _told(said: Array, orthogonal: Array, outputs: Outputs) -> Array:
    """A teacher's forecasts in few numbers: coefficients of its median, and how far quantiles lie apart."""
    middle = np.asarray(said, np.float64)[:, outputs.median]
    apart = (said - middle[:, None]).mean(axis=0) * np.sqrt(len(said))
    return np.concatenate([orthogonal.T @ middle, apart])


def _clipped(vector: Array, bound: float) -> Array:
    clipped: Array = vector * min(1.0, bound / max(float(np.linalg.norm(vector)), 1e-300))
    return clipped
