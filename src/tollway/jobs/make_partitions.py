"""Makes the partitions of the coming months before their events come. Only PostgreSQL has any; whichever process comes
first makes them, the others find them made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tollway.errors import StoreUnavailable
from tollway.storage.engine import Database
from tollway.storage.partitions import coming, existing, make, partition

_log = logging.getLogger(__name__)

EVERY = 6 * 3600.0


class MakePartitions:
    """``clock`` gives Unix seconds."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Four times a day, until cancelled; on SQLite at once over. What is late is made when its first event
        comes."""
        while self._database.url.startswith("postgresql:"):
            try:
                await self.once()
            except StoreUnavailable as error:
                _log.warning("the months to come have no partitions yet: %s", error.message)
            await asyncio.sleep(EVERY)

    async def once(self) -> int:
        """Returns how many were made. Raises StoreUnavailable."""
        months = coming(self._clock())
        known = await self._database.read(existing)
        if {partition(month) for month in months} <= set(known):
            return 0
        return await self._database.write(lambda connection: make(connection, months))
