"""What its owner lets a participant do on this machine: the table `[work]` of participant.toml."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from fedstill.errors import ConfigError

DAY_S = 86_400


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[work]`.

    Attributes
    ----------
    approve:
        "ask": no release leaves before its owner has approved it. "always": they leave by themselves.
    accept:
        Terms of a further run. "ask": its owner has to accept them. "same": those that differ from the accepted ones in
        the run's number alone are accepted.
    hours:
        Local times between which it may train, as "18:00-06:00"; none: at any time.
    threads:
        The most threads that numeric libraries may use. With 1, models are the same, byte for byte, everywhere. A
        learner that has an option `threads` takes that one.
    memory_mb:
        The most memory that the process may hold, 10^6 bytes; on Linux alone.
    bandwidth_kb_per_s:
        The mean rate at which payloads may travel, 10^3 bytes a second each way.
    """

    approve: Literal["always", "ask"] = "always"
    accept: Literal["ask", "same"] = "ask"
    hours: tuple[str, ...] = ()
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    memory_mb: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = None
    bandwidth_kb_per_s: Annotated[float, msgspec.Meta(gt=0, le=10**9)] | None = None


@dataclass(frozen=True)
class Hours:
    """Times of the day, as pairs of seconds since midnight; the second of a pair may be of the next day."""

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def read(cls, texts: Sequence[str], where: str = "hours") -> Hours:
        """Read texts such as "18:00-06:00". Raises ConfigError."""
        return cls(tuple(_span(text, where) for text in texts))

    def closed_s(self, at: float) -> float:
        """Seconds from `at` (Unix time) until it may train, by this machine's local time; 0 where it may now."""
        local = datetime.fromtimestamp(at)
        now = 3600 * local.hour + 60 * local.minute + local.second + local.microsecond / 1e6
        if not self.spans or any((now - start) % DAY_S < (end - start) for start, end in self.spans):
            return 0.0
        return min((start - now) % DAY_S for start, _ in self.spans)


def _span(text: str, where: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", text)
    hours_and_minutes = [int(part) for part in found.groups()] if found else [99] * 4
    start, end = (3600 * hour + 60 * minute for hour, minute in (hours_and_minutes[:2], hours_and_minutes[2:]))
    if max(hours_and_minutes[1::2]) > 59 or start >= DAY_S or end > DAY_S or start == end:
        raise ConfigError(
            f"'{text}' is no span of hours",
            where=where,
            remedy='Write it as "18:00-06:00", by this machine\'s local time; leave hours out for the whole day',
        )
    return start, end if end > start else end + DAY_S


def limit_memory(megabytes: int, where: str = "memory_mb") -> None:
    """Let this process hold no more memory than that (10^6 bytes); whatever needs more gets a MemoryError.

    What counts is what Linux calls data: all that is private and can be written, whether it has been used or not.

    Raises
    ------
    ConfigError
        Where the system knows no such limit, or the process holds more already.
    """
    if sys.platform != "linux":
        raise ConfigError(
            "the memory of a process can be limited on Linux alone",
            where=where,
            remedy="Take memory_mb out, and let a container or the service manager limit it",
        )
    import resource

    limit = megabytes * 10**6
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    if held >= limit:
        raise ConfigError(
            f"the participant holds {-(-held // 10**6)} MB before any training, and {megabytes} MB are allowed",
            where=where,
            remedy="Allow more, several times as much",
        )
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
