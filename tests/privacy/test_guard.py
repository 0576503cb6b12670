"""Nothing leaves a participant that was not paid for, and what is paid for is used for ever."""

from __future__ import annotations

import ast
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fedstill
from fedstill.codecs.raw import Raw
from fedstill.errors import BudgetSpent, ConfigError
from fedstill.learners.networks import Linear
from fedstill.messages import Answer, Ask, Kind, Recipe, Refuse
from fedstill.participant import Participant
from fedstill.privacy.durable import SQLiteLedger
from fedstill.privacy.guard import Guard, Privacy, check_recipe, check_unit, simulated_ledger
from fedstill.privacy.ledger import MemoryLedger
from fedstill.privacy.noise import SeededNoise, SystemNoise
from fedstill.privacy.spending import Budget, Gaussian, Nothing, Spend, Unit, Unprotected
from fedstill.sites import Floor, Rows, Site
from fedstill.testing.fakes import QUANTILES
from fedstill.testing.mechanisms import ITEMS, view

BUDGET = Budget(2.0)
SOFT = Ask(1, Recipe())


def participant(privacy: Privacy, ledger=None, noise=None, learner=None, seed=0) -> Participant:
    own, public = view(QUANTILES, 60, seed), view(QUANTILES, ITEMS, 7, private=False)
    rows = Rows(own.known.astype("f4"), own.y, own.block)
    site = Site("plant", rows, Floor.fit(QUANTILES, own.y), own.block % 4, own)
    guard = Guard(privacy, public, 3, ledger or MemoryLedger(privacy.budget, lambda: 0.0), noise or SeededNoise(1))

    def make(seed=None):
        return learner() if learner else Linear(QUANTILES)

    return Participant(site, make, QUANTILES, public.known.astype("f4"), Raw(), 4, guard)


def events(one: Participant) -> list:
    return [type(entry.spend.event) for entry in one.guard.ledger.entries()]


def test_without_a_mechanism_the_price_is_infinite_and_stands_in_the_ledger():
    one = participant(Privacy())
    assert isinstance(one.handle(SOFT), Answer)
    assert events(one) == [Unprotected]
    assert math.isinf(one.guard.protection().statement.epsilon)


def test_a_budget_without_a_mechanism_pays_for_nothing():
    one = participant(Privacy(budget=BUDGET))
    assert one.handle(SOFT) is None
    assert events(one) == []
    assert "not answered" in one.notes[-1]


def test_a_release_model_is_paid_for_once_and_answers_for_ever():
    one = participant(Privacy("dp_sgd", BUDGET))
    answers = [one.handle(Ask(number, Recipe())) for number in (1, 2, 3)]
    assert len({answer.payload for answer in answers}) == 1
    statement = one.guard.protection().statement
    assert 1.9 < statement.epsilon <= 2.0
    assert events(one)[2:] == [Nothing] * 3
    sketched = one.handle(Ask(4, Recipe(release=Kind.SKETCH)))
    assert isinstance(sketched, Answer)
    assert one.guard.protection().statement.epsilon == statement.epsilon


def test_what_a_model_of_the_participants_own_would_say_never_leaves():
    """The same release model whatever the learner: its own model is not even trained."""

    class Broken:
        def fit(self, X, y):
            raise AssertionError("its own model was asked")

    one, other = participant(Privacy("dp_sgd", BUDGET)), participant(Privacy("dp_sgd", BUDGET), learner=Broken)
    assert one.handle(SOFT) == other.handle(SOFT)


def test_a_release_model_outlives_its_process(tmp_path):
    def ledger():
        return SQLiteLedger(tmp_path / "ledger.db", "plant", BUDGET, lambda: 0.0)

    first, second = (participant(Privacy("dp_sgd", BUDGET), ledger(), SystemNoise()) for _ in range(2))
    before = first.handle(SOFT)
    first.guard.ledger.close()
    assert second.handle(SOFT) == before  # with noise of the system's, so it is the same release
    assert second.guard.protection().statement.epsilon <= 2.0
    second.guard.ledger.close()


def test_another_version_of_the_data_needs_another_budget():
    ledger = MemoryLedger(BUDGET, lambda: 0.0)
    assert isinstance(participant(Privacy("dp_sgd", BUDGET), ledger).handle(SOFT), Answer)
    later = participant(Privacy("dp_sgd", BUDGET), ledger, seed=5)
    refusal = later.handle(SOFT)
    assert isinstance(refusal, Refuse)
    assert "no noise is enough" in refusal.reason
    assert ledger.statement().epsilon <= 2.0
    ledger.budget = Budget(3.0)  # the owner's choice
    assert isinstance(participant(Privacy("dp_sgd", BUDGET), ledger, seed=5).handle(SOFT), Answer)
    assert 2.5 < ledger.statement().epsilon <= 3.0


def test_noise_on_labels_is_paid_for_in_every_answer():
    one = participant(Privacy("label_noise", Budget(8.0, unit=Unit.PARTICIPANT)))
    replies = [one.handle(Ask(number, Recipe())) for number in (1, 2, 3, 4)]
    assert [type(reply) for reply in replies] == [Answer, Answer, Answer, Refuse]  # of three answers at most
    assert 7.5 < one.guard.protection().statement.epsilon <= 8.0


def test_being_asked_twice_costs_once():
    one = participant(Privacy("label_noise", Budget(8.0, unit=Unit.PARTICIPANT)))
    assert one.handle(SOFT) is one.handle(SOFT)
    assert events(one) == [Gaussian, Nothing]


def test_a_fault_that_follows_from_data_is_not_told_where_a_budget_is():
    class Broken:
        def fit(self, X, y):
            raise ValueError("of the row 7, 3")

    protected = Privacy("committee", BUDGET, {"blocks": 6})
    one = participant(protected, learner=Broken)
    assert one.handle(SOFT) is None
    assert "row 7" in one.notes[0]
    assert "pay" in one.notes[1]
    told = participant(Privacy(), learner=Broken).handle(SOFT)
    assert isinstance(told, Refuse)
    assert "row 7" not in told.reason


def test_a_listener_refuses_for_nothing():
    one = participant(Privacy("silent", BUDGET))
    assert one.handle(SOFT) == Refuse(1, "plant", "this participant only listens")
    assert one.guard.protection().statement.epsilon == 0


def test_the_number_of_rows_is_that_of_days_with_a_mechanism():
    asked = Ask(1, Recipe(count=True))
    counts = [
        Raw().decode(participant(privacy).handle(asked).payload).count
        for privacy in (Privacy(), Privacy("dp_sgd", BUDGET))
    ]
    assert counts == [240, 60]


def test_a_reply_that_was_not_charged_does_not_leave():
    """A participant that is made to lie to its guard: it has no other way out."""
    one = participant(Privacy("dp_sgd", BUDGET))
    answer = one.handle(SOFT)
    assert one.guard.sealed(answer)
    for forged in (replace(answer, round=2), replace(answer, payload=answer.payload + b"!"), Refuse(1, "plant", "7")):
        with pytest.raises(BudgetSpent, match="nobody has paid for"):
            one.guard.sealed(forged)


def test_replies_are_encoded_by_the_guard_alone():
    """By the source: in what a participant is made of, only the guard turns replies into bytes that leave."""
    root = Path(fedstill.__file__).parent
    callers = set()
    for path in [root / "participant.py", *(root / "agent").glob("*.py"), *(root / "privacy").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "wire.encode":
                callers.add(path.name)
    # looking.py and worker.py encode what is shown to the owner and what is kept in drafts; both stay at home.
    assert callers == {"guard.py", "looking.py", "worker.py"}
    worker = (root / "agent" / "worker.py").read_text(encoding="utf-8")
    assert worker.count("wire.encode") == 1
    assert "payload = wire.encode(reply)\n            digest, size = self._blobs.put(payload)" in worker


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        (Recipe(release=Kind.PARAMETERS), "model parameters"),
        (Recipe(release=Kind.GRADIENTS), "model parameters"),
        (Recipe(about="classes"), "the mean of each class"),
        (Recipe(certainty="soft"), "how dense"),
        (Recipe(score=True), "held-out loss"),
    ],
)
def test_an_algorithm_that_asks_for_more_than_is_paid_for_is_refused_before_the_run(recipe, what):
    check_recipe(Privacy(), recipe, "here")
    check_recipe(Privacy("silent"), recipe, "here")
    with pytest.raises(ConfigError, match=what):
        check_recipe(Privacy("dp_sgd", BUDGET), recipe, "here")


def test_a_budget_is_for_a_unit_that_the_mechanism_hides():
    check_unit(Privacy("dp_sgd", BUDGET), ("day",), "here")
    check_unit(Privacy("label_noise", Budget(2.0, unit=Unit.PARTICIPANT)), ("day",), "here")
    with pytest.raises(ConfigError, match="hides a day, not a participant"):
        check_unit(Privacy("dp_sgd", Budget(2.0, unit=Unit.PARTICIPANT)), ("day",), "here")


def test_a_mechanism_needs_a_budget():
    with pytest.raises(ConfigError, match="has no budget"):
        Privacy("dp_sgd").build()
    with pytest.raises(ConfigError, match="Did you mean 'dp_sgd'"):
        Privacy("dpsgd", BUDGET).build()
    with pytest.raises(ConfigError, match="has no option 'stps'"):
        Privacy("dp_sgd", BUDGET, {"stps": 3}).build()


def test_the_keys_of_kept_releases_differ_with_data_and_options():
    plain, other = participant(Privacy("dp_sgd", BUDGET)), participant(Privacy("dp_sgd", BUDGET), seed=5)
    fewer = participant(Privacy("dp_sgd", BUDGET, {"steps": 9}))
    keys = {one.guard._key(one.site.view) for one in (plain, other, fewer)}
    assert len(keys) == 3


def test_a_simulation_says_that_its_noise_protects_nobody():
    assert participant(Privacy("dp_sgd", BUDGET)).guard.protection().noise == "seed"
    assert SystemNoise.source == "operating system"
    assert simulated_ledger(BUDGET).charge(Spend(Nothing(), Unit.DAY, "x"), b"").at == 0
    assert np.isfinite(Guard.open().ledger.budget.delta)
