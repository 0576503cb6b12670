"""What can be read of days from releases: exact where it must be, nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from fedstill import Classification, Federation, Forecast, Layout, Member, from_frame
from fedstill.attacks import scoring
from fedstill.attacks.batches import batch_curve
from fedstill.attacks.hidden import Blocks, Columns, Guess, Prior
from fedstill.attacks.inversion import first_layer, slopes, through_first_layer, unmixed
from fedstill.attacks.inverters import Heard, Knowledge, direct, guesses, learned
from fedstill.attacks.learned import Surrogate, regression
from fedstill.attacks.reconstruction import reconstruct
from fedstill.attacks.scoring import Trial, judged
from fedstill.attacks.sights import Said
from fedstill.energy.synthetic import synthetic
from fedstill.errors import ConfigError
from fedstill.labels import Release, SoftLabels
from fedstill.messages import Answer, Kind, Recipe, Teach
from fedstill.round import Received, Send
from fedstill.sites import Rows

SITES = list(from_frame(synthetic(5, 70), Layout(timezone="Europe/Berlin")).values())
TASK = Forecast(test=("2016-03-01", "2016-03-08"), levels=(0.1, 0.5, 0.9), companions=(), folds=2)
NETWORK = {"hidden": [64], "epochs": 2}
DIGITS = load_digits()
TABLE = pd.DataFrame(DIGITS.data[:, 8:56:3], columns=[f"p{i}" for i in range(16)]).assign(digit=DIGITS.target % 3)
CLASSES = Classification("digit", ("0", "1", "2"), tuple(f"p{i}" for i in range(16)), companions=(), folds=2)
RECENT = slice(-24, None)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(scoring, "RESAMPLES", 200)


def load(learner="mlp", strategy="fedsgd", **settings):
    options = NETWORK if learner == "mlp" else {}
    members = [
        Member(name, site, learner, options, ("2016-01-10", "2016-02-25"))
        for name, site in zip("abcd", SITES, strict=False)
    ]
    return Federation(TASK, members, SITES[4], strategy=strategy, items=150, **settings)


def digits(learner="mlp", strategy="fedsgd", **settings):
    options = NETWORK if learner == "mlp" else {}
    members = [Member(name, TABLE[i::5], learner, options) for i, name in enumerate("abcd")]
    return Federation(CLASSES, members, TABLE[4::5], strategy=strategy, items=150, **settings)


def played(federation):
    """What the coordinator of a run sees of everybody."""
    decode = federation.agreement.coder.decode
    strategy = federation.strategy
    start = dict.fromkeys(federation.makes, strategy.memory if strategy.parametric else None)
    said = {party: [] for party in federation.makes}

    def observe(seen):
        if isinstance(seen, Received) and isinstance(seen.reply, Answer):
            party, release = seen.reply.sender, decode(seen.reply.payload)
            said[party].append(Said(seen.reply.round, release, start[party], strategy.recipe))
        if isinstance(seen, Send) and isinstance(seen.message, Teach):
            start[seen.to] = decode(seen.message.payload).parameters or None

    federation.run(observe=observe)
    return said


def known_of(federation):
    """The arguments of an attack beside what was said."""
    return federation.prepare(), federation.transfer, federation.task, federation.makes


@pytest.fixture(scope="module")
def sgd():
    one = load(rounds=2)
    return one, played(one)


@pytest.fixture(scope="module")
def labelled():
    one = load("linear", "fedmd")
    return one, played(one)


def answer_of(federation, batch):
    """What an untrained network's gradient says of these rows alone."""
    (make, *_), f = federation.makes.values(), len(federation.task.features)
    model = make(seed=0).initialise(f)
    release = Release(parameters=model.gradient(batch.X, batch.y))
    return Heard(slopes([Said(1, release, model.parameters(), Recipe(release=Kind.GRADIENTS))], f))


def told_by_gradient(federation, batch):
    world = Knowledge.of(federation.prepare(), federation.transfer, federation.task, parametric=True)
    return guesses(direct(world), "a", answer_of(federation, batch), batch)["first layer, exact"]


def days(federation, number, first=5):
    world = Knowledge.of(federation.prepare(), federation.transfer, federation.task, parametric=True)
    return world.blocks["a"].take(np.arange(first, first + number))


@pytest.mark.parametrize("make", [load, digits])
def test_the_gradient_of_one_row_is_the_row(make):
    federation = make()
    row = days(federation, 1)
    row = Blocks(row.X[:1], row.y[:1], row.of[:1], row.columns)
    np.testing.assert_allclose(told_by_gradient(federation, row), row.truth, atol=1e-6)


@pytest.mark.parametrize("number", [1, 5])
def test_the_gradient_of_days_that_the_calendar_tells_apart_holds_their_hours(number):
    federation = load()
    batch = days(federation, number)
    told = told_by_gradient(federation, batch)[:, RECENT]
    np.testing.assert_allclose(told, batch.truth[:, RECENT], atol=1e-6)


def test_days_alike_in_the_calendar_are_told_alike():
    """A Monday and the next one: what is told of either is the same."""
    federation = load()
    batch = days(federation, 8)
    told = told_by_gradient(federation, batch)[:, RECENT]
    np.testing.assert_allclose(told[0], told[7], atol=1e-6)
    truth = batch.truth[:, RECENT]
    assert np.abs(truth[0] - truth[7]).max() > 0.1
    np.testing.assert_allclose(told[1:7], truth[1:7], atol=0.3)


def test_unmixing_separates_three_days():
    random = np.random.default_rng(0)
    rows = random.normal(size=(3, 10))
    table = np.vstack([rows.T, np.ones(3)]) @ random.laplace(0.5, 1, size=(3, 4000))
    found = unmixed(table, np.arange(10), 3, np.random.default_rng(1))
    apart = np.abs(found[:, None] - rows).max(axis=2)
    assert sorted(apart.argmin(axis=1)) == [0, 1, 2]
    assert apart.min(axis=1).max() < 0.25
    assert np.abs(rows[:, None] - rows).max(axis=2)[~np.eye(3, dtype=bool)].min() > 1


def test_more_days_than_columns_are_not_unmixed():
    random = np.random.default_rng(0)
    assert unmixed(random.normal(size=(5, 30)), np.arange(4), 6, random) is None
    assert unmixed(np.zeros((5, 30)), np.arange(4), 2, random) is None


@pytest.mark.parametrize("flip", [False, True])
def test_the_first_layer_is_found_whichever_way_it_lies(flip):
    weight, bias = np.arange(6.0).reshape(2, 3), np.ones(3)
    found = first_layer({"w": weight.T if flip else weight, "b": bias}, 2)
    np.testing.assert_array_equal(found, np.vstack([weight, bias]))
    assert first_layer({"w": weight, "b": bias}, 4) is None
    assert first_layer({}, 2) is None


def test_an_update_is_read_as_a_sum_of_gradients():
    start = {"w": np.ones((2, 3)), "b": np.ones(3)}
    slope = {"w": np.full((2, 3), 3.0), "b": np.full(3, 4.0)}
    moved = {name: start[name] - 0.1 * slope[name] for name in start}
    one = Said(1, Release(parameters=slope), start, Recipe(release=Kind.GRADIENTS))
    other = Said(1, Release(parameters=moved), start, Recipe(release=Kind.PARAMETERS))
    np.testing.assert_allclose(slopes([one], 2), slopes([other], 2))
    assert slopes([one, other], 2).shape == (3, 6)
    assert slopes([replace(one, start=None)], 2) is None


def test_private_is_what_is_made_of_load():
    columns, names = Columns.of(TASK), np.array(TASK.features)
    assert {"minute_sin", "weekday_0"} <= set(names[columns.public])
    assert {"lag_1", "week", "base", "recent_24", "recent_1"} <= set(names[columns.private])
    assert len(Columns.of(CLASSES).public) == 0
    assert len(Columns.of(CLASSES).private) == 16


def sites_of(line, sites, seed=0):
    """Made-up sites with one public column, one private, in blocks of two rows."""
    random = np.random.default_rng(seed)
    columns = Columns(np.array([0]), np.array([1]))

    def one():
        x = random.uniform(-1, 1, 200)
        return Blocks.all(Rows(np.column_stack([x, line(x)]), np.zeros(200), np.repeat(np.arange(100), 2)), columns)

    return {name: one() for name in sites}


def test_the_prior_knows_how_private_goes_with_public():
    (public, *_), sites = sites_of(lambda x: 2 * x**2 - 1, "t").values(), sites_of(lambda x: 2 * x**2 - 1, "abc")
    guess = Prior(public, sites).without("a")
    assert guess.degree == 2
    np.testing.assert_allclose(guess(np.array([[0.0], [1.0]])), [[-1], [1]], atol=0.02)


def test_the_prior_of_a_site_does_not_know_that_site():
    public, sites = sites_of(np.sin, "t")["t"], sites_of(np.sin, "abc")
    changed = {**sites, "a": replace(sites["a"], X=sites["a"].X * 7 + 3)}
    one, other = (Prior(public, known).without("a") for known in (sites, changed))
    np.testing.assert_array_equal(one.coefficients, other.coefficients)
    assert not np.array_equal(Prior(public, changed).without("b").coefficients, one.coefficients)


def test_habits_are_those_of_the_site_itself():
    public, sites = sites_of(lambda x: x, "t")["t"], sites_of(lambda x: -x, "ab")
    sites["a"] = sites_of(lambda x: 2 * x, "a", seed=1)["a"]
    np.testing.assert_allclose(Prior(public, sites).habits("a")(np.ones((1, 1))), [[2]], atol=0.02)


def test_who_knows_nobody_else_has_the_transfer_set():
    public, sites = sites_of(lambda x: 3 * x, "t")["t"], sites_of(lambda x: -x, "a")
    np.testing.assert_allclose(Prior(public, sites).without("a")(np.ones((1, 1))), [[3]], atol=0.02)


def test_a_site_unlike_the_transfer_set_is_told_by_its_gradient():
    """Private = line times public, another line at every site: of many rows in one gradient the line shows."""
    sites = sites_of(lambda x: 2 * x, "a")
    blocks, random = sites["a"], np.random.default_rng(1)
    table = np.column_stack([blocks.X, np.ones(200)]).T @ random.normal(size=(200, 8))
    told = through_first_layer(table, blocks, Guess(1, np.zeros((2, 1))), 1e-12)
    np.testing.assert_allclose(told, blocks.truth, atol=1e-6)


def test_a_surrogate_says_what_was_said():
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 2))
    labels = np.column_stack([np.sin(X[:, 0]), X[:, 1]])
    said = Surrogate(X).of(labels)
    new = random.normal(size=(100, 2)) / 2
    np.testing.assert_allclose(said(new), np.column_stack([np.sin(new[:, 0]), new[:, 1]]), atol=0.05)


def test_what_goes_with_a_sign_is_learned_and_noise_is_not():
    random = np.random.default_rng(0)
    signs = {name: random.normal(size=(200, 3)) for name in "abc"}
    gaps = {name: 2 * values[:, :1] for name, values in signs.items()}
    np.testing.assert_allclose(regression(signs, gaps)(np.eye(3)), [[2], [0], [0]], atol=0.1)
    noise = {name: random.normal(size=(200, 1)) for name in "abc"}
    assert np.abs(regression(signs, noise)(np.eye(3))).max() < 0.2


@pytest.mark.parametrize("kind", ["gradients", "labels"])
def test_noise_tells_nothing(kind, sgd, labelled):
    federation, said = sgd if kind == "gradients" else labelled
    random = np.random.default_rng(5)

    def drowned(one):
        labels, parameters = one.release.labels, one.release.parameters
        if labels is not None:
            values = np.sort(random.normal(size=labels.values.shape), axis=1)
            labels = SoftLabels.of(labels.items, values, labels.space)
        parameters = {name: random.normal(size=np.shape(array)) for name, array in parameters.items()}
        return replace(one, release=Release(labels, parameters))

    noise = {party: [drowned(one) for one in answers] for party, answers in said.items()}
    found = reconstruct(noise, *known_of(federation), seed=0, days=15)
    assert 0.9 < found.mean.estimate < 1.15
    assert 0.9 < found.median.estimate < 1.15


@pytest.mark.parametrize("kind", ["gradients", "labels"])
def test_the_same_seed_finds_the_same(kind, sgd, labelled):
    federation, said = sgd if kind == "gradients" else labelled
    first, again, other = (reconstruct(said, *known_of(federation), seed=seed, days=10) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("kind", ["gradients", "labels"])
def test_no_guess_looks_at_what_it_is_to_tell(kind, sgd, labelled):
    """With the private columns of one made up anew nothing that is guessed of it by the same release changes."""
    federation, said = sgd if kind == "gradients" else labelled
    prepared, transfer, task, makes = known_of(federation)
    site = prepared["b"].site
    X, private = site.rows.X.copy(), Columns.of(TASK).private
    X[:, private] = np.random.default_rng(0).normal(size=(len(X), len(private)))
    other = replace(prepared["b"], site=replace(site, rows=replace(site.rows, X=X)))
    told = []
    for one in (prepared, {**prepared, "b": other}):
        world = Knowledge.of(one, transfer, task, parametric=kind == "gradients")
        surrogate, f = Surrogate(world.transfer), len(task.features)
        heard = {party: Heard.of(answers, surrogate, makes[party], f) for party, answers in said.items()}
        samples = {party: [(heard[party], world.blocks[party])] for party in said}
        blocks = world.blocks["b"].take(np.arange(5))
        found = guesses({**direct(world), **learned(world, samples)}, "b", heard["b"], blocks)
        told.append({**found, "prior": world.guess("b", "b", blocks)})
    assert len(told[0]) == (8 if kind == "gradients" else 2)
    for name, guess in told[0].items():
        np.testing.assert_allclose(guess, told[1][name], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("make", [load, digits])
@pytest.mark.parametrize(("learner", "strategy"), [("mlp", "fedavg"), ("linear", "grouped")])
def test_all_exchanges_can_be_attacked(make, learner, strategy):
    federation = make(learner, strategy)
    found = reconstruct(played(federation), *known_of(federation), seed=0, days=10)
    assert (found.participants, found.days) == (4, 10)
    assert found.mean.low <= found.mean.estimate <= found.mean.high
    assert 0.3 < found.mean.estimate < 1.3
    assert ("first layer, exact" in found.attacks) == (strategy == "fedavg")
    assert set(found.chosen) == set("abcd")


def test_where_the_head_stays_at_home_the_first_layer_is_attacked():
    federation = load("mlp", "fedper")
    found = reconstruct(played(federation), *known_of(federation), seed=0, days=5)
    assert {"first layer, exact", "learned from its first layer"} <= set(found.attacks)
    assert "learned from what it says" not in found.attacks


def test_of_sketches_there_is_only_the_prior(labelled):
    federation, said = labelled
    told = {party: [replace(one, release=Release(sketch=np.zeros(4)))] for party, (one,) in said.items()}
    found = reconstruct(told, *known_of(federation), seed=0, days=5)
    assert found.chosen == dict.fromkeys("abcd", "prior")
    assert (found.mean.estimate, found.floor.estimate, found.attacks) == (1.0, 1.0, {})


def test_an_answer_missing_is_a_participant_less(sgd):
    federation, said = sgd
    rest = {**said, "a": []}
    assert set(reconstruct(rest, *known_of(federation), seed=0, days=5).chosen) == set("bcd")
    with pytest.raises(ConfigError, match="1 of the participants have said something"):
        reconstruct({"a": said["a"]}, *known_of(federation), seed=0)


def test_the_more_days_in_a_gradient_the_less_it_tells():
    federation = load()
    points = batch_curve(*known_of(federation), seed=0, sizes=(1, 4, None), days=12)
    ratios = [one.found.mean.estimate for one in points]
    assert [one.batch for one in points][:2] == [1, 4]
    assert ratios == sorted(ratios)
    assert ratios[0] < 0.1 < 0.3 < ratios[-1]
    assert points[0].found.floor.estimate > 0.5
    assert points == batch_curve(*known_of(federation), seed=0, sizes=(1, 4, None), days=12)


def test_less_is_read_of_an_update_than_of_a_gradient():
    """Adam makes every number of a gradient about as large as the others, which leaves their signs."""
    recipe = Recipe(release=Kind.PARAMETERS)
    (update,) = batch_curve(*known_of(load()), seed=0, recipe=recipe, sizes=(1,), days=8)
    (gradient,) = batch_curve(*known_of(load()), seed=0, sizes=(1,), days=8)
    assert gradient.found.mean.estimate < 0.5 * update.found.mean.estimate


def test_rows_of_a_table_are_read_one_by_one():
    one, seven = batch_curve(*known_of(digits()), seed=0, sizes=(1, 7), days=8)
    assert one.found.mean.estimate < 0.05 < seven.found.mean.estimate


def test_without_gradients_there_is_no_curve():
    assert batch_curve(*known_of(load("extra_trees", "grouped")), seed=0) == ()


def trials(error, random, names=("attack",)):
    """Four participants whose guesses miss by `error` where the prior misses by 1."""

    def one():
        truth = random.normal(size=(30, 12))
        guess = {name: truth + error * random.normal(size=truth.shape) for name in names}
        prior = truth + random.normal(size=truth.shape)
        return Trial(truth, prior, truth + 0.5, guess, dict.fromkeys(names, 0 * truth))

    return {party: one() for party in "abcd"}


def test_a_ratio_is_that_of_squared_errors():
    found = judged(trials(0.1, np.random.default_rng(0)), np.random.default_rng(0))
    assert found.mean.estimate == pytest.approx(0.01, abs=0.005)
    assert found.correlation.estimate > 0.2
    assert found.habits.estimate == pytest.approx(0.25, rel=0.1)
    assert found.chosen == dict.fromkeys("abcd", "attack")


def test_who_would_be_misled_keeps_to_the_prior():
    made = trials(1.0, np.random.default_rng(0))
    away = {party: replace(one, guesses={"attack": 2 * one.prior - one.truth}) for party, one in made.items()}
    found = judged(away, np.random.default_rng(0))
    assert found.chosen == dict.fromkeys("abcd", "prior")
    assert found.mean.estimate == found.median.estimate == 1


def test_hindsight_is_shown_and_not_chosen():
    random = np.random.default_rng(0)
    found = judged(trials(0.1, random, ("attack, in hindsight",)), random)
    assert found.chosen == dict.fromkeys("abcd", "prior")
    assert found.attacks["attack, in hindsight"].ratio.estimate < 0.1


def test_the_interval_covers():
    """Errors of 0.6 and 1: the optimal weight of the guess is 1 / 1.36, which leaves 0.36 / 1.36 of the error."""
    covered = 0
    for seed in range(40):
        found = judged(trials(0.6, np.random.default_rng(seed)), np.random.default_rng(seed))
        covered += found.mean.low <= 0.36 / 1.36 <= found.mean.high
    assert 32 <= covered <= 40
