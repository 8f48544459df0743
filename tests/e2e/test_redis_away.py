"""Redis goes away under load, hangs, and comes back empty: each limit does what its policy says, nobody is told that a
key is invalid or a budget spent, and afterwards counters, events and the provider's bill agree without a restart."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from workers import Workers

from load import billed, cost_of, nano_usd
from redis_server import RedisServer
from running import Broken, Gateway, Wire, chat, gateway, provider, until
from tollway.simulator.running import RunningSimulator

RATES = {"input": "1", "output": "2"}
KEYS = {name: f"sk-tw-key-of-the-{name}-tests" for name in ("free", "lease", "closed", "open")}


def config(upstream: RunningSimulator, redis: RedisServer) -> dict[str, Any]:
    def budget(outage: str) -> dict[str, object]:
        return {"usd": 50, "per": "month", "outage": outage}

    keys: list[dict[str, object]] = [{"name": "free", "key": KEYS["free"]}]
    keys += [
        {"name": name, "key": KEYS[name], "budget": budget(name)} for name in ("lease", "closed", "open")
    ]
    return {
        "server": {"workers": 2, "drain": "2s"},
        "redis": {"url": redis.url, "heartbeat": "2s"},
        "providers": {"sim": provider(upstream)},
        "models": {
            "gpt": {
                "model": "sim/gpt-4o-mini",
                "price": {unit: float(rate) for unit, rate in RATES.items()},
                "retry": {"attempts": 1},
            }
        },
        "keys": keys,
    }


class Asking:
    """One client a key and worker, on and on; ``seen`` counts statuses by key since ``begin``."""

    def __init__(self, workers: Workers) -> None:
        self.seen: Counter[tuple[str, int]] = Counter()
        self.codes: Counter[str] = Counter()
        self._workers = workers
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Asking:
        for name in KEYS:
            for _ in range(4):
                self._tasks.append(asyncio.create_task(self._ask(name)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        await asyncio.gather(*self._tasks)

    async def _ask(self, name: str) -> None:
        wire = Wire(self._workers.gateway.port)
        while not self._ending:
            try:
                reply = await wire.ask(chat("gpt"), key=KEYS[name])
            except (OSError, Broken):
                self.seen[name, 0] += 1
                continue
            self.seen[name, reply.status] += 1
            if reply.status != 200:
                self.codes[reply.json()["error"]["code"]] += 1
                await asyncio.sleep(0.01)
        wire.close()

    def begin(self) -> None:
        self.seen.clear()

    async def answered(self, name: str, count: int = 20, seconds: float = 30) -> None:
        await until(lambda: self.seen[name, 200] >= count, seconds, f"{name}: {self.seen}")


@pytest.mark.parametrize("outage", ["stopped", "frozen"])
async def test_an_outage(tmp_path: Path, upstream: RunningSimulator, outage: str) -> None:
    with RedisServer() as redis:
        async with gateway(tmp_path, config(upstream, redis)) as tollway:
            workers = Workers(tollway, 2)
            await workers.find()
            async with Asking(workers) as asking:
                for name in KEYS:
                    await asking.answered(name)
                if outage == "stopped":
                    redis.stop()
                else:
                    redis.freeze()
                await until(lambda: degraded(tollway), 30, "readiness says so")
                asking.begin()
                await asking.answered("free")
                await asking.answered("open")
                await until(lambda: asking.seen["closed", 503] > 5, 30, "closed")
                assert asking.seen["free", 503] == asking.seen["open", 503] == 0, asking.seen
                if outage == "stopped":
                    redis.start()  # and it is empty
                else:
                    redis.thaw()
                await until(lambda: whole(tollway), 30, "it is back")
                asking.begin()
                for name in KEYS:
                    await asking.answered(name)
                assert {status for _, status in asking.seen} <= {200, 503}, asking.seen
            assert set(asking.codes) <= {"store_unavailable"}, asking.codes
            workers.close()
            await settled(tollway, upstream)
            assert await tollway.stop() == 0


async def test_a_start_without_it(tmp_path: Path, upstream: RunningSimulator) -> None:
    with RedisServer() as redis:
        redis.stop()
        async with gateway(tmp_path, config(upstream, redis)) as tollway:
            assert await degraded(tollway)
            statuses = {name: (await tollway.ask(chat("gpt"), key=key)).status for name, key in KEYS.items()}
            assert statuses == {"free": 200, "lease": 503, "closed": 503, "open": 200}
            redis.start()
            workers = Workers(tollway, 2)
            await workers.find()

            async def everywhere() -> bool:
                replies = [await workers.ask(chat("gpt"), key=key) for key in KEYS.values()]
                return {reply.status for each in replies for reply in each.values()} == {200}

            await until(everywhere, 30, "both count with the others")
            workers.close()
            await settled(tollway, upstream)


async def degraded(tollway: Gateway) -> bool:
    return "redis" in (await tollway.readiness())["degraded"]


async def whole(tollway: Gateway) -> bool:
    return (await tollway.readiness())["status"] == "ready"


async def settled(tollway: Gateway, upstream: RunningSimulator) -> None:
    async def agree() -> bool:
        await asyncio.sleep(0.3)
        events = await tollway.events()
        for name in KEYS:
            for budget in (await tollway.key(name))["budgets"]:
                spent = cost_of(event for event in events if event["key"] == name)
                if (budget["spent_nano_usd"], budget["held_nano_usd"]) != (spent, 0):
                    return False
        lines = upstream.simulator.bill.entries()
        bill = sum(nano_usd(RATES, billed(json.loads(bytes(line.usage or b"")))) for line in lines)
        return bill == cost_of(events) and len(lines) == len(events)

    await until(agree, 60, "events, counters and the bill agree")
