"""What a participant has received and sent: whole, or not at all."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from fedstill.agent.journal import APPROVED, LATE, REFUSED, Draft, Journal, Received, Sent
from fedstill.errors import DataError

ASKED = Received(1, "ask", 1, "a" * 64, 10.0)
SENT = Sent(1, "round 1, question 1: soft labels", b"letter", "b" * 64, 7, 11.0)
DRAFT = Draft(1, 1, 1, "round 1, question 1: soft labels", "b" * 64, 7, 11.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_what_was_written_is_there_after_a_restart(path: Path) -> None:
    first = Journal(path, "run")
    first.handled(ASKED, SENT)
    first.posted(1, 12.0, "too late")
    first.close()
    again = Journal(path, "run")
    assert again.received() == [ASKED]
    (sent,) = again.sent()
    assert (sent.letter, sent.posted_at, sent.why) == (b"letter", 12.0, "too late")


def test_a_letter_and_its_answer_are_written_both_or_neither(path: Path) -> None:
    journal = Journal(path, "run")
    journal.handled(ASKED, SENT)
    with pytest.raises(DataError, match="journal cannot be used"):
        journal.handled(Received(2, "ask", 2, "c" * 64, 12.0), SENT)  # number 1 was sent
    assert journal.received() == [ASKED]
    again = Received(2, "ask", 2, "c" * 64, 12.0)
    journal.handled(again, draft=DRAFT)
    with pytest.raises(DataError):
        journal.handled(replace(again, number=3), replace(SENT, number=2), DRAFT)
    assert journal.received() == [ASKED, again]
    assert journal.sent() == [SENT]


def test_runs_do_not_see_each_other(path: Path) -> None:
    Journal(path, "one").handled(ASKED, SENT)
    other = Journal(path, "other")
    assert (other.received(), other.sent(), other.drafts()) == ([], [], [])
    other.handled(ASKED, SENT)


def test_what_is_confirmed_is_not_sent_again(path: Path) -> None:
    journal = Journal(path, "run")
    journal.handled(ASKED, SENT)
    journal.handled(Received(2, "ask", 2, "c" * 64, 12.0), replace(SENT, number=2))
    journal.posted(1, 13.0, "too late")
    confirmed = replace(SENT, posted_at=13.0, why="too late")
    assert Journal(path, "run").sent() == [confirmed, replace(SENT, number=2)]
    assert journal.unposted() == [replace(SENT, number=2)]
    mode = journal._connection.execute("PRAGMA synchronous").fetchone()
    assert mode == (2,)  # FULL again: what follows is on the disk when it is said to be


def test_an_owner_decides_once(path: Path) -> None:
    journal = Journal(path, "run")
    journal.handled(ASKED, draft=DRAFT)
    assert not journal.decided(2, APPROVED, "", 12.0)
    assert journal.decided(1, REFUSED, "not now", 12.0)
    assert not Journal(path, "run").decided(1, APPROVED, "", 13.0)
    (draft,) = journal.drafts()
    assert (draft.verdict, draft.reason, draft.decided_at, draft.letter) == (REFUSED, "not now", 12.0, None)
    journal.released(draft, SENT)
    assert [one.letter for one in journal.drafts()] == [1]
    assert journal.sent() == [SENT]


def test_a_draft_that_became_a_letter_is_not_late(path: Path) -> None:
    journal = Journal(path, "run")
    journal.handled(ASKED, draft=DRAFT)
    second = Draft(2, 2, 1, "round 2", "c" * 64, 7, 11.0)
    journal.handled(Received(2, "ask", 2, "c" * 64, 12.0), draft=second)
    journal.decided(1, APPROVED, "", 12.0)
    journal.released(journal.drafts()[0], SENT)
    journal.handled(Received(3, "ask", 3, "d" * 64, 13.0), late=journal.drafts())
    assert [one.verdict for one in journal.drafts()] == [APPROVED, LATE]


def test_a_journal_without_drafts_gets_a_table_for_them(path: Path) -> None:
    Journal(path, "run").handled(ASKED, SENT)
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE drafts")
    connection.commit()
    connection.close()
    journal = Journal(path, "run")
    assert journal.drafts() == []
    assert journal.received() == [ASKED]


def test_what_is_no_journal(path: Path) -> None:
    path.write_bytes(b"something else " * 100)
    with pytest.raises(DataError, match="journal cannot be used"):
        Journal(path, "run")
