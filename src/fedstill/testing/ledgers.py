"""The contract of a privacy ledger, as tests to inherit.

A module of tests derives a class and says how to make an empty ledger::

    class TestMine(LedgerContract):
        def make(self, budget, clock, folder):
            return Mine(folder / "mine", budget, clock)

Budgets that end need the extra `privacy`; without it these tests are skipped.
"""
# ruff: noqa: S101 - these are tests, although they are shipped

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from fedstill.errors import BudgetSpent, ConfigError
from fedstill.privacy.ledger import GENESIS, Ledger, Line, sealed
from fedstill.privacy.pricing import epsilon
from fedstill.privacy.spending import Budget, Gaussian, Nothing, SampledGaussian, Spend, Unit, Unprotected

FREE = Spend(Nothing(), Unit.DAY, "soft labels of a private model")
OPEN = Spend(Unprotected(), Unit.DAY, "soft labels")
NOISY = Spend(Gaussian(10.0), Unit.DAY, "a mean")
TRAINED = Spend(SampledGaussian(0.1, 4.0, 50, reach=2), Unit.DAY, "a release model of 365 days")


class LedgerContract:
    """What every ledger keeps to. Derive, and override `make`."""

    def make(self, budget: Budget, clock: Callable[[], float], folder: Path) -> Ledger:
        """Build an empty ledger; what it needs on a disk it may put into the folder, which is empty."""
        raise NotImplementedError

    @pytest.fixture
    def boundless(self, tmp_path: Path) -> Ledger:
        """A ledger that allows everything; its clock says 1, 2, 3 ..."""
        seconds = count(1)
        return self.make(Budget(), lambda: float(next(seconds)), tmp_path)

    def pays_for(self, times: int, folder: Path) -> Ledger:
        """Make a ledger whose budget pays for NOISY so many times, and not once more."""
        pytest.importorskip("dp_accounting")
        most, more = (epsilon([NOISY.event] * n, 1e-5) for n in (times, times + 1))
        return self.make(Budget((most + more) / 2), lambda: 0.0, folder)

    def test_an_empty_one_has_lost_nothing(self, boundless: Ledger) -> None:
        """No entries, no price."""
        told = boundless.statement()
        assert (boundless.entries(), told.entries, told.epsilon, told.what) == ([], 0, 0.0, ())
        assert boundless.bought("a") is None
        assert not boundless.covers("")

    def test_entries_say_what_was_paid_for_and_form_a_chain(self, boundless: Ledger) -> None:
        """In order, each with the hash of the one before, and its own."""
        charged = [boundless.charge(OPEN, b"one"), boundless.charge(FREE, b"two", "model"), boundless.charge(OPEN, b"")]
        entries = boundless.entries()
        assert entries == charged == [sealed(entry) for entry in entries]
        assert [(entry.number, entry.at, entry.key) for entry in entries] == [(1, 1, ""), (2, 2, "model"), (3, 3, "")]
        assert [entry.spend for entry in entries] == [OPEN, FREE, OPEN]
        assert [entry.digest for entry in entries] == [
            hashlib.sha256(data).hexdigest() for data in (b"one", b"two", b"")
        ]
        assert [entry.previous for entry in entries] == [GENESIS, entries[0].hash, entries[1].hash]
        assert {entry.budget for entry in entries} == {Budget()} == {boundless.budget}

    def test_what_was_paid_for_is_covered(self, boundless: Ledger) -> None:
        """And nothing else, not even what was asked about."""
        boundless.charge(OPEN, b"one")
        boundless.afford(OPEN)
        assert boundless.covers(hashlib.sha256(b"one").hexdigest())
        assert not boundless.covers(hashlib.sha256(b"two").hexdigest())
        assert len(boundless.entries()) == 1

    def test_what_is_bought_with_a_key_is_kept(self, boundless: Ledger) -> None:
        """Once: a second release by the same key is not paid for."""
        boundless.charge(OPEN, b"\0a model", "model")
        assert boundless.bought("model") == b"\0a model"
        with pytest.raises(ConfigError, match="kept as 'model' already"):
            boundless.charge(OPEN, b"another", "model")
        assert boundless.bought("model") == b"\0a model"
        assert boundless.bought("") is None
        assert len(boundless.entries()) == 1
        boundless.charge(OPEN, b"another")
        assert boundless.bought("") is None

    def test_a_budget_pays_for_what_it_pays_and_no_more(self, tmp_path: Path) -> None:
        """Five times and not six; whoever is refused has left nothing; what is free goes on."""
        ledger = self.pays_for(5, tmp_path)
        for number in range(5):
            ledger.afford(NOISY)
            assert ledger.charge(NOISY, bytes([number])).number == number + 1
        for refused in (NOISY, TRAINED, OPEN):
            with pytest.raises(BudgetSpent, match=f"does not pay for {refused.what}: of epsilon"):
                ledger.afford(refused)
            with pytest.raises(BudgetSpent):
                ledger.charge(refused, b"refused", "refused")
        assert ledger.bought("refused") is None
        assert not ledger.covers(hashlib.sha256(b"refused").hexdigest())
        ledger.charge(FREE, b"free")
        assert [entry.spend for entry in ledger.entries()] == [NOISY] * 5 + [FREE]

    def test_another_unit_is_no_protection_and_all_of_a_participant_is(self, tmp_path: Path) -> None:
        """A price for readings says nothing of days."""
        ledger = self.pays_for(1, tmp_path)
        with pytest.raises(BudgetSpent, match="would be inf"):
            ledger.charge(Spend(NOISY.event, Unit.READING, "a mean"), b"")
        ledger.charge(Spend(NOISY.event, Unit.PARTICIPANT, "a mean"), b"")
        with pytest.raises(BudgetSpent):
            ledger.charge(NOISY, b"")

    def test_a_statement_is_honest(self, boundless: Ledger) -> None:
        """Counts and prices by what was released, in the order in which it first was; infinite where it is."""
        pytest.importorskip("dp_accounting")
        for spend in (TRAINED, FREE, NOISY, FREE, NOISY):
            boundless.charge(spend, b"")
        told = boundless.statement()
        noise, trained = Gaussian(10.0, 2), TRAINED.event
        assert told.what == (
            Line(TRAINED.what, 1, epsilon([trained], 1e-5)),
            Line(FREE.what, 2, None),
            Line(NOISY.what, 2, epsilon([noise], 1e-5)),
        )
        assert told.epsilon == epsilon([noise, trained], 1e-5)
        assert (told.unit, told.delta, told.budget_epsilon, told.entries) == (Unit.DAY, 1e-5, math.inf, 5)
        boundless.charge(OPEN, b"")
        assert boundless.statement().epsilon == math.inf
        assert boundless.statement().what[-1] == Line(OPEN.what, 1, math.inf)
