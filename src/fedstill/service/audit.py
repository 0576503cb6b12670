"""Checks what a coordinator has written: the chain of events, every signature, and every teacher, computed anew."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fedstill.agreement import read_terms
from fedstill.errors import FedstillError, WireError
from fedstill.labels import Party
from fedstill.service.charter import coordinator_of
from fedstill.service.progress import Progress, event_of, fold, mail
from fedstill.service.store.blobs import Blobs
from fedstill.service.store.chain import Record, verify_chain
from fedstill.service.store.reads import Reads
from fedstill.service.store.tables import LetterRow, RunRow
from fedstill.transports.certificates import Certificate
from fedstill.transports.letters import COORDINATOR, Letter, check, digest_of, read


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes
    ----------
    events, letters:
        How many were checked.
    head:
        The hash of the last event: it stands for all that has happened, and can be compared with a copy elsewhere.
    faults:
        What does not fit, the first of each run and of the chain; empty where all does.
    """

    events: int
    letters: int
    head: str
    faults: tuple[str, ...]


def audit(store: Reads, blobs: Blobs, coordinator: Certificate) -> Audit:
    """Check everything that is stored.

    Parameters
    ----------
    store, blobs:
        What the coordinator has written.
    coordinator:
        Whose signature its letters must have.
    """
    records = list(store.records())
    bad = verify_chain(records)
    faults = [] if bad is None else [f"event {bad}: the chain of hashes breaks here"]
    certificates = _certificates(records, faults)
    letters = 0
    for run in store.runs():
        own = [record for record in records if record.run == run.number]
        try:
            letters += _replay(store, blobs, run, own, certificates, coordinator)
        except FedstillError as error:
            faults.append(f"run {run.number}: {error}")
    return Audit(len(records), letters, records[-1].hash if records else "", tuple(faults))


def _certificates(records: Sequence[Record], faults: list[str]) -> dict[Party, list[tuple[int, Certificate]]]:
    """Certificates by party, each with the event by which it came."""
    found: dict[Party, list[tuple[int, Certificate]]] = defaultdict(list)
    for record in records:
        if record.kind == "joined":
            try:
                certificate = Certificate.from_pem(record.body)
            except WireError as error:
                faults.append(f"event {record.seq}: {error}")
                continue
            found[certificate.name].append((record.seq, certificate))
    return found


def _replay(
    store: Reads,
    blobs: Blobs,
    run: RunRow,
    records: Sequence[Record],
    certificates: dict[Party, list[tuple[int, Certificate]]],
    signer: Certificate,
) -> int:
    """Compute a run anew; returns the number of letters that it led to. Raises WireError at what does not fit."""
    if hashlib.sha256(run.terms).hexdigest() != run.terms_digest:
        raise WireError("its terms are not those that its digest names")
    terms = read_terms(run.terms)
    named = filter(None, (terms.transfer, terms.start))
    machine = coordinator_of(terms, {digest: blobs.get(digest) for digest in named})
    stored = _by_event(store, run, terms.parties)
    progress, count = Progress(machine.start()), 0
    for record in records:
        event, letter = event_of(record, blobs)
        if letter is not None:
            _check_sender(record.seq, letter, certificates)
        progress, effects = fold(machine, progress, event, letter)
        expected = [(to, kind, digest_of(payload)) for to, kind, payload in mail(machine, progress, effects)]
        count += _compare(record.seq, expected, stored.pop(record.seq, []), run.terms_digest, signer)
    if stored:
        raise WireError(f"event {min(stored)}: letters stand here that no event has caused")
    if str(progress.state.phase) != run.phase:
        raise WireError(f"its events lead to '{progress.state.phase}', it is said to be '{run.phase}'")
    return count


def _by_event(store: Reads, run: RunRow, parties: Sequence[Party]) -> dict[int, list[LetterRow]]:
    found: dict[int, list[LetterRow]] = defaultdict(list)
    for party in parties:
        after = 0
        while page := store.letters(party, run.number, after):
            for row in page:
                found[row.seq].append(row)
            after = page[-1].number
    return found


def _check_sender(event: int, letter: Letter, certificates: dict[Party, list[tuple[int, Certificate]]]) -> None:
    sender = letter.header.sender
    known = [certificate for seq, certificate in certificates[sender] if seq < event]
    if not known:
        raise WireError(f"event {event}: '{sender}' had not joined yet")
    try:
        check(letter, known[-1].verify)
    except WireError as error:
        raise WireError(f"event {event}: {error}") from None


def _compare(
    seq: int, expected: Sequence[tuple[Party, str, str]], stored: list[LetterRow], terms: str, signer: Certificate
) -> int:
    said = []
    for row in stored:
        letter = read(row.letter)
        check(letter, signer.verify)
        header = letter.header
        if (header.sender, header.to, header.number, header.terms) != (COORDINATOR, row.to, row.number, terms):
            raise WireError(
                f"event {seq}: the letter {row.number} to '{row.to}' says something else than where it lies"
            )
        said.append((header.to, header.kind, header.digest))
    if sorted(said) != sorted(expected):
        raise WireError(f"event {seq}: other letters follow from it than those that were written")
    return len(said)
