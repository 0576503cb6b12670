"""The participant: trains once, answers the same, survives bad teachers, and releases only what it was asked for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fedstill.codecs.raw import Raw
from fedstill.errors import LearnerError, WireError
from fedstill.grouping.sketch import sketch
from fedstill.keep import PRIOR
from fedstill.labels import Release
from fedstill.messages import Answer, Ask, Kind, Recipe, Refuse, Teach
from fedstill.participant import Participant
from fedstill.sites import Rows, loss
from fedstill.testing.fakes import CLASSES, QUANTILES, START, Build, Constant, Line, rows, soft
from fedstill.wire import unpack

RAW, N = Raw(), 8
LABELS = Recipe()
PARAMETERS = Recipe(Kind.PARAMETERS, epochs=3, learning_rate=0.1)
GRADIENTS = Recipe(Kind.GRADIENTS)


@pytest.fixture(params=[QUANTILES, CLASSES], ids=["quantiles", "classes"])
def outputs(request):
    return request.param


def fresh(outputs=QUANTILES, kind=Line, **more):
    kind.trainings = 0
    return Build("plant", outputs, kind, **more)()


def released(reply):
    assert isinstance(reply, Answer)
    return RAW.decode(reply.payload)


def teach(release, number=1, recipe=LABELS):
    return Teach(number, recipe, RAW.encode(release))


def constant_teacher(outputs, row):
    return Release(soft(outputs, [row] * N))


def holding_nothing_back(kind=Line):
    """A participant whose rows are in no fold."""
    kind.trainings = 0
    made = Build("plant", QUANTILES, kind)()
    site = replace(made.site, fold=np.full(len(made.site.rows), -1))
    return Participant(site, made.make, QUANTILES, made.X_transfer, RAW, voices=4)


def mean_row(rows):
    """What a `Constant` of quantiles has learned from these rows."""
    return rows.y.mean() + np.array([-0.4, 0, 0.4])


def loss_of(row, rows):
    """The loss of a model that says one row of all rows."""
    return pytest.approx(loss(QUANTILES, rows.y, np.tile(row, (len(rows), 1))), rel=1e-5)


# Answering.


def test_it_answers_with_its_own_model(outputs):
    """Before any teacher: the predictions of a model fitted to all of its rows, for every item of the transfer set."""
    participant = fresh(outputs)
    release = released(participant.handle(Ask(1, LABELS)))
    own = participant.site.rows
    assert len(own) == 30
    expected = Line(outputs).fit(own.X, own.y).predict(participant.X_transfer)
    np.testing.assert_array_equal(release.labels.values, expected)
    assert release.labels.space is outputs.space
    assert release.labels.items.tolist() == list(range(N))
    assert release.labels.weight.tolist() == [1] * N


@pytest.mark.parametrize("recipe", [LABELS, PARAMETERS, GRADIENTS], ids=lambda recipe: recipe.release)
def test_asked_twice_it_answers_the_same_and_trains_once(recipe):
    participant = fresh()
    first = participant.handle(Ask(1, recipe))
    trainings = Line.trainings
    assert trainings == (0 if recipe is GRADIENTS else 1)
    assert participant.handle(Ask(1, recipe)) is first
    assert participant.handle(Ask(1, replace(recipe, epochs=9, score=True))) is first
    assert Line.trainings == trainings


def test_an_old_answer_is_kept_after_a_teacher():
    """Asked again about round 1 when round 2 is open, it still says what it said."""
    participant = fresh()
    first = participant.handle(Ask(1, LABELS))
    participant.handle(teach(constant_teacher(QUANTILES, 7)))
    second = participant.handle(Ask(2, LABELS))
    assert second.payload != first.payload
    assert participant.handle(Ask(1, LABELS)) is first


def test_questions_of_a_round_are_told_apart(outputs):
    """The sketch is that of the soft labels it sends when it is asked on; each question has one answer."""
    participant = fresh(outputs)
    first = participant.handle(Ask(1, Recipe(Kind.SKETCH, sketch=5, seed=3)))
    second = participant.handle(Ask(1, LABELS, 2))
    assert (first.question, second.question) == (1, 2)
    assert participant.handle(Ask(1, LABELS, 1)) is first
    assert participant.handle(Ask(1, LABELS, 2)) is second
    assert Line.trainings == 1
    np.testing.assert_array_equal(released(first).sketch, sketch(released(second).labels, 5, seed=3))


def test_parameters_by_hand():
    """From 0 at step 0.1, a gradient of the mean target: the first epoch moves b by a tenth of that mean.

    It is the mean of the 20 rows outside the watched fold, which parameters never see.
    """
    participant = fresh()
    recipe = replace(PARAMETERS, epochs=1)
    gradient = released(participant.handle(Ask(1, GRADIENTS))).parameters
    moved = released(participant.handle(Ask(2, recipe))).parameters
    seen = participant.site.rows.y[np.arange(30) % 3 != 0]
    np.testing.assert_allclose(gradient["b"], -(seen.mean() + np.array([-0.4, 0, 0.4])), rtol=1e-5)
    np.testing.assert_allclose(moved["b"], -0.1 * gradient["b"], rtol=1e-5)
    np.testing.assert_allclose(moved["w"], -0.1 * gradient["w"], rtol=1e-5)


def test_training_starts_from_what_was_taught():
    """A round that taught nothing leaves no trace: the next trains from the common parameters, not from its own."""
    participant = fresh()
    first = released(participant.handle(Ask(1, PARAMETERS))).parameters
    second = released(participant.handle(Ask(2, PARAMETERS))).parameters
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])

    participant.handle(teach(Release(parameters=START), 2, PARAMETERS))
    participant.handle(Ask(3, PARAMETERS))
    assert not participant.distilled.predict(participant.X_transfer)[:, 1].any()


# What leaves.


class Spy:
    """A codec that keeps what it was given."""

    def __init__(self):
        self.releases = []

    def encode(self, release):
        self.releases.append(release)
        return RAW.encode(release)

    def decode(self, payload):
        return RAW.decode(payload)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("count", [False, True])
@pytest.mark.parametrize("score", [False, True])
def test_only_what_the_recipe_asks_for_leaves(kind, count, score):
    """Labels or parameters, and the two numbers beside them only if asked; of the labels only the transfer set's."""
    spy = Spy()
    participant = fresh(codec=spy)
    answer = participant.handle(Ask(1, Recipe(kind, count=count, score=score)))
    (release,) = spy.releases
    assert answer == Answer(1, "plant", RAW.encode(release))
    assert (release.labels is None) == (kind is not Kind.LABELS)
    assert set(release.parameters) == ({"w", "b"} if kind in (Kind.PARAMETERS, Kind.GRADIENTS) else set())
    assert (release.sketch is None) == (kind is not Kind.SKETCH)
    rows = 30 if kind in (Kind.LABELS, Kind.SKETCH) else 20  # a common model never sees the watched fold
    assert release.count == (rows if count else 0)
    assert math.isnan(release.score) != score
    if kind is Kind.LABELS:
        assert release.labels.values.shape == (N, 3)
    if kind is Kind.SKETCH:
        assert release.sketch.shape == (32,)
    if score:
        assert release.score == pytest.approx(watched_by_hand(participant.site, kind), rel=1e-5)


def watched_by_hand(site, kind):
    """The loss on fold 0 of the line through the other rows; of parameters, of what an epoch made of them."""
    own, watched, seen = site.rows, np.arange(30) % 3 == 0, np.arange(30) % 3 != 0
    if kind in (Kind.LABELS, Kind.SKETCH):
        line = Line(QUANTILES).fit(own.X[seen], own.y[seen])
    else:
        line = Line(QUANTILES).initialise(2)
    if kind is Kind.PARAMETERS:
        recipe = Recipe(kind)
        line.train(own.X[seen], own.y[seen], recipe.epochs, recipe.learning_rate)
    return loss(QUANTILES, own.y[watched], line.predict(own.X[watched]))


@pytest.mark.parametrize("kind", Kind)
def test_without_folds_no_score_can_be_told(kind):
    """Nothing is held back, so that nothing can be said of unseen rows."""
    participant = holding_nothing_back()
    assert isinstance(participant.handle(Ask(1, Recipe(kind, score=True))), Refuse)
    assert "Set task.folds to 2 or more" in participant.notes[0]
    assert math.isnan(released(participant.handle(Ask(2, Recipe(kind)))).score)


def test_without_folds_parameters_learn_from_all_rows():
    participant = holding_nothing_back()
    gradient = released(participant.handle(Ask(1, GRADIENTS))).parameters["b"]
    np.testing.assert_allclose(gradient, -mean_row(participant.site.rows), rtol=1e-5)


def test_no_private_row_is_in_the_bytes():
    """An answer holds one table and three plain values; nothing of the site's rows or targets stands in it."""
    participant = fresh()
    payload = participant.handle(Ask(1, LABELS)).payload
    header, arrays = unpack(payload, dict)
    assert set(header) == {"space", "count", "score"}
    assert {name: array.shape for name, array in arrays.items()} == {"values": (N, 3)}
    for row in participant.site.rows.X:
        assert row.astype("<f4").tobytes() not in payload
    for target in participant.site.rows.y:
        assert np.float32(target).tobytes() not in payload
        assert np.float64(target).tobytes() not in payload


# Learning.


def test_a_teacher_is_distilled():
    """A constant model whose rows have the mean m, and a teacher of 7: half of each with share 0.5.

    What speaks has learned from all rows. Its loss is that, on fold 0, of one that has not seen fold 0.
    """
    participant = fresh(kind=Constant)
    participant.handle(teach(constant_teacher(QUANTILES, 7)))
    site = participant.site
    said = participant.distilled.predict(np.zeros((1, 2)))[0]
    np.testing.assert_allclose(said, (mean_row(site.rows) + 7) / 2, rtol=1e-6)
    unseen = (mean_row(site.without(0)) + 7) / 2
    assert participant.losses == {1: loss_of(unseen, site.held_back([0]))}
    assert Constant.trainings == 2  # the other folds are left for the end


def test_without_folds_a_teacher_is_distilled_and_its_loss_unknown():
    participant = holding_nothing_back(Constant)
    participant.handle(teach(constant_teacher(QUANTILES, 7)))
    np.testing.assert_allclose(
        participant.distilled.predict(np.zeros((1, 2)))[0], (mean_row(participant.site.rows) + 7) / 2, rtol=1e-6
    )
    assert math.isnan(participant.losses[1])
    assert Constant.trainings == 1


def test_the_share_is_the_teachers():
    participant = fresh(kind=Constant)
    participant.handle(teach(constant_teacher(CLASSES, [1, 0, 0]), recipe=Recipe(share=1.0)))
    assert participant.distilled is None  # of another space: see the notes
    participant.handle(teach(constant_teacher(QUANTILES, 7), recipe=Recipe(share=1.0)))
    assert participant.distilled.predict(np.zeros((1, 2))).tolist() == [[7, 7, 7]]


def test_abstained_items_do_not_teach():
    """Weight 0 on all items that say 100: only the one that says 7 counts."""
    participant = fresh(kind=Constant)
    labels = soft(QUANTILES, [7] + [100] * (N - 1), weight=[1] + [0] * (N - 1))
    participant.handle(teach(Release(labels), recipe=Recipe(share=1.0)))
    assert participant.distilled.predict(np.zeros((1, 2))).tolist() == [[7, 7, 7]]


def test_parameters_are_taken_over():
    participant = fresh()
    told = {"w": np.zeros((2, 3)), "b": np.array([1.0, 2.0, 3.0])}
    assert participant.handle(teach(Release(parameters=told), recipe=PARAMETERS)) is None
    assert participant.distilled.predict(np.zeros((1, 2))).tolist() == [[1, 2, 3]]
    assert participant.losses == {1: loss_of([1, 2, 3], participant.site.held_back([0]))}


def test_after_a_teacher_it_speaks_with_the_distilled_model():
    participant = fresh(kind=Constant)
    participant.handle(Ask(1, LABELS))
    participant.handle(teach(constant_teacher(QUANTILES, 7), recipe=Recipe(share=1.0)))
    assert set(released(participant.handle(Ask(2, LABELS))).labels.values.ravel().tolist()) == {7}


def test_old_teachers_are_ignored():
    """A teacher of an earlier round, or the same again, changes nothing and trains nothing."""
    participant = fresh(kind=Constant)
    participant.handle(teach(constant_teacher(QUANTILES, 7), 2, Recipe(share=1.0)))
    trainings = Constant.trainings
    for number in (2, 1, -1):
        assert participant.handle(teach(constant_teacher(QUANTILES, 9), number, Recipe(share=1.0))) is None
    assert participant.distilled.predict(np.zeros((1, 2))).tolist() == [[7, 7, 7]]
    assert Constant.trainings == trainings
    assert list(participant.losses) == [2]


BAD_TEACHERS = {
    "noise": b"noise",
    "nothing": RAW.encode(Release()),
    "too few items": RAW.encode(Release(soft(QUANTILES, [1] * (N - 1)))),
    "another space": RAW.encode(constant_teacher(CLASSES, [1, 0, 0])),
    "not finite": RAW.encode(constant_teacher(QUANTILES, float("nan"))),
    "crossing": RAW.encode(constant_teacher(QUANTILES, [3, 2, 1])),
    "negative weight": RAW.encode(Release(soft(QUANTILES, [1] * N, weight=[-1] * N))),
    "other parameters": RAW.encode(Release(parameters={"w": np.zeros(1)})),
    "parameters not finite": RAW.encode(Release(parameters={**START, "b": np.full(3, np.inf)})),
}


@pytest.mark.parametrize("name", BAD_TEACHERS)
def test_a_teacher_that_cannot_be_right_is_noted_not_fatal(name):
    """The model stays, the note names the round, and a later good teacher is taken, even of the same round."""
    participant = fresh()
    assert participant.handle(Teach(1, LABELS, BAD_TEACHERS[name])) is None
    assert (participant.distilled, participant.losses) == (None, {})
    (note,) = participant.notes
    assert note.startswith("the teacher of round 1 was of no use: ")
    participant.handle(teach(constant_teacher(QUANTILES, 7)))
    assert participant.distilled is not None
    assert len(participant.notes) == 1


# Refusing.


class Failing(Constant):
    """A learner that cannot learn."""

    def fit(self, X, y):
        del X, y
        raise LearnerError("there are too few rows", where="row 17", remedy="Give more")


def test_errors_become_refusals():
    """Whoever asks hears the kind of fault; what it says may quote data, and stays in the participant's own notes."""
    participant = fresh(kind=Failing)
    refusal = participant.handle(Ask(3, LABELS))
    assert refusal == Refuse(3, "plant", "LearnerError, its own notes say more")
    assert participant.handle(Ask(3, LABELS)) is refusal
    assert participant.notes == ["round 3 was refused: row 17: there are too few rows. Give more"]


@pytest.mark.parametrize("recipe", [PARAMETERS, GRADIENTS], ids=lambda recipe: recipe.release)
def test_without_parameters_it_refuses_to_share_them(recipe):
    participant = fresh(kind=Constant)
    assert isinstance(participant.handle(Ask(1, recipe)), Refuse)
    assert "a Constant has no parameters to share" in participant.notes[0]


def test_a_codec_that_cannot_becomes_a_refusal():
    class Broken(Raw):
        def encode(self, release):
            raise WireError("this does not travel")

    refusal = fresh(codec=Broken()).handle(Ask(1, LABELS))
    assert refusal == Refuse(1, "plant", "WireError, its own notes say more")


class Diverging(Line):
    """A line whose training ends in the infinite."""

    def train(self, X, y, epochs, learning_rate, proximal=0.0):
        super().train(X, y, epochs, learning_rate, proximal)
        self.arrays["b"] = self.arrays["b"] + np.inf

    def predict(self, X):
        if not np.isfinite(self.arrays["b"]).all():
            raise LearnerError("predictions are not finite")
        return super().predict(X)


def test_what_fails_in_training_does_not_spoil_the_common_model():
    """Training that diverges is refused; the next round starts from the common parameters again."""
    participant = fresh(kind=Diverging)
    refusal = participant.handle(Ask(1, replace(PARAMETERS, score=True)))
    assert isinstance(refusal, Refuse)
    assert "predictions are not finite" in participant.notes[0]
    gradient = released(participant.handle(Ask(2, GRADIENTS))).parameters
    assert np.isfinite(gradient["b"]).all()


# At the end.


def test_predictions_and_choice():
    """Candidates are what there is, the distilled model first; what is kept is chosen by rows they have not seen."""
    participant = fresh()
    X = participant.site.rows.X
    assert list(participant.predict(X)) == list(participant.held_out()[1]) == ["own", "floor"]
    assert participant.choose().weights["own"] >= 0.5
    participant.handle(teach(constant_teacher(QUANTILES, 50), recipe=Recipe(share=1.0)))
    assert list(participant.predict(X)) == list(participant.held_out()[1]) == ["distilled", "own", "floor"]
    kept = participant.choose()
    assert kept.name == "own"  # a line fits the problem, a teacher of 50 does not
    assert list(participant.models(kept)) == ["own"]
    everything = replace(kept, weights={"distilled": 0.5, "own": 0.25, "floor": 0.25})
    assert list(participant.models(everything)) == ["distilled", "own"]


def test_it_is_judged_on_every_row_by_models_that_have_not_seen_it():
    """Three folds: of each row the mean of the two others' rows is said, and of the distilled half of it and of 7."""
    participant = fresh(kind=Constant)
    participant.handle(teach(constant_teacher(QUANTILES, 7)))
    held, said = participant.held_out()
    site = participant.site
    np.testing.assert_array_equal(held.y, site.rows.y)
    others = np.array([mean_row(site.without(row % 3)) for row in range(30)])
    np.testing.assert_allclose(said["own"], others, rtol=1e-5)
    np.testing.assert_allclose(said["distilled"], (others + 7) / 2, rtol=1e-5)
    np.testing.assert_array_equal(said["floor"], site.floor.predict(site.rows.X))
    assert Constant.trainings == 1 + 3 + 3  # the distilled that speaks, and both kinds without each fold
    participant.held_out()
    assert Constant.trainings == 7


def test_shared_parameters_are_judged_by_the_watched_fold_alone():
    """They have seen all others; the own model is judged by that fold as well."""
    participant = fresh()
    told = {"w": np.zeros((2, 3)), "b": np.array([1.0, 2.0, 3.0])}
    participant.handle(teach(Release(parameters=told), recipe=PARAMETERS))
    held, said = participant.held_out()
    own = participant.site.rows
    watched, seen = np.arange(30) % 3 == 0, np.arange(30) % 3 != 0
    np.testing.assert_array_equal(held.y, own.y[watched])
    assert said["distilled"].tolist() == [[1, 2, 3]] * 10
    line = Line(QUANTILES).fit(own.X[seen], own.y[seen])
    np.testing.assert_array_equal(said["own"], line.predict(own.X[watched]))


def test_without_folds_the_prior_decides():
    participant = holding_nothing_back(Constant)
    participant.handle(teach(constant_teacher(QUANTILES, 7)))
    held, said = participant.held_out()
    assert len(held) == 0
    assert {name: values.shape for name, values in said.items()} == dict.fromkeys(PRIOR, (0, 3))
    assert dict(participant.choose().weights) == PRIOR
    assert Constant.trainings == 1


def test_the_pooled_reference():
    """It learns from everybody's rows: here a line through both sites' rows at once.

    It is judged by the watched fold alone, so that it is made once more and not once more a fold.
    """
    participant, other = fresh(seed=1), rows(QUANTILES, 30, 2)
    participant.learn_from(other)
    everybody = Rows.stack([participant.site.rows, other])
    expected = Line(QUANTILES).fit(everybody.X, everybody.y).predict(other.X)
    np.testing.assert_array_equal(participant.distilled.predict(other.X), expected)
    held, said = participant.held_out()
    watched = participant.site.held_back([0])
    np.testing.assert_array_equal(held.y, watched.y)
    unseen = Rows.stack([participant.site.without(0), other])
    np.testing.assert_array_equal(said["distilled"], Line(QUANTILES).fit(unseen.X, unseen.y).predict(watched.X))


class NeedsRow(Constant):
    """A learner that cannot do without one row: the first input of row 1, which is in fold 1."""

    row = 1

    def fit(self, X, y):
        if rows(QUANTILES, 30).X[self.row, 0] not in X[:, 0]:
            raise LearnerError("a row is missing")
        return super().fit(X, y)


class NeedsWatchedRow(NeedsRow):
    """The same of row 0, which is in the watched fold."""

    row = 0


def test_a_model_that_cannot_be_judged_is_not_kept():
    """It still speaks: only without fold 1 there is none of its kind. Both notes stand there once."""
    participant = fresh(kind=NeedsRow)
    assert isinstance(participant.handle(Ask(1, LABELS)), Answer)
    participant.handle(teach(constant_teacher(QUANTILES, 7), recipe=Recipe(share=0.5)))
    assert set(participant.losses) == {1}
    assert list(participant.predict(participant.X_transfer)) == ["distilled", "own", "floor"]
    assert [list(participant.held_out()[1]) for _ in range(2)] == [["floor"], ["floor"]]
    assert participant.choose().weights == {"floor": 1.0}
    why = "a row is missing"
    assert [note.removesuffix(why) for note in participant.notes] == [
        "nothing is kept of the distilled model: ",
        "nothing is kept of the own model: ",
    ]


def test_a_teacher_whose_use_cannot_be_watched_is_not_taken():
    """The round goes on without it, and the model that was there speaks on."""
    participant = fresh(kind=NeedsWatchedRow)
    before = participant.handle(Ask(1, LABELS)).payload
    assert participant.handle(teach(constant_teacher(QUANTILES, 7))) is None
    assert participant.notes == ["the teacher of round 1 was of no use: a row is missing"]
    assert (participant.distilled, participant.losses) == (None, {})
    assert participant.handle(Ask(2, LABELS)).payload == before


class Hollow(Constant):
    """A learner whose length is 0, as that of an ensemble without members."""

    def __len__(self):
        return 0


def test_a_models_length_is_no_matter():
    """A distilled model that counts as false is still the one that speaks."""
    participant = fresh(kind=Hollow)
    participant.handle(teach(constant_teacher(QUANTILES, 7), recipe=Recipe(share=1.0)))
    assert set(released(participant.handle(Ask(2, LABELS))).labels.values.ravel().tolist()) == {7}


@pytest.mark.parametrize(
    "impossible",
    [
        {"share": 1.5},
        {"share": -0.1},
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"sketch": 0},
    ],
    ids=str,
)
def test_recipes_that_nobody_can_follow_do_not_exist(impossible):
    with pytest.raises(ValueError, match=next(iter(impossible))):
        Recipe(**impossible)
