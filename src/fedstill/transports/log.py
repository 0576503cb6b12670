"""The log of a run's events on disk: appended as they happen, read back to replay the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from fedstill import wire
from fedstill.errors import WireError
from fedstill.messages import Answer, Refuse
from fedstill.round import Effect, Event, Received, Started, Ticked

_LENGTH_BYTES = 4
_BARE: dict[str, type[Started | Ticked]] = {"started": Started, "ticked": Ticked}


class EventLog:
    """Appends events to a file; hand `write` to a run as its observer.

    Each record is a length of four bytes, little-endian, and MessagePack of `[kind, now, frame]`.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")

    def write(self, seen: Event | Effect) -> None:
        """Append an event; effects are passed over, because they follow from events."""
        if isinstance(seen, Received):
            record = ("received", seen.now, wire.encode(seen.reply))
        elif isinstance(seen, Started | Ticked):
            record = (type(seen).__name__.lower(), seen.now, b"")
        else:
            return
        body = msgspec.msgpack.encode(record)
        self._file.write(len(body).to_bytes(_LENGTH_BYTES, "little") + body)
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_events(path: Path) -> Iterator[Event]:
    """Read the events of a log. A record cut off at the end, as a crash leaves it, ends the log.

    Raises
    ------
    WireError
        Where a record is damaged.
    """
    data = path.read_bytes()
    at = 0
    while at + _LENGTH_BYTES <= len(data):
        stop = at + _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
        if stop > len(data):
            return
        yield _event(data[at + _LENGTH_BYTES : stop])
        at = stop


def _event(body: bytes) -> Event:
    try:
        kind, now, frame = msgspec.msgpack.decode(body, type=tuple[str, float, bytes])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"the event log is damaged: {error}") from None
    if kind in _BARE:
        return _BARE[kind](now)
    reply = wire.decode(frame) if kind == "received" else None
    if not isinstance(reply, Answer | Refuse):
        raise WireError(f"the event log holds a '{kind[:20]}' that is no reply")
    return Received(reply, now)
