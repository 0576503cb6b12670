"""The wire: what goes in comes out; whatever else comes in is a WireError, and costs no more than its own bytes."""

from __future__ import annotations

import ast
import struct
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import fedstill
from fedstill.errors import WireError
from fedstill.messages import Answer, Ask, Kind, Recipe, Refuse, Teach
from fedstill.wire import DTYPES, MAX_ARRAYS, MAX_DIMENSIONS, decode, encode, pack, unpack

MESSAGES = (
    Ask(1, Recipe()),
    Ask(2**40, Recipe(Kind.GRADIENTS, 0.1, 3, 1e-9, 7, True, True)),
    Teach(3, Recipe(Kind.PARAMETERS), b"\0\xff"),
    Answer(-1, "Łódź", b""),
    Refuse(0, "", "no"),
)


@dataclass(frozen=True)
class Header:
    name: str
    number: float


HEAD = Header("x", 0.5)


def raw_pack(described, body=b"", header=None):
    """A pack made by hand, which need not be what it claims."""
    head = msgspec.msgpack.encode((header or HEAD, described))
    return b"FSa1" + struct.pack("<I", len(head)) + head + body


# Messages.


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_messages_survive(message):
    assert decode(encode(message)) == message


def test_a_frame_by_hand():
    """Four bytes of version, then MessagePack: an array of two, the name of the kind and a map of its fields."""
    frame = encode(Refuse(1, "a", "no"))
    assert frame == b"FSm1" + b"\x92\xa6refuse" + b"\x84\xa5round\x01\xa6sender\xa1a\xa6reason\xa2no\xa8question\x01"


@given(
    st.one_of(
        st.builds(Answer, st.integers(-(2**63), 2**63), st.text(), st.binary(), st.integers(1, 9)),
        st.builds(Refuse, st.integers(0, 9), st.text(), st.text()),
        st.builds(Ask, st.integers(0, 9), st.builds(Recipe, share=st.floats(0, 1), epochs=st.integers(1, 9))),
    )
)
def test_any_message_survives(message):
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"FSm",
        b"FSm1",
        b"FSm2" + encode(MESSAGES[4])[4:],
        b"FSm1" + msgspec.msgpack.encode(("stop", {})),
        b"FSm1" + msgspec.msgpack.encode(("refuse", {"round": 1, "sender": "a"})),
        b"FSm1" + msgspec.msgpack.encode(("refuse", {"round": "1", "sender": "a", "reason": "b"})),
        b"FSm1" + msgspec.msgpack.encode(("ask", {"round": 1, "recipe": {"release": "everything"}})),
        b"FSm1" + msgspec.msgpack.encode(["refuse"]),
        b"FSm1" + b"\x92\xa6refuse" + b"\x91" * 5000,
        b"FSm1" + b"\x92\xa6refuse" + b"\x83\xa5round\x01\xa6sender\xa1\xff\xa6reason\xa2no",
        encode(MESSAGES[0]) + b"\0",
    ],
)
def test_frames_that_are_none(frame):
    with pytest.raises(WireError):
        decode(frame)


def test_the_bound_on_frames():
    frame = encode(Answer(1, "a", b"x" * 100))
    assert decode(frame, max_bytes=len(frame))
    with pytest.raises(WireError, match="over the bound"):
        decode(frame, max_bytes=len(frame) - 1)


# Arrays.

ARRAYS = npst.arrays(
    st.sampled_from(DTYPES), npst.array_shapes(min_dims=0, max_dims=MAX_DIMENSIONS, min_side=0, max_side=3)
)


@given(st.dictionaries(st.text(max_size=8), ARRAYS, max_size=4))
def test_arrays_survive(arrays):
    """Every listed element type and shape, empty ones and single numbers too, comes back bit for bit and read-only."""
    head, back = unpack(pack(HEAD, arrays), Header)
    assert head == HEAD
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()
        assert not back[name].flags.writeable


def test_a_pack_by_hand():
    """Version, length of the header, header with the list of arrays, and the arrays' bytes, little-endian."""
    packed = pack(HEAD, {"w": np.array([1, 2], ">i2")})
    head = b"\x92\x82\xa4name\xa1x\xa6number\xcb\x3f\xe0\0\0\0\0\0\0" + b"\x91\x93\xa1w\xa3<i2\x91\x02"
    assert packed == b"FSa1" + bytes([len(head), 0, 0, 0]) + head + b"\x01\0\x02\0"


@pytest.mark.parametrize("layout", ["F-ordered", "big-endian", "strided", "list"])
def test_layout_is_not_sent(layout):
    table = np.arange(6, dtype="<f8").reshape(2, 3)
    given_as = {
        "F-ordered": np.asfortranarray(table),
        "big-endian": table.astype(">f8"),
        "strided": np.repeat(table, 2, axis=1)[:, ::2],
        "list": table.tolist(),
    }
    assert pack(HEAD, {"t": given_as[layout]}) == pack(HEAD, {"t": table})


FOREIGN = {
    "object": np.array([object()]),
    "text": np.array(["a"]),
    "bytes": np.array([b"a"]),
    "complex": np.array([1j]),
    "time": np.array(["2020-01-01"], "datetime64[s]"),
    "duration": np.array([1], "timedelta64[s]"),
    "record": np.zeros(1, [("a", "f4")]),
    "u8": np.array([1], "u8"),
    "longdouble": np.array([1], np.clongdouble),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_element_types_do_not_travel(name):
    """Neither out nor in: the list is read before NumPy sees the name of a type."""
    array = FOREIGN[name]
    with pytest.raises(WireError, match="does not travel"):
        pack(HEAD, {"a": array})
    with pytest.raises(WireError, match="does not travel"):
        unpack(raw_pack([("a", array.dtype.str, array.shape)], bytes(array.nbytes)), Header)


@pytest.mark.parametrize("dtype", ["O", "|O", "|O8", "V8", ">f4", "f4", "=f4", "float32", "", "<f4, <f4", "nonsense"])
def test_other_names_of_element_types_are_none(dtype):
    with pytest.raises(WireError, match="does not travel"):
        unpack(raw_pack([("a", dtype, (1,))], bytes(8)), Header)


HUGE = 2**31 - 1


@pytest.mark.parametrize(
    "shape",
    [[-1], [2], [2**63], [2**64 - 1], [HUGE], [HUGE] * 2, [HUGE] * 8, [0, HUGE, HUGE], [HUGE, HUGE, 0], [1, 0]],
    ids=str,
)
def test_shapes_that_the_bytes_do_not_have(shape):
    with pytest.raises(WireError):
        unpack(raw_pack([("a", "<f4", shape)], bytes(4)), Header)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"FSa1\0\0\0",
        b"FSa1" + b"\xff" * 4,
        b"FSa2" + pack(HEAD, {})[4:],
        raw_pack([("a", "<f4", [1] * 9)], bytes(4)),
        raw_pack([("a", "|b1", [2])], b"\1\2"),
        raw_pack([("a", "<f4", [1]), ("a", "<f4", [1])], bytes(8)),
        raw_pack([("a", "<f4", [1])], bytes(5)),
        raw_pack([("a", "<f4", [1])], bytes(3)),
        raw_pack([("a", "<f4", [1.0])], bytes(4)),
        raw_pack([("a", "<f4", [True])], bytes(4)),
        raw_pack([("a", "<f4")], bytes(4)),
        raw_pack([(b"a", "<f4", [1])], bytes(4)),
        raw_pack({"a": ["<f4", [1]]}, bytes(4)),
        raw_pack([], header={"name": "x"}),
        raw_pack([], header={"name": 1, "number": 2}),
        raw_pack([("a", "|b1", [0])] * (MAX_ARRAYS + 1)),
    ],
)
def test_packs_that_are_none(packed):
    with pytest.raises(WireError):
        unpack(packed, Header)


def test_the_bound_on_packs():
    packed = pack(HEAD, {"a": np.zeros(100)})
    assert unpack(packed, Header, max_bytes=len(packed))
    with pytest.raises(WireError, match="over the bound"):
        unpack(packed, Header, max_bytes=len(packed) - 1)


# Damage.

PACKED = pack(
    HEAD, {"w": np.arange(6, dtype="<f4").reshape(2, 3), "flag": np.array([True, False]), "one": np.float64(1)}
)
WHOLE = [encode(message) for message in MESSAGES]


def read(data):
    """Decode it as whatever it claims to be; nothing but WireError may come out. True where it was taken."""
    try:
        if data[:4] == b"FSa1":
            unpack(data, Header)
        else:
            decode(data)
    except WireError:
        return False
    return True


@pytest.mark.parametrize("data", [PACKED, *WHOLE], ids=["pack", *(type(m).__name__ for m in MESSAGES)])
def test_no_part_is_whole(data):
    """Neither a prefix nor a longer one is taken for it."""
    assert read(data)
    assert not any(read(data[:stop]) for stop in range(len(data)))
    assert not read(data + b"\0")


def test_twenty_thousand_mutations():
    """Bits flipped, bytes set, cut out, doubled: what still decodes is some message, all else a WireError."""
    random = np.random.default_rng(0)
    sources = [np.frombuffer(data, np.uint8) for data in (PACKED, *WHOLE)]
    taken = 0
    for turn in range(20_000):
        data = sources[turn % len(sources)].copy()
        at, other = (int(one) for one in random.integers(4, len(data), 2))
        match turn % 4:
            case 0:
                data[at] ^= 1 << (other % 8)
            case 1:
                data[at] = random.integers(256)
            case 2:
                data = np.delete(data, slice(min(at, other), max(at, other)))
            case 3:
                data = np.insert(data, at, data[min(at, other) : max(at, other)])
        taken += read(data.tobytes())
    assert 0 < taken < 10_000


@given(st.sampled_from([b"", b"FSm1", b"FSa1", b"FSa1\x08\0\0\0"]), st.binary(max_size=200))
def test_noise(start, noise):
    read(start + noise)


@pytest.mark.parametrize(
    "data",
    [
        b"FSm1" + b"\x92\xa3ask\xdd\xff\xff\xff\xff",
        b"FSm1" + b"\xdd\xff\xff\xff\xff",
        b"FSm1" + b"\x92\xa6answer\x83\xa5round\x01\xa6sender\xa1a\xa7payload\xc6\xff\xff\xff\xff",
        b"FSm1" + b"\x92\xa3ask\x81\xa5items\xdd\xff\xff\xff\xff\x01",
        b"FSa1\x10\0\0\0" + b"\x92\xdf\xff\xff\xff\xff" + b"\0" * 10,
        raw_pack([("a", "<f8", [HUGE])]),
        raw_pack([("a", "<f8", [HUGE, 0])]),
        raw_pack([("a", "|b1", [0])] * 100_000),
        raw_pack([("a", "|b1", [0] * 100_000)]),
    ],
)
def test_claims_cost_nothing(data):
    """However much is claimed, no more memory is used than a few times the bytes that came."""
    tracemalloc.start()
    try:
        read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(data) + 20_000


# No pickle, no eval: what bytes say is never run.

BANNED = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def test_nothing_unpickles_or_evaluates():
    """No module imports a library that runs what it reads, calls eval or its like, or lets NumPy unpickle."""
    found = []
    for path in sorted(Path(fedstill.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").partition(".")[0]]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = [node.func.id] if node.func.id in ("eval", "exec", "compile", "__import__") else []
            elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
                wanted = node.arg == "weights_only"
                safe = isinstance(node.value, ast.Constant) and node.value.value is wanted
                names = [] if safe else [node.arg]
            bad = (BANNED | {"eval", "exec", "compile", "__import__", "allow_pickle", "weights_only"}) & set(names)
            found += [f"{path.name}:{getattr(node, 'lineno', '?')} {name}" for name in bad]
    assert found == []
