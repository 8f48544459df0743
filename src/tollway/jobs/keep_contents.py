"""Keeps what was asked and answered where the configuration wants it, apart from the money: a short queue,
written in batches. Under pressure contents are dropped and counted; events never pass here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from tollway.config.settings import LogSettings
from tollway.errors import StoreUnavailable
from tollway.storage.repositories.bodies import Bodies, Body

log = logging.getLogger("tollway.contents")

WAITING_BYTES = 16 * 1024 * 1024
BATCH = 200
EVERY = 0.5


class KeepContents:
    """``offer`` never waits; ``run`` writes until it is cancelled. ``wall_clock`` gives Unix seconds."""

    def __init__(self, bodies: Bodies, settings: LogSettings, wall_clock: Callable[[], float]) -> None:
        self.limit = settings.max_bytes
        self.dropped = 0
        self._bodies = bodies
        self._settings = settings
        self._wall_clock = wall_clock
        self._waiting: deque[Body] = deque()
        self._size = 0

    def wants(self, failed: bool) -> bool:
        return self._settings.bodies == "all" or (failed and self._settings.bodies == "errors")

    def offer(self, event_id: str, request: bytes, answer: bytes) -> None:
        request, answer = bytes(request[: self.limit]), bytes(answer[: self.limit])
        size = len(request) + len(answer)
        if self._size + size > WAITING_BYTES:
            self.dropped += 1
            return
        self._size += size
        expires_at = self._wall_clock() + self._settings.retention
        self._waiting.append(Body(event_id=event_id, request=request, response=answer, expires_at=expires_at))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self.flush()

    async def flush(self) -> None:
        while self._waiting:
            batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
            try:
                await self._bodies.add(batch)
            except StoreUnavailable as error:
                log.warning("request contents wait for the database: %s", error)
                return
            for body in batch:
                self._waiting.popleft()
                self._size -= len(body.request or b"") + len(body.response or b"")
