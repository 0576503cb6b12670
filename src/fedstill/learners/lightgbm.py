"""Gradient boosting with LightGBM (Ke et al., NeurIPS 2017); needs the extra `lightgbm`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fedstill.labels import Array, Outputs, Space
from fedstill.learners.base import BaseLearner
from fedstill.learners.options import Option, need
from fedstill.learners.rows import Rows

lgb = need("lightgbm", "lightgbm")


class LightGBM(BaseLearner):
    """Gradient-boosted trees: a model for each quantile level, or one for all classes.

    Parameters
    ----------
    outputs, seed:
        As for every learner.
    rounds, learning_rate, leaves, min_rows_in_leaf:
        Trees a level (or class), their step, their size and the fewest rows of a leaf.
    columns_per_tree:
        Part of the columns that each tree may use, drawn by the seed.
    threads:
        Threads of training and prediction; the model does not depend on it.

    Notes
    -----
    Soft class targets are learned from rows repeated once a class (`Rows.by_class`): exact for the loss,
    though each copy counts as a row of a leaf.
    """

    kind = "lightgbm"
    OPTIONS: ClassVar = {
        "rounds": Option(150, 1, 10_000),
        "learning_rate": Option(0.06, 1e-6, 1),
        "leaves": Option(15, 2, 10_000),
        "min_rows_in_leaf": Option(20, 1, 1_000_000),
        "columns_per_tree": Option(0.8, 1e-6, 1),
        "threads": Option(1, 1, 1024),
    }

    def __init__(self, outputs: Outputs, seed: int = 0, **options: Any) -> None:
        super().__init__(outputs, seed, **options)
        self._boosters: list[Any] = []

    def _learn(self, rows: Rows) -> None:
        if self.outputs.space is Space.PROBABILITIES:
            X, label, weight = rows.by_class()
            data = self._data(X, label, weight)
            self._boosters = [self._boost(data, objective="multiclass", num_class=len(self.outputs))]
            return
        data = self._data(rows.X, rows.target[:, 0], rows.weight)
        self._boosters = []
        for level, target in zip(self.outputs.levels, rows.target.T, strict=True):
            data.set_label(target)  # the bins of the inputs are the same for all levels
            self._boosters.append(self._boost(data, objective="quantile", alpha=float(level)))

    def _data(self, X: Array, y: Array, weight: Array) -> Any:
        return lgb.Dataset(X, y, weight=weight, params=self._parameters()).construct()

    def _boost(self, data: Any, **objective: Any) -> Any:
        return lgb.train(self._parameters() | objective, data, num_boost_round=self.options["rounds"])

    def _parameters(self) -> dict[str, Any]:
        return {
            "learning_rate": self.options["learning_rate"],
            "num_leaves": self.options["leaves"],
            "min_data_in_leaf": self.options["min_rows_in_leaf"],
            "feature_fraction": self.options["columns_per_tree"],
            "num_threads": self.options["threads"],
            "seed": self.seed % 2**31,  # it counts in signed 32 bits
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }

    def _raw(self, X: Array) -> Array:
        told = [booster.predict(X, num_threads=self.options["threads"]) for booster in self._boosters]
        return np.column_stack(told)

    def _write(self, folder: Path) -> None:
        for i, booster in enumerate(self._boosters):
            (folder / f"model_{i}.txt").write_text(booster.model_to_string(), encoding="utf-8")

    def _read(self, folder: Path) -> None:
        n = 1 if self.outputs.space is Space.PROBABILITIES else len(self.outputs)
        texts = [(folder / f"model_{i}.txt").read_text(encoding="utf-8") for i in range(n)]
        self._boosters = [lgb.Booster(model_str=text) for text in texts]
