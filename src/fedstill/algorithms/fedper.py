"""FedPer and LG-FedAvg: a part of the network is shared, the other stays with its owner.

FedPer: Arivazhagan, Aggarwal, Singh and Choudhary, "Federated Learning with Personalization Layers", 2019,
arXiv:1912.00818. The output layer stays; what is common is how the inputs are seen.

LG-FedAvg: Liang et al., "Think Locally, Act Globally: Federated Learning with Local and Global Representations", 2020,
arXiv:2001.01523. The other way round: the representation stays, the output layer is common. So the networks may differ
in the size of every hidden layer but the last.

The part that stays takes no part in any message. It is trained together with the shared part in each round.
"""

from __future__ import annotations

from typing import Literal

from fedstill.algorithms.fedavg import Weights, averaging, training
from fedstill.grouping.votes import choose
from fedstill.messages import Part
from fedstill.strategy import Strategy


def fedper(
    *,
    stays: Literal["head", "body"] = "head",
    weights: Weights = "size",
    epochs: int = 5,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> Strategy:
    """A part of the network is averaged, the other stays with its owner (FedPer, LG-FedAvg).

    Parameters
    ----------
    stays:
        "head": the output layer stays at home (FedPer); "body": all but the output layer does (LG-FedAvg).
    weights, epochs, learning_rate, seed:
        As for `fedavg`.
    """
    home = choose(stays, {"head": Part.HEAD, "body": Part.BODY}, "stays")
    recipe = training(weights, epochs, learning_rate, seed, home=home)
    return Strategy("fedper", averaging(weights), recipe)
