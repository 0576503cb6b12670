"""When further rounds bring nothing: early stopping by what the participants themselves see on held-back rows.

Early stopping (Prechelt 1998, doi:10.1007/3-540-49430-8_3) with one difference: nobody sees all held-back rows, so
every participant tells the loss of its own model on its own ones, and compares only with itself. Losses of unlike sites
have nothing in common; their relative changes have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedstill.labels import Party

LEAST_GAIN = 0.001
"""A mean relative fall of the losses by less than this is none."""


@dataclass(frozen=True)
class Progress:
    """The best that was heard so far, and for how many rounds nothing better came.

    Attributes
    ----------
    best:
        Each participant's loss when they were best together; empty before the first were heard.
    stale:
        Rounds since then.
    """

    best: Mapping[Party, float] = field(default_factory=dict)
    stale: int = 0

    def after(self, losses: Mapping[Party, float]) -> Progress:
        """The same after one more round; only losses of those are compared that were heard both times."""
        if not losses:
            return self
        both = [party for party in losses if self.best.get(party, 0.0) > 0]
        if both:
            gain = 1 - float(np.mean([losses[party] / self.best[party] for party in both]))
            if not gain > LEAST_GAIN:
                return Progress(self.best, self.stale + 1)
        return Progress(dict(losses))
