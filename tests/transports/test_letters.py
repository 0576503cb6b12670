"""Letters: what is written is read and checked; whatever else comes, or was changed on its way, is a WireError."""

from __future__ import annotations

import hashlib
import math
import struct
import tracemalloc
from dataclasses import asdict, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill.errors import WireError
from fedstill.transports.letters import (
    CONTEXT,
    COORDINATOR,
    MAX_LETTER_BYTES,
    MAX_NAME_LENGTH,
    MAX_PARCELS,
    Header,
    Letter,
    Parcel,
    check,
    check_payload,
    digest_of,
    pack_parcels,
    read,
    unpack_parcels,
    write,
)

PAYLOAD = b"abc"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""SHA-256 of "abc", as FIPS 180-2 prints it (appendix B.1)."""

HEADER = Header("0" * 64, COORDINATOR, "Łódź", 1, "frame", ABC, 3, 1.5)


def sign(data, key=b"key"):
    """Stands for Ed25519: 64 bytes that depend on every byte of the data and on the key."""
    return hashlib.sha512(key + data).digest()


def verify(data, signature):
    return sign(data) == signature


def enclose(header, signature=None):
    """A letter made by hand, whose header need not be one; its signature fits."""
    signed = header if isinstance(header, bytes) else msgspec.msgpack.encode(header)
    return b"FSl1" + msgspec.msgpack.encode((signed, signature or sign(CONTEXT + signed)))


LETTER = write(HEADER, sign)
DATA = LETTER.to_bytes()
FIELDS = asdict(HEADER)

hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_NAME_LENGTH)
headers = st.builds(
    Header,
    terms=hexes,
    sender=names,
    to=names,
    number=st.integers(1, 2**63 - 1),
    kind=st.sampled_from(["frame", "finished", "failed"]),
    digest=hexes,
    size=st.integers(0, 2**63 - 1),
    sent_at=st.floats(0, 253402300800.0, exclude_max=True),
)


# Letters.


def test_a_letter_by_hand():
    """A map of eight fields in the order of the class; 64 digits are a string of "length in one byte" (d9)."""
    signed = (
        b"\x88\xa5terms\xd9\x40" + b"0" * 64 + b"\xa6sender\xabcoordinator" + b"\xa2to\xa7\xc5\x81\xc3\xb3d\xc5\xba"
        b"\xa6number\x01\xa4kind\xa5frame\xa6digest\xd9\x40" + ABC.encode() + b"\xa4size\x03"
        b"\xa7sent_at\xcb" + struct.pack(">d", 1.5)
    )
    assert Letter(HEADER, signed, sign(b"fedstill letter 1\0" + signed)) == LETTER
    size = len(signed)
    assert size < 256
    assert b"FSl1\x92\xc4" + bytes([size]) + signed + b"\xc4\x40" + LETTER.signature == DATA


@given(headers)
def test_any_letter_survives(header):
    letter = write(header, sign)
    data = letter.to_bytes()
    assert read(data) == letter
    assert letter.header == header
    assert len(data) <= MAX_LETTER_BYTES
    check(letter, verify)


def test_the_largest_letter_fits():
    name = "\U0010ffff" * MAX_NAME_LENGTH
    largest = Header("f" * 64, name, name, 2**63 - 1, "finished", "f" * 64, 2**63 - 1, 253402300799.0)
    assert len(write(largest, sign).to_bytes()) < MAX_LETTER_BYTES


def test_seconds_may_be_whole():
    assert write(replace(HEADER, sent_at=2), sign).header.sent_at == 2.0


BAD = [
    *(
        (name, value)
        for name in ("terms", "digest")
        for value in ("", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n", 0)
    ),
    *((name, value) for name in ("sender", "to") for value in ("", "x" * (MAX_NAME_LENGTH + 1), None, b"a")),
    *(("number", value) for value in (0, -1, 2**63, 1.0, "1", True)),
    *(("size", value) for value in (-1, 2**63, 1.5, None)),
    *(("kind", value) for value in ("", "Frame", "stop", None)),
    *(("sent_at", value) for value in (math.nan, math.inf, -1.0, 253402300800.0, "now", None)),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_field_out_of_bounds_is_neither_written_nor_read(name, value):
    with pytest.raises(WireError, match="not a letter"):
        read(enclose(FIELDS | {name: value}))
    with pytest.raises(WireError, match="letter"):
        write(replace(HEADER, **{name: value}), sign)


@pytest.mark.parametrize(("name", "value"), [("number", 2**70), ("to", "\ud800"), ("sent_at", "now")])
def test_what_no_bytes_can_say_is_not_written(name, value):
    with pytest.raises(WireError, match="a letter cannot say this"):
        write(replace(HEADER, **{name: value}), sign)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_has_64_bytes(size):
    with pytest.raises(WireError, match="not a letter"):
        write(HEADER, lambda data: sign(data)[:1] * size)


# One encoding alone.


def key(name):
    return msgspec.msgpack.encode(name)


@pytest.mark.parametrize(
    "signed",
    [
        msgspec.msgpack.encode(dict(reversed(FIELDS.items()))),
        msgspec.msgpack.encode(FIELDS | {"more": 1}),
        # A second "to" at the end: readers that take the first and readers that take the last would disagree.
        b"\x89" + LETTER.signed[1:] + key("to") + key("mallory"),
        b"\xde\x00\x08" + LETTER.signed[1:],
        LETTER.signed.replace(key("number") + b"\x01", key("number") + b"\xcc\x01"),
        LETTER.signed.replace(b"\xcb" + struct.pack(">d", 1.5), b"\xca" + struct.pack(">f", 1.5)),
        msgspec.msgpack.encode(FIELDS | {"sent_at": 1}),
        msgspec.msgpack.encode(list(FIELDS.values())),
        msgspec.msgpack.encode({name: value for name, value in FIELDS.items() if name != "terms"}),
        LETTER.signed + b"\xc0",
        b"",
    ],
    ids=[
        "reordered",
        "unknown",
        "twice",
        "long-map",
        "long-int",
        "short-float",
        "int-float",
        "list",
        "missing",
        "trailing",
        "empty",
    ],
)
def test_a_letter_has_one_encoding(signed):
    assert signed != LETTER.signed
    with pytest.raises(WireError, match="not a letter"):
        read(enclose(signed))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"FSl",
        b"FSl1",
        b"FSl2" + DATA[4:],
        DATA + b"\0",
        b"FSl1\xdc\x00\x02" + DATA[5:],  # an array of two, said in three bytes
        b"FSl1\x93" + DATA[5:] + b"\xc0",
        b"FSl1" + msgspec.msgpack.encode((LETTER.signed.decode("latin1"), LETTER.signature)),
        b"FSl1\x92\xc6\xff\xff\xff\xff",
        b"FSl1" + b"\x91" * 4000,
    ],
)
def test_what_is_no_letter(data):
    with pytest.raises(WireError, match="not a letter"):
        read(data)


def test_a_large_letter_is_refused_unread():
    with pytest.raises(WireError, match="a letter of 4097 bytes is over the bound of 4096"):
        read(DATA + b"\0" * (MAX_LETTER_BYTES + 1 - len(DATA)))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_letter_or_refused(data):
    for tried in (data, b"FSl1" + data, enclose(data)):
        with pytest.raises(WireError):
            read(tried)


@given(st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(1, 255)), min_size=1, max_size=3))
def test_no_changed_letter_passes(changes):
    changed = bytearray(DATA)
    for place, difference in changes:
        changed[place] ^= difference
    if changed == DATA:
        return
    with pytest.raises(WireError):
        check(read(bytes(changed)), verify)


def test_no_shorter_letter_passes():
    for length in range(len(DATA)):
        with pytest.raises(WireError, match="not a letter"):
            read(DATA[:length])


# Signatures.


CHANGES = {
    "terms": "1" * 64,
    "sender": "mallory",
    "to": "mallory",
    "number": 2,
    "kind": "finished",
    "digest": "1" * 64,
    "size": 4,
    "sent_at": 1.25,
}


@pytest.mark.parametrize("name", list(FIELDS))
def test_a_signature_fits_no_other_header(name):
    other = replace(HEADER, **{name: CHANGES[name]})
    with pytest.raises(WireError, match="its signature does not fit"):
        check(read(enclose(other, LETTER.signature)), verify)
    check(write(other, sign), verify)


def test_another_key_does_not_fit():
    with pytest.raises(WireError, match=r"letter 1 of 'coordinator' to 'Łódź': its signature does not fit"):
        check(write(HEADER, lambda data: sign(data, b"other")), verify)


def test_a_signature_for_something_else_does_not_fit():
    """The same bytes signed without the context, as if they had been no letter."""
    with pytest.raises(WireError, match="does not fit"):
        check(read(enclose(LETTER.signed, sign(LETTER.signed))), verify)


def test_a_header_put_beside_the_signed_bytes_is_found_out():
    with pytest.raises(WireError, match="does not fit"):
        check(replace(LETTER, header=replace(HEADER, sender="mallory")), verify)


@pytest.mark.parametrize("change", [{"kind": "a\nb"}, {"to": "a\nINFO all is well\x1b[2J"}])
def test_no_error_breaks_its_line(change):
    with pytest.raises(WireError) as caught:
        check(read(enclose(FIELDS | change, LETTER.signature)), verify)
    assert str(caught.value).isprintable()


def test_errors_are_short():
    with pytest.raises(WireError) as caught:
        read(enclose(FIELDS | {"kind": "x" * 3000}))
    assert len(str(caught.value)) < 300


# Payloads and parcels.


def test_digests_are_sha256():
    assert digest_of(PAYLOAD) == ABC


def test_a_payload_is_the_one_named():
    check_payload(HEADER, PAYLOAD)
    with pytest.raises(WireError, match="its payload has 2 bytes instead of 3"):
        check_payload(HEADER, b"ab")
    with pytest.raises(WireError, match="another SHA-256"):
        check_payload(HEADER, b"abd")


def test_parcels_by_hand():
    parcels = [Parcel(b"L", b""), Parcel(b"", None)]
    data = b"FSp1\x92" + b"\x92\xc4\x01L\xc4\x00" + b"\x92\xc4\x00\xc0"
    assert pack_parcels(parcels) == data
    assert unpack_parcels(data, len(data)) == parcels


def test_no_parcels():
    assert unpack_parcels(pack_parcels([]), 5) == []


@given(st.lists(st.builds(Parcel, st.binary(max_size=50), st.none() | st.binary()), max_size=5))
def test_any_parcels_survive(parcels):
    assert unpack_parcels(pack_parcels(parcels), 2**16) == parcels


def test_a_payload_is_not_shown():
    assert repr(Parcel(b"L", b"x" * 1000)) == "Parcel(letter=b'L')"


def test_parcels_are_bounded():
    data = pack_parcels([Parcel(DATA, PAYLOAD)])
    with pytest.raises(WireError, match="over the bound of 20"):
        unpack_parcels(data, 20)
    assert len(unpack_parcels(pack_parcels([Parcel(b"", None)] * MAX_PARCELS), 2**20)) == MAX_PARCELS
    for parcels in ([Parcel(b"", None)] * (MAX_PARCELS + 1), [Parcel(b"x" * (MAX_LETTER_BYTES + 1), None)]):
        with pytest.raises(WireError, match="not parcels"):
            unpack_parcels(pack_parcels(parcels), 2**20)


@pytest.mark.parametrize("head", [b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\x91\x92\xc4\0\xc6\xff\xff\xff\xff", b""])
def test_lengths_that_lie_cost_nothing(head):
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="not parcels"):
            unpack_parcels(b"FSp1" + head, 100)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=100))
def test_any_bytes_are_parcels_or_refused(data):
    for tried in (data, b"FSp1" + data):
        try:
            parcels = unpack_parcels(tried, 1000)
        except WireError:
            continue
        assert all(isinstance(parcel.letter, bytes) for parcel in parcels)


def test_parcels_of_another_version():
    with pytest.raises(WireError, match="does not start with FSp1"):
        unpack_parcels(DATA, 1000)
