"""Lies keep the format, are what their names say, and reach no further than the liars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedstill import Federation, Forecast, Layout, Member, from_frame
from fedstill.algorithms.fedavg import fedavg
from fedstill.algorithms.fedmd import fedmd
from fedstill.algorithms.grouped import grouped
from fedstill.algorithms.sketched import sketched
from fedstill.energy.synthetic import synthetic
from fedstill.errors import ConfigError
from fedstill.flaws import flaw_of_release
from fedstill.labels import Release
from fedstill.messages import Kind, Recipe
from fedstill.strategy import Lesson, Strategy
from fedstill.testing import liars
from fedstill.testing.algorithms import ITEMS, PARTIES, release, votes
from fedstill.testing.fakes import CLASSES, QUANTILES, START, ballot, soft
from fedstill.testing.liars import LIES, SPREADS, TIMES, lying

LABELS, PARAMETERS = Recipe(), Recipe(Kind.PARAMETERS, count=True)
CHANCE = np.random.default_rng(0)
OF_PARAMETERS = sorted(set(LIES) - {"flip"})


def lie(way, *told, place=0):
    """What the liar at that place says, who has the others for allies."""
    return LIES[way](told[place], told, np.random.default_rng(0))


def labels(outputs, *rows):
    return Release(labels=soft(outputs, rows))


def said(way, outputs, *rows):
    """What a lone liar says of items about which it believes this."""
    return lie(way, labels(outputs, *rows)).labels.values


# --- the format ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [QUANTILES, CLASSES], ids=["quantiles", "classes"])
@pytest.mark.parametrize("way", sorted(LIES))
@pytest.mark.parametrize("allies", [1, 3])
def test_lies_about_labels_cannot_be_told_by_their_format(way, outputs, allies):
    for seed in range(20):
        told = [release(LABELS, outputs, seed + ally) for ally in range(allies)]
        false = lie(way, *told)
        assert flaw_of_release(false, LABELS, outputs, ITEMS) == ""
        assert not np.array_equal(false.labels.values, told[0].labels.values)
        assert false.labels.weight is told[0].labels.weight or (false.labels.weight == told[0].labels.weight).all()


@pytest.mark.parametrize("way", OF_PARAMETERS)
def test_lies_about_parameters_cannot_be_told_by_their_format(way):
    told = [release(PARAMETERS, QUANTILES, seed) for seed in range(3)]
    shapes = {name: array.shape for name, array in START.items()}
    false = lie(way, *told)
    assert flaw_of_release(false, PARAMETERS, QUANTILES, ITEMS, shapes) == ""
    assert false.count == told[0].count
    assert not np.array_equal(false.parameters["w"], told[0].parameters["w"])


def test_parameters_have_no_labels_to_flip():
    with pytest.raises(ValueError, match="about soft labels"):
        lie("flip", release(PARAMETERS, QUANTILES, 0))


# --- what is said -------------------------------------------------------------------------------------------


def test_flip_says_the_opposite():
    assert said("flip", QUANTILES, [-1, 0, 3], [1, 2, 4]).tolist() == [[-3, 0, 1], [-4, -2, -1]]
    assert said("flip", CLASSES, [0.75, 0.25, 0]).tolist() == [[0, 0.25, 0.75]]


def test_sign_turns_forecasts_and_parameters_and_what_is_likely():
    assert said("sign", QUANTILES, [-1, 0, 3]).tolist() == [[-3, 0, 1]]
    assert said("sign", CLASSES, [0.75, 0.25, 0]).tolist() == [[0.125, 0.375, 0.5]]
    turned = lie("sign", Release(parameters={"w": np.float32([[1, -2]])})).parameters["w"]
    assert (turned.tolist(), turned.dtype) == ([[-1, 2]], np.float32)


def test_constant_says_the_mean_of_every_item():
    assert said("constant", QUANTILES, [0, 1, 2], [2, 3, 10]).tolist() == [[1, 2, 6]] * 2
    assert said("constant", CLASSES, [1, 0, 0], [0.5, 0.5, 0]).tolist() == [[0.75, 0.25, 0]] * 2
    assert lie("constant", Release(parameters={"w": np.float32([1, 3])})).parameters["w"].tolist() == [2, 2]


def test_scaled_is_ten_times_as_far_from_the_mean():
    """The mean of all six values is 2; p^10 of a half and a quarter is 1024 to 1."""
    assert TIMES == 10
    assert said("scaled", QUANTILES, [0, 1, 2], [2, 3, 4]).tolist() == [[-18, -8, 2], [2, 12, 22]]
    np.testing.assert_allclose(said("scaled", CLASSES, [0.5, 0.25, 0.25]), [[1024 / 1026, 1 / 1026, 1 / 1026]])
    assert lie("scaled", Release(parameters={"w": np.float32([1, 3])})).parameters["w"].tolist() == [-8, 12]


def test_noise_moves_all_quantiles_of_an_item_alike():
    believed = np.sort(np.random.default_rng(1).normal(size=(5000, 3)), axis=1)
    off = said("noise", QUANTILES, *believed) - believed
    np.testing.assert_allclose(off, off[:, [0]] @ np.ones((1, 3)), atol=1e-5)
    assert off[:, 0].std() == pytest.approx(SPREADS * believed.std(), rel=0.05)
    assert abs(off.mean()) < 0.2


def test_colluders_say_the_same_beyond_what_they_believe():
    """Medians of the two are 1, 2, 3 and 3, 4, 5; the six values have the mean 3 and the variance 10/6."""
    told = labels(QUANTILES, [0, 1, 2], [2, 3, 4]), labels(QUANTILES, [2, 3, 4], [4, 5, 6])
    expected = np.array([[1, 2, 3], [3, 4, 5]]) + SPREADS * np.sqrt(10 / 6)
    for place in range(2):
        np.testing.assert_allclose(lie("collusion", *told, place=place).labels.values, expected, rtol=1e-6)
    nudged = lie("nudge", *told).labels.values - expected
    np.testing.assert_allclose(nudged, (liars.LITTLE - SPREADS) * np.sqrt(10 / 6), rtol=1e-5)


def test_colluders_are_sure_of_the_class_that_they_would_name_least():
    told = labels(CLASSES, [0.6, 0.4, 0], [0.1, 0.3, 0.6]), labels(CLASSES, [0.8, 0.2, 0], [0.1, 0.1, 0.8])
    np.testing.assert_allclose(lie("collusion", *told).labels.values, [[0.0045, 0.991, 0.0045]] * 2, rtol=1e-5)


def test_colluders_shift_the_mean_of_their_parameters():
    """Their mean is 1 and 5, whose standard deviation is 2."""
    told = Release(parameters={"w": np.float32([0, 4])}), Release(parameters={"w": np.float32([2, 6])})
    assert lie("collusion", *told).parameters["w"].tolist() == [1 + 2 * SPREADS, 5 + 2 * SPREADS]


# --- liars in a federation ----------------------------------------------------------------------------------


def heard_by(among, cast):
    """The ballot that an algorithm sees, with these liars, of another one."""
    heard = []
    watched = Strategy("watched", lambda seen: heard.append(seen) or Lesson(), LABELS)
    lying(watched, among).teach(cast)
    return {vote.party: vote.release for vote in heard[0].votes}


def test_without_liars_the_algorithm_is_what_it_was():
    strategy = grouped()
    assert lying(strategy, {}) is strategy


def test_who_does_not_lie_is_heard_as_it_spoke():
    cast = votes(fedmd(), QUANTILES)
    heard = heard_by({"b": "noise", "d": "flip", "nobody": "flip"}, cast)
    for vote in cast.votes:
        assert (heard[vote.party] is vote.release) == (vote.party not in ("b", "d"))
    assert list(heard) == list(PARTIES)


def test_liars_know_their_allies_and_nobody_else():
    cast = votes(fedmd(), QUANTILES)
    among = {"a": "collusion", "b": "collusion", "c": "nudge"}
    heard = heard_by(among, cast)
    honest = [replace(v, release=release(LABELS, QUANTILES, 77)) if v.party in "cde" else v for v in cast.votes]
    other = heard_by(among, replace(cast, votes=honest))
    for party in "ab":
        assert heard[party].labels.values.tolist() == other[party].labels.values.tolist()
    assert heard["a"].labels.values.tolist() == heard["b"].labels.values.tolist()


def test_chance_has_a_seed_for_each_liar():
    told = release(LABELS, QUANTILES, 0)
    cast = ballot(QUANTILES, dict.fromkeys("abc", told))
    once, again = (heard_by({"a": "noise", "b": "noise"}, cast) for _ in range(2))
    assert once["a"].labels.values.tolist() == again["a"].labels.values.tolist()
    assert once["a"].labels.values.tolist() != once["b"].labels.values.tolist()


def test_sketches_stay_true():
    strategy = sketched()
    cast = votes(strategy, QUANTILES)
    assert heard_by({"a": "flip"}, cast)["a"] is cast.votes[0].release


def test_a_lie_that_there_is_not():
    with pytest.raises(ConfigError, match="there is no 'flop'"):
        lying(fedmd(), {"a": "flop"})


def test_a_lie_of_ones_own():
    silent = lambda told, allies, draw: replace(told, labels=soft(QUANTILES, [7] * ITEMS))  # noqa: E731
    assert heard_by({"a": silent}, votes(fedmd(), QUANTILES))["a"].labels.values[0].tolist() == [7, 7, 7]


def test_a_mean_follows_two_liars_of_five_and_a_median_does_not():
    """Three say 0, two believe 1 and 3 and say the mean, 2, and `SPREADS` times its deviation, 1, more: 5."""
    cast = ballot(
        QUANTILES, {**dict.fromkeys("abc", labels(QUANTILES, 0, 0)), **dict.fromkeys("de", labels(QUANTILES, 1, 3))}
    )
    among = dict.fromkeys("de", "collusion")

    def teacher(strategy):
        return lying(strategy, among).teach(cast).teachers["a"].labels.values[:, 1].tolist()

    assert teacher(fedmd(aggregate="median")) == [0, 0]
    assert teacher(grouped()) == [0, 0]
    assert teacher(fedmd()) == pytest.approx([2 * 4 / 5, 2 * 6 / 5])


SITES = list(from_frame(synthetic(4, 70), Layout(timezone="Europe/Berlin")).values())


def test_a_federation_among_liars():
    """One of three says the opposite: what the others are taught, and only what comes of that, is another."""
    task = Forecast(test=("2016-03-01", "2016-03-03"), levels=(0.1, 0.5, 0.9), companions=(), folds=2)
    members = [
        Member(name, site, "linear", {"iterations": 5}, ("2016-01-10", "2016-02-25"))
        for name, site in zip("abc", SITES, strict=False)
    ]

    def run(strategy):
        history = Federation(task, members, SITES[3], strategy=strategy, items=60).run()
        return {one.name: one.predictions for one in history.outcomes}, history.report.settings["strategy"]

    (honest, name), (same, _), (misled, among) = (run(lying(fedmd(), who)) for who in ({}, {}, {"c": "flip"}))
    assert (name, among) == ("fedmd", "fedmd among liars")
    for party in "abc":
        for way in ("local", "distilled", "federated"):
            assert np.array_equal(honest[party][way], same[party][way])
        assert np.array_equal(honest[party]["local"], misled[party]["local"])
        assert not np.array_equal(honest[party]["distilled"], misled[party]["distilled"])


def test_liars_among_those_who_average_parameters():
    start = {"w": np.zeros(1, np.float32)}
    cast = ballot(
        QUANTILES,
        {p: Release(parameters={"w": np.float32([x])}) for p, x in zip("abcde", (1, 2, 3, 4, 5), strict=True)},
    )
    found = {
        rule: lying(replace(fedavg(aggregate=rule, weights="equal"), memory=start), {"e": "sign"}).teach(cast)
        for rule in ("mean", "median", "trimmed")
    }
    taught = {rule: lesson.teachers["a"].parameters["w"].tolist() for rule, lesson in found.items()}
    assert taught == {"mean": [1.0], "median": [2.0], "trimmed": [2.0]}
