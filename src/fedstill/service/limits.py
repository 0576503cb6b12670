"""What one party, or a stranger, may ask of the coordinator before it says no."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, fields

from fedstill.errors import ConfigError
from fedstill.labels import Party
from fedstill.transports.letters import INLINE_BYTES, MAX_LETTER_BYTES

MAX_WAIT_S = 60.0
"""How long a request for letters may wait at most; what lies between often cuts connections that are silent longer."""


@dataclass(frozen=True)
class Limits:
    """Bounds on everything that comes from outside.

    Attributes
    ----------
    max_letter_bytes:
        Of a posted parcel: a letter and the payload beside it.
    max_payload_bytes:
        Of a payload that is uploaded.
    pending_bytes:
        Of all payloads that one party has uploaded, whole or in part, and no letter of it has named yet.
    requests_per_s, burst:
        Of one party: so many on average, and so many at once.
    enrolments_per_minute:
        Attempts to enrol from one address, and that many at once.
    connections:
        Open at the same time, of all.
    strangers:
        Open at the same time without a client certificate; they can never take the places of members.
    head_s:
        Until a request's headers are there, after the connection or the first byte.
    body_s:
        Until a small body is there; between two pieces of a payload.
    transfer_s:
        Until the body of one upload is there. What came until then stays, and the next goes on behind it.
    """

    max_letter_bytes: int = MAX_LETTER_BYTES + INLINE_BYTES + 1024
    max_payload_bytes: int = 512 * 2**20
    pending_bytes: int = 2**30
    requests_per_s: float = 50.0
    burst: int = 200
    enrolments_per_minute: float = 10.0
    connections: int = 2000
    strangers: int = 100
    head_s: float = 10.0
    body_s: float = 30.0
    transfer_s: float = 300.0

    def __post_init__(self) -> None:
        """Refuse limits under which nothing would ever come through. Raises ConfigError."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf or (field.type == "int" and value < 1):
                raise ConfigError(
                    f"{field.name} = {value} lets nothing through", where="limits", remedy="Use a positive number"
                )


class Pending:
    """What each party has uploaded and no letter of it has named yet: it could fill the disk and count for nothing.

    Parameters
    ----------
    max_bytes:
        Of one party. It is known for as long as this process lives.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sizes: dict[Party, dict[str, int]] = {}

    def begin(self, party: Party, digest: str, size: int) -> int:
        """A party uploads the first `size` bytes of a payload, or all of it.

        Returns
        -------
        0 where it may, and this is noted; else how many bytes it has uploaded already.
        """
        sizes = self._sizes.get(party, {})
        others = sum(sizes.values()) - sizes.get(digest, 0)
        if others and others + size > self._max_bytes:
            return others
        self._sizes.setdefault(party, {})[digest] = max(size, sizes.get(digest, 0))
        return 0

    def end(self, party: Party, digest: str) -> None:
        """A letter of the party names this payload."""
        sizes = self._sizes.get(party, {})
        sizes.pop(digest, None)
        if not sizes:
            self._sizes.pop(party, None)


class Buckets:
    """Token buckets, one for each key: `per_s` tokens flow into each until it holds `burst`; a request takes one.

    Parameters
    ----------
    per_s:
        Tokens a second.
    burst:
        Tokens that a bucket holds; it is full at first.
    keys:
        How many buckets there are at most. The one that was asked longest ago gives way, and would be full again when
        its key came back: whoever can show up under more keys than this is not held back.
    """

    def __init__(self, per_s: float, burst: float, keys: int = 10_000) -> None:
        self._per_s = per_s
        self._burst = max(burst, 1.0)
        self._keys = keys
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Take a token.

        Parameters
        ----------
        key:
            Whose bucket.
        now:
            Seconds by any clock that never goes back.

        Returns
        -------
        0 where there was one, else the seconds until there will be.
        """
        level, since = self._levels.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._per_s)
        wait = 0.0 if level >= 1 else (1 - level) / self._per_s
        self._levels[key] = (level if wait else level - 1, now)
        if len(self._levels) > self._keys:
            self._levels.popitem(last=False)
        return wait
