"""What stands between a participant's data and all that leaves: a mechanism, a ledger, and chance.

Every reply is charged before anybody can send it, and `Guard.sealed` gives the bytes of none that was not. A reply that
was made from a release which is paid for is free; one that touched private data otherwise has an infinite price, which
only an owner without a budget can pay.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from fedstill import plugins, wire
from fedstill.errors import BudgetSpent, ConfigError, MissingExtra
from fedstill.labels import Array, Parameters
from fedstill.messages import PARAMETRIC, Recipe, Reply
from fedstill.privacy.base import Asked, Mechanism, Told, UpdateMechanism, Work
from fedstill.privacy.clipped_update import clip_to
from fedstill.privacy.ledger import Ledger, MemoryLedger, Statement, digest_of
from fedstill.privacy.noise import Noise, SeededNoise
from fedstill.privacy.spending import Budget, Event, Nothing, Spend, Unit, Unprotected, counted
from fedstill.sites import View

UNGUARDED = "none"
"""The name of no mechanism."""
HIDES_ALL = ("label_noise", "clipped_update")
"""Mechanisms that hide the participant as a whole, and so every smaller unit."""


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

    def build(self, where: str = "privacy") -> Mechanism | UpdateMechanism | None:
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
        built: Mechanism | UpdateMechanism = plugins.build("mechanisms", self.mechanism, self.options, where=where)
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
    quorum:
        The least number of answers that a round teaches from.

    Raises
    ------
    ConfigError
        Where the mechanism cannot be.
    """

    def __init__(
        self, privacy: Privacy, public: View | None, answers: int, ledger: Ledger, noise: Noise, quorum: int = 1
    ) -> None:
        self.mechanism = privacy.build()
        self.mechanism_name = privacy.mechanism
        self.name = repr((privacy.mechanism, sorted(privacy.options.items())))
        self.public = public
        self.answers = answers
        self.quorum = quorum
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
        if not isinstance(mechanism, Mechanism):
            raise TypeError("there is no mechanism for soft labels")
        key = self._key(work.own, work.public if mechanism.tied(work.outputs) else None) if mechanism.once else ""
        kept = self.ledger.bought(key) if key else None
        released = self._buy(mechanism, work, key) if kept is None else wire.unpack(kept, type(None))[1]
        return mechanism.labels(released, work.public, work.outputs)

    def update(self, recipe: Recipe, clip: float, work: Callable[[], Parameters]) -> Told:
        """What may leave of an update, paid for; without a mechanism it is clipped where the recipe says so.

        Parameters
        ----------
        recipe, clip:
            What is asked for, and to what L2 norm everybody clips; 0: none is told.
        work:
            Trains, and gives the update.

        Raises
        ------
        BudgetSpent
            Where it is not paid for, and cannot be. This depends on what was spent before, and not on data.
        LearnerError
            Where the update is not finite.
        """
        mechanism = self.mechanism
        if mechanism is None:
            update, within = clip_to(work(), clip) if clip else (work(), True)
            return Told(update, float(within) if recipe.adaptive else math.nan)
        if not isinstance(mechanism, UpdateMechanism):
            raise TypeError("there is no mechanism for updates")
        asked = Asked(clip, recipe.adaptive, self.answers, self.quorum)
        spends = self._affordable(lambda budget, already: mechanism.spends(asked, budget, already))
        told = mechanism.protect(work(), asked, spends, self.noise)
        self._pay(spends, wire.pack(told.within, {name: np.asarray(array) for name, array in told.update.items()}))
        return told

    def _buy(self, mechanism: Mechanism, work: Work, key: str) -> Parameters:
        spends = self._affordable(lambda budget, already: mechanism.spends(work, budget, already))
        released = mechanism.release(work, spends, self.noise)
        data = wire.pack(None, {name: np.asarray(array, np.float64) for name, array in released.items()})
        self._pay(spends, data, key)
        return released

    def _affordable(self, spends: Callable[[Budget, Sequence[Event]], Sequence[Spend]]) -> Sequence[Spend]:
        """What something will cost, if that can be paid: before any work is done."""
        budget = self.ledger.budget
        chosen = spends(budget, [counted(entry.spend, budget.unit) for entry in self.ledger.entries()])
        for spend in chosen:
            self.ledger.afford(spend)
        return chosen

    def _pay(self, spends: Sequence[Spend], data: bytes, key: str = "") -> None:
        for spend in spends[:-1]:
            self.ledger.charge(spend, b"")  # what a crash after this leaves is paid for and of no use: not the reverse
        self.ledger.charge(spends[-1], data, key)

    def pays_for(self, recipe: Recipe) -> bool:
        """Whether an answer to that recipe says nothing of private data but what is paid for."""
        return self.mechanism is not None and not _unpaid(self.mechanism, recipe)

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
    mechanism = None if privacy.mechanism == "silent" else privacy.build(where)
    if mechanism is None:
        return
    for what, remedy in _unpaid(mechanism, recipe).items():
        raise ConfigError(
            f"the algorithm asks for {what}, for which the mechanism '{privacy.mechanism}' does not pay",
            where=where,
            remedy=remedy,
        )


def _unpaid(mechanism: Mechanism | UpdateMechanism, recipe: Recipe) -> dict[str, str]:
    """What a recipe asks for that a mechanism does not pay for, each with a remedy."""
    travels = recipe.release in PARAMETRIC
    loss = "a held-out loss, which is of private rows (reliability = 'heldout', stop_after)"
    if not isinstance(mechanism, Mechanism):
        average = "Choose an algorithm that averages parameters (dp_fedavg), another mechanism, or none"
        unpaid = {
            "soft labels": (not travels, average),
            "the number of rows": (recipe.count, "Set the option weights = 'equal' of the algorithm, or use dp_fedavg"),
            loss: (recipe.score, "Leave out stop_after"),
            "more than a mean of answers under one clip, or does not say so (against = 'participants')": (
                mechanism.relies_on_others and not recipe.clip,
                "Use the algorithm dp_fedavg, or against = 'coordinator'",
            ),
        }
    else:
        beliefs = "Choose an algorithm that exchanges soft labels alone (grouped, fedmd), or no mechanism"
        unpaid = {
            "model parameters": (travels, f"{beliefs}; for averaged parameters there is clipped_update"),
            "the mean of each class of private rows": (recipe.about == "classes", beliefs),
            "how dense private rows are (certainty)": (bool(recipe.certainty), beliefs),
            loss: (recipe.score, beliefs),
        }
    return {what: remedy for what, (asked, remedy) in unpaid.items() if asked}


def check_together(privacies: Sequence[Privacy], where: str) -> None:
    """Refuse prices that count on noise which others do not add. Raises ConfigError."""
    speaking = [one for one in privacies if one.mechanism != "silent"]
    relying = [one for one in speaking if getattr(one.build(where), "relies_on_others", False)]
    if relying and any(one != relying[0] for one in speaking):
        raise ConfigError(
            "a mechanism with against = 'participants' counts on the noise of all who answer, and not all add as much",
            where=where,
            remedy="Give all participants the same mechanism, options and budget, or against = 'coordinator'",
        )


def check_unit(privacy: Privacy, units: Sequence[str], where: str) -> None:
    """Refuse a budget for a unit that a mechanism does not hide. Raises ConfigError."""
    hidden: dict[str, tuple[str, ...]] = {UNGUARDED: tuple(Unit), "silent": tuple(Unit)}
    hidden.update(dict.fromkeys(HIDES_ALL, (Unit.PARTICIPANT, *units)))
    possible = hidden.get(privacy.mechanism, tuple(units))
    if privacy.budget.unit not in possible:
        raise ConfigError(
            f"the mechanism '{privacy.mechanism}' hides a {possible[0]}, not a {privacy.budget.unit}",
            where=where,
            remedy=f"Use unit = {' or '.join(repr(str(unit)) for unit in possible)}",
        )
