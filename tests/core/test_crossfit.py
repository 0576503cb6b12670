"""Cross-fitting: each row predicted by a model that has not seen it, and no model trained that nobody asks for."""

from __future__ import annotations

import numpy as np
import pytest

from fedstill.crossfit import CrossFit
from fedstill.sites import Floor, Rows, Site
from fedstill.testing.fakes import QUANTILES

FOLD = np.array([1, 0, 2, -1, 0, 1, 0, -1])
"""Rows 1, 4 and 6; 0 and 5; 2. Rows 3 and 7 are never held back."""


class Spy:
    """A model that says of each row its number, whether it was learned from, and how many rows were."""

    def __init__(self, seen):
        self.seen = seen

    def predict(self, X):
        ids = X[:, 0].astype(int)
        known = np.isin(ids, self.seen)
        return np.column_stack([ids, known, np.full(len(ids), len(self.seen))]).astype(np.float32)


class Trainings:
    """Trains spies, and keeps the numbers of the rows that each of them got."""

    def __init__(self):
        self.seen = []

    def __call__(self, rows):
        self.seen.append(rows.X[:, 0].astype(int).tolist())
        assert rows.y.tolist() == [10 * number for number in self.seen[-1]]  # inputs and targets stay together
        return Spy(self.seen[-1])


@pytest.fixture
def site():
    numbers = np.arange(8)
    return Site("plant", Rows(numbers[:, None].astype(np.float32), 10.0 * numbers), Floor((0, 0, 0)), FOLD)


@pytest.fixture
def trainings():
    return Trainings()


def test_each_fold_is_predicted_by_a_model_that_learned_from_all_other_rows(site, trainings):
    """In the order of the rows; fold 0 by a model of the 5 others, fold 1 by one of 6, fold 2 by one of 7."""
    said = CrossFit(site, 3, trainings).predict(site.folds)
    assert said.dtype == np.float32
    assert said.tolist() == [[0, 0, 6], [1, 0, 5], [2, 0, 7], [4, 0, 5], [5, 0, 6], [6, 0, 5]]
    assert said[:, 0].tolist() == site.held_back(site.folds).X[:, 0].tolist()
    assert trainings.seen == [[0, 2, 3, 5, 7], [1, 2, 3, 4, 6, 7], [0, 1, 3, 4, 5, 6, 7]]


def test_a_model_is_trained_when_its_fold_is_asked_for_and_once(site, trainings):
    crossfit = CrossFit(site, 3, trainings)
    assert trainings.seen == []
    assert crossfit.predict([1]).tolist() == [[0, 0, 6], [5, 0, 6]]
    assert len(trainings.seen) == 1
    first = crossfit.predict([0, 1])
    assert len(trainings.seen) == 2
    assert crossfit.predict([1, 0]).tolist() == first.tolist()  # in the order of the rows, whatever is asked first
    crossfit.predict([0, 1, 2])
    assert len(trainings.seen) == 3


def test_what_was_said_of_a_fold_is_not_changed_by_who_reads_it(site, trainings):
    crossfit = CrossFit(site, 3, trainings)
    before = crossfit.predict([1]).tolist()
    crossfit.predict([1])[:] = -1
    assert crossfit.predict([1]).tolist() == before


def test_without_folds_nothing_is_trained_and_nothing_said(site, trainings):
    assert CrossFit(site, 5, trainings).predict([]).shape == (0, 5)
    nobody = Site("plant", site.rows, site.floor, np.full(8, -1))
    assert CrossFit(nobody, len(QUANTILES), trainings).predict(nobody.folds).shape == (0, 3)
    assert trainings.seen == []
