"""A student in the middle: the coordinator distils the aggregate into a model of its own, which is the teacher.

CFD (Sattler et al., "Communication-Efficient Federated Distillation", 2020, arXiv:2012.00632) calls it dual
distillation; FedDF (Lin et al., arXiv:2006.07242) distils an ensemble into the model at the server, which it then sends
as parameters, where here its soft labels travel. The student smooths: what no function of the inputs explains, it
cannot repeat. And it speaks of items on which everybody abstained.

Both papers have the student go on training; ours starts anew in each round, like every model here. For forecasts it
learns quantiles as members do. The coordinator needs the inputs of the transfer set, which are public.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedstill import plugins
from fedstill.errors import ConfigError, FedstillError, LearnerError
from fedstill.grouping.aggregates import resolve
from fedstill.labels import Array, Outputs, Release, SoftLabels
from fedstill.messages import Recipe
from fedstill.strategy import Ballot, Lesson, Strategy


def served(
    *,
    learner: str = "hist_gradient_boosting",
    options: Mapping[str, Any] | None = None,
    aggregate: str = "mean",
    share: float = 0.5,
    seed: int = 0,
) -> Strategy:
    """Everyone distils a student that the coordinator has distilled from all (dual distillation).

    Parameters
    ----------
    learner, options:
        The student's kind of model and its options.
    aggregate:
        What the student learns: "mean", or another aggregate (see `grouping.aggregates`).
    share:
        The teacher's share of the weight that a participant learns from, 0 to 1.
    seed:
        Seed of the student.

    Raises
    ------
    ConfigError
        By `teach`, where there is no such learner or option, or the coordinator has no inputs.
    LearnerError
        By `teach`, where the student cannot learn.
    """
    resolve(aggregate)

    def teach(ballot: Ballot) -> Lesson:
        if ballot.inputs is None:
            raise ConfigError(
                "'served' needs the inputs of the transfer set",
                where="strategy",
                remedy="Give them to the Coordinator, or choose an algorithm without a student",
            )
        voices = [vote.labels for vote in ballot.votes]
        teacher = resolve(aggregate, ballot.outputs)(voices, np.ones(len(voices)))
        if teacher.weight.any():
            said = _student(ballot.outputs, ballot.inputs, teacher)
            teacher = SoftLabels.of(teacher.items, said, teacher.space)
        return Lesson(dict.fromkeys(ballot.parties, Release(labels=teacher)))

    def _student(outputs: Outputs, inputs: Array, teacher: SoftLabels) -> Array:
        student = plugins.build("learners", learner, {**(options or {}), "seed": seed}, outputs, where="strategy")
        none = np.empty((0, inputs.shape[1])), np.empty(0)
        try:
            learned = student.distil(*none, inputs, teacher.values, teacher.weight, 1.0)
            return np.asarray(learned.predict(inputs))
        except FedstillError:
            raise
        except Exception as error:  # whatever the library beneath makes of it
            raise LearnerError(
                f"the coordinator's {learner} cannot learn: {error}", where="strategy", remedy="Choose another learner"
            ) from error

    return Strategy("served", teach, Recipe(share=share))
