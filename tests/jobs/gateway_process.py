"""A process to be killed: it spools events as fast as it can, prints each id once the event is durable,
and carries the events to the database all the while. Arguments: directory, first number, whether to write
the ledger too."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tollway.config.settings import SpoolSettings
from tollway.storage.spool import Spool

EVENT = (
    '{"id":"ue_%08d","request_id":"r%d","time":"2026-11-2%dT10:00:00.000Z","key":"k%d","key_id":"key_%d",'
    '"endpoint":"chat.completions","model":"fast","provider":"openai","upstream_model":"m","deployment":"d",'
    '"status":200,"outcome":"ok","usage":{"input":%d,"output":2},"cost_nano_usd":%d}'
)


async def carry(drain: Callable[[float], Awaitable[bool]]) -> None:
    while await drain(5):
        await asyncio.sleep(0.001)


async def main(directory: Path, first: int, writes: bool) -> None:
    settings = SpoolSettings(segment_bytes=128 * 1024, max_bytes=128 * 1024 * 1024, fsync=0.05)
    spool = Spool(directory / "spool", settings)
    tasks = []
    if writes:
        # Only then: half of the time of a round would go into these imports.
        from tollway.jobs.write_ledger import LedgerWriter
        from tollway.storage.engine import Database

        ledger = LedgerWriter(spool, Database.open("sqlite:///ledger.db", directory))
        tasks.append(asyncio.create_task(carry(ledger.drain)))
    number = first
    while not any(task.done() for task in tasks):
        for _ in range(20):
            day, key = number % 5, number % 3
            spool.enter()
            spool.append((EVENT % (number, number, day, key, key, number, number)).encode())
            spool.leave()
            os.write(1, b"%d\n" % number)
            number += 1
        await asyncio.sleep(0)


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "writes"))
