"""The coordinator at work: letters in, one transaction for each batch, letters out. It knows no network.

What has happened is what stands in the store. A batch of letters is folded into the machine of `round.py` on the side;
events, and the letters that follow from them, are written in one transaction; only then does this process know of it,
and only then are senders told. Killed at any moment and started again, a desk reads the events and is where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from fedstill import wire
from fedstill.agreement import read_terms
from fedstill.errors import LinkRefused, WireError
from fedstill.labels import Party
from fedstill.messages import Answer, Refuse
from fedstill.round import (
    Asked,
    Closed,
    Effect,
    Event,
    Failed,
    Finished,
    Ignored,
    Phase,
    QuorumMissed,
    Received,
    Started,
    Ticked,
)
from fedstill.service.charter import Charter, coordinator_of
from fedstill.service.progress import Progress, event_of, fold, mail, told
from fedstill.service.registry import Registry
from fedstill.service.store.blobs import Blobs
from fedstill.service.store.databases import StoreError
from fedstill.service.store.store import Store, Writer
from fedstill.service.store.tables import JOINED, LetterRow, RunRow
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import (
    COORDINATOR,
    INLINE_BYTES,
    Header,
    Letter,
    Parcel,
    check,
    check_payload,
    read,
    write,
)
from fedstill.transports.roles import Role

LOG = logging.getLogger(__name__)
T = TypeVar("T")
INLINE_TOTAL_BYTES = 4 * 2**20
MAX_LETTERS = 256
SMALL_PAYLOADS = 256
OVER = (Phase.FINISHED, Phase.FAILED)


def convene(store: Store, blobs: Blobs, charter: Charter, now: float) -> RunRow:
    """Begin a run on these terms; it waits until all its parties have joined."""
    for payload in charter.payloads.values():
        blobs.put(payload)
    with store.writing() as writer:
        return writer.add_run(charter.terms.to_bytes(), now, Phase.WAITING)


class Desk:
    """Carries out one run for as long as this process leads.

    Parameters
    ----------
    store, blobs:
        What it knows; `store` leads.
    run:
        The run.
    identity:
        Signs its letters.
    registry:
        Who may come in.
    announce:
        Told for whom there are new letters.

    Raises
    ------
    WireError
        Where what is stored does not make a run.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        run: RunRow,
        identity: Identity,
        registry: Registry,
        announce: Callable[[Iterable[Party]], None] = lambda _: None,
    ) -> None:
        self.store = store
        self.blobs = blobs
        self.terms = run.terms
        self.registry = registry
        self.announce = announce
        self._run = run.number
        self._digest = run.terms_digest
        self._identity = identity
        self._agreed = read_terms(run.terms)
        named = filter(None, (self._agreed.transfer, self._agreed.start))
        self._coordinator = coordinator_of(self._agreed, {digest: blobs.get(digest) for digest in named})
        self._certificates: dict[Party, Certificate] = {}
        self._unsaid: dict[Party, float] = {}
        self._numbers: dict[Party, int] = {}  # of the last letter to each; nobody else writes letters of this run
        self._small: dict[str, bytes] = {}
        self.progress = self._replayed()
        self._doubtful = False

    # ---- what the network calls

    def who(self, fingerprint: str) -> tuple[Party, Role] | None:
        """See `Registry.who`."""
        return self.registry.who(fingerprint)

    def enrol(self, token: str, request_pem: bytes) -> tuple[bytes, bytes]:
        """See `Registry.enrol`; the last one to come starts the run."""
        return self._let_in(self.registry.enrol(token, request_pem))

    def invitations(self) -> list[str]:
        """See `Registry.invitations`."""
        return self.registry.invitations()

    def enrol_hash(self, token_hash: str, request_pem: bytes) -> tuple[bytes, bytes]:
        """See `Registry.enrol_hash`; the last one to come starts the run."""
        return self._let_in(self.registry.enrol_hash(token_hash, request_pem))

    def renew(self, name: Party, request_pem: bytes) -> bytes:
        """See `Registry.renew`."""
        return self.registry.renew(name, request_pem)

    def seen(self, party: Party) -> None:
        """A party has come by; written down with the next beat."""
        self._unsaid[party] = self.registry.clock()

    def take(self, batch: Sequence[tuple[Party, bytes, bytes | None]]) -> list[str]:
        """Take letters of parties that the network has made sure of.

        Parameters
        ----------
        batch:
            Party, letter, and the payload, or None where it lies in `blobs`.

        Returns
        -------
        For each "" where it counts, else why not. All of it is on the disk when this returns.
        """
        return self._write(lambda shift: [shift.hear(*one) for one in batch])

    def tick(self) -> None:
        """Start the run when all have joined, and close a question whose time is over."""
        state = self.progress.state
        if state.phase is Phase.WAITING and self._all_joined():
            self._write(lambda shift: shift.happen(Started(shift.now), "started"))
        elif state.phase is Phase.OPEN and self._clock() >= state.closes_at:
            self._write(lambda shift: shift.happen(Ticked(shift.now), "ticked"))

    def beat(self) -> None:
        """Say that this process leads, and who has been seen. Raises NotLeading."""
        self.store.beat(self.registry.clock())
        unsaid, self._unsaid = self._unsaid, {}
        if unsaid:
            with self.store.writing() as writer:
                for party, at in unsaid.items():
                    writer.seen(party, at)

    def letters(self, party: Party, after: int) -> list[Parcel]:
        """Letters to a party with numbers above `after`; small payloads come with them.

        Raises
        ------
        LinkRefused
            Where the party has letters that were never written here: this is an older copy of the store, and the run
            has gone on without it.
        """
        parcels, room = [], INLINE_TOTAL_BYTES
        rows = self.store.letters(party, self._run, after, MAX_LETTERS)
        if not rows and after > self._last_number(party):
            raise LinkRefused(
                "the coordinator was restored from a backup that is older than your last letter",
                remedy="Ask the operator to plan a new run",
            )
        for row in rows:
            inline = row.size <= min(INLINE_BYTES, room)
            parcels.append(Parcel(row.letter, self._payload(row.digest) if inline else None))
            room -= row.size if inline else 0
        return parcels

    def reads(self, party: Party, digest: str) -> bool:
        """Whether a party may fetch a payload: what the terms name, and what letters to it name."""
        named = (self._agreed.transfer, self._agreed.start)
        return digest in named or self.store.addressed(party, self._run, digest)

    def status(self) -> dict[str, Any]:
        """How far the run is, for people and programs."""
        state, agreed = self.progress.state, self._agreed
        seen = {one.name: one for one in self.store.parties()}
        return {
            "federation": agreed.federation,
            "run": self._run,
            "terms": self._digest,
            "phase": str(state.phase),
            "why": self.progress.why,
            "round": state.round,
            "rounds": agreed.rounds,
            "closes_at": state.closes_at if state.phase is Phase.OPEN else None,
            "parties": {
                party: {
                    "status": seen[party].status if party in seen else "not invited",
                    "last_seen": self._unsaid.get(party, seen[party].last_seen if party in seen else None),
                    "heard": party in state.answers or party in state.refusals,
                }
                for party in agreed.parties
            },
            "closings": [told(closing) for closing in self.progress.closings],
        }

    # ---- how it works

    def _let_in(self, certificates: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        self._certificates.clear()  # a party that is invited again has another key
        self.tick()
        return certificates

    def _clock(self) -> float:
        return max(self.progress.now, self.registry.clock())

    def _all_joined(self) -> bool:
        if self.store.how_many(JOINED) < len(self._agreed.parties):  # asked whenever somebody joins
            return False
        joined = {one.name for one in self.store.parties() if one.status == JOINED}
        return joined >= set(self._agreed.parties)

    def _write(self, work: Callable[[_Shift], T]) -> T:
        if self._doubtful:
            self.progress, self._doubtful = self._replayed(), False
        try:
            with self.store.writing() as writer:
                shift = _Shift(self, writer)
                done = work(shift)
                writer.add_letters(shift.letters)
        except StoreError:
            self._doubtful, self._numbers = True, {}  # it may have been written all the same: only reading tells
            raise
        self.progress, self._numbers = shift.progress, shift.numbers  # only now: what is not on the disk has not been
        self.announce({letter.to for letter in shift.letters})
        return done

    def _last_number(self, party: Party) -> int:
        if party not in self._numbers:
            self._numbers[party] = self.store.last_number(party, self._run)
        return self._numbers[party]

    def _payload(self, digest: str) -> bytes:
        """A small payload; the last ones are at hand, since many ask for them at once."""
        if digest not in self._small:
            if len(self._small) >= SMALL_PAYLOADS:
                self._small.clear()
            self._small[digest] = self.blobs.get(digest)
        return self._small[digest]

    def _replayed(self) -> Progress:
        """What the events of the run lead to; what followed from them has been written with them."""
        progress = Progress(self._coordinator.start())
        for record in self.store.records(self._run):
            progress, _ = fold(self._coordinator, progress, *event_of(record, self.blobs))
        return progress

    def certificate(self, party: Party) -> Certificate:
        """The certificate of a party. Raises WireError where it has none."""
        if party not in self._certificates:
            known = self.store.party(party)
            if known is None or not known.certificate:
                raise WireError(f"'{party}' has no certificate")
            self._certificates[party] = Certificate.from_pem(known.certificate.encode())
        return self._certificates[party]


class _Shift:
    """One transaction: works on a copy of what the desk knows."""

    def __init__(self, desk: Desk, writer: Writer) -> None:
        self.progress = desk.progress
        self.now = desk._clock()
        self.letters: list[LetterRow] = []
        self.numbers = dict(desk._numbers)
        self._desk = desk
        self._writer = writer
        self._kept: dict[bytes, str] = {}

    def hear(self, party: Party, data: bytes, payload: bytes | None) -> str:
        """Take a letter; returns why it does not count, or nothing."""
        try:
            letter = self._checked(party, data)
            number, digest = letter.header.number, letter.header.digest
            said = self.progress.heard.get(party, {})
            if number in said:
                return said[number][1] if said[number][0] == digest else f"number {number} was of another letter"
            if said and number < max(said):
                raise WireError(f"letter {number} comes after letter {max(said)}")
            content = self._desk.blobs.view(digest) if payload is None else payload
            check_payload(letter.header, content)
            reply = wire.decode(content)
            if not isinstance(reply, Answer | Refuse) or reply.sender != party:
                raise WireError("it is no reply of its sender")
        except WireError as error:
            LOG.warning("letter refused", extra={"party": party, "why": str(error)})
            return str(error)
        if payload is not None:
            self._desk.blobs.put(payload, digest)
        effects = self.happen(Received(reply, self.now), "received", letter)
        ignored = next((effect.why for effect in effects if isinstance(effect, Ignored)), "")
        if ignored:
            LOG.warning("answer not used", extra={"party": party, "why": ignored})
        return ignored

    def happen(self, event: Event, kind: str, letter: Letter | None = None) -> tuple[Effect, ...]:
        """Write an event, and carry out what follows."""
        body = b"" if letter is None else letter.to_bytes()
        record = self._writer.append(self._desk._run, kind, self.now, body)
        self.progress, effects = fold(self._desk._coordinator, self.progress, event, letter)
        for to, kind_, payload in mail(self._desk._coordinator, self.progress, effects):
            if payload not in self._kept:
                self._kept[payload] = self._desk.blobs.put(payload)
            self._address(to, kind_, self._kept[payload], len(payload), record.seq)
        self._tell(effects)
        return effects

    def _tell(self, effects: tuple[Effect, ...]) -> None:
        phase = self.progress.state.phase
        for effect in effects:
            if isinstance(effect, Closed | QuorumMissed | Asked):
                LOG.info(type(effect).__name__.lower(), extra=told(effect))
            elif isinstance(effect, Finished | Failed):
                LOG.info("run ended", extra={"phase": str(phase), "why": self.progress.why})
        if phase is not self._desk.progress.state.phase:
            self._writer.set_run(self._desk._run, str(phase), self.now if phase in OVER else None)

    def _checked(self, party: Party, data: bytes) -> Letter:
        letter = read(data)
        header = letter.header
        if header.sender != party or header.to != COORDINATOR or header.kind != "frame":
            raise WireError("it is not from its sender to the coordinator")
        if header.terms != self._desk._digest:
            raise WireError("it is about another run, or other terms")
        check(letter, self._desk.certificate(party).verify)
        return letter

    def _address(self, to: Party, kind: Any, digest: str, size: int, seq: int) -> None:
        desk, last = self._desk, self.numbers.get(to)
        number = 1 + (self._writer.last_number(to, desk._run) if last is None else last)
        header = Header(desk._digest, COORDINATOR, to, number, kind, digest, size, self.now)
        letter = write(header, desk._identity.sign)
        self.letters.append(LetterRow(to, desk._run, number, letter.to_bytes(), digest, size, seq))
        self.numbers[to] = number
