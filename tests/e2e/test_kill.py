"""Killed under load, again and again: whatever a client saw answered is in the ledger once, at the provider's usage
times the price, and the budgets go on from where the ledger stands."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from load import assert_sums_agree, billed, cost_of, nano_usd
from running import Broken, Reply, Wire, chat, gateway, provider
from tollway.simulator.running import RunningSimulator
from tollway.storage.engine import Database
from tollway.storage.repositories import rollups

PRICES = {
    "whole": {"input": "0.150000001", "output": "0.600000007"},
    "paced": {"input": "0.123456789", "cache_read": "0.030864197", "output": "0.777777777"},
}
KEYS = {"total": "sk-tw-key-with-a-budget-000", "month": "sk-tw-key-with-two-budgets-0"}
CLIENTS = 16


def config(upstream: RunningSimulator) -> dict[str, object]:
    def priced(knobs: str) -> dict[str, object]:
        rates = PRICES[knobs.partition("+")[0]]
        return {"model": f"sim/{knobs}", "price": {unit: float(rate) for unit, rate in rates.items()}}

    return {
        "providers": {"sim": provider(upstream)},
        "models": {
            "whole": priced("whole"),
            # Slow enough that every kill finds streams half-way.
            "paced": priced("paced+cached=30%+tokens=8+pace=2ms"),
        },
        "keys": [
            {"name": "total", "key": KEYS["total"], "budget": {"usd": 100, "per": "total"}},
            {"name": "month", "key": KEYS["month"], "budget": ["90usd/month", {"usd": 80, "per": "total"}]},
        ],
        # Small segments: a round goes through several.
        "spool": {"segment_bytes": "128KiB", "max_bytes": "64MiB"},
    }


class Clients:
    """Ask until the gateway is gone, and remember what was answered. ``broken`` counts answers cut off."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.dice = random.Random(seed)
        self.complete: list[Reply] = []
        self.broken = 0

    async def one(self, seed: int) -> None:
        dice = random.Random(seed)
        wire = Wire(self.port)
        while True:
            body = chat(dice.choice(["whole", "whole", "paced"]), "word " * dice.randrange(1, 40))
            if body["model"] == "paced" or dice.random() < 0.3:
                body["stream"] = True
            try:
                reply = await wire.ask(
                    body, key=dice.choice(list(KEYS.values())), chunked=dice.random() < 0.2
                )
            except Broken as error:
                self.broken += error.reply.status == 200
                # Everything up to [DONE] is an answer, even when the last chunk's frame was cut off.
                if not error.reply.complete:
                    return
                reply = error.reply
            except OSError:
                return
            assert reply.status == 200, reply
            self.complete.append(reply)

    async def until_it_is_killed(self, kill_after: float, kill: Any) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self.one(self.dice.getrandbits(32)))
            await asyncio.sleep(kill_after)
            kill()


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.slow)])
async def test_killed_gateways_lose_no_answered_request(
    tmp_path: Path, upstream: RunningSimulator, rounds: int
) -> None:
    dice = random.Random(11)
    answered: list[Reply] = []
    broken = 0
    async with gateway(tmp_path, config(upstream)) as running:
        for number in range(rounds):
            clients = Clients(running.port, number)
            await clients.until_it_is_killed(dice.uniform(0.15, 1.2), running.kill)
            assert clients.complete, "the round was over before it began"
            answered += clients.complete
            broken += clients.broken
            await running.start()
            # The budgets are ready before the first request is, and equal the ledger.
            events = await running.events()
            for name in KEYS:
                spent = cost_of(event for event in events if event["key"] == name)
                key = await running.key(name)
                assert [each["spent_nano_usd"] for each in key["budgets"]] == [spent] * len(key["budgets"])
        events = await running.events()
        await assert_sums_agree(running, events, KEYS)
        assert await running.stop() == 0
    assert broken > 0, "no answer was under way at any kill"
    assert_each_answer_once(upstream, answered, events)
    # Beside the answered there is at most what was under way at a kill.
    assert len(events) - len(answered) <= rounds * CLIENTS

    database = Database.open("sqlite:///tollway.db", running.data_dir)
    try:
        assert await rollups.verify(database) == []
    finally:
        await database.close()


def assert_each_answer_once(upstream: RunningSimulator, answered: list[Reply], events: list[Any]) -> None:
    of: dict[str, list[Any]] = {}
    for event in events:
        of.setdefault(event["request_id"], []).append(event)
    lines = {line.id: line for line in upstream.simulator.bill.entries()}
    assert len({reply.request_id for reply in answered}) == len(answered)
    for reply in answered:
        found = of.get(reply.request_id, [])
        assert len(found) == 1, f"{reply.request_id} has {len(found)} events"
        line, event = lines[reply.answer_id], found[0]
        assert event["outcome"] == "ok"
        assert line.complete
        assert line.usage is not None
        usage = json.loads(bytes(line.usage))
        assert event["raw_usage"] == usage
        assert event["cost_nano_usd"] == nano_usd(PRICES[line.model], billed(usage))
        if not reply.streamed:
            assert reply.json()["usage"] == usage
    seen = {reply.request_id for reply in answered}
    total = sum(
        nano_usd(PRICES[line.model], billed(json.loads(bytes(line.usage or b""))))
        for line in (lines[reply.answer_id] for reply in answered)
    )
    assert total == cost_of(event for event in events if event["request_id"] in seen)
