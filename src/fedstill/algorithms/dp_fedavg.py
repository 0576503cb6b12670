"""DP-FedAvg: FedAvg in which everybody's update is clipped to the same length, and all count alike.

McMahan, Ramage, Talwar and Zhang, "Learning Differentially Private Recurrent Language Models", ICLR 2018,
arXiv:1710.06963. The clip by itself hides nobody: the noise is added by participants that have the mechanism
`clipped_update` (see `privacy.clipped_update`).

The clip may follow the updates: Andrew, Thakkar, McMahan and Ramaswamy, "Differentially Private Learning with Adaptive
Clipping", NeurIPS 2021, arXiv:1905.03871. Each answer then tells, with noise, whether its update was within the clip C,
and with the mean b of that C becomes C exp(-rate (b - quantile)): it comes to rest where this part of the updates is
within. Our own: b is taken to lie between 0 and 1, which with few participants its noise does not, so that no round
moves the clip by more than a factor of exp(rate).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fedstill.algorithms.fedavg import mean_of, training
from fedstill.grouping.votes import choose
from fedstill.labels import Release
from fedstill.messages import LEAST_CLIP, MOST_CLIP, check_clip
from fedstill.strategy import Ballot, Lesson, Strategy


def dp_fedavg(
    *,
    clip: float = 1.0,
    clipping: Literal["fixed", "adaptive"] = "fixed",
    quantile: float = 0.5,
    rate: float = 0.2,
    epochs: int = 5,
    learning_rate: float = 0.01,
    proximal: float = 0.0,
    tune: int = 0,
    seed: int = 0,
) -> Strategy:
    """FedAvg of clipped updates, for participants that add noise to theirs (DP-FedAvg).

    Parameters
    ----------
    clip:
        The most that an update may be, as an L2 norm over all parameters; where it is adaptive, in the first round.
    clipping:
        "fixed", or "adaptive": follow a quantile of the updates' norms.
    quantile, rate:
        Of an adaptive clip: the part of the updates that shall be within it, 0 to 1, and how fast it moves.
    epochs, learning_rate, tune, seed:
        As for `fedavg`.
    proximal:
        As for `fedprox`; it keeps updates short.
    """
    adaptive = choose(clipping, {"fixed": False, "adaptive": True}, "clipping")
    check_clip(clip or -1.0)
    if not (0 <= quantile <= 1 and 0 < rate < math.inf):
        raise ValueError(f"quantile = {quantile}, rate = {rate} lead no clip anywhere, use 0 to 1, and above 0")

    def teach(ballot: Ballot) -> Lesson:
        mean, bound = mean_of(ballot, "equal"), told(ballot.memory)
        if adaptive:
            bound = moved(bound, float(np.mean([vote.release.within for vote in ballot.votes])), quantile, rate)
        return Lesson(dict.fromkeys(ballot.parties, Release(parameters=mean)), memory=bound)

    def told(memory: Any) -> float:
        """The clip; at first the memory is the common start, or nothing."""
        return clip if memory is None or isinstance(memory, Mapping) else float(memory)

    recipe = training("equal", epochs, learning_rate, seed, proximal=proximal, tune=tune, clip=clip, adaptive=adaptive)
    if not adaptive:
        return Strategy("dp_fedavg", teach, recipe)
    return Strategy("dp_fedavg", teach, recipe, clip=told)


def moved(clip: float, within: float, quantile: float, rate: float) -> float:
    """The next clip, after a mean of how many updates were within this one."""
    following = clip * math.exp(-rate * (min(max(within, 0.0), 1.0) - quantile))
    return min(max(following, LEAST_CLIP), MOST_CLIP)
