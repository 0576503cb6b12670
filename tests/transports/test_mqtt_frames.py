"""Messages over MQTT: what is packed comes back, and everything else is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstill.errors import ConfigError, WireError
from fedstill.transports.authority import Authority
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import INLINE_BYTES, MAX_LETTER_BYTES, digest_of
from fedstill.transports.mqtt.frames import (
    MAX_MESSAGE_BYTES,
    MAX_TEXT,
    PIECE_BYTES,
    Address,
    Answer,
    Certified,
    Enrol,
    Extent,
    Fetch,
    Gone,
    Letters,
    Look,
    No,
    Parcels,
    Part,
    Piece,
    Post,
    Renew,
    Request,
    Terms,
    Topics,
    Verdict,
    Working,
    fits,
    newcomer,
    pack,
    unpack,
)
from fedstill.transports.roles import Role

NUMBER, DIGEST = bytes(range(16)), "ab" * 32
QUESTIONS = [
    Terms(0),
    Letters(7, 25.0),
    Fetch(DIGEST, 2**40),
    Look(DIGEST, 5),
    Piece(DIGEST, 5, 0, b"hello"),
    Post(b"letter", None),
    Post(b"letter", b""),
    Renew(b"pem"),
    Enrol(b"pem"),
]
REPLIES = [
    Part(DIGEST, 5, b"hello"),
    Parcels(b"packed"),
    Extent(3, whole=False),
    Verdict(""),
    Certified(b"one", b"two"),
    No("what", "remedy", again=True),
    Working(),
    Gone(),
]
MESSAGES = [
    *(Request(NUMBER, "ann", 1.5, body) for body in QUESTIONS),
    *(Answer(NUMBER, "ann", NUMBER, 1.5, body) for body in REPLIES),
]


@pytest.fixture(scope="module")
def ann():
    now = datetime.now(UTC)
    authority, identity = Authority.create("test", now), Identity.create()
    pem = authority.certify(identity.request_pem("ann"), "ann", Role.PARTICIPANT, now, 30)
    return Identity.from_pem(identity.key_pem, pem)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message.body).__name__)
def test_a_message_comes_back_and_its_seal_fits(ann, message):
    envelope = unpack(pack(message, ann.certificate.pem, ann.sign), type(message))
    assert envelope.message == message
    assert Certificate.from_pem(envelope.certificate).verify(envelope.sealed, envelope.seal)


def test_a_seal_fits_nothing_else(ann):
    request = unpack(pack(MESSAGES[0], b"", ann.sign), Request)
    other = unpack(pack(Request(NUMBER, "bob", 1.5, Terms(0)), b"", ann.sign), Request)
    later = unpack(pack(Request(NUMBER, "ann", 1.6, Terms(0)), b"", ann.sign), Request)
    for envelope in (other, later):
        assert not ann.certificate.verify(envelope.sealed, request.seal)
    # Not even of the same bytes as an answer, or as a letter.
    said = msgspec.msgpack.encode(MESSAGES[0])
    assert said not in request.sealed
    assert request.sealed.startswith(b"fedstill mqtt request 1\0")


def test_the_largest_piece_is_within_the_bound(ann):
    largest = [
        Request(NUMBER, "a" * 64, 1.5, Piece(DIGEST, 2**63 - 1, 2**62, bytes(PIECE_BYTES))),
        Request(NUMBER, "a" * 64, 1.5, Post(bytes(MAX_LETTER_BYTES), bytes(INLINE_BYTES))),
        Answer(NUMBER, "a" * 64, NUMBER, 1.5, Parcels(bytes(PIECE_BYTES + 1024))),
        Answer(NUMBER, "a" * 64, NUMBER, 1.5, No("é" * MAX_TEXT, "é" * MAX_TEXT, again=False)),
    ]
    for message in largest:
        assert len(pack(message, bytes(8 * 1024), ann.sign)) <= MAX_MESSAGE_BYTES


@pytest.mark.parametrize(
    "body",
    [
        Terms(-1),
        Letters(0, 61.0),
        Letters(0, float("nan")),
        Fetch("AB" * 32, 0),
        Fetch("ab", 0),
        Fetch(DIGEST, 2**63),
        Look(DIGEST, 2**70),
        Piece(DIGEST, 1, 0, bytes(PIECE_BYTES + 1)),
        Post(bytes(MAX_LETTER_BYTES + 1), None),
        Post(b"", bytes(INLINE_BYTES + 1)),
        Renew(bytes(9000)),
        Verdict(""),
    ],
)
def test_what_nobody_would_take_is_not_packed(ann, body):
    with pytest.raises(WireError, match="cannot be said"):
        pack(Request(NUMBER, "ann", 1.5, body), b"", ann.sign)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_garbage_is_no_message(data):
    for garbage in (data, b"FSm1" + data):
        for kind in (Request, Answer):
            with pytest.raises(WireError):
                unpack(garbage, kind)


@settings(deadline=None)
@given(
    st.sampled_from(MESSAGES),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 400),
)
def test_a_changed_message_is_refused_or_does_not_fit(ann, message, changes, cut):
    whole = pack(message, b"certificate", ann.sign)
    data = bytearray(whole)
    for at, byte in changes:
        data[at % len(data)] = byte
    for changed in (bytes(data), whole[: cut % len(whole)]):
        try:
            envelope = unpack(changed, type(message))
        except WireError:
            continue
        untouched = envelope.message == message
        assert untouched or not ann.certificate.verify(envelope.sealed, envelope.seal)


@settings(deadline=None)
@given(st.recursive(st.none() | st.integers() | st.binary() | st.text(), lambda one: st.lists(one, max_size=6)))
def test_other_content_is_no_message(said):
    try:
        packed = msgspec.msgpack.encode((b"", bytes(64), msgspec.msgpack.encode(said)))
    except OverflowError:
        return
    for kind in (Request, Answer):
        with pytest.raises(WireError):
            unpack(b"FSm1" + packed, kind)


def test_too_much_is_not_looked_at():
    with pytest.raises(WireError, match="over the bound"):
        unpack(bytes(MAX_MESSAGE_BYTES + 1), Request)


def test_a_deep_one_ends():
    with pytest.raises(WireError):
        unpack(b"FSm1" + b"\x91" * 200_000, Request)


def test_a_newcomer_proves_its_token_without_telling_it():
    token_hash = digest_of(b"secret")
    packed = pack(Request(NUMBER, "x", 1.5, Enrol(b"pem")), b"", newcomer(token_hash))
    envelope = unpack(packed, Request)
    assert fits(envelope, token_hash)
    assert not fits(envelope, digest_of(b"other"))
    assert not fits(
        unpack(pack(Request(NUMBER, "x", 1.6, Enrol(b"pem")), b"", lambda _: envelope.seal), Request), token_hash
    )
    assert b"secret" not in packed
    assert bytes.fromhex(token_hash) not in packed


def test_an_address():
    address = Address.parse("mqtts://broker.example.org/energy-club")
    assert (address.host, address.port, address.enrol_port) == ("broker.example.org", 8883, 8883)
    assert address.topics == Topics("energy-club")
    assert str(address) == "mqtts://broker.example.org:8883"
    other = Address.parse("mqtts://[::1]:1/a?enrol=2")
    assert (other.host, other.port, other.enrol_port) == ("::1", 1, 2)


@pytest.mark.parametrize(
    "address",
    [
        *("", "broker", "mqtt://broker/a", "https://broker/a", "mqtts://broker", "mqtts:///a", "mqtts://broker/a/b"),
        *("mqtts://broker/+", "mqtts://broker/a%23", "mqtts://broker/%23", "mqtts://broker:0/a", "mqtts://broker:x/a"),
        *("mqtts://broker:99999/a", "mqtts://user@broker/a", "mqtts://broker/a#b", "mqtts://broker/a?other=1"),
        *("mqtts://broker/a?enrol=x", "mqtts://broker/a?enrol=0", "mqtts://broker/a?enrol=1&enrol=2", "mqtts://[::1/a"),
    ],
)
def test_what_is_no_address(address):
    with pytest.raises(ConfigError, match="not the address of a consortium"):
        Address.parse(address)
