from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, mean_pinball_loss

from fedstill.energy.metrics import cvrmse, nmbe, peak_error
from fedstill.errors import DataError
from fedstill.evaluation.fairness import assess, compare, jain_index
from fedstill.evaluation.metrics import loss_metrics, main_metrics, measure, row_losses
from fedstill.labels import Array, Outputs, Space

POINT = Outputs(Space.QUANTILES, (0.5,))
BAND = Outputs(Space.QUANTILES, (0.1, 0.5, 0.9))
PAIR = Outputs(Space.PROBABILITIES, ("off", "on"))
THREE = Outputs(Space.PROBABILITIES, ("a", "b", "c"))

LOAD = np.array([10.0, 20.0, 30.0, 40.0])
FORECAST = np.array([12.0, 18.0, 33.0, 37.0])  # errors y - f: -2, 2, -3, 3


def column(values: Array) -> Array:
    return np.asarray(values)[:, None]


def test_point_metrics_by_hand() -> None:
    found = measure(LOAD, column(FORECAST), POINT, block=np.array([0, 0, 1, 1]))
    assert found["mae"] == pytest.approx(2.5)
    assert found["nmae"] == pytest.approx(10 / 100)
    assert found["rmse"] == pytest.approx(math.sqrt(26 / 4))
    assert found["cvrmse"] == pytest.approx(100 * math.sqrt(26 / 3) / 25)
    assert found["nmbe"] == pytest.approx(0.0)
    assert found["mape"] == pytest.approx((0.2 + 0.1 + 0.1 + 0.075) / 4)
    assert found["r2"] == pytest.approx(1 - 26 / 500)
    assert found["peak_error"] == pytest.approx((2 / 20 + 3 / 40) / 2)
    assert found["pinball"] == pytest.approx(2.5 / 2)  # at the median, pinball is half the absolute error
    assert found["npinball"] == pytest.approx(0.05)
    assert found["coverage"] is found["coverage_nominal"] is found["interval_width"] is None


def test_a_low_forecast_has_a_positive_bias_as_guideline_14_has_it() -> None:
    assert nmbe(LOAD, LOAD - 3.0) == pytest.approx(100 * 12 / 3 / 25)
    assert nmbe(LOAD, LOAD - 3.0, p=0) == pytest.approx(12.0)
    assert cvrmse(LOAD, LOAD - 3.0, p=0) == pytest.approx(12.0)


def test_quantile_metrics_by_hand_and_against_sklearn() -> None:
    forecast = np.array([[8, 12, 14], [19, 21, 22], [25, 33, 36], [30, 37, 39]], dtype=np.float64)
    loads = np.array([10.0, 22.0, 30.0, 40.0])
    found = measure(loads, forecast, BAND)
    assert found["coverage"] == 0.75  # 22 lies on the edge and counts, 40 lies above 39
    assert found["coverage_nominal"] == pytest.approx(0.8)
    assert found["interval_width"] == pytest.approx((6 + 3 + 11 + 9) / 4)
    oracle = np.mean([mean_pinball_loss(loads, forecast[:, i], alpha=a) for i, a in enumerate((0.1, 0.5, 0.9))])
    assert found["pinball"] == pytest.approx(oracle)
    # By hand: level 0.1 costs 0.1 * (2 + 3 + 5 + 10), 0.5 half of 2 + 1 + 3 + 3, 0.9 costs 0.1 * (4 + 0 + 6) + 0.9 * 1.
    assert found["pinball"] == pytest.approx((2.0 + 4.5 + 1.9) / 4 / 3)


def test_rows_near_zero_are_left_out_of_mape_and_counted() -> None:
    loads = np.array([0.0, 0.5, 100.0, 100.0])  # mean 50.1, so 0.5 is under 1 %
    found = measure(loads, column(np.array([1.0, 5.0, 110.0, 90.0])), POINT)
    assert found["mape"] == pytest.approx(0.1)
    assert found["mape_left_out_share"] == 0.5


def test_a_site_without_any_load_has_no_relative_error() -> None:
    found = measure(np.zeros(3), np.ones((3, 1)), POINT, block=np.arange(3))
    absent = ("nmae", "cvrmse", "nmbe", "mape", "r2", "peak_error", "npinball")
    assert all(found[name] is None for name in absent)
    assert found["mae"] == 1.0
    assert found["mape_left_out_share"] == 1.0


def test_a_constant_load_has_no_r2_and_one_row_has_no_cvrmse() -> None:
    assert measure(np.full(4, 7.1), np.full((4, 1), 7.0), POINT)["r2"] is None
    one = measure(np.array([7.0]), np.array([[6.0]]), POINT)
    assert one["cvrmse"] is one["nmbe"] is one["r2"] is None
    assert one["nmae"] == pytest.approx(1 / 7)


def test_feed_in_has_no_guideline_14_measures_but_has_nmae() -> None:
    found = measure(-LOAD, column(-FORECAST), POINT)
    assert found["cvrmse"] is found["nmbe"] is None
    assert found["nmae"] == pytest.approx(0.1)


def test_peaks_count_whenever_they_are_and_days_may_be_mixed_up() -> None:
    day = np.array([1, 0, 1, 0])
    loads, forecast = np.array([5.0, 8.0, 10.0, 4.0]), np.array([9.0, 2.0, 1.0, 10.0])
    assert peak_error(loads, forecast, day) == pytest.approx((1 / 10 + 2 / 8) / 2)


def test_numbers_too_large_to_square_are_null_and_never_infinite() -> None:
    found = measure(np.array([1e200, 2e200]), np.array([[3e200], [1e200]]), POINT)
    assert found["rmse"] is None
    assert found["nmae"] == pytest.approx(1.0)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=2, max_size=40),
    st.floats(0.01, 100),
)
def test_relative_metrics_do_not_depend_on_the_unit(rows: list[tuple[float, float]], unit: float) -> None:
    loads, forecast = np.array(rows).T + 1.0
    a, b = (measure(loads * u, column(forecast * u), POINT, block=np.arange(len(rows))) for u in (1.0, unit))
    for name in ("nmae", "cvrmse", "nmbe", "mape", "npinball", "peak_error"):
        assert a[name] == pytest.approx(b[name], rel=1e-6, abs=1e-9)


def test_class_metrics_by_hand() -> None:
    truth = np.array([0, 1, 1, 0])
    belief = np.array([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.9, 0.1]])
    found = measure(truth, belief, PAIR)
    assert found["accuracy"] == 0.75
    assert found["error_rate"] == 0.25
    assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.7, 0.4, 0.9]).mean())
    assert found["brier"] == pytest.approx(2 * (0.04 + 0.09 + 0.36 + 0.01) / 4)
    # Each row has a bin of its own; the gaps are 0.2, 0.3, 0.6 and 0.1.
    assert found["ece"] == pytest.approx((0.2 + 0.3 + 0.6 + 0.1) / 4)


def test_calibration_is_judged_within_bins() -> None:
    truth = np.array([0, 0, 1, 1])
    always = np.tile([0.5, 0.5], (4, 1))
    assert measure(truth, always, PAIR)["ece"] == pytest.approx(0.0)
    sure = np.tile([1.0, 0.0], (4, 1))
    assert measure(truth, sure, PAIR)["ece"] == pytest.approx(0.5)


def test_three_classes_agree_with_sklearn_even_when_one_never_occurs() -> None:
    rng = np.random.default_rng(1)
    belief = rng.dirichlet(np.ones(3), size=50).astype(np.float32)
    truth = rng.integers(0, 2, size=50)
    found = measure(truth, belief, THREE)
    exact = belief.astype(np.float64) / belief.astype(np.float64).sum(axis=1, keepdims=True)
    assert found["log_loss"] == pytest.approx(log_loss(truth, exact, labels=[0, 1, 2]))
    assert found["brier"] == pytest.approx(((exact - np.eye(3)[truth]) ** 2).sum(axis=1).mean())


def test_a_sure_mistake_costs_much_but_not_infinitely() -> None:
    found = measure(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]), PAIR)
    assert found["log_loss"] == pytest.approx(-math.log(np.finfo(np.float64).eps) / 2)


@pytest.mark.parametrize("metric", ["nmae", "log_loss", "error_rate"])
def test_the_sums_behind_the_bootstrap_give_the_reported_metric(metric: str) -> None:
    rng = np.random.default_rng(3)
    if metric == "nmae":
        outputs, truth = BAND, rng.gamma(2, 10, 80)
        prediction = np.sort(rng.gamma(2, 10, (80, 3)), axis=1)
    else:
        outputs, truth = THREE, rng.integers(0, 3, 80)
        prediction = rng.dirichlet(np.full(3, 0.2), 80)
    assert metric in loss_metrics(outputs)
    above, below = row_losses(truth, prediction, outputs, metric)
    assert above.sum() / below.sum() == pytest.approx(measure(truth, prediction, outputs)[metric])


@pytest.mark.parametrize("outputs", [BAND, PAIR])
def test_main_metrics_are_measured(outputs: Outputs) -> None:
    truth = np.array([0, 1])
    prediction = np.full((2, len(outputs)), 1 / len(outputs))
    found = measure(truth, prediction, outputs)
    assert {*main_metrics(outputs), *loss_metrics(outputs)} <= found.keys()


@pytest.mark.parametrize(
    ("truth", "prediction", "outputs", "what"),
    [
        (np.array([1.0, np.nan]), np.ones((2, 1)), POINT, "1 of 2 rows of the truth are not finite"),
        (np.array([1.0, 2.0]), np.array([[1.0], [np.inf]]), POINT, "the first is row 1"),
        (np.ones(2), np.ones((3, 1)), POINT, "do not fit"),
        (np.ones(2), np.ones((2, 3)), POINT, "do not fit"),
        (np.empty(0), np.empty((0, 1)), POINT, "no test rows"),
        (np.array([0, 2]), np.full((2, 2), 0.5), PAIR, "row 1 is 2"),
        (np.array([0, -1]), np.full((2, 2), 0.5), PAIR, "row 1 is -1"),
        (np.array([0.5, 1]), np.full((2, 2), 0.5), PAIR, "row 0 is 0.5"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.6]]), PAIR, "row 1 of the prediction"),
        (np.array([0, 1]), np.array([[1.5, -0.5], [0.5, 0.5]]), PAIR, "row 0 of the prediction"),
        (np.zeros(2), np.ones((2, 1)), Outputs(Space.PROBABILITIES, ("only",)), "two classes"),
    ],
)
def test_bad_input_is_refused_with_its_place(truth: Array, prediction: Array, outputs: Outputs, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        measure(truth, prediction, outputs, where="participant dairy")
    assert caught.value.where == "participant dairy"
    assert caught.value.remedy


def test_jain_index_has_its_textbook_values() -> None:
    assert jain_index([2.0, 2.0, 2.0]) == pytest.approx(1.0)
    assert jain_index([5.0, 0.0, 0.0, 0.0]) == pytest.approx(1 / 4)
    assert jain_index([1.0, 1.0, 0.0, 0.0, -3.0]) == pytest.approx(2 / 5)  # k of n alike: k / n; debts count as 0
    assert jain_index([1.0, 3.0]) == pytest.approx(16 / 20)
    assert jain_index([]) is None
    assert jain_index([0.0, -1.0]) is None
    assert jain_index([1e-200, 1e-200]) == pytest.approx(1.0)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=30))
def test_jain_index_stays_within_its_bounds(values: list[float]) -> None:
    index = jain_index(values)
    assert index is not None
    assert 1 / len(values) - 1e-9 <= index <= 1 + 1e-9


def test_a_tie_is_no_improvement_and_two_percent_are_tolerated() -> None:
    found = compare([1.0, 0.9, 1.02, 1.03], [1.0, 1.0, 1.0, 1.0])
    assert (found.improved, found.no_worse, found.participants) == (1, 3, 4)
    assert (found.improved_share, found.no_worse_share) == (0.25, 0.75)


def test_fairness_names_who_is_worst_off_and_who_gained_least() -> None:
    losses = {
        "a": {"local": 0.2, "federated": 0.1},
        "b": {"local": 0.4, "federated": 0.3},
        "c": {"local": 0.10, "federated": 0.15},
        "d": {"local": None, "federated": None},
    }
    found = assess(losses, "nmae", ["local"])
    assert found.worst is not None
    assert found.least_gain is not None
    assert (found.worst.name, found.worst.value) == ("b", 0.3)
    assert (found.least_gain.name, found.least_gain.value) == ("c", pytest.approx(-0.5))
    assert found.against["local"].participants == 3
    assert found.jain_gain == pytest.approx((0.5 + 0.25) ** 2 / (3 * (0.5**2 + 0.25**2)))
