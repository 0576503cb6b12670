"""Who helped whom in small federations."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.datasets import load_iris

from fedstill import Classification, Federation, Forecast, Layout, Member, contributions, from_frame
from fedstill.algorithms.fedmd import fedmd
from fedstill.energy.synthetic import synthetic
from fedstill.errors import ConfigError
from fedstill.testing.liars import lying
from fedstill.transports.log import EventLog, read_events

SITES = list(from_frame(synthetic(5, 70), Layout(timezone="Europe/Berlin")).values())
TASK = Forecast(test=("2016-03-01", "2016-03-08"), levels=(0.1, 0.5, 0.9), companions=(), folds=2)
MEMBERS = [
    Member(name, site, "linear", {"iterations": 10}, ("2016-01-10", "2016-02-25"))
    for name, site in zip("abcd", SITES, strict=False)
]


def federation(strategy="grouped", **settings):
    return Federation(TASK, MEMBERS, SITES[4], strategy=strategy, items=120, **settings)


@pytest.fixture(scope="module")
def misled(tmp_path_factory):
    """A federation of which one exaggerates tenfold, what was seen of its run, and the log of it."""
    one, seen = federation(lying(fedmd(), {"c": "scaled"})), []
    path = tmp_path_factory.mktemp("misled") / "events.log"
    with EventLog(path) as log:

        def observe(event):
            seen.append(event)
            log.write(event)

        one.run(observe=observe)
    return one, seen, path


def test_a_liar_has_the_lowest_value(misled):
    found = contributions(*misled[:2])
    assert [one.name for one in found.participants][-1] == "c"
    assert [one.shapley > 0 for one in found.participants] == [True, True, True, False]
    liar = found.participants[-1]
    assert liar.left_out < 0
    assert all(value < 0 for value in liar.helps.values())
    assert (found.coalitions, found.value.partition(" of ")[0]) == (16, "share")
    assert sum(one.shapley for one in found.participants) == pytest.approx(found.together)
    assert set(liar.helps) == set("abcd")


def test_a_log_tells_the_same_as_the_run(misled):
    one, seen, path = misled
    assert contributions(federation(lying(fedmd(), {"c": "scaled"})), read_events(path)) == contributions(one, seen)


def test_agreement_needs_nobodys_rows(misled, monkeypatch):
    """All voices agree with themselves, nobody's not at all."""
    one, seen, _ = misled
    monkeypatch.setattr(Federation, "prepare", None)
    found = contributions(one, seen, value="agreement")
    assert found.together == pytest.approx(1)
    assert sum(one.shapley for one in found.participants) == pytest.approx(1)


def test_of_several_rounds_it_is_the_last_teacher_that_counts():
    seen, two = [], federation(rounds=2)
    two.run(observe=seen.append)
    once, twice = contributions(federation(), seen), contributions(two, seen)  # one round is all that the first plans
    assert once.coalitions == twice.coalitions == 16
    assert once.together != twice.together


def test_speakers_alone_have_contributed_where_only_they_were_asked():
    seen, one = [], federation("sketched", options={"groups": 2})
    one.run(observe=seen.append)
    found = contributions(one, seen)
    assert len(found.participants) == 2
    assert set(found.participants[0].helps) == set("abcd")


@pytest.mark.parametrize(
    ("strategy", "learner"), [("local", "linear"), ("fedavg", "mlp")], ids=["nobody talks", "parameters"]
)
def test_where_no_labels_were_exchanged(strategy, learner):
    members = [Member(one.name, one.data, learner, {}, one.history) for one in MEMBERS[:2]]
    quiet = Federation(TASK, members, SITES[4], strategy=strategy, items=50)
    with pytest.raises(ConfigError, match=f"'{strategy}' made no teacher of soft labels"):
        contributions(quiet, [])


def test_a_value_that_there_is_not(misled):
    with pytest.raises(ConfigError, match="there is no 'los'"):
        contributions(*misled[:2], value="los")


def test_classes():
    """Of three, one says the opposite."""
    iris = load_iris(as_frame=True)
    table = pd.DataFrame(iris.data.to_numpy(), columns=["a", "b", "c", "d"]).assign(
        kind=[str(one) for one in iris.target]
    )
    table = table.sample(frac=1, random_state=0)
    task = Classification("kind", ("0", "1", "2"), ("a", "b", "c", "d"), test=0.4, companions=())
    members = [Member(f"p{i}", table.iloc[30 * i : 30 * i + 30], "linear") for i in range(3)]
    for value in ("loss", "agreement"):
        seen, among = [], Federation(task, members, table.iloc[90:], strategy=lying(fedmd(), {"p1": "flip"}))
        among.run(observe=seen.append)
        found = contributions(among, seen, value=value)
        assert found.participants[-1].name == "p1"
