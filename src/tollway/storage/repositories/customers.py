"""End users that the ledger has seen. They need not be declared, and still have budgets where the configuration gives
every one of them one."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tollway.storage.engine import Database
from tollway.storage.tables import rollups

MOST = 100_000
"""Remembered at a start; who spent before the others is left out where there are more."""


async def seen(database: Database, since: str) -> list[str]:
    """Their ids, of those who used anything since a UTC day (``2026-11-22``). Raises StoreUnavailable."""
    query = (
        select(rollups.c.customer)
        .where(rollups.c.day >= since, rollups.c.customer != "")
        .group_by(rollups.c.customer)
        .limit(MOST)
    )

    def look(connection: Connection) -> list[str]:
        return [str(found) for found in connection.execute(query).scalars()]

    return await database.read(look)
