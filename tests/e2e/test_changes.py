"""What an administrator changes is served by every process within a second, whichever process was told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workers import Workers

from redis_server import RedisServer
from running import ADMIN, Gateway, Reply, chat, free_port, gateway, provider
from tollway.simulator.running import RunningSimulator

SECOND = 1.0


def config(upstream: RunningSimulator, redis: RedisServer, database: str) -> dict[str, object]:
    return {
        "server": {"workers": 4, "drain": "2s"},
        "redis": {"url": redis.url, "prefix": f"changes{free_port()}"},
        "database": database,
        "providers": {"sim": provider(upstream)},
        "models": {"gpt": "sim/gpt-4o-mini"},
    }


async def everywhere(workers: Workers, key: str, holds: Callable[[Reply], bool]) -> float:
    """Ask every process until all answers are as they should; returns the seconds it took."""
    begun = time.monotonic()
    while True:
        replies = await workers.ask(chat("gpt"), key=key)
        if all(holds(reply) for reply in replies.values()):
            return time.monotonic() - begun
        if time.monotonic() - begun > 10:
            raise AssertionError({number: (reply.status, reply.body) for number, reply in replies.items()})
        await asyncio.sleep(0.01)


async def told(workers: Workers, process: int, path: str, body: object, method: str = "") -> Any:
    """An admin call to this very process."""
    reply = await workers.wires[process].ask(body, "/api" + path, key=ADMIN, method=method)
    assert 200 <= reply.status < 300, (reply.status, reply.body)
    return reply.json()


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_four_processes_follow_within_a_second(
    tmp_path: Path,
    upstream: RunningSimulator,
    redis: RedisServer,
    engine: str,
    request: pytest.FixtureRequest,
) -> None:
    database = "sqlite:///tollway.db" if engine == "sqlite" else request.getfixturevalue("postgres_database")
    async with gateway(tmp_path, config(upstream, redis, database)) as tollway:
        workers = Workers(tollway, 4)
        await workers.find()
        await changes(tollway, workers)
        workers.close()


async def changes(tollway: Gateway, workers: Workers) -> None:
    took: dict[str, float] = {}
    for process in range(4):
        team = (await told(workers, process, "/teams", {"name": f"team {process}"}))["id"]
        made = await told(workers, process, "/keys", {"name": f"k{process}", "team": team})
        key, id = made["key"], made["id"]
        took["made"] = await everywhere(workers, key, lambda reply: reply.status == 200)
        await told(workers, process, f"/keys/{id}", {"limits": {"rpm": 1}}, "PATCH")
        took["limited"] = await everywhere(workers, key, lambda reply: reply.status == 429)
        await told(workers, process, f"/keys/{id}", {"limits": None}, "PATCH")
        took["unlimited"] = await everywhere(workers, key, lambda reply: reply.status == 200)
        await told(workers, process, f"/keys/{id}/block", {}, "POST")
        took["blocked"] = await everywhere(workers, key, lambda reply: reply.status == 403)
        await told(workers, process, f"/keys/{id}/unblock", {}, "POST")
        took["unblocked"] = await everywhere(workers, key, lambda reply: reply.status == 200)
        await told(workers, process, f"/teams/{team}/block", {}, "POST")
        took["team blocked"] = await everywhere(workers, key, lambda reply: reply.status == 403)
        await told(workers, process, f"/teams/{team}/unblock", {}, "POST")
        took["team unblocked"] = await everywhere(workers, key, lambda reply: reply.status == 200)
        await told(workers, process, f"/keys/{id}/revoke", {}, "POST")
        took["revoked"] = await everywhere(workers, key, lambda reply: reply.status == 401)
        assert max(took.values()) < SECOND, took
