"""FD: no transfer set; members exchange what their models say of each class, and learn from the others' rows.

Jeong et al., "Communication-Efficient On-Device Machine Learning: Federated Distillation and Augmentation under
Non-IID Private Data", 2018, arXiv:1811.11479. A member averages its model's predictions over its private rows of each
class: one row a class, k x k numbers in all. Its teacher is the mean of the *others'* rows (leave one out), and each
private row has the row of its class for a teacher.

There the averages run along the training; here they are of the trained model, whatever its kind. A mean over a class
with a single private row is the prediction of that row: fewer rows mean less privacy. For classes only: a forecast has
no finite number of targets to average over.
"""

from __future__ import annotations

from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import mean
from fedstill.labels import Release, Space
from fedstill.messages import Recipe
from fedstill.strategy import Ballot, Lesson, Strategy


def fd(*, share: float = 0.5) -> Strategy:
    """Everyone distils the others' mean soft label of each class; no transfer set is used (FD).

    Parameters
    ----------
    share:
        The teacher's share of the weight a student learns from, 0 to 1. The published gamma, the factor of the loss
        to the teacher, is share / (1 - share).

    Raises
    ------
    ConfigError
        By `teach`, where the outputs are quantiles.
    """

    def teach(ballot: Ballot) -> Lesson:
        if ballot.outputs.space is Space.QUANTILES:
            raise ConfigError(
                "'fd' exchanges one soft label a class, and forecasts have no classes",
                where="strategy",
                remedy="Choose an algorithm that uses the transfer set, such as fedmd",
            )
        teachers = {}
        for party in ballot.parties:
            others = [vote.labels for vote in ballot.votes if vote.party != party]
            if others:  # who is alone in answering has nobody to learn from
                teachers[party] = Release(labels=mean(others))
        return Lesson(teachers)

    return Strategy("fd", teach, Recipe(share=share, about="classes"))
