"""Whole federations through the Python interface: small sites, quick learners, everything else as in earnest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge

from fedstill import Classification, Federation, Forecast, History, Layout, Member, from_frame, wire
from fedstill.energy.synthetic import synthetic
from fedstill.errors import ConfigError, DataError, RunError
from fedstill.evaluation.outcome import Outcome
from fedstill.evaluation.schema import SCHEMA_VERSION
from fedstill.labels import Array
from fedstill.round import Effect, Event, Received, Send
from fedstill.sites import Rows

SITES = list(from_frame(synthetic(5, 70), Layout(timezone="Europe/Berlin")).values())
TASK = Forecast(test=("2016-03-01", "2016-03-08"), levels=(0.1, 0.5, 0.9))
SPAN = ("2016-01-10", "2016-02-25")
PUBLIC = SITES[4]
QUICK: dict[str, dict[str, Any]] = {
    "hist_gradient_boosting": {"rounds": 5, "leaves": 5, "bins": 8},
    "extra_trees": {"trees": 4},
    "mlp": {"hidden": [8], "epochs": 3},
    "linear": {"iterations": 20},
}
FOUR = [  # companions would be most of the work; the network has them, for all
    Member(name, site, learner, options, SPAN, companions=None if learner == "mlp" else ())
    for name, site, (learner, options) in zip("abcd", SITES, QUICK.items(), strict=False)
]
MLPS = [replace(member, learner="mlp", options=QUICK["mlp"], companions=()) for member in FOUR]


def federation(members: Sequence[Member] = FOUR, **settings: Any) -> Federation:
    return Federation(TASK, members, PUBLIC, **{"items": 120, **settings})


def outcome(history: History, name: str) -> Outcome:
    return next(one for one in history.outcomes if one.name == name)


def figures(history: History) -> Any:
    """All of a report but times and memory."""
    told = json.loads(msgspec.json.encode(history.report))
    for participant in told["participants"]:
        participant["cpu_s"] = participant["peak_memory_bytes"] = 0
    return {key: value for key, value in told.items() if key not in ("started", "seconds")}


class Frames:
    """Counts frames as they are sent, up by sender and down by receiver."""

    def __init__(self) -> None:
        self.up: Counter[tuple[int, str]] = Counter()
        self.down: Counter[tuple[int, str]] = Counter()

    def __call__(self, seen: Event | Effect) -> None:
        if isinstance(seen, Received):
            self.up[seen.reply.round, seen.reply.sender] += len(wire.encode(seen.reply))
        elif isinstance(seen, Send):
            self.down[seen.message.round, seen.to] += len(wire.encode(seen.message))


# --- a run and its report ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[History, Frames, Path]:
    """Four unlike members, two rounds of the five-stage method, everything written."""
    frames, out = Frames(), tmp_path_factory.mktemp("run")
    return federation(rounds=2, seed=3).run(out, frames), frames, out


def test_a_history_holds_an_outcome_a_member_and_a_record_a_round(ran: tuple[History, Frames, Path]) -> None:
    history = ran[0]
    assert [one.name for one in history.outcomes] == ["a", "b", "c", "d"]
    assert [one.round for one in history.rounds] == [1, 2]
    for one in history.outcomes:
        rows = 7 * 24
        assert one.actual.shape == (rows,)
        assert {"floor", "local", "local_safe", "distilled", "federated", "naive_week"} <= one.predictions.keys()
        assert all(said.shape == (rows, 3) and np.isfinite(said).all() for said in one.predictions.values())
        assert sum(one.weights.values()) == pytest.approx(1)
        assert one.cpu_s > 0
        assert one.model_bytes > 0 or set(one.weights) == {"floor"}
    for record in history.rounds:
        assert sorted(party for group in record.groups for party in group) == ["a", "b", "c", "d"]
        assert record.validation_loss.keys() == {"a", "b", "c", "d"}


def test_the_floor_is_the_naive_rule(ran: tuple[History, Frames, Path]) -> None:
    """Its median is one of the rules; that of the day is the load of 24 hours before."""
    one = outcome(ran[0], "a")
    hours = pd.DatetimeIndex(one.time).tz_localize("UTC")
    yesterday = SITES[0].data["load_kw"].shift(24).loc[hours]
    assert one.predictions["naive_day"][:, 1] == pytest.approx(yesterday.to_numpy(), rel=1e-5)
    rules = [said[:, 1] for name, said in one.predictions.items() if name.startswith("naive_")]
    assert sum(np.allclose(one.predictions["floor"][:, 1], rule, rtol=1e-4) for rule in rules) == 1
    assert one.actual.tolist() == SITES[0].data.loc[hours, "load_kw"].tolist()


def test_the_report_on_disk_has_the_keys_that_others_read(ran: tuple[History, Frames, Path]) -> None:
    report = json.loads((ran[2] / "report.json").read_text(encoding="utf-8"))
    assert report["schema_version"] == SCHEMA_VERSION
    assert report["seed"] == 3
    assert [one["name"] for one in report["participants"]] == ["a", "b", "c", "d"]
    for one in report["participants"]:
        assert one["learner"] in QUICK
        assert one["kept"] in ("floor", "own", "distilled", "blend")
        for way in ("floor", "local", "federated"):
            assert all(one["metrics"][way][metric] > 0 for metric in ("nmae", "cvrmse", "pinball"))
    for number, record in enumerate(report["rounds"], start=1):
        assert record["round"] == number
        assert record["groups"]
        assert record["bytes_up"] > 4 * 120 * 3 * 4
        assert record["bytes_down"] > 4 * 120 * 3 * 4
        assert record["answered"] == ["a", "b", "c", "d"]
        assert record["refused"] == {}
    assert report["communication"].keys() == {"bytes_up", "bytes_down", "transfer_set_bytes"}
    assert report["settings"]["rounds"] == 2
    assert report["environment"]["python"]
    assert (ran[2] / "report.html").read_text(encoding="utf-8").startswith("<!")
    assert sorted(folder.name for folder in (ran[2] / "models").iterdir()) == ["a", "b", "c", "d"]


def test_bytes_are_those_of_the_frames_as_sent(ran: tuple[History, Frames, Path]) -> None:
    history, frames, _ = ran
    for record in history.report.rounds:
        assert record.bytes_up == sum(size for (at, _), size in frames.up.items() if at == record.round)
        assert record.bytes_down == sum(size for (at, _), size in frames.down.items() if at == record.round)
    for one in history.report.participants:
        assert one.bytes_up == sum(size for (_, party), size in frames.up.items() if party == one.name)
        assert one.bytes_down == sum(size for (_, party), size in frames.down.items() if party == one.name)
    assert history.report.communication.bytes_up == sum(frames.up.values())
    assert history.report.communication.bytes_down == sum(frames.down.values())
    assert history.report.communication.transfer_set_bytes == 4 * (4 * 70 * 24)  # each gets 70 days of float32


def test_the_report_s_errors_are_those_of_the_predictions(ran: tuple[History, Frames, Path]) -> None:
    for one, told in zip(ran[0].outcomes, ran[0].report.participants, strict=True):
        for way in ("floor", "local", "federated"):
            error = np.abs(one.actual - one.predictions[way][:, 1]).mean() / one.actual.mean()
            assert told.metrics[way]["nmae"] == pytest.approx(error, rel=1e-5)


def test_the_table_has_a_line_a_participant(ran: tuple[History, Frames, Path]) -> None:
    lines = ran[0].table().splitlines()
    for member in FOUR:
        assert sum(f"| {member.name} " in line and member.learner in line for line in lines) == 1


# --- repeatable, and each by itself ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[History, Path]:
    """One round in this process, and the folder of what it wrote."""
    out = tmp_path_factory.mktemp("first")
    return federation(rounds=1).run(out), out


@pytest.fixture(scope="module")
def first(stored: tuple[History, Path]) -> History:
    return stored[0]


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> tuple[History, Path]:
    """The same in two processes."""
    out = tmp_path_factory.mktemp("pooled")
    return federation(rounds=1, workers=2).run(out), out


def test_the_same_seed_gives_the_same_figures(first: History) -> None:
    assert figures(federation(rounds=1).run()) == figures(first)


def test_another_seed_gives_other_figures(first: History) -> None:
    other = federation(rounds=1, seed=1).run()
    assert outcome(other, "b").predictions["local"].tobytes() != outcome(first, "b").predictions["local"].tobytes()


def test_two_processes_give_the_same_figures(first: History, pooled: tuple[History, Path]) -> None:
    assert figures(pooled[0]) == figures(first)


def test_models_are_the_same_bytes_wherever_they_were_trained(
    stored: tuple[History, Path], pooled: tuple[History, Path]
) -> None:
    """In this process and in a pool, file by file, also those of scikit-learn that skops wrote."""
    here, there = (
        {str(file.relative_to(out)): file.read_bytes() for file in (out / "models").rglob("*.*")}
        for _, out in (stored, pooled)
    )
    assert len(here) > 8
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []


def test_the_order_of_members_does_not_matter(first: History) -> None:
    assert figures(federation(FOUR[::-1], rounds=1).run()) == figures(first)


def test_a_member_more_changes_nothing_for_anothers_own_model(first: History) -> None:
    without = federation(FOUR[:3], rounds=1).run()
    for name in "abc":
        for way in ("local", "local_safe", "floor"):
            one, other = (outcome(history, name).predictions[way] for history in (first, without))
            assert one.tobytes() == other.tobytes()


# --- learners and algorithms -------------------------------------------------------------------------------


def test_any_estimator_of_scikit_learn_is_a_learner() -> None:
    members = [
        Member("object", SITES[0], Ridge(alpha=3), {}, SPAN, companions=()),
        Member(
            "name", SITES[1], "sklearn", {"estimator": "sklearn.linear_model:Ridge", "alpha": 3}, SPAN, companions=()
        ),
        Member("again", SITES[0], Ridge(), {"alpha": 3}, SPAN, companions=()),
    ]
    history = federation(members, strategy="fedmd").run()
    assert {one.name: one.learner for one in history.outcomes} == {
        "object": "Ridge",
        "name": "sklearn",
        "again": "Ridge",
    }
    said = [outcome(history, name).predictions["local"] for name in ("object", "again")]
    assert said[0].tobytes() == said[1].tobytes()


class Yesterday(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Learns nothing; not among the types that may be read from a file."""

    def fit(self, X: Array, y: Array) -> Yesterday:
        """Look once and forget."""
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X: Array) -> Array:
        """Say that tomorrow is as yesterday."""
        return np.zeros(len(X))


class Broken(Yesterday):
    """Cannot learn."""

    def fit(self, X: Array, y: Array) -> Broken:
        """Fail as foreign code does."""
        raise FloatingPointError("the matrix is singular")


class Picky(Yesterday):
    """Learns from 850 rows or more. Errors are estimated on 4/5 of all, which are enough of 46 days and not of 34."""

    def fit(self, X: Array, y: Array) -> Picky:
        """Refuse fewer."""
        if len(y) < 850:
            raise FloatingPointError("too few rows")
        super().fit(X, y)
        return self


def test_local_talks_to_nobody() -> None:
    frames = Frames()
    history = federation(strategy="local", rounds=5).run(observe=frames)
    assert history.rounds == ()
    assert not frames.up
    assert not frames.down
    communication = history.report.communication
    assert (communication.bytes_up, communication.bytes_down) == (0, 0)
    for one in history.outcomes:
        assert "distilled" not in one.predictions
        assert one.predictions["federated"].tobytes() == one.predictions["local_safe"].tobytes()


def test_pooled_trains_on_the_rows_of_all() -> None:
    pooled = federation(
        [replace(member, learner="linear", options=QUICK["linear"], companions=()) for member in FOUR],
        strategy="pooled",
    )
    ready = pooled.prepare()
    everything = Rows.stack([ready["b"].site.rows, *(ready[name].site.rows for name in "acd")])
    expected = pooled.makes["b"]().fit(everything.X, everything.y)
    history = pooled.run()
    exam = ready["b"].examination
    said = outcome(history, "b").predictions["distilled"]
    assert said == pytest.approx(exam.restore(expected.predict(exam.X)))
    assert history.report.communication.bytes_up == 0


@pytest.mark.parametrize(
    ("strategy", "options"), [("fedavg", {"epochs": 2, "weights": "equal"}), ("fedsgd", {"learning_rate": 0.5})]
)
def test_parameters_are_shared_by_networks_of_one_kind(strategy: str, options: dict[str, Any]) -> None:
    """All end with one model: two members with the same data are told the same."""
    twins = [*MLPS[:2], replace(MLPS[0], name="twin of a")]
    history = federation(twins, strategy=strategy, options=options, rounds=4).run()
    one, other = (outcome(history, name).predictions["distilled"] for name in ("a", "twin of a"))
    assert one.tobytes() == other.tobytes()
    assert (
        outcome(history, "a").predictions["local"].tobytes()
        != outcome(history, "twin of a").predictions["local"].tobytes()
    )  # which they train with seeds of their own
    losses = [record.validation_loss for record in history.rounds]
    assert all(losses[-1][name] < losses[0][name] for name in losses[0])


@pytest.mark.parametrize("strategy", ["fedavg", "fedsgd"])
def test_parameters_of_unlike_models_cannot_be_averaged(strategy: str) -> None:
    with pytest.raises(ConfigError, match=f"'{strategy}' exchanges parameters, a hist_gradient_boosting has none") as e:
        federation(strategy=strategy)
    assert e.value.where == "participant a"
    assert "fedmd" in e.value.remedy
    wider = replace(MLPS[1], options={**QUICK["mlp"], "hidden": [9]})
    with pytest.raises(ConfigError, match="have different ones"):
        federation([MLPS[0], wider], strategy=strategy)


def test_digits_end_to_end() -> None:
    """Four members who each saw four digits mostly; together they tell all ten."""
    X, y = load_digits(return_X_y=True)
    columns = tuple(f"p{i}" for i in range(64))
    table = pd.DataFrame(X, columns=list(columns)).assign(digit=y)
    shuffled = table.sample(frac=1, random_state=0)
    public, private = shuffled[:400], shuffled[400:]
    task = Classification("digit", tuple("0123456789"), columns)
    members = []
    for i, learner in enumerate(["linear", "extra_trees", LogisticRegression(max_iter=200), "linear"]):
        mine = private["digit"].isin([(3 * i + j) % 10 for j in range(4)])
        part = pd.concat([private[mine].iloc[i::4], private[~mine].iloc[i : 40 + i]])
        members.append(Member(f"m{i}", part, learner, QUICK.get(learner, {}) if isinstance(learner, str) else {}))
    history = Federation(task, members, public.drop(columns="digit"), strategy="fedmd", items=200, rounds=2).run()
    assert history.report.task == "classification"
    assert history.report.outputs.columns == list("0123456789")
    for one in history.outcomes:
        said = one.predictions["federated"]
        assert said.shape == (len(one.actual), 10)
        assert said.sum(axis=1) == pytest.approx(1, abs=1e-4)
        accuracy = (said.argmax(axis=1) == one.actual).mean()
        assert accuracy > 0.6
        told = next(told for told in history.report.participants if told.name == one.name)
        assert told.metrics["federated"]["accuracy"] == pytest.approx(accuracy)
    taught, floor = (
        np.mean([(one.predictions[way].argmax(axis=1) == one.actual).mean() for one in history.outcomes])
        for way in ("distilled", "floor")
    )
    assert taught > floor + 0.3


# --- when things fail --------------------------------------------------------------------------------------


def test_a_member_whose_learner_fails_is_refused_and_the_others_go_on() -> None:
    members = [*FOUR[:3], Member("z", SITES[3], Broken(), {}, SPAN)]
    history = federation(members, rounds=2).run()
    for record in history.report.rounds:
        assert record.answered == ["a", "b", "c"]
        assert "its own notes say more" in record.refused["z"]
        assert "singular" not in record.refused["z"]  # what an error says may quote data, so it stays at home
    told = history.report.participants[3]
    assert told.kept == "floor"
    assert any("singular" in note for note in told.notes)
    assert all("distilled" in one.predictions for one in history.outcomes[:3])


def test_a_learner_that_cannot_do_without_a_fold_costs_no_run() -> None:
    """It speaks by its 46 days; without a fold there is none of its kind to be judged, so the floor is kept."""
    history = federation([*FOUR[:3], Member("z", SITES[3], Picky(), {}, SPAN, companions=())]).run()
    assert history.report.rounds[0].answered == ["a", "b", "c", "z"]
    one = outcome(history, "z")
    assert dict(one.weights) == {"floor": 1.0}
    assert one.predictions["local"].tobytes() != one.predictions["floor"].tobytes()
    assert any("the teacher of round 1 was of no use" in note and "too few rows" in note for note in one.notes)
    assert any("nothing is kept of the own model" in note and "too few rows" in note for note in one.notes)


def test_a_learner_that_cannot_be_stored_costs_no_run(tmp_path: Path) -> None:
    """Its type is not trusted by those who read models; that must not show only after hours of training."""
    members = [*FOUR[:2], Member("z", SITES[3], Yesterday(), {}, SPAN)]
    task = replace(TASK, folds=1)  # nothing to choose by: what was taught is kept
    history = Federation(task, members, PUBLIC, items=120).run(tmp_path)
    assert any("Yesterday" in note for note in outcome(history, "z").notes)
    assert sorted(folder.name for folder in (tmp_path / "models").iterdir()) == ["a", "b"]


ONE_OF_THREE = [FOUR[0], *(Member(name, SITES[1], Broken(), {}, SPAN) for name in "yz")]


@pytest.mark.parametrize("rounds", [1, 3, 5])
def test_too_few_answers_end_the_run_and_say_why(rounds: int) -> None:
    with pytest.raises(RunError) as caught:
        federation(ONE_OF_THREE, rounds=rounds).run()
    assert "had 1 answers, too few to go on" in str(caught.value)
    assert "y: " in str(caught.value)
    assert "the matrix is singular" in str(caught.value)
    assert "quorum" in caught.value.remedy


def test_the_quorum_is_more_than_half_unless_another_is_given() -> None:
    assert federation(FOUR).plan.quorum == 3
    assert federation(FOUR[:3]).plan.quorum == 2
    assert federation(FOUR, quorum=1).plan.quorum == 1


@pytest.mark.parametrize(
    ("settings", "where", "message"),
    [
        ({"members": []}, "participants", "nobody takes part"),
        ({"members": FOUR[:1]}, "participants", "'a' is alone"),
        ({"members": [FOUR[0], FOUR[0]]}, "participants", "two participants are called 'a'"),
        ({"members": [FOUR[0], replace(FOUR[1], name="../b")]}, "participants", "'../b' cannot be"),
        ({"members": [FOUR[0], replace(FOUR[1], name="")]}, "participants", "'' cannot be"),
        ({"members": [FOUR[0], replace(FOUR[1], learner=3)]}, "participant b", "a int is no learner"),
        ({"members": [FOUR[0], replace(FOUR[1], learner="ridge")]}, "", "there is no learner 'ridge'"),
        ({"members": [FOUR[0], replace(FOUR[1], options={"tress": 3})]}, "", "no option 'tress'"),
        ({"rounds": 0}, "rounds", "0 rounds"),
        ({"items": 0}, "transfer.items", "0 items"),
        ({"items": -5}, "transfer.items", "-5 items"),
        ({"quorum": 0}, "quorum", "a quorum of 0"),
        ({"quorum": 5}, "quorum", "a quorum of 5 cannot be met by 4"),
        ({"codec": "zip"}, "", "there is no codec 'zip'"),
        ({"strategy": "fedmed"}, "", "there is no algorithm 'fedmed'"),
        ({"options": {"sahre": 1}}, "strategy", "no option 'sahre'"),
    ],
)
def test_descriptions_that_cannot_be_run(settings: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        federation(**settings)
    assert message in str(caught.value)
    assert where in caught.value.where
    assert caught.value.remedy


def test_data_that_cannot_be_used_are_named_before_training() -> None:
    short = replace(FOUR[1], history=("2016-01-10", "2016-01-11"))
    with pytest.raises(DataError, match="site b: 24 usable rows of history are left"):
        federation([FOUR[0], short]).prepare()


def test_a_run_stops_when_its_participants_see_no_progress() -> None:
    """Rounds after the first few bring nothing to these; each answer tells one loss more, and nobody else's."""
    history = federation(strategy="fedmd", rounds=12, stop_after=1).run()
    assert 2 <= len(history.rounds) < 12
    losses = [sum(one.validation_loss.values()) for one in history.rounds]
    assert losses[-2] >= 0.9 * losses[0]  # what was seen before the last round was no great step any more


def test_nobody_can_stop_by_losses_on_nothing() -> None:
    """With one fold no row is held back: all refuse, and say why."""
    with pytest.raises(RunError, match="nothing is held back"):
        Federation(replace(TASK, folds=1), FOUR, PUBLIC, items=120, stop_after=1, rounds=3).run()


def test_stop_after_is_a_number_of_rounds() -> None:
    with pytest.raises(ConfigError, match="after 0 rounds"):
        federation(stop_after=0)
