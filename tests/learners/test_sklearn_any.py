"""Point forecasts with offsets, and any estimator of scikit-learn's kind."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from fedstill.errors import ConfigError, LearnerError
from fedstill.learners import sklearn as family
from fedstill.learners.rows import Rows
from fedstill.learners.sklearn import Estimator, ExtraTrees, out_of_fold_residuals, quantile_offsets
from fedstill.testing.learners import CLASSES, QUANTILES, LearnerContract, beliefs, rows, signal


class TestPipelineWithoutWeights(LearnerContract):
    """Neighbours take no `sample_weight`, so transfer rows are drawn in proportion to theirs."""

    spaces = (QUANTILES.space,)

    def make(self, outputs, seed=0):
        return Estimator(outputs, seed, make_pipeline(StandardScaler(), KNeighborsRegressor(4)))

    def test_a_few_rows_will_do(self, outputs):
        """Four neighbours need four rows."""
        X, y = rows(outputs)
        with pytest.raises(LearnerError, match=r"Pipeline cannot work with these rows.*n_neighbors"):
            self.make(outputs).fit(X[:1], y[:1]).predict(X)


class TestLogisticRegression(LearnerContract):
    spaces = (CLASSES.space,)

    def make(self, outputs, seed=0):
        return Estimator(outputs, seed, "sklearn.linear_model:LogisticRegression", C=10.0)


class Mean(RegressorMixin, BaseEstimator):
    """An estimator from elsewhere."""

    def fit(self, X, y):
        self.mean_ = float(y.mean())
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)


def mean_of(X, y, weight):
    return DummyRegressor().fit(X, y, sample_weight=weight)


def test_residuals_are_out_of_fold():
    """Two rows are two folds: each is forecast by the other."""
    assert out_of_fold_residuals(mean_of, np.zeros((2, 1)), np.array([1.0, 5.0])).tolist() == [-4, 4]
    assert out_of_fold_residuals(mean_of, np.zeros((1, 1)), np.array([1.0])).tolist() == [0]


def test_folds_are_blocks():
    """Ten rows in pairs: in-sample the mean 2 would miss by 2, out of fold it is (20 - 8) / 8 = 1.5 or 2.5."""
    y = np.array([4.0, 4.0, 4.0, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    errors = out_of_fold_residuals(mean_of, np.zeros((10, 1)), y)
    assert errors.tolist() == [2.5, 2.5, 2.5, 2.5, 2, -2, -2.5, -2.5, -2.5, -2.5]


def test_offsets_are_mixed_by_share():
    """Own errors -4 and 4 have the quantiles -3.2, 0, 3.2; the teacher's lie 1 below and 2 above its median."""
    private = Rows.private(QUANTILES, np.zeros((2, 1)), [1.0, 5.0])
    assert quantile_offsets(mean_of, private, QUANTILES) == pytest.approx([-3.2, 0, 3.2])
    taught = private.taught(QUANTILES, np.zeros((1, 1)), [[6.0, 7.0, 9.0]], [1.0], 0.25)
    assert quantile_offsets(mean_of, taught, QUANTILES) == pytest.approx([-2.65, 0, 2.9])


def test_offsets_cover():
    """Quantiles of new rows hold about what they say, though in-sample trees know their rows nearly by heart."""
    X, y = rows(QUANTILES, n=400)
    X_new, y_new = rows(QUANTILES, n=2000, seed=5)
    told = ExtraTrees(QUANTILES, trees=30, min_rows_in_leaf=1).fit(X, y).predict(X_new)
    assert (y_new[:, None] <= told).mean(axis=0) == pytest.approx([0.1, 0.5, 0.9], abs=0.05)


def test_rows_are_drawn_in_proportion():
    assert family._in_proportion(np.array([1.0, 2.0, 1.0])).tolist() == [0, 1, 2]
    assert family._in_proportion(np.array([0.5, 3.0, 0.5])).tolist() == [1, 1, 1]
    counts = np.bincount(family._in_proportion(np.repeat([0.5, 1.5], 100)), minlength=200)
    assert counts[:100].sum() == 50
    assert set(counts[100:]) <= {1, 2}


def test_an_object_is_cloned():
    model = LinearRegression()
    Estimator(QUANTILES, estimator=model, positive=True).fit(*rows(QUANTILES))
    assert not hasattr(model, "coef_")
    assert model.positive is False


def test_the_seed_goes_into_random_state():
    assert Estimator(QUANTILES, 7).template.random_state == 7
    assert Estimator(QUANTILES, 7, random_state=3).template.random_state == 3


@pytest.mark.parametrize(
    ("outputs", "estimator", "params", "message"),
    [
        (CLASSES, LinearSVC(), {}, "LinearSVC has no 'predict_proba'"),
        (CLASSES, LinearRegression(), {}, "LinearRegression has no 'predict_proba'"),
        (QUANTILES, LogisticRegression(), {}, "LogisticRegression is a classifier"),
        (QUANTILES, StandardScaler(), {}, "StandardScaler has no 'predict'"),
        (QUANTILES, "sklearn.ensemble:RandomForrest", {}, "no estimator 'sklearn.ensemble:RandomForrest'"),
        (QUANTILES, "nowhere.at.all:Thing", {}, "no estimator 'nowhere.at.all:Thing'"),
        (QUANTILES, "no colon", {}, "no estimator 'no colon'"),
        (QUANTILES, "", {}, "no estimator ''"),
        (QUANTILES, 3, {}, "3 is no estimator"),
        (QUANTILES, dict, {}, "is no estimator"),
        (QUANTILES, None, {"n_estimator": 3}, "no option 'n_estimator'.*Did you mean 'n_estimators'"),
    ],
)
def test_what_cannot_be_an_estimator(outputs, estimator, params, message):
    with pytest.raises(ConfigError, match=message):
        Estimator(outputs, 0, estimator, **params)


def test_errors_of_the_estimator_are_ours():
    with pytest.raises(LearnerError, match=r"ExtraTreesRegressor cannot work.*n_estimators"):
        Estimator(QUANTILES, n_estimators=-1).fit(*rows(QUANTILES))


def test_foreign_types_are_refused_when_stored(tmp_path):
    learner = Estimator(QUANTILES, estimator=Mean()).fit(*rows(QUANTILES))
    with pytest.raises(LearnerError, match=r"not on the list of trusted ones: .*Mean"):
        learner.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


class Trusting(Estimator):
    trusted = (f"{Mean.__module__}.Mean",)


def test_foreign_types_can_be_trusted_and_are_refused_by_those_who_do_not(tmp_path):
    X, y = rows(QUANTILES)
    learner = Trusting(QUANTILES, estimator=Mean()).fit(X, y)
    learner.save(tmp_path)
    assert Trusting.load(tmp_path).predict(X).tobytes() == learner.predict(X).tobytes()
    with pytest.raises(LearnerError, match=r"not on the list of trusted ones: .*Mean"):
        Estimator.load(tmp_path)


def test_weights_reach_estimators_that_take_them_and_those_that_do_not():
    """Two rows at one place, one of them private: the forecast is the mean by share."""
    zero = np.zeros((4, 1))
    for estimator in (LinearRegression(), Mean()):
        learner = Estimator(QUANTILES, estimator=estimator)
        learner.distil(zero, np.zeros(4), zero, np.full((4, 3), 1.0), np.ones(4), 0.75)
        assert learner.predict([[0.0]])[0, 1] == pytest.approx(0.75)


def test_the_teacher_s_spread_is_taken_on():
    X, _ = rows(QUANTILES)
    nothing = rows(QUANTILES, 0)
    learner = ExtraTrees(QUANTILES, trees=5).distil(*nothing, X, beliefs(QUANTILES, signal(X)), np.ones(200), 1.0)
    told = learner.predict(X)
    np.testing.assert_allclose(np.diff(told, axis=1), 0.25, atol=1e-5)
