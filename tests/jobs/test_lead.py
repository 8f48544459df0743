from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from redis_server import RedisServer
from running import until
from tollway.jobs.lead import Lead, LeaseLost
from tollway.shared.interface import Lock
from tollway.shared.memory_bus import MemoryLock
from tollway.shared.redis_bus import RedisLock
from tollway.shared.redis_link import RedisLink


class Worker:
    """Notes when it works; ``sure`` is what the lead gave it."""

    def __init__(self) -> None:
        self.working = False
        self.turns = 0
        self.sure: Callable[[], None] = lambda: None

    async def work(self, sure: Callable[[], None]) -> None:
        self.sure = sure
        self.working = True
        self.turns += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False


@asynccontextmanager
async def led(lock: Lock, worker: Worker, seconds: float) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(Lead(lock, "sweeping", worker.work, seconds).run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_works_and_another_takes_over() -> None:
    lock = MemoryLock()
    first, second = Worker(), Worker()
    async with led(lock, first, 1.0) as task:
        await until(lambda: first.working)
        async with led(lock, second, 1.0):
            await asyncio.sleep(0.5)
            assert (first.working, second.working) == (True, False)
            task.cancel()
            await until(lambda: second.working)
            assert not first.working
            with pytest.raises(LeaseLost):
                first.sure()
            second.sure()


async def test_who_loses_the_lease_stops_and_comes_back() -> None:
    now = 0.0
    lock = MemoryLock(lambda: now)
    worker = Worker()
    async with led(lock, worker, 0.5):
        await until(lambda: worker.working)
        now = 100.0  # longer asleep than the lease lasts
        with pytest.raises(LeaseLost):
            worker.sure()
        await until(lambda: worker.turns == 2)
        worker.sure()


async def test_work_that_fails_ends_the_lead() -> None:
    async def fails(sure: Callable[[], None]) -> None:
        raise ValueError("broken")

    lock = MemoryLock()
    with pytest.raises(ValueError, match="broken"):
        await Lead(lock, "sweeping", fails, 1.0).run()
    assert await lock.acquire("sweeping", 1.0) is not None, "the lease was kept"


async def test_over_redis_two_never_work_at_once(redis: RedisServer) -> None:
    links = [RedisLink(redis.url, prefix="leads") for _ in range(2)]
    first, second = Worker(), Worker()
    try:
        async with led(RedisLock(links[0]), first, 2.0) as leader, led(RedisLock(links[1]), second, 2.0):
            await until(lambda: first.working or second.working)
            if second.working:
                first, second = second, first
            else:
                leader.cancel()
                await until(lambda: second.working)
            assert not (first.working and second.working)
    finally:
        for link in links:
            await link.close()
