"""Counters on each engine: ``shares`` makes as many as a test wants that count together, as processes do."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from redis_server import RedisServer
from tollway.shared.interface import Counters
from tollway.shared.memory import MemoryCounters
from tollway.shared.redis_counters import RedisCounters
from tollway.shared.redis_link import RedisLink

PATIENT = 5.0

Maker = Callable[..., Awaitable[Any]]


@pytest.fixture
async def remote(redis: RedisServer) -> AsyncIterator[Maker]:
    """Makes counters on this session's Redis, or at ``url``; those of one test share, unless ``prefix`` differs."""
    made: list[tuple[RedisCounters, RedisLink]] = []
    common = uuid4().hex

    async def make(url: str = "", prefix: str = "", deadline: float = PATIENT, **more: Any) -> RedisCounters:
        link = RedisLink(
            url or redis.url, prefix=prefix or common, connect=PATIENT, deadline=deadline, pause=0.1
        )
        counters = RedisCounters(link, **more)
        await counters.start()
        made.append((counters, link))
        return counters

    yield make
    for counters, link in made:
        await counters.close()
        await link.close()


@pytest.fixture(params=["memory", "redis", "two on redis"])
async def either(
    request: pytest.FixtureRequest, remote: Maker
) -> Callable[..., Awaitable[Callable[[], Counters]]]:
    """``await either(clock=…)`` gives a function that gives counters, in turn where there are several."""

    async def begin(**more: Any) -> Callable[[], Counters]:
        if request.param == "memory":
            more.setdefault("clock", time.time)
            memory = MemoryCounters(more["clock"], more.get("crossed"))
            return lambda: memory
        if "clock" in more:
            more["follow"] = False
        engines = [await remote(**more) for _ in range(2 if request.param.startswith("two") else 1)]
        turn = iter(range(10**9))
        return lambda: engines[next(turn) % len(engines)]

    return begin
