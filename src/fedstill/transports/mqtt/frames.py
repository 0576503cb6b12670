"""What a participant and its coordinator say to each other over MQTT: one request or answer in each message.

A message is ``FSm1`` + MessagePack of ``[certificate, seal, said]``: who says it (a certificate of the consortium,
PEM), what is said (a `Request` or an `Answer`, encoded), and a seal over it. A member's or coordinator's seal is an
Ed25519 signature (RFC 8032). A newcomer has no certificate yet; its seal is an HMAC (RFC 2104) keyed with the SHA-256
of its invitation's token, so that the token itself never travels.

So a topic proves nothing and need not: whoever can write to a broker can neither forge nor change a message. A broker
sees payloads, unless rounds are sealed.

A request says which version of the protocol it is of. What another version asks is read as far as is needed to say no.

Every request is answered by one message, so large things travel as many requests about pieces of them. Nothing here
knows of time or network; whatever is not what it claims raises WireError, and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Generic, Self, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from fedstill.errors import ConfigError, WireError
from fedstill.labels import Party
from fedstill.transports.letters import INLINE_BYTES, MAX_LETTER_BYTES, MAX_NAME_LENGTH
from fedstill.transports.protocol import SPOKEN, UNSAID

PIECE_BYTES = 256 * 1024
"""Of a payload in one message: much larger ones are slow in brokers, much smaller ones cost a signature each."""

MAX_MESSAGE_BYTES = PIECE_BYTES + 32 * 1024
"""Of one message with everything around it; a broker has to take packets of this size."""

MAX_WAIT_S = 60.0
"""How long a request for letters may wait for them."""

PORT = 8883
"""Of a broker with TLS, where an address names none (IANA: secure-mqtt)."""

MAX_TEXT = 2000
_MAGIC = b"FSm1"
_MAX_PEM_BYTES = 8 * 1024  # those made here have under 2 kB; `identity` would take 16 kB

Seal: TypeAlias = Callable[[bytes], bytes]
"""Makes a seal over bytes, such as `Identity.sign` or what `newcomer` returns."""

_Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Time = Annotated[float, msgspec.Meta(ge=0, le=2**53)]
_Data = Annotated[bytes, msgspec.Meta(max_length=PIECE_BYTES)]
_Pem = Annotated[bytes, msgspec.Meta(max_length=_MAX_PEM_BYTES)]
_Letter = Annotated[bytes, msgspec.Meta(max_length=MAX_LETTER_BYTES)]
_Inline = Annotated[bytes, msgspec.Meta(max_length=INLINE_BYTES)]
_Version = Annotated[str, msgspec.Meta(max_length=64)]
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """What stands in a request or an answer."""


# What is asked.


class Terms(_Body, frozen=True):
    """The terms of the run, from a byte on: `Part`."""

    offset: _Count


class Letters(_Body, frozen=True):
    """Letters with numbers above `after`, waiting for one up to `wait_s` seconds: `Parcels`."""

    after: _Count
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_WAIT_S)]


class Fetch(_Body, frozen=True):
    """A payload, from a byte on: `Part`."""

    digest: _Digest
    offset: _Count


class Look(_Body, frozen=True):
    """How much of a payload of this size is there: `Extent`."""

    digest: _Digest
    size: _Count


class Piece(_Body, frozen=True):
    """A part of a payload of `size` bytes, beginning at `offset`: `Extent`."""

    digest: _Digest
    size: _Count
    offset: _Count
    data: _Data


class Post(_Body, frozen=True):
    """A letter; its payload beside it, or None where that was sent in pieces: `Verdict`."""

    letter: _Letter
    payload: _Inline | None


class Renew(_Body, frozen=True):
    """A certificate request (PEM) of a member: `Certified`."""

    request: _Pem


class Enrol(_Body, frozen=True):
    """A certificate request (PEM) of a newcomer: `Certified`."""

    request: _Pem


# What is answered.


class Part(_Body, frozen=True):
    """Bytes of something that has this digest and size."""

    digest: _Digest
    size: _Count
    data: _Data


class Parcels(_Body, frozen=True):
    """As `letters.pack_parcels` makes them; not necessarily all there are."""

    packed: Annotated[bytes, msgspec.Meta(max_length=PIECE_BYTES + 1024)]


class Extent(_Body, frozen=True):
    """How many bytes of a payload are there, and whether it is whole and on the disk."""

    present: _Count
    whole: bool


class Verdict(_Body, frozen=True):
    """Why a letter was not used; empty where it was taken."""

    why: _Text


class Certified(_Body, frozen=True):
    """A certificate and the authority's (PEM)."""

    certificate: _Pem
    authority: _Pem


class No(_Body, frozen=True):
    """What is wrong and what can be done; `again`: the same request can have another answer later."""

    error: _Text
    remedy: _Text
    again: bool


class Working(_Body, frozen=True):
    """The request is known and not answered yet."""


class Gone(_Body, frozen=True):
    """To all: whoever answered in this sitting answers no more."""


Question: TypeAlias = Terms | Letters | Fetch | Look | Piece | Post | Renew | Enrol
Reply: TypeAlias = Part | Parcels | Extent | Verdict | Certified | No | Working | Gone


class Request(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a participant asks.

    Attributes
    ----------
    id:
        16 random bytes; the same when it is asked again because no answer came.
    sender:
        The party; of a newcomer, the random name that it has with the broker.
    at:
        Unix seconds, as the sender's clock says.
    body:
        What it is about; `Later` where it is a question of another version of the protocol.
    protocol:
        The version that the sender speaks.
    """

    id: _Id
    sender: _Name
    at: _Time
    body: Question
    protocol: _Version = UNSAID


class Later(_Body, frozen=True):
    """Something that this version cannot read, said by who speaks another one. It never travels."""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """What a request of any version begins with, so that who cannot read more can say no."""

    id: _Id
    sender: _Name
    at: _Time
    body: msgspec.Raw
    protocol: _Version


class Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a coordinator answers.

    Attributes
    ----------
    id:
        Of the request; zeros in `Gone`.
    to:
        The request's sender; empty in `Gone`.
    sitting:
        16 random bytes, others for every connection of a coordinator to a broker.
    at:
        Unix seconds, as the coordinator's clock says.
    body:
        The answer.
    """

    id: _Id
    to: _Name
    sitting: _Id
    at: _Time
    body: Reply


_CONTEXTS: dict[type, bytes] = {Request: b"fedstill mqtt request 1\0", Answer: b"fedstill mqtt answer 1\0"}
"""Stand before what is sealed, so that no seal fits anything else than what it was made for."""

M = TypeVar("M", Request, Answer)


@dataclass(frozen=True)
class Envelope(Generic[M]):
    """A message as it came: true only once its seal has been found to fit.

    Attributes
    ----------
    message:
        What is said.
    certificate:
        Of who says it, PEM; empty where that is a newcomer.
    seal:
        64 bytes of a signature, or 32 of an HMAC.
    sealed:
        The bytes that the seal is over.
    """

    message: M
    certificate: bytes
    seal: bytes
    sealed: bytes = field(repr=False)


def pack(message: Request | Answer, certificate: bytes, seal: Seal) -> bytes:
    """A message as it travels. Raises WireError where no reader would take it."""
    kind = type(message)
    try:
        said = msgspec.msgpack.encode(message)
        msgspec.msgpack.decode(said, type=kind)
    except (msgspec.MsgspecError, OverflowError, ValueError) as error:
        raise WireError(f"this cannot be said over MQTT: {_told(error)}") from None
    return _MAGIC + msgspec.msgpack.encode((certificate, seal(_sealed(kind, said)), said))


def unpack(data: bytes, kind: type[M]) -> Envelope[M]:
    """Read a message of a kind. Raises WireError where it is too large or none."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise WireError(f"a message of {len(data)} bytes is over the bound of {MAX_MESSAGE_BYTES}")
    if data[: len(_MAGIC)] != _MAGIC:
        raise WireError(f"no message of this version (does not start with {_MAGIC.decode()})")
    try:
        certificate, seal, said = msgspec.msgpack.decode(memoryview(data)[len(_MAGIC) :], type=_Packed)
        message = _decoded(said, kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"no message: {_told(error)}") from None
    return Envelope(message, certificate, seal, _sealed(kind, said))


def _decoded(said: bytes, kind: type[M]) -> M:
    try:
        return msgspec.msgpack.decode(said, type=kind)
    except msgspec.MsgspecError:
        if kind is not Request:
            raise
        head = msgspec.msgpack.decode(said, type=_Head)
        if head.protocol == SPOKEN:
            raise
        return kind(head.id, head.sender, head.at, Later(), head.protocol)  # type: ignore[arg-type]


def newcomer(token_hash: str) -> Seal:
    """Makes a newcomer's seals, from the SHA-256 of its invitation's token (64 hex digits)."""
    key = bytes.fromhex(token_hash)
    return lambda sealed: hmac.digest(key, sealed, "sha256")


def fits(envelope: Envelope[Request], token_hash: str) -> bool:
    """Whether a newcomer's seal was made with this token."""
    return hmac.compare_digest(newcomer(token_hash)(envelope.sealed), envelope.seal)


@dataclass(frozen=True)
class Topics:
    """The topics of a consortium, below a name of its own.

    Attributes
    ----------
    consortium:
        A level of a topic: without the characters ``/ + #``.
    """

    consortium: str

    def up(self, party: Party) -> str:
        """Requests of a party; "+" for those of all."""
        return f"fedstill/{self.consortium}/up/{party}"

    def down(self, party: Party) -> str:
        """Answers to a party."""
        return f"fedstill/{self.consortium}/down/{party}"

    def new_up(self, name: str) -> str:
        """Requests of a newcomer; "+" for those of all."""
        return f"fedstill/{self.consortium}/new/up/{name}"

    def new_down(self, name: str) -> str:
        """Answers to a newcomer."""
        return f"fedstill/{self.consortium}/new/down/{name}"

    @property
    def gone(self) -> str:
        """Where it is said that the coordinator has left."""
        return f"fedstill/{self.consortium}/gone"


@dataclass(frozen=True)
class Address:
    """Where a consortium meets: mqtts://host[:port]/consortium[?enrol=port].

    Attributes
    ----------
    host, port:
        Of the broker.
    topics:
        Of the consortium.
    enrol_port:
        Where the broker takes newcomers, who have no certificate yet; that of members where nothing is said.
    """

    host: str
    port: int
    topics: Topics
    enrol_port: int

    @classmethod
    def parse(cls, address: str) -> Self:
        """Read an address. Raises ConfigError."""
        try:
            parts = urlsplit(address)
            asked = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
            port = PORT if parts.port is None else parts.port
            (enrol,) = map(int, asked.pop("enrol", [str(port)]))
            consortium = parts.path.strip("/")
            good = parts.scheme == "mqtts" and parts.hostname and 0 < port < 65536 and 0 < enrol < 65536 and not asked
            good = good and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", consortium) and "@" not in parts.netloc
        except ValueError:
            good = False
        if not good or parts.hostname is None or parts.fragment:
            raise ConfigError(
                f"{address[:200]!r} is not the address of a consortium at a broker",
                remedy="Write mqtts://host:port/consortium, with letters, digits and _ . - in the consortium's name",
            )
        return cls(parts.hostname, port, Topics(consortium), enrol)

    def __str__(self) -> str:
        return f"mqtts://{self.host}:{self.port}"


_Sealing = Annotated[bytes, msgspec.Meta(min_length=32, max_length=64)]
_Packed = tuple[_Pem, _Sealing, Annotated[bytes, msgspec.Meta(max_length=MAX_MESSAGE_BYTES)]]


def _sealed(kind: type, said: bytes) -> bytes:
    # Over a digest: Ed25519 reads what it signs twice, by a slower hash.
    return _CONTEXTS[kind] + hashlib.sha256(said).digest()


def _told(error: BaseException) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in str(error)[:200])
