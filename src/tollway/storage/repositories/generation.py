"""One number that rises with every administrative change, in the change's own transaction: a running
server polls it to notice what the command line or another process did."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tollway.errors import Conflict
from tollway.storage.columns import insert
from tollway.storage.engine import Database
from tollway.storage.tables import generation

_NAME = "admin"
_READ = select(generation.c.number).where(generation.c.name == _NAME)


class Stale(Conflict):
    """What was to be replaced is not what it was when it was read: read it again."""


def bump(connection: Connection) -> None:
    """Called inside every transaction that changes what a running server must know."""
    first = insert(connection, generation).values(name=_NAME, number=1)
    connection.execute(
        first.on_conflict_do_update(
            index_elements=[generation.c.name], set_={"number": generation.c.number + 1}
        )
    )


def current(connection: Connection) -> int:
    """0 before the first change."""
    return connection.execute(_READ).scalar() or 0


class Generation:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def current(self) -> int:
        """0 before the first change. Raises StoreUnavailable."""
        return await self._database.read(current, deadline=2.0)
