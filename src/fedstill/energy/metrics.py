"""Error measures that the energy field defines and general libraries lack."""

from __future__ import annotations

import numpy as np

from fedstill.labels import Array

FITTED_PARAMETERS = 1
"""p in the n - p of ASHRAE Guideline 14; 1 is the custom for models that are not a regression."""

NEAR_ZERO = 0.01
"""Loads at or under this share of the mean absolute load are too small to divide by."""


def cvrmse(actual: Array, predicted: Array, p: int = FITTED_PARAMETERS) -> float | None:
    """Coefficient of variation of the root mean square error, in percent.

    100 / mean(y) * sqrt(sum((y - f)²) / (n - p)), ASHRAE Guideline 14-2014, "Measurement of Energy, Demand,
    and Water Savings". Ruiz and Bandera, "Validation of Calibrated Energy Models: Common Errors", Energies
    10(10):1587 (2017), discuss p.

    Parameters
    ----------
    actual, predicted:
        Loads in one unit, shape (n,), finite.
    p:
        Number of fitted parameters.

    Returns
    -------
    Percent; None where n <= p or the mean load is not positive.
    """
    mean, freedom = _scale(actual, p)
    if mean is None:
        return None
    return float(100.0 / mean * np.sqrt(np.sum((actual - predicted) ** 2) / freedom))


def nmbe(actual: Array, predicted: Array, p: int = FITTED_PARAMETERS) -> float | None:
    """Normalised mean bias error, in percent; positive where the forecast is too low.

    100 / mean(y) * sum(y - f) / (n - p), with the sources, arguments and gaps of `cvrmse`.
    """
    mean, freedom = _scale(actual, p)
    if mean is None:
        return None
    return float(100.0 / mean * np.sum(actual - predicted) / freedom)


def _scale(actual: Array, p: int) -> tuple[float | None, int]:
    mean, freedom = float(np.mean(actual)), len(actual) - p
    return (mean, freedom) if mean > 0 and freedom > 0 else (None, freedom)


def peak_error(actual: Array, predicted: Array, block: Array) -> float | None:
    """Mean relative error of each day's peak load, whenever in the day the peak is.

    The mean over days of |max(f) - max(y)| / max(y), as a fraction. Days whose peak is near zero (see
    `NEAR_ZERO`) are left out.

    Parameters
    ----------
    actual, predicted:
        Loads in one unit, shape (n,), finite.
    block:
        The day of each row, shape (n,); at least one row.

    Returns
    -------
    A fraction; None where no day is left.
    """
    order = np.argsort(block, kind="stable")
    starts = np.unique(np.asarray(block)[order], return_index=True)[1]
    top = np.maximum.reduceat(actual[order], starts)
    forecast = np.maximum.reduceat(predicted[order], starts)
    kept = top > NEAR_ZERO * np.mean(np.abs(actual))
    if not kept.any():
        return None
    return float(np.mean(np.abs(forecast[kept] - top[kept]) / top[kept]))
