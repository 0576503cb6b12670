"""Rounds carried by calls: the same bytes in this process and in others, every byte counted, and no end in a hang."""

from __future__ import annotations

import faulthandler
import os
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from fedstill import plugins, wire
from fedstill.codecs.raw import Raw
from fedstill.errors import LearnerError, RunError
from fedstill.labels import Outputs, Release
from fedstill.messages import Answer, Ask, Refuse
from fedstill.participant import Participant
from fedstill.round import Closed, Coordinator, Ignored, Phase, Plan, QuorumMissed, Received, Send, Ticked
from fedstill.testing.fakes import QUANTILES, Build, Constant, Scripted, builds, rows, site, soft
from fedstill.transports.calls import Cost, InProcess, Pool, peak_memory_bytes, run

MLP = ("mlp", {"hidden": [4], "epochs": 5})
UNLIKE = (("extra_trees", {"trees": 5}), ("hist_gradient_boosting", {"rounds": 5}), MLP)
ALGORITHMS = {"fedmd": UNLIKE, "grouped": UNLIKE, "sketched": UNLIKE, "fedavg": (MLP,) * 3, "fedsgd": (MLP,) * 3}
N_ITEMS = 12


@pytest.fixture(autouse=True)
def no_hang():
    """Whoever waits for ever is shown where, and stopped."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@dataclass(frozen=True)
class Real:
    """Builds a shipped learner by its name."""

    name: str
    options: dict[str, Any]
    own_seed: int = 0

    def __call__(self, seed=None):
        seed = self.own_seed if seed is None else seed
        return plugins.build("learners", self.name, {**self.options, "seed": seed}, QUANTILES)


@dataclass(frozen=True)
class RealBuild:
    """Builds a participant with a shipped learner."""

    party: str
    make: Real
    seed: int

    def __call__(self):
        own = site(self.party, QUANTILES, self.seed, n=60)
        return Participant(own, self.make, QUANTILES, rows(QUANTILES, N_ITEMS, seed=99).X, Raw(), 4)


def members(algorithm):
    """Three participants, a name of the algorithm before theirs so that one pool can hold those of all."""
    kinds = zip("abc", ALGORITHMS[algorithm], strict=True)
    return {
        f"{algorithm}-{letter}": RealBuild(f"{algorithm}-{letter}", Real(*kind, own_seed=seed), seed)
        for seed, (letter, kind) in enumerate(kinds)
    }


def coordinator(algorithm):
    strategy = plugins.build("algorithms", algorithm, {})
    if algorithm in ("fedavg", "fedsgd"):
        strategy = replace(strategy, memory=Real(*MLP)(strategy.recipe.seed).initialise(2).parameters())
    return Coordinator(Plan(tuple(members(algorithm)), QUANTILES, N_ITEMS, rounds=2, quorum=3), strategy, Raw())


def said(participant):
    """All that a participant's models say of new rows, as bytes."""
    X = rows(QUANTILES, 40, seed=77).X
    return {name: values.tobytes() for name, values in participant.predict(X).items()}, dict(participant.losses)


@pytest.fixture(scope="module")
def pool():
    """Fifteen participants, three for each algorithm, in two processes."""
    everybody = {party: build for algorithm in ALGORITHMS for party, build in members(algorithm).items()}
    with Pool(everybody, workers=2) as exchange:
        yield exchange


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_does_not_matter_where_participants_live(algorithm, pool):
    """Same teachers, same models, same losses, same traffic: byte for byte."""
    one = coordinator(algorithm)
    with InProcess(members(algorithm)) as here:
        state, traffic = run(one, here)
        models = here.call(said, dict.fromkeys(one.plan.parties, ()))
    elsewhere, other_traffic = run(one, pool)
    assert state.phase is Phase.FINISHED
    assert set(state.teachers) == set(one.plan.parties)
    assert {p: t.payload for p, t in state.teachers.items()} == {p: t.payload for p, t in elsewhere.teachers.items()}
    assert pool.call(said, dict.fromkeys(one.plan.parties, ())) == models
    assert all({"own", "floor", "distilled"} == set(predictions) for predictions, _ in models.values())
    assert (traffic.up, traffic.down) == (other_traffic.up, other_traffic.down)
    for spent in (traffic, other_traffic):
        assert set(spent.cost) == set(one.plan.parties)
        assert all(cost.cpu_s > 0 for cost in spent.cost.values())


@pytest.mark.parametrize("algorithm", ["grouped", "sketched", "fedavg"])
def test_traffic_is_the_length_of_the_frames(algorithm):
    """Up: every reply's frame; down: every question's and teacher's; by round and participant."""
    up, down = Counter(), Counter()

    def observe(seen):
        if isinstance(seen, Received):
            up[seen.reply.round, seen.reply.sender] += len(wire.encode(seen.reply))
        if isinstance(seen, Send):
            down[seen.message.round, seen.to] += len(wire.encode(seen.message))

    with InProcess(members(algorithm)) as exchange:
        _, traffic = run(coordinator(algorithm), exchange, observe=observe)
    assert {(number, party): n for number, by in traffic.up.items() for party, n in by.items()} == up
    assert {(number, party): n for number, by in traffic.down.items() for party, n in by.items()} == down
    assert len(up) == len(down) == 6


def fakes(parties="abc", rounds=1, quorum=1, **more):
    return Coordinator(
        Plan(tuple(parties), QUANTILES, 2, rounds, quorum, **more), plugins.build("algorithms", "fedmd", {}), Raw()
    )


def answer(party, number, sent_in=1):
    return Answer(sent_in, party, Raw().encode(Release(soft(QUANTILES, [number, number]))))


def test_a_round_by_hand():
    """Scripted participants say 1, 2 and 6; each then hears 3 and nothing more."""
    numbers = {"a": 1, "b": 2, "c": 6}

    def script(party, message):
        return [answer(party, numbers[party])] if isinstance(message, Ask) else []

    with Scripted(script) as exchange:
        state, _ = run(fakes(), exchange, clock=lambda: 0.0)
    taught = [Raw().decode(m.payload).labels.values.tolist() for _, m in exchange.heard if not isinstance(m, Ask)]
    assert state.phase is Phase.FINISHED
    assert taught == [[[3, 3, 3], [3, 3, 3]]] * 3
    assert len(exchange.heard) == 6


def test_silence_ends_at_the_deadline():
    """Where nobody says anything more, the driver lets the deadline come: at once, and also where there is none."""
    for deadline_s in (1000.0, float("inf")):
        seen = []
        with Scripted(lambda party, message: []) as exchange:
            state, traffic = run(
                fakes(patience=2, rounds=5, deadline_s=deadline_s), exchange, observe=seen.append, clock=lambda: 0.0
            )
        assert state.phase is Phase.FAILED
        assert len([effect for effect in seen if isinstance(effect, QuorumMissed)]) == 2
        assert len([event for event in seen if isinstance(event, Ticked)]) == 2
        assert traffic.up == {}


def test_noise_does_not_stall_a_run():
    """Who answers too often, too late, for others or with noise is ignored; the round is of those who did not."""

    def script(party, message):
        if not isinstance(message, Ask):
            return []
        if party == "c":
            return [answer("x", 9), answer("c", 9, sent_in=0), answer("c", 9, sent_in=7)]
        if party == "d":
            return [Answer(1, "d", b"noise"), answer("d", 9)]
        return [answer(party, 1), answer(party, 5)]

    seen = []
    with Scripted(script) as exchange:
        state, _ = run(fakes("abcd"), exchange, observe=seen.append, clock=lambda: 0.0)
    (closed,) = [effect for effect in seen if isinstance(effect, Closed)]
    assert (closed.answered, closed.missing, state.phase) == (("a", "b"), ("c",), Phase.FINISHED)
    assert closed.refused["d"].startswith("malformed")
    assert len([effect for effect in seen if isinstance(effect, Ignored)]) >= 6
    assert Raw().decode(state.teachers["c"].payload).labels.values.tolist() == [[1, 1, 1], [1, 1, 1]]


# What goes wrong where a participant lives.


class Refusing(Constant):
    """A learner that says why it cannot."""

    def fit(self, X, y):
        raise LearnerError("there is too little to learn from")


class Broken(Constant):
    """A learner with a bug."""

    def fit(self, X, y):
        raise ZeroDivisionError("a bug")


class Dying(Constant):
    """A learner that takes its process with it, as the system does when memory runs out."""

    def fit(self, X, y):
        os._exit(3)


@dataclass(frozen=True)
class DyingBuild:
    outputs: Outputs

    def __call__(self):
        os._exit(3)


def notes_of(participant):
    return list(participant.notes)


def with_one(kind):
    """A is of that kind, b and c are sound."""
    return {**builds(QUANTILES, "abc", Constant), "a": Build("a", QUANTILES, kind, n_items=8)}


EIGHT = replace(fakes(), plan=Plan(("a", "b", "c"), QUANTILES, 8, rounds=1, quorum=2))


def test_a_refusal_is_carried():
    """By either exchange: the round closes without the participant, whose reason is in the record."""
    for exchange in (InProcess(with_one(Refusing)), Pool(with_one(Refusing), workers=1)):
        seen = []
        with exchange:
            state, _ = run(EIGHT, exchange, observe=seen.append)
        (closed,) = [effect for effect in seen if isinstance(effect, Closed)]
        assert (closed.answered, closed.refused) == (("b", "c"), {"a": "LearnerError, its own notes say more"})
        assert [e.reply for e in seen if isinstance(e, Received) and isinstance(e.reply, Refuse)] == [
            Refuse(1, "a", "LearnerError, its own notes say more")
        ]
        assert state.phase is Phase.FINISHED


def test_a_bug_in_a_learner_is_that_participants_alone():
    """What is no error of ours is refused as well, by either exchange: the others go on, its own notes tell."""
    for exchange in (InProcess(with_one(Broken)), Pool(with_one(Broken), workers=1)):
        with exchange:
            state, _ = run(EIGHT, exchange)
            (notes,) = exchange.call(notes_of, {"a": ()}).values()
        assert state.phase is Phase.FINISHED
        assert sorted(state.answers) == ["b", "c"]
        assert state.refusals == {"a": "ZeroDivisionError, its own notes say more"}
        assert notes[0] == "round 1 was refused: ZeroDivisionError: a bug"


def test_a_dead_worker_ends_the_run():
    """In the middle of a round, in what comes after it, and before: always RunError, never a wait."""
    with Pool(with_one(Dying), workers=2) as exchange:
        with pytest.raises(RunError, match="a worker process died"):
            run(EIGHT, exchange)
        with pytest.raises(RunError, match="a worker process died"):
            run(EIGHT, exchange)
        with pytest.raises(RunError, match="a worker process died"):
            exchange.call(said, {"a": ()})
        assert "own" in exchange.call(said, {"b": ()})["b"][0]  # who lives in the other process is well


def test_a_worker_that_dies_at_the_start():
    with pytest.raises(RunError, match="a worker process died"):
        Pool({"a": DyingBuild(QUANTILES)}, workers=1)


def test_costs_add_up():
    """Seconds add, peaks do not."""
    assert Cost(1.0, 5) + Cost(2.0, 3) == Cost(3.0, 5)
    assert peak_memory_bytes() >= 0
    assert np.isfinite(peak_memory_bytes())
