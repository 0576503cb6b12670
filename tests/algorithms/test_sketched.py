"""Sketch, then send: the contract, and who is asked and taught, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedstill.algorithms.sketched import sketched
from fedstill.codecs.raw import Raw
from fedstill.errors import ConfigError
from fedstill.labels import Release
from fedstill.messages import Answer, Ask, Kind
from fedstill.round import Closed, Coordinator, Phase, Plan
from fedstill.strategy import rehearse
from fedstill.testing.algorithms import AlgorithmContract, conclude
from fedstill.testing.fakes import CLASSES, QUANTILES, Build, Scripted, ballot, soft
from fedstill.transports.calls import InProcess, run


class TestSketched(AlgorithmContract):
    def make(self):
        return sketched()


class TestSketchedTwoSpeakers(AlgorithmContract):
    def make(self):
        return sketched(
            sketch=5,
            speakers=2,
            groups=2,
            similarity="cosine",
            reliability="heldout",
            aggregate="mean",
            weights="equal",
        )


class TestSketchedEveryone(AlgorithmContract):
    def make(self):
        return sketched(speakers=99, grouping="kmeans", aggregate="trimmed", seed=3)


# a and b are alike, and c, d and e, of which d lies in the middle. A sketch of one number is the number itself.
AT = {"a": 0.0, "b": 1.0, "c": 20.0, "d": 23.0, "e": 25.0}


def cast(scores=None):
    told = {
        party: Release(sketch=np.float32([at]), score=scores[party] if scores else float("nan"))
        for party, at in AT.items()
    }
    return ballot(QUANTILES, told, absent=["z"])


def lesson(strategy, scores=None):
    say = {party: lambda recipe, at=at: Release(soft(QUANTILES, [at])) for party, at in AT.items()}
    return conclude(strategy, cast(scores), say)


def turns(strategy, scores=None):
    return strategy.teach(cast(scores)).follow_up.turns


def taught(lesson, party="a"):
    return float(lesson.teachers[party].labels.values[0, 0])


def test_the_medoid_of_each_group_speaks_first():
    """Of c, d and e it is d, then e; in the pair a and b are as near to each other, and b is nearer to all."""
    assert turns(sketched(sketch=1, groups=2)) == (("b", "d"), ("a", "e"), ("c",))
    assert turns(sketched(sketch=1, groups=2, speakers=2)) == (("a", "b", "d", "e"), ("c",))
    assert turns(sketched(sketch=1, groups=2, speakers=3)) == (("a", "b", "c", "d", "e"),)


def test_the_lowest_loss_speaks_first():
    scores = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.5, "e": 0.4}
    strategy = sketched(sketch=1, groups=2, reliability="heldout")
    assert turns(strategy, scores) == (("a", "c"), ("b", "e"), ("d",))
    assert (strategy.recipe.score, strategy.follow_up.score) == (True, False)
    assert not sketched().recipe.score


def test_the_teacher_by_hand():
    """The pair is spoken for by b with 1, the three by d with 23; who was away learns it too."""
    told = lesson(sketched(sketch=1, groups=2, aggregate="weighted"))
    assert told.groups == (("a", "b"), ("c", "d", "e"))
    assert {party: taught(told, party) for party in (*AT, "z")} == dict.fromkeys((*AT, "z"), pytest.approx(71 / 5))
    assert taught(lesson(sketched(sketch=1, groups=2, aggregate="mean"))) == 12
    assert taught(lesson(sketched(sketch=1, groups=2, weights="equal", aggregate="weighted"))) == 12
    assert taught(lesson(sketched(sketch=1, groups=2))) == 23  # the weighted median


def test_speakers_make_a_voice_before_voices_make_a_teacher():
    """Means 0.5 of a and b, and 24 of d and e: their mean is 12.25."""
    assert taught(lesson(sketched(sketch=1, groups=2, speakers=2, aggregate="mean"))) == 12.25


def test_a_group_without_a_speaker_has_no_voice():
    """Of b and d only d answers: it is taught alone, and the groups are told as they are."""
    strategy = sketched(sketch=1, groups=2, aggregate="mean")
    asked = strategy.teach(cast()).follow_up
    heard = ballot(QUANTILES, {"d": Release(soft(QUANTILES, [23]))}, absent=["a", "b", "c", "e"])
    told = strategy.teach(replace(heard, follow_up=asked))
    assert taught(told) == 23
    assert told.groups == (("a", "b"), ("c", "d", "e"))


@pytest.mark.parametrize("outputs", [QUANTILES, CLASSES], ids=["quantiles", "classes"])
@pytest.mark.parametrize("seed", [0, 1])
def test_only_speakers_send_soft_labels(outputs, seed):
    """With two groups of five, two of five participants send soft labels; the others a sketch of 32 numbers."""
    parties, seen = tuple("abcde"), []
    machine = Coordinator(Plan(parties, outputs, 300, rounds=1, quorum=5), sketched(groups=2, seed=seed), Raw())
    homes = {party: Build(party, outputs, seed=place, n_items=300) for place, party in enumerate(parties)}
    with InProcess(homes) as exchange:
        state, traffic = run(machine, exchange, observe=seen.append, clock=lambda: 0.0)
    assert state.phase is Phase.FINISHED
    sent = sorted(traffic.up[1].values())
    assert all(size < 350 for size in sent[:3])
    assert all(size > 300 * 3 * 4 for size in sent[3:])
    (closed,) = [effect for effect in seen if isinstance(effect, Closed)]
    assert (closed.answered, len(closed.groups)) == (parties, 2)


def test_a_speaker_that_never_sends_does_not_hold_up_the_run():
    """Whoever is asked on falls silent but one: the next are asked, turn by turn, and it ends with that one's words."""
    plan = Plan(tuple("abcde"), QUANTILES, 1, rounds=1, quorum=5, deadline_s=60.0)
    machine, asked, seen = Coordinator(plan, sketched(sketch=1, groups=2), Raw()), [], []

    def script(party, message):
        if not isinstance(message, Ask):
            return []
        told = Release(sketch=np.float32([AT[party]]))
        if message.recipe.release is Kind.LABELS:
            asked.append(party)
            if party != "c":
                return []
            told = Release(soft(QUANTILES, [AT[party]]))
        return [Answer(message.round, party, Raw().encode(told), message.question)]

    with Scripted(script) as exchange:
        state, _ = run(machine, exchange, observe=seen.append, clock=lambda: 0.0)
    assert (state.phase, asked) == (Phase.FINISHED, ["b", "d", "a", "e", "c"])
    assert Raw().decode(state.teachers["a"].payload).labels.values.tolist() == [[20, 20, 20]]
    (closed,) = [effect for effect in seen if isinstance(effect, Closed)]
    assert (closed.answered, closed.missing) == (("c",), ("a", "b", "d", "e"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"speakers": 0},
        {"seed": -1},
        {"similarity": "js"},
        {"grouping": "some"},
        {"reliability": "entropy"},
        {"weights": "rows"},
        {"aggregate": "best"},
    ],
    ids=str,
)
def test_wrong_options_show_before_a_run(wrong):
    with pytest.raises(ConfigError, match="|".join((*wrong, *map(str, wrong.values())))):
        sketched(**wrong)


def test_wrong_numbers_show_before_a_run():
    with pytest.raises(ValueError, match="sketch = 0 tells nothing"):
        sketched(sketch=0)
    with pytest.raises(ConfigError, match="'number' is 0"):
        rehearse(sketched(groups=0), QUANTILES)
