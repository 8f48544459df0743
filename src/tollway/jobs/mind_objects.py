"""Looks after the objects of clients: writes what the database did not take at once, asks providers how their unsettled
batches are, forgets what has expired.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from tollway.errors import StoreUnavailable
from tollway.model.artifact import Artifact

log = logging.getLogger("tollway.objects")

FLUSH = 2.0
ASK = 60.0
PURGE = 3600.0
STEP = 500


class Kept(Protocol):
    async def flush(self) -> None: ...


class Rows(Protocol):
    async def unsettled(self, kind: str, local: bool) -> list[Artifact]: ...

    async def purge(self, now: float, most: int) -> int: ...


class MindObjects:
    """``ask`` brings one object up to date; ``wall_clock`` gives Unix seconds. ``run`` and ``lead`` go on until
    cancelled."""

    def __init__(
        self,
        kept: Kept,
        rows: Rows,
        ask: Callable[[Artifact], Awaitable[object]],
        wall_clock: Callable[[], float],
    ) -> None:
        self._kept = kept
        self._rows = rows
        self._ask = ask
        self._wall_clock = wall_clock

    async def run(self) -> None:
        """Write what waits. Every process has its own."""
        while True:
            await asyncio.sleep(FLUSH)
            try:
                await self._kept.flush()
            except StoreUnavailable as error:
                log.warning("objects wait for the database: %s", error)

    async def lead(self, sure: Callable[[], None] = lambda: None) -> None:
        """What one process does for all. ``sure`` raises when it may be another's work by now."""
        turns = 0
        while True:
            await asyncio.sleep(ASK)
            turns += 1
            try:
                sure()
                await self.settle()
                if turns % int(PURGE / ASK) == 0:
                    await self.purge(sure)
            except StoreUnavailable as error:
                log.warning("objects wait for the database: %s", error)

    async def purge(self, sure: Callable[[], None] = lambda: None) -> int:
        """Forget objects that their providers have let expire; returns how many. Raises StoreUnavailable."""
        total = 0
        for _ in range(1_000):
            sure()
            done = await self._rows.purge(self._wall_clock(), STEP)
            total += done
            if done < STEP:
                break
            await asyncio.sleep(0.05)
        return total

    async def settle(self) -> None:
        """Ask after every batch at a provider whose cost is not known yet. Raises StoreUnavailable."""
        for artifact in await self._rows.unsettled("batch", local=False):
            await self._ask(artifact)
