"""The contract of an algorithm, as tests to inherit.

A module of tests derives a class and says how to make the strategy; pytest does the rest::

    class TestMine(AlgorithmContract):
        def make(self):
            return mine(share=0.7)
"""
# ruff: noqa: S101 - these are tests, although they are shipped

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest

from fedstill.codecs.raw import Raw
from fedstill.flaws import flaw_of_labels
from fedstill.grouping.sketch import sketch
from fedstill.labels import Array, Outputs, Parameters, Party, Release, SoftLabels, Space
from fedstill.learners.base import divide
from fedstill.messages import Ask, Kind, Message, Recipe, Teach
from fedstill.round import Closed, Coordinator, Effect, Event, Phase, Plan
from fedstill.strategy import Ballot, Lesson, Strategy, Vote
from fedstill.testing.fakes import CLASSES, QUANTILES, START, Line, ballot, builds, rows
from fedstill.transports.calls import InProcess, run

PARTIES = ("a", "b", "c", "d", "e")
ITEMS = 8
INPUTS = rows(QUANTILES, ITEMS, seed=99).X
"""Inputs of the transfer set that `fakes.Build` gives its participants."""


def items(recipe: Recipe, outputs: Outputs) -> int:
    """How many rows soft labels have by that recipe."""
    return len(outputs) if recipe.about == "classes" else ITEMS


def beliefs(outputs: Outputs, seed: int, weight: Array | None = None, n: int = ITEMS) -> SoftLabels:
    """Well-formed soft labels about n items, drawn at random; read-only."""
    random = np.random.default_rng(seed)
    values = np.sort(random.normal(size=(n, len(outputs))), axis=1)
    if outputs.space is Space.PROBABILITIES:
        values = np.exp(2 * values) / np.exp(2 * values).sum(axis=1, keepdims=True)
    labels = SoftLabels.of(np.arange(n), values, outputs.space, weight)
    for array in (labels.items, labels.values, labels.weight):
        array.flags.writeable = False
    return labels


def start(recipe: Recipe) -> Parameters:
    """The common start of a `Line` of two features, without what stays at home."""
    return divide(Line(QUANTILES), START, recipe.home)[0]


def release(recipe: Recipe, outputs: Outputs, seed: int, weight: Array | None = None) -> Release:
    """What a participant might answer to that recipe."""
    random = np.random.default_rng(seed)
    count, score = 10 + seed if recipe.count else 0, 1.0 + seed if recipe.score else float("nan")
    if recipe.release is Kind.LABELS:
        return Release(beliefs(outputs, seed, weight, items(recipe, outputs)), count=count, score=score)
    if recipe.release is Kind.SKETCH:
        told = sketch(beliefs(outputs, seed, weight), recipe.sketch, recipe.seed)
        return Release(sketch=told, count=count, score=score)
    drawn = {name: random.normal(size=array.shape).astype(np.float32) for name, array in start(recipe).items()}
    within = float(random.integers(2)) if recipe.adaptive else float("nan")
    return Release(parameters=drawn, count=count, score=score, within=within)


def votes(strategy: Strategy, outputs: Outputs, parties: Sequence[Party] = PARTIES) -> Ballot:
    """A ballot in which those participants answered, and one did not."""
    cast = {party: release(strategy.recipe, outputs, seed) for seed, party in enumerate(parties)}
    return ballot(outputs, cast, absent=["z"], memory=strategy.memory, inputs=INPUTS)


Say = Callable[[Recipe], Release]
"""What a participant answers to a recipe."""


def says(outputs: Outputs, weights: Array | None = None) -> dict[Party, Say]:
    """What each of `PARTIES` answers; `weights` are those of its soft labels on items, (K, n)."""
    given = [None] * len(PARTIES) if weights is None else weights
    return {
        party: partial(release, outputs=outputs, seed=seed, weight=given[seed]) for seed, party in enumerate(PARTIES)
    }


def conclude(strategy: Strategy, cast: Ballot, say: Mapping[Party, Say] | None = None) -> Lesson:
    """What a round teaches in the end: whom the strategy asks on, answer by the recipe for it."""
    lesson = strategy.teach(cast)
    if lesson.follow_up is None:
        return lesson
    assert strategy.follow_up is not None
    assert all(turn and set(turn) <= set(cast.parties) for turn in lesson.follow_up.turns)
    say = says(cast.outputs) if say is None else say
    told = [Vote(party, say[party](strategy.follow_up)) for party in sorted(lesson.follow_up.turns[0])]
    concluded = strategy.teach(replace(cast, votes=told, follow_up=lesson.follow_up))
    assert concluded.follow_up is None
    return concluded


def taught(lesson: Lesson) -> dict[Party, bytes]:
    """Every teacher as the bytes of the raw codec."""
    return {party: Raw().encode(teacher) for party, teacher in lesson.teachers.items()}


def check_lesson(lesson: Lesson, cast: Ballot, recipe: Recipe) -> None:
    """Teachers are for participants, well-formed, and of the kind that was asked for; groups have each voter once."""
    assert set(lesson.teachers) <= set(cast.parties)
    grouped = sorted(party for group in lesson.groups for party in group)
    assert grouped in ([], [vote.party for vote in cast.votes])
    for payload in set(taught(lesson).values()):
        teacher = Raw().decode(payload)
        if recipe.release is Kind.LABELS:
            assert teacher.labels is not None
            assert not teacher.parameters
            assert flaw_of_labels(teacher.labels, cast.outputs, items(recipe, cast.outputs)) == ""
        else:
            assert teacher.labels is None
            shapes = {name: array.shape for name, array in start(recipe).items()}
            assert {name: array.shape for name, array in teacher.parameters.items()} == shapes
            assert all(np.isfinite(array).all() for array in teacher.parameters.values())


class AlgorithmContract:
    """What every algorithm keeps to. Derive, and override `make`."""

    spaces: ClassVar[tuple[Space, ...]] = (Space.QUANTILES, Space.PROBABILITIES)
    """The spaces that the algorithm is for."""

    faithful: ClassVar[bool] = True
    """Where all agree, that is what is taught. False for an algorithm that sharpens, or that teaches by a student."""

    def make(self) -> Strategy:
        """Build the strategy."""
        raise NotImplementedError

    @pytest.fixture(params=[QUANTILES, CLASSES], ids=["quantiles", "classes"])
    def outputs(self, request: pytest.FixtureRequest) -> Outputs:
        """Each kind of outputs in turn."""
        outputs: Outputs = request.param
        if outputs.space not in self.spaces:
            pytest.skip(f"this algorithm is not for {outputs.space}")
        return outputs

    @pytest.fixture
    def strategy(self) -> Strategy:
        """The strategy, with a common start where it exchanges parameters."""
        made = self.make()
        needs_start = made.parametric and made.memory is None
        return replace(made, memory=start(made.recipe)) if needs_start else made

    def test_it_is_pure(self, strategy: Strategy, outputs: Outputs) -> None:
        """Same ballot, same bytes, also from a strategy made anew; the ballot is read-only and stays as it was."""
        cast = votes(strategy, outputs)
        once = taught(conclude(strategy, cast))
        assert taught(conclude(strategy, cast)) == once
        assert taught(conclude(replace(self.make(), memory=strategy.memory), cast)) == once

    def test_teachers_are_well_formed(self, strategy: Strategy, outputs: Outputs) -> None:
        """From all, from two, and from one who answered."""
        for n in (5, 2, 1):
            cast = votes(strategy, outputs, PARTIES[:n])
            check_lesson(conclude(strategy, cast), cast, strategy.recipes[-1])

    def test_names_do_not_matter(self, strategy: Strategy, outputs: Outputs) -> None:
        """Had the participants other names, and so another order, each voice would be taught the same."""
        cast = votes(strategy, outputs)
        renamed = dict(zip(PARTIES, reversed(PARTIES), strict=True))
        told = {renamed[vote.party]: vote.release for vote in cast.votes}
        other = ballot(outputs, told, absent=["z"], memory=cast.memory, inputs=cast.inputs)
        say = {renamed[party]: said for party, said in says(outputs).items()}
        here, there = conclude(strategy, cast).teachers, conclude(strategy, other, say).teachers
        assert {renamed.get(party, party) for party in here} == set(there)
        for party, teacher in here.items():
            one, two = teacher, there[renamed.get(party, party)]
            if one.labels is not None and two.labels is not None:
                np.testing.assert_allclose(one.labels.values, two.labels.values, atol=1e-6)
            for name, array in one.parameters.items():
                np.testing.assert_allclose(array, two.parameters[name], atol=1e-6)

    def test_who_agrees_is_taught_just_that(self, strategy: Strategy, outputs: Outputs) -> None:
        """Where all say the same of everything, so do the teachers (of a gradient, where it leads to)."""
        if not self.faithful:
            pytest.skip("this algorithm says of itself that it does not")
        same = release(strategy.recipe, outputs, 3)
        cast = ballot(outputs, dict.fromkeys(PARTIES, same), memory=strategy.memory, inputs=INPUTS)
        say: dict[Party, Say] = dict.fromkeys(PARTIES, partial(release, outputs=outputs, seed=3))
        for teacher in conclude(strategy, cast, say).teachers.values():
            if teacher.labels is not None:
                told = beliefs(outputs, 3, n=items(strategy.recipes[-1], outputs))
                np.testing.assert_allclose(teacher.labels.values, told.values, atol=1e-6)
            elif strategy.recipe.release is Kind.PARAMETERS:
                for name, array in same.parameters.items():
                    np.testing.assert_allclose(teacher.parameters[name], array, atol=1e-6)

    def test_abstaining_is_allowed(self, strategy: Strategy, outputs: Outputs) -> None:
        """Voices without weight on some items, one without any, and an item of which nobody speaks."""
        if strategy.parametric:
            pytest.skip("parameters have no items to abstain from")
        shape = len(PARTIES), items(strategy.recipe, outputs)
        weights = np.random.default_rng(0).integers(0, 2, size=shape).astype(np.float32)
        weights[2], weights[:, shape[1] // 2] = 0, 0
        say = says(outputs, weights)
        told = {party: one(strategy.recipe) for party, one in say.items()}
        cast = ballot(outputs, told, memory=strategy.memory, inputs=INPUTS)
        check_lesson(conclude(strategy, cast, say), cast, strategy.recipes[-1])

    def test_memory_is_of_use(self, strategy: Strategy, outputs: Outputs) -> None:
        """What a round leaves to remember, the next one can start from."""
        cast = votes(strategy, outputs)
        again = replace(cast, memory=conclude(strategy, cast).memory)
        check_lesson(conclude(strategy, again), again, strategy.recipes[-1])

    def test_it_runs(self, strategy: Strategy, outputs: Outputs) -> None:
        """Two rounds with small models through the real coordinator: everybody answers and is taught."""
        plan = Plan(PARTIES, outputs, ITEMS, rounds=2, quorum=3)
        coordinator = Coordinator(plan, strategy, Raw(), INPUTS)
        seen: list[Event | Effect] = []
        with InProcess(builds(outputs, PARTIES)) as exchange:
            state, traffic = run(coordinator, exchange, observe=seen.append, clock=lambda: 0.0)
            notes = exchange.call(lambda one: one.notes, dict.fromkeys(PARTIES, ()))
        assert state.phase is Phase.FINISHED
        assert notes == {party: [] for party in PARTIES}
        closings = [effect for effect in seen if isinstance(effect, Closed)]
        assert [closing.answered for closing in closings] == [PARTIES] * (2 if strategy.rounds is None else 0)
        sent: list[Message] = [effect.message for effect in seen if hasattr(effect, "message")]
        assert {type(message) for message in sent} <= {Ask, Teach}
        assert (sorted(traffic.up) == [1, 2]) == (strategy.rounds is None)
