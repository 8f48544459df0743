from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tollway.jobs.make_partitions import MakePartitions
from tollway.storage.engine import Database
from tollway.storage.partitions import existing

NOW = datetime(2026, 11, 30, 23, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_the_months_to_come_are_made_once(database: Database) -> None:
    jobs = [MakePartitions(database, lambda: NOW) for _ in range(4)]
    assert sum(await asyncio.gather(*(job.once() for job in jobs))) == 3
    assert await database.read(existing) == ["events_2026_11", "events_2026_12", "events_2027_01"]
    assert await MakePartitions(database, lambda: NOW + 86400).once() == 1
    assert (await database.read(existing))[-1] == "events_2027_02"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_file_has_none(database: Database) -> None:
    await asyncio.wait_for(MakePartitions(database, lambda: NOW).run(), 5)
