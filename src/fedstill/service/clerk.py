"""Between requests, which are many and asynchronous, and the desk, which does one thing at a time."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from fedstill.errors import WireError
from fedstill.labels import Party
from fedstill.service.limits import Limits, Pending
from fedstill.service.store.blobs import Blobs
from fedstill.transports.letters import Parcel, check_payload, read
from fedstill.transports.roles import Role

T = TypeVar("T")

MAX_BATCH = 256
"""Letters that the desk takes in one go."""

PUTS = 8
"""Payloads that are put on the disk at the same time."""

WHILE_S = 0.005
"""How long the desk's thread works before it tells the loop what has come of it, where there is more to do."""

KNOWN_S = 2.0
"""How long the desk's word on who somebody is holds: a revoked party is out after this time."""

SEEN_S = 2.0
"""How often the desk is told that a party is there."""


class Counter(Protocol):
    """The coordinator's desk as requests see it. All calls come from one thread."""

    @property
    def terms(self) -> bytes:
        """What all have agreed on for this run."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Where payloads lie; used from several threads."""
        ...

    def who(self, fingerprint: str) -> tuple[Party, Role] | None:
        """Whose certificate it is: of a party that has joined and is not revoked; else None."""
        ...

    def enrol(self, token: str, request_pem: bytes) -> tuple[bytes, bytes]:
        """A certificate for an invitation's token, and the authority's. Raises LinkRefused, and WireError."""
        ...

    def renew(self, name: Party, request_pem: bytes) -> bytes:
        """A new certificate for a party, PEM. Raises LinkRefused, and WireError."""
        ...

    def take(self, batch: Sequence[tuple[Party, bytes, bytes | None]]) -> list[str]:
        """Take letters of parties with their payloads, None where they lie in `blobs`; durable at the return.

        Returns
        -------
        For each "", or why it was not used.
        """
        ...

    def letters(self, party: Party, after: int) -> list[Parcel]:
        """Letters to a party with a number above `after`, in order; a part of them where they are many."""
        ...

    def reads(self, party: Party, digest: str) -> bool:
        """Whether a letter to the party names this payload, so that it may fetch it."""
        ...

    def seen(self, party: Party) -> None:
        """The party is there."""
        ...

    def status(self) -> dict[str, Any]:
        """What goes on, for people: what JSON can say."""
        ...


class Administration(Protocol):
    """What operators and auditors do from their own machines."""

    def invite(self, name: Party, role: Role, days: float, by: Party, *, mqtt: bool = False) -> bytes:
        """An invite as a file, made for the operator `by`. Raises ConfigError, and LinkRefused for some roles.

        Called from the desk's thread.
        """
        ...

    def revoke(self, name: Party, by: Party) -> None:
        """Let a party in no more, as the operator `by` says. Raises as `invite`; called as `invite`."""
        ...

    def export(self) -> Generator[bytes, None, None]:
        """An audit as a file, piece by piece; called from any thread, but from one at a time."""
        ...


class Ear:
    """One request that waits for letters; `open` until it shall wait no longer."""

    def __init__(self) -> None:
        self.open = True
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """There may be something new."""
        self._rung.set()

    def dismiss(self) -> None:
        """Answer now, with what there is."""
        self.open = False
        self._rung.set()

    async def heard(self) -> None:
        """Wait until one of the two."""
        await self._rung.wait()
        self._rung.clear()


class Bell:
    """Wakes requests that wait for letters. The desk rings it, from its own thread, once letters are written.

    Parameters
    ----------
    ears_per_party:
        How many requests of one party wait at the same time; one more ends the oldest.
    """

    def __init__(self, ears_per_party: int = 4) -> None:
        self._most = ears_per_party
        self._ears: defaultdict[Party, list[Ear]] = defaultdict(list)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def announce(self, parties: Iterable[Party]) -> None:
        """There are new letters for these parties. May be called from any thread."""
        # Without a loop nobody listens yet. Who begins to listen looks for letters afterwards, and so misses none.
        self._tell(self._ring, tuple(parties))

    def close(self) -> None:
        """Let all who wait go, now and from now on. May be called from any thread."""
        self._closed = True
        self._tell(self._dismiss)

    @contextmanager
    def listening(self, party: Party) -> Iterator[Ear]:
        """Hear what is announced for a party. Look for letters after entering, not before."""
        self._loop = asyncio.get_running_loop()
        ear, ears = Ear(), self._ears[party]
        ears.append(ear)
        if self._closed:
            ear.dismiss()
        for oldest in ears[: -self._most]:
            oldest.dismiss()
        try:
            yield ear
        finally:
            ears.remove(ear)
            if not ears:
                self._ears.pop(party, None)

    @property
    def ears(self) -> int:
        """How many listen."""
        return sum(map(len, self._ears.values()))

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _ring(self, parties: Iterable[Party]) -> None:
        for party in parties:
            for ear in self._ears.get(party, ()):
                ear.ring()

    def _dismiss(self) -> None:
        for ears in self._ears.values():
            for ear in ears:
                ear.dismiss()


class _Post(NamedTuple):
    """A letter, and its payload; None where that lies on the disk."""

    party: Party
    letter: bytes
    payload: bytes | None


_Result: TypeAlias = tuple["asyncio.Future[Any]", Any, Exception | None]


class Clerk:
    """Brings requests to the desk, in the one thread in which it works.

    Parameters
    ----------
    counter:
        The desk.
    clock:
        Seconds by a clock that never goes back.
    limits:
        How much a party may have uploaded before it says what for.
    """

    def __init__(
        self, counter: Counter, clock: Callable[[], float] = time.monotonic, limits: Limits | None = None
    ) -> None:
        self.counter = counter
        self.pending = Pending((limits or Limits()).pending_bytes)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="desk")
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...], asyncio.Future[Any]]] = deque()
        self._calling = False
        self._shelves = ThreadPoolExecutor(PUTS, thread_name_prefix="payloads")
        self._waiting: list[tuple[_Post, asyncio.Future[str]]] = []
        self._taking: asyncio.Task[None] | None = None
        self._known: dict[str, tuple[float, tuple[Party, Role] | None]] = {}
        self._seen: dict[Party, float] = {}

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in the desk's thread, when its turn comes."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._calls.append((function, arguments, done))
        if not self._calling:
            self._begin(loop)
        return await done

    async def take(self, party: Party, letter: bytes, payload: bytes | None) -> str:
        """Give the desk a letter; returns its verdict.

        Letters that come while the desk is busy wait and are taken in one go, so that they share a transaction and its
        way to the disk (group commit: DeWitt et al. 1984, doi:10.1145/602259.602261).
        """
        verdict: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((_Post(party, letter, payload), verdict))
        if self._taking is None:
            self._taking = asyncio.create_task(self._take_all())
        said = await verdict
        if payload is None:
            self.pending.end(party, read(letter).header.digest)
        return said

    async def who(self, fingerprint: str) -> tuple[Party, Role] | None:
        """Whose certificate it is; true within the last two seconds."""
        now = self._clock()
        until, answer = self._known.get(fingerprint, (now, None))
        if until > now:
            return answer
        answer = await self.call(self.counter.who, fingerprint)
        if len(self._known) >= 10_000:
            self._known.clear()
        self._known[fingerprint] = (now + KNOWN_S, answer)
        return answer

    async def seen(self, party: Party) -> None:
        """Tell the desk that a party is there, if it has not just been told."""
        now = self._clock()
        if now - self._seen.get(party, -SEEN_S) >= SEEN_S:
            self._seen[party] = now
            await self.call(self.counter.seen, party)

    async def close(self) -> None:
        """Wait until the desk is done with what it has begun; whoever asks then gets a RuntimeError."""
        await asyncio.to_thread(self._shelves.shutdown)
        await asyncio.to_thread(self._thread.shutdown)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the desk's thread carry out what has been called."""
        try:
            self._thread.submit(self._carry_out, loop)
            self._calling = True
        except RuntimeError as closed:
            for _, _, done in self._calls:
                if not done.done():
                    done.set_exception(closed)
            self._calls.clear()

    def _carry_out(self, loop: asyncio.AbstractEventLoop) -> None:
        """Carry out calls for a while: to wake a thread for each, and the loop, costs more than most of them."""
        results: list[_Result] = []
        until = time.monotonic() + WHILE_S
        while self._calls and (not results or time.monotonic() < until):
            function, arguments, done = self._calls.popleft()
            if done.cancelled():
                continue
            try:
                results.append((done, function(*arguments), None))
            except Exception as fault:
                results.append((done, None, fault))
        with suppress(RuntimeError):  # the loop is gone, and with it all who wait
            loop.call_soon_threadsafe(self._carried_out, loop, results)

    def _carried_out(self, loop: asyncio.AbstractEventLoop, results: list[_Result]) -> None:
        self._calling = False
        if self._calls:
            self._begin(loop)
        for done, result, fault in results:
            if done.done():  # who waited may be gone
                continue
            if fault is None:
                done.set_result(result)
            else:
                done.set_exception(fault)

    def _give(self, letters: list[_Post]) -> list[str]:
        """Give letters to the desk; payloads are put on the disk before, where several share a way, too."""
        shares = [range(first, len(letters), PUTS) for first in range(min(PUTS, len(letters)))]
        kept = set().union(*self._shelves.map(lambda share: {n for n in share if self._keep(letters[n])}, shares))
        return self.counter.take([post._replace(payload=None) if n in kept else post for n, post in enumerate(letters)])

    def _keep(self, post: _Post) -> bool:
        """Put a payload on the disk where it is the letter's. Whatever is wrong, the desk says so."""
        if post.payload is None:
            return False
        with suppress(WireError):
            header = read(post.letter).header
            check_payload(header, post.payload)
            self.counter.blobs.put(post.payload, header.digest)
            return True
        return False

    async def _take_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._take([letter for letter, _ in batch], [verdict for _, verdict in batch])
        finally:
            self._taking = None

    async def _take(self, letters: list[_Post], verdicts: list[asyncio.Future[str]]) -> None:
        try:
            said = await self.call(self._give, letters)
            if len(said) != len(letters):
                raise RuntimeError(f"the desk gave {len(said)} verdicts about {len(letters)} letters")
        except Exception as fault:  # whatever it is, each of those who wait must hear of it
            for verdict in verdicts:
                if not verdict.done():  # who waited may be gone
                    verdict.set_exception(fault)
        else:
            for verdict, why in zip(verdicts, said, strict=True):
                if not verdict.done():
                    verdict.set_result(why)
