"""Sketches: what they are by definition, and what can be told from them about soft labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill.errors import ConfigError
from fedstill.grouping.similarity import distances
from fedstill.grouping.sketch import sketch, sketch_distances
from fedstill.labels import SoftLabels, Space
from fedstill.testing.fakes import CLASSES, QUANTILES, soft


def drawn(n, k=5, seed=0, offset=0.0):
    values = np.sort(np.random.default_rng(seed).normal(size=(n, k)), axis=1) + offset
    return SoftLabels.of(np.arange(n), values, Space.QUANTILES)


def signs(m, size, seed):
    """The projection, read bit by bit from the words of PCG64."""
    words = -(-size // 64)
    rows = np.random.PCG64(seed).random_raw(m * words).reshape(m, words)
    return np.array([[1 if int(row[at // 64]) >> at % 64 & 1 else -1 for at in range(size)] for row in rows])


@pytest.mark.parametrize(("n", "m", "seed"), [(1, 1, 0), (7, 3, 5), (13, 4, 2), (100, 2, 1)])
def test_a_sketch_is_a_projection(n, m, seed):
    """R x / sqrt(m n), with R of signs; 65 numbers need two words a row."""
    labels = drawn(n)
    expected = signs(m, 5 * n, seed) @ labels.values.astype(np.float64).ravel() / np.sqrt(m * n)
    told = sketch(labels, m, seed)
    assert (told.dtype, told.shape) == (np.float32, (m,))
    np.testing.assert_allclose(told, expected, rtol=1e-5, atol=1e-6)


def test_the_signs_stay_what_they_are():
    """Members with different versions must draw the same, so a change here is a change of the protocol."""
    unit = [SoftLabels.of(np.arange(8), np.eye(8)[[i]].reshape(8, 1), Space.QUANTILES) for i in range(8)]
    told = np.array([sketch(one, 2, seed=0) for one in unit]).T * 4
    assert told.tolist() == [[1, 1, 1, 1, 1, -1, 1, -1], [1, -1, -1, -1, -1, 1, -1, -1]]


def test_distances_by_hand():
    """Twice as far along the same line is twice the distance, exactly; 3 and 4 make 5."""
    one, two, three = ([[0, 0, 0]], [[3, 3, 3]], [[6, 6, 6]])
    apart = sketch_distances([sketch(soft(QUANTILES, rows), 8, 1) for rows in (one, two, three)])
    assert np.diag(apart).tolist() == [0, 0, 0]
    assert apart[0, 2] == pytest.approx(2 * apart[0, 1])
    assert sketch_distances([np.float32([0, 3]), np.float32([4, 0])], "euclidean")[0, 1] == 5


def test_cosine_by_hand():
    """At right angles 1, opposite 2, the same direction 0; nothing is at 1 from all but itself."""
    rows = [np.float32(row) for row in ([1, 0], [0, 2], [-3, 0], [5, 0], [0, 0], [0, 0])]
    expected = [
        [0, 1, 2, 0, 1, 1],
        [1, 0, 1, 1, 1, 1],
        [2, 1, 0, 2, 1, 1],
        [0, 1, 2, 0, 1, 1],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
    ]
    assert sketch_distances(rows, "cosine").tolist() == expected


def test_unknown_measures():
    with pytest.raises(ConfigError, match="Choose one of: auto, cosine, euclidean"):
        sketch_distances([np.zeros(2)], "euclid")


def true_squares(one, two):
    return float(((one.values - two.values).astype(np.float64) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("m", [8, 32, 128])
def test_squared_distances_are_right_on_average_and_as_far_off_as_told(m):
    """Over 400 seeds: the mean within four standard errors of the truth, the deviation a fifth around sqrt(2 / m)."""
    one, two = drawn(200, seed=1), drawn(200, seed=2, offset=0.3)
    told = np.array([sketch_distances([sketch(x, m, seed) for x in (one, two)])[0, 1] ** 2 for seed in range(400)])
    ratios = told / true_squares(one, two)
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / 20
    assert ratios.std() == pytest.approx(np.sqrt(2 / m), rel=0.2)


@given(st.integers(1, 60), st.integers(0, 2**32), st.integers(0, 2**32), st.floats(-50, 50))
def test_distances_of_any_soft_labels(n, one_seed, seed, offset):
    """Squares are never off by a factor of two with 256 numbers, more than 5 standard deviations; 0 for the same."""
    one, two = drawn(n, 3, one_seed), drawn(n, 3, one_seed + 1, offset)
    told = sketch_distances([sketch(x, 256, seed) for x in (one, one, two)])
    assert told[0, 1] == 0
    assert 0.5 < told[0, 2] ** 2 / true_squares(one, two) < 2


def test_cosines_of_soft_labels_are_told():
    """With 2000 numbers to a few hundredths, by the same measure of whole soft labels."""
    votes = [drawn(50, seed=seed, offset=offset) for seed, offset in enumerate((0, 0.5, 3))]
    told = sketch_distances([sketch(vote, 2000, 3) for vote in votes], "cosine")
    np.testing.assert_allclose(told, distances(votes, "cosine"), atol=0.1)


def test_the_seed_is_the_projection():
    labels = soft(CLASSES, [[0.2, 0.3, 0.5]] * 50)
    assert sketch(labels, 16, 1).tobytes() == sketch(labels, 16, 1).tobytes()
    assert sketch(labels, 16, 1).tobytes() != sketch(labels, 16, 2).tobytes()
