"""An owner who is asked before each release: nothing leaves without a word, and no word is forgotten."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import places
import pytest
import simulation
from offices import RECIPE, TRANSFER, FakeLink, Naps, Office
from simulation import Simulator

from fedstill import wire
from fedstill.agent import approval
from fedstill.agent.home import Home
from fedstill.agent.journal import APPROVED, LATE, REFUSED, WAITING
from fedstill.agent.limits import Rules
from fedstill.agent.loop import Patience, work
from fedstill.agent.worker import Worker
from fedstill.agreement import write_transfer
from fedstill.errors import ConfigError, DataError
from fedstill.messages import Answer, Ask, Recipe, Refuse

SAY_NO = "the plant stands still this week"


def verdicts(worker: Worker) -> list[str]:
    return [draft.verdict for draft in worker.journal.drafts()]


def test_an_answer_waits_and_then_leaves_as_it_was(office: Office) -> None:
    worker = office.worker(approve="ask")
    assert worker.handle(office.parcel(1, Ask(1, RECIPE))) == "round 1: asked; answer 1 waits for its owner"
    assert worker.unposted() == []
    assert worker.waits
    (draft,) = worker.journal.drafts()
    assert worker.journal.decided(1, APPROVED, "", 1.0)
    ((sent, payload),) = worker.unposted()
    assert not worker.waits
    assert (sent.digest, sent.what) == (draft.digest, draft.what)
    assert isinstance(wire.decode(payload), Answer)
    assert len(worker.unposted()) == 1  # once


def test_a_refusal_says_why_and_nothing_else(office: Office) -> None:
    worker = office.worker(approve="ask")
    worker.handle(office.parcel(1, Ask(1, RECIPE)))
    worker.journal.decided(1, REFUSED, SAY_NO, 1.0)
    ((sent, payload),) = worker.unposted()
    assert wire.decode(payload) == Refuse(1, "ann", SAY_NO)
    assert sent.what == f"round 1, question 1: refusal ({SAY_NO})"


def test_asked_again_nobody_is_asked_again(office: Office) -> None:
    worker = office.worker(approve="ask")
    for number in (1, 2):
        worker.handle(office.parcel(number, Ask(1, RECIPE)))
    assert verdicts(worker) == [WAITING]
    worker.journal.decided(1, REFUSED, SAY_NO, 1.0)
    worker.unposted()
    worker.handle(office.parcel(3, Ask(1, RECIPE)))
    assert office.worker(approve="ask").handle(office.parcel(4, Ask(1, RECIPE))) == "round 1: asked"
    assert {wire.decode(payload) for _, payload in worker.unposted()} == {Refuse(1, "ann", SAY_NO)}
    assert verdicts(worker) == [REFUSED]


def test_with_another_setting_what_waits_still_waits(office: Office) -> None:
    office.worker(approve="ask").handle(office.parcel(1, Ask(1, RECIPE)))
    worker = office.worker(approve="always")
    worker.handle(office.parcel(2, Ask(1, RECIPE)))
    assert worker.unposted() == []


def test_what_the_coordinator_does_not_wait_for_any_more_never_leaves(office: Office) -> None:
    worker = office.worker(approve="ask")
    worker.handle(office.parcel(1, Ask(1, RECIPE)))
    worker.journal.decided(1, APPROVED, "", 1.0)  # a moment before the next question comes
    worker.handle(office.parcel(2, Ask(2, RECIPE)))
    assert worker.unposted() == []
    assert verdicts(worker) == [LATE, WAITING]
    worker.handle(office.ending(3))
    assert verdicts(worker) == [LATE, LATE]
    assert not worker.journal.decided(2, APPROVED, "", 2.0)


def test_refusals_of_its_own_tell_nothing_and_do_not_wait(office: Office) -> None:
    worker = office.worker(approve="ask")
    worker.handle(office.parcel(1, Ask(1, Recipe(count=True))))
    assert [sent.what for sent, _ in worker.unposted()] == [
        "round 1, question 1: refusal (it asks for something that the terms do not name)"
    ]


@pytest.mark.parametrize("distils", [True, False], ids=["beliefs", "parameters"])
def test_restarted_at_every_point_the_same_leaves(distils: bool, open_office: Callable[[], Office]) -> None:
    def told(restarts: set[int]) -> list[bytes]:
        office = open_office()
        worker, point = office.worker(distils=distils, approve="ask"), iter(range(100))

        def step() -> None:
            nonlocal worker
            if next(point) in restarts:
                worker = office.worker(distils=distils, approve="ask")

        for parcel in office.story():
            step()
            worker.handle(parcel)
            step()
            for draft in worker.journal.drafts():
                if draft.verdict == WAITING:
                    verdict = (REFUSED, SAY_NO) if draft.round == 2 else (APPROVED, "")
                    worker.journal.decided(draft.number, *verdict, 1.0)
                    step()
            worker.unposted()
        return [sent.letter for sent in worker.journal.sent()]

    undisturbed = told(set())
    assert len(undisturbed) == 3
    for point in range(17):
        assert told({point}) == undisturbed
    assert told(set(range(17))) == undisturbed


def test_while_it_waits_it_polls_in_short_turns(office: Office) -> None:
    worker = office.worker(approve="ask")
    link = FakeLink(office, office.story()[:1])

    def before(name: str) -> None:
        if len(link.waits) == 4:
            worker.journal.decided(1, APPROVED, "", 1.0)
        if name == "post":
            link.parcels = [*office.story()[:1], office.ending(2)]

    link.before = before
    asyncio.run(work(worker, link, clock=Naps().clock, patience=Patience(), sleep=Naps()))
    assert link.waits == [25.0, 2.0, 2.0, 2.0, 25.0]
    assert len(link.posted) == 1


# ---- the owner's side


@pytest.fixture
def asked(office: Office) -> Office:
    """Ann's folder with an answer that waits."""
    home = office.home(work={"approve": "ask"})
    home.write("terms.json", office.terms.to_bytes())
    office.folder = home.folder
    worker = office.worker(approve="ask")
    worker.handle(office.parcel(1, Ask(1, RECIPE)))
    return office


def home_of(office: Office) -> Home:
    return Home(office.folder)


def test_an_owner_says_yes_or_no(asked: Office) -> None:
    home = home_of(asked)
    assert [draft.number for draft in approval.waiting(home)] == [1]
    for number, refusal, why in ((2, None, "no answer 2 waits; there is 1"), (1, "", "no reason"), (1, "a\nb", "no")):
        with pytest.raises(ConfigError, match=why):
            approval.decide(home, number, refusal, 1.0)
    assert approval.decide(home, None, SAY_NO, 1.0).number == 1
    with pytest.raises(ConfigError, match="no answer waits"):
        approval.decide(home, None, None, 2.0)
    ((_, payload),) = asked.worker(approve="ask").unposted()
    assert wire.decode(payload) == Refuse(1, "ann", SAY_NO)


def test_an_owner_looks_before_it_decides(asked: Office) -> None:
    home = home_of(asked)
    home.blobs.put(write_transfer(TRANSFER))
    told, folder = approval.look(home, None)
    assert json.loads((folder / "release.json").read_text()) == told
    lines = (folder / "release.csv").read_text().splitlines()
    assert lines[0] == "item,weight,no,yes"
    assert told["content"] == f"{len(lines) - 1} soft labels of 2 numbers"
    assert [draft.number for draft in approval.waiting(home)] == [1]


# ---- and the whole federation, under faults


@pytest.fixture(scope="module")
def cautious() -> Iterator[Simulator]:
    """Owners are asked but for b's; they answer when they come by, so that rounds end, none of them forgets it."""
    make, work = places.Worker, places.work

    def worker(contract: Any, member: Any, *rest: Any) -> Worker:
        return make(contract, member, *rest, rules=Rules(approve="always" if member.name == "b" else "ask"))

    async def working(worker: Worker, link: Any, **named: Any) -> None:
        owner = asyncio.create_task(coming_by(worker))
        try:
            await work(worker, link, **named)
        finally:
            owner.cancel()
        drafts = {draft.digest: draft for draft in worker.journal.drafts()}
        for sent in worker.journal.sent():
            if worker.rules.approve == "ask" and isinstance(worker.stored(sent.digest), Answer):
                assert drafts[sent.digest].verdict == APPROVED
        assert WAITING not in {draft.verdict for draft in drafts.values()}

    async def coming_by(worker: Worker) -> None:
        while True:
            await asyncio.sleep(random.uniform(1, 10))  # noqa: S311 - no secret
            with suppress(DataError):  # a disk that is full; it tries again
                for draft in worker.journal.drafts():
                    if draft.verdict == WAITING:
                        worker.journal.decided(draft.number, APPROVED, "", 0.0)

    logging.disable(logging.ERROR)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=simulation.fast_folder()))
        stack.enter_context(simulation.quickened())
        stack.enter_context(patch.object(places, "Worker", worker))
        stack.enter_context(patch.object(places, "work", working))
        yield Simulator(Path(folder))
    logging.disable(logging.NOTSET)


def test_a_federation_of_cautious_owners_comes_to_its_end(cautious: Simulator) -> None:
    counts = sum((cautious.schedule(seed) for seed in range(30)), Counter())
    assert counts["starts"] > 3 * 30
