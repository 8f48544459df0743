"""Spools whose process will not come back: of workers beyond the number that serve now. Whoever gets hold of one
carries its events into the ledger, has them counted, and removes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from tollway.config.settings import SpoolSettings
from tollway.errors import StoreUnavailable
from tollway.storage.segments import segment_numbers
from tollway.storage.spool import Spool

log = logging.getLogger("tollway")

EVERY = 5.0
PATIENCE = 60.0

Carry = Callable[[Spool, float], Awaitable[bool]]
"""Bring everything in a spool where it belongs within some seconds; False when that did not work."""


class Orphans:
    """``directory`` holds the workers' spools, ``workers`` is how many there are; ``settle`` counts what a dead process
    had not reported, before ``carry`` empties the spool. Both may raise StoreUnavailable and are tried again."""

    def __init__(
        self,
        directory: Path,
        workers: int,
        settings: SpoolSettings,
        settle: Callable[[Spool], Awaitable[None]],
        carry: Carry,
    ) -> None:
        self._directory = directory
        self._workers = workers
        self._settings = settings
        self._settle = settle
        self._carry = carry

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            for directory in self.left():
                try:
                    await self.adopt(directory)
                except StoreUnavailable as error:
                    log.info("the events in %s wait: %s", directory, error.message)
                except OSError as error:
                    log.warning("the events in %s wait: %s", directory, error)
            await asyncio.sleep(EVERY)

    def left(self) -> list[Path]:
        """The spools of workers that are not started any more."""
        try:
            found = [one for one in self._directory.iterdir() if one.name.isdigit()]
        except OSError:
            return []
        return [one for one in sorted(found) if int(one.name) >= self._workers and segment_numbers(one)]

    async def adopt(self, directory: Path) -> None:
        """Raises StoreUnavailable while its process lives, or where its events cannot go."""
        spool = await asyncio.to_thread(Spool, directory, self._settings)
        done = False
        try:
            await self._settle(spool)
            done = await self._carry(spool, PATIENCE)
            if done:
                log.info("the events that a worker of old left in %s are recorded", directory)
        finally:
            await asyncio.to_thread(spool.close)
            if done:
                _remove(directory)


def _remove(directory: Path) -> None:
    """What was put aside as no event stays."""
    for number_file in directory.glob("*.spool"):
        number_file.unlink(missing_ok=True)
    if not (directory / "quarantine.ndjson").exists():
        for one in directory.iterdir():
            one.unlink(missing_ok=True)
        directory.rmdir()
