"""The shipped learners (PyTorch's apart) keep the contract."""

from __future__ import annotations

from fedstill.learners.lightgbm import LightGBM
from fedstill.learners.networks import MLP, Linear
from fedstill.learners.sklearn import Estimator, ExtraTrees, HistGradientBoosting
from fedstill.learners.xgboost import XGBoost
from fedstill.testing.learners import LearnerContract, ParametricContract


class TestLightGBM(LearnerContract):
    def make(self, outputs, seed=0):
        return LightGBM(outputs, seed, rounds=40, learning_rate=0.15, leaves=7, min_rows_in_leaf=5)


class TestXGBoost(LearnerContract):
    def make(self, outputs, seed=0):
        return XGBoost(outputs, seed, rounds=25, learning_rate=0.2, depth=3, min_weight_in_leaf=0.5)


class TestHistGradientBoosting(LearnerContract):
    def make(self, outputs, seed=0):
        return HistGradientBoosting(outputs, seed, rounds=20, learning_rate=0.3, leaves=7, min_rows_in_leaf=5, bins=31)


class TestExtraTrees(LearnerContract):
    def make(self, outputs, seed=0):
        return ExtraTrees(outputs, seed, trees=10, features=1.0)


class TestEstimator(LearnerContract):
    def make(self, outputs, seed=0):
        return Estimator(outputs, seed, n_estimators=10)


class TestMLP(ParametricContract):
    def make(self, outputs, seed=0):
        return MLP(outputs, seed, hidden=(16,), epochs=40, batch=32, learning_rate=0.02, decay=1.0)


class TestLinear(ParametricContract):
    def make(self, outputs, seed=0):
        return Linear(outputs, seed, decay=0.1)
