"""The owner's word on answers that wait: look at one, let it go, or refuse.

The verdict goes into the journal; the participant at work, or the next one that is started, follows it.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from fedstill.agent.home import Accepted, Home
from fedstill.agent.journal import APPROVED, REFUSED, WAITING, Draft, Journal
from fedstill.agent.looking import answer_in, show
from fedstill.agreement import read_agreement
from fedstill.errors import ConfigError

MAX_REASON = 200
"""Characters; the coordinator keeps no more."""


def waiting(home: Home) -> list[Draft]:
    """Answers that wait for the owner: at most one, since a new question makes the one before late."""
    accepted = home.standing_on
    if accepted is None:
        return []
    with closing(Journal(home.journal_path, accepted.digest)) as journal:
        return [one for one in journal.drafts() if one.verdict == WAITING]


def look(home: Home, number: int | None) -> tuple[dict[str, Any], Path]:
    """Write an answer that waits to a folder; returns what it is, and the folder. Raises ConfigError."""
    draft, terms = _chosen(home, number), _accepted(home).terms
    agreement = read_agreement(terms, home.blobs.get(terms.transfer))
    folder = home.folder / "waiting" / str(draft.number)
    return show(answer_in(home.blobs.get(draft.digest)), agreement, folder), folder


def decide(home: Home, number: int | None, refusal: str | None, now: float) -> Draft:
    """Let an answer go, or make it a refusal.

    Parameters
    ----------
    home:
        The participant's folder.
    number:
        Which one; None: the one that waits.
    refusal:
        Why it shall not leave. This reason leaves instead. None: it may go.
    now:
        Unix seconds.

    Raises
    ------
    ConfigError
        Where no such answer waits, or the reason cannot be one.
    """
    if refusal is not None and not (refusal.strip() and refusal.isprintable() and len(refusal) <= MAX_REASON):
        raise ConfigError(
            "this is no reason",
            where="--refuse",
            remedy=f"Write 1 to {MAX_REASON} characters in one line; the coordinator will read them",
        )
    draft = _chosen(home, number)
    verdict = APPROVED if refusal is None else REFUSED
    with closing(Journal(home.journal_path, _accepted(home).digest)) as journal:
        if not journal.decided(draft.number, verdict, refusal or "", now):
            raise _nothing(home, f"answer {draft.number} does not wait any more")
    return draft


def _chosen(home: Home, number: int | None) -> Draft:
    found = waiting(home)
    for draft in found:
        if number in (None, draft.number):
            return draft
    others = f"; there is {', '.join(str(one.number) for one in found)}" if found else ""
    raise _nothing(home, "no answer waits" if number is None else f"no answer {number} waits{others}")


def _nothing(home: Home, what: str) -> ConfigError:
    remedy = f"Look at what waits: fedstill participant status {home.folder}"
    return ConfigError(what, where=str(home.folder), remedy=remedy)


def _accepted(home: Home) -> Accepted:
    accepted = home.standing_on
    if accepted is None:
        raise _nothing(home, "no terms have been accepted")
    return accepted
