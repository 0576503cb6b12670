"""The clerk brings all to one thread, in batches; the bell wakes those who listen."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fedstill.errors import RunError
from fedstill.service.clerk import MAX_BATCH, Bell, Clerk
from fedstill.service.store.blobs import Blobs
from fedstill.testing.coordinator import Consortium, MemoryDesk
from fedstill.transports.letters import COORDINATOR, digest_of
from fedstill.transports.roles import Role


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    return Consortium(tmp_path_factory.mktemp("papers"))


@pytest.fixture
def desk(consortium, tmp_path):
    return MemoryDesk(consortium, Blobs(tmp_path, 10**6))


def posts(desk, n):
    papers = desk.join("ann")
    return [("ann", desk.letter("ann", COORDINATOR, i + 1, b"%d" % i, papers.identity), b"%d" % i) for i in range(n)]


def test_letters_that_come_while_the_desk_is_busy_are_taken_in_one_go(desk):
    letters = posts(desk, 2 * MAX_BATCH + 1)
    wrong = ("ann", letters[0][1], b"another payload")

    async def main():
        clerk = Clerk(desk)
        desk.free.clear()
        first = asyncio.create_task(clerk.take(*letters[0]))
        await asyncio.to_thread(desk.busy.wait)
        others = [asyncio.create_task(clerk.take(*letter)) for letter in [*letters[1:], wrong]]
        await asyncio.sleep(0)  # all have begun
        desk.free.set()
        verdicts = [await first, *await asyncio.gather(*others)]
        await clerk.close()
        return verdicts

    verdicts = asyncio.run(main())
    assert [len(batch) for batch in desk.batches] == [1, MAX_BATCH, MAX_BATCH, 1]
    kept = [(party, letter, None) for party, letter, _ in letters]  # their payloads lie on the disk by then
    assert [letter for batch in desk.batches for letter in batch] == [*kept, wrong]  # in order
    assert all(desk.blobs.get(digest_of(payload)) == payload for _, _, payload in letters)
    assert verdicts[:-1] == [""] * len(letters)
    assert "payload has 15 bytes instead of 1" in verdicts[-1]
    assert len(desk.threads) == 1


def test_a_fault_of_a_batch_reaches_all_and_the_next_batch_is_taken(desk):
    letters = posts(desk, 3)

    async def main():
        clerk = Clerk(desk)
        desk.fault = RunError("another process leads")
        faults = await asyncio.gather(*(clerk.take(*letter) for letter in letters), return_exceptions=True)
        desk.fault = None
        verdict = await clerk.take(*letters[0])
        await clerk.close()
        return faults, verdict

    faults, verdict = asyncio.run(main())
    assert [str(fault) for fault in faults] == ["another process leads"] * 3
    assert verdict == ""


def test_a_desk_without_a_verdict_on_each_letter_is_found_out(desk):
    (letter,) = posts(desk, 1)
    desk.take = lambda batch: []

    async def main():
        with pytest.raises(RuntimeError, match="0 verdicts about 1 letters"):
            await Clerk(desk).take(*letter)

    asyncio.run(main())


def test_who_somebody_is_holds_for_two_seconds(desk):
    papers = desk.join("ann")
    now = [100.0]

    async def main():
        clerk = Clerk(desk, clock=lambda: now[0])
        said = [await clerk.who(papers.fingerprint), await clerk.who("0" * 64)]
        desk.members.clear()
        for step in (1.9, 0.2):
            now[0] += step
            said.append(await clerk.who(papers.fingerprint))
        return said

    assert asyncio.run(main()) == [("ann", Role.PARTICIPANT), None, ("ann", Role.PARTICIPANT), None]


def test_the_bell_wakes_who_is_named_and_nobody_else():
    async def main():
        bell = Bell()
        bell.announce(["ann"])  # nobody listens yet
        with bell.listening("ann") as one, bell.listening("ann") as two, bell.listening("bob") as other:
            assert bell.ears == 3
            threading.Thread(target=bell.announce, args=(["ann", "eve"],)).start()
            await asyncio.gather(one.heard(), two.heard())
            waiting = asyncio.create_task(other.heard())
            await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()
        assert bell.ears == 0

    asyncio.run(main())


def test_one_ear_too_many_ends_the_oldest_and_closing_ends_all():
    async def main():
        bell = Bell(ears_per_party=2)
        with bell.listening("ann") as one, bell.listening("ann") as two, bell.listening("ann") as three:
            assert (one.open, two.open, three.open) == (False, True, True)
            await one.heard()
            bell.close()
            await asyncio.gather(two.heard(), three.heard())
            assert not two.open
            with bell.listening("bob") as late:
                assert not late.open

    asyncio.run(main())


def test_calls_that_come_together_are_carried_out_in_order_and_each_hears_of_its_own(desk):
    done, threads = [], set()

    def work(number):
        done.append(number)
        threads.add(threading.current_thread().name)
        if number % 10 == 3:
            raise ValueError(f"{number} is wrong")
        return 2 * number

    async def main():
        clerk = Clerk(desk)
        calls = [asyncio.create_task(clerk.call(work, number)) for number in range(100)]
        calls[50].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        await clerk.close()
        with pytest.raises(RuntimeError):
            await clerk.call(work, 100)
        return results

    results = asyncio.run(main())
    assert done == [number for number in range(100) if number != 50]
    assert len(threads) == 1
    for number, result in enumerate(results):
        if number == 50:
            assert isinstance(result, asyncio.CancelledError)
        elif number % 10 == 3:
            assert str(result) == f"{number} is wrong"
        else:
            assert result == 2 * number
