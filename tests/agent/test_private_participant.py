"""An owner with a budget: what leaves is paid for in a ledger in its folder, once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json

import pytest
from offices import RECIPE, FakeLink, Office, fedstill

from fedstill.agent import taking_part
from fedstill.messages import Answer, Ask, Refuse

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
