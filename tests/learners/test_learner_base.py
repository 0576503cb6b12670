"""What the shipped learners share: options, rows, scales, soft labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill.errors import ConfigError, LearnerError, MissingExtra
from fedstill.labels import Outputs, Space
from fedstill.learners import options
from fedstill.learners.base import Parametric
from fedstill.learners.lightgbm import LightGBM
from fedstill.learners.networks import MLP, Linear
from fedstill.learners.options import Option, check_options, need
from fedstill.learners.rows import Rows, Scale, check_parameters, teacher_weights, tidy

QUANTILES = Outputs(Space.QUANTILES, (0.25, 0.5, 0.75))
CLASSES = Outputs(Space.PROBABILITIES, ("a", "b", "c"))

X = np.array([[1.0, 2.0], [3.0, 4.0]])
X_TRANSFER = np.array([[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]])


def test_weights_by_hand():
    each, theirs = teacher_weights(4, np.array([1.0, 3.0]), share=0.25)
    assert each == 0.75
    assert theirs.tolist() == [0.25, 0.75]


@given(
    n=st.integers(1, 50),
    weight=st.lists(st.floats(0, 10), min_size=1, max_size=20),
    share=st.floats(0, 1),
)
def test_weights_sum_to_the_number_of_rows(n, weight, share):
    each, theirs = teacher_weights(n, np.array(weight), share)
    assert each * n + theirs.sum() == pytest.approx(n)


def test_private_rows_by_hand():
    rows = Rows.private(QUANTILES, X, [5.0, 6.0])
    assert rows.target.tolist() == [[5, 5, 5], [6, 6, 6]]
    assert rows.weight.tolist() == [1, 1]
    assert (rows.own, rows.share) == (2, 0)
    assert Rows.private(CLASSES, X, [2, 0]).target.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_taught_rows_by_hand():
    teacher = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    rows = Rows.private(QUANTILES, X, [0.0, 0.0]).taught(QUANTILES, X_TRANSFER, teacher, [1, 0, 3], 0.5)
    assert rows.X[:, 0].tolist() == [1, 3, 5, 9]  # the row without weight is gone
    assert rows.target.tolist() == [[0, 0, 0], [0, 0, 0], [1, 2, 3], [7, 8, 9]]
    assert rows.weight.tolist() == [0.5, 0.5, 0.25, 0.75]
    assert (rows.own, rows.share) == (2, 0.5)


def test_by_class_is_exact_for_the_cross_entropy():
    teacher = np.array([[0.7, 0.3, 0.0], [0.2, 0.2, 0.6], [0.0, 1.0, 0.0]])
    rows = Rows.private(CLASSES, X, [2, 0]).taught(CLASSES, X_TRANSFER, teacher, [1, 2, 3], 0.4)
    repeated, label, weight = rows.by_class()
    assert len(label) == 2 + 2 + 3 + 1
    told = np.abs(np.sin(np.arange(3) + rows.X[:, :1]))  # any positive function of the rows will do
    told_repeated = np.abs(np.sin(np.arange(3) + repeated[:, :1]))
    soft = -(rows.weight[:, None] * rows.target * np.log(told)).sum()
    hard = -(weight * np.log(told_repeated[np.arange(len(label)), label])).sum()
    assert hard == pytest.approx(soft)


def test_trees_learn_soft_targets():
    """Many copies of one row whose teacher says 0.7 and 0.3: that is the prediction."""
    teacher = np.tile([0.7, 0.3, 0.0], (60, 1))
    constant = np.zeros((60, 1))
    learner = LightGBM(CLASSES).distil(constant[:0], np.empty(0), constant, teacher, np.ones(60), 1.0)
    assert learner.predict([[0.0]])[0] == pytest.approx([0.7, 0.3, 0.0], abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": [[1.0, np.nan], [3.0, 4.0]]}, "row 0, column 1: X holds nan"),
        ({"X": [[1.0, 2.0], [1e39, 4.0]]}, "row 1, column 0: X holds 1e\\+39"),
        ({"X": [["a", "b"], ["c", "d"]]}, "X does not hold numbers"),
        ({"X": [1.0, 2.0]}, "X has the shape"),
        ({"y": [1.0]}, "y has 1 rows but X has 2"),
        ({"y": [0.0, np.inf]}, "row 1: y holds inf"),
        ({"teacher": [[0.5, 0.5]] * 3}, "teacher has the shape"),
        ({"teacher": [[0.5, 0.1, 0.1]] * 3}, "row 0: the teacher's row is no distribution"),
        ({"teacher": [[1.2, -0.1, -0.1]] * 3}, "row 0: the teacher's row is no distribution"),
        ({"weight": [1, 1, -1]}, "row 2: a weight is negative"),
        ({"weight": [1, 1]}, "weight has 2 rows but X_transfer has 3"),
        ({"share": -0.1}, "share cannot be -0.1"),
        ({"share": float("nan")}, "share cannot be nan"),
        ({"y": [0, 3]}, "row 1: y holds 3, which is no class"),
        ({"y": [0, 0.5]}, "row 1: y holds 0.5, which is no class"),
    ],
)
def test_bad_rows_are_named(change, message):
    good = {
        "X": X, "y": [0, 1], "X_transfer": X_TRANSFER, "teacher": [[0.5, 0.25, 0.25]] * 3, "weight": [1, 1, 1],
        "share": 0.5,
    }  # fmt: skip
    with pytest.raises(LearnerError, match=message):
        Linear(CLASSES).distil(**{**good, **change})


def test_options_are_checked():
    known = {"rounds": Option(10, 1, 100), "rate": Option(0.1, 0, 1), "hidden": Option((4,), 1, 9)}
    assert check_options("Kind", known, {}) == {"rounds": 10, "rate": 0.1, "hidden": (4,)}
    given_ = {"rounds": np.int64(5), "rate": 1, "hidden": [2, 3]}
    checked = check_options("Kind", known, given_)
    assert checked == {"rounds": 5, "rate": 1.0, "hidden": (2, 3)}
    assert [type(value) for value in checked.values()] == [int, float, tuple]


@pytest.mark.parametrize(
    "bad",
    [{"rounds": 0}, {"rounds": 1.0}, {"rounds": True}, {"learning_rate": "fast"}, {"learning_rate": np.nan},
     {"leaves": None}, {"leaves": 10**9}],
)  # fmt: skip
def test_bad_values_name_the_option(bad):
    with pytest.raises(ConfigError, match=f"LightGBM cannot take {next(iter(bad))} = "):
        LightGBM(QUANTILES, **bad)


def test_unknown_options_get_the_nearest_name():
    with pytest.raises(ConfigError, match=r"LightGBM has no option 'round'.*Did you mean 'rounds'.*leaves"):
        LightGBM(QUANTILES, round=3)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, "x", None])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ConfigError, match="seed"):
        LightGBM(QUANTILES, seed)


@pytest.mark.parametrize(
    "outputs",
    [
        Outputs(Space.QUANTILES, ()),
        Outputs(Space.QUANTILES, (0.5, 0.1)),
        Outputs(Space.QUANTILES, (0.0, 0.5)),
        Outputs(Space.PROBABILITIES, ("only",)),
        Outputs(Space.PROBABILITIES, ("a", "a")),
    ],
)
def test_outputs_without_meaning_are_refused(outputs):
    with pytest.raises(ConfigError):
        LightGBM(outputs)


def test_a_missing_library_says_what_to_install():
    with pytest.raises(MissingExtra, match=r"no_such_module.* Run: pip install that one"):
        need("fedstill_has_no_such_module", "that one")


def test_a_missing_system_library_is_not_told_to_pip(monkeypatch):
    def absent(_: str) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(options, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"libgomp.* Install the system library"):
        need("lightgbm", "lightgbm")


def test_scale_by_hand():
    rows = Rows.private(QUANTILES, [[0.0, 7.0], [2.0, 7.0]], [10.0, 30.0])
    scale = Scale.of(QUANTILES, rows)
    # Column 0 has mean 1 and spread 1; 100 is clipped. Column 1 was constant: what it becomes later means nothing.
    assert scale.inputs(np.array([[0.0, 7.0], [2.5, 8.0], [100.0, -8.0]])).tolist() == [
        [-1, 0],
        [1.5, 0],
        [3, 0],
    ]
    assert scale.targets(rows.target)[:, 0].tolist() == [-1, 1]
    assert scale.restore(np.array([[-1.0, 0.0, 5.0]])).tolist() == [[10, 20, 30]]  # 70 is beyond the range
    assert not scale.is_common
    assert Scale.common(2).is_common


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=9))
def test_tidy_makes_soft_labels(raw):
    quantiles = tidy(QUANTILES, np.array(raw))
    assert (np.diff(quantiles, axis=1) >= 0).all()
    shares = tidy(CLASSES, np.array(raw))
    assert shares.min() > 0
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)


def test_parameters_that_differ_are_named():
    present = {"w": np.zeros((2, 3))}
    check_parameters(present, {"w": np.ones((2, 3))})
    with pytest.raises(LearnerError, match="parameter 'w' has the shape"):
        check_parameters(present, {"w": np.ones((3, 2))})
    with pytest.raises(LearnerError, match="the parameters are v, not w"):
        check_parameters(present, {"v": np.ones((2, 3))})


def test_only_networks_are_parametric():
    assert isinstance(MLP(QUANTILES), Parametric)
    assert not isinstance(LightGBM(QUANTILES), Parametric)


def test_boosting_does_not_depend_on_threads():
    random = np.random.default_rng(0)
    rows, y = random.normal(size=(300, 5)), random.normal(size=300)
    one, two = (LightGBM(QUANTILES, rounds=20, threads=threads).fit(rows, y) for threads in (1, 2))
    assert one.predict(rows).tobytes() == two.predict(rows).tobytes()
