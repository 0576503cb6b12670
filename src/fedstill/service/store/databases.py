"""From a URL to a database that is set up as a store needs it, and its failures in words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError

from fedstill.errors import ConfigError, MissingExtra

BUSY_S = 30
"""How long a transaction waits for another process before it gives up."""
IDLE_S = 60
"""PostgreSQL ends a transaction in which nothing was said for so long: its process may be frozen, others wait."""

_FORMS = "It is like sqlite:////var/lib/fedstill/store.sqlite or postgresql://user:password@host/database"
_REMEDIES = {
    "disk is full": "Make room; what was written before is safe",
    "disk i/o error": "Look at the disk and at the room on it; what was written before is safe",
    "unable to open": "See that the folder exists and that this user may write in it",
    "readonly": "See that this user may write the file and in its folder",
    "not a database": "Name a file that does not exist yet, or a store of fedstill",
    "locked": f"Another process has been writing for over {BUSY_S} s; see that none hangs",
    "lock timeout": f"Another process has been writing for over {BUSY_S} s; see that none hangs",
    "connection": "See that the database server runs and that the URL fits it",
}


class StoreError(ConfigError):
    """The database cannot be reached, read or written as it is."""


@contextmanager
def failures(place: str) -> Iterator[None]:
    """Turn what a database driver raises into StoreError, where `place` says which database it is."""
    try:
        yield
    except DBAPIError as error:
        said = str(error.orig).strip().partition("\n")[0]
        remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in str(error.orig).lower()), "")
        raise StoreError(f"the database cannot be used: {said}", where=place, remedy=remedy) from error
    except UnicodeDecodeError as error:  # what SQLite says of damage can be damaged, too
        raise StoreError("the database is damaged", where=place, remedy="Restore it from a backup") from error


def engine(url: str) -> tuple[sa.Engine, str]:
    """Make an engine, which connects when it is first used, and say which database it is, without the password.

    Raises
    ------
    ConfigError
        Where the URL is of no database that a store can be.
    MissingExtra
        Where the driver of PostgreSQL is not installed.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):  # ValueError: of a port that is no number
        raise ConfigError("not the URL of a database", remedy=_FORMS) from None  # it may hold a password
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite":
        return _sqlite(parsed)
    if kind in ("postgresql", "postgres"):
        return _postgresql(parsed)
    raise ConfigError(f"a store cannot be in a database of the kind '{kind}'", remedy=_FORMS)


def _sqlite(url: sa.URL) -> tuple[sa.Engine, str]:
    if url.host or url.query:
        raise ConfigError(
            "the URL of a file has three slashes (four before an absolute path) and no options", remedy=_FORMS
        )
    if url.database in (None, "", ":memory:"):
        raise ConfigError("a store in memory would forget everything", where=str(url), remedy=_FORMS)
    made = sa.create_engine(url.set(drivername="sqlite"), connect_args={"timeout": BUSY_S})

    @sa.event.listens_for(made, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # `begin` below says BEGIN, not the driver
        if _journal(connection) != "wal":
            raise ConfigError(
                "the file system cannot hold a write-ahead log", where=str(url.database), remedy="Use a local disk"
            )
        for setting in ("synchronous = FULL", "fullfsync = ON", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {setting}")

    @sa.event.listens_for(made, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return made, str(url.database)


def _journal(connection: sqlite3.Connection) -> str:
    """Set the write-ahead log. SQLite does not wait by itself while another process sets it for the first time."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            return mode
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _postgresql(url: sa.URL) -> tuple[sa.Engine, str]:
    # Without a password and without the query, which may hold one.
    place = url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
    try:
        made = sa.create_engine(
            url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args={"connect_timeout": 10}
        )
    except ImportError as error:
        raise MissingExtra(
            "the driver of PostgreSQL is not installed", where=place, remedy='Run: pip install "psycopg[binary]"'
        ) from error

    @sa.event.listens_for(made, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.execute(f"SET lock_timeout = '{BUSY_S}s'")
        connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_S}s'")
        connection.commit()

    return made, place
