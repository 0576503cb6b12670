"""A participant believes only its coordinator, in order, under the terms; killed anywhere, it goes on as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from offices import NOW, RECIPE, Office

from fedstill import wire
from fedstill.agent.worker import Worker
from fedstill.errors import WireError
from fedstill.messages import Answer, Ask, Recipe, Refuse, Teach
from fedstill.transports.letters import Parcel

ASK = Ask(1, RECIPE)

# What comes, and what is said of it.
BAD: dict[str, tuple[Callable[[Office], Parcel], str]] = {
    "forged": (lambda office: office.parcel(1, ASK, by=office.other), "signature does not fit"),
    "signed by itself": (lambda office: office.parcel(1, ASK, by=office.ann), "signature does not fit"),
    "of another sender": (lambda office: office.parcel(1, ASK, sender="bob"), "not from the coordinator"),
    "to another": (lambda office: office.parcel(1, ASK, to="bob"), "not from the coordinator to this"),
    "under other terms": (lambda office: office.parcel(1, ASK, terms="0" * 64), "another run, or other terms"),
    "too early": (lambda office: office.parcel(2, ASK), "letter 2 came, and 1 has not"),
    "oversized": (lambda office: office.parcel(1, ASK, size=2**20 + 1), "1048577 bytes is over the bound"),
    "another payload": (lambda office: replace(office.parcel(1, ASK), payload=wire.encode(Ask(2, RECIPE))), "SHA-256"),
    "a cut payload": (lambda office: replace(office.parcel(1, ASK), payload=b""), "instead of"),
    "no payload": (lambda office: replace(office.parcel(1, ASK), payload=None), "without its payload"),
    "no letter": (lambda office: Parcel(b"FSl1 nonsense", b""), "not a letter"),
    "no frame": (lambda office: office.parcel(1, b"nonsense"), "not a frame"),
    "an answer": (lambda office: office.parcel(1, wire.encode(Answer(1, "bob", b""))), "no message to a participant"),
    "a teacher by another recipe": (lambda office: office.parcel(1, Teach(1, Recipe(share=0.1), b"")), "recipe"),
    "an ending without words": (lambda office: office.parcel(1, b"[]", kind="finished"), "how the run has ended"),
    "an ending deep in brackets": (lambda office: office.parcel(1, b"[" * 10**5, kind="failed"), "has ended"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_to_be_followed_is_refused_and_changes_nothing(name: str, office: Office) -> None:
    make, why = BAD[name]
    worker = office.worker()
    with pytest.raises(WireError, match=why):
        worker.handle(make(office))
    assert (worker.after, worker.ended, worker.journal.received(), worker.journal.sent()) == (0, "", [], [])
    worker.handle(office.parcel(1, ASK))  # and the right one is still taken
    assert worker.after == 1


def test_a_question_that_the_terms_do_not_name_is_answered_with_a_refusal(office: Office) -> None:
    worker = office.worker()
    worker.handle(office.parcel(1, Ask(1, Recipe(count=True))))
    ((_, payload),) = worker.unposted()
    reply = wire.decode(payload)
    assert isinstance(reply, Refuse)
    assert reply.reason == "it asks for something that the terms do not name"


def test_a_letter_that_comes_twice_is_heard_once(office: Office) -> None:
    worker = office.worker()
    for _ in range(3):
        worker.handle(office.parcel(1, ASK))
    assert len(worker.unposted()) == 1


def test_a_question_that_is_asked_twice_has_one_answer(office: Office) -> None:
    worker = office.worker()
    worker.handle(office.parcel(1, ASK))
    worker.handle(office.parcel(2, ASK))
    first, second = worker.unposted()
    assert first[1] == second[1]
    assert second[0].number == first[0].number + 1  # though no time has passed


def test_who_has_lost_its_folder_goes_on_above_what_it_sent(office: Office, open_office: Callable[[], Office]) -> None:
    """Numbers follow the clock, so that a participant that joins again is not taken for one that repeats itself."""
    before = office.worker()
    before.handle(office.parcel(1, ASK))
    anew = open_office()
    worker = anew.worker(now=NOW + 60)
    worker.handle(anew.parcel(1, ASK))
    assert worker.unposted()[0][0].number > before.unposted()[0][0].number


def learned(*rounds: int) -> bytes:
    """The state of a fake that these rounds have taught, one upon the other."""
    state = b""
    for number in rounds:
        state = hashlib.sha256(state + b"teacher %d" % number).digest()
    return state


def letters(worker: Worker) -> list[bytes]:
    return [sent.letter for sent in worker.journal.sent()]


@pytest.mark.parametrize("distils", [True, False], ids=["beliefs", "parameters"])
def test_restarted_at_every_point_it_sends_the_same_letters(distils: bool, open_office: Callable[[], Office]) -> None:
    def told(restarts: set[int]) -> tuple[list[bytes], str, bytes]:
        office = open_office()
        worker = office.worker(distils=distils)
        for number, parcel in enumerate(office.story()):
            if number in restarts:
                worker = office.worker(distils=distils)
            worker.handle(parcel)
        return letters(worker), worker.ended, worker.participant.state  # type: ignore[attr-defined]

    undisturbed = told(set())
    assert len(undisturbed[0]) == 3
    assert undisturbed[1:] == ("finished", learned(*range(3 if distils else 1, 4)))
    for point in range(8):
        assert told({point}) == undisturbed
    assert told(set(range(8))) == undisturbed


def test_started_after_the_end_it_knows_how_that_was(office: Office) -> None:
    worker = office.worker()
    worker.handle(office.ending(1, "failed", "too few answers"))
    again = office.worker()
    assert (again.ended, again.why) == ("failed", "too few answers")


def test_nothing_is_learned_again_before_it_is_needed(office: Office) -> None:
    """So that a participant that is started outside its hours does not train."""
    worker = office.worker()
    for parcel in office.story()[:2]:
        worker.handle(parcel)
    again = office.worker()
    again.unposted()
    assert again._participant is None
    assert again.participant.state == learned(1)  # type: ignore[attr-defined]
