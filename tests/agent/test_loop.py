"""The loop between a worker and its link: nothing is lost, nothing is asked for too often, nothing hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from offices import RECIPE, FakeLink, Naps, Office, failing, terms

from fedstill.agent.loop import Patience, Replaced, work
from fedstill.agent.worker import Worker
from fedstill.errors import LinkDown, LinkRefused, WireError
from fedstill.messages import Ask

PATIENCE = Patience()


def go(worker: Worker, link: FakeLink, naps: Naps | None = None, observe: Callable[[str], None] = print) -> Naps:
    """Work until the run ends; a minute is more than enough."""
    naps = naps or Naps()
    working = work(worker, link, clock=naps.clock, patience=PATIENCE, observe=observe, sleep=naps)
    asyncio.run(asyncio.wait_for(working, 60))
    return naps


def test_a_run_from_the_first_letter_to_the_last(office: Office) -> None:
    link, told = FakeLink(office, office.story()), []
    worker = office.worker()
    go(worker, link, observe=told.append)
    assert worker.ended == "finished"
    assert [reply.round for reply in link.replies] == [1, 2, 3]
    assert told[0] == "round 1: asked"
    assert told[1].startswith("sent round 1, question 1: soft labels, ")
    assert told[-1] == "the run has finished"
    assert all(sent.posted_at for sent in worker.journal.sent())


def test_it_waits_twice_as_long_after_each_fault_up_to_a_most(office: Office) -> None:
    link = FakeLink(office, office.story(), failing("letters", 9))
    naps = go(office.worker(), link).taken
    longest = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert len(naps) == len(longest)
    assert all(most / 2 <= nap <= most for nap, most in zip(naps, longest, strict=True))


def test_after_a_success_it_begins_anew(office: Office) -> None:
    link, calls = FakeLink(office, []), []

    def before(name: str) -> None:
        calls.append(name)
        link.parcels = office.story()[: calls.count("letters")]  # one more each time
        if name == "post" and calls.count("post") in (1, 2, 4):  # the fourth is of another answer
            raise LinkDown("cut off")

    link.before = before
    first, second, third = go(office.worker(), link).taken
    assert first <= 0.5
    assert 0.5 <= second <= 1.0
    assert third <= 0.5


def test_a_letter_whose_receipt_got_lost_is_sent_again_as_it_was(office: Office) -> None:
    link = FakeLink(office, office.story())
    post, lost = link.post, [True]

    async def forgetful(letter: bytes, payload: bytes) -> str:
        why = await post(letter, payload)
        if lost.pop() if lost else False:
            raise LinkDown("the answer was lost")
        return why

    link.post = forgetful  # type: ignore[method-assign]
    go(office.worker(), link)
    assert link.posted[0] == link.posted[1]
    assert len(link.posted) == 4


def test_what_was_not_sent_before_a_restart_is_sent_first(office: Office) -> None:
    office.worker().handle(office.story()[0])
    link = FakeLink(office, office.story())
    go(office.worker(), link)
    assert link.calls[0] == "post"
    assert len(link.posted) == 3


def test_a_verdict_is_told_and_kept(office: Office) -> None:
    link, told, worker = FakeLink(office, office.story()), [], office.worker()

    async def unmoved(letter: bytes, payload: bytes) -> str:
        return "it came too late"

    link.post = unmoved  # type: ignore[method-assign]
    go(worker, link, observe=told.append)
    assert told[1].endswith("; not used: it came too late")
    assert {sent.why for sent in worker.journal.sent()} == {"it came too late"}


def test_who_is_let_in_no_more_stops(office: Office) -> None:
    with pytest.raises(LinkRefused, match="revoked"):
        go(office.worker(), FakeLink(office, [], failing("letters", 1, LinkRefused("revoked"))))


def test_a_payload_is_fetched_in_the_name_of_the_coordinator_alone(office: Office) -> None:
    def bare(**how: Any) -> list[Any]:
        parcel = office.parcel(1, Ask(1, RECIPE), **how)
        return [type(parcel)(parcel.letter, None)]

    link = FakeLink(office, bare(by=office.other))
    with pytest.raises(WireError, match="signature"):
        go(office.worker(), link)
    link = FakeLink(office, bare(size=2**40))
    with pytest.raises(WireError, match="over the bound"):
        go(office.worker(), link)
    assert "fetch" not in link.calls
    link = FakeLink(office, [*office.story()[:1], office.ending(2)])
    link.letters = letters_without_payloads(link)  # type: ignore[method-assign]
    go(office.worker(), link)
    assert link.calls.count("fetch") == 2


def letters_without_payloads(link: FakeLink) -> Any:
    letters = link.letters

    async def bare(after: int, wait_s: float) -> list[Any]:
        return [type(parcel)(parcel.letter, None) for parcel in await letters(after, wait_s)]

    return bare


def test_a_run_that_was_replaced_is_not_waited_for(office: Office) -> None:
    """Its letters are gone: those of another run have other numbers, and would be waited for in vain."""
    worker, link = office.worker(), FakeLink(office, [])
    office.terms = terms(2)
    with pytest.raises(Replaced, match="does not serve run 1 any more"):
        go(worker, link)


def test_letters_of_another_run_are_explained(office: Office) -> None:
    worker = office.worker()
    office.terms = terms(2)
    with pytest.raises(Replaced):
        go(worker, FakeLink(office, office.story()))


def test_while_nothing_comes_it_waits_in_the_call(office: Office) -> None:
    link = FakeLink(office, [])

    def before(name: str) -> None:
        if link.calls.count("letters") == 3:
            link.parcels = office.story()

    link.before = before
    assert go(office.worker(), link).taken == []
    assert set(link.waits) == {PATIENCE.poll_s}


def test_outside_its_hours_it_waits_and_says_so(office: Office) -> None:
    noon = datetime(2026, 7, 1, 12).timestamp()
    link, told, naps = FakeLink(office, office.story()), [], Naps(noon)
    worker = office.worker(hours=("12:10-13:00",))
    go(worker, link, naps, told.append)
    assert worker.ended == "finished"
    assert sum(naps.taken) == pytest.approx(timedelta(minutes=10).total_seconds())
    assert max(naps.taken) <= PATIENCE.poll_s
    assert told[0] == "it trains at 12:10-13:00 and waits until then; a round may close without it"
    assert link.calls.count("letters") == 1  # what it has in hand is not asked for again


def test_what_its_owner_approves_leaves_outside_the_hours(office: Office) -> None:
    worker = office.worker(approve="ask", hours=("13:00-14:00",))
    worker.handle(office.story()[0])
    naps = Naps(datetime(2026, 7, 1, 12).timestamp())
    naps.after = lambda: worker.journal.decided(1, "approved", "", naps.now)
    link = FakeLink(office, [*office.story()[:2], office.ending(3)])
    go(worker, link, naps)
    assert link.calls == ["letters", "post"]
