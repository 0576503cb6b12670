"""The shipped mechanisms keep the contract, and their bounds and noise are as they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedstill.errors import BudgetSpent, ConfigError
from fedstill.privacy.basis import Basis, private_size, public_size
from fedstill.privacy.committee import PrivateCommittee
from fedstill.privacy.dp_sgd import DPSGD, clipped_sums
from fedstill.privacy.guard import Guard, Privacy, simulated_ledger
from fedstill.privacy.label_noise import LabelNoise
from fedstill.privacy.noise import SeededNoise, SystemNoise
from fedstill.privacy.silent import Silent
from fedstill.privacy.spending import Budget, Gaussian, SampledGaussian, Spend, Unit
from fedstill.testing.fakes import CLASSES, QUANTILES
from fedstill.testing.mechanisms import DAYS, MechanismContract, Recorded, view, work

DRAWS = 400


class TestDPSGD(MechanismContract):
    def make(self):
        return DPSGD(steps=10)


class TestDPSGDSampled(MechanismContract):
    def make(self):
        return DPSGD(steps=10, rate=0.5)


class TestCommittee(MechanismContract):
    def make(self):
        return PrivateCommittee(blocks=6)


class TestLabelNoise(MechanismContract):
    def make(self):
        return LabelNoise()


def test_gradients_of_a_block_are_clipped_together():
    first = np.array([[3.0, 0.0], [0.3, 0.0]])
    second = np.array([[4.0], [0.4]])
    sums = clipped_sums([first, second], 1.0)  # the first block is 5 long, the second 0.5
    np.testing.assert_allclose(sums[0], [0.6 + 0.3, 0.0])
    np.testing.assert_allclose(sums[1], [0.8 + 0.4])


@pytest.mark.parametrize("outputs", [QUANTILES, CLASSES], ids=["forecast", "classes"])
def test_a_block_moves_a_step_by_no_more_than_the_clip(outputs):
    """One step without noise, with and without each block: the parameters differ by rate x clip / blocks at most."""
    mechanism, asked = DPSGD(steps=1, clip=0.01, learning_rate=1.0), work(outputs, 12)
    asked = replace(asked, own=replace(asked.own, swing=None))
    spends = [Spend(SampledGaussian(1.0, 1.0, 1, 1), Unit.DAY, "")]
    whole = mechanism.release(asked, spends, Recorded(scale=0.0))
    steps = 1 - 0.9  # of the learning rate in the only step; momentum is corrected for
    for block in range(12):
        kept = asked.own.block != block
        own = replace(asked.own, known=asked.own.known[kept], relative=asked.own.relative[kept])
        own = replace(own, y=asked.own.y[kept], block=asked.own.block[kept], offset=asked.own.offset[kept])
        without = mechanism.release(replace(asked, own=own), spends, Recorded(scale=0.0))
        moved = np.concatenate([(whole[name] - without[name]).ravel() for name in ("weights", "bias")])
        assert 0 < np.linalg.norm(moved) <= 0.01 * steps / 12 * (1 + 1e-9)


def test_the_noise_of_a_step_is_as_large_as_it_says():
    mechanism, asked = DPSGD(steps=1, clip=0.5, learning_rate=1.0), work(CLASSES, 20)
    spends = [Spend(SampledGaussian(1.0, 4.0, 1, 1), Unit.READING, "")]
    quiet = mechanism.release(asked, spends, Recorded(scale=0.0))["weights"]
    apart = [mechanism.release(asked, spends, SeededNoise(i))["weights"] - quiet for i in range(DRAWS)]
    expected = 4.0 * 0.5 / 20 * 0.1  # multiplier x clip, of a mean over 20 blocks, at a tenth of the learning rate
    spread = np.std(apart) / expected
    n = DRAWS * quiet.size
    assert abs(spread - 1) < 4 / np.sqrt(2 * n)
    assert abs(np.mean(apart)) < 4 * expected / np.sqrt(n)


def test_a_teacher_of_a_committee_changes_its_mean_by_no_more_than_it_may():
    mechanism, asked = PrivateCommittee(blocks=6, clip=0.01), work(QUANTILES)
    spends = [Spend(Gaussian(1e-9, 2), Unit.DAY, ""), Spend(Gaussian(1.0), Unit.DAY, "")]
    quiet = mechanism.release(asked, spends, Recorded(scale=0.0))
    mad = asked.own.y.copy()
    mad[asked.own.block == 3] = 1e3  # a day of the first of ten teachers
    other = mechanism.release(replace(asked, own=replace(asked.own, y=mad)), spends, Recorded(scale=0.0))
    frame = np.column_stack(
        [np.ones(len(asked.public)), Basis.from_arrays(quiet).components(asked.public, public_size(asked.public))]
    )
    moved = np.concatenate(
        [frame @ (quiet["slopes"] - other["slopes"]), (quiet["apart"] - other["apart"]) * np.sqrt(len(frame))]
    )
    bound = 0.01 * np.sqrt(len(frame))
    assert 0 < np.linalg.norm(moved) <= 2 * bound / 10 * (1 + 1e-9)


def test_the_noise_of_a_committee_is_as_large_as_it_says():
    mechanism, asked = PrivateCommittee(blocks=6, clip=0.2), work(QUANTILES)
    spends = [Spend(Gaussian(1e-9, 2), Unit.DAY, ""), Spend(Gaussian(3.0), Unit.DAY, "")]
    apart = [mechanism.release(asked, spends, SeededNoise(i))["apart"] for i in range(40)]
    rows = len(asked.public)
    expected = 3.0 * 2 * 0.2 * np.sqrt(rows) / 10 / np.sqrt(rows)
    assert abs(np.std(apart, axis=0).mean() / expected - 1) < 4 / np.sqrt(2 * 40 * 3)


def test_the_days_of_teachers_do_not_touch():
    """Rows of a teacher look back on days of its own stretch alone."""
    own = view(QUANTILES, 60)
    shards = list(PrivateCommittee(blocks=6)._shards(own))
    days = [set(own.block[shard]) | {day - own.back for day in own.block[shard]} for shard in shards]
    assert len(days) == 10
    assert all(not one & other for i, one in enumerate(days) for other in days[:i])


def test_without_a_row_one_teacher_changes_and_all_others_keep_their_rows():
    own = view(CLASSES, 60)
    mechanism = PrivateCommittee(blocks=6)
    whole = [set(own.block[shard]) for shard in mechanism._shards(own)]
    assert set().union(*whole) == set(range(60))
    kept = own.block != 17
    less = replace(own, known=own.known[kept], block=own.block[kept], lot=own.lot[kept])
    without = [set(less.block[shard]) for shard in mechanism._shards(less)]
    assert [one - other for one, other in zip(whole, without, strict=True) if one != other] == [{17}]


def test_votes_are_bought_again_for_other_items_and_coefficients_are_not():
    committee = Privacy("committee", Budget(4.0))
    for outputs, again in ((CLASSES, True), (QUANTILES, False)):
        asked = work(outputs)
        fewer = replace(asked.public, known=asked.public.known[1:], relative=asked.public.relative[1:])
        fewer = replace(fewer, offset=asked.public.offset[1:], block=asked.public.block[1:])
        guard = Guard(committee, asked.public, 1, simulated_ledger(committee.budget), SeededNoise(0))
        said = guard.labels(asked)
        np.testing.assert_array_equal(guard.labels(asked), said)
        if again:
            with pytest.raises(BudgetSpent):
                guard.labels(replace(asked, public=fewer))
        else:
            assert len(guard.labels(replace(asked, public=fewer))) == len(fewer)


def test_a_history_of_one_teacher_hides_nobody():
    with pytest.raises(BudgetSpent, match="too few to hide one"):
        PrivateCommittee(blocks=40).spends(work(QUANTILES), Budget(2.0), [])


def test_noise_on_labels_is_useless_for_few():
    """At epsilon 8 every number of 160 items of three quantiles has noise of ten times its bound."""
    asked = work(QUANTILES)
    (spend,) = LabelNoise().spends(replace(asked, answers=1), Budget(8.0), [])
    said = LabelNoise().release(asked, [spend], SeededNoise(0))["labels"]
    n = said.size
    expected = spend.event.multiplier * 2 * np.sqrt(n)
    assert abs(np.std(said) / expected - 1) < 4 / np.sqrt(2 * n)
    assert expected > 10


def test_a_listener_says_nothing_whatever_the_data():
    with pytest.raises(BudgetSpent, match="only listens"):
        Silent().spends(work(QUANTILES), Budget(), [])


def test_the_size_of_a_load_is_found():
    own = view(QUANTILES, 365)
    own = replace(own, swing=own.swing * 700)
    found = [private_size(own, [Spend(Gaussian(12.0, 2), Unit.DAY, "")], SeededNoise(i)) for i in range(20)]
    assert np.all(np.abs(np.log2(np.array(found) / 700)) < 0.3)


@pytest.mark.parametrize("day", range(0, DAYS, 7))
def test_a_day_changes_one_count_and_at_most_half_an_octave_sum(day):
    """Without noise the size moves by a 60th of the range of four octaves at most, where the bin stays."""
    own = view(QUANTILES, DAYS)
    spends = [Spend(Gaussian(1.0, 2), Unit.DAY, "")]
    whole = private_size(own, spends, Recorded(scale=0.0))
    without = private_size(replace(own, swing=np.delete(own.swing, day)), spends, Recorded(scale=0.0))
    assert abs(np.log2(whole / without)) <= 4 * 0.5 / DAYS + 1e-9


@pytest.mark.parametrize("source", [SystemNoise(), SeededNoise(3)], ids=["system", "seeded"])
def test_noise_is_normal_and_even(source):
    """Moments and the share beyond two, by four standard errors; a false alarm once in some thousand runs."""
    n = 40_000
    normal, even = source.normal((n // 4, 4)).ravel(), source.uniform(n)
    assert abs(normal.mean()) < 4.5 / np.sqrt(n)
    assert abs(normal.std() - 1) < 4.5 / np.sqrt(2 * n)
    beyond = 0.0455
    assert abs((np.abs(normal) > 2).mean() - beyond) < 4.5 * np.sqrt(beyond / n)
    assert even.min() > 0
    assert even.max() < 1
    assert abs(even.mean() - 0.5) < 4.5 * np.sqrt(1 / 12 / n)


def test_the_systems_noise_cannot_be_had_again():
    assert not np.array_equal(SystemNoise().normal((8,)), SystemNoise().normal((8,)))


@pytest.mark.parametrize("options", [{"steps": 0}, {"rate": 0.0}, {"rate": 1.5}, {"clip": 0.0}, {"share": 1.0}])
def test_options_that_train_nothing_are_refused(options):
    with pytest.raises(ConfigError, match="train no release model"):
        DPSGD(**options)


@pytest.mark.parametrize("options", [{"blocks": 0}, {"clip": -1.0}, {"components": 0}])
def test_options_that_make_no_committee_are_refused(options):
    with pytest.raises(ConfigError, match="make no committee"):
        PrivateCommittee(**options)
