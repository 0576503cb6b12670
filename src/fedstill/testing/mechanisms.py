"""The contract of a mechanism, as tests to inherit.

A module of tests derives a class and says how to make the mechanism::

    class TestMine(MechanismContract):
        def make(self):
            return Mine()

What a mechanism bounds, and that its noise is as large as it says, its own tests have to show: `Recorded` counts the
noise that it drew. Of an `UpdateMechanism` both are here, in `UpdateMechanismContract`.
"""
# ruff: noqa: S101 - these are tests, although they are shipped

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from fedstill import wire
from fedstill.errors import LearnerError
from fedstill.flaws import flaw_of_labels
from fedstill.labels import Array, Outputs, Parameters, SoftLabels
from fedstill.learners.networks import Linear
from fedstill.privacy.base import Asked, Mechanism, UpdateMechanism, Work, multiplier_of
from fedstill.privacy.noise import SeededNoise
from fedstill.privacy.pricing import epsilon
from fedstill.privacy.spending import Budget, Gaussian, Unit, counted
from fedstill.sites import View
from fedstill.testing.fakes import CLASSES, QUANTILES

DAYS, ITEMS = 60, 40
SPACES = {"forecast": QUANTILES, "classes": CLASSES}


class Recorded(SeededNoise):
    """Noise that remembers how many numbers were drawn, `scale` times as large as it should be."""

    def __init__(self, seed: int = 0, scale: float = 1.0) -> None:
        super().__init__(seed)
        self.scale = scale
        self.drawn = 0

    def normal(self, shape: tuple[int, ...]) -> Array:
        """See `Noise`."""
        self.drawn += int(np.prod(shape))
        return self.scale * super().normal(shape)


def view(outputs: Outputs, blocks: int, seed: int = 0, *, private: bool = True) -> View:
    """A made-up view: days of four rows whose load has something to do with the inputs, or single rows of classes."""
    random = np.random.default_rng(seed)
    forecast = outputs is QUANTILES
    rows = 4 if forecast else 1
    known = random.normal(size=(blocks * rows, 3))
    relative = random.normal(size=(blocks * rows, 2 if forecast else 0))
    y = known[:, 0] + 0.1 * random.normal(size=len(known))
    return View(
        known=known,
        relative=relative,
        swing=np.exp(0.1 * random.normal(size=blocks)) if forecast else None,
        offset=np.zeros(len(known)),
        y=None if not private else y if forecast else (y > 0).astype(np.int64),
        block=np.repeat(np.arange(blocks), rows),
        reach=2 if forecast else 1,
        blocks=blocks,
        back=1 if forecast else 0,
        lot=None if forecast else random.integers(2**63, size=blocks).astype(np.uint64),
    )


def work(outputs: Outputs, blocks: int = DAYS, seed: int = 0) -> Work:
    """A made-up participant."""
    public = view(outputs, ITEMS, 7, private=False)
    said = np.sort(np.random.default_rng(3).normal(size=(len(public), len(outputs))), axis=1)
    voice = said if outputs is QUANTILES else np.exp(said) / np.exp(said).sum(axis=1, keepdims=True)
    return Work(view(outputs, blocks, seed), public, outputs, lambda: Linear(outputs), lambda: voice, 3)


class MechanismContract:
    """What every mechanism keeps to. Derive, and override `make`."""

    def make(self) -> Mechanism:
        """The mechanism."""
        raise NotImplementedError

    @pytest.mark.parametrize("budget", [Budget(1.0), Budget(8.0, 1e-6)], ids=["little", "much"])
    @pytest.mark.parametrize("space", SPACES)
    def test_all_answers_stay_within_the_budget_and_use_it(self, space: str, budget: Budget) -> None:
        """Nor is any of it wasted."""
        mechanism, asked = self.make(), work(SPACES[space])
        spends = mechanism.spends(asked, budget, [])
        times = 1 if mechanism.once else asked.answers
        spent = epsilon([counted(spend, budget.unit) for spend in spends] * times, budget.delta)
        assert 0.95 * budget.epsilon < spent <= budget.epsilon

    @pytest.mark.parametrize("space", SPACES)
    def test_what_was_spent_before_is_left_out(self, space: str) -> None:
        """The rest of a budget is what a release may cost."""
        mechanism, asked, budget = self.make(), work(SPACES[space]), Budget(4.0)
        if not mechanism.once:
            pytest.skip("takes the same part for each answer")
        before = Gaussian(3.0)
        spends = mechanism.spends(asked, budget, [before])
        assert epsilon([before, *(spend.event for spend in spends)], budget.delta) <= budget.epsilon

    @pytest.mark.parametrize("space", SPACES)
    def test_the_price_depends_on_no_private_value(self, space: str) -> None:
        """Other values, or fewer rows in as many days, cost the same."""
        mechanism, asked = self.make(), work(SPACES[space])
        own = asked.own
        y = np.zeros_like(own.y)
        swing = None if own.swing is None else 100 * own.swing
        other = replace(asked, own=replace(own, known=-9 * own.known, relative=own.relative * 50, y=y, swing=swing))
        fewer = replace(other, own=replace(other.own, known=own.known[4:], y=y[4:], relative=own.relative[4:]))
        expected = mechanism.spends(asked, Budget(2.0), [])
        assert mechanism.spends(other, Budget(2.0), []) == expected == mechanism.spends(fewer, Budget(2.0), [])

    @pytest.mark.parametrize("space", SPACES)
    def test_what_it_says_are_soft_labels_of_any_public_items(self, space: str) -> None:
        """They pass what a coordinator checks."""
        mechanism, asked = self.make(), work(SPACES[space])
        released = mechanism.release(asked, mechanism.spends(asked, Budget(2.0), []), SeededNoise(1))
        values = mechanism.labels(released, asked.public, asked.outputs)
        labels = SoftLabels.of(np.arange(len(values)), values, asked.outputs.space)
        assert flaw_of_labels(labels, asked.outputs, len(asked.public)) == ""

    @pytest.mark.parametrize("space", SPACES)
    def test_a_release_that_was_kept_says_the_same(self, space: str) -> None:
        """Bytes from a ledger are as good as the release."""
        mechanism, asked = self.make(), work(SPACES[space])
        released = mechanism.release(asked, mechanism.spends(asked, Budget(2.0), []), SeededNoise(1))
        data = wire.pack(None, {name: np.asarray(array, np.float64) for name, array in released.items()})
        said = mechanism.labels(released, asked.public, asked.outputs)
        kept = mechanism.labels(wire.unpack(data, type(None))[1], asked.public, asked.outputs)
        np.testing.assert_array_equal(said, kept)

    @pytest.mark.parametrize("space", SPACES)
    def test_noise_is_drawn_anew(self, space: str) -> None:
        """Another seed is another release."""
        mechanism, asked = self.make(), work(SPACES[space])
        spends = mechanism.spends(asked, Budget(2.0), [])
        one, other = (mechanism.release(asked, spends, SeededNoise(seed)) for seed in (1, 2))
        assert any(not np.array_equal(one[name], other[name]) for name in one)

    @pytest.mark.parametrize("space", SPACES)
    def test_every_private_number_that_leaves_has_noise(self, space: str) -> None:
        """A million times the noise, and nothing that follows from private rows is as it was."""
        mechanism, asked = self.make(), work(SPACES[space])
        spends = mechanism.spends(asked, Budget(2.0), [])
        noise = Recorded(1, scale=1e6)
        loud = mechanism.release(asked, spends, noise)
        quiet = mechanism.release(asked, spends, Recorded(1, scale=0.0))
        other = mechanism.release(work(SPACES[space], seed=5), spends, Recorded(1, scale=0.0))
        assert noise.drawn > 0
        for name, array in quiet.items():
            if not np.array_equal(array, other[name]):  # it tells of private rows
                assert not np.isclose(array, loud[name], rtol=1e-9).any(), name

    @pytest.mark.parametrize("space", SPACES)
    def test_no_rows_are_no_fault(self, space: str) -> None:
        """Whether a release fails would tell of the data."""
        mechanism, asked = self.make(), work(SPACES[space])
        spends = mechanism.spends(asked, Budget(2.0), [])
        own = asked.own
        none = replace(
            own,
            known=own.known[:0],
            relative=own.relative[:0],
            offset=own.offset[:0],
            block=own.block[:0],
            y=None if own.y is None else own.y[:0],
            swing=None if own.swing is None else own.swing[:0],
            lot=None if own.lot is None else own.lot[:0],
        )
        released = mechanism.release(replace(asked, own=none), spends, SeededNoise(1))
        assert all(np.isfinite(array).all() for array in released.values())

    def test_it_can_be_copied(self) -> None:
        """As a pool of workers needs it."""
        mechanism = self.make()
        assert vars(copy.deepcopy(mechanism)) == vars(mechanism)

    def test_its_spends_are_for_the_budget_or_for_all(self) -> None:
        """And they say what they are for."""
        for outputs, unit in ((QUANTILES, Unit.DAY), (CLASSES, Unit.READING)):
            for spend in self.make().spends(work(outputs), Budget(2.0, unit=unit), []):
                assert spend.unit in (unit, Unit.PARTICIPANT)
                assert spend.what


_RANDOM = np.random.default_rng(11)
UPDATES: dict[str, Parameters] = {
    "nothing": {"w": np.zeros((2, 3)), "b": np.zeros(3)},
    "short": {"w": np.full((2, 3), 1e-3), "b": np.zeros(3)},
    "long": {"w": 1e3 * _RANDOM.normal(size=(2, 3)), "b": _RANDOM.normal(size=3).astype("f4")},
    "one number": {"w": np.zeros((2, 3)), "b": np.array([0, -7e4, 0])},
    "vast": {"w": np.full((2, 3), 1e300), "b": np.full(3, -1e300)},
    "tiny": {"w": np.full((2, 3), 1e-310), "b": np.full(3, -5e-324)},
    "of one": {"s": np.array(-3.0)},
}
"""What training might have changed."""
ASKED = {
    "fixed": Asked(0.5, False, 3, 5),
    "adaptive": Asked(0.5, True, 3, 5),
    "quorum of one": Asked(20.0, True, 10, 1),
}


def length(update: Parameters) -> float:
    """L2 norm over all arrays."""
    return float(np.sqrt(sum(float(np.sum(np.asarray(array, np.float64) ** 2)) for array in update.values())))


class UpdateMechanismContract:
    """What every mechanism for updates keeps to. Derive, and override `make`."""

    def make(self) -> UpdateMechanism:
        """The mechanism."""
        raise NotImplementedError

    @pytest.fixture(params=ASKED)
    def asked(self, request: pytest.FixtureRequest) -> Asked:
        """Each exchange in turn."""
        return ASKED[request.param]

    @pytest.mark.parametrize("budget", [Budget(1.0), Budget(8.0, 1e-6)], ids=["little", "much"])
    def test_all_answers_stay_within_the_budget_and_use_it(self, asked: Asked, budget: Budget) -> None:
        """For the participant as a whole; nor is any of it wasted."""
        spends = self.make().spends(asked, budget, [])
        assert all(spend.unit is Unit.PARTICIPANT and spend.what for spend in spends)
        assert 0.95 * budget.epsilon < epsilon([one.event for one in spends] * asked.answers, budget.delta)
        assert epsilon([one.event for one in spends] * asked.answers, budget.delta) <= budget.epsilon

    @pytest.mark.parametrize("name", UPDATES)
    def test_without_noise_no_update_is_beyond_the_clip(self, asked: Asked, name: str) -> None:
        """Whatever it was; and it keeps its direction, its names and its shapes."""
        mechanism, update = self.make(), UPDATES[name]
        told = mechanism.protect(update, asked, mechanism.spends(asked, Budget(2.0), []), Recorded(scale=0.0)).update
        assert {key: array.shape for key, array in told.items()} == {key: np.shape(one) for key, one in update.items()}
        assert length(told) <= asked.clip * (1 + 1e-9)
        for key, array in told.items():
            assert np.isfinite(array).all()
            assert (np.sign(array) == np.sign(update[key])).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_an_update_that_is_not_finite_is_refused(self, asked: Asked, value: float) -> None:
        """Noise would not hide it."""
        mechanism, update = self.make(), {"w": np.zeros(3), "b": np.array([1.0, value])}
        with pytest.raises(LearnerError, match="not finite"):
            mechanism.protect(update, asked, mechanism.spends(asked, Budget(2.0), []), SeededNoise(0))

    def test_whether_it_was_within_is_told_where_it_is_asked_for(self, asked: Asked) -> None:
        """Before the noise it is 1 or 0."""
        mechanism = self.make()
        spends = mechanism.spends(asked, Budget(2.0), [])
        told = [
            mechanism.protect({"w": np.array([far])}, asked, spends, Recorded(scale=0.0)).within
            for far in (0.99 * asked.clip, 1.01 * asked.clip)
        ]
        np.testing.assert_array_equal(told, [1, 0] if asked.adaptive else [np.nan, np.nan])

    def test_the_noise_is_as_large_as_its_price_says(self, asked: Asked) -> None:
        """Two updates lie 2 clips apart at most, and whether they were within 1; all that a price counts on is there.

        What relies on others counts on the noise of a quorum but for one, who looks and takes its own off.
        """
        mechanism, n = self.make(), 20_000
        (spend,) = mechanism.spends(asked, Budget(2.0), [])
        update = mechanism.protect({"w": np.zeros(n)}, asked, [spend], SeededNoise(3)).update["w"]
        parts = max(asked.quorum - 1, 1) if mechanism.relies_on_others else 1
        apart = (2 * asked.clip) ** 2 / (parts * float(np.var(update)))
        if asked.adaptive:
            noise = SeededNoise(4)
            bits = [mechanism.protect({}, asked, [spend], noise).within for _ in range(n)]
            apart += 1 / (parts * float(np.var(bits)))
        assert abs(apart * multiplier_of(spend) ** 2 - 1) < 8 / np.sqrt(2 * n)

    def test_every_number_has_noise_of_its_own(self, asked: Asked) -> None:
        """No two of a release are alike, nor those of two releases."""
        mechanism, noise = self.make(), Recorded(1)
        spends = mechanism.spends(asked, Budget(2.0), [])
        one, other = (mechanism.protect(UPDATES["nothing"], asked, spends, noise) for _ in range(2))
        numbers = [*(array for told in (one, other) for array in told.update.values())]
        seen = np.concatenate([np.ravel(array) for array in numbers] + [[one.within, other.within]])
        seen = seen[np.isfinite(seen)]
        assert len(set(seen.tolist())) == len(seen) == noise.drawn

    def test_it_can_be_copied(self) -> None:
        """As a pool of workers needs it."""
        mechanism = self.make()
        assert vars(copy.deepcopy(mechanism)) == vars(mechanism)
