"""What a participant keeps: by the evidence of its held-back rows, pulled towards what does well for most."""

from __future__ import annotations

import numpy as np
import pytest

from fedstill.keep import FLATTERY, PRIOR, PULL, choose
from fedstill.labels import Outputs, Space
from fedstill.sites import Rows
from fedstill.testing.fakes import CLASSES, QUANTILES

MEDIAN = Outputs(Space.QUANTILES, (0.5,))
"""Its pinball loss is half the absolute error."""


def held(n, block=None):
    """Rows whose truth is 0."""
    return Rows(np.zeros((n, 1), np.float32), np.zeros(n), None if block is None else np.array(block))


def says(*numbers):
    return np.array(numbers, np.float32)[:, None]


def test_the_distilled_is_kept_for_the_most_part_where_all_are_as_good():
    """All err by 1, to the same side, so that no blend is better than another: the prior decides."""
    wrong = says(1, 1, 1, 1)
    kept = choose(MEDIAN, held(4), {"distilled": wrong, "own": wrong, "floor": wrong})
    assert (kept.name, dict(kept.weights)) == ("blend", PRIOR)
    assert kept.why == "held-back loss: distilled 0.5, own 0.5, floor 0.5, kept 0.5"


def test_evidence_pulls_away_from_the_prior():
    """The own model is never wrong: nothing that errs at all comes near."""
    kept = choose(MEDIAN, held(4), {"distilled": says(1, 1, 1, 1), "own": says(0, 0, 0, 0)})
    assert (kept.name, kept.weights) == ("own", {"own": 1.0})
    assert kept.why == "held-back loss: distilled 0.5, own 0, kept 0"


@pytest.mark.parametrize(("own", "weight"), [(0.0, 1.0), (0.9, 1.0), (0.97, 0.4), (1.0, 0.1), (2.0, 0.0)])
def test_how_much_better_decides_how_far(own, weight):
    """The distilled model errs by 1 and the own by x: at weight w the error is 1 + w (x - 1), at best b.

    The sum (1 + w (x - 1)) / b + 0.06 (w - 1/9)^2 is least where w = 1/9 + (1 - x) / (0.12 b). For x = 0.97 b is
    0.97, so w = 0.37; for x = 1 it is 1/9; for x = 0.9 it lies above 1, for x = 2 below 0.
    """
    kept = choose(MEDIAN, held(2), {"distilled": says(1, 1), "own": says(own, own)})
    assert PULL == 0.03
    assert kept.weights.get("own", 0.0) == pytest.approx(weight)


def test_days_count_not_rows():
    """Three rows of a day count as one: the own model is right on these, and off by 3 on the other day.

    By rows its mean error is 0.75, less than 1; by days it is 1.5.
    """
    predictions = {"distilled": says(1, 1, 1, 1), "own": says(0, 0, 0, 3)}
    assert choose(MEDIAN, held(4), predictions).weights["own"] > 0.5
    assert choose(MEDIAN, held(4, block=[0, 0, 0, 1]), predictions).weights == {"distilled": 1.0}


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


def test_without_held_back_rows_the_prior_decides():
    """0.8 to 0.1 is 8/9 to 1/9, in tenths 0.9 to 0.1; without a distilled model own and floor count alike."""
    assert dict(choose(MEDIAN, held(0), {"distilled": says(), "own": says()}).weights) == {"distilled": 0.9, "own": 0.1}
    assert dict(choose(MEDIAN, held(0), {"own": says(), "floor": says()}).weights) == {"own": 0.5, "floor": 0.5}


def test_without_any_error_the_prior_decides():
    right = says(0, 0)
    assert dict(choose(MEDIAN, held(2), {"distilled": right, "own": right, "floor": right}).weights) == PRIOR


def test_a_single_candidate_is_kept():
    kept = choose(MEDIAN, held(3), {"own": says(5, 5, 5)})
    assert (kept.name, kept.weights) == ("own", {"own": 1.0})


def test_no_blend_is_worse_than_the_prior_on_the_rows_it_was_chosen_by():
    random = np.random.default_rng(0)
    for _ in range(20):
        predictions = {name: random.normal(size=(30, 1)).astype(np.float32) for name in PRIOR}
        kept = choose(MEDIAN, held(30), predictions)
        usual = sum(weight * predictions[name] for name, weight in PRIOR.items())
        assert np.abs(kept.blend(predictions)).mean() <= np.abs(usual).mean() + 1e-6
        assert sum(kept.weights.values()) == pytest.approx(1)


def test_quantiles_of_what_is_kept_are_as_wide_as_the_held_back_rows_ask():
    """Ten rows, each off by 3 where 1 was said: half of the way from 1 to 3 (`calibrate`)."""
    rows = Rows(np.zeros((10, 1), np.float32), np.array([3.0, -3.0] * 5))
    kept = choose(QUANTILES, rows, {"own": np.tile(np.float32([-1, 0, 1]), (10, 1))})
    assert kept.stretch.factors == pytest.approx((2, 1, 2))
    said = kept.blend({"own": np.float32([[9, 10, 12]]), "floor": np.float32([[0, 0, 0]])})
    assert said.dtype == np.float32
    assert said.tolist() == [[8, 10, 14]]


def test_the_blend_is_stretched_and_not_its_parts():
    """The distilled says -1, 0, 1 and the own 1, 2, 5, so half of each is 0, 1, 3.

    All ten truths are 1, its median, so that no width is needed: half of it is taken back.
    """
    rows = Rows(np.zeros((10, 1), np.float32), np.ones(10))
    distilled, own = (np.tile(np.float32(row), (10, 1)) for row in ([-1, 0, 1], [1, 2, 5]))
    kept = choose(QUANTILES, rows, {"distilled": distilled, "own": own})
    assert dict(kept.weights) == {"distilled": 0.5, "own": 0.5}
    assert kept.blend({"distilled": distilled[:1], "own": own[:1]}).tolist() == [[0.5, 1, 2]]


def test_a_median_alone_and_classes_are_kept_as_they_are():
    assert choose(MEDIAN, held(4), {"own": says(1, 1, 1, 1)}).stretch is None
    sure = np.array([[0.9, 0.1, 0]] * 4, np.float32)
    kept = choose(CLASSES, Rows(np.zeros((4, 1), np.float32), np.zeros(4, int)), {"own": sure})
    assert kept.stretch is None
    assert kept.blend({"own": sure}).tolist() == sure.tolist()


def test_without_held_back_rows_nothing_is_stretched():
    kept = choose(QUANTILES, Rows(np.zeros((0, 1)), np.zeros(0)), {"own": np.zeros((0, 3), np.float32)})
    assert kept.stretch is None


@pytest.mark.parametrize(
    ("hearsay", "own", "weight"),
    [(0.0, 1.03, 0.0), (0.5, 1.03, 1.0), (0.1, 1.03, 0.1)],
)
def test_a_teacher_that_is_the_participant_itself_flatters(hearsay, own, weight):
    """The distilled model errs by 1 on paper and the own by 1.03, which without hearsay has no part at all.

    Half of it hearsay: 1.15 is expected of the distilled model, so the own one is kept. A tenth: 1.03 of both, and the
    prior decides.
    """
    kept = choose(MEDIAN, held(2), {"distilled": says(1, 1), "own": says(own, own)}, hearsay)
    assert FLATTERY == 0.3
    assert kept.weights.get("own", 0.0) == pytest.approx(weight)
