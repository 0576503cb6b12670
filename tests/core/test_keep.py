"""What a participant keeps: by the evidence of its held-back rows, and only if that is clear."""

from __future__ import annotations

import numpy as np
import pytest

from fedstill.keep import CLEAR, Kept, choose
from fedstill.labels import Outputs, Space
from fedstill.sites import Rows
from fedstill.testing.fakes import CLASSES

MEDIAN = Outputs(Space.QUANTILES, (0.5,))
"""Its pinball loss is half the absolute error."""


def held(n, block=None):
    """Rows whose truth is 0."""
    return Rows(np.zeros((n, 1), np.float32), np.zeros(n), None if block is None else np.array(block))


def says(*numbers):
    return np.array(numbers, np.float32)[:, None]


def test_what_is_clearly_better_is_kept():
    """The own model is right where the distilled one is off by 1 on all rows: no doubt is left."""
    kept = choose(MEDIAN, held(4), {"distilled": says(1, 1, 1, 1), "own": says(0, 0, 0, 0)})
    assert (kept.name, kept.weights) == ("own", {"own": 1.0})
    assert kept.why == "held-back loss: distilled 0.5, own 0, kept 0; it beats distilled clearly"


def test_the_first_is_kept_where_it_is_best():
    kept = choose(MEDIAN, held(4), {"distilled": says(0, 0, 0, 0), "own": says(1, 1, 1, 1)})
    assert (kept.name, kept.weights) == ("distilled", {"distilled": 1.0})
    assert "nothing beats distilled clearly (the best blend has 0)" in kept.why


@pytest.mark.parametrize(("last", "name"), [(9.8, "own"), (10.0, "distilled"), (10.2, "distilled")])
def test_clear_is_more_than_two_standard_errors(last, name):
    """The own model is right, so losses differ by 1, 1, 1 and x, x being 4.9, 5 or 5.1.

    At 5 their mean is 2 and their standard deviation 2 (the squares around 2 sum to 12, of which 4 is a third), so
    the standard error of four is 1: twice that is just not exceeded. With 4.9 it is: 1.975 > 2 * 0.975.
    """
    assert CLEAR == 2
    kept = choose(MEDIAN, held(4), {"distilled": says(2, 2, 2, last), "own": says(0, 0, 0, 0)})
    assert kept.name == name


def test_days_count_not_rows():
    """Losses differ by 1, 1, 1, 4.9: clear for four days. Where the first three are one day, it is 1 and 4.9.

    Their mean is 2.95, their standard deviation 3.9 / sqrt(2), so the standard error of two is 1.95: not clear.
    """
    predictions = {"distilled": says(2, 2, 2, 9.8), "own": says(0, 0, 0, 0)}
    assert choose(MEDIAN, held(4), predictions).name == "own"
    assert choose(MEDIAN, held(4, block=[0, 0, 0, 1]), predictions).name == "distilled"


def test_one_day_is_no_evidence():
    """However large the difference: nothing says how much it varies."""
    predictions = {"distilled": says(100, 100), "own": says(0, 0)}
    assert choose(MEDIAN, held(2, block=[3, 3]), predictions).name == "distilled"


def test_a_blend():
    """Of 2 and -3 it takes 0.6 and 0.4 to get 0: 1.2 - 1.2."""
    predictions = {"distilled": says(2, 2, 2), "own": says(-3, -3, -3), "floor": says(9, 9, 9)}
    kept = choose(MEDIAN, held(3), predictions)
    assert (kept.name, dict(kept.weights)) == ("blend", {"distilled": 0.6, "own": 0.4})
    np.testing.assert_allclose(kept.blend(predictions), says(0, 0, 0), atol=1e-6)
    assert "distilled 1, own 1.5, floor 4.5, kept " in kept.why


def test_weights_are_tenths():
    """Of 1 and -2 it would take 2/3 and 1/3; 0.7 (off by 0.1) is nearer than 0.6 (off by 0.2)."""
    kept = choose(MEDIAN, held(3), {"distilled": says(1, 1, 1), "own": says(-2, -2, -2)})
    assert dict(kept.weights) == pytest.approx({"distilled": 0.7, "own": 0.3})


def test_blends_of_classes():
    """Of (0.99, 0.01) and (0.01, 0.99), where each is right every other time, the mean risks least: ln 2 a case."""
    sure = np.array([[0.99, 0.01, 0]] * 12, np.float32)
    predictions = {"own": sure, "floor": sure[:, [1, 0, 2]]}
    kept = choose(CLASSES, Rows(np.zeros((12, 1), np.float32), np.array([0, 1] * 6)), predictions)
    assert kept.weights == {"own": 0.5, "floor": 0.5}
    mixed = kept.blend(predictions)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, [[0.5, 0.5, 0]] * 12, rtol=1e-6)


def test_without_held_back_rows_the_first_is_kept():
    kept = choose(MEDIAN, held(0), {"distilled": says(), "own": says()})
    assert kept == Kept("distilled", {"distilled": 1.0}, "no rows were held back to choose by")


def test_a_single_candidate_is_kept():
    kept = choose(MEDIAN, held(3), {"own": says(5, 5, 5)})
    assert (kept.name, kept.weights) == ("own", {"own": 1.0})


def test_no_blend_is_worse_than_the_first_on_the_rows_it_was_chosen_by():
    random = np.random.default_rng(0)
    for _ in range(20):
        predictions = {name: random.normal(size=(30, 1)).astype(np.float32) for name in ("distilled", "own", "floor")}
        kept = choose(MEDIAN, held(30), predictions)
        assert np.abs(kept.blend(predictions)).mean() <= np.abs(predictions["distilled"]).mean() + 1e-6
        assert sum(kept.weights.values()) == pytest.approx(1)
