"""A chain of records: whatever is done to it is named."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill.service.store.chain import GENESIS, link, verify_chain

HASH = "ab" * 32


def test_a_hash_by_hand():
    """An array of five: 1, nil, "a", the double 1.5, the byte 7."""
    packed = bytes.fromhex("95 01 c0 a161 cb3ff8000000000000 c40107")
    first = link(GENESIS, 1, None, "a", 1.5, b"\x07")
    assert first.hash == hashlib.sha256(bytes(32) + packed).hexdigest()
    packed = bytes.fromhex("95 02 cd012c a0 cb0000000000000000 c400")
    second = link(first.hash, 2, 300, "", -0.0, b"")
    assert second.hash == hashlib.sha256(bytes.fromhex(first.hash) + packed).hexdigest()
    with pytest.raises(ValueError, match="finite"):
        link(GENESIS, 1, None, "a", float("nan"), b"")


def chain(bodies):
    records = []
    for seq, body in enumerate(bodies, start=1):
        records.append(link(records[-1].hash if records else GENESIS, seq, 1, "kind", float(seq), body))
    return records


@given(bodies=st.lists(st.binary(max_size=3), min_size=1, max_size=8), data=st.data())
def test_whatever_is_done_to_a_chain_is_named(bodies, data):
    records = chain(bodies)
    head = records[-1].hash
    assert verify_chain(records) is verify_chain(records, head) is None
    n = data.draw(st.integers(0, len(records) - 1))
    changes = {
        "seq": 99, "run": None, "kind": "other", "at": 0.5, "body": b"long", "previous": HASH, "hash": HASH,
    }  # fmt: skip
    for name, value in changes.items():
        assert verify_chain([*records[:n], replace(records[n], **{name: value}), *records[n + 1 :]]) == n + 1
    for nonsense in ({"body": None}, {"at": None}, {"at": float("inf")}, {"run": 2**70}, {"kind": b"\xff"}):
        assert verify_chain([*records[:n], replace(records[n], **nonsense), *records[n + 1 :]]) == n + 1
    assert verify_chain([*records[:n], *records[n + 1 :]], head) == n + 1  # removed
    forged = link(records[n].previous, n + 1, 1, "kind", float(n + 1), b"forged")
    assert verify_chain([*records[:n], forged, *records[n + 1 :]], head) in (n + 1, n + 2)  # computed anew
    later = [replace(record, seq=record.seq + 1) for record in records[n:]]
    assert verify_chain([*records[:n], forged, *later], head) == n + 2  # put in, all others moved on
    if n:
        swapped = [*records[: n - 1], records[n], records[n - 1], *records[n + 1 :]]
        assert verify_chain(swapped) == n
        numbers = [*records[: n - 1], replace(records[n], seq=n), replace(records[n - 1], seq=n + 1), *records[n + 1 :]]
        assert verify_chain(numbers) == n


def test_a_chain_without_its_end_needs_the_head():
    records = chain([b"a", b"b", b"c"])
    assert verify_chain(records[:2]) is None
    assert verify_chain(records[:2], records[2].hash) == 3
    assert verify_chain([]) is None
    assert verify_chain([], records[0].hash) == 1


@pytest.mark.parametrize(
    ("change", "bad"),
    [
        ("UPDATE events SET body = previous_body FROM (SELECT body AS previous_body FROM events WHERE seq = 1) AS o "
         "WHERE seq = 3", 3),
        ("UPDATE events SET at = at + 1 WHERE seq = 5", 5),
        ("UPDATE events SET run = NULL WHERE seq = 1", 1),
        ("DELETE FROM events WHERE seq = 2", 2),
        ("UPDATE events SET seq = seq + 100 WHERE seq = 4", 4),
    ],
)  # fmt: skip
def test_what_is_done_to_the_database_is_named(store, tamper, change, bad):
    with store.writing() as w:
        w.add_run(b"", 1.0, "")
        for n in range(5):
            w.append(1, "kind", 1.0, b"%d" % n)
    assert verify_chain(store.records()) is None
    tamper(change)
    assert verify_chain(store.records()) == bad
