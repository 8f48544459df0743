"""Carries usage events from the spool to the log sinks, as they were spooled. A batch is repeated when the
process dies before its position is stored: sinks get each event at least once, and tell repeats by its id."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence

import msgspec

from tollway.jobs.follow_spool import BATCH_BYTES, BATCH_RECORDS, Follower
from tollway.sinks.interface import LogSink
from tollway.storage.spool import BEGINNING, Position, Spool


class SinkWriter(Follower[bytes]):
    """``holds``: the spool keeps what the sinks have not taken (service without a database). Beside a
    database a sink that does not keep up must not stop traffic: it misses segments, counted in
    ``Spool.overrun``.
    """

    what = "the log sinks"

    def __init__(
        self,
        spool: Spool,
        sinks: Sequence[LogSink],
        clock: Callable[[], float] = time.monotonic,
        *,
        holds: bool,
    ) -> None:
        super().__init__(spool, clock)
        self._sinks = sinks
        self._holds = holds
        self._path = spool.directory / "sinks.position"
        self._trying: Position | None = None
        self._done: set[int] = set()
        self._release(BEGINNING)

    async def _stored_position(self) -> Position:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Position)
        except (FileNotFoundError, msgspec.MsgspecError):
            return BEGINNING

    async def _rewind(self) -> None:
        await asyncio.to_thread(self._store, BEGINNING)

    def _read(self, before: Position) -> tuple[Sequence[bytes], Position]:
        return self._spool.read(before, BATCH_BYTES, BATCH_RECORDS)

    async def _carry(self, records: Sequence[bytes], before: Position, after: Position) -> None:
        if self._trying != before:
            self._trying, self._done = before, set()
        for number, sink in enumerate(self._sinks):
            # A batch tried again is not repeated to the sinks that took it.
            if records and number not in self._done:
                await sink.write(records)
                self._done.add(number)
        await asyncio.to_thread(self._store, after)
        self._release(after)

    def _store(self, position: Position) -> None:
        temporary = self._path.with_suffix(".position.tmp")
        temporary.write_bytes(msgspec.json.encode(position))
        os.replace(temporary, self._path)

    def _release(self, position: Position) -> None:
        self._spool.release(position, "sinks", soft=not self._holds)
