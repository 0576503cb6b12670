"""Disagreement, and teachers that say less where there is some."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedstill.errors import ConfigError
from fedstill.grouping.aggregates import mean, weighted
from fedstill.grouping.doubt import check_doubt, disagreement, doubted
from fedstill.labels import SoftLabels, Space

P, Q = Space.PROBABILITIES, Space.QUANTILES


def say(rows, space=Q, weight=None):
    return SoftLabels.of(np.arange(len(rows)), np.asarray(rows, np.float32), space, weight)


def test_disagreement_of_forecasts_in_widths_of_the_teacher():
    """0, 2 and 4, 8: deviations 2 and 3, mean 2.5; the teacher is 2 to 5 and so 3 wide."""
    votes = [say([[0, 2]]), say([[4, 8]])]
    assert disagreement(votes, mean(votes)).tolist() == pytest.approx([2.5 / 3])


def test_disagreement_of_classes():
    """Two that are sure of different classes: each is 0.75 ln(4/3) + 0.25 ln 2 ... from the middle, by its formula."""
    votes = [say([[1, 0]], P), say([[0, 1]], P)]
    middle = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) - math.log(2) / 2
    assert disagreement(votes, mean(votes)).tolist() == pytest.approx([math.sqrt(middle)])


@pytest.mark.parametrize("space", [P, Q])
def test_who_agrees_does_not_disagree(space):
    rows = [[0.2, 0.8], [0.3, 0.7]]
    votes = [say(rows, space)] * 3
    assert disagreement(votes, mean(votes)).tolist() == pytest.approx([0, 0], abs=1e-7)
    assert doubted(mean(votes), votes, 0.1).weight.tolist() == pytest.approx([1, 1])


def test_disagreement_counts_who_speaks_by_weight():
    """Of 0, 4 and a silent 100 at weights 3 : 1 the mean is 1 and the deviation sqrt(3)."""
    votes = [say([[-1, 1]]), say([[3, 5]]), say([[99, 101]], weight=[0])]
    voices = np.array([3.0, 1.0, 1.0])
    assert disagreement(votes, weighted(votes, voices), voices).tolist() == pytest.approx([math.sqrt(3) / 2])


def test_points_that_differ_are_doubted_wholly():
    votes = [say([[1, 1], [2, 2]]), say([[3, 3], [2, 2]])]
    assert disagreement(votes, mean(votes)).tolist() == [math.inf, 0]
    assert doubted(mean(votes), votes, 5.0).weight.tolist() == [0, 1]


def test_doubt_is_where_an_item_counts_half():
    votes = [say([[0, 2]], weight=[1]), say([[4, 8]], weight=[1])]
    teacher = mean(votes)
    assert doubted(teacher, votes, 2.5 / 3).weight.tolist() == pytest.approx([0.5])
    assert doubted(teacher, votes, 2.5 / 6).weight.tolist() == pytest.approx([0.2])
    assert doubted(teacher, votes, None) is teacher
    np.testing.assert_array_equal(doubted(teacher, votes, 1.0).values, teacher.values)


@pytest.mark.parametrize("doubt", [0, -1.0, math.nan, math.inf])
def test_no_measure_of_doubt(doubt):
    with pytest.raises(ConfigError, match="no measure of doubt"):
        check_doubt(doubt)
