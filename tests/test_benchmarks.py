"""The benchmarks run, as their own headers say; what they find is not looked at here."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"


def measured(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A benchmark that ran to its end."""
    told = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), *words], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    return told


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "pjm_hourly.parquet").exists(), reason="the load of the utilities is not here")
def test_the_energy_benchmark_measures_one_row(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    words = ["pjm", "--quick", "--row", "fedmd", "--data", str(DATA), "--out", str(tmp_path)]
    told = measured("energy.py", *words)
    kept = json.loads((tmp_path / "energy-pjm-development-quick.json").read_text())
    assert {"made", "environment", "setting", "rows", "measured"} == set(kept)
    assert len(kept["measured"]) == 8
    assert all(0 < one["federated nmae"] < one["floor nmae"] for one in kept["measured"])
    assert "naive_mixed" in told.stdout


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "pjm_hourly.parquet").exists(), reason="the load of the utilities is not here")
def test_the_attacks_benchmark_attacks_one_row(tmp_path: Path) -> None:
    words = ["--quick", "--row", "fedsgd", "--worlds", "8", "--only", "audit", "--only", "reconstruction"]
    told = measured("attacks.py", *words, "--data", str(DATA), "--out", str(tmp_path))
    (kept,) = json.loads((tmp_path / "attacks-pjm-development.json").read_text())["measured"]
    assert {"audit", "reconstruction", "reconstruction_by_days", "nmae", "bytes", "cpu_s"} <= set(kept)
    assert "coordinator" in told.stdout


@pytest.fixture
def liars(monkeypatch):
    """The benchmark of liars as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("liars")


def test_the_same_liars_lie_in_every_way_and_more_are_the_same_and_others(liars):
    drawn = liars.cases("abcdefgh", (1, 2, 3), ("flip", "noise"), 5)
    assert [(case.way, len(case.liars)) for case in drawn] == [
        ("honest", 0),
        *((way, number) for number in (1, 2, 3) for way in ("silent", "flip", "noise")),
    ]
    assert set(drawn[1].liars) < set(drawn[4].liars) < set(drawn[9].liars) < set("abcdefgh")
    assert len({case.liars for case in drawn}) == 4
    assert len({liars.cases("abcdefgh", (2,), (), seed)[1].liars for seed in range(9)}) > 3


def test_the_honest_are_compared_with_themselves(liars):
    """By hand: b and c have 2 and 4 among liars, 1 and 3 where the liar a is silent, and 1 and 2 where nobody lies."""
    errors = {("honest", 0): {"a": 9, "b": 1, "c": 2}, ("silent", 1): {"b": 1, "c": 3}, ("flip", 1): {"b": 2, "c": 4}}
    frame = pd.DataFrame(
        [
            {"row": "fedmd", "seed": seed, "lie": lie, "liars": number, "participant": party, "federated": error}
            for (lie, number), told in errors.items()
            for party, error in told.items()
            for seed in (0, 1)
        ]
    )
    for rival, ratio in (("silent", 1.5), ("honest", 2.0)):
        (line,) = liars.ratios(frame, "federated", rival).to_dict("records")
        assert (line["ratio"], line["highest"], line["seeds"]) == (ratio, ratio, 2)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "pjm_hourly.parquet").exists(), reason="the load of the utilities is not here")
def test_the_benchmark_of_liars_measures_the_honest(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    words = ["pjm", "--quick", "--data", str(DATA), "--out", str(tmp_path)]
    measured("liars.py", *words)
    kept = json.loads((tmp_path / "liars-pjm-development-quick.json").read_text())
    assert {"made", "environment", "setting", "rows", "measured"} == set(kept)
    by_lie = pd.DataFrame(kept["measured"]).groupby("lie")["participant"].agg(set)
    assert len(by_lie["honest"]) == 8
    assert len(by_lie["flip"]) == 6
    assert by_lie["flip"] == by_lie["silent"]


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "pjm_hourly.parquet").exists(), reason="the load of the utilities is not here")
def test_the_benchmark_of_contributions_shares_all_out(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    words = ["pjm", "--quick", "--data", str(DATA), "--out", str(tmp_path)]
    measured("contributions.py", *words)
    honest, flipped = json.loads((tmp_path / "contributions-pjm-development-quick.json").read_text())["measured"]
    for one in (honest, flipped):
        assert sum(one["shapley"].values()) == pytest.approx(one["together"], abs=1e-4)
    assert set(sorted(flipped["shapley"], key=flipped["shapley"].get)[:2]) == set(flipped["liars"])


@pytest.fixture
def classes(monkeypatch):
    """The benchmark of classes as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("classes")


@pytest.mark.parametrize("alpha", [0.1, 5.0])
def test_every_image_is_dealt_once_and_everyone_gets_some(classes, alpha):
    y = np.repeat(np.arange(10), 100)
    hands = classes.deal(y, 30, alpha, np.random.default_rng(0))
    assert sorted(np.concatenate(hands).tolist()) == list(range(1000))
    assert min(len(hand) for hand in hands) >= classes.LEAST


def test_a_small_alpha_deals_few_classes(classes):
    y = np.repeat(np.arange(10), 100)

    def biggest_class(alpha):
        hands = classes.deal(y, 10, alpha, np.random.default_rng(0))
        return np.mean([np.bincount(y[hand]).max() / len(hand) for hand in hands])

    assert biggest_class(0.1) > 0.4 > biggest_class(5.0)


def test_accuracy_counts_rows_or_their_weight(classes):
    said, y = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1])
    assert classes.accuracy(said, y) == pytest.approx(2 / 3, abs=1e-5)
    assert classes.accuracy(said, y, np.array([1, 2, 1])) == 0.5


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "mnist_10k.parquet").exists(), reason="the images are not here")
def test_the_benchmark_of_classes_measures_one_row(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    words = ["mnist", "--quick", "--row", "experts", "--data", str(DATA), "--out", str(tmp_path)]
    measured("classes.py", *words)
    kept = json.loads((tmp_path / "classes-mnist-development-quick.json").read_text())
    assert {"made", "environment", "setting", "rows", "measured"} == set(kept)
    assert [one["row"] for one in kept["measured"]] == (
        ["pooled"] * 10 + ["pooled, with companions"] * 10 + ["experts"] * 10
    )
    taught = [one for one in kept["measured"] if one["row"] == "experts"]
    assert all(one["floor"] == 0.1 and one["distilled"] > one["own"] and not one["notes"] for one in taught)


@pytest.fixture
def steel(monkeypatch):
    """The benchmark of the steel works as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("steel")


def test_the_lines_of_the_steel_works_share_no_day_with_each_other_the_public_or_the_test(steel):
    spans = list(steel.spans().values())
    assert [first for first, _ in spans[1:]] == [last for _, last in spans[:-1]]
    assert (spans[0][0], spans[-1][1]) == (steel.PUBLIC[1], steel.TEST[0])
    assert all(sorted(steel.kinds(seed).values()) == sorted(steel.KINDS) for seed in range(3))


def test_a_line_holds_back_whole_days_and_is_judged_on_later_ones(steel):
    days = np.repeat(np.arange(17_532, 17_532 + 365), 2)  # all of 2018
    table = pd.DataFrame({"signal": np.arange(730.0), "kind": ["a", "b"] * 365, "day": days})
    task = steel.LoadType("kind", ("a", "b"), ("signal",))
    one = task.prepare("line", table, ("2018-02-22", "2018-04-05"))
    held = [set(one.site.held_back([fold]).block.tolist()) for fold in one.site.folds]
    assert [len(days) for days in held] == [11, 11, 11, 9]
    assert set().union(*held) == set(range(17_532 + 52, 17_532 + 52 + 42))
    assert set(one.examination.block.tolist()) == set(range(17_532 + 304, 17_532 + 365))


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "steel_industry.parquet").exists(), reason="the load of the steel works is not here")
def test_the_benchmark_of_the_steel_works_measures_both_tasks(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    words = ["--quick", "--data", str(DATA), "--out", str(tmp_path)]
    measured("steel.py", *words)
    kept = json.loads((tmp_path / "steel-quick.json").read_text())
    assert {"made", "environment", "setting", "rows", "measured"} == set(kept)
    assert [one["case"] for one in kept["measured"]] == ["load, day ahead"] * 6 + ["type from signals"] * 6
    assert all(0 < one["federated nmae"] < one["naive_day nmae"] for one in kept["measured"][:6])
    assert all(one["federated accuracy"] > one["floor accuracy"] > 0.5 for one in kept["measured"][6:])


@pytest.fixture
def lighter(monkeypatch):
    """The benchmark of lighter students as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("lighter")


def sized(lighter, data, floor, ensemble, students):
    """The table of one seed: scores of the floor and the ensemble (1000 bytes), and of students with their bytes."""
    rows = [{"row": "floor", "score": floor}]
    rows += [{"row": key, "score": ensemble, "bytes": 1000.0} for key in lighter.ENSEMBLES]
    rows += [{"row": key, "way": "both", "score": score, "bytes": size} for key, (score, size) in students.items()]
    frame = pd.DataFrame(rows).assign(data=data, seed=0, parameters=None)
    return lighter.table(frame, data)


def test_what_a_student_keeps_is_worked_out_by_hand(lighter):
    errors = sized(lighter, "pjm", 0.08, 0.04, {"mlp 8": (0.05, 100.0)}).loc["mlp 8"].iloc[0]
    assert errors[["size %", "kept %", "gain kept %"]].tolist() == pytest.approx([10, 80, 75])
    right = sized(lighter, "mnist", 0.1, 0.9, {"mlp 8": (0.81, 100.0)}).loc["mlp 8"].iloc[0]
    assert right[["size %", "kept %", "gain kept %"]].tolist() == pytest.approx([10, 90, 88.75])


def test_an_ensemble_below_the_floor_has_no_gain_to_keep(lighter):
    shown = sized(lighter, "pjm", 0.04, 0.05, {"mlp 8": (0.05, 100.0)})
    assert shown["gain kept %"].isna().all()
    assert lighter.choices({"pjm": shown})["all"]["gain kept 98 %"] == "no gain to keep"


def test_the_smallest_student_that_keeps_enough_is_chosen(lighter):
    students = {"large": (0.04, 500.0), "mlp 64": (0.0402, 200.0), "mlp 8": (0.044, 50.0), "mlp 4": (0.06, 20.0)}
    chosen = lighter.choices({"pjm": sized(lighter, "pjm", 0.08, 0.04, students)})["pjm"]
    assert chosen == {
        "kept 98 %": "mlp 64",
        "kept 90 %": "mlp 8",
        "gain kept 98 %": "mlp 64",
        "gain kept 90 %": "mlp 8",
    }


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "mnist_10k.parquet").exists(), reason="the images are not here")
def test_the_benchmark_of_lighter_students_measures_two_kinds(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    words = ["mnist", "--quick", "--data", str(DATA), "--out", str(tmp_path)]
    measured("lighter.py", *words)
    kept = json.loads((tmp_path / "lighter-mnist-quick.json").read_text())
    assert {"made", "environment", "setting", "rows", "measured"} == set(kept)
    by_way = {(one["row"], one.get("way", "")): one for one in kept["measured"]}
    assert len(by_way) == 10
    taught, heavy = by_way["mlp 16", "both"], by_way["ensemble, mean", ""]
    assert taught["parameters"] == 49 * 16 + 16 + 16 * 10 + 10
    assert taught["bytes"] < 0.3 * heavy["bytes"]
    assert by_way["mlp 16", "own rows"]["score"] < taught["score"]


def test_what_grouping_adds_is_the_largest_difference_of_any_participant(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    traffic = importlib.import_module("traffic")
    sent = {"fedmd": (100, 200), "grouped client": (100, 200), "grouped item": (93, 201), "sketched": (9, 200)}
    lines = [
        {"row": row, "seed": 0, "participant": party, "bytes_up": up + more, "bytes_down": down}
        for row, (up, down) in sent.items()
        for party, more in (("a", 0), ("b", 5))
    ]
    assert traffic.added(pd.DataFrame(lines)) == {"grouped client": 0, "grouped item": 7}


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "pjm_hourly.parquet").exists(), reason="the load of the utilities is not here")
def test_the_benchmark_of_traffic_finds_that_grouping_is_free(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    words = ["pjm", "--quick", "--data", str(DATA), "--out", str(tmp_path)]
    measured("traffic.py", *words)
    kept = json.loads((tmp_path / "traffic-pjm-quick.json").read_text())
    assert kept["setting"]["bytes_that_grouping_adds"] == {"grouped (default)": 0}
    up = {row: sum(one["bytes_up"] for one in kept["measured"] if one["row"] == row) for row in kept["rows"]}
    assert up["sketched 3 groups, 1 speaker a group"] < up["fedmd"] / 2


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "cambridge_buildings.parquet").exists(), reason="the load of the buildings is not here")
def test_the_benchmark_of_transfer_sets_measures_one_row(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    words = ["--quick", "--plain", "--row", "weekends", "--data", str(DATA), "--out", str(tmp_path)]
    measured("transfer_sets.py", *words)
    kept = json.loads((tmp_path / "transfer-sets-quick.json").read_text())
    assert len(kept["measured"]) == 8
    assert all(one["items"] == 300 and one["coverage"] < 0.7 for one in kept["measured"])


@pytest.mark.slow
def test_the_benchmark_of_mqtt_measures_all_its_parts(tmp_path: Path) -> None:
    pytest.importorskip("paho")
    from fedstill.testing.broker import MOSQUITTO

    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    measured("mqtt.py", "--quick", "--out", str(tmp_path))
    kept = json.loads((tmp_path / "mqtt-quick.json").read_text())
    parts = [one["part"] for one in kept["measured"]]
    assert parts == ["raw"] * 4 + ["link"] * 2 + ["rounds"]
    assert all(rate > 1 for one in kept["measured"][:-1] for rate in one["mb_per_s"])
    rounds = kept["measured"][-1]
    assert (rounds["participants"], len(rounds["round_s"]), rounds["faults"]) == (3, 2, [])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "times", "rounds"), [("network", "round_s", 2), ("many", "opens_s", 2)])
def test_benchmarks_between_machines_measure_rounds(name: str, times: str, rounds: int, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    if name == "many" and not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not bind processes to cores")
    measured(f"{name}.py", "--quick", "--out", str(tmp_path))
    (kept,) = json.loads((tmp_path / f"{name}-quick.json").read_text())["measured"]
    assert len(kept[times]) == rounds
    assert all(taken > 0 for taken in kept[times])
    assert kept["peak_bytes"] > 0 or sys.platform != "linux"


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "pjm_hourly.parquet").exists(), reason="the load of the utilities is not here")
def test_the_benchmark_of_release_models_measures_all_utilities(tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    pytest.importorskip("holidays")
    words = ["--row", "dp_sgd, epsilon 8", "--data", str(DATA), "--out", str(tmp_path)]
    measured("release_models.py", *words)
    kept = json.loads((tmp_path / "release-models-pjm-since-2014.json").read_text())
    assert {"made", "environment", "setting", "rows", "measured"} == set(kept)
    assert len(kept["measured"]) == 8
    assert all(0 < one["nmae"] < 0.1 for one in kept["measured"])


@pytest.fixture
def dp_fedavg(monkeypatch):
    """The benchmark of noise on clipped updates as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("dp_fedavg")


def test_noise_in_a_mean_of_updates_is_as_long_as_the_price_says(dp_fedavg):
    """A multiplier z: in each of 8 answers 2 z C / sqrt(7) a number, in their mean sqrt(8) times less."""
    pytest.importorskip("dp_accounting")
    from fedstill.privacy.pricing import epsilon
    from fedstill.privacy.spending import Gaussian

    length = dp_fedavg.noise_length(dp_fedavg.ROWS["clip 0.1, epsilon 8"], 900, 8)
    z = length / 30 * (8 * 7) ** 0.5 / 2
    assert epsilon([Gaussian(z, dp_fedavg.ROUNDS)], 1e-5) == pytest.approx(8, rel=1e-3)
    assert dp_fedavg.noise_length(dp_fedavg.ROWS["clip 1, epsilon 8"], 900, 8) == pytest.approx(length)
    assert dp_fedavg.noise_length(dp_fedavg.ROWS["clip 1, no noise"], 900, 8) == 0


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "pjm_hourly.parquet").exists(), reason="the load of the utilities is not here")
def test_the_benchmark_of_clipped_updates_measures_what_is_taught_and_what_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    pytest.importorskip("holidays")
    words = ["--quick", "--data", str(DATA), "--out", str(tmp_path)]
    measured("dp_fedavg.py", *words)
    kept = json.loads((tmp_path / "dp-fedavg-pjm-development-quick.json").read_text())
    assert {"made", "environment", "setting", "rows", "measured"} == set(kept)
    assert [one["row"] for one in kept["measured"]] == ["linear, clip 0.1, epsilon 8"] * 8
    assert all(7.9 < one["epsilon"] <= 8 for one in kept["measured"])
    means = pd.DataFrame(kept["measured"])[["federated nmae", "floor nmae", "distilled nmae"]].mean()
    assert 0 < means["federated nmae"] < means["floor nmae"] < means["distilled nmae"]


def test_the_benchmark_of_privacy_measures_newcomers_and_those_they_listen_to(tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        privacy = importlib.import_module("privacy")
    finally:
        sys.path.pop(0)
    sites = dict.fromkeys("abcdefgh")
    bench = privacy.Bench(privacy.SETTINGS["pjm"], sites, [], "development", privacy.YEAR)
    protected = privacy.drawn(bench, privacy.Design("newcomers"), 0, privacy.ROWS["dp_sgd, epsilon 2"])
    plain = privacy.drawn(bench, privacy.Design("newcomers"), 0, privacy.ROWS["none"])
    assert [one.privacy.mechanism for one in protected].count("silent") == 4
    assert {one.privacy.mechanism for one in plain} == {"none"}
    assert [one.history for one in protected] == [one.history for one in plain]
    longer = privacy.drawn(bench, privacy.Design("newcomers", "2012-01-11"), 0, privacy.ROWS["none"])
    assert [one.history[0] for one in longer].count("2012-01-11") == 4
    assert [one.history[1] for one in longer] == [one.history[1] for one in plain]
    year = privacy.drawn(bench, privacy.Design("year"), 0, privacy.ROWS["dp_sgd, epsilon 2"])
    assert {one.privacy.budget.epsilon for one in year} == {2.0}
