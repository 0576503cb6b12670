"""Requests over a net that loses, copies and reorders: simulated, with a clock that nobody waits for."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstill.errors import LinkDown
from fedstill.transports.mqtt.window import FIRST_WIDTH, Docket, Timing, Window

TIMING = Timing()
PERFECT = (0.01, (0.02,))
"""What becomes of a message: when the broker confirms it (None: never), and when it arrives, each time that it does."""


class Net:
    """One who asks and one who answers, with a net between them.

    Parameters
    ----------
    fates:
        Of the first messages in either direction.
    after:
        Of all further ones.
    work_s:
        What the other side needs for a request.
    kept:
        Whether it keeps answers; where it does not, requests have to bear being carried out again.
    """

    def __init__(self, fates=(), after=PERFECT, work_s=0.0, kept=True, timing=TIMING):
        self.fates, self.after, self.work_s, self.kept = deque(fates), after, work_s, kept
        self.window, self.docket = Window(timing), Docket(600.0)
        self.now, self.events, self.order = 1000.0, [], itertools.count()
        self.effects, self.answers, self.sent = Counter(), Counter(), Counter()
        self.widest, self.down = 0, None
        self.busy_until = {"up": 0.0, "down": 0.0}

    def at(self, when, what, *arguments):
        heapq.heappush(self.events, (when, next(self.order), what, arguments))

    def carry(self, way, arrive, *arguments, confirm=None):
        confirmed, arrivals = self.fates.popleft() if self.fates else self.after
        if confirm is not None and confirmed is not None:
            self.at(self.now + confirmed, confirm)
        for delay in arrivals:
            self.at(self.now + delay, arrive, *arguments)

    def run(self, count):
        """Ask so many, each as soon as there is room; returns the seconds that it took."""
        numbers = [n.to_bytes(16, "big") for n in range(count)]
        waiting, began = deque(numbers), self.now
        while True:
            while waiting and self.window.room:
                self.window.ask(waiting[0], self.now)
                self.send(waiting.popleft())
            self.widest = max(self.widest, len(self.window._asked))
            wake = self.window.wake_at()
            if wake is None and not waiting:
                return self.now - began
            if self.events and self.events[0][0] <= wake:
                self.now, _, what, arguments = heapq.heappop(self.events)
                what(*arguments)
                continue
            self.now = wake
            try:
                for number in self.window.due(self.now):
                    self.send(number)
            except LinkDown as fault:
                self.down = fault
                return self.now - began

    def send(self, number):
        self.sent[number] += 1
        self.carry("up", self.arrives, number, confirm=lambda: self.window.taken(number, self.now))

    def arrives(self, number):
        known = self.docket.look("ann", number)
        if known is not None:
            self.carry("down", self.comes_back, number, known.answer is not None)
            return
        self.docket.begin("ann", number)
        self.at(self.now + self.work_s, self.finishes, number)

    def finishes(self, number):
        self.effects[number] += 1
        self.docket.end("ann", number, self.now, b"done" if self.kept else None)
        self.carry("down", self.comes_back, number, True)

    def comes_back(self, number, done):
        if self.window.heard(number, self.now, done=done) and done:
            self.answers[number] += 1


class SlowLine(Net):
    """Each direction carries one message after the other, each for some seconds, and loses none."""

    def __init__(self, up_s, down_s, **more):
        super().__init__(**more)
        self.takes = {"up": up_s, "down": down_s}

    def carry(self, way, arrive, *arguments, confirm=None):
        self.busy_until[way] = max(self.busy_until[way], self.now) + self.takes[way]
        if confirm is not None:
            self.at(self.busy_until[way], confirm)
        self.at(self.busy_until[way], arrive, *arguments)


delays = st.floats(0, 5)
fates = st.lists(
    st.one_of(
        st.just(PERFECT),
        st.just((0.01, ())),  # lost although the broker confirmed it
        st.just((None, ())),
        st.tuples(st.floats(0, 1), st.lists(delays, max_size=3)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(fates, st.integers(1, 30), st.sampled_from([0.0, 0.3, 4.0, 12.0]))
def test_everything_arrives_once_or_the_link_is_down_in_bounded_time(fates, count, work_s):
    net = Net(fates, work_s=work_s)
    took_s = net.run(count)
    assert set(net.effects.values()) <= {1}
    assert set(net.answers.values()) <= {1}
    assert net.down is not None or len(net.answers) == count
    # Something is heard at least every `silence_s`, and each fate can spoil no more than one time of hearing.
    assert took_s <= (len(fates) + count + 1) * TIMING.silence_s
    assert net.widest <= TIMING.widest or work_s > 0


@settings(deadline=None)
@given(fates, st.integers(1, 20))
def test_a_net_that_is_cut_is_noticed(fates, count):
    net = Net([*fates, PERFECT], after=(0.01, ()))
    took_s = net.run(count)
    assert (net.down is None) == (len(net.answers) == count)
    assert took_s <= (len(fates) + count + 2) * TIMING.silence_s


@settings(deadline=None)
@given(fates, st.integers(1, 20))
def test_without_kept_answers_a_request_is_still_answered_once(fates, count):
    net = Net(fates, kept=False)
    net.run(count)
    assert set(net.answers.values()) <= {1}
    assert net.down is not None or len(net.answers) == count


def test_a_cut_that_comes_first_takes_as_long_as_it_says():
    net = Net(after=(None, ()))
    assert net.run(5) == TIMING.silence_s
    assert "no answer for 30 s" in str(net.down)


def test_a_loss_costs_one_copy():
    net = Net([(0.01, ())])
    took_s = net.run(1)
    assert net.sent[bytes(16)] == 2
    assert took_s == pytest.approx(0.01 + TIMING.first_s + 0.04)


def test_nothing_is_copied_on_a_good_net():
    for delay in (0.0001, 0.1, 0.5, 0.9):
        net = Net(after=(delay, (delay,)))
        net.run(500)
        assert set(net.sent.values()) == {1}
        assert net.down is None


def test_the_window_opens_on_a_good_net():
    net = Net()
    assert net.run(1600) == pytest.approx(1600 / TIMING.widest * 0.04, rel=0.1)
    assert net.widest == TIMING.widest


@pytest.mark.parametrize(("up_s", "down_s"), [(3.0, 0.01), (0.01, 3.0), (3.0, 3.0), (20.0, 0.01), (0.01, 8.0)])
def test_a_slow_line_is_not_filled_with_copies(up_s, down_s):
    """A piece of 256 kB takes 3 s at 0.7 Mbit/s."""
    net = SlowLine(up_s, down_s)
    net.run(60)
    assert net.down is None
    assert len(net.answers) == 60
    assert net.sent.total() <= 60 * 1.2


def test_long_work_is_waited_for_as_long_as_the_other_side_says_so():
    net = Net(work_s=200.0)
    assert net.run(3) == pytest.approx(200, abs=10)
    assert set(net.effects.values()) == {1}
    assert max(net.sent.values()) < 200 / (TIMING.silence_s / 3) + 3


def test_what_is_worked_on_takes_no_room():
    window = Window(TIMING)
    for number in range(int(FIRST_WIDTH)):
        assert window.room
        window.ask(b"%d" % number, 0.0, timed=False)
    assert not window.room
    assert window.heard(b"0", 1.0, done=False)
    assert window.room


def test_nobody_is_heard_who_was_not_asked():
    window = Window(TIMING)
    assert not window.heard(b"x", 0.0, done=True)
    window.ask(b"x", 0.0)
    window.drop(b"x")
    assert not window.heard(b"x", 0.0, done=True)
    assert window.wake_at() is None
    assert window.due(1e9) == []


def test_a_poll_says_nothing_about_the_line():
    window = Window(TIMING)
    window.ask(b"poll", 0.0, timed=False)
    window.taken(b"poll", 0.0)
    window.heard(b"poll", 1.9, done=True)
    assert window.patience_s == TIMING.first_s


def test_a_docket_forgets_what_is_old_and_what_is_too_much():
    docket = Docket(keep_s=10.0, most=2)
    for n, number in enumerate([b"a", b"b", b"c"]):
        docket.begin("ann", number)
        assert docket.look("ann", number).answer is None
        assert docket.under_way("ann") == 1
        docket.end("ann", number, float(n), b"answer to " + number)
    assert docket.look("ann", b"a") is None
    assert docket.look("ann", b"b").answer == b"answer to b"
    assert docket.look("bob", b"b") is None
    docket.end("ann", b"d", 11.5, b"answer to d")
    assert docket.look("ann", b"b") is None
    assert docket.look("ann", b"c").answer == b"answer to c"
    assert docket.under_way("ann") == docket.under_way("bob") == 0
