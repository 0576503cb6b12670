"""What an attacker has seen of a run: every answer as it arrived."""

from __future__ import annotations

from dataclasses import dataclass

from fedstill.labels import Parameters, Release
from fedstill.messages import Recipe


@dataclass(frozen=True, eq=False)
class Said:
    """What an attacker saw of one answer.

    Attributes
    ----------
    round:
        The round that it belongs to.
    release:
        The release, decoded.
    start:
        The common parameters that were sent before it (FedAvg, FedSGD); None for soft labels.
    recipe:
        What was asked for.
    """

    round: int
    release: Release
    start: Parameters | None
    recipe: Recipe
