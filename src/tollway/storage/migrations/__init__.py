"""Bringing a database to this version's schema, without importing Alembic where nothing has to change.

An empty SQLite file is made straight from the tables and stamped; everything else is done by Alembic in a
process of its own, so that neither its memory nor its start-up time stay with the server.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect

from tollway.errors import StoreUnavailable

if TYPE_CHECKING:
    from tollway.storage.engine import Database

_log = logging.getLogger(__name__)

HEAD = "0003"
"""The newest file in ``versions/``. Numbers rise, so that an older program knows a newer schema when it
meets one."""

URL_VARIABLE = "TOLLWAY_MIGRATE_URL"
"""How the process that migrates is told where."""

_UPGRADE_SECONDS = 600.0


def version(connection: Connection) -> str | None:
    """The schema's version, by plain SQL; None for a database without tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


async def upgrade(database: Database) -> bool:
    """See ``Database.migrate``."""
    found = await database.read(version)
    if found == HEAD:
        return False
    if found is None and database.url.startswith("sqlite:"):
        return await database.write(_create)
    if found is not None and found > HEAD:
        # A newer version only adds; it keeps what this one needs.
        _log.warning("the database is at version %s, this program knows %s", found, HEAD)
        return False
    await upgrade_apart(database)
    return True


def _create(connection: Connection) -> bool:
    from tollway.storage.tables import metadata

    if version(connection) is not None:
        return False
    metadata.create_all(connection)
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (HEAD,))
    return True


async def upgrade_apart(database: Database) -> None:
    """Run Alembic in a process of its own. Raises StoreUnavailable with its last word when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tollway.storage.migrate",
        # Not as an argument: anybody may read those, and the password with them.
        env={**os.environ, URL_VARIABLE: database.url},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _UPGRADE_SECONDS)
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise StoreUnavailable(
            f"The database {database.name} was not upgraded within {_UPGRADE_SECONDS:g} s."
        ) from error
    if process.returncode != 0:
        last = output.decode(errors="replace").strip().rpartition("\n")[2]
        raise StoreUnavailable(f"The database {database.name} could not be upgraded: {last}")
    await database.reconnect()
