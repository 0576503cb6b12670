"""The linear model and the perceptron in NumPy: against oracles, and beyond the rows they have seen."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, QuantileRegressor

from fedstill.errors import LearnerError
from fedstill.labels import Outputs, Space
from fedstill.learners.networks import MLP, Linear, network_loss
from fedstill.testing.learners import CLASSES, QUANTILES, rows, signal


def test_pinball_loss_by_hand():
    """Far from the kink the smooth loss is the pinball loss: 0.9 * 10 below the target, 0.1 * 10 above it."""
    outputs = Outputs(Space.QUANTILES, (0.9,))
    for said, loss, slope in ((0.0, 9.0, -0.9), (20.0, 1.0, 0.1)):
        value, gradient = network_loss(outputs, np.array([[said]]), np.array([[10.0]]), np.ones(1))
        assert value == pytest.approx(loss)
        assert gradient.item() == pytest.approx(slope)


def test_cross_entropy_by_hand():
    """Equal scores say 1/3 each: the loss is log 3 whatever the target, the slope is 1/3 minus the target."""
    target = np.array([[0.5, 0.5, 0.0]])
    value, gradient = network_loss(CLASSES, np.zeros((1, 3)), target, np.ones(1))
    assert value == pytest.approx(np.log(3))
    assert gradient[0] == pytest.approx([-1 / 6, -1 / 6, 1 / 3])


def test_weights_are_repetitions():
    random = np.random.default_rng(0)
    said, target = random.normal(size=(2, 4, 3))
    times = np.array([1, 2, 0, 3])
    weighted, _ = network_loss(QUANTILES, said, target, times / times.mean())
    repeated, _ = network_loss(QUANTILES, said.repeat(times, 0), target.repeat(times, 0), np.ones(6))
    assert weighted == pytest.approx(repeated)


def test_linear_agrees_with_the_exact_quantile_regression():
    X, y = rows(QUANTILES, n=500)
    Z = np.clip((X - X.mean(axis=0)) / X.std(axis=0), -3, 3)
    told = Linear(QUANTILES, decay=0.0, iterations=2000).fit(X, y).predict(X)
    for column, level in enumerate(QUANTILES.columns):
        exact = QuantileRegressor(quantile=level, alpha=0, solver="highs").fit(Z, y).predict(Z)
        # The noise has a spread of 0.2: a twentieth of that is well within what 500 rows can tell.
        assert np.abs(told[:, column] - exact).mean() < 0.01


def test_linear_agrees_with_logistic_regression():
    X, y = rows(CLASSES, n=500)
    Z = np.clip((X - X.mean(axis=0)) / X.std(axis=0), -3, 3)
    oracle = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8).fit(Z, y).predict_proba(Z)
    # scikit-learn adds |w|^2 / (2 C) to the sum of losses: that is what `decay` says.
    told = Linear(CLASSES, decay=1.0, iterations=2000).fit(X, y).predict(X)
    np.testing.assert_allclose(told, oracle, atol=2e-3)


@pytest.mark.parametrize("kind", [MLP, Linear])
def test_far_away_nothing_runs_away(kind):
    """A hundred spreads beyond the rows it has seen, it says what it says at three, within the seen targets."""
    X, y = rows(QUANTILES)
    learner = kind(QUANTILES).fit(X, y)
    far = np.array([[100.0, 0, 0, 0, 0, 0], [1000.0, 0, 0, 0, 0, 0]])
    told = learner.predict(far)
    assert told[0].tolist() == told[1].tolist()
    assert told.min() >= np.float32(y.min())
    assert told.max() <= np.float32(y.max())


def test_a_perceptron_bends():
    random = np.random.default_rng(0)
    X = random.uniform(-2, 2, size=(600, 2))
    y = np.abs(X[:, 0]) + 0.05 * random.normal(size=600)
    errors = [np.abs(kind(QUANTILES, decay=0.1).fit(X, y).predict(X)[:, 1] - y).mean() for kind in (MLP, Linear)]
    assert errors[0] < 0.1 < 0.4 < errors[1]


def test_the_scale_of_the_targets_does_not_matter():
    """Loads may be watts or gigawatts."""
    X, y = rows(QUANTILES)
    small, large = (MLP(QUANTILES, epochs=10).fit(X, y * size).predict(X) for size in (1.0, 1e6))
    np.testing.assert_allclose(large / 1e6, small, rtol=1e-3, atol=1e-4)


def test_a_constant_target_is_learned():
    X, _ = rows(QUANTILES)
    np.testing.assert_allclose(MLP(QUANTILES, epochs=2).fit(X, np.full(200, 3.0)).predict(X), 3.0)


def test_parameters_after_fit_are_refused():
    learner = MLP(QUANTILES, epochs=1).fit(*rows(QUANTILES))
    with pytest.raises(LearnerError, match="scale of its own"):
        learner.parameters()
    learner.initialise(6)
    assert set(learner.parameters()) == {"weight_0", "bias_0", "weight_1", "bias_1"}


def test_training_that_goes_astray_is_told():
    X, y = rows(QUANTILES)
    learner = MLP(QUANTILES).initialise(6)
    told = learner.predict(X)
    with pytest.raises(LearnerError, match="ran away"):
        learner.train(X, y, epochs=5, learning_rate=1e300)
    assert learner.predict(X).tobytes() == told.tobytes()


def test_federated_rows_are_only_clipped():
    """After `initialise` there is no private scale: the linear model says weights times clipped inputs."""
    learner = Linear(QUANTILES).initialise(2)
    weight = np.array([[1.0, 1.0, 1.0], [0.0, 0.5, 1.0]])
    learner.set_parameters({"weight_0": weight, "bias_0": np.array([0.0, 0.0, 10.0])})
    assert learner.predict([[1.0, 2.0], [50.0, -50.0]]).tolist() == [[1, 2, 13], [1.5, 3, 10]]


def test_the_proximal_term_by_hand():
    """Targets far above: each level q of three pulls its bias with q/3, so it ends where mu b = q/3."""
    learner = Linear(QUANTILES, decay=0.0, batch=4).initialise(1)
    weight = learner.parameters()["weight_0"]
    learner.train(np.zeros((4, 1)), np.full(4, 50.0), epochs=4000, learning_rate=0.01, proximal=0.1)
    assert learner.parameters()["bias_0"] == pytest.approx([1 / 3, 5 / 3, 3])
    assert np.array_equal(learner.parameters()["weight_0"], weight)  # rows of 0 pull at no weight


@pytest.mark.parametrize("outputs", [QUANTILES, CLASSES], ids=["quantiles", "classes"])
def test_training_with_a_proximal_term_ends_where_both_slopes_cancel(outputs):
    learner = MLP(outputs, decay=0.0, batch=200, hidden=(8,)).initialise(6)
    start = learner.parameters()
    learner.train(*rows(outputs), epochs=1500, learning_rate=0.002, proximal=1.0)
    end, slope = learner.parameters(), learner.gradient(*rows(outputs))
    for name, begun in start.items():
        pull = begun - end[name]
        np.testing.assert_allclose(slope[name], pull, atol=0.1 * np.abs(pull).max())


def test_a_huge_proximal_term_stays_at_the_start():
    """Adam's first step does not see it yet; nothing gets further away than such a step or two."""
    learner = MLP(QUANTILES).initialise(6)
    start = learner.parameters()
    learner.train(*rows(QUANTILES), epochs=30, learning_rate=0.001, proximal=1e9)
    assert all(np.abs(array - start[name]).max() < 0.002 for name, array in learner.parameters().items())


def test_averaging_halves_learns_what_neither_half_holds():
    """Two sites that see one half of the range each: five rounds of averaging serve both."""
    X, y = rows(QUANTILES, n=400)
    sites = [X[:, 0] < 0, X[:, 0] >= 0]
    shared = Linear(QUANTILES).initialise(6).parameters()
    for _ in range(5):
        trained = []
        for site in sites:
            learner = Linear(QUANTILES, decay=0.0).initialise(6)
            learner.set_parameters(shared)
            learner.train(X[site], y[site], epochs=5, learning_rate=0.05)
            trained.append(learner.parameters())
        shared = {name: (trained[0][name] + trained[1][name]) / 2 for name in shared}
    learner.set_parameters(shared)
    assert np.abs(learner.predict(X)[:, 1] - signal(X)).mean() < 0.1
