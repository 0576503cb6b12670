"""Gradient boosting with XGBoost (Chen and Guestrin, KDD 2016); needs the extra `xgboost`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fedstill.labels import Array, Outputs, Space
from fedstill.learners.base import BaseLearner
from fedstill.learners.options import Option, need
from fedstill.learners.rows import Rows

xgb = need("xgboost", "xgboost-cpu")


class XGBoost(BaseLearner):
    """Gradient-boosted trees: one booster for all quantile levels, or for all classes.

    In distillation the target differs from level to level, so each level gets a booster of its own.

    Parameters
    ----------
    outputs, seed:
        As for every learner.
    rounds, learning_rate, depth, min_weight_in_leaf:
        Trees a level (or class), their step, their depth and the least weight of a leaf.
    columns_per_tree:
        Part of the columns that each tree may use, drawn by the seed.
    threads:
        Threads of training and prediction.

    Notes
    -----
    Soft class targets are learned from rows repeated once a class (`Rows.by_class`), which is exact for the
    loss.
    """

    kind = "xgboost"
    OPTIONS: ClassVar = {
        "rounds": Option(120, 1, 10_000),
        "learning_rate": Option(0.08, 1e-6, 1),
        "depth": Option(4, 1, 30),
        "min_weight_in_leaf": Option(5.0, 0, 1e9),
        "columns_per_tree": Option(0.8, 1e-6, 1),
        "threads": Option(1, 1, 1024),
    }

    def __init__(self, outputs: Outputs, seed: int = 0, **options: Any) -> None:
        super().__init__(outputs, seed, **options)
        self._boosters: list[Any] = []

    def _learn(self, rows: Rows) -> None:
        if self.outputs.space is Space.PROBABILITIES:
            X, label, weight = rows.by_class()
            data = xgb.QuantileDMatrix(X, label, weight=weight, nthread=self.options["threads"])
            self._boosters = [self._boost(data, objective="multi:softprob", num_class=len(self.outputs))]
            return
        data = xgb.QuantileDMatrix(rows.X, rows.target[:, 0], weight=rows.weight, nthread=self.options["threads"])
        if rows.own == len(rows.X):
            self._boosters = [self._quantiles(data, self.outputs.levels)]
            return
        self._boosters = []
        for level, target in zip(self.outputs.levels, rows.target.T, strict=True):
            data.set_label(target)  # the bins of the inputs are the same for all levels
            self._boosters.append(self._quantiles(data, [level]))

    def _quantiles(self, data: Any, levels: Any) -> Any:
        return self._boost(data, objective="reg:quantileerror", quantile_alpha=[float(level) for level in levels])

    def _boost(self, data: Any, **objective: Any) -> Any:
        parameters = {
            "eta": self.options["learning_rate"],
            "max_depth": self.options["depth"],
            "min_child_weight": self.options["min_weight_in_leaf"],
            "colsample_bytree": self.options["columns_per_tree"],
            "tree_method": "hist",
            "nthread": self.options["threads"],
            "seed": self.seed % 2**31,  # it counts in signed 32 bits
            "verbosity": 0,
        }
        return xgb.train(parameters | objective, data, num_boost_round=self.options["rounds"])

    def _raw(self, X: Array) -> Array:
        data = xgb.DMatrix(X, nthread=self.options["threads"])
        return np.column_stack([booster.predict(data) for booster in self._boosters])

    def _write(self, folder: Path) -> None:
        for i, booster in enumerate(self._boosters):
            (folder / f"model_{i}.json").write_bytes(booster.save_raw("json"))

    def _read(self, folder: Path) -> None:
        paths = sorted(folder.glob("model_*.json"), key=lambda path: (len(path.name), path.name))
        if not paths:
            raise FileNotFoundError("model_0.json")
        threads = {"nthread": self.options["threads"]}
        self._boosters = [xgb.Booster(threads, model_file=bytearray(path.read_bytes())) for path in paths]
