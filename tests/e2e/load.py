"""Load for tests of a running gateway: many clients at once, and the reckoning afterwards from first principles."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from running import Gateway, Reply, Wire, until

Rates = Mapping[str, str]
"""USD per million tokens, as the configuration has them."""


async def crowd(clients: int, count: int, work: Callable[[int, random.Random], Awaitable[None]]) -> None:
    """Do ``work(number, dice)`` for every number below ``count``, ``clients`` at a time."""
    numbers = iter(range(count))

    async def client(seed: int) -> None:
        dice = random.Random(seed)
        for number in numbers:
            await work(number, dice)

    async with asyncio.TaskGroup() as group:
        for seed in range(clients):
            group.create_task(client(seed))


def nano_usd(rates: Rates, usage: Mapping[str, int]) -> int:
    """What disjoint token counts cost, in decimals: a second opinion on the gateway's integers."""
    rate = {name: Decimal(value) for name, value in rates.items()}
    fresh, out = rate.get("input", Decimal(0)), rate.get("output", Decimal(0))
    reasoning = usage.get("reasoning", 0)
    usd_per_million = (
        usage["input"] * fresh
        + usage.get("cache_read", 0) * rate.get("cache_read", fresh)
        + reasoning * rate.get("reasoning", out)
        + (usage["output"] - reasoning) * out
    )
    return int((usd_per_million * 1000).to_integral_value(ROUND_HALF_UP))


def billed(usage: Mapping[str, Any]) -> dict[str, int]:
    """Disjoint counts from a usage object as the provider sent it."""
    into = usage.get("prompt_tokens_details") or {}
    out = usage.get("completion_tokens_details") or {}
    cached = into.get("cached_tokens", 0)
    return {
        "input": usage["prompt_tokens"] - cached,
        "cache_read": cached,
        "output": usage.get("completion_tokens", 0),
        "reasoning": out.get("reasoning_tokens", 0),
    }


def cost_of(events: Iterable[Mapping[str, Any]]) -> int:
    return sum(event["cost_nano_usd"] for event in events)


async def assert_sums_agree(gateway: Gateway, events: list[Any], keys: Iterable[str]) -> None:
    """Roll-ups and every counter of every key say what the events say, and nothing is held."""
    assert len({event["id"] for event in events}) == len(events), "an event is there twice"
    usage = await gateway.usage("key", "model", "upstream_model")
    assert usage["total"]["requests"] == len(events)
    assert usage["total"]["errors"] == sum(event["outcome"] == "error" for event in events)
    assert usage["total"]["cost_nano_usd"] == cost_of(events)
    assert usage["total"]["unpriced_requests"] == sum(not event["priced"] for event in events)
    for unit in ("input", "cache_read", "output", "reasoning"):
        assert usage["total"][unit] == sum(event["usage"][unit] for event in events), unit
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for event in events:
        groups.setdefault((event["key"], event["model"], event["upstream_model"]), []).append(event)
    assert len(usage["data"]) == len(groups)
    for row in usage["data"]:
        group = groups[row["key"], row["model"], row["upstream_model"]]
        assert (row["requests"], row["cost_nano_usd"]) == (len(group), cost_of(group)), row
    for name in keys:
        key = await gateway.key(name)
        spent = cost_of(event for event in events if event["key"] == name)
        assert (key["spent_nano_usd"], key["held_nano_usd"]) == (spent, 0), name
        for budget in key["budgets"]:
            assert (budget["spent_nano_usd"], budget["held_nano_usd"]) == (spent, 0), (name, budget)
        parallel = [each for each in key["counters"] if each["unit"] == "parallel"]
        assert all(each["held"] == 0 for each in parallel), parallel


class Traffic:
    """Clients that ask on and on while something happens to the gateway; ``replies`` is what they got."""

    def __init__(
        self, gateway: Gateway, body: Mapping[str, object], *, keys: Iterable[str], clients: int = 4
    ) -> None:
        self.replies: list[Reply] = []
        self._gateway = gateway
        self._body = body
        self._keys = list(keys)
        self._clients = clients
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Traffic:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self._clients)]
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._ending = True
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        if error is None:
            for result in results:
                if result is not None:
                    raise result

    async def _client(self, number: int) -> None:
        wire = Wire(self._gateway.port)
        while not self._ending:
            key = self._keys[len(self.replies) % len(self._keys)]
            self.replies.append(await wire.ask(self._body, key=key, chunked=number == 0))
            await asyncio.sleep(0.01)
        wire.close()

    async def answered(self, more: int) -> None:
        """Wait until so many more requests were answered."""
        goal = len(self.replies) + more
        await until(lambda: len(self.replies) >= goal, 20, "the traffic flows")

    @property
    def statuses(self) -> Counter[int]:
        return Counter(reply.status for reply in self.replies)
