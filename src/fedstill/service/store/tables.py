"""The tables of a store, and their rows as plain values. `migrations` creates them; a test keeps the two alike.

Times are unix seconds (UTC). Digests, hashes and fingerprints are SHA-256 as 64 hex digits.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, LargeBinary, MetaData, Table, Text

metadata = MetaData()

leadership = Table(
    "leadership",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # there is one row, with the id 1
    Column("epoch", BigInteger, nullable=False),  # how often somebody has taken the lead
    Column("owner", Text, nullable=False),  # empty: nobody leads
    Column("beat", Double, nullable=False),
)
parties = Table(
    "parties",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("certificate", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("joined_at", Double),
    Column("last_seen", Double),
)
# All certificates that a party may come with: who did not get the answer to its renewal still has the one before.
fingerprints = Table(
    "fingerprints",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("party", Text, ForeignKey("parties.name"), nullable=False),
)
invitations = Table(
    "invitations",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("party", Text, ForeignKey("parties.name"), nullable=False),
    Column("role", Text, nullable=False),
    Column("expires", Double, nullable=False),
    Column("used_at", Double),
    Column("used_by", Text, nullable=False),
)
runs = Table(
    "runs",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("terms_digest", Text, nullable=False),
    Column("terms", LargeBinary, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("phase", Text, nullable=False),
)
events = Table(
    "events",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("run", BigInteger, ForeignKey("runs.number")),
    Column("kind", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("events_of_a_run", "run", "seq"),
)
letters = Table(
    "letters",
    metadata,
    Column("to", Text, ForeignKey("parties.name"), primary_key=True),
    Column("run", BigInteger, ForeignKey("runs.number"), primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("letter", LargeBinary, nullable=False),
    Column("digest", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("seq", BigInteger, ForeignKey("events.seq"), nullable=False),
)

INVITED, JOINED, REVOKED = "invited", "joined", "revoked"
STATUSES = (INVITED, JOINED, REVOKED)


@dataclass(frozen=True)
class Lease:
    """Who leads: `owner` (empty: nobody) in the given epoch, and when it last said so."""

    epoch: int
    owner: str
    beat: float


@dataclass(frozen=True)
class PartyRow:
    """A party; `status` is one of `STATUSES`. Its newest certificate (PEM) and fingerprint are empty until it joins."""

    name: str
    role: str
    status: str
    certificate: str
    fingerprint: str
    joined_at: float | None
    last_seen: float | None


@dataclass(frozen=True)
class Invitation:
    """A word by which a party can join once; `used_by` says what it was used with."""

    token_hash: str
    party: str
    role: str
    expires: float
    used_at: float | None
    used_by: str


@dataclass(frozen=True)
class RunRow:
    """A run of the federation, on terms that all have agreed on."""

    number: int
    terms_digest: str
    terms: bytes
    started_at: float
    ended_at: float | None
    phase: str


@dataclass(frozen=True)
class LetterRow:
    """A letter to a party; its payload lies in `Blobs`. `seq` is the event that caused it."""

    to: str
    run: int
    number: int
    letter: bytes
    digest: str
    size: int
    seq: int
