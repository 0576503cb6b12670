"""A committee keeps the contract of a learner, and speaks with the mean of its members."""

from __future__ import annotations

import numpy as np
import pytest

from fedstill import plugins
from fedstill.errors import FedstillError, LearnerError
from fedstill.learners.committee import Committee
from fedstill.learners.networks import Linear
from fedstill.learners.sklearn import ExtraTrees
from fedstill.testing.learners import QUANTILES, LearnerContract, rows


def members(outputs, seed=0):
    return {"extra_trees": ExtraTrees(outputs, seed, trees=10, features=1.0), "linear": Linear(outputs, seed)}


class TestCommittee(LearnerContract):
    def make(self, outputs, seed=0):
        return Committee.of(members(outputs, seed))


def test_it_says_the_mean_of_its_members():
    X, y = rows(QUANTILES)
    committee = Committee.of(members(QUANTILES)).fit(X, y)
    alone = [one.fit(X, y).predict(X) for one in members(QUANTILES).values()]
    np.testing.assert_allclose(committee.predict(X), (alone[0] + alone[1]) / 2, atol=1e-6)


def test_it_is_a_learner_of_a_federation_file():
    built = plugins.build("learners", "committee", {"members": ["linear", "mlp"], "seed": 1}, QUANTILES)
    assert list(built.members) == ["linear", "mlp"]


@pytest.mark.parametrize("wrong", [[], ["linear"], ["linear", "linear"], "linear"])
def test_one_voice_is_no_committee(wrong):
    with pytest.raises(LearnerError, match="make no committee"):
        Committee(QUANTILES, members=wrong)


@pytest.mark.parametrize("text", ["", "{}", '["linear"]', "[1, 2]", "[" * 9999])
def test_a_damaged_list_of_members_is_refused(tmp_path, text):
    X, y = rows(QUANTILES)
    Committee.of(members(QUANTILES)).fit(X, y).save(tmp_path)
    (tmp_path / "members.json").write_text(text)
    with pytest.raises(LearnerError):
        Committee.load(tmp_path)


def test_members_of_another_kind_are_refused(tmp_path):
    X, y = rows(QUANTILES)
    Committee.of(members(QUANTILES)).fit(X, y).save(tmp_path)
    (tmp_path / "members.json").write_text('["mlp", "linear"]')
    with pytest.raises(FedstillError):
        Committee.load(tmp_path)
