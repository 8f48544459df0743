"""What a process leaves behind when it dies is taken over: its events, what it had not reported, its jobs, the
responses it worked at; and what one process keeps the others find."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from workers import Workers, children

from load import cost_of
from redis_server import RedisServer
from running import KEY, Broken, Gateway, Wire, chat, free_port, gateway, provider, until
from tollway.simulator.running import RunningSimulator


def config(upstream: RunningSimulator, redis: RedisServer, workers: int) -> dict[str, Any]:
    return {
        "server": {"workers": workers, "drain": "2s"},
        "redis": {"url": redis.url, "prefix": f"over{free_port()}", "heartbeat": "2s"},
        "providers": {"sim": provider(upstream)},
        "models": {"gpt": {"model": "sim/gpt-4o-mini", "price": {"input": 1.0, "output": 2.0}}},
        "keys": [{"name": "ci", "key": KEY, "budget": {"usd": 100, "per": "month"}}],
    }


async def load(port: int, seconds: float) -> int:
    """How many answers came whole."""
    answered = 0
    ending = False

    async def one() -> None:
        nonlocal answered
        wire = Wire(port)
        while not ending:
            try:
                answered += (await wire.ask(chat("gpt"))).status == 200
            except (OSError, Broken):
                await asyncio.sleep(0.02)
        wire.close()

    tasks = [asyncio.create_task(one()) for _ in range(24)]
    await asyncio.sleep(seconds)
    ending = True
    await asyncio.gather(*tasks)
    return answered


async def spent(tollway: Gateway) -> tuple[int, int]:
    (budget,) = (await tollway.key("ci"))["budgets"]
    return budget["spent_nano_usd"], budget["held_nano_usd"]


@pytest.mark.parametrize(
    ("later", "engine"), [pytest.param(1, "redis", marks=pytest.mark.slow), (2, "redis"), (1, "memory")]
)
async def test_fewer_workers_take_over_what_the_others_left(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer, later: int, engine: str
) -> None:
    settings = config(upstream, redis, 6)
    async with gateway(tmp_path, settings) as tollway:
        await Workers(tollway, 6).find()
        loading = asyncio.create_task(load(tollway.port, 2.0))
        await asyncio.sleep(1.9)
        # All at once, and nobody to replace them: the supervisor first.
        assert tollway.process is not None
        pids = children(tollway.process.pid)
        tollway.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        answered = await loading
        assert answered > 50
        assert (tmp_path / "data" / "spool" / "5").is_dir()

        fewer = {**settings, "server": {"workers": later, "drain": "2s"}}
        if engine == "memory":
            del fewer["redis"]
        tollway.configure(fewer)
        await tollway.start()

        def left() -> list[str]:
            numbers = [one.name for one in (tmp_path / "data" / "spool").iterdir() if one.name.isdigit()]
            return [name for name in numbers if int(name) >= later]

        await until(lambda: not left(), 30, "the orphans are gone")

        async def counted() -> bool:
            return await spent(tollway) == (cost_of(await tollway.events()), 0)

        await until(counted, 30, "counters say what the events say")
        events = await tollway.events()
        assert len(events) >= answered
        assert len({event["id"] for event in events}) == len(events)
        assert (await tollway.usage())["total"]["requests"] == len(events)
        assert await tollway.stop() == 0, tollway.log


async def test_a_job_of_all_goes_to_another_when_its_process_dies(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    async with gateway(tmp_path, config(upstream, redis, 4)) as tollway:
        workers = Workers(tollway, 4)
        await workers.find()

        def leaders() -> list[int]:
            return [int(pid) for pid in re.findall(r"process (\d+) does purge now", tollway.log)]

        await until(leaders, 10)
        assert len(leaders()) == 1
        os.kill(leaders()[0], signal.SIGKILL)
        await until(lambda: len(leaders()) == 2, 40, "another one does it")
        assert leaders()[1] != leaders()[0]
        fences = [int(fence) for fence in re.findall(r"does purge now \(fence (\d+)\)", tollway.log)]
        assert fences[1] > fences[0]
        workers.close()


async def test_a_response_is_found_by_every_process_at_once(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    async with gateway(tmp_path, config(upstream, redis, 3)) as tollway:
        workers = Workers(tollway, 3)
        await workers.find()
        previous: str | None = None
        for turn in range(6):
            body = {"model": "gpt", "input": f"turn {turn}", "previous_response_id": previous}
            reply = await workers.wires[turn % 3].ask(body, "/v1/responses")
            assert reply.status == 200, reply.body
            previous = reply.json()["id"]
        for wire in workers.wires.values():
            found = await wire.ask(path=f"/v1/responses/{previous}")
            assert (found.status, found.json()["id"]) == (200, previous)
        gone = await workers.wires[1].ask(path=f"/v1/responses/{previous}", method="DELETE")
        assert gone.status == 200
        await until(lambda: nowhere(workers, f"/v1/responses/{previous}"), 10)
        workers.close()


async def nowhere(workers: Workers, path: str) -> bool:
    return all(reply.status == 404 for reply in (await workers.ask(path=path)).values())


SLOW = {"model": "sim/slow+latency=40s", "input": "go", "background": True}
QUICK = {"model": "gpt", "input": "go", "background": True}


async def became(workers: Workers, id: str, status: str) -> bool:
    return await states(workers, id) == {status}


async def states(workers: Workers, id: str) -> set[str]:
    replies = await workers.ask(path=f"/v1/responses/{id}")
    return {reply.json().get("status", str(reply.status)) for reply in replies.values()}


async def test_a_response_in_the_background_is_polled_and_cancelled_by_any_process(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    async with gateway(tmp_path, config(upstream, redis, 3)) as tollway:
        workers = Workers(tollway, 3)
        await workers.find()

        begun = (await workers.wires[0].ask(QUICK, "/v1/responses")).json()
        await until(lambda: became(workers, begun["id"], "completed"), 15)

        begun = (await workers.wires[0].ask(SLOW, "/v1/responses")).json()
        assert await states(workers, begun["id"]) <= {"queued", "in_progress"}
        cancelled = await workers.wires[2].ask({}, f"/v1/responses/{begun['id']}/cancel")
        assert cancelled.json()["status"] == "cancelled", cancelled.body
        await until(lambda: became(workers, begun["id"], "cancelled"), 10)
        workers.close()


@pytest.mark.slow
async def test_a_response_in_the_background_fails_with_its_process(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    async with gateway(tmp_path, config(upstream, redis, 3)) as tollway:
        workers = Workers(tollway, 3)
        await workers.find()
        begun = (await workers.wires[1].ask(SLOW, "/v1/responses")).json()
        workers.kill(1)
        await until(lambda: "worker 1 serves again" in tollway.log, 20)
        await workers.find()
        # Nobody works at it any more; until that is certain it counts as being worked at.
        await until(lambda: became(workers, begun["id"], "failed"), 60)
        workers.close()
