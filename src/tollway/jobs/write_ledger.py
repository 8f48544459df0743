"""Carries usage events from the spool into the database, each exactly once. Reads nothing into memory but
the batch in hand, and decides nothing about money."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import msgspec

from tollway.jobs.follow_spool import BATCH_BYTES, BATCH_RECORDS, Again, Follower
from tollway.storage.engine import Database
from tollway.storage.entries import Entry
from tollway.storage.repositories.ledger import TRANSACTION, Ledger, PositionMoved, read_entry
from tollway.storage.spool import BEGINNING, Position, Spool

_log = logging.getLogger(__name__)

_SLICE = 64
"""Events read before other tasks of the loop get their turn: about 0.15 ms."""


class LedgerWriter(Follower[tuple[bytes, object]]):
    """``written`` counts the events stored, ``duplicates`` those whose id was stored before, ``poisoned``
    records that are no usage event and were put aside in the spool's ``quarantine.ndjson``."""

    what = "the database"

    def __init__(self, spool: Spool, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(spool, clock)
        self._ledger = Ledger(database)
        self._put_aside: set[bytes] = set()
        self.written = self.duplicates = self.poisoned = 0
        spool.release(BEGINNING)
        spool.remember()

    async def _stored_position(self) -> Position:
        return await self._ledger.position(self._spool.id)

    async def _rewind(self) -> None:
        await self._ledger.forget(self._spool.id)

    def _read(self, before: Position) -> tuple[Sequence[tuple[bytes, object]], Position]:
        taken = self._spool.take(before, TRANSACTION)
        if taken is not None:
            return taken
        records, after = self._spool.read(before, BATCH_BYTES, BATCH_RECORDS)
        return [(record, None) for record in records], after

    async def _carry(
        self, records: Sequence[tuple[bytes, object]], before: Position, after: Position
    ) -> None:
        entries: list[Entry] = []
        read = 0
        for record, known in records:
            if isinstance(known, Entry):
                entries.append(known)
                continue
            read += 1
            if read % _SLICE == 0:
                await asyncio.sleep(0)
            try:
                entries.append(read_entry(record))
            except (msgspec.MsgspecError, ValueError) as error:
                self._quarantine(record, error)
        # A segment is used again only when its events would survive a power cut.
        leaving = after.segment != before.segment
        try:
            new = await self._ledger.append(entries, self._spool.id, before, after, durable=leaving)
        except PositionMoved as error:
            raise Again from error
        self.written += new
        self.duplicates += len(entries) - new
        self._put_aside.clear()
        self._spool.release(after)

    def _quarantine(self, record: bytes, error: Exception) -> None:
        # Before the commit, so that none is lost; remembered, so that a batch tried again does not repeat it.
        if record in self._put_aside:
            return
        self._spool.quarantine.put(record, f"not a usage event: {error}")
        self._put_aside.add(record)
        self.poisoned += 1
        _log.error("a spooled record is no usage event (%s) and was put aside", error)
