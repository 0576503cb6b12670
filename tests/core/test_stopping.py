"""Early stopping: by relative falls of each participant's own loss, whoever is heard, and not before its time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rounds import ABC, PLAN, RAW, of, play

from fedstill.algorithms.fedmd import fedmd
from fedstill.algorithms.sketched import sketched
from fedstill.labels import Release
from fedstill.messages import Answer, Refuse
from fedstill.round import Closed, Coordinator, Finished, Phase, Received, Started
from fedstill.stopping import LEAST_GAIN, Progress
from fedstill.testing.fakes import QUANTILES, soft

SCORED = fedmd().scored()


def told(*rounds):
    """Progress after rounds of losses."""
    progress = Progress()
    for losses in rounds:
        progress = progress.after(losses)
    return progress


def test_a_fall_is_a_mean_of_relative_falls():
    """From 1 and 100 to 0.5 and 120: halved and a fifth more, so 15 % less on average, though the sum has grown."""
    assert told({"a": 1.0, "b": 100.0}, {"a": 0.5, "b": 120.0}) == Progress({"a": 0.5, "b": 120.0}, 0)


def test_what_is_no_better_leaves_the_best_as_it_was():
    first = {"a": 1.0, "b": 2.0}
    assert told(first, {"a": 1.0, "b": 2.0}) == Progress(first, 1)
    assert told(first, {"a": 1.1, "b": 2.0}, {"a": 1.0 - LEAST_GAIN / 2, "b": 2.0}) == Progress(first, 2)
    assert told(first, {"a": 1.1, "b": 2.0}, {"a": 0.9, "b": 2.0}) == Progress({"a": 0.9, "b": 2.0}, 0)


def test_only_who_was_heard_both_times_is_compared():
    """Where b is new and c is gone: a alone has fallen, by a tenth."""
    assert told({"a": 1.0, "c": 1.0}, {"a": 0.9, "b": 9.0}).stale == 0
    assert told({"a": 1.0, "c": 9.0}, {"a": 1.0, "b": 0.1}).stale == 1
    assert told({"a": 1.0}, {}) == Progress({"a": 1.0}, 0)
    assert told({"a": 0.0}, {"a": 0.0}).stale == 0  # nothing to divide by: not compared


def scored(sender, number, loss):
    release = Release(soft(QUANTILES, [0, 0]), score=loss)
    return Received(Answer(number, sender, RAW.encode(release)), 0.0)


def rounds(*losses):
    """Events of rounds in which all tell the same loss."""
    return [Started(0.0), *(scored(party, n, loss) for n, loss in enumerate(losses, 1) for party in ABC)]


@pytest.mark.parametrize(
    ("stop_after", "losses", "closed"),
    [
        (1, [1.0, 1.0], 2),
        (2, [1.0, 1.0, 1.1], 3),
        (2, [1.0, 1.0, 0.9, 0.9, 0.9], 5),
        (None, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 6),
        (9, [1.0] * 6, 6),
    ],
)
def test_a_run_ends_when_nothing_got_better(stop_after, losses, closed):
    """The round that shows it still teaches; then the run is finished, though six rounds were planned."""
    coordinator = Coordinator(replace(PLAN, rounds=6, stop_after=stop_after), SCORED, RAW)
    state, effects = play(coordinator, *rounds(*losses))
    assert len(of(Closed, effects)) == closed
    assert of(Finished, effects) == [Finished(closed)]
    assert state.phase is Phase.FINISHED


def test_it_goes_on_while_it_pays():
    coordinator = Coordinator(replace(PLAN, rounds=6, stop_after=1), SCORED, RAW)
    state, _ = play(coordinator, *rounds(1.0, 0.9, 0.8))
    assert (state.phase, state.round) == (Phase.OPEN, 4)


def test_who_refuses_is_not_asked_for_a_loss():
    coordinator = Coordinator(replace(PLAN, rounds=6, stop_after=1), SCORED, RAW)
    said = [Started(0.0)]
    for n in (1, 2):
        said += [scored("a", n, 1.0), scored("b", n, 2.0), Received(Refuse(n, "c", "no"), 0.0)]
    state, _ = play(coordinator, *said)
    assert (state.phase, dict(state.progress.best)) == (Phase.FINISHED, {"a": 1.0, "b": 2.0})


def test_losses_must_be_asked_for():
    with pytest.raises(ValueError, match="asks for no losses"):
        Coordinator(replace(PLAN, stop_after=1), fedmd(), RAW)
    with pytest.raises(ValueError, match="0 rounds without progress"):
        replace(PLAN, stop_after=0)
    strategy = sketched().scored()
    assert all(recipe.score for recipe in strategy.recipes)
    assert len(strategy.recipes) == 2
