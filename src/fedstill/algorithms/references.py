"""The two references every federation is measured against: no exchange at all, and no secrets at all."""

from __future__ import annotations

from fedstill.messages import Recipe
from fedstill.strategy import Strategy, nobody


def local() -> Strategy:
    """A reference: nobody talks, everyone keeps its own model or the floor."""
    return Strategy("local", nobody, Recipe(), rounds=0)


def pooled() -> Strategy:
    """A reference: everyone trains on everyone's rows, which no federation may do."""
    return Strategy("pooled", nobody, Recipe(), rounds=0, pooled=True)
