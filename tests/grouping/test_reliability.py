from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstill.errors import ConfigError
from fedstill.grouping.reliability import RULES, reliability
from fedstill.labels import Release, SoftLabels, Space

P, Q = Space.PROBABILITIES, Space.QUANTILES


def say(rows, space=Q, weight=None, score=float("nan")):
    labels = SoftLabels.of(np.arange(len(rows)), np.asarray(rows, np.float32), space, weight)
    return Release(labels=labels, score=score)


def test_entropy_by_hand():
    votes = [say([[0.5, 0.5], [1, 0]], P), say([[0.25, 0.75], [0.5, 0.5]], P, [1, 0])]
    mixed = 0.25 * np.log(0.25) + 0.75 * np.log(0.75)
    assert reliability(votes, "entropy") == pytest.approx(np.array([[-np.log(2), 0], [mixed, -np.inf]]))


def test_width_by_hand():
    votes = [say([[0, 1, 4], [2, 2, 2]]), say([[-1, 0, 1], [0, 5, 9]], weight=[1, 0])]
    assert reliability(votes, "width").tolist() == [[-4, 0], [-2, -np.inf]]


def test_a_single_level_has_no_width():
    with pytest.raises(ConfigError, match=r"single quantile level.*medoid"):
        reliability([say([[1.0]])], "width")


def test_heldout_by_hand():
    votes = [say([[1.0], [2.0]], score=0.25), say([[1.0], [2.0]], weight=[1, 0], score=3.0)]
    assert reliability(votes, "heldout").tolist() == [[-0.25, -0.25], [-3, -np.inf]]


def test_heldout_needs_the_scores_of_those_who_speak():
    silent = say([[1.0]], weight=[0])
    assert reliability([say([[1.0]], score=0.5), silent], "heldout").tolist() == [[-0.5], [-np.inf]]
    with pytest.raises(ValueError, match="release 1 has none; the recipe must ask for scores"):
        reliability([say([[1.0]], score=0.5), say([[1.0]])], "heldout")


def test_medoid_by_hand():
    # Medians of the others: 3.5, 3, 1.5 -> of (1, 2, 5).
    assert reliability([say([[1.0]]), say([[2.0]]), say([[5.0]])], "medoid").tolist() == [
        [-2.5],
        [-1],
        [-3.5],
    ]


def test_medoid_by_levels():
    votes = [say([[0, 0, 0]]), say([[1, 2, 3]])]
    # Masses 0.3, 0.35, 0.35.
    found = reliability(votes, "medoid", levels=(0.1, 0.5, 0.8))
    assert found == pytest.approx(np.full((2, 1), -(0.3 + 0.7 + 1.05)))


def test_medoid_of_classes_is_total_variation():
    votes = [say([[0.9, 0.1]], P), say([[0.6, 0.4]], P)]
    assert reliability(votes, "medoid") == pytest.approx(np.full((2, 1), -0.3))


def test_medoid_finds_the_broken_one():
    rng = np.random.default_rng(1)
    votes = [say(np.sort(rng.normal(size=(20, 3)), axis=1)) for _ in range(5)]
    votes[2] = say(np.full((20, 3), 1e6))
    assert reliability(votes, "medoid").mean(axis=1).argmin() == 2


def test_medoid_alone_on_an_item():
    votes = [say([[7.0], [1.0]]), say([[0.0], [1.0]], weight=[0, 1])]
    assert reliability(votes, "medoid").tolist() == [[0, 0], [-np.inf, 0]]
    assert reliability([say([[7.0]])], "medoid").tolist() == [[0]]


def test_auto_is_medoid():
    for space in (P, Q):
        votes = [say([[0.1, 0.9]], space), say([[0.2, 0.8]], space), say([[0.4, 0.6]], space)]
        np.testing.assert_array_equal(reliability(votes, "auto"), reliability(votes, "medoid"))


def crowd(space, seed, scored=True):
    rng = np.random.default_rng(seed)
    n, k = 5, 3
    votes = []
    for _ in range(6):
        rows = rng.dirichlet(np.ones(k), n) if space == P else np.sort(rng.normal(size=(n, k)), axis=1)
        weight = rng.choice([0.0, 0.5, 1.0], n)
        votes.append(say(rows, space, weight, rng.random() if scored else np.nan))
    return votes


EVERY = [pytest.param(space, kind, id=f"{space}-{kind}") for space, kinds in RULES.items() for kind in kinds]


@pytest.mark.parametrize(("space", "kind"), EVERY)
@given(seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_finite_exactly_where_one_speaks_and_equivariant(space, kind, seed):
    votes = crowd(space, seed)
    found = reliability(votes, kind)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(np.isfinite(found), np.stack([v.labels.weight for v in votes]) > 0)
    assert (found <= 0).all()
    order = np.random.default_rng(seed).permutation(len(votes))
    np.testing.assert_array_equal(reliability([votes[i] for i in order], kind), found[order])


@pytest.mark.parametrize(("space", "kind"), EVERY)
def test_an_abstention_has_no_influence_on_the_others(space, kind):
    votes = crowd(space, 3)
    silent = say(np.full((5, 3), np.nan), space, np.zeros(5))
    np.testing.assert_array_equal(reliability([*votes, silent], kind)[:-1], reliability(votes, kind))


def test_kinds_that_do_not_fit():
    with pytest.raises(
        ConfigError, match=r"reliability of quantiles: there is no 'entropy'.*auto, heldout, medoid, width"
    ):
        reliability(crowd(Q, 0), "entropy")
    with pytest.raises(ConfigError, match="reliability of probabilities: there is no 'width'"):
        reliability(crowd(P, 0), "width")


def test_releases_must_carry_labels():
    with pytest.raises(ValueError, match="release 0 carries no soft labels"):
        reliability([Release()], "auto")
    with pytest.raises(ValueError, match="at least one vote"):
        reliability([], "auto")
