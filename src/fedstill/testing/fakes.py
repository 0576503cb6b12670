"""Small stand-ins for tests: learners to compute by hand, sites of a few rows, participants that follow a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from fedstill import wire
from fedstill.codecs.base import Codec
from fedstill.codecs.raw import Raw
from fedstill.errors import LearnerError
from fedstill.labels import Array, Outputs, Parameters, Party, Release, SoftLabels, Space
from fedstill.learners.rows import tidy
from fedstill.messages import Message, Reply
from fedstill.participant import Participant
from fedstill.sites import Floor, Rows, Site
from fedstill.strategy import Ballot, Vote
from fedstill.transports.calls import Cost

T = TypeVar("T")

QUANTILES = Outputs(Space.QUANTILES, (0.1, 0.5, 0.9))
CLASSES = Outputs(Space.PROBABILITIES, ("low", "middle", "high"))
START: Parameters = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)}
"""Start parameters of a `Line` of two features and three outputs."""


class _Fake:
    """Holds its model in `arrays`, and counts in `trainings` how often the class learned from private rows."""

    trainings = 0

    def __init__(self, outputs: Outputs, seed: int = 0) -> None:
        self.outputs = outputs
        self.seed = seed
        self.arrays: dict[str, Array] = {}

    def save(self, folder: Path) -> None:
        """Write the model."""
        header = (self.outputs.space, list(self.outputs.columns))
        (folder / "fake.bin").write_bytes(wire.pack(header, self.arrays))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        try:
            stored = (folder / "fake.bin").read_bytes()
        except OSError:
            raise LearnerError("the folder holds no fake", where=str(folder), remedy="Train again") from None
        (space, columns), arrays = wire.unpack(stored, tuple)
        learner = cls(Outputs(Space(space), tuple(columns)))
        learner.arrays = arrays
        return learner

    def _targets(self, y: Array) -> Array:
        """What each output should be at private rows, (n, k): y plus its level less 1/2, or 1 at the class."""
        if self.outputs.space is Space.QUANTILES:
            return np.asarray(y, np.float64)[:, None] + self.outputs.levels - 0.5
        hot: Array = np.eye(len(self.outputs))[np.asarray(y)]
        return hot


class Constant(_Fake):
    """A learner that says the same of every row: the mean of what it was told, whatever the inputs."""

    def fit(self, X: Array, y: Array) -> Self:
        """Take the mean target; `X` is not looked at."""
        del X
        type(self).trainings += 1
        self.arrays = {"row": self._targets(y).mean(axis=0)}
        return self

    def distil(self, X: Array, y: Array, X_transfer: Array, teacher: Array, weight: Array, share: float) -> Self:
        """Take (1 - share) of the mean target and `share` of the teacher's mean; a silent teacher has no share."""
        del X_transfer
        if not np.any(weight):
            return self.fit(X, y)
        told = np.average(np.asarray(teacher, np.float64), axis=0, weights=weight)
        self.arrays = {"row": (1 - share) * self.fit(X, y).arrays["row"] + share * told}
        return self

    def predict(self, X: Array) -> Array:
        """The one row of soft labels, n times."""
        return tidy(self.outputs, np.tile(self.arrays["row"], (len(X), 1)))


class Line(_Fake):
    """A learner that says `X @ w + b`; its loss is half the squared error of a row, mean over rows.

    Its gradient is exact, and so are `fit` and `distil` (least squares).
    """

    def fit(self, X: Array, y: Array) -> Self:
        """Least squares on the private rows."""
        type(self).trainings += 1
        return self._solve(X, self._targets(y), np.ones(len(X)))

    def distil(self, X: Array, y: Array, X_transfer: Array, teacher: Array, weight: Array, share: float) -> Self:
        """Least squares on private and transfer rows, the latter with `share` of the total weight."""
        share = share if np.any(weight) else 0.0
        own, theirs = np.full(len(X), (1 - share) / len(X)), share * weight / max(weight.sum(), 1e-9)
        targets = np.concatenate([self._targets(y), teacher])
        return self._solve(np.concatenate([X, X_transfer]), targets, np.concatenate([own, theirs]))

    def predict(self, X: Array) -> Array:
        """Soft labels, (n, k)."""
        return tidy(self.outputs, self._raw(X))

    def initialise(self, n_features: int) -> Self:
        """Start at 0."""
        k = len(self.outputs)
        self.arrays = {"w": np.zeros((n_features, k)), "b": np.zeros(k)}
        return self

    def parameters(self) -> Parameters:
        """Copies of `w`, (f, k), and `b`, (k,)."""
        return {name: array.copy() for name, array in self.arrays.items()}

    def set_parameters(self, parameters: Parameters) -> None:
        """Replace them; raises LearnerError where names or shapes differ or a value is not finite."""
        shapes = {name: array.shape for name, array in self.arrays.items()}
        if {name: np.shape(array) for name, array in parameters.items()} != shapes:
            raise LearnerError("these are no parameters of this line")
        if not all(np.isfinite(array).all() for array in parameters.values()):
            raise LearnerError("parameters are not finite")
        self.arrays = {name: np.array(array, np.float64) for name, array in parameters.items()}

    def head(self) -> tuple[str, ...]:
        """`b`, so that there is something left for a body."""
        return ("b",)

    def train(self, X: Array, y: Array, epochs: int, learning_rate: float, proximal: float = 0.0) -> None:
        """One step down the gradient of all rows, and of the proximal term, in each epoch."""
        type(self).trainings += 1
        start = self.arrays
        for _ in range(epochs):
            slope = self.gradient(X, y)
            self.arrays = {
                name: array - learning_rate * (slope[name] + proximal * (array - start[name]))
                for name, array in self.arrays.items()
            }

    def gradient(self, X: Array, y: Array) -> Parameters:
        """The gradient of the mean loss."""
        miss = self._raw(X) - self._targets(y)
        return {"w": np.asarray(X, np.float64).T @ miss / len(X), "b": miss.mean(axis=0)}

    def loss(self, X: Array, y: Array) -> float:
        """The loss that `gradient` is the gradient of."""
        return float(((self._raw(X) - self._targets(y)) ** 2).sum(axis=1).mean() / 2)

    def _raw(self, X: Array) -> Array:
        said: Array = np.asarray(X, np.float64) @ self.arrays["w"] + self.arrays["b"]
        return said

    def _solve(self, X: Array, targets: Array, weight: Array) -> Self:
        root = np.sqrt(weight)[:, None]
        columns = np.column_stack([np.asarray(X, np.float64), np.ones(len(X))])
        found = np.linalg.lstsq(root * columns, root * targets, rcond=None)[0]
        self.arrays = {"w": found[:-1], "b": found[-1]}
        return self


def rows(outputs: Outputs, n: int, seed: int = 0) -> Rows:
    """Rows of two features; the target is their sum and some noise, or which third of the line it lies in."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 2)).astype(np.float32)
    y = X.sum(axis=1) + 0.1 * random.normal(size=n)
    return Rows(X, y if outputs.space is Space.QUANTILES else np.digitize(y, (-0.5, 0.5)))


def site(party: Party, outputs: Outputs, seed: int = 0, n: int = 30) -> Site:
    """A site with n rows in three folds."""
    own = rows(outputs, n, seed)
    return Site(party, own, Floor.fit(outputs, own.y), np.arange(n) % 3)


@dataclass(frozen=True)
class Make:
    """Builds a fake; survives a trip to another process."""

    kind: Callable[[Outputs, int], Any]
    outputs: Outputs
    own_seed: int = 0

    def __call__(self, seed: int | None = None) -> Any:
        """Build it, untrained."""
        return self.kind(self.outputs, self.own_seed if seed is None else seed)


@dataclass(frozen=True)
class Build:
    """Builds a participant with a fake model, and the transfer set of `n_items` rows that all have in common."""

    party: Party
    outputs: Outputs
    kind: Callable[[Outputs, int], Any] = Line
    seed: int = 0
    n_items: int = 8
    codec: Codec = field(default_factory=Raw)
    voices: int = 4

    def __call__(self) -> Participant:
        """Build it."""
        return Participant(
            site(self.party, self.outputs, self.seed),
            Make(self.kind, self.outputs, self.seed),
            self.outputs,
            rows(self.outputs, self.n_items, seed=99).X,
            self.codec,
            self.voices,
        )


def builds(
    outputs: Outputs, parties: Sequence[Party], kind: Callable[[Outputs, int], Any] = Line
) -> dict[Party, Build]:
    """How to build some participants whose rows differ."""
    return {party: Build(party, outputs, kind, seed) for seed, party in enumerate(parties)}


class Scripted:
    """An exchange whose participants answer as a function says; it keeps the messages they got.

    Parameters
    ----------
    script:
        From a participant's id and a message to its replies.
    """

    def __init__(self, script: Callable[[Party, Message], Sequence[Reply]]) -> None:
        self.script = script
        self.heard: list[tuple[Party, Message]] = []

    def deliver(self, frames: Mapping[Party, Sequence[bytes]]) -> Iterator[tuple[Party, list[bytes], Cost]]:
        """See `transports.calls.Exchange`."""
        for party, messages in frames.items():
            replies: list[bytes] = []
            for frame in messages:
                message: Message = wire.decode(frame)  # type: ignore[assignment]
                self.heard.append((party, message))
                replies += [wire.encode(reply) for reply in self.script(party, message)]
            yield party, replies, Cost()

    def call(self, function: Callable[..., T], arguments: Mapping[Party, tuple[Any, ...]]) -> dict[Party, T]:
        """Nobody lives here."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def soft(outputs: Outputs, values: Any, weight: Any = None) -> SoftLabels:
    """Soft labels about items 0..n-1; a plain number stands for a row that has it in every column."""
    table = np.array([np.broadcast_to(row, len(outputs)) for row in values], np.float32)
    return SoftLabels.of(np.arange(len(table)), table, outputs.space, weight)


def ballot(
    outputs: Outputs,
    votes: Mapping[Party, Release],
    absent: Sequence[Party] = (),
    memory: Any = None,
    inputs: Array | None = None,
) -> Ballot:
    """A ballot of these votes, and of some who did not answer."""
    cast = [Vote(party, votes[party]) for party in sorted(votes)]
    return Ballot(cast, tuple(sorted([*votes, *absent])), outputs, memory, inputs)
