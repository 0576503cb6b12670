"""What was spent of a privacy budget, entry by entry: whatever leaves a site is paid for here before it does.

All entries of a data set compose, over runs, restarts and versions of the data, since old days are in later versions
too. What is in the ledger is never less than what has left: a crash may leave an entry whose release nobody got.

Entries form a chain: each holds the hash of the one before. That shows damage and changes. It does not show that the
last entries were cut off, nor that somebody computed all hashes anew, unless a later hash is known from elsewhere.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from fedstill.errors import BudgetSpent, ConfigError
from fedstill.privacy.pricing import epsilon
from fedstill.privacy.spending import Budget, Event, Nothing, Spend, Unit, counted

GENESIS = "0" * 64
"""What the first entry names as the hash before it."""


@dataclass(frozen=True)
class Entry:
    """Something that was paid for.

    Attributes
    ----------
    number:
        1, 2, 3 ... within a ledger; a file of many data sets numbers them together.
    at:
        When, in unix seconds by the owner's clock.
    data_set:
        Whose privacy it is: a name.
    run:
        What it was for: the SHA-256 of a run's terms, or a purpose; may be empty.
    spend:
        What was done.
    digest:
        SHA-256 of the release, 64 hex digits.
    key:
        By which the release is kept; empty where it is not.
    budget:
        The owner's at that time; whoever changes it later sees here what it was.
    previous, hash:
        Of the entry before and of this one, 64 hex digits.
    """

    number: int
    at: float
    data_set: str
    run: str
    spend: Spend
    digest: str
    key: str
    budget: Budget
    previous: str = GENESIS
    hash: str = ""


class Line(msgspec.Struct, frozen=True):
    """One kind of release in a statement: how often, and what they would cost alone; None where they are free."""

    what: str
    count: int
    epsilon: float | None


@dataclass(frozen=True)
class Statement:
    """What a data set has lost: epsilon at delta for each unit, what its owner allows, and for what it was spent."""

    unit: Unit
    epsilon: float
    delta: float
    budget_epsilon: float
    entries: int
    what: tuple[Line, ...]


class Ledger(Protocol):
    """What is asked before anything leaves; `fedstill.testing.ledgers.LedgerContract` says what it keeps to."""

    @property
    def budget(self) -> Budget:
        """What may be spent."""
        ...

    def afford(self, spend: Spend) -> None:
        """Ask whether the budget can pay for this after all that was paid. Raises BudgetSpent where it cannot."""
        ...

    def charge(self, spend: Spend, release: bytes, key: str = "") -> Entry:
        """Pay for a release: it is kept for good when this returns, and only then may the release leave.

        Parameters
        ----------
        spend:
            What was done to make it.
        release:
            Its bytes; the ledger keeps their SHA-256.
        key:
            Keep the bytes, too, for `bought`.

        Raises
        ------
        BudgetSpent
            Where the budget cannot pay for it; nothing is written then.
        ConfigError
            Where a release is kept by this key already; nothing is written then.
        """
        ...

    def bought(self, key: str) -> bytes | None:
        """A release that was paid for and kept, to be used as often as one likes; None where there is none."""
        ...

    def covers(self, digest: str) -> bool:
        """Whether a release with this SHA-256 was paid for: the gate before bytes leave."""
        ...

    def entries(self) -> list[Entry]:
        """All entries of the data set, in order."""
        ...

    def statement(self) -> Statement:
        """What the owner is told."""
        ...

    def close(self) -> None:
        """Close what it is kept in."""
        ...


class MemoryLedger:
    """A ledger that ends with the process, for simulations; see `Ledger`.

    Parameters
    ----------
    budget:
        What may be spent.
    clock:
        Unix seconds.
    data_set, run:
        What stands in the entries.
    """

    def __init__(self, budget: Budget, clock: Callable[[], float], data_set: str = "", run: str = "") -> None:
        self.budget = budget
        self._clock = clock
        self._names = data_set, run
        self._entries: list[Entry] = []
        self._spent = Counter[Spend]()
        self._digests: set[str] = set()
        self._bought: dict[str, bytes] = {}

    def afford(self, spend: Spend) -> None:
        """See `Ledger`."""
        check(self.budget, self._spent, spend)

    def charge(self, spend: Spend, release: bytes, key: str = "") -> Entry:
        """See `Ledger`."""
        self.afford(spend)
        if key in self._bought:
            raise taken(key)
        previous = self._entries[-1].hash if self._entries else GENESIS
        number, digest = len(self._entries) + 1, digest_of(release)
        entry = sealed(Entry(number, self._clock(), *self._names, spend, digest, key, self.budget, previous))
        self._entries.append(entry)
        self._spent[spend] += 1
        self._digests.add(digest)
        if key:
            self._bought[key] = bytes(release)
        return entry

    def bought(self, key: str) -> bytes | None:
        """See `Ledger`."""
        return self._bought.get(key)

    def covers(self, digest: str) -> bool:
        """See `Ledger`."""
        return digest in self._digests

    def entries(self) -> list[Entry]:
        """See `Ledger`."""
        return list(self._entries)

    def statement(self) -> Statement:
        """See `Ledger`."""
        return statement_of(self.budget, self._spent)

    def close(self) -> None:
        """See `Ledger`."""


def digest_of(release: bytes) -> str:
    """SHA-256 of a release, 64 hex digits."""
    return hashlib.sha256(release).hexdigest()


def taken(key: str) -> ConfigError:
    """Say that a key is in use."""
    return ConfigError(f"a release is kept as '{key}' already", where="key", remedy="Use that one: it is paid for")


def check(budget: Budget, spent: Mapping[Spend, int], spend: Spend) -> None:
    """Raise BudgetSpent where a budget cannot pay for what was spent and for this; what is free can always be had."""
    further = counted(spend, budget.unit)
    if isinstance(further, Nothing) or math.isinf(budget.epsilon):
        return
    before = events_of(spent, budget.unit)
    price = epsilon([*before, further], budget.delta)
    if price > budget.epsilon:
        raise BudgetSpent(
            f"the privacy budget does not pay for {spend.what}: of epsilon {budget.epsilon:g} for each {budget.unit} "
            f"{epsilon(before, budget.delta):.4g} is spent, and it would be {price:.4g}",
            remedy="Raise the budget, or ask for something that costs less",
        )


def statement_of(budget: Budget, spent: Mapping[Spend, int]) -> Statement:
    """Tell what was spent, in the order in which it first was."""
    by_what: dict[str, Counter[Spend]] = {}
    for spend, count in spent.items():
        by_what.setdefault(spend.what, Counter())[spend] += count
    lines = []
    for what, alike in by_what.items():
        events = events_of(alike, budget.unit)
        free = all(isinstance(event, Nothing) for event in events)
        lines.append(Line(what, alike.total(), None if free else epsilon(events, budget.delta)))
    price = epsilon(events_of(spent, budget.unit), budget.delta)
    return Statement(budget.unit, price, budget.delta, budget.epsilon, sum(spent.values()), tuple(lines))


def events_of(spent: Mapping[Spend, int], unit: Unit) -> list[Event]:
    """What was spent, as a ledger of this unit counts it."""
    return [event for spend, count in spent.items() for event in [counted(spend, unit)] * count]


def sealed(entry: Entry) -> Entry:
    """Give an entry its hash.

    It is SHA-256 of the MessagePack array of its fields in their order without the hash; what was spent and the budget
    are arrays of theirs, the event as the bytes of its JSON.
    """
    spend, budget = entry.spend, entry.budget
    fields = (
        *(entry.number, float(entry.at), entry.data_set, entry.run),
        *((event_text(spend.event).encode(), spend.unit, spend.what), entry.digest, entry.key),
        *((float(budget.epsilon), float(budget.delta), budget.unit), entry.previous),
    )
    return replace(entry, at=float(entry.at), hash=hashlib.sha256(msgspec.msgpack.encode(fields)).hexdigest())


def event_text(event: Event) -> str:
    """An event as JSON, always the same for equal ones."""
    return msgspec.json.encode(event).decode()
