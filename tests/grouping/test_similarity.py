from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, wasserstein_distance

from fedstill.errors import ConfigError
from fedstill.grouping.similarity import MEASURES, column_masses, distances
from fedstill.labels import SoftLabels, Space

P, Q = Space.PROBABILITIES, Space.QUANTILES
LEVELS = (0.1, 0.5, 0.8)


def say(rows, space=Q, weight=None):
    return SoftLabels.of(np.arange(len(rows)), np.asarray(rows, np.float32), space, weight)


def crowd(space, voters=5, n=6, k=3, seed=0, abstain=0.0):
    rng = np.random.default_rng(seed)
    votes = []
    for _ in range(voters):
        rows = rng.dirichlet(np.full(k, 0.4), n) if space == P else np.sort(rng.normal(size=(n, k)), axis=1)
        votes.append(say(rows, space, np.where(rng.random(n) < abstain, 0, rng.uniform(0.5, 2, n))))
    return votes


def every_kind():
    return [pytest.param(space, kind, id=f"{space}-{kind}") for space, kinds in MEASURES.items() for kind in kinds]


def test_js_by_hand():
    # Opposite certainties have a divergence of ln 2, on one of the two items.
    d = distances([say([[1, 0], [1, 0]], P), say([[0, 1], [1, 0]], P)], "js")
    assert d == pytest.approx(np.array([[0, 1], [1, 0]]) * np.sqrt(np.log(2)) / 2)


def test_kl_by_hand():
    p, q = [0.5, 0.5], [0.25, 0.75]
    # Half of (p - q)(ln p - ln q) over the columns: (ln 2 - ln(2/3)) / 8 = ln 3 / 8.
    assert distances([say([p], P), say([q], P)], "kl")[0, 1] == pytest.approx(np.log(3) / 8, rel=1e-6)


def test_kl_of_opposite_certainties_is_finite():
    d = distances([say([[1, 0]], P), say([[0, 1]], P)], "kl")[0, 1]
    assert d == pytest.approx(np.log(1e6), rel=1e-4)


def test_wasserstein_of_classes_is_total_variation():
    d = distances([say([[0.7, 0.3, 0.0]], P), say([[0.2, 0.3, 0.5]], P)], "wasserstein")
    assert d[0, 1] == pytest.approx(0.5)


def test_wasserstein_of_quantiles_by_hand():
    a, b = say([[0, 1, 2]]), say([[1, 3, 5]])
    assert distances([a, b], "wasserstein")[0, 1] == pytest.approx((1 + 2 + 3) / 3)
    # Levels 0.1, 0.5, 0.8 stand for 0.3, 0.35, 0.35.
    assert distances([a, b], "wasserstein", levels=LEVELS)[0, 1] == pytest.approx(0.3 + 0.7 + 1.05)


def test_cosine_by_hand():
    votes = [say([[1.0], [0.0]]), say([[0.0], [1.0]]), say([[-2.0], [0.0]]), say([[0.0], [0.0]])]
    assert distances(votes, "cosine") == pytest.approx(
        np.array([[0, 1, 2, 1], [1, 0, 1, 1], [2, 1, 0, 1], [1, 1, 1, 0]])
    )
    assert distances([votes[3], votes[3]], "cosine")[0, 1] == 0


def test_masses():
    assert column_masses(Q, 3, LEVELS) == pytest.approx([0.3, 0.35, 0.35])
    assert column_masses(Q, 1, [0.5]).tolist() == [1]
    assert column_masses(Q, 4).tolist() == [0.25] * 4
    for wrong in ([0.1, 0.5], [0.5, 0.1, 0.8], [0.0, 0.5, 0.8], [0.1, 0.5, 1.0]):
        with pytest.raises(ValueError, match="3 rising numbers"):
            column_masses(Q, 3, wrong)


def pairwise(votes, of):
    """The slow way: item by item, by the product of the weights."""
    result = np.zeros((len(votes), len(votes)))
    for i, a in enumerate(votes):
        for j, b in enumerate(votes):
            weight = a.weight.astype(float) * b.weight
            rows = [of(x, y) for x, y in zip(a.values.astype(float), b.values.astype(float), strict=True)]
            result[i, j] = np.average(np.nan_to_num(rows), weights=weight)
    return result


ORACLES = {
    ("js", P): lambda p, q: jensenshannon(p, q),
    ("kl", P): lambda p, q: (entropy(p, q) + entropy(q, p)) / 2,
    ("wasserstein", P): lambda p, q: np.abs(p - q).sum() / 2,
    ("wasserstein", Q): lambda p, q: wasserstein_distance(
        p, q, column_masses(Q, 3, LEVELS), column_masses(Q, 3, LEVELS)
    ),
}


@pytest.mark.parametrize(("kind", "space"), ORACLES)
def test_agrees_with_scipy(kind, space):
    votes = crowd(space)
    if kind == "kl":  # away from the lifted edge
        votes = [say(0.9 * v.values + 0.1 / 3, space, v.weight) for v in votes]
    levels = LEVELS if space == Q else None
    expected = pairwise(votes, ORACLES[kind, space])
    assert distances(votes, kind, levels=levels) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_auto():
    for space, kind in ((P, "js"), (Q, "wasserstein")):
        votes = crowd(space)
        np.testing.assert_array_equal(distances(votes, "auto"), distances(votes, kind))


@pytest.mark.parametrize(("space", "kind"), every_kind())
@given(seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_symmetric_zero_diagonal_and_equivariant(space, kind, seed):
    votes = crowd(space, seed=seed, abstain=0.3)
    d = distances(votes, kind)
    assert d.dtype == np.float64
    assert (d == d.T).all()
    assert (np.diag(d) == 0).all()
    assert (d >= 0).all()
    order = np.random.default_rng(seed).permutation(len(votes))
    np.testing.assert_array_equal(distances([votes[i] for i in order], kind), d[np.ix_(order, order)])


@pytest.mark.parametrize(("space", "kind"), [(P, "js"), (P, "wasserstein"), (Q, "wasserstein")])
@given(seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_triangle_inequality_for_equal_weights(space, kind, seed):
    votes = [say(v.values, space) for v in crowd(space, seed=seed)]
    d = distances(votes, kind)
    assert (d[:, None, :] <= d[:, :, None] + d[None, :, :] + 1e-7).all()


@pytest.mark.parametrize(("space", "kind"), every_kind())
def test_twins_are_at_zero(space, kind):
    one = crowd(space, voters=1)[0]
    assert distances([one, one], kind)[0, 1] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("space", "kind"), every_kind())
def test_what_an_abstainer_holds_has_no_influence(space, kind):
    clean = crowd(space, abstain=0.4)
    dirty = [say(np.where(v.weight[:, None] > 0, v.values, np.nan), space, v.weight) for v in clean]
    np.testing.assert_array_equal(distances(dirty, kind), distances(clean, kind))
    # Items that one of two abstains on may as well not be there.
    a, b = crowd(space, voters=2)
    half = np.array([1, 1, 1, 0, 0, 0])
    cut = distances([say(v.values[:3], space) for v in (a, b)], kind)
    both = distances([say(a.values, space, half), say(b.values, space)], kind)
    assert both == pytest.approx(cut, rel=1e-12)


def test_no_common_item_is_as_far_as_the_farthest():
    near, far = say([[0.0], [0.0]]), say([[3.0], [3.0]])
    left, right = say([[0.0], [0.0]], weight=[1, 0]), say([[1.0], [1.0]], weight=[0, 1])
    d = distances([near, far, left, right], "auto")
    assert d.tolist() == [[0, 3, 0, 1], [3, 0, 3, 2], [0, 3, 0, 3], [1, 2, 3, 0]]


def test_no_common_item_at_all():
    left, right = say([[0.0], [0.0]], weight=[1, 0]), say([[5.0], [5.0]], weight=[0, 1])
    assert distances([left, right], "auto").tolist() == [[0, 1], [1, 0]]


def test_one_participant():
    assert distances(crowd(P, voters=1), "js").tolist() == [[0]]


def test_rows_that_miss_one_by_rounding_are_no_distance():
    assert distances([say([[0.5, 0.5]], P), say([[0.50001, 0.50001]], P)], "js")[0, 1] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("kind", ["js", "kl"])
def test_a_kind_for_classes_does_not_fit_quantiles(kind):
    with pytest.raises(ConfigError, match=f"similarity of quantiles: there is no '{kind}'.*auto, cosine, wasserstein"):
        distances(crowd(Q), kind)


def test_an_unknown_kind_names_the_close_one():
    with pytest.raises(ConfigError, match="Did you mean 'cosine'"):
        distances(crowd(P), "cosin")


def test_votes_about_unlike_items():
    one = say([[1.0]])
    with pytest.raises(ValueError, match="other items"):
        distances([one, SoftLabels.of(np.array([5]), one.values, Q)], "auto")
