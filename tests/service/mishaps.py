"""What goes wrong in a schedule: drawn from its seed before it begins, each at its time, until all is well again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedstill.transports.mqtt.frames import Post

if TYPE_CHECKING:
    from simulation import Machine, World

DAYS_S = 86_400.0
KINDS = {  # with how likely each is
    "kill": 6.0,
    "power": 2.0,
    "freeze": 3.0,
    "cut": 2.0,
    "slow": 1.0,
    "lossy": 2.0,
    "repeat": 2.0,
    "mix": 1.5,
    "full": 2.0,
    "gone": 3.0,
    "sluggish": 1.0,
    "nonsense": 2.0,
    "replay": 2.0,
    "clock": 1.5,
    "days": 0.3,
    "turn_over": 3.0,
}
WITHIN_S = 45.0
"""About as long as a run without faults takes."""


@dataclass
class Mishaps:
    """Arranges what goes wrong in a world.

    Attributes
    ----------
    calm_s:
        When all is well again.
    back_s:
        When the last one is back who was away for days.
    """

    world: World
    chance: random.Random
    calm_s: float = 0.0
    back_s: float = 0.0

    def arrange(self) -> None:
        """Some schedules are rough, some smooth."""
        chance = self.chance
        leads = {"turn_over": 0.0} if len(self.world.seats) == 1 else {"days": 0.0}
        kinds = {**KINDS, **leads}
        for _ in range(chance.randrange(1, 13)):
            at = chance.uniform(0, WITHIN_S)
            kind = chance.choices(tuple(kinds), tuple(kinds.values()))[0]
            self._later(at, getattr(self, kind))
            self.calm_s = max(self.calm_s, at)
        self.calm_s += chance.choice((5.0, 60.0))
        self._later(self.calm_s, self.calm)

    def calm(self) -> None:
        """All is well from now on."""
        world = self.world
        for machine in world.machines:
            machine.mended()
            if machine.process is not None:
                machine.process.thaw()
        for weather in world.weather.values():
            weather.__init__()  # type: ignore[misc]

    # ---- processes and machines

    def kill(self) -> None:
        machine = self._somebody()
        machine.away_s = self.chance.expovariate(1 / 5)
        if machine.process is not None:
            machine.process.fuse = self.chance.choice((0, self.chance.randrange(12), self.chance.randrange(60)))
            if self.chance.random() < 0.2:
                machine.process.kill()
        self._noted("kill")

    def power(self) -> None:
        machine = self._somebody()
        if machine.process is not None and (machine.name in self.world.weather or len(self.world.seats) == 1):
            machine.process.power = True
            machine.process.fuse = self.chance.randrange(30)
            machine.away_s = self.chance.expovariate(1 / 30)
            self._noted("power")

    def freeze(self) -> None:
        machine = self._somebody()
        process = machine.process
        if process is not None and process.frozen is None and not process.dead:
            process.freeze()
            self._for(self.chance.choice((1.0, 20.0, 200.0)), process.thaw)
            self._noted("freeze")

    def days(self) -> None:
        machine = self.world.homes[self.chance.choice(sorted(self.world.homes))]
        machine.away_s = self.chance.uniform(0.5, 3) * DAYS_S
        if machine.process is not None and not machine.finished:
            self.back_s = max(self.back_s, self.world.loop.time() + machine.away_s)
            machine.process.kill()
            self._noted("days")

    def turn_over(self) -> None:
        """The address leads to another coordinator, which may not lead."""
        self.world.reaches = self.chance.randrange(len(self.world.seats))
        self._noted("turn_over")

    def clock(self) -> None:
        machine = self._somebody()
        machine.skew_s += self.chance.uniform(-1, 1) * self.chance.choice((1.0, 100.0, 100_000.0))
        self._noted("clock")

    # ---- disks and databases

    def full(self) -> None:
        self._blow("full")

    def gone(self) -> None:
        self._blow("gone")

    def sluggish(self) -> None:
        disk = self._somebody().disk
        disk.slow = self.chance.choice((0.01, 0.3, 5.0))
        self._for(60.0, lambda: setattr(disk, "slow", 0.0))
        self._noted("sluggish")

    def _blow(self, what: str) -> None:
        machine = self._somebody()
        if machine.process is not None:
            machine.process.blow = (self.chance.choice((0, self.chance.randrange(30))), what)
            self._for(self.chance.choice((1.0, 30.0, 120.0)), machine.mended)
            self._noted(what)

    # ---- the network

    def cut(self) -> None:
        weather = self.world.weather[self._party()]
        weather.cut = True
        self._for(self.chance.choice((1.0, 30.0, 200.0)), lambda: setattr(weather, "cut", False))
        self._noted("cut")

    def slow(self) -> None:
        self.world.weather[self._party()].latency_s = self.chance.choice((1.0, 10.0, 50.0, 100.0))
        self._noted("slow")

    def lossy(self) -> None:
        for weather in self.world.weather.values():
            weather.lost = self.chance.uniform(0, 0.7)
        self._noted("lossy")

    def repeat(self) -> None:
        for weather in self.world.weather.values():
            weather.repeated = self.chance.uniform(0, 0.7)
        self._noted("repeat")

    def mix(self) -> None:
        self.world.weather[self._party()].mixed = self.chance.uniform(0, 0.8)
        self._noted("mix")

    def nonsense(self) -> None:
        """Somebody posts in a participant's name what is not its own letter."""
        name, chance = self._party(), self.chance
        nothing = chance.randbytes(chance.choice((0, 4, 200, 4097)))
        attacks = [(name, Post(chance.choice((b"", b"FSl1")) + nothing, nothing))]
        if self.world.posts:
            sender, post = chance.choice(self.world.posts)
            letter, payload = post.letter, post.payload
            spoilt = bytearray(letter)
            spoilt[chance.randrange(len(letter))] ^= 1 + chance.randrange(255)
            other = chance.choice([name for name in self.world.homes if name != sender])
            attacks += [(other, post), (sender, Post(bytes(spoilt), payload))]
            if payload:
                attacks.append((sender, Post(letter, payload + b"!")))
        self.world.attacked(*chance.choice(attacks))
        self._noted("nonsense")

    def replay(self) -> None:
        """A letter of long ago arrives once more."""
        if self.world.posts:
            self.world.again(*self.chance.choice(self.world.posts))
            self._noted("replay")

    # ---- how

    def _somebody(self) -> Machine:
        machines = self.world.machines
        seats = len(self.world.seats)
        return self.chance.choices(machines, [2.0 / seats] * seats + [1.0] * (len(machines) - seats))[0]

    def _party(self) -> str:
        return self.chance.choice(sorted(self.world.homes))

    def _for(self, seconds: float, end: Callable[[], object]) -> None:
        self._later(seconds * self.chance.uniform(0.2, 1.5), end)

    def _later(self, delay: float, what: Callable[[], object]) -> None:
        self.world.loop.call_later(delay, what)

    def _noted(self, what: str) -> None:
        self.world.counts[what] += 1
