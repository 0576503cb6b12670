"""What an owner allows: hours, memory, threads, bandwidth."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offices import RECIPE, FakeLink, Naps, Office
from threadpoolctl import ThreadpoolController, threadpool_info

import fedstill.agent.threads as threads_module
from fedstill.agent.limits import Hours
from fedstill.agent.pacing import Bucket, PacedLink
from fedstill.agent.threads import Threads
from fedstill.errors import ConfigError
from fedstill.messages import Ask

# ---- hours


def at(clock: str) -> float:
    return datetime.fromisoformat(f"2026-07-01T{clock}").timestamp()


@pytest.mark.parametrize(
    ("spans", "now", "closed_s"),
    [
        ((), "12:00", 0),
        (("08:00-17:00",), "08:00", 0),
        (("08:00-17:00",), "16:59:59", 0),
        (("08:00-17:00",), "17:00", 15 * 3600),
        (("08:00-17:00",), "07:59:30", 30),
        (("18:00-06:00",), "23:00", 0),
        (("18:00-06:00",), "05:59", 0),
        (("18:00-06:00",), "06:00", 12 * 3600),
        (("00:00-24:00",), "00:00", 0),
        (("20:00-24:00",), "23:59:59", 0),
        (("20:00-24:00",), "00:00", 20 * 3600),
        (("12:00-13:00", "18:00-06:00"), "12:30", 0),
        (("12:00-13:00", "18:00-06:00"), "10:00", 2 * 3600),
        (("12:00-13:00", "18:00-06:00"), "14:00", 4 * 3600),
    ],
)
def test_hours(spans: tuple[str, ...], now: str, closed_s: float) -> None:
    assert Hours.read(spans).closed_s(at(now)) == closed_s


@pytest.mark.parametrize("text", ["18-6", "18:00", "18:00-06:60", "24:00-06:00", "18:00-25:00", "18:00-24:01", ""])
def test_what_are_no_hours(text: str) -> None:
    with pytest.raises(ConfigError, match="is no span of hours") as caught:
        Hours.read((text,))
    assert "18:00-06:00" in caught.value.remedy


def test_a_span_of_no_time_is_none() -> None:
    with pytest.raises(ConfigError, match="is no span"):
        Hours.read(("06:00-06:00",))


# ---- bandwidth


@given(
    st.floats(1, 1e6),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**7)), max_size=20),
)
@settings(max_examples=200, deadline=None)
def test_no_more_passes_than_a_second_and_the_rate_allow(rate: float, asked: list[tuple[float, int]]) -> None:
    naps = Naps(0.0)
    bucket = Bucket(rate, clock=naps.clock, sleep=naps)
    passed = 0
    for pause, size in asked:
        naps.now += pause
        asyncio.run(bucket.take(size))
        passed += size
        assert passed <= (rate + rate * naps.now) * (1 + 1e-9) + 1e-6


def test_what_has_not_been_used_is_not_saved_for_more_than_a_second() -> None:
    naps = Naps(0.0)
    bucket = Bucket(1000, clock=naps.clock, sleep=naps)
    naps.now = 3600.0
    asyncio.run(bucket.take(1000))
    assert naps.taken == []
    asyncio.run(bucket.take(500))
    assert naps.taken == [pytest.approx(0.5)]


def test_a_link_is_paced_each_way(office: Office) -> None:
    """10 kB a second: a letter of 30 kB waits 2 s for its turn, and after 30 kB fetched the next call waits 2 s."""
    naps, link = Naps(0.0), FakeLink(office, [office.parcel(1, bytes(30_000))])
    up, down = (Bucket(10_000, clock=naps.clock, sleep=naps) for _ in range(2))
    paced = PacedLink(link, up, down)
    assert asyncio.run(paced.post(b"", bytes(30_000))) == ""
    assert naps.taken == [pytest.approx(2.0)]
    (parcel,) = asyncio.run(paced.letters(0, 1.0))
    assert naps.taken[1:] == [pytest.approx(2 + len(parcel.letter) / 10_000)]
    asyncio.run(paced.close())
    assert link.closed


# ---- threads and memory


@pytest.mark.parametrize(("rules", "threads"), [({}, 1), ({"threads": 3}, 3)])
def test_threads(rules: dict[str, int], threads: int, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, used = office.worker(**rules), []
    handle = worker.participant.handle
    monkeypatch.setattr(worker.participant, "handle", lambda message: [used.append(most_threads()), handle(message)][1])
    worker.handle(office.parcel(1, Ask(1, RECIPE)))
    assert used == [threads]


def test_libraries_are_looked_for_again_only_where_there_may_be_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[ThreadpoolController] = []
    look = threads_module.ThreadpoolController
    monkeypatch.setattr(threads_module, "ThreadpoolController", lambda: [looks.append(look()), looks[-1]][1])
    before, threads = most_threads(), Threads(1)
    for new, times in ((False, 1), (False, 1), (True, 2)):
        if new:
            monkeypatch.setitem(sys.modules, "something_new", sys)
        with threads.held():
            assert most_threads() == 1
        assert (most_threads(), len(looks)) == (before, times)


def most_threads() -> int:
    """Of all libraries that are loaded."""
    return max(library["num_threads"] for library in threadpool_info())


ALLOCATE = """
import sys
from fedstill.agent.limits import limit_memory
from fedstill.errors import ConfigError
try:
    limit_memory(int(sys.argv[1]))
    bytearray(int(sys.argv[2]))
except (ConfigError, MemoryError) as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
@pytest.mark.parametrize(
    ("allowed_mb", "wanted", "said"),
    [(2000, 10**8, ""), (2000, 3 * 10**9, "MemoryError"), (1, 0, "before any training, and 1 MB are allowed")],
)
def test_memory(allowed_mb: int, wanted: int, said: str) -> None:
    command = [sys.executable, "-c", ALLOCATE, str(allowed_mb), str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert said in done.stdout
    assert bool(said) == bool(done.stdout)


def test_memory_where_it_cannot_be_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedstill.agent import limits

    monkeypatch.setattr(limits.sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="on Linux alone"):
        limits.limit_memory(1000)
