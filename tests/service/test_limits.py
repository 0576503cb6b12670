"""Token buckets by hand, and limits that let something through."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill.errors import ConfigError
from fedstill.service.limits import Buckets, Limits, Pending


def test_a_bucket_gives_its_burst_and_then_its_rate():
    buckets = Buckets(per_s=2, burst=3)
    assert [buckets.take("a", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("a", 0.25) == 0.25
    assert buckets.take("a", 0.5) == 0
    assert [buckets.take("a", 100.0) for _ in range(4)] == [0, 0, 0, 0.5]  # no more than the burst was saved up


def test_everybody_has_a_bucket():
    buckets = Buckets(per_s=1, burst=1)
    assert [buckets.take(key, 0.0) for key in "aabb"] == [0, 1, 0, 1]


def test_buckets_do_not_grow_without_end():
    buckets = Buckets(per_s=1, burst=1, keys=2)
    assert [buckets.take(key, 0.0) for key in "abc"] == [0, 0, 0]
    assert buckets.take("c", 0.0) == 1
    assert buckets.take("a", 0.0) == 0  # forgotten, and so full again


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60), st.floats(0.1, 20), st.integers(1, 10))
def test_no_more_than_rate_and_burst_come_through(pauses, per_s, burst):
    buckets, now, taken = Buckets(per_s, burst), 0.0, 0
    for pause in pauses:
        now += pause
        wait = buckets.take("a", now)
        taken += not wait
        assert 0 <= wait <= 1 / per_s
    assert taken <= burst + now * per_s + 1e-6


def test_what_no_letter_names_yet_is_bounded_for_each_party():
    pending = Pending(100)
    assert pending.begin("ann", "a", 60) == 0
    assert pending.begin("ann", "a", 60) == 0  # the same once more
    assert pending.begin("ann", "b", 40) == 0
    assert pending.begin("ann", "c", 1) == 100
    assert pending.begin("bob", "c", 1) == 0
    pending.end("ann", "a")
    assert pending.begin("ann", "c", 60) == 0
    assert pending.begin("ann", "b", 41) == 60
    for digest in "bc":
        pending.end("ann", digest)
    assert pending.begin("ann", "d", 500) == 0  # how large a single one may be is another limit


def test_the_page_for_operators_names_all_limits_and_their_defaults():
    page = Path(__file__).parents[2] / "docs" / "how-to" / "between-machines.md"
    rows = page.read_text(encoding="utf-8").partition("## Limits")[2].partition("\n## ")[0].splitlines()
    told = {}
    for row in (line for line in rows if line.startswith("| `")):
        keys, values = row.split(" | ")[:2]
        told |= dict(zip(re.findall(r"`(\w+)`", keys), map(float, values.split(", ")), strict=True))
    assert told == asdict(Limits())


@pytest.mark.parametrize("wrong", [{"burst": 0}, {"body_s": -1}, {"requests_per_s": float("inf")}, {"connections": 0}])
def test_limits_that_let_nothing_through_are_refused(wrong):
    with pytest.raises(ConfigError, match="lets nothing through"):
        Limits(**wrong)
