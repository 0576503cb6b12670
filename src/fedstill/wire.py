"""Messages and arrays as bytes: a msgspec header, raw array bytes, bounds on everything, no pickle.

Two layouts, both little-endian:

* a *frame* carries one message or reply: ``FSm1`` + MessagePack of ``[kind, message]``;
* a *pack* carries named arrays beside a header: ``FSa1`` + u32 length of the header + MessagePack of
  ``[header, [[name, dtype, shape], ...]]`` + the arrays' bytes, one after the other.

Whatever does not decode to exactly what it claims raises WireError; nothing else can come out of here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from fedstill.errors import WireError
from fedstill.labels import Array, Party
from fedstill.messages import Answer, Ask, Refuse, Teach

MAX_FRAME_BYTES = 256 * 2**20
MAX_ARRAYS = 4096
MAX_DIMENSIONS = 8
DTYPES = ("<f4", "<f8", "<f2", "<i8", "<i4", "<i2", "|i1", "<u4", "<u2", "|u1", "|b1")
"""The only element types that arrays may have on the wire."""

_FRAME = b"FSm1"
_PACK = b"FSa1"
_NAMES = {Ask: "ask", Teach: "teach", Answer: "answer", Refuse: "refuse"}

H = TypeVar("H")

# Bounds in the types hold before anything is allocated for the items of a list.
_Shape = Annotated[list[int], msgspec.Meta(max_length=MAX_DIMENSIONS)]
_Described = Annotated[list[tuple[str, str, _Shape]], msgspec.Meta(max_length=MAX_ARRAYS)]


@dataclass(frozen=True)
class _Answer:
    """An `Answer` whose payload is where it was."""

    round: int
    sender: Party
    payload: memoryview
    question: int = 1


_KINDS: dict[str, type[Ask | Teach | _Answer | Refuse]] = {
    "ask": Ask,
    "teach": Teach,
    "answer": _Answer,
    "refuse": Refuse,
}


def encode(message: Ask | Teach | Answer | Refuse) -> bytes:
    """Turn a message or reply into a frame."""
    return _FRAME + msgspec.msgpack.encode((_NAMES[type(message)], message))


def decode(frame: bytes | memoryview, max_bytes: int = MAX_FRAME_BYTES) -> Ask | Teach | Answer | Refuse:
    """Turn a frame back into the message or reply it was made of.

    The payload of an answer in a memoryview is not copied: it is a part of that view.

    Raises
    ------
    WireError
        Where the frame is larger than `max_bytes` or is not a frame of this version.
    """
    if len(frame) > max_bytes:
        raise WireError(f"a frame of {len(frame)} bytes is over the bound of {max_bytes}")
    if frame[:4] != _FRAME:
        raise WireError("not a frame of this version (it does not start with FSm1)")
    try:
        name, body = msgspec.msgpack.decode(memoryview(frame)[4:], type=tuple[str, msgspec.Raw])
        kind = _KINDS[name]
        message: Ask | Teach | _Answer | Refuse = msgspec.msgpack.decode(body, type=kind)
    except KeyError as error:
        raise WireError(f"unknown kind of message {error}") from None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"not a message: {error}") from None
    if isinstance(message, _Answer):
        payload = message.payload if isinstance(frame, memoryview) else bytes(message.payload)
        return Answer(message.round, message.sender, payload, message.question)
    return message


def pack(header: Any, arrays: Mapping[str, Array]) -> bytes:
    """Turn a header (anything msgspec encodes) and named arrays into bytes.

    Raises
    ------
    WireError
        Where an array's element type is not on the list.
    """
    described, bodies = [], []
    for name, array in arrays.items():
        body = np.asarray(array)
        body = np.ascontiguousarray(body.astype(body.dtype.newbyteorder("<"), copy=False)).reshape(body.shape)
        if body.dtype.str not in DTYPES:
            raise WireError(f"array '{name}' has element type {body.dtype}, which does not travel")
        described.append((name, body.dtype.str, body.shape))
        bodies.append(body.reshape(-1).view(np.uint8).data)
    head = msgspec.msgpack.encode((header, described))
    return b"".join((_PACK, struct.pack("<I", len(head)), head, *bodies))


def unpack(data: bytes | memoryview, header: type[H], max_bytes: int = MAX_FRAME_BYTES) -> tuple[H, dict[str, Array]]:
    """Turn the bytes of `pack` back into the header and read-only arrays.

    Parameters
    ----------
    data:
        The bytes.
    header:
        The type the header must have; msgspec checks it.
    max_bytes:
        Larger data are refused unread.

    Raises
    ------
    WireError
        Where the data are too large, damaged, of another version, or carry anything but listed element types.
    """
    if len(data) > max_bytes:
        raise WireError(f"{len(data)} bytes are over the bound of {max_bytes}")
    if len(data) < 8 or data[:4] != _PACK:
        raise WireError("not packed arrays of this version (they do not start with FSa1)")
    (length,) = struct.unpack_from("<I", data, 4)
    if 8 + length > len(data):
        raise WireError("the header is cut off")
    try:
        head, described = msgspec.msgpack.decode(
            memoryview(data)[8 : 8 + length],
            type=tuple[header, _Described],  # type: ignore[valid-type]
        )
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"the header does not decode: {error}") from None
    return head, _arrays(memoryview(data)[8 + length :], described)


def _arrays(body: memoryview, described: list[tuple[str, str, list[int]]]) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    start = 0
    for name, dtype, shape in described:
        if dtype not in DTYPES:
            raise WireError(f"array '{name[:40]}' claims element type '{dtype[:20]}', which does not travel")
        # An axis of length 0 does not excuse the others: NumPy counts without it when it says "too big".
        if min(shape, default=0) < 0 or math.prod(size or 1 for size in shape) >= 2**31:
            raise WireError(f"array '{name[:40]}' claims an impossible shape")
        stop = start + math.prod(shape) * np.dtype(dtype).itemsize
        if stop > len(body) or name in arrays:
            raise WireError(f"array '{name[:40]}' is cut off or comes twice")
        if dtype == "|b1" and np.frombuffer(body[start:stop], np.uint8).max(initial=0) > 1:
            raise WireError(f"array '{name[:40]}' holds truth values that are neither 0 nor 1")
        arrays[name] = np.frombuffer(body[start:stop], dtype=dtype).reshape(shape)
        start = stop
    if start != len(body):
        raise WireError(f"{len(body) - start} bytes follow the last array")
    return arrays
