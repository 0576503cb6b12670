"""The release model that Opacus trains keeps the contract, and its gradients are those of NumPy and bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstill.errors import ConfigError
from fedstill.privacy.dp_sgd import DPSGD, block_starts
from fedstill.privacy.noise import SeededNoise
from fedstill.privacy.spending import Budget, Gaussian, SampledGaussian, Spend, Unit
from fedstill.testing.fakes import CLASSES, QUANTILES
from fedstill.testing.mechanisms import MechanismContract, Recorded, view, work

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("opacus", reason="the extra 'opacus' is not installed")
pytest.importorskip("dp_accounting", reason="the extra 'privacy' is not installed")

from fedstill.privacy import opacus  # noqa: E402
from fedstill.privacy.opacus import NetworkDPSGD  # noqa: E402

SPACES = pytest.mark.parametrize("outputs", [QUANTILES, CLASSES], ids=["forecast", "classes"])
PARAMETERS = ["weights", "bias", "hidden_weights", "hidden_bias", "head"]
DRAWS = 200


class TestNetwork(MechanismContract):
    def make(self):
        return NetworkDPSGD(hidden=3, steps=10)


def rows(outputs, sizes, seed=0, scale=1.0):
    """Blocks of so many rows, their components (n, 5) and a view with targets that long."""
    random = np.random.default_rng(seed)
    whole = view(outputs, max(len(sizes), 1))
    n = sum(sizes)
    y = scale * random.normal(size=n) if outputs is QUANTILES else random.integers(len(outputs), size=n)
    block = np.repeat(np.arange(len(sizes)), sizes)
    return 3 * random.uniform(-1, 1, size=(n, 5)), replace(whole, y=y, block=block, known=np.zeros((n, 0)))


def model(mechanism, outputs, seed=1):
    """Parameters far from the start."""
    random = np.random.default_rng(seed)
    return {name: random.normal(size=array.shape) for name, array in mechanism._start(5, outputs).items()}


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def contributions(mechanism, outputs, Z, own, parameters):
    """What each block adds to the sum, (blocks, parameters)."""
    sums, blocks = mechanism._sums(Z, own, outputs), len(block_starts(own))
    return np.stack([flat(sums(parameters, one)) for one in np.eye(blocks, dtype=bool)])


@SPACES
@pytest.mark.parametrize("clip", [0.05, 1e6], ids=["all clipped", "none clipped"])
def test_without_a_hidden_layer_the_sums_are_those_of_numpy(outputs, clip):
    Z, own = rows(outputs, [3, 1, 7, 7, 2])
    ours, theirs = NetworkDPSGD(hidden=0, clip=clip), DPSGD(clip=clip)
    for chosen in (np.ones(5, bool), np.array([True, False, False, True, True])):
        parameters = model(theirs, outputs)
        one, other = (flat(kind._sums(Z, own, outputs)(parameters, chosen)) for kind in (ours, theirs))
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)  # Opacus adds 1e-6 to lengths


@SPACES
@pytest.mark.parametrize("rate", [1.0, 0.05])
def test_without_a_hidden_layer_the_release_is_that_of_numpy(outputs, rate):
    """With the same noise, and the same blocks in each step."""
    asked, options = work(outputs), {"steps": 10, "rate": rate, "learning_rate": 1.0}
    spends = [Spend(Gaussian(9.0, 2), Unit.DAY, ""), Spend(SampledGaussian(rate, 2.0, 10, 2), Unit.DAY, "")]
    kinds = NetworkDPSGD(hidden=0, **options), DPSGD(**options)
    one, other = (kind.release(asked, spends, SeededNoise(1)) for kind in kinds)
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-5)


@SPACES
def test_where_no_block_is_chosen_the_sum_is_zero(outputs):
    mechanism = NetworkDPSGD(hidden=2)
    Z, own = rows(outputs, [2, 3])
    parameters = model(mechanism, outputs)
    assert not flat(mechanism._sums(Z, own, outputs)(parameters, np.zeros(2, bool))).any()


@SPACES
def test_gradients_of_the_hidden_layer_are_differences_of_the_loss(outputs):
    """Of what NumPy says of the rows of a block, in the mean over them."""
    from fedstill.learners.networks import network_loss
    from fedstill.privacy.dp_sgd import targets

    mechanism = NetworkDPSGD(hidden=3, clip=1e9)
    Z, own = rows(outputs, [4])
    parameters, step = model(mechanism, outputs), 1e-6
    found = mechanism._sums(Z, own, outputs)(parameters, np.ones(1, bool))
    assert list(parameters) == PARAMETERS
    for gradient, (name, array) in zip(found, parameters.items(), strict=True):
        for place in np.ndindex(array.shape):
            losses = []
            for way in (step, -step):
                moved = array.copy()
                moved[place] += way
                said = mechanism._say({**parameters, name: moved}, Z)
                losses.append(network_loss(outputs, said, targets(own, outputs), np.ones(len(Z)))[0])
            assert gradient[place] == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-6)


@SPACES
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    clip=st.floats(1e-4, 10),
    scale=st.floats(0, 1e9),
    seed=st.integers(0, 99),
)
def test_a_block_of_any_size_adds_at_most_the_clip(outputs, sizes, clip, scale, seed):
    """And a sum over blocks is what each adds: nothing of one depends on another."""
    mechanism = NetworkDPSGD(hidden=2, clip=clip)
    Z, own = rows(outputs, sizes, seed, scale)
    parameters = model(mechanism, outputs, seed)
    each = contributions(mechanism, outputs, Z, own, parameters)
    assert np.linalg.norm(each, axis=1).max() <= clip * (1 + 1e-12)
    together = flat(mechanism._sums(Z, own, outputs)(parameters, np.ones(len(sizes), bool)))
    np.testing.assert_allclose(together, each.sum(axis=0), rtol=1e-9, atol=1e-12 * clip)


@SPACES
def test_rows_that_fill_up_a_block_change_nothing(outputs):
    """A block of two rows says the same alone as beside one of thirty, however many are computed at a time."""
    mechanism = NetworkDPSGD(hidden=3)
    Z, own = rows(outputs, [2, 30])
    parameters = model(mechanism, outputs)
    beside = contributions(mechanism, outputs, Z, own, parameters)[0]
    alone = replace(own, y=own.y[:2], block=own.block[:2])
    np.testing.assert_allclose(
        beside, contributions(mechanism, outputs, Z[:2], alone, parameters)[0], rtol=1e-12, atol=1e-15
    )


def test_filled_up_rows_are_zeros_without_weight():
    """By hand: blocks of one, three and two rows; four rows at a time."""
    Z = np.arange(1.0, 7.0)[:, None]
    (part,) = opacus.padded(Z, -Z, np.array([0, 1, 4]))
    assert part.blocks.tolist() == [1, 2, 0]
    assert part.inputs[..., 0].tolist() == [[2, 3, 4], [5, 6, 0], [1, 0, 0]]
    assert part.target[..., 0].tolist() == [[-2, -3, -4], [-5, -6, 0], [-1, 0, 0]]
    np.testing.assert_allclose(part.weight, [[1 / 3] * 3, [1 / 2, 1 / 2, 0], [1, 0, 0]])


@SPACES
def test_how_many_rows_are_computed_at_a_time_changes_nothing(outputs, monkeypatch):
    mechanism = NetworkDPSGD(hidden=3)
    Z, own = rows(outputs, [1, 3, 2, 9, 1])
    parameters, chosen = model(mechanism, outputs), np.array([True, True, False, True, True])
    whole = flat(mechanism._sums(Z, own, outputs)(parameters, chosen))
    monkeypatch.setattr(opacus, "ROWS", 4)  # fewer than the longest block has
    starts = block_starts(own)
    assert [part.blocks.tolist() for part in opacus.padded(Z, Z, starts)] == [[3], [1], [2, 0], [4]]
    parts = flat(mechanism._sums(Z, own, outputs)(parameters, chosen))
    np.testing.assert_allclose(parts, whole, rtol=1e-12, atol=1e-15)


def test_the_noise_of_a_step_is_as_large_as_it_says():
    mechanism, asked = NetworkDPSGD(hidden=4, steps=1, clip=0.5, learning_rate=1.0), work(CLASSES, 20)
    spends = [Spend(SampledGaussian(1.0, 4.0, 1, 1), Unit.READING, "")]
    quiet = mechanism.release(asked, spends, Recorded(scale=0.0))
    apart = np.array(
        [
            flat(loud[name] - quiet[name] for name in PARAMETERS)
            for loud in (mechanism.release(asked, spends, SeededNoise(i)) for i in range(DRAWS))
        ]
    )
    expected = 4.0 * 0.5 / 20 * 0.1  # multiplier x clip, of a mean over 20 blocks, at a tenth of the learning rate
    assert abs(np.std(apart) / expected - 1) < 4 / np.sqrt(2 * apart.size)
    assert abs(np.mean(apart)) < 4 * expected / np.sqrt(apart.size)


def test_it_costs_what_dp_sgd_costs():
    """The event counts every block that a day is in, and no parameter."""
    asked = work(QUANTILES)
    size, training = NetworkDPSGD(hidden=9).spends(asked, Budget(2.0), [])
    assert [size, training] == DPSGD().spends(asked, Budget(2.0), [])
    assert training.event.reach == asked.own.reach == 2


def test_a_hidden_layer_says_what_a_linear_model_cannot():
    """Whether two columns have the same sign, at epsilon 4 of 3000 readings; a line parts no such classes."""
    outputs = replace(CLASSES, columns=("unlike", "like"))
    random = np.random.default_rng(0)

    def signs(n):
        X = random.choice([-1.0, 1.0], size=(n, 2)) * random.uniform(0.3, 1, size=(n, 2))
        whole = replace(view(CLASSES, n, private=False), known=X, relative=X[:, :0])
        return whole, (X[:, 0] * X[:, 1] > 0).astype(np.int64)

    (own, y), (public, actual) = signs(3000), signs(500)
    asked = replace(work(CLASSES), own=replace(own, y=y), public=public, outputs=outputs)
    right, options = {}, {"clip": 0.5, "learning_rate": 8.0}
    for mechanism in (DPSGD(**options), NetworkDPSGD(**options)):
        spends = mechanism.spends(asked, Budget(4.0, unit=Unit.READING), [])
        released = mechanism.release(asked, spends, SeededNoise(1))
        right[type(mechanism)] = (mechanism.labels(released, public, outputs).argmax(axis=1) == actual).mean()
    assert right[DPSGD] < 0.7
    assert right[NetworkDPSGD] > 0.9


def test_torch_stays_as_it_was_and_says_nothing(recwarn, capfd):
    asked, mechanism = work(QUANTILES), NetworkDPSGD(hidden=2, steps=2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    mechanism.release(asked, mechanism.spends(asked, Budget(2.0), []), SeededNoise(1))
    assert torch.equal(torch.rand(3), expected)
    assert [str(one.message) for one in recwarn] == []
    assert capfd.readouterr() == ("", "")


def test_a_layer_of_less_than_nothing_is_refused():
    with pytest.raises(ConfigError, match="cannot have -1 units"):
        NetworkDPSGD(hidden=-1)
    with pytest.raises(ConfigError, match="train no release model"):
        NetworkDPSGD(clip=0.0)
