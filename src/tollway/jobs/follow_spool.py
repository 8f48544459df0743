"""The loop that carries records out of the spool: read a batch, hand it on, remember the position, begin
again.

What is done with a batch is the subclass's. The spool's files are the queue: nothing is held here but one
batch, and whatever fails is read again later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from tollway.errors import StoreUnavailable
from tollway.storage.spool import BEGINNING, Position, Spool

_log = logging.getLogger(__name__)

BATCH_RECORDS = 256
BATCH_BYTES = 256 * 1024
PAUSE = 0.2
LOOKS = 8
"""Seconds a batch may take to gather, and how often meanwhile is looked whether it is full. Requests never wake this
loop: the spool's end is the sign."""

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
"""Seconds to wait after a failure, doubled up to the longest."""


Record = TypeVar("Record")


class Again(Exception):
    """The remembered position is out of date: ask for it again. Not a failure."""


class Follower(ABC, Generic[Record]):
    """``clock`` counts seconds (monotonic). ``degraded`` says what is wrong, None when nothing is.

    ``run`` and ``drain`` may be awaited at the same time; one batch is carried at a time.
    """

    what: str

    def __init__(self, spool: Spool, clock: Callable[[], float] = time.monotonic) -> None:
        self._spool = spool
        self._clock = clock
        self._position: Position | None = None
        self._carrying = asyncio.Lock()
        self._stopping = False
        self._failure = ""
        self._failing_since = 0.0
        self.failures = 0

    @abstractmethod
    async def _stored_position(self) -> Position: ...

    @abstractmethod
    async def _rewind(self) -> None:
        """Store ``BEGINNING``: the stored position lies past the spool's end, since an older copy of the
        spool was put back. What was carried before is told by the events' ids."""

    @abstractmethod
    async def _carry(self, records: Sequence[Record], before: Position, after: Position) -> None:
        """Hand a batch on and store ``after``. Raises StoreUnavailable or OSError when it did not work,
        Again when the stored position turns out not to be ``before``."""

    @abstractmethod
    def _read(self, before: Position) -> tuple[Sequence[Record], Position]:
        """The next batch, at most a few hundred KB, and the position after it."""

    def _many(self) -> bool:
        """Whether a full batch waits."""
        return self._position is not None and self._spool.backlog(self._position) >= BATCH_BYTES

    @property
    def degraded(self) -> str | None:
        if not self._failure:
            return None
        return (
            f"{self._failure} Since {self._clock() - self._failing_since:.0f} s events wait in "
            f"{self._spool.directory}; none is lost."
        )

    @property
    def position(self) -> Position | None:
        """Everything before it was handed on; None while that is not known."""
        return self._position

    def stop(self) -> None:
        """Make ``run`` return after the batch it carries."""
        self._stopping = True

    async def run(self) -> None:
        """Carry until stopped or cancelled. Failures are logged once, kept in ``degraded`` and tried
        again."""
        wait = FIRST_WAIT
        while not self._stopping:
            self._spool.retry()
            try:
                full = await self._step()
            except Again:
                continue
            except (StoreUnavailable, OSError) as error:
                self._failed(error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
                continue
            wait = FIRST_WAIT
            # A full batch means there is more; otherwise let some gather, unless many come at once.
            await asyncio.sleep(0)
            for _ in range(0 if full else LOOKS):
                await asyncio.sleep(PAUSE / LOOKS)
                if self._stopping or self._many():
                    break

    async def drain(self, seconds: float) -> bool:
        """Carry everything the spool holds now; False when that did not work within ``seconds``."""
        target = self._spool.end
        try:
            async with asyncio.timeout(seconds):
                while self._position is None or self._position < target:
                    self._spool.retry()
                    try:
                        await self._step()
                    except Again:
                        continue
                    except (StoreUnavailable, OSError) as error:
                        self._failed(error)
                        await asyncio.sleep(FIRST_WAIT)
        except TimeoutError:
            return False
        return True

    async def _step(self) -> bool:
        """Carry one batch; True when it was full."""
        async with self._carrying:
            before = await self._known_position()
            records, after = self._read(before)
            if after != before:
                # Unknown until it is done: a failure, or a cancelled wait, may still end in a commit.
                self._position = None
                await self._carry(records, before, after)
            self._position = after
            self._worked()
            return len(records) >= BATCH_RECORDS or self._spool.backlog(after) >= BATCH_BYTES

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[Position]:
        """Carry nothing meanwhile: everything before the position was handed on, nothing behind it.
        Raises what looking up the position raises."""
        async with self._carrying:
            self._position = await self._known_position()
            yield self._position

    async def _known_position(self) -> Position:
        if self._position is not None:
            return self._position
        stored = await self._stored_position()
        if stored > self._spool.end:
            await self._rewind()
            return BEGINNING
        return stored

    def _failed(self, error: StoreUnavailable | OSError) -> None:
        self.failures += 1
        text = error.message if isinstance(error, StoreUnavailable) else f"{self.what}: {error}."
        if not self._failure:
            self._failing_since = self._clock()
            _log.error("%s Events wait in the spool until it works again.", text)
        self._failure = text

    def _worked(self) -> None:
        if self._failure:
            _log.info("%s works again after %.0f s", self.what, self._clock() - self._failing_since)
            self._failure = ""
