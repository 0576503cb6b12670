"""The networks in PyTorch keep the contract, and leave torch as they found it."""

from __future__ import annotations

import numpy as np
import pytest

from fedstill.errors import LearnerError
from fedstill.tasks.forecast import Forecast
from fedstill.testing.learners import CLASSES, QUANTILES, ParametricContract, rows, signal

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")

from fedstill.learners.torch import TorchMLP, TorchSequence  # noqa: E402


class TestTorchMLP(ParametricContract):
    def make(self, outputs, seed=0):
        return TorchMLP(outputs, seed, hidden=(16,), epochs=16, batch=50, learning_rate=0.06, decay=1.0)


class TestTorchSequence(ParametricContract):
    def make(self, outputs, seed=0):
        return TorchSequence(
            outputs, seed, sequence=4, channels=4, hidden=(16,), epochs=16, batch=50, learning_rate=0.04,
            decay=1.0,
        )  # fmt: skip


def test_torch_stays_as_it_was():
    X, y = rows(QUANTILES)
    torch.manual_seed(5)
    torch.set_num_threads(2)
    expected = torch.rand(3)
    torch.manual_seed(5)
    TorchMLP(QUANTILES, epochs=1).fit(X, y).predict(X)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 2


def test_the_convolution_sees_the_order_of_time():
    """A pulse tells by its place in the sequence: shuffled columns are another series, static ones are not."""
    random = np.random.default_rng(0)
    X = np.eye(24)[random.integers(24, size=600)]
    y = X.argmax(axis=1) / 12 - 1.0
    learner = TorchSequence(QUANTILES, epochs=60, channels=8, decay=0.1).fit(X, y)
    assert np.abs(learner.predict(X)[:, 1] - y).mean() < 0.1


def test_the_sequence_is_the_last_columns_and_at_most_all_of_them():
    """24 recent hours, as the forecasting task lays its inputs out, are the default."""
    X, y = rows(QUANTILES)
    whole = [TorchSequence(QUANTILES, sequence=length, epochs=1).fit(X, y).predict(X) for length in (0, 6, 24)]
    assert np.array_equal(whole[0], whole[1])
    assert np.array_equal(whole[0], whole[2])
    assert not np.array_equal(whole[0], TorchSequence(QUANTILES, sequence=4, epochs=1).fit(X, y).predict(X))
    task = Forecast()
    recent = TorchSequence(task.outputs).options["sequence"]
    assert task.recent_columns == (len(task.features) - recent, len(task.features))


def test_columns_beside_the_sequence_count():
    X, y = rows(QUANTILES)
    learner = TorchSequence(QUANTILES, sequence=4, epochs=30, learning_rate=0.02, decay=1.0).fit(X, y)
    assert np.corrcoef(learner.predict(X)[:, 1], signal(X))[0, 1] > 0.9


def test_training_with_a_proximal_term_ends_where_both_slopes_cancel():
    learner = TorchMLP(QUANTILES, decay=0.0, batch=200, hidden=(8,)).initialise(6)
    start = learner.parameters()
    learner.train(*rows(QUANTILES), epochs=1500, learning_rate=0.002, proximal=1.0)
    end, slope = learner.parameters(), learner.gradient(*rows(QUANTILES))
    for name, begun in start.items():
        pull = begun - end[name]
        np.testing.assert_allclose(slope[name], pull, atol=0.1 * np.abs(pull).max())


@pytest.mark.parametrize(
    ("kind", "head"),
    [(TorchMLP, ("2.weight", "2.bias")), (TorchSequence, ("head.2.weight", "head.2.bias"))],
)
def test_the_head_is_the_output_layer(kind, head):
    learner = kind(QUANTILES).initialise(6)
    assert learner.head() == head
    assert learner.parameters()[head[0]].shape == (3, 64)


def test_parameters_after_fit_are_refused():
    learner = TorchMLP(CLASSES, epochs=1).fit(*rows(CLASSES))
    with pytest.raises(LearnerError, match="scale of its own"):
        learner.parameters()
