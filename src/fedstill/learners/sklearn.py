"""Learners from scikit-learn, and any estimator with its `fit` and `predict`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from fedstill.errors import ConfigError, LearnerError
from fedstill.labels import Array, Outputs, Space
from fedstill.learners import store
from fedstill.learners.base import BaseLearner
from fedstill.learners.options import Option, brief, check_known
from fedstill.learners.rows import Rows

Fit = Callable[[Array, Array, Array], Any]
"""(X, y, weight) -> a fitted estimator."""


FOLDS = 5


def out_of_fold_residuals(fit: Fit, X: Array, y: Array) -> Array:
    """Errors y - prediction of models that have not seen the row, shape (n,); a single row gives 0.

    The folds are contiguous blocks, since neighbouring rows are alike in time series and would tell on each
    other.
    """
    folds = np.array_split(np.arange(len(y)), min(FOLDS, len(y)))
    if len(folds) < 2:
        return np.zeros(len(y))
    residuals = np.empty(len(y))
    for fold in folds:
        rest = np.delete(np.arange(len(y)), fold)
        residuals[fold] = y[fold] - fit(X[rest], y[rest], np.ones(len(rest))).predict(X[fold])
    return residuals


def quantile_offsets(fit: Fit, rows: Rows, outputs: Outputs) -> Array:
    """What to add to a point forecast to get its quantiles, shape (k,).

    The private part is the quantiles of the model's errors out of fold: the idea of split conformal
    prediction (Lei et al., JASA 2018) with the folds of CV+ (Barber et al., Annals of Statistics 2021),
    reduced to one offset for all rows, so without their guarantee of coverage. The teacher's part is the
    mean distance of its quantiles from its median. They are mixed by the teacher's share of the weight.
    """
    offsets = np.zeros(len(outputs))
    if rows.own:
        y = rows.target[: rows.own, 0]
        errors = out_of_fold_residuals(fit, rows.X[: rows.own], y)
        offsets += (1 - rows.share) * np.quantile(errors, outputs.levels)
    if rows.own < len(rows.X):
        teacher = rows.target[rows.own :]
        distances = teacher - teacher[:, [outputs.median]]
        offsets += rows.share * np.average(distances, axis=0, weights=rows.weight[rows.own :])
    return offsets


def fit_classes(fit: Fit, rows: Rows) -> tuple[Any, Array]:
    """Fit a classifier on the classes that there are; with a single one there is nothing to fit (None)."""
    X, label, weight = rows.by_class()
    classes = np.unique(label)
    return (fit(X, label, weight) if len(classes) > 1 else None), classes


def class_probabilities(model: Any, classes: Array, X: Array, k: int) -> Array:
    """Probabilities of all k classes, (n, k), 0 for those the model has not seen."""
    shares = np.zeros((len(X), k))
    shares[:, classes] = 1.0 if model is None else model.predict_proba(X)
    return shares


class _Stored(BaseLearner):
    """A learner whose state is a dictionary of scikit-learn objects and arrays."""

    trusted: ClassVar[Collection[str]] = ()
    """Types that may be loaded from a file besides scikit-learn's own; for derived classes."""

    def __init__(self, outputs: Outputs, seed: int = 0, **options: Any) -> None:
        super().__init__(outputs, seed, **options)
        self._state: dict[str, Any] = {}

    def _write(self, folder: Path) -> None:
        store.write_estimators(folder / "model.skops", self._state, self.trusted)

    def _read(self, folder: Path) -> None:
        self._state = store.read_estimators(folder / "model.skops", self.trusted)


class HistGradientBoosting(_Stored):
    """Gradient boosting on histograms: a model for each quantile level, or one for all classes.

    Parameters
    ----------
    outputs, seed:
        As for every learner.
    rounds, learning_rate, leaves, min_rows_in_leaf:
        Trees a level (or class), their step, their size and the fewest rows of a leaf.
    bins:
        Into how many ranges a column's values are sorted.
    """

    kind = "hist_gradient_boosting"
    OPTIONS: ClassVar = {
        "rounds": Option(100, 1, 10_000),
        "learning_rate": Option(0.08, 1e-6, 1),
        "leaves": Option(15, 2, 10_000),
        "min_rows_in_leaf": Option(20, 1, 1_000_000),
        "bins": Option(63, 2, 255),
    }

    def _learn(self, rows: Rows) -> None:
        with threadpool_limits(limits=1):
            if self.outputs.space is Space.PROBABILITIES:
                model, classes = fit_classes(self._fitter(HistGradientBoostingClassifier), rows)
                self._state = {"model": model, "classes": classes}
                return
            models = []
            for level, target in zip(self.outputs.levels, rows.target.T, strict=True):
                fit = self._fitter(HistGradientBoostingRegressor, loss="quantile", quantile=float(level))
                models.append(fit(rows.X, target, rows.weight))
            self._state = {"models": models}

    def _fitter(self, kind: Any, **more: Any) -> Fit:
        model = kind(
            max_iter=self.options["rounds"],
            learning_rate=self.options["learning_rate"],
            max_leaf_nodes=self.options["leaves"],
            min_samples_leaf=self.options["min_rows_in_leaf"],
            max_bins=self.options["bins"],
            early_stopping=False,
            random_state=self.seed,
            **more,
        )
        # Equal weights go without saying: weighted binning takes longer than the boosting of so few rows.
        return lambda X, y, weight: model.fit(X, y, sample_weight=weight if np.ptp(weight) else None)

    def _raw(self, X: Array) -> Array:
        with threadpool_limits(limits=1):  # its threads wait busily for each other, tree by tree
            if self.outputs.space is Space.PROBABILITIES:
                return class_probabilities(self._state["model"], self._state["classes"], X, len(self.outputs))
            return np.column_stack([model.predict(X) for model in self._state["models"]])


class _Point(_Stored):
    """A learner that forecasts one number and takes its quantiles from `quantile_offsets`.

    The number is learned from the private targets and, on transfer rows, from the teacher's median.
    """

    def _learn(self, rows: Rows) -> None:
        if self.outputs.space is Space.PROBABILITIES:
            self._learn_classes(rows)
            return
        model = self._fit_point(rows.X, rows.target[:, self.outputs.median], rows.weight)
        self._state = {"model": model, "offsets": quantile_offsets(self._fit_point, rows, self.outputs)}

    def _raw(self, X: Array) -> Array:
        if self.outputs.space is Space.PROBABILITIES:
            return self._raw_classes(X)
        point: Array = self._state["model"].predict(X)
        quantiles: Array = point[:, None] + self._state["offsets"]
        return quantiles

    @abstractmethod
    def _fit_point(self, X: Array, y: Array, weight: Array) -> Any: ...

    @abstractmethod
    def _learn_classes(self, rows: Rows) -> None: ...

    @abstractmethod
    def _raw_classes(self, X: Array) -> Array: ...


class ExtraTrees(_Point):
    """Extremely randomised trees (Geurts et al., Machine Learning 2006).

    Classes are learned as the k numbers of the target's distribution. For one-hot targets the summed
    variance that splits minimise is the Gini impurity, so this is the classifier, and soft targets need no
    special case.

    Parameters
    ----------
    outputs, seed:
        As for every learner.
    trees, min_rows_in_leaf:
        Number of trees, and the fewest rows of a leaf.
    features:
        Part of the columns that each split may choose from.
    """

    kind = "extra_trees"
    OPTIONS: ClassVar = {
        "trees": Option(100, 1, 10_000),
        "min_rows_in_leaf": Option(3, 1, 1_000_000),
        "features": Option(0.5, 1e-6, 1),
    }

    def _fit_point(self, X: Array, y: Array, weight: Array) -> Any:
        model = ExtraTreesRegressor(
            n_estimators=self.options["trees"],
            min_samples_leaf=self.options["min_rows_in_leaf"],
            max_features=self.options["features"],
            random_state=self.seed,
            n_jobs=1,
        )
        return model.fit(X, y, sample_weight=weight)

    def _learn_classes(self, rows: Rows) -> None:
        self._state = {"model": self._fit_point(rows.X, rows.target, rows.weight)}

    def _raw_classes(self, X: Array) -> Array:
        shares: Array = self._state["model"].predict(X)
        return shares


class Estimator(_Point):
    """Any object with scikit-learn's `fit` and `predict` (for classes `predict_proba`).

    Parameters
    ----------
    outputs, seed:
        As for every learner; the seed goes into `random_state` where there is one and `params` leave it open.
    estimator:
        "module:Class", or an estimator, which is cloned and never changed; without it extremely randomised trees.
    **params:
        The estimator's parameters.

    Raises
    ------
    ConfigError
        Where the estimator cannot be found, lacks a method or does not know a parameter.

    Notes
    -----
    An estimator whose `fit` takes no `sample_weight` learns a teacher from rows drawn in proportion to their
    weight. A classifier learns soft targets from rows repeated once a class: where it draws rows by itself, as a
    random forest does, that blurs them, so give it `bootstrap=False`. What skops does not know cannot be stored:
    name such types in `trusted` of a derived class.
    """

    kind = "sklearn"

    def __init__(self, outputs: Outputs, seed: int = 0, estimator: Any = None, **params: Any) -> None:
        super().__init__(outputs, seed)
        classes = outputs.space is Space.PROBABILITIES
        if estimator is None:
            estimator = ExtraTreesClassifier if classes else ExtraTreesRegressor
        if isinstance(estimator, str):
            estimator = _imported(estimator)
        self.template = _configured(estimator, self.seed, params)
        for method in ("fit", "predict_proba" if classes else "predict"):
            if not hasattr(self.template, method):
                raise ConfigError(
                    f"the estimator {type(self.template).__name__} has no '{method}'",
                    remedy="Choose one that gives probabilities" if classes else "Choose a regressor",
                )
        if not classes and is_classifier(self.template):
            raise ConfigError(
                f"the estimator {type(self.template).__name__} is a classifier and cannot forecast numbers",
                remedy="Choose a regressor",
            )

    def _stored_options(self) -> dict[str, Any]:
        return {}  # the template holds them

    def _write(self, folder: Path) -> None:
        self._state["template"] = self.template
        super()._write(folder)

    def _read(self, folder: Path) -> None:
        super()._read(folder)
        self.template = self._state["template"]

    def _fit_point(self, X: Array, y: Array, weight: Array) -> Any:
        model = clone(self.template)
        if np.ptp(weight) == 0:
            return model.fit(X, y)
        if has_fit_parameter(model, "sample_weight"):
            return model.fit(X, y, sample_weight=weight)
        drawn = _in_proportion(weight)
        return model.fit(X[drawn], y[drawn])

    def _learn(self, rows: Rows) -> None:
        with self._in_our_words():
            super()._learn(rows)

    def _raw(self, X: Array) -> Array:
        with self._in_our_words():
            return super()._raw(X)

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a foreign estimator makes of them
            raise LearnerError(
                f"the estimator {type(self.template).__name__} cannot work with these rows: {brief(error)}",
                remedy="Change its parameters or choose another",
            ) from error

    def _learn_classes(self, rows: Rows) -> None:
        model, classes = fit_classes(self._fit_point, rows)
        self._state = {"model": model, "classes": getattr(model, "classes_", classes)}

    def _raw_classes(self, X: Array) -> Array:
        return class_probabilities(self._state["model"], self._state["classes"], X, len(self.outputs))


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"there is no estimator '{name}': {brief(error)}", remedy='Write it as "package.module:Class"'
        ) from error


def _configured(estimator: Any, seed: int, params: dict[str, Any]) -> Any:
    """Build an estimator from its class, or a copy of an object, with these parameters."""
    try:
        template = estimator() if isinstance(estimator, type) else clone(estimator)
        known = template.get_params()
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"{estimator!r} is no estimator of scikit-learn's kind: {brief(error)}") from error
    check_known(type(template).__name__, params, known)
    template.set_params(**params)
    if "random_state" in known and known["random_state"] is None and "random_state" not in params:
        template.set_params(random_state=seed)
    return template


def _in_proportion(weight: Array) -> Array:
    """Indices of as many rows, each about as often as its weight asks (systematic resampling)."""
    total = np.cumsum(weight)
    marks = (np.arange(len(weight)) + 0.5) / len(weight) * total[-1]
    drawn: Array = np.searchsorted(total, marks)
    return drawn
