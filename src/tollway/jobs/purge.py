"""Deletes what has outlived its retention: bodies of requests, responses, and events where the operator set a limit.
Money stays known: the daily roll-ups are never deleted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from tollway.config.settings import LogSettings
from tollway.errors import StoreUnavailable
from tollway.storage.repositories.bodies import Bodies
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.responses import Responses

_log = logging.getLogger(__name__)

STEP = 500
"""Rows deleted in one transaction, so that the ledger's own writes wait a few milliseconds at most."""

PAUSE = 0.05
EVERY = 3600.0


class Purge:
    """``clock`` gives Unix seconds. Events go by whole UTC days, so that reports keep whole days too."""

    def __init__(
        self,
        bodies: Bodies,
        events: Events,
        settings: LogSettings,
        clock: Callable[[], float],
        responses: Responses | None = None,
    ) -> None:
        self._responses = responses
        self._bodies = bodies
        self._events = events
        self._settings = settings
        self._clock = clock

    async def run(self, sure: Callable[[], None] = lambda: None) -> None:
        """Once an hour, until cancelled. A database that is away is left for the next hour. ``sure`` is called before
        each transaction and raises when another process may be at this work by now."""
        while True:
            try:
                await self.once(sure)
            except StoreUnavailable as error:
                _log.warning("nothing was purged: %s", error.message)
            await asyncio.sleep(EVERY)

    async def once(self, sure: Callable[[], None] = lambda: None) -> tuple[int, int]:
        """Delete everything that is due; returns how many bodies and how many events. Raises
        StoreUnavailable."""
        now = self._clock()
        bodies = await _in_steps(lambda: self._bodies.purge(now, STEP), sure)
        responses = self._responses
        if responses is not None:
            await _in_steps(lambda: responses.purge(now, STEP), sure)
        await self._purge_hours(sure)
        kept = self._settings.events_retention
        if kept is None:
            return bodies, 0
        before = datetime.fromtimestamp(now - kept, UTC).date().isoformat()
        return bodies, await _in_steps(lambda: self._events.purge(before, STEP), sure)

    async def _purge_hours(self, sure: Callable[[], None]) -> None:
        before = (
            datetime.fromtimestamp(self._clock() - self._settings.hours_retention, UTC).date().isoformat()
        )
        while True:
            sure()
            if not await self._events.purge_hours(before):
                return
            await asyncio.sleep(PAUSE)


async def _in_steps(step: Callable[[], Awaitable[int]], sure: Callable[[], None]) -> int:
    total = 0
    while True:
        sure()
        done = await step()
        total += done
        if done < STEP:
            return total
        await asyncio.sleep(PAUSE)
