"""DS-FL: everyone distils the mean of all soft labels, made more decided.

Itahara et al., "Distillation-Based Semi-Supervised Federated Learning", 2020, arXiv:2008.06180: members that have seen
unlike classes blur their mean, so its entropy is reduced before it is taught: softmax(p / T) of the mean p at T = 0.1
(entropy reduction aggregation). SCARLET (Azuma et al., arXiv:2504.19602) takes p^beta / sum p^beta in its place, which
leaves the mean as it is at beta = 1, where no T does.

Forecasts have no published counterpart, and what is here is ours: the mean's quantiles are drawn towards their median
by a factor. It is what p^beta does to a normal density, whose spread it multiplies by 1 / sqrt(beta). Whether it is of
use is to be measured. Quantiles of the mean are not blurred as probabilities are, so calibration may suffer; the
linear pool (`aggregate = "mixture"` of FedMD) is what would blur.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import mean
from fedstill.grouping.votes import choose
from fedstill.labels import Array, Outputs, Release, SoftLabels, Space
from fedstill.messages import Recipe
from fedstill.strategy import Ballot, Lesson, Strategy


def dsfl(
    *,
    form: Literal["softmax", "power"] = "softmax",
    temperature: float = 0.1,
    beta: float = 2.0,
    spread: float = 0.7,
    share: float = 0.5,
) -> Strategy:
    """Everyone distils the sharpened mean of all soft labels (DS-FL).

    Parameters
    ----------
    form:
        Classes: "softmax", of p / `temperature`, or "power", p^`beta` over its sum.
    temperature:
        T of "softmax"; towards 0 the likeliest class takes all.
    beta:
        Exponent of "power"; 1 is the mean.
    spread:
        Forecasts: what remains of the quantiles' distances from their median; 1 is the mean.
    share:
        The teacher's share of the weight a student learns from, 0 to 1.
    """
    choose(form, dict.fromkeys(("softmax", "power")), "form")
    for name, value in (("temperature", temperature), ("beta", beta), ("spread", spread)):
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} = {value} sharpens nothing", where=name, remedy="Use a positive number")

    def sharpened(outputs: Outputs, values: Array) -> Array:
        if outputs.space is Space.QUANTILES:
            middle = values[:, [outputs.median]]
            return np.asarray(middle + spread * (values - middle))
        top = values.max(axis=1, keepdims=True)  # so that neither form overflows, nor vanishes everywhere
        raised = np.exp((values - top) / temperature) if form == "softmax" else (values / top) ** beta
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def teach(ballot: Ballot) -> Lesson:
        together = mean([vote.labels for vote in ballot.votes])
        rows = sharpened(ballot.outputs, together.values.astype(np.float64))
        teacher = SoftLabels.of(together.items, rows, together.space, together.weight)
        return Lesson(dict.fromkeys(ballot.parties, Release(labels=teacher)))

    return Strategy("dsfl", teach, Recipe(share=share))
