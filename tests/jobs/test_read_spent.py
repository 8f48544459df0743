"""What a key has spent is the same number wherever its events are: in the ledger, in the spool, or on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tollway.errors import StoreUnavailable
from tollway.jobs.read_spent import Since, spent
from tollway.jobs.write_ledger import LedgerWriter
from tollway.storage.engine import Database
from tollway.storage.repositories.events import Events
from tollway.storage.spool import Spool

WANTED = {
    "ever": Since("key_1"),
    "since": Since("key_1", "2026-11-11T00:00:00.000Z"),
    "other": Since("key_2"),
    "nobody": Since("key_9"),
}


def expected(count: int) -> dict[str, int]:
    """What the ``event`` fixture's first ``count`` events come to."""
    cost = {number: 100 + number for number in range(count)}
    return {
        "ever": sum(cost[n] for n in cost if n % 4 == 1),
        "since": sum(cost[n] for n in cost if n % 4 == 1 and n % 3 >= 1),
        "other": sum(cost[n] for n in cost if n % 4 == 2),
        "nobody": 0,
    }


@pytest.mark.parametrize("stored", [0, 300, 700])
async def test_ledger_and_spool_together(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None], stored: int
) -> None:
    ledger = LedgerWriter(spool, database)
    put(*(event(number) for number in range(stored)))
    assert await ledger.drain(10)
    put(*(event(number) for number in range(stored, 700)), b"not an event")
    assert await spent(WANTED, ledger, spool, Events(database)) == expected(700)


async def test_exact_while_events_arrive_and_are_carried(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None]
) -> None:
    ledger = LedgerWriter(spool, database)
    following = asyncio.create_task(ledger.run())
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            put(event(written))
            written += 1
            if written % 5 == 0:
                await asyncio.sleep(0.001)

    writing = asyncio.create_task(write())
    try:
        for _ in range(20):
            found = await spent(WANTED, ledger, spool, Events(database))
            assert found == expected(written)
            await asyncio.sleep(0.01)
        assert ledger.written > 0
    finally:
        writing.cancel()
        following.cancel()
        await asyncio.gather(writing, following, return_exceptions=True)


async def test_a_database_that_is_away_is_named(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None]
) -> None:
    ledger = LedgerWriter(spool, database)
    put(event(1))
    database.path.rename(database.path.with_suffix(".away"))
    with pytest.raises(StoreUnavailable, match="not available"):
        await spent(WANTED, ledger, spool, Events(database))
    database.path.with_suffix(".away").rename(database.path)
    assert (await spent(WANTED, ledger, spool, Events(database)))["ever"] == 101
