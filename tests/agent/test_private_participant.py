"""An owner with a budget: what leaves is paid for in a ledger in its folder, once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json

import pytest
from offices import NOW, RECIPE, TRANSFER, FakeLink, Office, fedstill, signer, terms

from fedstill import wire
from fedstill.agent import taking_part
from fedstill.agent.limits import Rules
from fedstill.agent.worker import Contract, Worker
from fedstill.agreement import read_agreement, write_transfer
from fedstill.codecs.raw import Raw
from fedstill.labels import Release
from fedstill.messages import Answer, Ask, Kind, Part, Recipe, Refuse, Teach
from fedstill.privacy.durable import SQLiteLedger
from fedstill.privacy.spending import Gaussian
from fedstill.service.store.blobs import Blobs

pytest.importorskip("dp_accounting")
PRIVATE = {"mechanism": "dp_sgd", "epsilon": 2.0, "options": {"steps": 5}}


@pytest.fixture
def link(office: Office, monkeypatch: pytest.MonkeyPatch) -> FakeLink:
    """What Ann's folder connects to."""
    link = FakeLink(office, [])
    monkeypatch.setattr(taking_part, "link_of", lambda home: link)
    return link


def spent(office: Office) -> dict:
    told = fedstill("ledger", "show", office.folder / "ann", "--json")
    assert told.code == 0, told.err
    return json.loads(told.out)


def run(office: Office, link: FakeLink, home: object) -> list[Answer | Refuse]:
    link.posted.clear()
    link.parcels = [office.parcel(1, Ask(1, RECIPE)), office.parcel(2, Ask(2, RECIPE)), office.ending(3, "failed", "x")]
    asyncio.run(taking_part.take_part(home, accept=True))  # type: ignore[arg-type]
    return link.replies


def test_a_release_model_is_bought_once_and_speaks_in_all_rounds(office: Office, link: FakeLink) -> None:
    replies = run(office, link, office.home(privacy=PRIVATE))
    assert [type(reply) for reply in replies] == [Answer, Answer]
    assert replies[0].payload == replies[1].payload  # type: ignore[union-attr]
    text = json.dumps(spent(office))
    assert "a release model of 150 readings" in text
    verified = fedstill("ledger", "verify", office.folder / "ann")
    assert verified.code == 0, verified.err


def test_a_dry_run_spends_nothing_and_then_shows_what_is_bought(office: Office, link: FakeLink) -> None:
    home = office.home(privacy=PRIVATE)
    assert fedstill("participant", "dry-run", office.folder / "ann").code == 0
    assert not home.ledger_path.exists()
    first, _ = run(office, link, home)
    told = fedstill("participant", "dry-run", office.folder / "ann", "--json")
    assert told.code == 0, told.err
    assert isinstance(first, Answer)
    assert json.loads(told.out)["sha256"] in [entry.digest for entry in _entries(home)]


def _entries(home: object) -> list:
    from fedstill.privacy.durable import entries_in, reading

    with reading(home.ledger_path) as connection:  # type: ignore[attr-defined]
        return entries_in(connection)


def test_a_budget_without_a_mechanism_lets_nothing_out(office: Office, link: FakeLink) -> None:
    assert run(office, link, office.home(privacy={"epsilon": 2.0})) == []


def test_a_listener_refuses_every_question(office: Office, link: FakeLink) -> None:
    replies = run(office, link, office.home(privacy={"mechanism": "silent"}))
    assert {reply.reason for reply in replies} == {"this participant only listens"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"mechanism": "dp_sgd"}, "has no budget"),
        ({"mechanism": "dpsgd", "epsilon": 1.0}, "Did you mean 'dp_sgd'"),
        ({"mechanism": "dp_sgd", "epsilon": 1.0, "unit": "day"}, "hides a reading, not a day"),
        ({"mechanism": "dp_sgd", "epsilon": -1.0}, "epsilon"),
        ({"mechanism": "dp_sgd", "epsilon": 1.0, "options": {"clip": 0.0}}, "train no release model"),
        ({"epsilom": 1.0}, "epsilom"),
    ],
)
def test_a_table_that_cannot_be_is_named(office: Office, link: FakeLink, table: dict, why: str) -> None:
    office.home(privacy=table)
    told = fedstill("participant", "dry-run", office.folder / "ann")
    assert told.code == 2
    assert why in told.err
    assert "Traceback" not in told.err


def test_updates_are_paid_for_once_however_often_it_restarts(office: Office) -> None:
    """Parameters are trained for again after each restart; what was sent is not bought again."""
    recipe = Recipe(Kind.PARAMETERS, epochs=1, clip=0.5, adaptive=True, home=Part.HEAD)
    office.terms = terms(recipes=(recipe,), strategy="dp_fedavg")
    hidden = {"learner": "mlp", "options": {"hidden": [3], "epochs": 1}}
    home = office.home(**hidden, privacy={"mechanism": "clipped_update", "epsilon": 8.0})
    agreement = read_agreement(office.terms, write_transfer(TRANSFER))
    member = home.member(agreement.task)

    def worker() -> Worker:
        contract = Contract(office.terms, office.digest, agreement, office.ann, signer())
        ledger = SQLiteLedger(home.ledger_path, "ann", member.privacy.budget, lambda: NOW)
        blobs = Blobs(office.folder / "payloads", 2**24)
        return Worker(contract, member, office.journal(), ledger, blobs, lambda: NOW, Rules())

    start = agreement.make(member)(seed=recipe.seed).initialise(2).parameters()
    taught = Raw().encode(Release(parameters={name: start[name] for name in start if not name.endswith("_1")}))
    messages = [Ask(1, recipe), Teach(1, recipe, taught), Ask(2, recipe, clip=0.25), Teach(2, recipe, taught)]
    for number, message in enumerate([*messages, Ask(3, recipe, clip=0.2)], 1):
        worker().handle(office.parcel(number, message))
    replies = [wire.decode(payload) for _, payload in worker().unposted()]
    assert [type(reply) for reply in replies] == [Answer] * 3
    paid = [entry.spend for entry in _entries(home) if isinstance(entry.spend.event, Gaussian)]
    assert [spend.unit for spend in paid] == ["participant"] * 3
    assert json.loads(fedstill("ledger", "verify", home.folder, "--json").out)


def test_a_dry_run_shows_all_that_is_told_of_an_update(office: Office, link: FakeLink) -> None:
    office.terms = terms(recipes=(Recipe(Kind.PARAMETERS, epochs=1, clip=0.5, adaptive=True),), strategy="dp_fedavg")
    office.home(privacy={"mechanism": "clipped_update", "epsilon": 8.0})
    told = fedstill("participant", "dry-run", office.folder / "ann")
    assert told.code == 0, told.err
    assert "whether your update was within the clip: " in told.out
