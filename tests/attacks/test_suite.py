"""Attacks on small runs: what is seen, by whom, and what the report holds."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pandas as pd
import pytest

from fedstill.attacks.scores import query
from fedstill.attacks.sights import ATTACKERS, Said, sight, stacked
from fedstill.attacks.suite import attack, effort
from fedstill.attacks.worlds import heard, play
from fedstill.energy.changes import august_closure, night_shift
from fedstill.energy.synthetic import sites
from fedstill.errors import ConfigError
from fedstill.federation import Federation
from fedstill.labels import Release
from fedstill.members import Member
from fedstill.privacy.guard import Privacy
from fedstill.privacy.spending import Budget
from fedstill.round import Closed
from fedstill.tasks.classification import Classification
from fedstill.tasks.forecast import Forecast

LOADS = sites(4, skew=0.3, days=70, step="1h", start="2016-07-01", zone="Europe/Berlin", seed=3)
NAMES = sorted(LOADS)
TASK = Forecast(test=("2016-09-01", "2016-09-05"), levels=(0.1, 0.5, 0.9), companions=())


def federation(strategy: str = "fedmd", learner: str = "linear", privacy: Privacy | None = None, **more) -> Federation:
    options = {"options": {"iterations": 20}} if learner == "linear" else {"options": {"hidden": [8], "epochs": 2}}
    members = [Member(name, LOADS[name], learner, **options, privacy=privacy or Privacy()) for name in NAMES[:3]]
    return Federation(TASK, members, LOADS[NAMES[3]], strategy=strategy, items=60, **more)


@pytest.fixture(scope="module")
def ran():
    built, seen = federation(rounds=2), []
    built.run(observe=seen.append)
    return built, seen


def test_who_looks_sees_what_was_sent_to_it(ran):
    built, seen = ran
    found = sight(built, seen)
    assert [one.round for one in found.said[NAMES[0]]] == [1, 2]
    alone = ATTACKERS["coordinator"](found, NAMES[0])[0].release.labels.values
    mean = np.mean([found.said[name][0].release.labels.values for name in NAMES[:3]], axis=0)
    summed = ATTACKERS["sums"](found, NAMES[0])
    np.testing.assert_allclose(summed[0].release.labels.values, mean, rtol=1e-5)
    assert [one.round for one in summed] == [1, 2]
    taught = ATTACKERS["participant"](found, NAMES[0])
    assert taught is found.taught[NAMES[1]]
    assert ATTACKERS["participant"](found, NAMES[2]) is found.taught[NAMES[0]]
    np.testing.assert_allclose(taught[0].release.labels.values, mean, atol=1e-5)  # what fedmd teaches
    assert not np.array_equal(alone, mean)


def test_what_was_not_said_in_a_run_has_the_mean_of_the_others(ran):
    found = sight(*ran).said[NAMES[0]]
    rows = stacked([found, found[:1], found])
    n = found[0].release.labels.values.size
    np.testing.assert_allclose(rows[1, n:], rows[0, n:])
    assert rows.shape == (3, 2 * n)


def test_of_parameters_it_is_seen_how_far_they_moved():
    built, seen = federation("fedavg", "mlp", rounds=2, options={"epochs": 1, "weights": "equal"}), []
    built.run(observe=seen.append)
    found = sight(built, seen)
    first, second = found.said[NAMES[1]]
    start = built.strategy.memory
    assert all(np.array_equal(first.start[name], start[name]) for name in start)
    mean = np.mean([found.said[name][0].release.parameters["bias_0"] for name in NAMES[:3]], axis=0)
    np.testing.assert_allclose(second.start["bias_0"], mean, atol=1e-6)
    moved = stacked([found.said[NAMES[1]]])[0]
    np.testing.assert_allclose(moved[: mean.size], first.release.parameters["bias_0"] - start["bias_0"], atol=1e-6)


def test_rounds_can_be_heard_without_anybody_learning_from_the_last(ran):
    built, seen = ran
    events = []
    built.answers(built.prepare(), events.append)
    again, before = sight(built, events), sight(built, seen)
    for name in NAMES[:3]:
        np.testing.assert_array_equal(stacked([again.said[name]]), stacked([before.said[name]]))
    assert sum(isinstance(event, Closed) for event in events) == 2


def test_worlds_have_other_noise_and_half_of_the_days():
    built = federation(privacy=Privacy("dp_sgd", Budget(8.0), {"steps": 5}))
    prepared = built.prepare()
    one, same, other = (heard(built, prepared, chance) for chance in ("/1", "/1", "/2"))
    values = [stacked([seen.said[NAMES[0]]]) for seen in (one, same, other)]
    assert np.array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])
    worlds = play(built, prepared, 1, seed=0)
    half = prepared[NAMES[0]].site.of_units(np.unique(prepared[NAMES[0]].site.units)[worlds[0].there[NAMES[0]]])
    assert len(np.unique(half.units)) == worlds[0].there[NAMES[0]].sum()
    assert set(half.view.block) <= set(half.units)
    assert half.view.blocks == prepared[NAMES[0]].site.view.blocks  # the length of the history is public


def test_a_report_has_all_keys_with_estimates_and_intervals(ran):
    ticks = []
    built = federation(rounds=2)
    report = attack(built, ran[1], worlds=8, tick=ticks.append)
    told = msgspec.to_builtins(report)
    assert {"membership", "reconstruction", "property", "audit"} <= set(told)
    for by in ("coordinator", "participant", "sums"):
        area = told["membership"][by]["auc"]
        assert area["low"] <= area["estimate"] <= area["high"]
        assert told["audit"][by]["low"] <= told["audit"][by]["estimate"] + 1
        assert told["audit"][by]["high"] is None
        read = told["reconstruction"][by]["mean"]
        assert read["low"] <= read["estimate"] <= read["high"]
        assert all(set(one) == set(ATTACKERS) for one in told["property"].values())
        assert set(told["property"]) == {"night_shift", "august_closure"}
    assert len(ticks) == effort(built, ["membership", "property"], 8) == 8 + 2 * 4
    msgspec.json.decode(msgspec.json.encode(report))


def test_the_ledgers_bound_is_above_what_an_audit_finds():
    built = federation(privacy=Privacy("dp_sgd", Budget(2.0), {"steps": 5}))
    (audited,) = (attack(built, [], attacks=["audit"], worlds=8).audit,)
    assert all(one.high == 2.0 and one.low <= 2.0 for one in audited.values())


@pytest.mark.parametrize(
    ("more", "words"),
    [({"worlds": 7}, "7 worlds are no pairs"), ({"worlds": 4}, "or too few"), ({}, "'local' exchanges nothing")],
)
def test_what_cannot_be_attacked(ran, more, words):
    built = federation("local") if not more else ran[0]
    with pytest.raises(ConfigError, match=words):
        attack(built, [], **more)


def test_a_night_shift_adds_half_of_the_swing_at_night_on_working_days():
    load = LOADS[NAMES[0]]
    added = night_shift(load).data["load_kw"] - load.data["load_kw"]
    local = pd.DatetimeIndex(load.data.index).tz_convert(load.zone)
    at_work = np.isin(local.hour, [22, 23, 0, 1, 2, 3, 4, 5]) & (local.day_of_week < 5)
    low, high = load.data["load_kw"].quantile([0.1, 0.9])
    np.testing.assert_allclose(added[at_work].dropna(), (high - low) / 2)
    np.testing.assert_allclose(added[~at_work].dropna(), 0)


def test_a_closure_leaves_a_fifth_above_the_lowest_tenth():
    load = LOADS[NAMES[0]]
    before, after = load.data["load_kw"], august_closure(load).data["load_kw"]
    local = pd.DatetimeIndex(load.data.index).tz_convert(load.zone)
    closed = (local.month == 8) & (local.day >= 3) & (local.day < 24)
    low = before.quantile(0.1)
    np.testing.assert_allclose(after[closed].dropna(), (low + (before - low).clip(lower=0) / 5)[closed].dropna())
    assert after[~closed].equals(before[~closed])
    assert closed.sum() == 21 * 24


def test_a_rare_class_has_a_quarter_of_its_rows():
    table = pd.DataFrame({"x": range(12), "on": ["a"] * 8 + ["b"] * 4})
    (change,) = Classification("on", ("a", "b"), ("x",)).properties.values()
    assert change(table)["on"].value_counts().to_dict() == {"b": 4, "a": 2}


def test_gradients_of_few_days_tell_more_than_those_of_all():
    built, seen = federation("fedsgd", "mlp", options={"weights": "equal"}), []
    built.run(observe=seen.append)
    report = attack(built, seen, attacks=["reconstruction"])
    by_days = {point.batch: point.found.mean.estimate for point in report.reconstruction_by_days}
    assert by_days[1] < 0.1 < by_days[max(by_days)]
    assert report.membership is None
    assert report.reconstruction["coordinator"].days == 39  # all that are not watched


def test_who_is_alone_in_speaking_has_nobody_to_learn_an_attack_from():
    silent = Privacy("silent")
    members = [Member(name, LOADS[name], "linear", {"iterations": 20}) for name in NAMES[:2]]
    members = [members[0], replace(members[1], privacy=silent)]
    built, seen = Federation(TASK, members, LOADS[NAMES[3]], strategy="fedmd", items=60, quorum=1), []
    built.run(observe=seen.append)
    assert attack(built, seen, attacks=["reconstruction"]).reconstruction == {}


def test_rows_of_classes_are_attacked_as_well():
    random = np.random.default_rng(0)
    data = pd.DataFrame({"x": random.normal(size=240), "z": random.normal(size=240)})
    data["on"] = np.where(data["x"] + 0.3 * random.normal(size=240) > 0, "b", "a")
    task = Classification("on", ("a", "b"), ("x", "z"), companions=())
    members = [Member(name, data.iloc[i::3], "linear", options={"iterations": 20}) for i, name in enumerate("pqr")]
    built = Federation(task, members, data.drop(columns="on"), strategy="grouped", items=40)
    report = attack(built, [], attacks=["membership", "property"], worlds=8)
    assert report.unit == "reading"
    assert report.membership["coordinator"].members == 4 * 3 * 60  # half of 60 rows of each in 8 worlds
    assert set(report.property) == {"rare_a"}
    customers = replace(task, columns=("x",), customer="z")
    assert (
        attack(
            Federation(customers, members, data, strategy="fedmd", items=40), [], attacks=["membership"], worlds=8
        ).unit
        == "customer"
    )


def test_a_gradient_falls_along_the_days_that_it_is_of():
    """By hand: a participant with one day alone, whose loss rises fastest along the gradient of that day."""
    built = federation("fedsgd", "mlp", options={"weights": "equal"})
    prepared = built.prepare()
    site = prepared[NAMES[0]].site
    (day, *_), start = np.unique(site.units), built.strategy.memory
    model = built.makes[NAMES[0]](seed=0).initialise(site.rows.X.shape[1])
    model.set_parameters(start)
    own = site.of_units([day]).rows
    said = Said(1, Release(parameters=model.gradient(own.X, own.y)), start, built.strategy.recipe)
    slopes = query(built, NAMES[0], site.rows)([said])
    assert slopes[0] > 0
    assert slopes[0] > np.quantile(slopes, 0.8)
