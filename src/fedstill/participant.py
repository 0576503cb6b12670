"""The participant's half of a round, top to bottom: train, predict, encode, answer; decode, distil.

A participant answers one message at a time and knows no algorithm: the recipe in the message says what to do. An
answer is computed once and sent again as it is: being asked twice never trains or releases twice.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from fedstill.codecs.base import Codec
from fedstill.density import certainty
from fedstill.errors import FedstillError, LearnerError
from fedstill.flaws import flaw_of_labels
from fedstill.grouping.sketch import sketch
from fedstill.keep import Kept, choose
from fedstill.labels import Array, Outputs, Parameters, Release, SoftLabels
from fedstill.learners.base import Learner, Parametric, divide
from fedstill.messages import Answer, Ask, Kind, Message, Recipe, Refuse, Reply, Teach
from fedstill.sites import Rows, Site, loss


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
    """

    def __init__(self, site: Site, make: MakeLearner, outputs: Outputs, X_transfer: Array, codec: Codec) -> None:
        self.site = site
        self.make = make
        self.outputs = outputs
        self.X_transfer = X_transfer
        self.codec = codec
        self.distilled: Learner | None = None
        self.losses: dict[int, float] = {}
        self.notes: list[str] = []
        self._own: Learner | None = None
        self._shared: Parametric | None = None
        self._stays: Parameters = {}
        self._replies: dict[tuple[int, int], Reply] = {}
        self._taught = 0

    @property
    def own(self) -> Learner:
        """The model that learned from the site's own rows alone."""
        if self._own is None:
            self._own = self.make().fit(self.site.train.X, self.site.train.y)
        return self._own

    def handle(self, message: Message) -> Reply | None:
        """Answer a question, or learn from a teacher. A fault here becomes a refusal, never a stall."""
        if isinstance(message, Ask):
            asked = message.round, message.question
            if asked not in self._replies:
                self._replies[asked] = self._answer(message)
            return self._replies[asked]
        if message.round > self._taught:
            self._learn(message)
        return None

    def _answer(self, ask: Ask) -> Reply:
        party, recipe = self.site.party, ask.recipe
        try:
            work = {Kind.LABELS: self._labels, Kind.SKETCH: self._sketch}.get(recipe.release, self._update)
            return Answer(ask.round, party, self.codec.encode(work(recipe)), ask.question)
        except Exception as error:  # whatever a learner raises: one participant's fault must not end everybody's run
            self.notes.append(f"round {ask.round} was refused: {_told(error)}")
            # The message of an error may quote a private row, so only its kind leaves the site.
            return Refuse(ask.round, party, f"{type(error).__name__}, its own notes say more", ask.question)

    def _labels(self, recipe: Recipe) -> Release:
        model = self._speaking()
        labels = self._on_classes(model) if recipe.about == "classes" else self._on_items(model, recipe)
        return Release(labels=labels, count=self._count(recipe), score=self._score(recipe, model))

    def _sketch(self, recipe: Recipe) -> Release:
        model = self._speaking()
        told = sketch(self._on_items(model, recipe), recipe.sketch, recipe.seed)
        return Release(sketch=told, count=self._count(recipe), score=self._score(recipe, model))

    def _speaking(self) -> Learner:
        return self.own if self.distilled is None else self.distilled  # an ensemble's truth may be its length

    def _on_items(self, model: Learner, recipe: Recipe) -> SoftLabels:
        values, weight = model.predict(self.X_transfer), None
        if recipe.certainty:
            soft = recipe.certainty == "soft"
            weight = certainty(self.site.train.X, self.X_transfer, soft=soft, cutoff=recipe.cutoff)
        return SoftLabels.of(np.arange(len(values)), values, self.outputs.space, weight)

    def _on_classes(self, model: Learner) -> SoftLabels:
        """A row for each class: the mean over the private rows of that class; it abstains where there are none."""
        k, train = len(self.outputs), self.site.train
        of_class = np.eye(k)[train.y].T
        counts = of_class.sum(axis=1)
        sums = of_class @ np.asarray(model.predict(train.X), np.float64)
        rows = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], 1 / k)
        return SoftLabels.of(np.arange(k), rows, self.outputs.space, counts > 0)

    def _update(self, recipe: Recipe) -> Release:
        model, train = self._start(recipe), self.site.train
        common = model.parameters()
        try:
            if recipe.release is Kind.GRADIENTS:
                parameters = model.gradient(train.X, train.y)
            else:
                self._train(model, recipe, recipe.epochs)
                parameters = model.parameters()
            travels, stays = divide(model, parameters, recipe.home)
            release = Release(parameters=travels, count=self._count(recipe), score=self._score(recipe, model))
            self._stays = stays  # for when the round teaches: what stays belongs to what is taught then
            return release
        finally:
            model.set_parameters(common)  # a round that fails, or teaches nothing, leaves it as it was taught

    def _learn(self, teach: Teach) -> None:
        try:
            release = self.codec.decode(teach.payload)
            if release.labels is not None:
                self.distilled = self._distil(release.labels, teach.recipe)
            else:
                model = self._start(teach.recipe)
                model.set_parameters({**release.parameters, **self._stays})  # no teacher reaches what stays at home
                self.distilled = self._tuned(model, teach.recipe)
        except Exception as error:  # as above: this participant goes on with what it had
            self.notes.append(f"the teacher of round {teach.round} was of no use: {_told(error)}")
            return
        self._taught = teach.round
        self.losses[teach.round] = self._loss(self.distilled)

    def _distil(self, teacher: SoftLabels, recipe: Recipe) -> Learner:
        by_class = recipe.about == "classes"
        flaw = flaw_of_labels(teacher, self.outputs, len(self.outputs) if by_class else len(self.X_transfer))
        if flaw:
            raise LearnerError(f"the teacher cannot be right: {flaw}")
        train, X, values, weight = self.site.train, self.X_transfer, teacher.values, teacher.weight
        if by_class:  # every private row has a teacher: the row of its class
            X, values, weight = train.X, values[train.y], weight[train.y]
        return self.make().distil(train.X, train.y, X, values, weight, recipe.share)

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
        rows = self.site.train
        model.train(rows.X, rows.y, epochs, recipe.learning_rate, recipe.proximal)

    def _count(self, recipe: Recipe) -> int:
        return len(self.site.train) if recipe.count else 0

    def _score(self, recipe: Recipe, model: Learner) -> float:
        return self._loss(model) if recipe.score else float("nan")

    def _loss(self, model: Learner) -> float:
        return loss(self.outputs, self.site.valid.y, model.predict(self.site.valid.X))

    def learn_from(self, rows: Rows) -> None:
        """Take a model of these rows for the distilled one: only the `pooled` reference does this."""
        self.distilled = self.make().fit(rows.X, rows.y)

    def predict(self, X: Array) -> dict[str, Array]:
        """What each candidate says: "distilled", "own" and "floor", each (n, k); a model that failed is left out."""
        predictions: dict[str, Array] = {}
        if self.distilled is not None:
            predictions["distilled"] = self.distilled.predict(X)
        try:
            predictions["own"] = self.own.predict(X)
        except Exception as error:  # as above: its owner still has the floor
            note = f"there is no model of its own: {_told(error)}"
            self.notes += [] if note in self.notes else [note]
        return {**predictions, "floor": self.site.floor.predict(X)}

    def models(self, kept: Kept) -> dict[str, Learner]:
        """The trained models that a kept choice is made of, by name."""
        candidates = {"distilled": self.distilled, "own": self.own}
        return {name: model for name, model in candidates.items() if model is not None and name in kept.weights}

    def choose(self, candidates: Mapping[str, Array] | None = None) -> Kept:
        """Decide by the held-back rows what to keep; `candidates` are predictions of them (default: all models)."""
        valid = self.site.valid
        return choose(self.outputs, valid, self.predict(valid.X) if candidates is None else candidates)


def _told(error: Exception) -> str:
    """An error for the participant's own notes."""
    return str(error) if isinstance(error, FedstillError) else f"{type(error).__name__}: {error}"
