"""Creates and upgrades the tables of a store. A new revision is a file in `versions`; no ini file is needed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from fedstill.errors import ConfigError

_LOCK = 0x66656473  # any number that all processes of fedstill agree on


def upgrade(connection: sa.Connection, place: str) -> None:
    """Bring the tables to this version, within the transaction of the connection.

    Parameters
    ----------
    connection:
        In a transaction that lets nobody else write, on SQLite; on PostgreSQL a lock is taken here.
    place:
        Which database it is, for errors.

    Raises
    ------
    ConfigError
        Where the tables are of a version that is not known here, or of another program.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    config = Config()
    config.set_main_option("script_location", "fedstill.service.store:migrations")
    scripts = ScriptDirectory.from_config(config)
    try:
        version = MigrationContext.configure(connection).get_current_revision()
    except CommandError as error:
        raise ConfigError(f"not the tables of fedstill: {error}", where=place) from error
    if version is not None and version not in {script.revision for script in scripts.walk_revisions()}:
        raise ConfigError(
            f"the tables are of the version '{version}', which this fedstill does not know",
            where=place,
            remedy="Upgrade fedstill, or name another database",
        )
    if version != scripts.get_current_head():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
