"""How good one prediction of one participant's test rows is."""

from __future__ import annotations

import math

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_pinball_loss,
    r2_score,
    root_mean_squared_error,
)

from fedstill.energy.metrics import NEAR_ZERO, cvrmse, nmbe, peak_error
from fedstill.errors import DataError
from fedstill.labels import Array, Outputs, Space

Metrics = dict[str, float | None]
"""Metric -> value; None where the metric is not defined for these rows."""

BINS = 15
"""Bins of the expected calibration error, as in Guo et al. (2017)."""

SUM_TOLERANCE = 1e-3
"""How far a row of float32 probabilities may be from summing to 1."""


def main_metrics(outputs: Outputs) -> tuple[str, ...]:
    """The metrics that a report leads with."""
    return ("nmae",) if outputs.space is Space.QUANTILES else ("log_loss", "accuracy")


def loss_metrics(outputs: Outputs) -> tuple[str, ...]:
    """The metrics, smaller is better, whose relative reduction is called a gain; the first one leads."""
    return ("nmae",) if outputs.space is Space.QUANTILES else ("log_loss", "error_rate")


def measure(
    actual: Array, prediction: Array, outputs: Outputs, *, block: Array | None = None, where: str = ""
) -> Metrics:
    """Every metric of one prediction; `docs/reference/report.md` defines each.

    Parameters
    ----------
    actual:
        Truth, shape (n,): loads in kW, or class indices.
    prediction:
        Quantiles in kW or class probabilities, shape (n, k).
    outputs:
        What the k columns are.
    block:
        The day of each row, shape (n,), for the error of daily peaks; without it that metric is None.
    where:
        Whose prediction this is, for error messages.

    Raises
    ------
    DataError
        Where shapes do not fit, there are no rows, a number is not finite, a class index is out of range or
        a row of probabilities is none.
    """
    y, p = checked(actual, prediction, outputs, where)
    # Finite inputs can still overflow when squared; such a metric is reported as None.
    with np.errstate(over="ignore", invalid="ignore"):
        found = _forecast(y, p, outputs, block) if outputs.space is Space.QUANTILES else _classes(y, p)
    return {name: _finite(value) for name, value in found.items()}


def row_losses(actual: Array, prediction: Array, outputs: Outputs, metric: str, where: str = "") -> tuple[Array, Array]:
    """Numerator and denominator of a loss, row by row: the ratio of their sums is what `measure` reports.

    Additive parts let a bootstrap resample days without going back to the rows.

    Parameters
    ----------
    actual, prediction, outputs, where:
        As in `measure`.
    metric:
        One of `loss_metrics(outputs)`.

    Returns
    -------
    Two float64 arrays, shape (n,).
    """
    y, p = checked(actual, prediction, outputs, where)
    if metric == "nmae":
        return np.abs(y - p[:, outputs.median]), np.abs(y)
    if metric == "log_loss":
        tiny = np.finfo(p.dtype).eps  # the clipping of sklearn.metrics.log_loss
        return -np.log(np.clip(p[np.arange(len(y)), y], tiny, 1 - tiny)), np.ones(len(y))
    return (p.argmax(axis=1) != y).astype(np.float64), np.ones(len(y))


def checked(actual: Array, prediction: Array, outputs: Outputs, where: str) -> tuple[Array, Array]:
    """Truth and prediction as float64 (class indices as int64). Raises DataError as `measure` says."""
    y, p = np.asarray(actual), np.asarray(prediction)
    if y.ndim != 1 or p.shape != (len(y), len(outputs)):
        raise DataError(
            f"truth of shape {y.shape} and a prediction of shape {p.shape} do not fit",
            where=where,
            remedy=f"Give shapes (n,) and (n, {len(outputs)})",
        )
    if len(y) == 0:
        raise DataError("there are no test rows", where=where, remedy="Leave more rows for testing")
    for array, what in ((y, "truth"), (p, "prediction")):
        bad = ~np.isfinite(array if array.ndim == 2 else array[:, None]).all(axis=1)
        if bad.any():
            raise DataError(
                f"{bad.sum()} of {len(y)} rows of the {what} are not finite, the first is row {bad.argmax()}",
                where=where,
                remedy="Leave rows without a value out of the test set" if what == "truth" else "Fix the model",
            )
    p = p.astype(np.float64)
    if outputs.space is Space.QUANTILES:
        return y.astype(np.float64), p
    return _class_indices(y, len(outputs), where), _probabilities(p, where)


def calibration(actual: Array, probabilities: Array) -> tuple[Array, Array, Array]:
    """Sums behind a reliability diagram, over 15 equal-width bins of the top probability.

    Parameters
    ----------
    actual:
        Class indices, shape (n,).
    probabilities:
        Shape (n, k).

    Returns
    -------
    For each bin the number of rows, the sum of their top probability and how many were right, shape (15,).
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == actual
    # Bins are open below and closed above, as in the paper.
    where = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count, total, hits = (np.bincount(where, weights=w, minlength=BINS) for w in (None, confidence, right))
    return count, total, hits


def _forecast(y: Array, p: Array, outputs: Outputs, block: Array | None) -> Metrics:
    median, low, high = p[:, outputs.median], p[:, 0], p[:, -1]
    level = float(np.mean(np.abs(y)))
    large = np.abs(y) > NEAR_ZERO * level
    mae = mean_absolute_error(y, median)
    pinball = math.fsum(
        mean_pinball_loss(y, p[:, column], alpha=float(alpha)) for column, alpha in enumerate(outputs.levels)
    ) / len(outputs)
    interval = len(outputs) > 1
    return {
        "nmae": mae / level if level > 0 else None,
        "cvrmse": cvrmse(y, median),
        "nmbe": nmbe(y, median),
        "mae": mae,
        "rmse": root_mean_squared_error(y, median),
        "mape": mean_absolute_percentage_error(y[large], median[large]) if large.any() else None,
        "mape_left_out_share": 1.0 - float(large.mean()),
        "r2": r2_score(y, median) if len(y) > 1 and y.min() < y.max() else None,
        "peak_error": None if block is None else peak_error(y, median, block),
        "pinball": pinball,
        "npinball": pinball / level if level > 0 else None,
        "coverage": float(np.mean((low <= y) & (y <= high))) if interval else None,
        "coverage_nominal": float(outputs.levels[-1] - outputs.levels[0]) if interval else None,
        "interval_width": float(np.mean(high - low)) if interval else None,
    }


def _classes(y: Array, p: Array) -> Metrics:
    labels = list(range(p.shape[1]))
    count, total, hits = calibration(y, p)
    accuracy = float(accuracy_score(y, p.argmax(axis=1)))
    return {
        "log_loss": log_loss(y, p, labels=labels),
        "accuracy": accuracy,
        "error_rate": 1.0 - accuracy,
        "brier": brier_score_loss(y, p, labels=labels, scale_by_half=False),
        "ece": float(np.abs(hits - total).sum() / count.sum()),
    }


def _class_indices(y: Array, classes: int, where: str) -> Array:
    if classes < 2:
        raise DataError("a classification needs two classes or more", where=where, remedy="Name all classes")
    index = y.astype(np.int64)
    bad = (index != y) | (index < 0) | (index >= classes)
    if bad.any():
        raise DataError(
            f"the truth of row {bad.argmax()} is {y[bad.argmax()]}, which is no class index",
            where=where,
            remedy=f"Give whole numbers from 0 to {classes - 1}",
        )
    return index


def _probabilities(p: Array, where: str) -> Array:
    total = p.sum(axis=1, keepdims=True)
    bad = (p < 0).any(axis=1) | (np.abs(total[:, 0] - 1) > SUM_TOLERANCE)
    if bad.any():
        raise DataError(
            f"row {bad.argmax()} of the prediction is no probability distribution",
            where=where,
            remedy="Give probabilities that are not negative and sum to 1",
        )
    return np.asarray(p / total)  # float32 rows sum to 1 only nearly, and the metrics want it in float64


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
