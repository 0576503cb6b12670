"""FedProx: FedAvg whose local training is held near the common model.

Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith, "Federated Optimization in Heterogeneous Networks", MLSys 2020,
arXiv:1812.06127. To each local loss it adds mu/2 ||w - w_t||^2, with w_t the parameters that the round began with, so
that participants whose rows differ do not drift apart between averages. The paper's other half, work left unfinished
by slow participants, has no counterpart here: who misses the deadline is left out of the round.
"""

from __future__ import annotations

from fedstill.algorithms.fedavg import Weights, averaging, training
from fedstill.strategy import Strategy


def fedprox(
    *,
    proximal: float = 0.1,
    weights: Weights = "size",
    epochs: int = 5,
    learning_rate: float = 0.01,
    tune: int = 0,
    seed: int = 0,
) -> Strategy:
    """FedAvg whose local training is held near the common model (FedProx).

    Parameters
    ----------
    proximal:
        mu, which the paper tries at 0.001, 0.01, 0.1 and 1; 0 is FedAvg.
    weights, epochs, learning_rate, seed:
        As for `fedavg`.
    tune:
        As for `fedavg`; the term holds this training near the common model, too.
    """
    recipe = training(weights, epochs, learning_rate, seed, proximal=proximal, tune=tune)
    return Strategy("fedprox", averaging(weights), recipe)
