"""One run after the other, each under terms that have been accepted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from offices import RECIPE, FakeLink, Naps, Office, failing, fedstill, terms

from fedstill.agent import taking_part
from fedstill.agent.home import Home
from fedstill.agent.loop import Patience
from fedstill.agent.staying import stay
from fedstill.agent.taking_part import accepts, take_part
from fedstill.errors import ConfigError, LinkDown, WireError
from fedstill.messages import Ask
from fedstill.transports.letters import digest_of


class Enough(BaseException):
    """The test has seen what it wanted."""


@pytest.fixture
def link(office: Office, monkeypatch: pytest.MonkeyPatch) -> FakeLink:
    link = FakeLink(office, [])
    monkeypatch.setattr(taking_part, "link_of", lambda home: link)
    return link


def told_by(home: Home, acts: list[Callable[[], object]], **how: Any) -> list[str]:
    """What it says until it sleeps once more than there are acts; each act comes in a sleep."""
    told: list[str] = []

    def act() -> None:
        if not acts:
            raise Enough
        acts.pop(0)()

    with pytest.raises(Enough):
        asyncio.run(stay(home, patience=Patience(), observe=told.append, sleep=Naps(after=act), **how))
    return told


def begin(office: Office, link: FakeLink, run: int, **changes: Any) -> None:
    """The coordinator serves another run, which ends soon."""
    office.terms = terms(run, **changes)
    link.parcels = [office.parcel(1, Ask(1, RECIPE)), office.ending(2, "failed", f"end of run {run}")]


def test_terms_wait_for_their_owner(office: Office, link: FakeLink) -> None:
    home = office.home()
    begin(office, link, 1)
    told = told_by(home, [lambda: home.write("terms.json", office.terms.to_bytes())])
    assert "have not been accepted here; to do so: fedstill participant terms" in told[0]
    assert told[-2:] == ["run 1 has failed: end of run 1", "waiting for the next run"]
    assert len(link.posted) == 1


def test_accepted_at_the_start_is_the_first_run_alone(office: Office, link: FakeLink) -> None:
    begin(office, link, 1)
    told = told_by(office.home(), [lambda: begin(office, link, 2)], accept=True)
    assert "run 1 has failed: end of run 1" in told
    assert told[-1].startswith("the terms of run 2 have not been accepted here")
    assert len(link.posted) == 1


def test_the_same_terms_of_the_next_run_are_accepted_where_the_owner_says_so(office: Office, link: FakeLink) -> None:
    home = office.home(work={"accept": "same"})
    begin(office, link, 1)
    told = told_by(home, [lambda: begin(office, link, 2), lambda: begin(office, link, 4, rounds=4)], accept=True)
    assert [line for line in told if "end of run" in line and line.startswith("run ")] == [
        "run 1 has failed: end of run 1",
        "run 2 has failed: end of run 2",
    ]
    assert told[-1].startswith("the terms of run 4 have not been accepted here")
    assert home.accepted == terms(2).to_bytes()
    assert len(link.posted) == 2
    left = json.loads(fedstill("participant", "log", home.folder, "--json").out)
    assert [one["terms"] for one in left] == [digest_of(terms(run).to_bytes()) for run in (1, 2)]


def test_data_are_read_anew_for_each_run(office: Office, link: FakeLink) -> None:
    home = office.home(work={"accept": "same"})

    def more() -> None:
        data = home.folder / "data.csv"
        data.write_text(data.read_text() + "0.5,0.5,yes\n" * 40)
        begin(office, link, 2)

    begin(office, link, 1)
    told = told_by(home, [more], accept=True)
    assert [line.partition(";")[0] for line in told if line.startswith("learns")] == [
        "learns from 150 rows",
        "learns from 180 rows",
    ]


def test_without_a_connection_it_tries_again(office: Office, link: FakeLink) -> None:
    link.before = failing("terms", 3)
    begin(office, link, 1)
    told = told_by(office.home(), [lambda: None] * 3, accept=True)
    assert told[0] == "no connection (cut off); trying again"
    assert told[-1] == "waiting for the next run"


def test_a_run_without_it_is_let_pass(office: Office, link: FakeLink) -> None:
    begin(office, link, 1, parties=("bob", "carl"))
    assert told_by(office.home(), [], accept=True) == ["run 1 does without this participant"]


def test_a_run_that_was_replaced_does_not_stop_it(office: Office, link: FakeLink) -> None:
    home = office.home(work={"accept": "same"})
    link.before = lambda call: begin(office, link, 2) if call == "letters" and office.terms.run == 1 else None
    told = told_by(home, [], accept=True)
    assert any(line.startswith("run 1 is over: the coordinator does not serve run 1 any more") for line in told)
    assert "run 2 has failed: end of run 2" in told


def test_started_again_it_does_not_make_the_model_once_more(office: Office, link: FakeLink) -> None:
    home = office.home()
    office.terms = terms(rounds=1)
    link.parcels = [office.parcel(1, Ask(1, RECIPE)), office.ending(2)]
    told = told_by(home, [], accept=True)
    assert any(line.startswith("run 1 has finished: ") for line in told)
    assert (home.folder / "models" / "1").is_dir()
    told = told_by(home, [])
    assert told == ["run 1 has ended, and its model is here", "waiting for the next run"]


# ---- what "same" means

FIRST = terms(1)


@pytest.mark.parametrize(
    ("data", "same"),
    [
        (terms(2).to_bytes(), True),
        (terms(9).to_bytes(), True),
        (terms(1).to_bytes(), True),  # the accepted ones themselves
        (terms(0).to_bytes(), False),
        (terms(2, rounds=4).to_bytes(), False),
        (terms(2, seed=1).to_bytes(), False),
        (terms(2, deadline_s=61.0).to_bytes(), False),
        (terms(2, parties=("ann", "bob", "carl")).to_bytes(), False),
        (terms(2, parties=("bob", "ann")).to_bytes(), False),
        (terms(2, transfer="0" * 64).to_bytes(), False),
        (terms(2, options={"share": 0.9}).to_bytes(), False),
        (terms(2).to_bytes() + b" ", False),
        (terms(2).to_bytes().replace(b'"seed":0', b'"seed":1,"seed":0'), False),
        (terms(2).to_bytes().replace(b'"federation"', b'"federatio\\u006e"'), False),
        (terms(2).to_bytes().replace(b"60.0", b"60"), False),
    ],
)
def test_terms_that_differ_in_the_run_alone(data: bytes, same: bool, office: Office) -> None:
    home = office.home(work={"accept": "same"})
    home.write("terms.json", FIRST.to_bytes())
    assert accepts(home, data) is same


def test_unless_the_owner_says_so_other_terms_are_not_accepted(office: Office, link: FakeLink) -> None:
    home = office.home()
    assert not accepts(home, FIRST.to_bytes())
    home.write("terms.json", FIRST.to_bytes())
    assert accepts(home, FIRST.to_bytes())
    assert not accepts(home, terms(2).to_bytes())
    office.terms = terms(2)
    with pytest.raises(ConfigError, match="have not been accepted"):
        asyncio.run(take_part(home))
    assert home.accepted == FIRST.to_bytes()


def test_every_field_of_the_terms_counts(office: Office) -> None:
    """Also those that terms will get later: whatever is not the run's number has to be the same."""
    home = office.home(work={"accept": "same"})
    home.write("terms.json", FIRST.to_bytes())
    for name in FIRST.__struct_fields__:
        told = msgspec.json.decode(terms(2).to_bytes())
        if name in ("run", "format"):
            continue
        value = told[name]
        told[name] = value + 1 if isinstance(value, int | float) and not isinstance(value, bool) else _other(value)
        changed = msgspec.json.encode(told, order="sorted")
        with suppress(WireError):  # where they are no terms at all
            assert not accepts(home, changed), name
    assert home.accepted == FIRST.to_bytes()


def _other(value: Any) -> Any:
    if isinstance(value, str):
        return value + "0"
    if isinstance(value, list):
        return value[:-1]
    return 5 if value is None else {"x": 1}


def test_before_it_stays_a_run_that_cannot_be_reached_is_an_error(office: Office, link: FakeLink) -> None:
    link.before = failing("terms", 1)
    with pytest.raises(LinkDown):
        asyncio.run(take_part(office.home()))
    assert link.closed


def test_who_took_part_before_waits_for_a_coordinator_that_is_away(office: Office, link: FakeLink) -> None:
    """A participant that was killed may be started while its coordinator is started, too."""
    home, told = office.home(), []
    home.write("terms.json", FIRST.to_bytes())
    begin(office, link, 1)
    link.before = failing("terms", 3)
    result = asyncio.run(take_part(home, patience=Patience(first_s=0.0), observe=told.append))
    assert told[:3] == ["no connection (cut off); trying again"] * 3
    assert (result.ended, result.why) == ("failed", "end of run 1")
