"""The contract of a learner, as tests to inherit.

A module of tests derives a class and says how to make the learner; pytest does the rest::

    class TestMine(LearnerContract):
        def make(self, outputs, seed=0):
            return Mine(outputs, seed, trees=20)

Small options keep it quick: there are 200 rows of 6 columns. `ParametricContract` adds what averaging needs.
"""
# ruff: noqa: S101 - these are tests, although they are shipped

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fedstill.errors import FedstillError, LearnerError
from fedstill.labels import Array, Outputs, Parameters, Space
from fedstill.learners.base import Learner, Parametric

QUANTILES = Outputs(Space.QUANTILES, (0.1, 0.5, 0.9))
CLASSES = Outputs(Space.PROBABILITIES, ("low", "middle", "high"))


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def signal(X: Array) -> Array:
    """What there is to learn from rows, (n,): it lives in the first two of the columns."""
    return np.asarray(X[:, 0] + 0.5 * X[:, 1], np.float64)


def rows(outputs: Outputs, n: int = 200, seed: int = 1) -> tuple[Array, Array]:
    """Private rows of an easy problem, (n, 6) and (n,), read-only."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 6)).astype(np.float32)
    y = signal(X) + 0.2 * random.normal(size=n)
    return _read_only(X), _read_only(y if outputs.space is Space.QUANTILES else np.digitize(y, (-0.5, 0.5)))


def beliefs(outputs: Outputs, centre: Array) -> Array:
    """What a teacher believes who takes the signal for `centre`, (n, 3), float32, read-only."""
    if outputs.space is Space.QUANTILES:
        return _read_only((centre[:, None] + np.array([-0.25, 0.0, 0.25])).astype(np.float32))
    shares = np.full((len(centre), 3), 0.05, np.float32)
    shares[np.arange(len(centre)), np.digitize(centre, (-0.5, 0.5))] = 0.9
    return _read_only(shares)


def mean_loss(outputs: Outputs, y: Array, told: Array) -> float:
    """Pinball loss or cross-entropy of predictions (n, k)."""
    if outputs.space is Space.QUANTILES:
        miss = y[:, None] - told
        return float(np.maximum(outputs.levels * miss, (outputs.levels - 1) * miss).mean())
    return float(-np.log(told[np.arange(len(y)), y]).mean())


def distance(one: Array, other: Array) -> float:
    """Mean absolute difference."""
    return float(np.abs(np.asarray(one, np.float64) - other).mean())


class LearnerContract:
    """What every learner keeps to. Derive, and override `make`."""

    spaces: ClassVar[tuple[Space, ...]] = (Space.QUANTILES, Space.PROBABILITIES)
    """The spaces that the learner can predict in."""

    def make(self, outputs: Outputs, seed: int = 0) -> Learner:
        """Build the learner, quick options and all."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for each kind of outputs that the learner has."""
        if "outputs" in metafunc.fixturenames:
            every = [outputs for outputs in (QUANTILES, CLASSES) if outputs.space in self.spaces]
            metafunc.parametrize("outputs", every, ids=[str(outputs.space) for outputs in every])

    def distilled(self, outputs: Outputs, share: float, seed: int = 0) -> Learner:
        """A learner taught the opposite of what its private rows say."""
        X, y = rows(outputs)
        X_transfer, _ = rows(outputs, seed=2)
        teacher = beliefs(outputs, -signal(X_transfer))
        weight = _read_only(np.ones(len(teacher), np.float32))
        return self.make(outputs, seed).distil(X, y, X_transfer, teacher, weight, share)

    def test_it_is_a_learner(self, outputs: Outputs) -> None:
        """It has the methods, and its outputs are those it was built with."""
        learner = self.make(outputs)
        assert isinstance(learner, Learner)
        assert learner.outputs == outputs

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_predictions_are_soft_labels(self, outputs: Outputs, dtype: Any) -> None:
        """Float32 of shape (n, k); quantiles do not decrease, probabilities sum to 1; no rows give no rows."""
        X, y = rows(outputs)
        learner = self.make(outputs).fit(X.astype(dtype), y)
        told = learner.predict(rows(outputs, 50, seed=3)[0].astype(dtype))
        assert told.shape == (50, 3)
        assert told.dtype == np.float32
        assert np.isfinite(told).all()
        if outputs.space is Space.QUANTILES:
            assert (np.diff(told, axis=1) >= 0).all()
        else:
            assert (told >= 0).all()
            np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-5)
        assert learner.predict(np.empty((0, 6), dtype)).shape == (0, 3)

    def test_it_learns(self, outputs: Outputs) -> None:
        """On new rows its loss is well below that of the best constant."""
        X, y = rows(outputs)
        X_new, y_new = rows(outputs, seed=3)
        if outputs.space is Space.QUANTILES:
            constant = np.quantile(y, outputs.levels)
        else:
            constant = np.bincount(y, minlength=3) / len(y)
        told = self.make(outputs).fit(X, y).predict(X_new)
        assert mean_loss(outputs, y_new, told) < 0.75 * mean_loss(outputs, y_new, np.tile(constant, (200, 1)))

    def test_the_seed_decides(self, outputs: Outputs) -> None:
        """Same seed, same bytes: however many others are built and trained in between, and in which order."""
        X, y = rows(outputs)
        first, other, second = self.make(outputs, 3), self.make(outputs, 4), self.make(outputs, 3)
        second.fit(X, y)
        other.fit(X[::-1], y[::-1])
        first.fit(X, y)
        assert first.predict(X).tobytes() == second.predict(X).tobytes()

    def test_fit_forgets(self, outputs: Outputs) -> None:
        """A second `fit` starts from scratch."""
        X, y = rows(outputs)
        twice = self.make(outputs).fit(-X, y).fit(X, y)
        assert twice.predict(X).tobytes() == self.make(outputs).fit(X, y).predict(X).tobytes()

    def test_the_world_stays_as_it_was(self, outputs: Outputs) -> None:
        """NumPy's global random state is not touched; that inputs are not is shown by their being read-only."""
        before = str(np.random.get_state())  # noqa: NPY002 - the very thing that must not change
        self.distilled(outputs, 0.5).predict(rows(outputs)[0])
        assert str(np.random.get_state()) == before  # noqa: NPY002

    def test_share_0_is_fit(self, outputs: Outputs) -> None:
        """A teacher without a share has no say."""
        X, y = rows(outputs)
        np.testing.assert_allclose(
            self.distilled(outputs, 0.0).predict(X), self.make(outputs).fit(X, y).predict(X), atol=1e-6
        )

    def test_share_1_follows_the_teacher(self, outputs: Outputs) -> None:
        """A teacher with all the weight is followed, whatever the private rows say."""
        X_new, _ = rows(outputs, seed=3)
        teacher = beliefs(outputs, -signal(X_new))
        told = self.distilled(outputs, 1.0).predict(X_new)
        assert distance(told, teacher) < 0.6 * distance(teacher.mean(axis=0), teacher)

    def test_it_learns_from_a_teacher_alone(self, outputs: Outputs) -> None:
        """A student without private rows is taught all the same."""
        X_transfer, _ = rows(outputs, seed=2)
        teacher = beliefs(outputs, signal(X_transfer))
        nothing = rows(outputs, 0)
        learner = self.make(outputs).distil(*nothing, X_transfer, teacher, np.ones(200, np.float32), 0.5)
        X_new, _ = rows(outputs, seed=3)
        wanted = beliefs(outputs, signal(X_new))
        assert distance(learner.predict(X_new), wanted) < 0.6 * distance(wanted.mean(axis=0), wanted)

    def test_a_teacher_fills_gaps(self, outputs: Outputs) -> None:
        """Where there are no private rows, distillation moves predictions towards the teacher."""
        X, y = rows(outputs)
        X_transfer, _ = rows(outputs, seed=2)
        private, gap = X[:, 0] < 0, X_transfer[:, 0] > 0.5
        teacher = beliefs(outputs, np.full(200, -2.0))  # says "low" where private rows suggest "high"
        own = self.make(outputs).fit(X[private], y[private])
        taught = self.make(outputs).distil(
            X[private], y[private], X_transfer[gap], teacher[gap], np.ones(gap.sum(), np.float32), 0.5
        )
        X_new = rows(outputs, seed=3)[0]
        X_new = X_new[X_new[:, 0] > 0.5]
        wanted = teacher[: len(X_new)]
        assert distance(taught.predict(X_new), wanted) < 0.7 * distance(own.predict(X_new), wanted)

    def test_weight_0_abstains(self, outputs: Outputs) -> None:
        """Transfer rows without weight change nothing; if none has any, it is `fit`."""
        X, y = rows(outputs)
        X_transfer, _ = rows(outputs, seed=2)
        teacher = beliefs(outputs, -signal(X_transfer))
        weight = np.repeat(np.array([1, 0], np.float32), 100)
        some = self.make(outputs).distil(X, y, X_transfer, teacher, weight, 0.5)
        few = self.make(outputs).distil(X, y, X_transfer[:100], teacher[:100], weight[:100], 0.5)
        np.testing.assert_allclose(some.predict(X), few.predict(X), atol=1e-6)
        none = self.make(outputs).distil(X, y, X_transfer, teacher, 0 * weight, 0.5)
        np.testing.assert_allclose(none.predict(X), self.make(outputs).fit(X, y).predict(X), atol=1e-6)

    @pytest.mark.parametrize("seen", [[2], [0, 2]], ids=["one class", "two classes"])
    def test_a_site_may_lack_classes(self, seen: list[int]) -> None:
        """All columns are there; the classes seen share nearly all, and the teacher can bring the others."""
        if Space.PROBABILITIES not in self.spaces:
            pytest.skip("this learner does not predict probabilities")
        X, y = rows(CLASSES)
        kept = np.isin(y, seen)
        told = self.make(CLASSES).fit(X[kept], y[kept]).predict(X)
        assert told.shape == (200, 3)
        np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-5)
        assert told[:, seen].sum(axis=1).mean() > 0.9
        X_transfer, _ = rows(CLASSES, seed=2)
        teacher = beliefs(CLASSES, signal(X_transfer))
        learner = self.make(CLASSES).distil(X[kept], y[kept], X_transfer, teacher, np.ones(200), 0.8)
        assert learner.predict(X)[y == 1, 1].mean() > 2 * told[y == 1, 1].mean()

    @pytest.mark.parametrize("n", [1, 2, 7])
    def test_a_few_rows_will_do(self, outputs: Outputs, n: int) -> None:
        """However poor the model, a handful of rows is no error."""
        X, y = rows(outputs)
        assert self.make(outputs).fit(X[:n], y[:n]).predict(X).shape == (200, 3)

    def test_a_stored_model_is_the_same(self, outputs: Outputs, tmp_path: Path) -> None:
        """What is loaded predicts the same bytes, and can learn again."""
        learner = self.distilled(outputs, 0.5, seed=7)
        learner.save(tmp_path)
        loaded = type(learner).load(tmp_path)
        X, y = rows(outputs, seed=3)
        assert loaded.outputs == outputs
        assert loaded.predict(X).tobytes() == learner.predict(X).tobytes()
        assert loaded.fit(X, y).predict(X).tobytes() == self.make(outputs, 7).fit(X, y).predict(X).tobytes()

    def test_damage_is_noticed(self, outputs: Outputs, tmp_path: Path) -> None:
        """A folder that is missing, empty, foreign or cut short anywhere holds no model."""
        kind = type(self.make(outputs))
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        for folder in (tmp_path / "missing", foreign):
            with pytest.raises(LearnerError):
                kind.load(folder)
        (foreign / "learner.json").write_text('{"some": "thing"}')
        with pytest.raises(LearnerError):
            kind.load(foreign)
        stored = tmp_path / "stored"
        stored.mkdir()
        self.make(outputs).fit(*rows(outputs)).save(stored)
        for path in sorted(path for path in stored.rglob("*") if path.is_file()):
            whole = path.read_bytes()
            for part in (whole[: len(whole) // 2], b""):
                path.write_bytes(part)
                with pytest.raises(LearnerError):
                    kind.load(stored)
            path.unlink()
            with pytest.raises(LearnerError):
                kind.load(stored)
            path.write_bytes(whole)
        kind.load(stored)

    def test_nothing_learned_nothing_told(self, outputs: Outputs, tmp_path: Path) -> None:
        """Before it has learned, a learner neither predicts nor is stored."""
        with pytest.raises(LearnerError):
            self.make(outputs).predict(rows(outputs)[0])
        with pytest.raises(LearnerError):
            self.make(outputs).save(tmp_path)

    @pytest.mark.parametrize("flaw", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite_are_refused(self, outputs: Outputs, flaw: float) -> None:
        """In learning and in predicting; the message says where."""
        X, y = rows(outputs)
        flawed = X.copy()
        flawed[17, 4] = flaw
        with pytest.raises(LearnerError, match="17"):
            self.make(outputs).fit(flawed, y)
        with pytest.raises(LearnerError, match="17"):
            self.make(outputs).fit(X, y).predict(flawed)

    def test_what_does_not_fit_together_is_refused(self, outputs: Outputs) -> None:
        """Shapes, lengths, weights and shares that cannot be."""
        X, y = rows(outputs)
        learner, weight = self.make(outputs), np.ones(200)
        teacher = beliefs(outputs, signal(X))
        bad: list[Callable[[], object]] = [
            lambda: learner.fit(X[:, 0], y),
            lambda: learner.fit(X, y[:-1]),
            lambda: learner.fit(X[:0], y[:0]),
            lambda: learner.fit(X[:, :0], y),
            lambda: learner.distil(X, y, X[:, 1:], teacher, weight, 0.5),
            lambda: learner.distil(X, y, X, teacher[:, 1:], weight, 0.5),
            lambda: learner.distil(X, y, X, teacher[1:], weight, 0.5),
            lambda: learner.distil(X, y, X, teacher, weight[1:], 0.5),
            lambda: learner.distil(X, y, X, teacher, -weight, 0.5),
            lambda: learner.distil(X, y, X, teacher * np.float32(np.nan), weight, 0.5),
            lambda: learner.distil(X, y, X, teacher, weight, 1.5),
            lambda: learner.distil(X[:0], y[:0], X, teacher, weight * 0, 0.5),
            lambda: self.make(outputs).fit(X, y).predict(X[:, 1:]),
        ]
        if outputs.space is Space.PROBABILITIES:
            bad += [
                lambda: learner.fit(X, y + 1),
                lambda: learner.fit(X, y - 1),
                lambda: learner.fit(X, y + 0.5),
            ]
        for attempt in bad:
            with pytest.raises(LearnerError):
                attempt()

    def test_unknown_options_are_named(self, outputs: Outputs) -> None:
        """An option that the learner does not have is refused by name."""
        build: Any = type(self.make(outputs))
        with pytest.raises(FedstillError, match="no_such_option"):
            build(outputs, 0, no_such_option=1)


class ParametricContract(LearnerContract):
    """What a learner keeps to whose parameters can be averaged. Derive, and override `make` (and `loss`)."""

    def loss(self, learner: Parametric, X: Array, y: Array) -> float:
        """The loss whose gradient `gradient` is; by default the learner's own method `loss`."""
        own: Any = learner
        return float(own.loss(X, y))

    def start(self, outputs: Outputs, seed: int = 0) -> Parametric:
        """A learner with start parameters."""
        learner = self.make(outputs, seed)
        assert isinstance(learner, Parametric)
        return learner.initialise(6)

    def test_the_start_depends_on_the_seed(self, outputs: Outputs) -> None:
        """Same seed, same start; another seed, another."""
        one, same, other = (self.start(outputs, seed).parameters() for seed in (0, 0, 1))
        assert all(np.array_equal(one[name], same[name]) for name in one)
        assert any(not np.array_equal(one[name], other[name]) for name in one)

    def test_parameters_travel(self, outputs: Outputs) -> None:
        """Set on another instance, also as read-only float32, they make it predict the same."""
        X, y = rows(outputs)
        learner, other = self.start(outputs), self.start(outputs, seed=1)
        learner.train(X, y, epochs=2, learning_rate=0.01)
        other.set_parameters(learner.parameters())
        assert other.predict(X).tobytes() == learner.predict(X).tobytes()
        other.set_parameters(
            {name: _read_only(array.astype(np.float32)) for name, array in learner.parameters().items()}
        )
        np.testing.assert_allclose(other.predict(X), learner.predict(X), atol=1e-4)

    def test_parameters_are_copies(self, outputs: Outputs) -> None:
        """Changing what `parameters` gave, or what was set, does not change the model."""
        X, _ = rows(outputs)
        learner = self.start(outputs)
        told, mine = learner.predict(X), dict(learner.parameters())
        learner.set_parameters(mine)
        for array in (*mine.values(), *learner.parameters().values()):
            array += 1
        assert learner.predict(X).tobytes() == told.tobytes()

    def test_foreign_parameters_are_refused(self, outputs: Outputs) -> None:
        """Names, shapes and values that cannot be; the model stays as it was."""
        X, _ = rows(outputs)
        learner = self.start(outputs)
        good, told = dict(learner.parameters()), learner.predict(X)
        name = next(iter(good))
        bad: list[Parameters] = [
            {},
            {**good, "more": np.zeros(1)},
            {key: array for key, array in good.items() if key != name},
            {**good, name: good[name][:-1]},
            {**good, name: good[name] * np.nan},
        ]
        for parameters in bad:
            with pytest.raises(LearnerError):
                learner.set_parameters(parameters)
        assert learner.predict(X).tobytes() == told.tobytes()

    def test_the_gradient_is_the_slope_of_the_loss(self, outputs: Outputs) -> None:
        """Where it is steepest, the gradient agrees with central differences; its shapes are the parameters'."""
        X, y = rows(outputs)
        learner = self.start(outputs)
        learner.train(X, y, epochs=1, learning_rate=0.01)
        base, gradient, step = learner.parameters(), learner.gradient(X, y), 2e-3
        assert {n: a.shape for n, a in gradient.items()} == {n: a.shape for n, a in base.items()}
        assert all(np.array_equal(base[name], array) for name, array in learner.parameters().items())
        for name, slope in gradient.items():
            place = np.unravel_index(np.argmax(np.abs(slope)), slope.shape)
            losses = []
            for side in (step, -step):
                moved = {key: array.copy() for key, array in base.items()}
                moved[name][place] += side
                learner.set_parameters(moved)
                losses.append(self.loss(learner, X, y))
            assert slope[place] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=0.03, abs=1e-4)

    def test_the_head_is_a_part(self, outputs: Outputs) -> None:
        """Names of some parameters, each once, known as soon as there are parameters."""
        learner = self.start(outputs)
        head = learner.head()
        assert head
        assert len(set(head)) == len(head)
        assert set(head) <= set(learner.parameters())

    def test_a_proximal_term_of_0_is_plain_training(self, outputs: Outputs) -> None:
        """The same bytes."""
        plain, held = self.start(outputs), self.start(outputs)
        plain.train(*rows(outputs), epochs=2, learning_rate=0.01)
        held.train(*rows(outputs), epochs=2, learning_rate=0.01, proximal=0.0)
        assert all(plain.parameters()[name].tobytes() == array.tobytes() for name, array in held.parameters().items())

    def test_a_proximal_term_holds_training_near_its_start(self, outputs: Outputs) -> None:
        """The stronger the nearer: at 100 training is a small part as far as without, from wherever it starts."""
        X, y = rows(outputs)
        base = self.start(outputs, seed=1)
        base.train(X, y, epochs=2, learning_rate=0.01)
        begun, moved = base.parameters(), []
        for proximal in (0.0, 1.0, 100.0):
            base.set_parameters(begun)
            base.train(X, y, epochs=20, learning_rate=0.01, proximal=proximal)
            ways = [array - begun[name] for name, array in base.parameters().items()]
            moved.append(np.sqrt(sum(float(np.sum(way**2)) for way in ways)))
        assert moved[0] > moved[1] > moved[2]
        assert moved[2] < 0.2 * moved[0]

    def test_training_goes_on(self, outputs: Outputs) -> None:
        """Each call lowers the loss further."""
        X, y = rows(outputs)
        learner = self.start(outputs)
        losses = [self.loss(learner, X, y)]
        for _ in range(2):
            learner.train(X, y, epochs=3, learning_rate=0.01)
            losses.append(self.loss(learner, X, y))
        assert losses[0] > losses[1] > losses[2]

    def test_a_mean_of_two_works(self, outputs: Outputs) -> None:
        """Two that start alike and train on rows of their own: the mean of their parameters beats the start."""
        X, y = rows(outputs)
        one, two, mean = (self.start(outputs) for _ in range(3))
        before = self.loss(mean, X, y)
        one.train(X[::2], y[::2], epochs=5, learning_rate=0.01)
        two.train(X[1::2], y[1::2], epochs=5, learning_rate=0.01)
        other = two.parameters()
        mean.set_parameters({name: (array + other[name]) / 2 for name, array in one.parameters().items()})
        assert self.loss(mean, X, y) < before

    @pytest.mark.parametrize("proximal", [-1.0, np.nan, np.inf])
    def test_a_bad_proximal_term_does_not_train(self, outputs: Outputs, proximal: float) -> None:
        """As for epochs and rates."""
        with pytest.raises(LearnerError):
            self.start(outputs).train(*rows(outputs), epochs=1, learning_rate=0.01, proximal=proximal)

    @pytest.mark.parametrize(("epochs", "rate"), [(0, 0.1), (-1, 0.1), (1, 0.0), (1, -1.0), (1, np.nan), (1, np.inf)])
    def test_a_bad_recipe_does_not_train(self, outputs: Outputs, epochs: int, rate: float) -> None:
        """Epochs and learning rates that cannot be: a coordinator elsewhere sends them."""
        with pytest.raises(LearnerError):
            self.start(outputs).train(*rows(outputs), epochs=epochs, learning_rate=rate)

    def test_bad_rows_do_not_train(self, outputs: Outputs) -> None:
        """Rows that `fit` refuses are refused here too."""
        X, y = rows(outputs)
        learner = self.start(outputs)
        for bad_X, bad_y in ((X[:, 1:], y), (X, y[1:]), (X[:0], y[:0])):
            with pytest.raises(LearnerError):
                learner.train(bad_X, bad_y, epochs=1, learning_rate=0.01)
            with pytest.raises(LearnerError):
                learner.gradient(bad_X, bad_y)
        with pytest.raises(LearnerError):
            self.make(outputs).train(X, y, epochs=1, learning_rate=0.01)  # type: ignore[attr-defined]
