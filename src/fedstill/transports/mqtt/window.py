"""Requests that arrive although messages get lost, come twice or in another order: both halves, as plain values.

MQTT's QoS 1 is no delivery: a broker confirms what it later drops, because a queue is full or a receiver is away. So
the answer alone confirms a request (Saltzer, Reed & Clark 1984, doi:10.1145/357401.357402). A `Window`, with whoever
asks, bounds what is under way and says what to send again, and when to give up. A `Docket`, with whoever answers, takes
care that what is asked twice is done once.

Times are seconds by a clock that never goes back, and are always given: nothing here waits.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass

from fedstill.errors import LinkDown

FIRST_WIDTH = 4.0
"""Requests under way before anything is known of the line: a MB of pieces (RFC 6928 has the like for TCP)."""


@dataclass(frozen=True)
class Timing:
    """How fast to ask, and how long to wait.

    Attributes
    ----------
    first_s:
        Until a request is sent again, before it is known how long answers take.
    least_s:
        What is given to answers beyond their usual time, at least.
    most_s:
        Until a request is sent again, at most.
    queue_s:
        More than the fastest answer has taken: then answers queue somewhere, and fewer are asked for at a time.
    silence_s:
        Without any word from the other side although something is asked: then the link is down.
    widest:
        Requests under way at the same time; brokers hold about 20 unconfirmed messages for a receiver.
    """

    first_s: float = 2.0
    least_s: float = 0.5
    most_s: float = 20.0
    queue_s: float = 1.0
    silence_s: float = 30.0
    widest: int = 16


@dataclass
class _Asked:
    """A request under way: how often it was sent, since when the broker has it, and what is known of it."""

    timed: bool
    times: int = 1
    first: float | None = None
    since: float | None = None
    known: bool = False


class Window:
    """What one side has asked and not yet heard of.

    How long to wait for an answer follows those that came (RFC 6298): the time doubles when one is missing, and an
    answer to what was sent twice says nothing, unless it comes sooner after the second time than any has come. How many
    requests may be under way grows with every answer, as long as answers do not queue on their way (RFC 6817), and is
    halved when one is missing (RFC 5681). So a slow line is neither filled with pieces nor with copies.
    """

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self._asked: dict[bytes, _Asked] = {}
        self._answered: deque[bytes] = deque(maxlen=64)
        self._width = min(FIRST_WIDTH, float(timing.widest))
        self._threshold = float(timing.widest)
        self._narrowed = float("-inf")
        self._backed_off = 0
        self._heard = 0.0
        self._fastest = float("inf")
        self._smoothed: float | None = None
        self._varies = 0.0

    @property
    def room(self) -> bool:
        """Whether one more may be asked; what the other side is known to work on takes no room."""
        return sum(not asked.known for asked in self._asked.values()) < int(self._width)

    @property
    def patience_s(self) -> float:
        """How long to wait for an answer now."""
        usual_s = self.timing.first_s
        if self._smoothed is not None:
            usual_s = self._smoothed + max(4 * self._varies, self.timing.least_s)
        return min(usual_s * 2.0**self._backed_off, self.timing.most_s)

    def ask(self, number: bytes, now: float, *, timed: bool = True) -> None:
        """A request was given to the broker; `timed`: how long its answer takes says something about the line."""
        if not self._asked:
            self._heard = now
        self._asked[number] = _Asked(timed)

    def taken(self, number: bytes, now: float) -> None:
        """The broker has it; from now on an answer is waited for."""
        asked = self._asked.get(number)
        if asked is not None:
            asked.since = now
            if asked.first is None:
                asked.first = self._heard = now

    def heard(self, number: bytes, now: float, *, done: bool) -> bool:
        """The other side answers, or (`done` false) says that it works on it.

        Returns
        -------
        Whether this was waited for; an answer is, once.
        """
        asked = self._asked.get(number)
        if asked is not None or number in self._answered:
            self._heard = now
        if asked is None:
            return False
        asked.known = True
        if done:
            del self._asked[number]
            self._answered.append(number)
            self._learn(asked, now)
        return True

    def drop(self, number: bytes) -> None:
        """Nobody waits for this answer any more."""
        self._asked.pop(number, None)

    def due(self, now: float) -> list[bytes]:
        """What to send again now.

        Raises
        ------
        LinkDown
            Where nothing has been heard for too long.
        """
        if self._asked and now >= self._heard + self.timing.silence_s:
            raise LinkDown(
                f"no answer for {self.timing.silence_s:g} s",
                where="coordinator",
                remedy="Ask its operator whether it runs, and whether the broker lets this party hear its answers",
            )
        late = [number for number, asked in self._asked.items() if self._due_at(asked) <= now]
        for number in late:
            asked = self._asked[number]
            asked.times, asked.since = asked.times + 1, None
            if not asked.known:
                self._narrow(now)
        return late

    def wake_at(self) -> float | None:
        """When to call `due` next; None while nothing is asked."""
        if not self._asked:
            return None
        return min(self._heard + self.timing.silence_s, *map(self._due_at, self._asked.values()))

    def _due_at(self, asked: _Asked) -> float:
        if asked.since is None:  # not even with the broker, who does get what it is sent as long as it is there
            return float("inf")
        if asked.known:  # from time to time, to know that the other side is still there
            return asked.since + self.timing.silence_s / 3
        return asked.since + self.patience_s

    def _learn(self, asked: _Asked, now: float) -> None:
        """How long an answer took, where that can be told."""
        if not asked.timed or asked.first is None:
            return
        if asked.times > 1 and asked.since is not None and now - asked.since >= self._fastest:
            return
        took_s = now - asked.first
        self._backed_off = 0
        self._fastest = min(self._fastest, took_s)
        if self._smoothed is None:
            self._smoothed, self._varies = took_s, took_s / 2
        else:
            self._varies += (abs(self._smoothed - took_s) - self._varies) / 4
            self._smoothed += (took_s - self._smoothed) / 8
        step = 1.0 if self._width < self._threshold else 1 / self._width
        queued = took_s - self._fastest > self.timing.queue_s
        self._width = min(max(self._width - step if queued else self._width + step, 1.0), float(self.timing.widest))

    def _narrow(self, now: float) -> None:
        if now - self._narrowed >= self.patience_s:  # what was lost at once counts once
            self._threshold = max(self._width / 2, 1.0)
            self._width, self._narrowed = self._threshold, now
            self._backed_off = min(self._backed_off + 1, 16)


@dataclass(frozen=True)
class Known:
    """A request that was asked before: its answer, or None while it is worked on."""

    answer: bytes | None


class Docket:
    """What has been asked of one side lately.

    Parameters
    ----------
    keep_s:
        How long answers are kept; no older request may be given to it.
    most:
        Of one party. The oldest gives way, so a party that asks for more in this time may have a thing done twice:
        what it asks for must then bear that, as letters do by their numbers.
    """

    def __init__(self, keep_s: float, most: int = 4096) -> None:
        self._keep_s = keep_s
        self._most = most
        self._done: defaultdict[str, OrderedDict[bytes, tuple[float, bytes]]] = defaultdict(OrderedDict)
        self._open: defaultdict[str, set[bytes]] = defaultdict(set)

    def look(self, party: str, number: bytes) -> Known | None:
        """What is known of a request; None where it is new."""
        if number in self._open.get(party, ()):
            return Known(None)
        found = self._done[party].get(number) if party in self._done else None
        return None if found is None else Known(found[1])

    def begin(self, party: str, number: bytes) -> None:
        """It is worked on."""
        self._open[party].add(number)

    def end(self, party: str, number: bytes, now: float, answer: bytes | None = None) -> None:
        """It is done; its answer, where the request must not be carried out a second time, else None."""
        self._open[party].discard(number)
        if not self._open[party]:
            del self._open[party]
        if answer is None:
            return
        done = self._done[party]
        done[number] = (now, answer)
        while done and (len(done) > self._most or next(iter(done.values()))[0] <= now - self._keep_s):
            done.popitem(last=False)

    def under_way(self, party: str) -> int:
        """How many requests of a party are worked on."""
        return len(self._open.get(party, ()))
