from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fake_run import Run, outcome, report_of
from scipy.stats import bootstrap as scipy_bootstrap

from fedstill.errors import DataError
from fedstill.evaluation.bootstrap import MAX_BLOCKS, BlockSums, interval, relative_gain, resampled_means
from fedstill.evaluation.outcome import RoundRecord
from fedstill.evaluation.samples import choose_days
from fedstill.evaluation.schema import SCHEMA_VERSION, Report
from fedstill.labels import Outputs, Space

POINT = Outputs(Space.QUANTILES, (0.5,))
LOAD = np.array([10.0, 10.0, 20.0, 20.0])


def site(name: str, local: float, federated: float, floor: float = 4.0, **more: Any) -> Any:
    """A site whose forecasts are off by the same kW in every row; its mean load is 15 kW."""
    off = {"floor": floor, "local": local, "federated": federated, **more}
    return outcome(name, LOAD, {key: (LOAD + by)[:, None] for key, by in off.items()})


def test_means_and_gains_by_hand() -> None:
    report = report_of([site("a", 2, 1), site("b", 4, 3)], [], POINT)
    assert report.overall.mean["local"]["nmae"] == pytest.approx((2 + 4) / 2 / 15)
    assert report.overall.mean["federated"]["nmae"] == pytest.approx((1 + 3) / 2 / 15)
    assert report.overall.gains["nmae"]["local"].relative == pytest.approx(1 - 4 / 6)
    assert report.overall.gains["nmae"]["floor"].relative == pytest.approx(0.5)
    a, b = report.participants
    assert a.gains["nmae"]["local"].relative == pytest.approx(0.5)
    assert b.gains["nmae"]["local"].relative == pytest.approx(0.25)
    # Within a site every row gains alike, so its days leave no doubt; between the sites they do differ.
    assert (a.gains["nmae"]["local"].low, a.gains["nmae"]["local"].high) == (pytest.approx(0.5), pytest.approx(0.5))
    overall = report.overall.gains["nmae"]["local"]
    assert (overall.low, overall.high) == (pytest.approx(0.25), pytest.approx(0.5))


def test_only_predictions_that_all_have_are_averaged_and_compared() -> None:
    report = report_of([site("a", 2, 1, local_safe=2, naive_day=5), site("b", 4, 3, naive_day=6)], [], POINT)
    assert set(report.overall.mean) == {"floor", "local", "federated", "naive_day"}
    assert set(report.overall.gains["nmae"]) == {"local", "floor"}
    assert "local_safe" in report.participants[0].metrics


def test_a_site_without_load_is_left_out_of_the_mean_and_its_gains_are_null() -> None:
    dead = outcome("dead", np.zeros(4), {k: np.ones((4, 1)) for k in ("floor", "local", "federated")})
    report = report_of([site("a", 2, 1), dead], [], POINT)
    assert report.overall.mean["local"]["nmae"] == pytest.approx(2 / 15)
    assert report.overall.gains["nmae"]["local"].relative == pytest.approx(0.5)
    assert report.participants[1].gains["nmae"]["local"].relative is None
    assert report.overall.fairness.against["local"].participants == 1


def test_a_perfect_rival_leaves_no_relative_gain() -> None:
    gain = report_of([site("a", 0, 1)], [], POINT).overall.gains["nmae"]["local"]
    assert gain.relative is gain.low is gain.high is None


def test_the_interval_over_days_is_that_of_scipy() -> None:
    rng = np.random.default_rng(11)
    ours, theirs, load = rng.gamma(3, 1, 60), rng.gamma(4, 1, 60), rng.gamma(9, 1, 60)
    part = BlockSums.of(np.arange(60), np.stack([ours, theirs], axis=1), load)
    mine = interval(relative_gain(part.resampled(6000, np.random.default_rng(1)), 0, 1))

    def gain(a: Any, b: Any, axis: int) -> Any:
        return 1 - a.sum(axis=axis) / b.sum(axis=axis)

    theirs_found = scipy_bootstrap(
        (ours, theirs), gain, paired=True, vectorized=True, method="percentile", n_resamples=6000
    ).confidence_interval
    assert mine == (pytest.approx(theirs_found.low, abs=0.02), pytest.approx(theirs_found.high, abs=0.02))


def test_participants_add_doubt_to_that_of_days() -> None:
    rng = np.random.default_rng(2)
    parts = [
        BlockSums.of(
            np.arange(50), np.stack([(0.5 + k / 10) + rng.random(50), 1 + rng.random(50)], axis=1), np.ones(50)
        )
        for k in range(8)
    ]
    draws = relative_gain(resampled_means(parts, 2000, rng), 0, 1)
    fixed = np.mean([part.resampled(2000, rng) for part in parts], axis=0)
    both, days = interval(draws), interval(relative_gain(fixed, 0, 1))
    assert both[0] is not None and both[1] is not None and days[0] is not None and days[1] is not None  # noqa: PT018
    assert both[0] < days[0] < days[1] < both[1]


def test_very_many_blocks_are_merged_without_losing_a_row() -> None:
    n = 7 * MAX_BLOCKS + 3
    part = BlockSums.of(np.arange(n), np.ones((n, 1)), np.full(n, 2.0))
    assert len(part.denominator) == MAX_BLOCKS
    assert part.denominator.sum() == 2 * n
    assert part.losses() == pytest.approx(0.5)


def test_the_same_seed_gives_the_same_report_and_another_one_other_intervals(run: Run) -> None:
    few = run.outcomes[:3]
    first, again, other = (report_of(few, run.rounds, run.outputs, seed=seed) for seed in (7, 7, 8))
    assert msgspec.json.encode(first) == msgspec.json.encode(again)
    mine, theirs = first.overall.gains["nmae"]["local"], other.overall.gains["nmae"]["local"]
    assert mine.relative == theirs.relative
    assert mine.low != theirs.low


def test_a_year_of_twelve_sites_takes_little_time(run: Run) -> None:
    began = time.process_time()
    report_of(run.outcomes, run.rounds, run.outputs)
    assert time.process_time() - began < 10  # under 1 s on an idle machine


def test_required_keys_are_there(run: Run) -> None:
    data = msgspec.to_builtins(run.report)
    assert data["schema_version"] == SCHEMA_VERSION == 1
    assert {"participants", "rounds", "communication", "overall", "settings", "environment", "seed"} <= data.keys()
    assert len(data["participants"]) == 12
    assert {"floor", "local", "federated", "naive_week"} <= data["participants"][0]["metrics"].keys()
    assert data["communication"]["bytes_up"] == sum(r.bytes_up for r in run.rounds)
    assert data["rounds"][1]["refused"] == {"Hospital": "no answer before the deadline"}
    assert data["overall"]["main_metrics"] == ["nmae"]


def test_classes_report_log_loss_accuracy_and_reliability(class_run: Run) -> None:
    report = class_run.report
    assert report.overall.main_metrics == ["log_loss", "accuracy"]
    assert set(report.overall.gains) == {"log_loss", "error_rate"}
    assert report.samples == {}
    assert {name: sum(b.count for b in bins) for name, bins in report.reliability.items()} == {
        "floor": 3600, "local": 3600, "federated": 3600,
    }  # fmt: skip
    assert all(0 <= b.confidence <= 1 and 0 <= b.accuracy <= 1 for bins in report.reliability.values() for b in bins)


def test_nothing_that_json_lacks_reaches_it() -> None:
    odd = {"share": float("nan"), "rate": np.float32(np.inf), "folder": Path("a/b"), "space": Space.QUANTILES,
           "levels": (0.1, 0.9), "names": {"b", "a"}, "table": np.arange(3), "kind": dict, 3: None}  # fmt: skip
    rounds = [RoundRecord(1, (("a",),), ("a",), {}, 1, 1, "complete", {"a": float("inf")})]
    sites = [replace(site("a", 2, 1), cpu_s=float("nan"))]
    report = report_of(sites, rounds, POINT, settings=odd, seconds=float("nan"))
    data = msgspec.json.encode(report)
    assert b"NaN" not in data
    assert b"nfinity" not in data
    assert msgspec.json.decode(data, type=Report) == report
    assert report.settings["share"] is report.settings["rate"] is report.rounds[0].validation_loss["a"] is None
    assert report.settings["folder"] == "a/b"
    assert report.settings["space"] == "quantiles"
    assert report.settings["names"] == ["a", "b"]
    assert report.settings["table"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("sites", "what"),
    [
        ([], "no participant"),
        ([site("a", 2, 1), site("a", 2, 1)], "stands twice"),
        ([outcome("a", LOAD, {"floor": LOAD[:, None], "local": LOAD[:, None]})], "no prediction called federated"),
        ([replace(site("a", 2, 1), block=np.arange(3))], "another length"),
        ([site("a", 2, float("nan"))], "participant a, prediction federated"),
        ([replace(site("a", 2, 1), time=np.zeros(4, "datetime64[s]"), zone="Mars/Olympus")], "Mars/Olympus"),
    ],
)
def test_what_cannot_be_reported_is_refused(sites: list[Any], what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        report_of(sites, [], POINT)
    assert caught.value.remedy


def test_samples_hold_whole_local_days_with_five_digits(run: Run) -> None:
    sample = run.report.samples["Bakery"]
    assert sample.zone == "Europe/Berlin"
    assert len(sample.days) == 8
    day = sample.days[0]
    assert len(day.time) == len(day.actual) == len(day.high) == 24
    assert day.time[0].endswith("T23:00:00Z")  # midnight in Berlin's winter
    assert all(value == float(f"{value:.5g}") for value in day.actual)
    assert all(low <= median <= high for low, median, high in zip(day.low, day.federated, day.high, strict=True))


@pytest.mark.parametrize("n", [8, 9, 28, 56, 57, 112, 365, 366])
def test_days_come_one_from_each_eighth_and_mix_weekdays(n: int) -> None:
    days = choose_days(np.repeat(np.arange(n), 24))
    assert list(days * 8 // n) == list(range(8))
    assert len(set(days % 7)) >= 3


def test_days_with_gaps_are_not_shown_and_few_days_all_are() -> None:
    rows = np.repeat(np.arange(20), 24)
    assert 0 not in choose_days(rows[5:])
    assert list(choose_days(np.repeat([3, 5], 24))) == [3, 5]
    assert list(choose_days(np.repeat([3, 5], [24, 2]))) == [3]
