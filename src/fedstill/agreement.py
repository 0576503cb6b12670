"""What all participants of a federation have agreed on, and nobody's data: with it and its own data each takes part.

It travels to a participant elsewhere as *terms*, a small JSON text whose SHA-256 stands in every letter, and the
transfer set's inputs, whose SHA-256 stands in the terms.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from fedstill import plugins, wire
from fedstill.codecs.base import Codec
from fedstill.coverage import coverage, warning
from fedstill.errors import ConfigError, FedstillError, WireError
from fedstill.keep import Kept
from fedstill.labels import Array
from fedstill.members import BuildParticipant, MakeModel, Member, make_model
from fedstill.messages import PARAMETRIC, Recipe
from fedstill.models import Model
from fedstill.privacy.guard import UNGUARDED, Guard, check_recipe, check_unit
from fedstill.privacy.ledger import Ledger
from fedstill.privacy.noise import Noise
from fedstill.sites import View
from fedstill.tasks.base import Prepared, Task, TransferSet

FORMAT = 1


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for one run of a federation between machines, as text; nothing else decides what happens in it.

    Attributes
    ----------
    federation, run, parties:
        Its name, the run's number, who takes part.
    task, settings:
        The task by name, and its settings.
    codec, recipes, rounds, seed:
        See `Agreement`.
    strategy, options, quorum, deadline_s, stop_after:
        What the coordinator does with the answers, see `federation.Federation`.
    transfer, transfer_bytes:
        The transfer set by its digest and size.
    start, start_bytes:
        The common start parameters by their digest and size; "" and 0 where beliefs travel.
    """

    format: int
    federation: str
    run: int
    parties: tuple[str, ...]
    task: str
    settings: dict[str, Any]
    codec: str
    recipes: tuple[Recipe, ...]
    rounds: int
    seed: int
    strategy: str
    options: dict[str, Any]
    quorum: int
    deadline_s: float
    stop_after: int | None
    transfer: str
    transfer_bytes: int
    start: str = ""
    start_bytes: int = 0

    def to_bytes(self) -> bytes:
        """The terms as they travel and are hashed."""
        return msgspec.json.encode(self, order="sorted")


@dataclass(frozen=True, eq=False)
class Agreement:
    """What all participants share.

    Attributes
    ----------
    task:
        What is predicted.
    transfer:
        The transfer set.
    codec:
        The codec's name.
    recipes:
        All that participants may be asked to do.
    rounds:
        The most rounds that will be run; 0 for references, which never talk.
    seed:
        Everything random follows from it, and from a participant's name.
    voices:
        How many take part.
    quorum:
        The least number of answers that a round teaches from.
    """

    task: Task
    transfer: TransferSet
    codec: str
    recipes: tuple[Recipe, ...]
    rounds: int
    seed: int
    voices: int
    quorum: int = 1

    @property
    def distils(self) -> bool:
        """Whether beliefs travel; where parameters do, all models must start alike and have no companions."""
        return not any(recipe.release in PARAMETRIC for recipe in self.recipes)

    @cached_property
    def inputs(self) -> Array:
        """The transfer set's inputs on the public scale, shape (m, f)."""
        return self.transfer.scaling.apply(self.transfer.X)

    @cached_property
    def coder(self) -> Codec:
        """The codec."""
        built: Codec = plugins.build("codecs", self.codec, {}, where="codec")
        return built

    def make(self, member: Member) -> MakeModel:
        """How to build a member's models. Raises ConfigError, LearnerError, MissingExtra where that cannot be."""
        named = self.task.companions if member.companions is None else member.companions
        return make_model(member, self.task.outputs, self.seed, named if self.distils else ())

    def prepare(self, member: Member) -> Prepared:
        """A member's data made ready. Raises DataError where they cannot be used."""
        one = self.task.prepare(member.name, member.data, member.history).scaled(self.transfer.scaling)
        if not self.distils or not self.rounds:
            return one
        share = coverage(one.site.rows.X, self.inputs, self.transfer.block)
        told = warning(share)
        return replace(one, coverage=share, notes=(*one.notes, *([told] if told else [])))

    @cached_property
    def public(self) -> View:
        """The transfer set as release models see it."""
        return self.task.view(self.transfer.X, self.transfer.block)

    def check_privacy(self, member: Member) -> None:
        """Refuse a mechanism or a budget that does not fit what is asked for. Raises ConfigError, MissingExtra."""
        where = f"participant {member.name}, privacy"
        for recipe in self.recipes:
            check_recipe(member.privacy, recipe, where)
        if member.contributes and member.privacy.mechanism != UNGUARDED:
            raise ConfigError(
                "rows are contributed as they are, which no mechanism makes private",
                where=where,
                remedy="Leave out contributes, or the mechanism",
            )
        check_unit(member.privacy, self.task.units, where)

    def guard(self, member: Member, ledger: Ledger, noise: Noise) -> Guard:
        """What stands between a member's data and all that leaves. Raises as `check_privacy`."""
        self.check_privacy(member)
        public = None if member.privacy.mechanism == UNGUARDED else self.public
        return Guard(member.privacy, public, self.rounds * len(self.recipes), ledger, noise, self.quorum)

    def build(self, make: MakeModel, prepared: Prepared, guard: Guard | None = None) -> BuildParticipant:
        """How its participant is built."""
        return BuildParticipant(prepared.site, make, self.inputs, self.coder, self.voices, guard)

    def model(self, make: MakeModel, prepared: Prepared, kept: Kept) -> Model:
        """What it keeps, still without the learners."""
        return Model(
            party=prepared.site.party,
            learner=make.stored_as,
            task=self.task,
            kept=kept,
            floor=prepared.site.floor,
            scaling=self.transfer.scaling,
            scale=prepared.scale,
            zone=prepared.zone,
        )


def read_terms(data: bytes) -> Terms:
    """What terms say. Raises WireError where they are not terms, or of another version."""
    try:
        terms = msgspec.json.decode(data, type=Terms)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: recipes that cannot be
        raise WireError(f"not terms of a federation: {error}") from None
    if terms.format != FORMAT:
        raise WireError(
            f"the terms have format {terms.format}, this version reads {FORMAT}",
            remedy="Use the version of fedstill that the coordinator uses",
        )
    return terms


def read_agreement(terms: Terms, transfer: bytes) -> Agreement:
    """The agreement that terms and transfer set are. Raises WireError where they do not fit each other or the task."""
    if hashlib.sha256(transfer).hexdigest() != terms.transfer:
        raise WireError("the transfer set is not the one that the terms name")
    _, arrays = wire.unpack(transfer, type(None))
    try:
        task: Task = msgspec.convert(terms.settings, plugins.resolve("tasks", terms.task))
    except (msgspec.MsgspecError, FedstillError, ValueError, TypeError) as error:
        raise WireError(f"the terms name a task that cannot be: {error}") from None
    X, block = arrays.get("X"), arrays.get("block")
    if X is None or X.ndim != 2 or X.dtype.str != "<f4" or not len(X) or not np.isfinite(X).all():
        raise WireError("the transfer set is no table of numbers")
    if X.shape[1] != len(task.features) or (block is not None and block.shape != X.shape[:1]):
        raise WireError(f"the transfer set does not have the {len(task.features)} columns of the task")
    public = TransferSet(X, X.nbytes, block)
    recipes, voices = tuple(terms.recipes), len(terms.parties)
    return Agreement(task, public, terms.codec, recipes, terms.rounds, terms.seed, voices, terms.quorum)


def write_transfer(transfer: TransferSet) -> bytes:
    """A transfer set as it travels."""
    blocks = {} if transfer.block is None else {"block": np.asarray(transfer.block, np.int64)}
    return wire.pack(None, {"X": transfer.X, **blocks})
