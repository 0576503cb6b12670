"""Whether a ledger is whole: its chain, the releases that it keeps, and what budgets allowed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from fedstill.privacy.durable import entries_in, kept_in, reading
from fedstill.privacy.ledger import GENESIS, Entry, sealed
from fedstill.privacy.pricing import epsilon, epsilon_rdp
from fedstill.privacy.spending import Budget, Event, Nothing, counted


def verify(path: Path) -> list[str]:
    """Check a ledger from its first entry to its last one.

    Returns
    -------
    What does not fit, a sentence each; none where it is whole.

    Raises
    ------
    DataError
        Where there is no ledger, or it is so damaged that it cannot be read.
    MissingExtra
        Where something has a price, and dp-accounting is not installed.
    """
    with reading(path) as connection:
        entries, kept = entries_in(connection), kept_in(connection)
    by_data_set: dict[str, list[Entry]] = {}
    for entry in entries:
        by_data_set.setdefault(entry.data_set, []).append(entry)
    prices = [fault for alike in by_data_set.values() for fault in overdrawn(alike)]
    return [*broken(entries), *unkept(entries, kept), *prices]


def broken(entries: Iterable[Entry]) -> Iterator[str]:
    """Tell where the chain, from its first entry on, does not hold."""
    previous, number = GENESIS, 1
    for entry in entries:
        if entry.number != number:
            yield f"what was before entry {entry.number} is missing"
        elif entry.previous != previous or entry != sealed(entry):
            yield f"entry {entry.number} is not what was written"
        previous, number = entry.hash, entry.number + 1


def unkept(entries: Iterable[Entry], kept: Mapping[int, str]) -> Iterator[str]:
    """Tell which releases are not those that were paid for; `kept` are SHA-256 by the number of the entry."""
    paid = {entry.number: entry.digest for entry in entries if entry.key}
    for number in sorted({*paid, *kept}):
        if paid.get(number) != kept.get(number):
            yield f"the release that is kept with entry {number} is not the one that was paid for"


def overdrawn(entries: Sequence[Entry]) -> Iterator[str]:
    """Tell which entries of one data set the budget of their time did not pay for, the first one of each budget.

    Also whether the price of all is above what Rényi divergences allow, which are another way to compute it.
    """
    events: list[Event] = []
    stop = 0
    for budget, stretch in groupby(entries, key=lambda entry: entry.budget):
        start, stop = stop, stop + len(list(stretch))
        events = [counted(entry.spend, budget.unit) for entry in entries[:stop]]
        first = _first_beyond(budget, events, start)
        if first is not None:
            yield f"entry {entries[first].number} is beyond the budget of its time, epsilon {budget.epsilon:g}"
    if entries:
        delta = entries[-1].budget.delta
        price, bound = epsilon(events, delta), epsilon_rdp(events, delta)
        if price > 1.05 * bound + 0.01:
            yield f"up to entry {entries[-1].number} the price, {price:.4g}, is above another bound of it, {bound:.4g}"


def _first_beyond(budget: Budget, events: Sequence[Event], start: int) -> int | None:
    """Place of the first event from `start` on that a budget does not pay for with all before; free ones it does."""

    def beyond(place: int) -> bool:
        # Versions of dp-accounting may differ a little.
        return epsilon(events[: place + 1], budget.delta) > 1.001 * budget.epsilon

    paid = [place for place in range(start, len(events)) if not isinstance(events[place], Nothing)]
    if math.isinf(budget.epsilon) or not paid or not beyond(paid[-1]):
        return None
    return paid[bisect_left(paid, True, key=beyond)]
