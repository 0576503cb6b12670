"""Files that are written whole or not at all: a reader, a crash or a full disk never leaves half of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path


def fill_whole(target: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a file beside `target`, then rename it.

    Raises
    ------
    OSError
        The folder cannot be written or the disk is full; nothing is left behind.
    """
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        fill(part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def write_whole(target: Path, data: bytes, *, private: bool = False) -> None:
    """Write bytes, on the disk when this returns; a private file only its owner can read, from the first byte on.

    Raises
    ------
    OSError
        As `fill_whole`.
    """

    def fill(part: Path) -> None:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    fill_whole(target, fill)
