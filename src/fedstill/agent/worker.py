"""One participant in one run, between machines: letters in, answers out, on the disk before they leave.

Killed at any moment and started again on the same folder, it is where it was: an answer that was made is sent again as
it is, and what was learned is learned once more from the same teacher and the same data, with the same result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fedstill import wire
from fedstill.agent.journal import APPROVED, REFUSED, WAITING, Draft, Journal, Received, Sent
from fedstill.agent.limits import Hours, Rules
from fedstill.agent.threads import Threads
from fedstill.agreement import Agreement, Terms
from fedstill.errors import DataError, WireError
from fedstill.members import Member
from fedstill.messages import Answer, Ask, Kind, Message, Refuse, Reply, Teach
from fedstill.participant import Participant
from fedstill.privacy.ledger import Ledger
from fedstill.privacy.noise import SystemNoise
from fedstill.service.store.blobs import Blobs
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import (
    COORDINATOR,
    Header,
    Letter,
    Parcel,
    check,
    check_payload,
    read,
    write,
)

ENDINGS = ("finished", "failed")


@dataclass(frozen=True)
class Contract:
    """What a worker stands on: the terms, their SHA-256, what they name, who it is, and whose letters it takes."""

    terms: Terms
    digest: str
    agreement: Agreement
    identity: Identity
    coordinator: Certificate


class Worker:
    """Takes part in one run.

    `ended` is "finished" or "failed" once the run is over, and `why` says why; `after` is the number of the last letter
    that was handled; `waits` says whether an answer waited for its owner when `unposted` looked last.

    Parameters
    ----------
    contract:
        What holds.
    member:
        The enterprise, with its data.
    journal, ledger, blobs:
        Where letters are kept, what is paid for, and payloads.
    clock:
        Unix seconds.
    rules:
        What the owner lets it do.

    Raises
    ------
    ConfigError, DataError, LearnerError, MissingExtra
        Where the member's learner or data cannot be used.
    """

    def __init__(
        self,
        contract: Contract,
        member: Member,
        journal: Journal,
        ledger: Ledger,
        blobs: Blobs,
        clock: Callable[[], float],
        rules: Rules | None = None,
    ) -> None:
        self.contract = contract
        self.journal = journal
        self.rules = rules or Rules()
        self.hours = Hours.read(self.rules.hours)
        self.threads = Threads(self.rules.threads)
        self.ended = ""
        self.why = ""
        self.waits = False
        self._participant: Participant | None = None
        self._party = member.name
        self._blobs = blobs
        self._clock = clock
        self._made = ("", b"")  # the digest and payload of the last answer, which is about to be posted
        self.make = contract.agreement.make(member)
        self.guard = contract.agreement.guard(member, ledger, SystemNoise())
        self.prepared = contract.agreement.prepare(member)
        past = journal.received()
        self.after = past[-1].number if past else 0
        self._sent = max((one.number for one in journal.sent()), default=0)
        for one in past:
            if one.kind in ENDINGS:
                self.ended, self.why = one.kind, str(json.loads(blobs.get(one.digest))["why"])

    @property
    def participant(self) -> Participant:
        """The participant where the journal ends; made when it is first needed, because it may have to train."""
        if self._participant is None:
            self._participant = self.contract.agreement.build(self.make, self.prepared, self.guard)()
            self._remember(self.journal.received())
        return self._participant

    def close(self) -> None:
        """Close what it writes to."""
        self.journal.close()
        self.guard.ledger.close()

    def handle(self, parcel: Parcel) -> str:
        """Take a letter of the coordinator with its payload, and say what it was about.

        Raises
        ------
        WireError
            Where it is not one to follow.
        """
        letter = self.checked(parcel.letter)
        header, payload = letter.header, parcel.payload
        if payload is None:
            raise WireError("a letter came without its payload")
        check_payload(header, payload)
        if header.number <= self.after:
            return "a letter that was heard before"  # what follows from it is in the journal
        if header.number != self.after + 1:
            raise WireError(f"letter {header.number} came, and {self.after + 1} has not")
        told = self._follow(header, payload) if header.kind == "frame" else self._end(header, payload)
        self.after = header.number
        return told

    def checked(self, data: bytes) -> Letter:
        """A letter that the coordinator of this run has written to this participant. Raises WireError."""
        letter = read(data)
        header = letter.header
        if header.sender != COORDINATOR or header.to != self._party:
            raise WireError("it is not from the coordinator to this participant")
        if header.terms != self.contract.digest:
            raise WireError("it is about another run, or other terms")
        check(letter, self.contract.coordinator.verify)
        if header.size > self._blobs.max_bytes:
            raise WireError(f"its payload of {header.size} bytes is over the bound of {self._blobs.max_bytes}")
        return letter

    def unposted(self) -> Sequence[tuple[Sent, bytes]]:
        """Letters that the coordinator has not confirmed, in order, with their payloads."""
        drafts = self.journal.drafts()
        self.waits = any(draft.verdict == WAITING for draft in drafts)
        for draft in drafts:
            if draft.verdict in (APPROVED, REFUSED) and draft.letter is None:
                self.journal.released(draft, self._written(self._decided(draft)))
        letters, (digest, payload) = self.journal.unposted(), self._made
        if not letters:
            self._made = ("", b"")  # it has been posted, and may be large
        return [(one, payload if one.digest == digest else self._blobs.get(one.digest)) for one in letters]

    def stored(self, digest: str) -> Message | Reply:
        """A message or reply by its digest, as the journal names it."""
        return wire.decode(self._blobs.get(digest))

    def _follow(self, header: Header, payload: bytes) -> str:
        message = wire.decode(payload)
        if not isinstance(message, Ask | Teach):
            raise WireError("it is no message to a participant")
        if isinstance(message, Teach) or not self._forgets_asks:
            self._blobs.put(payload, header.digest)
        kind = "ask" if isinstance(message, Ask) else "teach"
        received = Received(header.number, kind, message.round, header.digest, self._clock())
        reply = self._reply(message)
        if reply is None and isinstance(message, Ask):
            self.journal.handled(received)
            return f"round {message.round}: not answered, the privacy budget does not pay for it"
        if reply is None:
            loss = self.participant.losses.get(message.round)
            self.journal.handled(replace(received, loss=loss))
            return f"round {message.round}: {'no use of a teacher' if loss is None else 'taught'}"
        return f"round {message.round}: asked{self._answer(received, reply)}"

    def _answer(self, received: Received, reply: Reply) -> str:
        """Write an answer down, or ask the owner about it; says so in the second case."""
        asked = (reply.round, reply.question)
        drafts = self.journal.drafts()
        late = [one for one in drafts if (one.round, one.question) != asked]
        draft = next((one for one in drafts if (one.round, one.question) == asked), None)
        if not isinstance(reply, Answer) or (draft is None and self.rules.approve == "always"):
            self.journal.handled(received, self._written(reply), late=late)
        elif draft is None:
            payload = wire.encode(reply)
            digest, size = self._blobs.put(payload), len(payload)
            draft = Draft(received.number, *asked, self._said(reply), digest, size, self._clock())
            self.journal.handled(received, draft=draft, late=late)
            return f"; answer {draft.number} waits for its owner"
        elif draft.letter is None:  # asked once more while the owner thinks about it
            self.journal.handled(received, late=late)
        else:
            self.journal.handled(received, self._written(self._decided(draft)), late=late)
        return ""

    def _decided(self, draft: Draft) -> Reply:
        """What leaves after the owner's verdict."""
        if draft.verdict == REFUSED:
            return self._in_words(Refuse(draft.round, self._party, draft.reason, draft.question))
        reply = self.stored(draft.digest)
        if not isinstance(reply, Answer):
            raise DataError("a draft is no answer", where="journal", remedy="Restore the participant's folder")
        return reply

    def _reply(self, message: Ask | Teach, *, again: bool = False) -> Reply | None:
        if message.recipe not in self.contract.terms.recipes:
            if isinstance(message, Teach):
                raise WireError("a teacher comes with a recipe that the terms do not name")
            why = "it asks for something that the terms do not name"
            return self._in_words(Refuse(message.round, self._party, why, message.question))
        # With one thread models are the same, byte for byte, on every machine of a kind.
        with self.threads.held():
            if again and isinstance(message, Ask):
                self.participant.retrace(message)
                return None
            return self.participant.handle(message)

    def _in_words(self, refusal: Refuse) -> Refuse:
        """Charge a refusal that says nothing of the data: the terms', or the owner's own words."""
        self.guard.charge(refusal, "a refusal", free=True)
        return refusal

    def _written(self, reply: Reply) -> Sent:
        payload = self.guard.sealed(reply)
        digest, now = self._blobs.put(payload), self._clock()
        # By the clock, so that whoever has lost its folder, and joined again, goes on above what it sent before.
        number = max(self._sent + 1, round(1000 * now))
        header = Header(self.contract.digest, self._party, COORDINATOR, number, "frame", digest, len(payload), now)
        letter = write(header, self.contract.identity.sign)
        self._sent, self._made = number, (digest, payload)
        return Sent(number, self._said(reply), letter.to_bytes(), digest, len(payload), now)

    def _said(self, reply: Reply) -> str:
        """What a reply is, in words."""
        what = self._releases() if isinstance(reply, Answer) else f"refusal ({reply.reason})"
        return f"round {reply.round}, question {reply.question}: {what}"

    def _releases(self) -> str:
        kinds = {recipe.release for recipe in self.contract.terms.recipes}
        words = {Kind.LABELS: "soft labels", Kind.SKETCH: "sketch"}
        return " or ".join(sorted(words.get(kind, str(kind)) for kind in kinds))

    def _end(self, header: Header, payload: bytes) -> str:
        try:
            told = json.loads(payload)
            number, why = int(told["round"]), str(told["why"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise WireError("it does not say how the run has ended") from None
        self._blobs.put(payload, header.digest)
        received = Received(header.number, header.kind, number, header.digest, self._clock())
        self.journal.handled(received, late=self.journal.drafts())
        self.ended, self.why = header.kind, why
        return f"the run has {header.kind}" + (f": {why}" if why else "")

    def _remember(self, past: Sequence[Received]) -> None:
        """Be where the journal ends."""
        self.participant.losses.update({one.round: one.loss for one in past if one.loss is not None})
        drafted = [draft.digest for draft in self.journal.drafts()]
        for digest in (*drafted, *(sent.digest for sent in self.journal.sent())):  # which say what became of drafts
            reply = self.stored(digest)
            if isinstance(reply, Answer | Refuse):
                self.participant.remember(reply)
        for one in self._needed(past):
            message = self.stored(one.digest)
            if isinstance(message, Ask | Teach):
                self._reply(message, again=True)

    @property
    def _forgets_asks(self) -> bool:
        """Whether its present state stands on the last teacher alone, as with beliefs, and not on all letters."""
        return self.contract.agreement.distils

    def _needed(self, past: Sequence[Received]) -> list[Received]:
        """The letters on which its present state stands."""
        if not self._forgets_asks:
            return [one for one in past if one.kind not in ENDINGS]
        return [one for one in past if one.kind == "teach"][-1:]
