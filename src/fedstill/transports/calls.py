"""Carries a round by calling: all participants in this process, or in a pool of worker processes.

Messages travel as the bytes that a network would carry, so sizes are as sent and models are the same, byte
for byte, whichever way they came. Every participant computes on one thread, for the same reason.
"""

from __future__ import annotations

import itertools
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar

from threadpoolctl import threadpool_limits

from fedstill import wire
from fedstill.errors import RunError
from fedstill.labels import Party
from fedstill.messages import Reply, Teach
from fedstill.participant import Participant
from fedstill.round import Coordinator, Effect, Event, Phase, Received, Send, Started, State, Ticked

T = TypeVar("T")
Build = Callable[[], Participant]
"""Makes a participant where it will live; must survive a trip to another process."""


@dataclass(frozen=True)
class Cost:
    """What some work took: CPU seconds, and the peak resident memory of its process so far, in bytes."""

    cpu_s: float = 0.0
    peak_memory_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.cpu_s + other.cpu_s, max(self.peak_memory_bytes, other.peak_memory_bytes))


@dataclass
class Traffic:
    """Bytes as sent, by round and participant, and what each participant's work took."""

    up: dict[int, dict[Party, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    down: dict[int, dict[Party, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    cost: dict[Party, Cost] = field(default_factory=lambda: defaultdict(Cost))


class Exchange(Protocol):
    """Where participants live: hands them frames and lets the owner of the machine look at them."""

    def deliver(self, frames: Mapping[Party, Sequence[bytes]]) -> Iterator[tuple[Party, list[bytes], Cost]]:
        """Give each participant its frames in order; yield its replies as they come."""
        ...

    def call(self, function: Callable[..., T], arguments: Mapping[Party, tuple[Any, ...]]) -> dict[Party, T]:
        """Run `function(participant, *arguments)` where each participant lives."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class InProcess:
    """All participants here, one after the other."""

    def __init__(self, builds: Mapping[Party, Build]) -> None:
        self._home = {party: build() for party, build in builds.items()}

    def deliver(self, frames: Mapping[Party, Sequence[bytes]]) -> Iterator[tuple[Party, list[bytes], Cost]]:
        """See `Exchange`."""
        for party in sorted(frames):
            yield party, *_handle(self._home[party], frames[party])

    def call(self, function: Callable[..., T], arguments: Mapping[Party, tuple[Any, ...]]) -> dict[Party, T]:
        """See `Exchange`."""
        with threadpool_limits(1):
            return {party: function(self._home[party], *given) for party, given in arguments.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._home.clear()


class Unheard:
    """An exchange in which nobody hears the last teacher: for who wants to know what is said, and not what is learned.

    Parameters
    ----------
    exchange:
        Where the participants live.
    rounds:
        The number of the last round.
    """

    def __init__(self, exchange: Exchange, rounds: int) -> None:
        self._exchange, self._rounds = exchange, rounds

    def deliver(self, frames: Mapping[Party, Sequence[bytes]]) -> Iterator[tuple[Party, list[bytes], Cost]]:
        """See `Exchange`."""
        heard = {party: [frame for frame in told if not self._last(frame)] for party, told in frames.items()}
        return self._exchange.deliver({party: told for party, told in heard.items() if told})

    def _last(self, frame: bytes) -> bool:
        message = wire.decode(frame)
        return isinstance(message, Teach) and message.round >= self._rounds

    def call(self, function: Callable[..., T], arguments: Mapping[Party, tuple[Any, ...]]) -> dict[Party, T]:
        """See `Exchange`."""
        return self._exchange.call(function, arguments)

    def __enter__(self) -> Self:
        self._exchange.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._exchange.__exit__(*exc)


class Pool:
    """Participants spread over worker processes, each staying where it was built.

    Parameters
    ----------
    builds:
        How to make each participant.
    workers:
        Number of processes.
    """

    def __init__(self, builds: Mapping[Party, Build], workers: int) -> None:
        # One executor of one process each, rather than one of many: a participant has state and must stay put.
        context = multiprocessing.get_context("spawn")
        executors = [ProcessPoolExecutor(1, mp_context=context) for _ in range(max(1, min(workers, len(builds))))]
        self._executors = executors
        self._at = dict(zip(builds, itertools.cycle(executors), strict=False))
        try:
            self._all({party: (_settle, party, build) for party, build in builds.items()})
        except BaseException:
            self.__exit__()
            raise

    def deliver(self, frames: Mapping[Party, Sequence[bytes]]) -> Iterator[tuple[Party, list[bytes], Cost]]:
        """See `Exchange`."""
        with _deaths_told():
            working: dict[Future[tuple[list[bytes], Cost]], Party] = {
                self._at[party].submit(_handle_at_home, party, list(frames[party])): party for party in sorted(frames)
            }
        for done in as_completed(working):
            with _deaths_told():
                replies, cost = done.result()
            yield working[done], replies, cost

    def call(self, function: Callable[..., T], arguments: Mapping[Party, tuple[Any, ...]]) -> dict[Party, T]:
        """See `Exchange`."""
        return self._all({party: (_call_at_home, party, function, given) for party, given in arguments.items()})

    def _all(self, work: Mapping[Party, tuple[Any, ...]]) -> dict[Party, Any]:
        with _deaths_told():
            working = {party: self._at[party].submit(*call) for party, call in work.items()}
            return {party: future.result() for party, future in working.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for executor in self._executors:
            executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaths_told() -> Iterator[None]:
    """Say what a broken pool means; a worker that is dead already breaks the handing over of work as well."""
    try:
        yield
    except BrokenProcessPool:
        raise RunError(
            "a worker process died",
            remedy="A script must start its work below `if __name__ == '__main__':`; if it does, memory may "
            "have run out: use fewer workers, or workers = 1",
        ) from None


_HOME: dict[Party, Participant] = {}
"""The participants that live in this worker process."""


def _settle(party: Party, build: Build) -> None:
    _HOME[party] = build()


def _handle_at_home(party: Party, frames: Sequence[bytes]) -> tuple[list[bytes], Cost]:
    return _handle(_HOME[party], frames)


def _call_at_home(party: Party, function: Callable[..., T], given: tuple[Any, ...]) -> T:
    with threadpool_limits(1):
        return function(_HOME[party], *given)


def _handle(participant: Participant, frames: Sequence[bytes]) -> tuple[list[bytes], Cost]:
    began = time.process_time()
    with threadpool_limits(1):
        replies = [participant.handle(wire.decode(frame)) for frame in frames]  # type: ignore[arg-type]
    spent = Cost(time.process_time() - began, peak_memory_bytes())
    return [participant.guard.sealed(reply) for reply in replies if reply is not None], spent


def peak_memory_bytes() -> int:
    """Peak resident memory of this process, 0 where the system does not tell."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run(
    coordinator: Coordinator,
    exchange: Exchange,
    *,
    observe: Callable[[Event | Effect], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[State, Traffic]:
    """Drive a run from its first event to its last.

    Parameters
    ----------
    coordinator:
        The pure machine.
    exchange:
        Where the participants live.
    observe:
        Sees every event before it is folded, and every effect after: logs, progress bars and tests hang here.
    clock:
        Seconds, from any start.

    Returns
    -------
    The last state and the traffic. A run that failed is a state, not an exception.
    """
    traffic, state = Traffic(), coordinator.start()
    outbox: dict[Party, list[bytes]] = {}

    def feed(event: Event) -> None:
        nonlocal state
        observe(event)
        state, effects = coordinator.step(state, event)
        for effect in effects:
            observe(effect)
            if isinstance(effect, Send):
                frame = wire.encode(effect.message)
                traffic.down[effect.message.round][effect.to] += len(frame)
                outbox.setdefault(effect.to, []).append(frame)

    feed(Started(clock()))
    while outbox or state.phase is Phase.OPEN:
        batch, outbox, before = outbox, {}, state
        for party, frames, cost in exchange.deliver(batch):
            traffic.cost[party] += cost
            for frame in frames:
                reply: Reply = wire.decode(frame)  # type: ignore[assignment]
                traffic.up[reply.round][party] += len(frame)
                feed(Received(reply, clock()))
        if state is before:  # nothing that came counts, so nothing more will: let the deadline come
            if state.phase is not Phase.OPEN:
                break
            feed(Ticked(max(clock(), state.closes_at)))
    return state, traffic
