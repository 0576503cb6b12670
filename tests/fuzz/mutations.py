"""Bytes that are almost right: real ones, changed as an attacker or a bad disk would change them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
"""What a length may claim to be."""

WORDS = (
    b"\xdd\xff\xff\xff\xff",  # MessagePack: a list, a map, bytes and a text of 4 G entries
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\x91" * 3000,  # lists in lists
    b"\xca\x7f\xc0\x00\x00",  # NaN, infinity
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"\xc7\x04\x2aabcd",  # an extension
    b"\xc0",
    b"\xc4\x00",
    b"[" * 3000,
    b'{"a":' * 2000,
    b"1e999",
    b"-1",
    b"99999999999999999999999",
    b"null",
    b"[]",
    b'"\\ud800"',
    b"NaN",
    b"\xff\xfe",
    b"\x00",
    b"\r\n",
    "\u202e²".encode(),
    b"-----BEGIN CERTIFICATE-----\n",
)
"""What decoders stumble over."""


def _flip(chance: random.Random, data: bytearray, other: bytes) -> None:
    del other
    at = chance.randrange(len(data))
    data[at] ^= 1 << chance.randrange(8)


def _put(chance: random.Random, data: bytearray, other: bytes) -> None:
    del other
    data[chance.randrange(len(data))] = chance.randrange(256)


def _cut(chance: random.Random, data: bytearray, other: bytes) -> None:
    del other
    start, stop = _span(chance, data)
    del data[start:stop]


def _truncate(chance: random.Random, data: bytearray, other: bytes) -> None:
    del other, data[chance.randrange(len(data)) :]


def _double(chance: random.Random, data: bytearray, other: bytes) -> None:
    del other
    start, stop = _span(chance, data)
    data[stop:stop] = data[start:stop] * chance.choice((1, 1, 1, 2, 30))


def _splice(chance: random.Random, data: bytearray, other: bytes) -> None:
    start, stop = _span(chance, data)
    first, last = _span(chance, other)
    data[start:stop] = other[first:last]


def _length(chance: random.Random, data: bytearray, other: bytes) -> None:
    """Let some bytes, taken for a number, be another number."""
    del other
    size, order = chance.choice((1, 2, 4, 4, 8)), chance.choice("<>")
    at = chance.randrange(len(data))
    number = chance.choice(NUMBERS) % 2 ** (8 * size)
    data[at : at + size] = struct.pack(f"{order}{ {1: 'B', 2: 'H', 4: 'I', 8: 'Q'}[size] }", number)


def _word(chance: random.Random, data: bytearray, other: bytes) -> None:
    del other
    start, stop = _span(chance, data)
    data[start : stop if chance.random() < 0.5 else start] = chance.choice(WORDS)


def _span(chance: random.Random, data: bytes | bytearray) -> tuple[int, int]:
    start = chance.randrange(len(data) or 1)
    return start, min(len(data), start + 1 + int(chance.expovariate(1 / 12)))


MUTATIONS: tuple[Callable[[random.Random, bytearray, bytes], None], ...] = (
    *(_flip, _put, _cut, _truncate, _double, _splice, _length, _word),
)


def mutate(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """One of some inputs, changed once or a few times."""
    data, other = bytearray(chance.choice(seeds)), chance.choice(seeds)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 5, 10))):
        if not data:
            break
        chance.choice(MUTATIONS)(chance, data, other)
    return bytes(data)
