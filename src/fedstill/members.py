"""Who takes part: an enterprise as its owner describes it, and how its participant is built."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedstill import plugins
from fedstill.codecs.base import Codec
from fedstill.errors import ConfigError
from fedstill.labels import Array, Outputs, Parameters
from fedstill.learners.base import Learner, Parametric, divide
from fedstill.learners.committee import Committee
from fedstill.participant import Participant
from fedstill.privacy.guard import Guard, Privacy
from fedstill.sites import Site
from fedstill.strategy import Strategy


@dataclass(frozen=True)
class Member:
    """An enterprise as its owner describes it.

    Attributes
    ----------
    name:
        Its id.
    data:
        What the task takes: a `SiteLoad` for forecasts, a data frame for classes.
    learner:
        The name of a learner, or any estimator with scikit-learn's `fit` and `predict`.
    options:
        Options of the learner.
    history:
        First and last local day (exclusive) that it learns from; None leaves an end open.
    companions:
        Learners that train beside its own and are averaged with it (`learners.committee`); None: the task's. They
        stand back where parameters are exchanged.
    contributes:
        So many of the rows that it learns from go into the transfer set: their inputs, for everybody to read. What
        that reveals: docs/how-to/transfer-set.md.
    privacy:
        What is done to what leaves, and what it may cost.
    """

    name: str
    data: Any
    learner: Any = "hist_gradient_boosting"
    options: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str | None, str | None] = (None, None)
    companions: Sequence[str] | None = None
    contributes: int = 0
    privacy: Privacy = field(default_factory=Privacy)


@dataclass(frozen=True)
class MakeModel:
    """Builds a member's kind of model (see `participant.MakeLearner`); survives a trip to another process."""

    learner: Any
    options: Mapping[str, Any]
    outputs: Outputs
    own_seed: int
    where: str = ""
    companions: tuple[str, ...] = ()

    def __call__(self, seed: int | None = None) -> Learner:
        """Build it, untrained, with the given seed or the member's own."""
        seed = self.own_seed if seed is None else seed
        built = self._chosen(seed)
        if not self._beside:
            return built
        beside = {name: plugins.build("learners", name, {"seed": seed}, self.outputs) for name in self._beside}
        return Committee.of({self.family: built, **beside})

    def _chosen(self, seed: int) -> Learner:
        """The learner that the member chose."""
        if isinstance(self.learner, str):
            built: Learner = plugins.build(
                "learners", self.learner, {**self.options, "seed": seed}, self.outputs, where=self.where
            )
            return built
        if not (hasattr(self.learner, "fit") and hasattr(self.learner, "predict")):
            raise ConfigError(
                f"a {type(self.learner).__name__} is no learner",
                where=self.where,
                remedy="Give the name of a learner or an estimator with fit and predict",
            )
        estimator = {"estimator": self.learner, **self.options, "seed": seed}
        wrapped: Learner = plugins.build("learners", "sklearn", estimator, self.outputs, where=self.where)
        return wrapped

    @property
    def family(self) -> str:
        """The name of the learner that it is an instance of, companions apart."""
        return self.learner if isinstance(self.learner, str) else "sklearn"

    @property
    def stored_as(self) -> str:
        """The name of the learner that reads what is stored."""
        return "committee" if self._beside else self.family

    @property
    def _beside(self) -> list[str]:
        """The companions that are of another kind than its own learner."""
        return [name for name in self.companions if name != self.family]

    @property
    def kind(self) -> str:
        """What to call it in a table."""
        return self.learner if isinstance(self.learner, str) else type(self.learner).__name__


@dataclass(frozen=True)
class BuildParticipant:
    """Makes a participant where it will live (see `transports.calls.Build`)."""

    site: Site
    make: MakeModel
    X_transfer: Array
    codec: Codec
    voices: int
    guard: Guard | None = None

    def __call__(self) -> Participant:
        """Make it."""
        return Participant(
            self.site, self.make, self.make.outputs, self.X_transfer, self.codec, self.voices, self.guard
        )


def make_model(member: Member, outputs: Outputs, seed: int, companions: Sequence[str] = ()) -> MakeModel:
    """How to build a member's models; tried once, so that wrong options show before any training.

    Its own seed follows from its name, so that adding another member changes nothing for it.

    Raises
    ------
    ConfigError, LearnerError, MissingExtra
        Where its learner cannot be built.
    """
    own = zlib.crc32(f"{seed}/{member.name}".encode()) % 2**31
    make = MakeModel(member.learner, member.options, outputs, own, f"participant {member.name}", tuple(companions))
    make()
    return make


def common_start(makes: Mapping[str, MakeModel], strategy: Strategy, n_features: int) -> Parameters:
    """The parameters that all members of a parameter algorithm start from; without those that stay at home.

    Raises
    ------
    ConfigError
        Where a member's model has no parameters, none that travel, or not the same ones as the others.
    """
    starts = []
    for name, make in makes.items():
        model = make(seed=strategy.recipe.seed)
        if not isinstance(model, Parametric):
            raise ConfigError(
                f"algorithm '{strategy.name}' exchanges parameters, a {make.kind} has none",
                where=f"participant {name}",
                remedy="Choose mlp, torch_mlp or torch_sequence for all, or an algorithm that distils (fedmd, grouped)",
            )
        start, _ = divide(model, model.initialise(n_features).parameters(), strategy.recipe.home)
        if not start:
            raise ConfigError(
                f"algorithm '{strategy.name}' leaves the {strategy.recipe.home} at home, which is all of a {make.kind}",
                where=f"participant {name}",
                remedy="Choose a network with a hidden layer (mlp, torch_mlp, torch_sequence)",
            )
        starts.append(start)
    shapes = [{key: array.shape for key, array in start.items()} for start in starts]
    if any(shape != shapes[0] for shape in shapes):
        raise ConfigError(
            f"algorithm '{strategy.name}' averages parameters, the participants' models have different ones",
            where="participants",
            remedy="Give all participants the same learner and options, or choose an algorithm that distils",
        )
    return starts[0]


def check_names(names: Sequence[str]) -> None:
    """Refuse names that cannot tell participants apart or name a folder. Raises ConfigError."""
    if not names:
        raise ConfigError(
            "nobody takes part", where="participants", remedy="Name at least two participants with their data"
        )
    if len(names) == 1:
        raise ConfigError(
            f"'{names[0]}' is alone, a federation has two participants or more",
            where="participants",
            remedy="Add participants; to train one model alone, use algorithm 'local' with two or a library for that",
        )
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two participants are called '{name}'", where="participants", remedy="Rename one")
        if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
            raise ConfigError(
                f"'{name}' cannot be a participant's name",
                where="participants",
                remedy="Use letters and digits",
            )
