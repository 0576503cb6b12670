"""Files of SQLite that must not lose what they were told, and what is said where one cannot be used."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedstill.errors import DataError


def opened(path: Path, schema: str, *pragmas: str, patience_s: float = 5.0) -> sqlite3.Connection:
    """Open a file, made where there is none; what is committed is on the disk. Raises what `faults` translates."""
    connection = sqlite3.connect(path, patience_s, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", *pragmas):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(schema)
    except BaseException:
        connection.close()  # or its lock would last until somebody collects garbage
        raise
    return connection


@contextmanager
def faults(name: str, path: Path, warning: str) -> Iterator[None]:
    """Make what SQLite says of a file a DataError, with a warning of what must not happen now."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # what SQLite says of damage can be damaged, too
        remedy = f"Free some space, check its permissions, or restore it; {warning}"
        raise DataError(f"the {name} cannot be used: {error}", where=str(path), remedy=remedy) from None
