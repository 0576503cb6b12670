"""Signed letters about content-addressed payloads: what parties of a federation between machines send each other.

A letter says who tells whom what, and names its payload by size and SHA-256; the payload travels beside it or is
fetched later. Layouts, all MessagePack behind four bytes of version:

* a *letter*: ``FSl1`` + ``[header, signature]``, where the header is the bytes of a map in the order of `Header`, and
  the signature (Ed25519, RFC 8032) is over `CONTEXT` + these bytes;
* *parcels*: ``FSp1`` + ``[[letter, payload or nil], ...]``.

A letter has exactly one encoding: unknown, missing, reordered or repeated fields are refused, so that no two readers
can see different things in the same signed bytes. Whatever is not what it claims raises WireError, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import msgspec

from fedstill.errors import WireError
from fedstill.labels import Party

COORDINATOR: Party = "coordinator"
"""The name of the coordinator as a sender and receiver; no participant can have it."""

CONTEXT = b"fedstill letter 1\0"
"""Stands before what is signed, so that a signature made for anything else never fits a letter."""

INLINE_BYTES = 64 * 1024
"""Payloads up to this size travel beside their letter; larger ones are sent and fetched by their digest."""

MAX_LETTER_BYTES = 4096
MAX_PARCELS = 1024
MAX_NAME_LENGTH = 64
"""Of a party's name: what the common name of a certificate holds (RFC 5280, ub-common-name)."""

_LETTER = b"FSl1"
_PARCELS = b"FSp1"
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)

_Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
_Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
# What a signed 64-bit column of a database holds, and what ends before the year 10000, where dates end.
_Number = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Time = Annotated[float, msgspec.Meta(ge=0.0, lt=253402300800.0)]


@dataclass(frozen=True)
class Header:
    """What a letter says.

    Attributes
    ----------
    terms:
        SHA-256, as 64 lower-case hex digits, of what all have agreed on for this run. It binds a letter to one run of
        one federation.
    sender:
        Who signs: a party, or COORDINATOR.
    to:
        Whom it is for: a party, or COORDINATOR.
    number:
        Rises with every letter of this sender to this receiver in this run (the coordinator counts 1, 2, 3 ...);
        receivers refuse what is not new.
    kind:
        "frame": the payload is a frame of `wire`. "finished", "failed": the run has ended.
    digest:
        SHA-256 of the payload, as 64 lower-case hex digits.
    size:
        Of the payload, in bytes.
    sent_at:
        Seconds since 1970 (Unix time) by the sender's clock.
    """

    terms: _Sha256
    sender: _Name
    to: _Name
    number: _Number
    kind: Literal["frame", "finished", "failed"]
    digest: _Sha256
    size: _Size
    sent_at: _Time


@dataclass(frozen=True)
class Letter:
    """A header and its signature: made by `write` or `read`, and true only after `check`.

    Attributes
    ----------
    header:
        What it says.
    signed:
        The exact bytes of the header.
    signature:
        64 bytes, by the sender's key, over CONTEXT + `signed`.
    """

    header: Header
    signed: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """The letter as it travels."""
        return _LETTER + msgspec.msgpack.encode((self.signed, self.signature))


@dataclass(frozen=True)
class Parcel:
    """A letter as it travels, and its payload; None where that is to be fetched by its digest."""

    letter: bytes
    payload: bytes | None = field(repr=False)


def digest_of(payload: bytes | memoryview) -> str:
    """SHA-256 of a payload as 64 lower-case hex digits: its name."""
    return hashlib.sha256(payload).hexdigest()


def write(header: Header, sign: Callable[[bytes], bytes]) -> Letter:
    """Sign a header.

    Parameters
    ----------
    header:
        What the letter shall say.
    sign:
        Signs bytes with the sender's key (`Identity.sign`).

    Raises
    ------
    WireError
        Where no reader would take the letter: a field is out of its bounds or the signature has not 64 bytes.
    """
    try:
        signed = msgspec.msgpack.encode(replace(header, sent_at=float(header.sent_at)))
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"a letter cannot say this: {error}") from None
    return read(Letter(header, signed, sign(CONTEXT + signed)).to_bytes())


def read(data: bytes) -> Letter:
    """Read a letter. What it says is true only once `check` has found its signature to be the sender's.

    Raises
    ------
    WireError
        Where the data are over 4096 bytes or not exactly a letter of this version.
    """
    if len(data) > MAX_LETTER_BYTES:
        raise WireError(f"a letter of {len(data)} bytes is over the bound of {MAX_LETTER_BYTES}")
    signed, signature = _decoded(data, _LETTER, tuple[bytes, _Signature], "a letter")
    try:
        header = msgspec.msgpack.decode(signed, type=Header)
    except _UNREADABLE as error:
        raise WireError(f"not a letter: {_told(error)}") from None
    letter = Letter(header, signed, signature)
    if msgspec.msgpack.encode(header) != signed or letter.to_bytes() != data:
        raise WireError("not a letter: it is not written in the one way that letters are")
    return letter


def check(letter: Letter, verify: Callable[[bytes, bytes], bool]) -> None:
    """Make sure that a letter is the sender's.

    Parameters
    ----------
    letter:
        As read.
    verify:
        Says whether a signature (second) of bytes (first) was made by the key of the party that the header names as
        the sender (`Certificate.verify`). The caller looks that certificate up by the name.

    Raises
    ------
    WireError
        Where the signature does not fit.
    """
    fits = verify(CONTEXT + letter.signed, letter.signature)
    if not fits or msgspec.msgpack.encode(letter.header) != letter.signed:
        raise WireError(
            "its signature does not fit the sender's key",
            where=_place(letter.header),
            remedy="It was changed on its way, or another key signed it; do not use it",
        )


def check_payload(header: Header, payload: bytes | memoryview) -> None:
    """Make sure that a payload is the one that a letter names.

    Raises
    ------
    WireError
        Where its size or digest is another.
    """
    if len(payload) != header.size:
        raise WireError(f"its payload has {len(payload)} bytes instead of {header.size}", where=_place(header))
    if digest_of(payload) != header.digest:
        raise WireError("its payload has another SHA-256 than the letter says", where=_place(header))


def pack_parcels(parcels: Sequence[Parcel]) -> bytes:
    """Turn parcels into bytes."""
    return _PARCELS + msgspec.msgpack.encode([(parcel.letter, parcel.payload) for parcel in parcels])


# Bounds in the types hold before anything is allocated for the items of a list.
_Enclosed = Annotated[bytes, msgspec.Meta(max_length=MAX_LETTER_BYTES)]
_Packed = Annotated[list[tuple[_Enclosed, bytes | None]], msgspec.Meta(max_length=MAX_PARCELS)]


def unpack_parcels(data: bytes, max_bytes: int) -> list[Parcel]:
    """Turn the bytes of `pack_parcels` back into parcels, whose letters are still to be read and checked.

    Parameters
    ----------
    data:
        The bytes.
    max_bytes:
        Larger data are refused unread.

    Raises
    ------
    WireError
        Where the data are too large or not parcels of this version, or hold over 1024 of them.
    """
    if len(data) > max_bytes:
        raise WireError(f"parcels of {len(data)} bytes are over the bound of {max_bytes}")
    return [Parcel(letter, payload) for letter, payload in _decoded(data, _PARCELS, _Packed, "parcels")]


def _decoded(data: bytes, version: bytes, kind: Any, name: str) -> Any:
    if data[: len(version)] != version:
        raise WireError(f"not {name} of this version (does not start with {version.decode()})")
    try:
        return msgspec.msgpack.decode(memoryview(data)[len(version) :], type=kind)
    except _UNREADABLE as error:
        raise WireError(f"not {name}: {_told(error)}") from None


def _place(header: Header) -> str:
    # As literals: nobody has vouched for these names yet, and a line break in one would forge a line of a log.
    return f"letter {header.number} of {header.sender!r} to {header.to!r}"


def _told(error: BaseException) -> str:
    """What a decoder says, which can quote what it read: one line, and not a long one."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(error)[:200])
