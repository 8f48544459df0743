"""Budgets hold: over one process or many, under a crowd of clients that ask, stream, leave and fail, while processes
are killed. What was spent never exceeds a strict budget, nobody is refused while there is room, nothing stays held,
and events, counters and the provider's bill say the same."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "e2e"))

from workers import children

from load import billed, cost_of, nano_usd
from redis_server import RedisServer
from running import Broken, Gateway, Reply, Wire, chat, free_port, gateway, provider, simulator, until
from tollway.simulator.running import RunningSimulator

PRICES = {
    "whole": {"input": "0.150000001", "output": "0.600000007"},
    "paced": {"input": "0.123456789", "output": "0.777777777"},
    "failing": {"input": "1", "output": "1"},
}
KEYS = {"strict": "sk-tw-key-with-a-strict-budget", "ample": "sk-tw-key-with-an-ample-budget"}
LIMIT = 3_000_000
"""Nano-dollars of the strict budget: the crowd wants many times as much."""

CLIENTS = 200


@pytest.fixture
def upstream() -> Iterator[RunningSimulator]:
    with simulator() as running:
        yield running


def config(upstream: RunningSimulator, redis: RedisServer | None, workers: int) -> dict[str, object]:
    def priced(name: str, knobs: str) -> dict[str, object]:
        rates = {unit: float(rate) for unit, rate in PRICES[name].items()}
        return {"model": f"sim/{name}{knobs}", "price": rates, "retry": {"attempts": 1}}

    shared: dict[str, object] | None = None
    if redis is not None:
        # A busy machine is no outage: what limits do in one is tested elsewhere.
        patient = {"timeout": "10s", "connect_timeout": "10s", "heartbeat": "5s"}
        shared = {"url": redis.url, "prefix": f"budget{free_port()}", **patient}
    return {
        "server": {"workers": workers, "drain": "5s"},
        **({"redis": shared} if shared else {}),
        "providers": {"sim": provider(upstream)},
        "models": {
            "whole": priced("whole", ""),
            "paced": priced("paced", "+tokens=12+pace=3ms"),
            "failing": priced("failing", "+status=500"),
        },
        "keys": [
            {
                "name": "strict",
                "key": KEYS["strict"],
                "budget": {"usd": LIMIT / 1e9, "per": "total", "strict": True},
            },
            {
                "name": "ample",
                "key": KEYS["ample"],
                "budget": [{"usd": 1000, "per": "total"}, {"usd": 900, "per": "month"}],
                "limits": {"rpm": 1_000_000, "tpm": 1_000_000_000, "parallel": 10_000},
            },
        ],
    }


class Crowd:
    """Clients until ``ending``. ``complete`` are the answers that came whole, by key; ``statuses`` of all."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.dice = random.Random(seed)
        self.ending = False
        self.complete: dict[str, list[Reply]] = {name: [] for name in KEYS}
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.refusals: list[dict[str, Any]] = []
        self.odd: list[Reply] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client(random.Random(self.dice.getrandbits(64))))

    async def _client(self, dice: random.Random) -> None:
        wire = Wire(self.port)
        while not self.ending:
            name = dice.choice(list(KEYS))
            body = chat(
                dice.choices(["whole", "paced", "failing"], [6, 3, 1])[0],
                "word " * dice.randrange(1, 30),
                max_tokens=dice.choice([16, 32, 64]),
            )
            if dice.random() < 0.4:
                body["stream"] = True
            leaves = dice.random() < 0.1
            try:
                async with asyncio.timeout(dice.uniform(0.001, 0.05) if leaves else 30):
                    reply = await wire.ask(body, key=KEYS[name])
            except TimeoutError:
                assert leaves, "an answer took half a minute"
                wire.close()
                continue
            except Broken as error:
                if not error.reply.complete:
                    continue
                reply = error.reply
            except OSError:
                await asyncio.sleep(0.05)
                continue
            self.statuses[name, reply.status] += 1
            if reply.status == 200:
                self.complete[name].append(reply)
            elif reply.status == 402:
                self.refusals.append(reply.json()["error"])
                await asyncio.sleep(dice.uniform(0.02, 0.2))
            elif body["model"] != "failing":
                self.odd.append(reply)
        wire.close()


COMBINATIONS = [
    ("memory", 1, "sqlite"),
    ("redis", 1, "sqlite"),
    ("redis", 2, "sqlite"),
    ("redis", 8, "sqlite"),
    pytest.param("redis", 4, "postgres", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("engine", "processes", "database"), COMBINATIONS)
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 20))]
)
async def test_budgets_hold(
    tmp_path: Path,
    upstream: RunningSimulator,
    request: pytest.FixtureRequest,
    engine: str,
    processes: int,
    database: str,
    seed: int,
) -> None:
    redis: RedisServer | None = request.getfixturevalue("redis") if engine == "redis" else None
    settings = config(upstream, redis, processes)
    if database == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    dice = random.Random(f"{engine} {processes} {seed}")
    async with gateway(tmp_path, settings) as tollway:
        crowd = Crowd(tollway.port, dice.getrandbits(32))
        asking = asyncio.create_task(crowd.run())
        kills = 0
        try:
            for _ in range(2 if seed == 0 else 4):
                await asyncio.sleep(dice.uniform(0.8, 2.0))
                await kill_one(tollway, processes, dice)
                kills += 1
            await asyncio.sleep(dice.uniform(0.5, 1.5))
        finally:
            crowd.ending = True
            await asking
        await quiet(tollway)
        events = await tollway.events()
        check(upstream, crowd, events, kills)
        for name in KEYS:
            key = await tollway.key(name)
            spent = cost_of(event for event in events if event["key"] == name)
            for budget in key["budgets"]:
                assert (budget["spent_nano_usd"], budget["held_nano_usd"]) == (spent, 0), (name, budget)
        await use_up(tollway)


async def kill_one(tollway: Gateway, processes: int, dice: random.Random) -> None:
    """Without supervisor the whole gateway, which somebody starts again."""
    assert tollway.process is not None
    if processes == 1:
        tollway.kill()
        await tollway.start()
        return
    pids = children(tollway.process.pid)
    os.kill(dice.choice(pids), 9)


async def quiet(tollway: Gateway) -> None:
    """Until nothing is held and every event is recorded: the spools of the dead included."""
    seen: list[int] = []

    async def settled() -> bool:
        keys = [await tollway.key(name) for name in KEYS]
        if any(budget["held_nano_usd"] for key in keys for budget in key["budgets"]):
            seen.clear()
            return False
        usage = await tollway.usage("key")
        seen.append(usage["total"]["requests"])
        return len(seen) >= 8 and len(set(seen[-8:])) == 1

    async def look() -> bool:
        await asyncio.sleep(0.25)
        return await settled()

    await until(look, 60, "nothing is held any more")


def check(upstream: RunningSimulator, crowd: Crowd, events: list[Any], kills: int) -> None:
    assert not crowd.odd, crowd.odd[:3]
    assert len({event["id"] for event in events}) == len(events), "an event is there twice"
    lines = {line.id: line for line in upstream.simulator.bill.entries()}
    of = {event["request_id"]: event for event in events}
    answered = [reply for replies in crowd.complete.values() for reply in replies]
    assert len(answered) > 100, "too few to say anything"
    for reply in answered:
        event, line = of[reply.request_id], lines[reply.answer_id]
        usage = json.loads(bytes(line.usage or b""))
        assert event["cost_nano_usd"] == nano_usd(PRICES[line.model], billed(usage))
    # Nobody is refused while there is room.
    assert not crowd.statuses["ample", 402], crowd.refusals[:3]
    assert not crowd.statuses["ample", 429]
    assert crowd.statuses["strict", 402] > 0, "the strict budget was never reached"
    # Beside the answered there is what clients left, what failed, and what was under way at a kill.
    spent = cost_of(event for event in events if event["key"] == "strict")
    assert spent <= LIMIT, f"{spent - LIMIT} nano-dollars beyond a strict budget"


async def use_up(tollway: Gateway) -> None:
    """The room that is left is given out to the last: one is refused only when what it holds does not fit."""
    for _ in range(5000):
        reply = await tollway.ask(chat("whole", "word", max_tokens=16), key=KEYS["strict"])
        if reply.status == 402:
            break
        assert reply.status == 200, reply.body
    else:
        raise AssertionError("the strict budget never ends")
    key = await tollway.key("strict")
    (budget,) = key["budgets"]
    free = LIMIT - budget["spent_nano_usd"]
    assert 0 <= free < reply.json()["error"]["needed_nano_usd"] < 30_000, (free, reply.body)
