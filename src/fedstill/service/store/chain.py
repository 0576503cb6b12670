"""A chain of records: each holds the hash of the one before, so that no past can be changed unnoticed.

Whoever keeps the hash of one record (a participant, an auditor) can tell later whether anything up to that record is
no longer what it was. Without such a hash from elsewhere a chain shows damage, not a forger who has computed all
following hashes anew. This file needs no database, so that an auditor can check a chain that was handed over.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

GENESIS = "0" * 64
"""What the first record names as the hash before it."""


@dataclass(frozen=True)
class Record:
    """One event that happened, at its place in the chain.

    Attributes
    ----------
    seq:
        1, 2, 3 ... within a store.
    run:
        The run it belongs to; None where it belongs to none (somebody was revoked).
    kind:
        What happened, in a word.
    at:
        When, in unix seconds by the coordinator's clock.
    body:
        The rest, which the chain does not look into.
    previous, hash:
        Of the record before and of this one: SHA-256, 64 hex digits.
    """

    seq: int
    run: int | None
    kind: str
    at: float
    body: bytes
    previous: str
    hash: str


def link(previous: str, seq: int, run: int | None, kind: str, at: float, body: bytes) -> Record:
    """Make the record that follows the one with the hash `previous`.

    Its hash is SHA-256 of the 32 bytes of `previous` and the MessagePack array ``[seq, run, kind, at, body]``: numbers
    as short as possible, `at` as a 64-bit float.

    Raises
    ------
    ValueError
        Where `at` is not a finite number.
    """
    if not math.isfinite(at):
        raise ValueError(f"an event happens at a finite time, not at {at}")
    at = float(at) + 0.0  # SQLite gives -0.0 back as 0.0
    canonical = msgspec.msgpack.encode((seq, run, kind, at, body))
    digest = hashlib.sha256(bytes.fromhex(previous) + canonical).hexdigest()
    return Record(seq, run, kind, at, body, previous, digest)


def verify_chain(records: Iterable[Record], head: str | None = None) -> int | None:
    """Check all records of a store, in order.

    Parameters
    ----------
    records:
        From the first one on.
    head:
        The hash that the last one should have, where it is known from elsewhere. Without it nobody can tell that the
        last records are missing.

    Returns
    -------
    The first `seq` at which the chain is broken: there the record has been changed, is missing, or was put in later.
    None where the chain is whole.
    """
    previous, seq = GENESIS, 0
    for seq, record in enumerate(records, start=1):
        try:
            whole = record == link(previous, seq, record.run, record.kind, record.at, record.body)
        except (TypeError, ValueError, OverflowError):  # a damaged row may hold anything
            whole = False
        if not whole:
            return seq
        previous = record.hash
    return None if head in (None, previous) else seq + 1
