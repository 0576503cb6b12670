"""Several learners of different kinds that answer as one: the mean of what they say.

Models of different kinds err differently, so their mean errs less than they do on average, and mostly less than the
best of them (Krogh and Vedelsby, NIPS 1994; Lichtendahl et al. 2013, doi:10.1287/mnsc.1120.1667, for means of
quantiles).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from fedstill import plugins
from fedstill.errors import LearnerError
from fedstill.labels import Array, Outputs
from fedstill.learners import store
from fedstill.learners.base import Learner
from fedstill.learners.options import check_known
from fedstill.learners.rows import tidy

_MEMBERS = "members.json"


class Committee:
    """Learners that train on the same rows, each in its own way, and speak with the mean of their voices.

    Parameters
    ----------
    outputs, seed:
        As for every learner; all members get the same seed.
    members:
        Names of learners, two or more, each another.

    Raises
    ------
    LearnerError
        Where fewer than two members are named, or one twice.
    """

    kind = "committee"

    def __init__(
        self,
        outputs: Outputs,
        seed: int = 0,
        members: Sequence[str] = ("extra_trees", "linear", "mlp"),
        **unknown: Any,
    ) -> None:
        check_known(type(self).__name__, unknown, {"members": None})
        if isinstance(members, str) or len(members) < 2 or len(set(members)) < len(members):
            raise LearnerError(
                f"members = {members!r} make no committee",
                remedy='Name two learners or more, for example members = ["lightgbm", "linear"]',
            )
        built = {name: plugins.build("learners", name, {"seed": seed}, outputs) for name in members}
        self.outputs, self.members = outputs, built

    @classmethod
    def of(cls, members: Mapping[str, Learner]) -> Self:
        """A committee of learners that are built already, by the name of their kind."""
        committee = cls.__new__(cls)
        committee.members = dict(members)
        committee.outputs = next(iter(members.values())).outputs
        return committee

    def fit(self, X: Array, y: Array) -> Self:
        """Let every member learn; see `Learner.fit`."""
        for member in self.members.values():
            member.fit(X, y)
        return self

    def distil(self, X: Array, y: Array, X_transfer: Array, teacher: Array, weight: Array, share: float) -> Self:
        """Let every member learn from the same teacher; see `Learner.distil`."""
        for member in self.members.values():
            member.distil(X, y, X_transfer, teacher, weight, share)
        return self

    def predict(self, X: Array) -> Array:
        """Mean of what the members say; see `Learner.predict`."""
        return tidy(self.outputs, np.mean([member.predict(X) for member in self.members.values()], axis=0))

    def save(self, folder: Path) -> None:
        """Write every member into a folder of its own; see `Learner.save`."""
        store.check_empty(folder)
        for place, member in enumerate(self.members.values()):
            inside = folder / str(place)
            inside.mkdir()
            member.save(inside)
        (folder / _MEMBERS).write_text(json.dumps(list(self.members)), encoding="utf-8")  # last: now it is complete

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; see `Learner.load`."""
        try:
            names = json.loads((folder / _MEMBERS).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            raise LearnerError(
                "the folder holds no committee", where=str(folder), remedy="Name a folder that one was saved in"
            ) from None
        if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
            raise LearnerError("the list of members is damaged", where=str(folder), remedy="Train it again")
        return cls.of(
            {name: plugins.resolve("learners", name).load(folder / str(place)) for place, name in enumerate(names)}
        )
