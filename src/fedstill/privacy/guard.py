"""What stands between a participant's data and all that leaves: a mechanism, a ledger, and chance.

Every reply is charged before anybody can send it, and `Guard.sealed` gives the bytes of none that was not. A reply that
was made from a release which is paid for is free; one that touched private data otherwise has an infinite price, which
only an owner without a budget can pay.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from fedstill import plugins, wire
from fedstill.errors import BudgetSpent, ConfigError, MissingExtra
from fedstill.labels import Array, Parameters
from fedstill.messages import Kind, Recipe, Reply
from fedstill.privacy.base import Mechanism, Work
from fedstill.privacy.ledger import Ledger, MemoryLedger, Statement, digest_of
from fedstill.privacy.noise import Noise, SeededNoise
from fedstill.privacy.spending import Budget, Event, Nothing, Spend, Unit, Unprotected, counted
from fedstill.sites import View

UNGUARDED = "none"
"""The name of no mechanism."""


@dataclass(frozen=True)
class Privacy:
    """What an owner wants done to its releases.

    Attributes
    ----------
    mechanism:
        The name of a mechanism, or "none".
    budget:
        What may be spent.
    options:
        Options of the mechanism.
    """

    mechanism: str = UNGUARDED
    budget: Budget = field(default_factory=Budget)
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, where: str = "privacy") -> Mechanism | None:
        """The mechanism; None where there is none. Raises ConfigError where it cannot be."""
        if self.mechanism == UNGUARDED:
            return None
        if self.mechanism != "silent" and math.isinf(self.budget.epsilon):
            raise ConfigError(
                f"the mechanism '{self.mechanism}' has no budget",
                where=where,
                remedy="Write for example epsilon = 2.0",
            )
        if self.mechanism != "silent" and find_spec("dp_accounting") is None:
            raise MissingExtra(
                f"the mechanism '{self.mechanism}' is priced by the package 'dp-accounting', which is not installed",
                where=where,
                remedy="Run: pip install 'fedstill[privacy]'",
            )
        built: Mechanism = plugins.build("mechanisms", self.mechanism, self.options, where=where)
        return built


@dataclass(frozen=True)
class Protection:
    """What was done to what left a participant: by which mechanism, with noise from where, and what it has cost."""

    mechanism: str
    noise: str
    statement: Statement


class Guard:
    """What a participant asks before it answers.

    Parameters
    ----------
    privacy:
        What its owner wants.
    public:
        The transfer set as a release model sees it.
    answers:
        How many answers will be asked for, at most.
    ledger, noise:
        Where it is paid for, and where chance comes from.

    Raises
    ------
    ConfigError
        Where the mechanism cannot be.
    """

    def __init__(self, privacy: Privacy, public: View | None, answers: int, ledger: Ledger, noise: Noise) -> None:
        self.mechanism = privacy.build()
        self.mechanism_name = privacy.mechanism
        self.name = repr((privacy.mechanism, sorted(privacy.options.items())))
        self.public = public
        self.answers = answers
        self.ledger = ledger
        self.noise = noise
        self._charged: tuple[Reply | None, bytes] = (None, b"")

    @classmethod
    def open(cls) -> Guard:
        """No mechanism, no budget: all is written down, and its price is infinite."""
        return cls(Privacy(), None, 0, simulated_ledger(Budget()), SeededNoise(0))

    def labels(self, work: Work) -> Array:
        """Soft labels that may leave, shape (m, k), of a release that is paid for.

        Raises
        ------
        BudgetSpent
            Where it is not, and cannot be. This depends on what was spent before, and not on data.
        """
        mechanism = self.mechanism
        if mechanism is None:
            raise TypeError("there is no mechanism")
        key = self._key(work.own, work.public if mechanism.tied(work.outputs) else None) if mechanism.once else ""
        kept = self.ledger.bought(key) if key else None
        released = self._buy(mechanism, work, key) if kept is None else wire.unpack(kept, type(None))[1]
        return mechanism.labels(released, work.public, work.outputs)

    def _buy(self, mechanism: Mechanism, work: Work, key: str) -> Parameters:
        budget = self.ledger.budget
        already: list[Event] = [counted(entry.spend, budget.unit) for entry in self.ledger.entries()]
        spends = mechanism.spends(work, budget, already)
        for spend in spends:
            self.ledger.afford(spend)  # before any work is done
        released = mechanism.release(work, spends, self.noise)
        data = wire.pack(None, {name: np.asarray(array, np.float64) for name, array in released.items()})
        for spend in spends[:-1]:
            self.ledger.charge(spend, b"")  # what a crash after this leaves is paid for and of no use: not the reverse
        self.ledger.charge(spends[-1], data, key)
        return released

    def _key(self, own: View, public: View | None = None) -> str:
        """By what a release is kept: the mechanism, this version of the data, and the public items that it fits."""
        told = hashlib.sha256(self.name.encode())
        fits = () if public is None else (public.known, public.relative)
        for array in (own.known, own.relative, own.swing, own.y, own.block, *fits):
            told.update(b"-" if array is None else repr((array.dtype.str, array.shape)).encode() + array.tobytes())
        return told.hexdigest()

    def protection(self) -> Protection:
        """What was done, and what it has cost so far."""
        return Protection(self.mechanism_name, self.noise.source, self.ledger.statement())

    def charge(self, reply: Reply, what: str, *, free: bool) -> None:
        """Pay for a reply. Raises BudgetSpent where it is not free, and the owner has a budget."""
        event, data = Nothing() if free else Unprotected(), wire.encode(reply)
        self.ledger.charge(Spend(event, self.ledger.budget.unit, what), data)
        self._charged = reply, data  # mostly it leaves at once, and may be large

    def sealed(self, reply: Reply) -> bytes:
        """A reply as it leaves.

        Raises
        ------
        BudgetSpent
            Where it was never charged.
        """
        (charged, data), self._charged = self._charged, (None, b"")
        if charged is reply:
            return data
        data = wire.encode(reply)
        if not self.ledger.covers(digest_of(data)):
            raise BudgetSpent("a reply would leave that nobody has paid for", remedy="Report this: it is a fault")
        return data


def simulated_ledger(budget: Budget, data_set: str = "") -> Ledger:
    """A ledger that ends with the process and knows no time."""
    return MemoryLedger(budget, _no_time, data_set)


def _no_time() -> float:
    return 0.0


def check_recipe(privacy: Privacy, recipe: Recipe, where: str) -> None:
    """Refuse an algorithm that asks for something which a mechanism cannot make private. Raises ConfigError."""
    if privacy.mechanism in (UNGUARDED, "silent"):
        return
    unpaid = {
        "model parameters": recipe.release in (Kind.PARAMETERS, Kind.GRADIENTS),
        "the mean of each class of private rows": recipe.about == "classes",
        "how dense private rows are (certainty)": bool(recipe.certainty),
        "a held-out loss, which is of private rows (reliability = 'heldout', stop_after)": recipe.score,
    }
    for what, asked in unpaid.items():
        if asked:
            raise ConfigError(
                f"the algorithm asks for {what}, for which the mechanism '{privacy.mechanism}' does not pay",
                where=where,
                remedy="Choose an algorithm that exchanges soft labels alone (grouped, fedmd), or no mechanism",
            )


def check_unit(privacy: Privacy, units: Sequence[str], where: str) -> None:
    """Refuse a budget for a unit that a mechanism does not hide. Raises ConfigError."""
    hidden = {UNGUARDED: tuple(Unit), "silent": tuple(Unit), "label_noise": (Unit.PARTICIPANT, *units)}
    possible = hidden.get(privacy.mechanism, tuple(units))
    if privacy.budget.unit not in possible:
        raise ConfigError(
            f"the mechanism '{privacy.mechanism}' hides a {possible[0]}, not a {privacy.budget.unit}",
            where=where,
            remedy=f"Use unit = {' or '.join(repr(str(unit)) for unit in possible)}",
        )
