"""The participant's half of a round, top to bottom: train, predict, protect, encode, charge, answer; decode, distil.

A participant answers one message at a time and knows no algorithm: the recipe in the message says what to do. An
answer is computed once and sent again as it is: being asked twice never trains or releases twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np

from fedstill.codecs.base import Codec
from fedstill.crossfit import CrossFit
from fedstill.density import certainty
from fedstill.errors import BudgetSpent, FedstillError, LearnerError
from fedstill.flaws import flaw_of_labels
from fedstill.grouping.sketch import sketch
from fedstill.keep import Kept, choose
from fedstill.labels import Array, Outputs, Parameters, Release, SoftLabels
from fedstill.learners.base import Learner, Parametric, divide
from fedstill.messages import PARAMETRIC, Answer, Ask, Kind, Message, Recipe, Refuse, Reply, Teach
from fedstill.privacy.base import Work
from fedstill.privacy.guard import Guard
from fedstill.sites import Rows, Site, loss

WATCHED = 0
"""The fold by which a participant sees, round by round, how good its model is."""


class MakeLearner(Protocol):
    """Builds an untrained model of the participant's own kind; a seed of None is the participant's own."""

    def __call__(self, seed: int | None = None) -> Learner:
        """Build it."""
        ...


class Participant:
    """An enterprise taking part.

    Parameters
    ----------
    site:
        Its rows and its floor.
    make:
        Builds its kind of model.
    outputs:
        What every model of the federation predicts.
    X_transfer:
        The transfer set's inputs, shape (m, f).
    codec:
        The federation's codec.
    voices:
        How many take part: what it says makes up that part of a teacher.
    guard:
        What stands between its data and all that leaves; None: nothing but a list of what left.
    """

    def __init__(
        self,
        site: Site,
        make: MakeLearner,
        outputs: Outputs,
        X_transfer: Array,
        codec: Codec,
        voices: int,
        guard: Guard | None = None,
    ) -> None:
        self.site = site
        self.make = make
        self.outputs = outputs
        self.X_transfer = X_transfer
        self.codec = codec
        self.voices = voices
        self.guard = guard or Guard.open()
        self.hearsay = 0.0
        """The part of the distilled model's teacher that has seen the rows by which the model is judged."""
        self.distilled: Learner | None = None
        self.losses: dict[int, float] = {}
        self.notes: list[str] = []
        self._own: Learner | None = None
        self._own_unseen = CrossFit(site, len(outputs), self._fit)
        self._distilled_unseen: CrossFit | None = None
        self._judged_by: Sequence[int] = site.folds
        self._shared: Parametric | None = None
        self._stays: Parameters = {}
        self._replies: dict[tuple[int, int], Reply] = {}
        self._taught = 0

    @property
    def own(self) -> Learner:
        """The model that learned from the site's own rows alone."""
        if self._own is None:
            self._own = self._fit(self.site.rows)
        return self._own

    def _fit(self, rows: Rows) -> Learner:
        return self.make().fit(rows.X, rows.y)

    def handle(self, message: Message) -> Reply | None:
        """Answer a question, or learn from a teacher. A fault here becomes a refusal, never a stall."""
        if isinstance(message, Ask):
            asked = message.round, message.question
            if asked not in self._replies:
                reply = self._answer(message)
                if reply is None:
                    return None
                self._replies[asked] = reply
            return self._replies[asked]
        if message.round > self._taught:
            self._learn(message)
        return None

    def remember(self, reply: Reply) -> None:
        """Take up an answer that was given before a restart: asked again, it is sent as it was."""
        self._replies[reply.round, reply.question] = reply

    def retrace(self, ask: Ask) -> None:
        """Be where a question has left it that was asked before a restart.

        An answer that is remembered was paid for, and is not made again; but what an update left at home is.
        """
        if (ask.round, ask.question) not in self._replies:
            self.handle(ask)
        elif ask.recipe.release in PARAMETRIC:
            try:
                self._trained(ask.recipe)
            except Exception as error:  # as when it was refused
                self.notes.append(f"round {ask.round} was not trained for again: {_told(error)}")

    def _answer(self, ask: Ask) -> Reply | None:
        """An answer or a refusal that is paid for; None where its owner's budget does not even pay for a refusal."""
        reply, free = self._reply(ask)
        what = f"{ask.recipe.release}" if isinstance(reply, Answer) else "a refusal"
        try:
            self.guard.charge(reply, what, free=free)
        except BudgetSpent as error:
            self.notes.append(f"round {ask.round} was not answered: {_told(error)}")
            return None
        return reply

    def _reply(self, ask: Ask) -> tuple[Reply, bool]:
        """What it would say, and whether that says nothing of its data but what is paid for."""
        party, recipe = self.site.party, ask.recipe
        try:
            if recipe.release in PARAMETRIC:
                release = self._update(recipe, ask.clip or recipe.clip)
            else:
                release = self._sketch(recipe) if recipe.release is Kind.SKETCH else self._labels(recipe)
            return Answer(ask.round, party, self.codec.encode(release), ask.question), self.guard.pays_for(recipe)
        except BudgetSpent as error:  # which follows from what was spent before, and not from data
            self.notes.append(f"round {ask.round} was refused: {_told(error)}")
            return Refuse(ask.round, party, error.what, ask.question), True
        except Exception as error:  # whatever a learner raises: one participant's fault must not end everybody's run
            self.notes.append(f"round {ask.round} was refused: {_told(error)}")
            # The message of an error may quote a private row, so only its kind leaves the site.
            return Refuse(ask.round, party, f"{type(error).__name__}, its own notes say more", ask.question), False

    def _labels(self, recipe: Recipe) -> Release:
        labels = self._on_classes(self._speaking()) if recipe.about == "classes" else self._on_items(recipe)
        return Release(labels=labels, count=self._count(recipe), score=self._score(recipe, self._watched_loss))

    def _sketch(self, recipe: Recipe) -> Release:
        told = sketch(self._on_items(recipe), recipe.sketch, recipe.seed)
        return Release(sketch=told, count=self._count(recipe), score=self._score(recipe, self._watched_loss))

    def _speaking(self) -> Learner:
        return self.own if self.distilled is None else self.distilled  # an ensemble's truth may be its length

    def _on_items(self, recipe: Recipe) -> SoftLabels:
        values, weight = self._values(), None
        if recipe.certainty:
            soft = recipe.certainty == "soft"
            weight = certainty(self.site.rows.X, self.X_transfer, soft=soft, cutoff=recipe.cutoff)
        return SoftLabels.of(np.arange(len(values)), values, self.outputs.space, weight)

    def _values(self) -> Array:
        """Soft labels of all items: of the model that speaks, or of what its mechanism has released."""

        def voice() -> Array:
            return self._speaking().predict(self.X_transfer)

        guard = self.guard
        if guard.mechanism is None:
            return voice()
        if self.site.view is None or guard.public is None:
            raise LearnerError("this task has no view for a private release", remedy="Choose no mechanism")
        return guard.labels(Work(self.site.view, guard.public, self.outputs, self.make, voice, guard.answers))

    def _on_classes(self, model: Learner) -> SoftLabels:
        """A row for each class: the mean over the private rows of that class; it abstains where there are none."""
        k, own = len(self.outputs), self.site.rows
        of_class = np.eye(k)[own.y].T
        counts = of_class.sum(axis=1)
        sums = of_class @ np.asarray(model.predict(own.X), np.float64)
        rows = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], 1 / k)
        return SoftLabels.of(np.arange(k), rows, self.outputs.space, counts > 0)

    def _update(self, recipe: Recipe, clip: float) -> Release:
        if self.guard.mechanism is None and not clip:
            return self._trained(recipe)
        plain = Release()
        start = self._start(recipe).parameters() if recipe.release is Kind.PARAMETERS else {}
        start = {name: np.asarray(array, np.float64) for name, array in start.items()}

        def work() -> Parameters:
            nonlocal plain
            plain = self._trained(recipe)
            return {name: array - start.get(name, 0.0) for name, array in plain.parameters.items()}

        told = self.guard.update(recipe, clip, work)
        parameters = {name: start.get(name, 0.0) + array for name, array in told.update.items()}
        return replace(plain, parameters=parameters, within=told.within)

    def _trained(self, recipe: Recipe) -> Release:
        """Parameters after training, or the gradient, with nothing done to them."""
        model, train = self._start(recipe), self.site.without(WATCHED)
        common = model.parameters()
        try:
            if recipe.release is Kind.GRADIENTS:
                parameters = model.gradient(train.X, train.y)
            else:
                self._train(model, recipe, recipe.epochs)
                parameters = model.parameters()
            travels, stays = divide(model, parameters, recipe.home)
            score = self._score(recipe, lambda: self._loss(model.predict(self._watched.X)))
            release = Release(parameters=travels, count=len(train) if recipe.count else 0, score=score)
            self._stays = stays  # for when the round teaches: what stays belongs to what is taught then
            return release
        finally:
            model.set_parameters(common)  # a round that fails, or teaches nothing, leaves it as it was taught

    def _learn(self, teach: Teach) -> None:
        recipe = teach.recipe
        try:
            release = self.codec.decode(teach.payload)
            if release.labels is not None:
                self._taught_by(release.labels, recipe)
            else:
                model = self._start(recipe)
                model.set_parameters({**release.parameters, **self._stays})  # no teacher reaches what stays at home
                tuned = self._tuned(model, recipe)
                self._take(tuned, lambda _: tuned, self._watched_folds)  # it has never seen the watched fold
        except Exception as error:  # as above: this participant goes on with what it had
            self.notes.append(f"the teacher of round {teach.round} was of no use: {_told(error)}")
            return
        self._taught = teach.round
        self.losses[teach.round] = self._watched_loss()

    def _taught_by(self, teacher: SoftLabels, recipe: Recipe) -> None:
        by_class = recipe.about == "classes"
        flaw = flaw_of_labels(teacher, self.outputs, len(self.outputs) if by_class else len(self.X_transfer))
        if flaw:
            raise LearnerError(f"the teacher cannot be right: {flaw}")

        def distil(rows: Rows) -> Learner:
            X, values, weight = self.X_transfer, teacher.values, teacher.weight
            if by_class:  # every private row has a teacher: the row of its class
                X, values, weight = rows.X, values[rows.y], weight[rows.y]
            return self.make().distil(rows.X, rows.y, X, values, weight, recipe.share)

        self._take(distil(self.site.rows), distil, self.site.folds, hearsay=1 / self.voices)

    def _take(
        self, distilled: Learner, fit: Callable[[Rows], Learner], folds: Sequence[int], hearsay: float = 0.0
    ) -> None:
        """Take a distilled model; `fit` trains the like without one of these folds, by which it will be judged."""
        unseen = CrossFit(self.site, len(self.outputs), fit)
        unseen.predict(self._watched_folds)  # where this fails, nothing is taken
        self.distilled, self._judged_by, self._distilled_unseen, self.hearsay = distilled, folds, unseen, hearsay

    def _start(self, recipe: Recipe) -> Parametric:
        if self._shared is None:
            model = self.make(seed=recipe.seed)
            if not isinstance(model, Parametric):
                raise LearnerError(
                    f"a {type(model).__name__} has no parameters to share",
                    remedy="Choose a learner that has them (mlp, torch_mlp, torch_sequence), or distillation",
                )
            self._shared = model.initialise(self.X_transfer.shape[1])
            _, self._stays = divide(self._shared, self._shared.parameters(), recipe.home)
        return self._shared

    def _tuned(self, taught: Parametric, recipe: Recipe) -> Parametric:
        """The model to keep, trained on if the recipe says so; the one that is shared stays as it was taught."""
        if not recipe.tune:
            return taught
        model = copy.deepcopy(taught)
        self._train(model, recipe, recipe.tune)
        return model

    def _train(self, model: Parametric, recipe: Recipe, epochs: int) -> None:
        rows = self.site.without(WATCHED)
        model.train(rows.X, rows.y, epochs, recipe.learning_rate, recipe.proximal)

    def _count(self, recipe: Recipe) -> int:
        if not recipe.count:
            return 0
        view = None if self.guard.mechanism is None else self.site.view
        return len(self.site.rows) if view is None else view.blocks  # which is public

    def _score(self, recipe: Recipe, watched: Callable[[], float]) -> float:
        if not recipe.score:
            return float("nan")
        if not self.site.folds:
            raise LearnerError("nothing is held back to tell a loss of", remedy="Set task.folds to 2 or more")
        return watched()

    def _watched_loss(self) -> float:
        """The loss on the watched fold of a model like the one that speaks, trained without that fold."""
        unseen = self._distilled_unseen or self._own_unseen
        return self._loss(unseen.predict(self._watched_folds))

    @property
    def _watched_folds(self) -> range:
        """The watched fold, or none where nothing is held back."""
        return self.site.folds[WATCHED : WATCHED + 1]

    @cached_property
    def _watched(self) -> Rows:
        return self.site.held_back(self._watched_folds)

    def _loss(self, predicted: Array) -> float:
        return loss(self.outputs, self._watched.y, predicted)

    def learn_from(self, others: Rows) -> None:
        """Take a model of these rows and its own for the distilled one: only the `pooled` reference does this."""

        def fit(rows: Rows) -> Learner:
            return self._fit(Rows.stack([rows, others]))

        self._take(fit(self.site.rows), fit, self._watched_folds)

    def predict(self, X: Array) -> dict[str, Array]:
        """What each candidate says: "distilled", "own" and "floor", each (n, k); a model that failed is left out."""
        taught = {} if self.distilled is None else {"distilled": self.distilled.predict(X)}
        own = self._unless_failed("own", lambda: self.own.predict(X))
        return {**taught, **own, "floor": self.site.floor.predict(X)}

    def held_out(self) -> tuple[Rows, dict[str, Array]]:
        """Rows to choose by, and what each candidate that `predict` names says of them without having seen them."""
        folds, unseen = self._judged_by, self._distilled_unseen
        held = self.site.held_back(folds)
        taught = {} if unseen is None else self._unless_failed("distilled", lambda: unseen.predict(folds))
        own = self._unless_failed("own", lambda: self._own_unseen.predict(folds))
        return held, {**taught, **own, "floor": self.site.floor.predict(held.X)}

    def _unless_failed(self, name: str, predict: Callable[[], Array]) -> dict[str, Array]:
        try:
            return {name: predict()}
        except Exception as error:  # as above: its owner still has the floor
            note = f"nothing is kept of the {name} model: {_told(error)}"
            self.notes += [] if note in self.notes else [note]
            return {}

    def models(self, kept: Kept) -> dict[str, Learner]:
        """The trained models that a kept choice is made of, by name."""
        candidates = {"distilled": self.distilled, "own": self.own}
        return {name: model for name, model in candidates.items() if model is not None and name in kept.weights}

    def choose(self) -> Kept:
        """Decide what to keep, by rows that the candidates have not seen."""
        return choose(self.outputs, *self.held_out(), self.hearsay)


def _told(error: Exception) -> str:
    """An error for the participant's own notes."""
    return str(error) if isinstance(error, FedstillError) else f"{type(error).__name__}: {error}"
