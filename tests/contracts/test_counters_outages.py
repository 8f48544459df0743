"""What limits do while Redis is cut off, slow, silent or emptied, and that everything is counted once it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from proxy import Proxy
from redis_server import RedisServer
from running import until
from tollway.errors import BudgetExceeded, StoreUnavailable
from tollway.shared.interface import Amounts, Claim, Settlement
from tollway.shared.redis_counters import RedisCounters
from tollway.shared.redis_link import RedisLink

PATIENT = 5.0


def budget(limit: int, name: str = "team:t:usd:total", **more: Any) -> Claim:
    return Claim(
        counter=name,
        unit="nano_usd",
        limit=limit,
        label="total budget",
        subject="team t",
        **{"per": "total", **more},
    )


def taking(nano_usd: int) -> Amounts:
    return Amounts(nano_usd=nano_usd, worst_nano_usd=nano_usd, tokens=nano_usd, input_tokens=nano_usd)


async def spent(counters: RedisCounters, claim: Claim) -> int:
    (row,) = await counters.standing((claim,))
    return row.spent


async def warm(counters: RedisCounters, claims: tuple[Claim, ...], amount: int = 10) -> int:
    """Requests in a row, until a slice beyond the next one is leased. Returns what they spent."""
    total = 0
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        (await counters.reserve(claims, taking(amount))).settle(nano_usd=amount, tokens=amount)
        total += amount
        await asyncio.sleep(0.002)
        probe = counters.reserve_now(claims, taking(amount * 3))
        if probe is not None:
            probe.release()
            return total
    raise AssertionError("no slice was leased")


@pytest.mark.parametrize("how", ["cut", "swallow", "delay"])
async def test_each_limit_has_its_policy(redis: RedisServer, remote: Any, how: str) -> None:
    async with Proxy("127.0.0.1", redis.port) as proxy:
        counters: RedisCounters = await remote(url=f"redis://127.0.0.1:{proxy.port}", deadline=1.0)
        lease, closed, opened, strict = (
            budget(10**9, f"team:{uuid4().hex}:usd", **more)
            for more in ({}, {"outage": "closed"}, {"outage": "open"}, {"strict": True})
        )
        used = {claim.counter: await warm(counters, (claim,)) for claim in (lease, closed, opened, strict)}
        if how == "cut":
            await proxy.cut()
        elif how == "swallow":
            proxy.swallow = True
        else:
            proxy.delay = 3.0
        # Nobody knows yet that Redis is away: the slice serves, whoever needs more finds out and follows its policy.
        while not counters.away:
            try:
                (await counters.reserve((lease,), taking(10**8))).release()
            except StoreUnavailable:
                pass
        begun = time.monotonic()
        served = 0
        refused: StoreUnavailable | None = None
        while refused is None:
            try:
                (await counters.reserve((lease,), taking(10))).settle(nano_usd=10, tokens=10)
                served += 1
            except StoreUnavailable as error:
                refused = error
        assert served > 0, "what was leased was not spent"
        assert refused.http_status == 503
        assert refused.details == {"counters": [lease.counter]}
        used[lease.counter] += served * 10
        with pytest.raises(StoreUnavailable, match=closed.counter):
            await counters.reserve((closed,), taking(1))
        with pytest.raises(StoreUnavailable, match=closed.counter):
            await counters.reserve((opened, closed), taking(1))
        for _ in range(50):
            (await counters.reserve((opened,), taking(10**6))).settle(nano_usd=10**6, tokens=1)
        used[opened.counter] += 50 * 10**6
        assert time.monotonic() - begun < 8, "requests waited for a Redis that is known to be away"
        await proxy.cut()
        await proxy.mend()
        await until(lambda: not counters.away, 30)
        for claim in (lease, closed, opened):
            assert await spent(counters, claim) == used[claim.counter]
            (await counters.reserve((claim,), taking(10))).release()


async def test_strict_leases_end_with_the_heartbeat(redis: RedisServer, remote: Any) -> None:
    """After that others may have been given what was leased here."""
    async with Proxy("127.0.0.1", redis.port) as proxy:
        counters: RedisCounters = await remote(url=f"redis://127.0.0.1:{proxy.port}", deadline=0.5, beat=1.5)
        strict, loose = budget(10**9, strict=True), budget(10**9, "team:loose:usd")
        await warm(counters, (strict,))
        await warm(counters, (loose,))
        await proxy.cut()
        await until(lambda: counters.away, 20)
        await asyncio.sleep(1.5)
        with pytest.raises(StoreUnavailable):
            await counters.reserve((strict,), taking(1))
        (await counters.reserve((loose,), taking(1))).release()


async def test_windows_are_divided_while_redis_is_away(redis: RedisServer, remote: Any) -> None:
    limit = Claim(counter="team:t:rpm", unit="requests", limit=100, label="rpm", subject="team t", seconds=60)
    async with Proxy("127.0.0.1", redis.port) as proxy:
        engines: list[RedisCounters] = [
            await remote(url=f"redis://127.0.0.1:{proxy.port}", deadline=1.0) for _ in range(2)
        ]
        for engine in engines:
            for _ in range(20):
                (await engine.reserve((limit,), Amounts())).settle(nano_usd=0, tokens=0)
        for engine in engines:
            await engine.standing((limit,))
        await proxy.cut()
        await until(lambda: all(engine.away for engine in engines), 20)
        served = 0
        for engine in engines:
            for _ in range(100):
                try:
                    (await engine.reserve((limit,), Amounts())).settle(nano_usd=0, tokens=0)
                except StoreUnavailable:
                    break
                served += 1
        assert 0 < served <= 60
        await proxy.mend()
        await until(lambda: not any(engine.away for engine in engines), 30)

        async def counted() -> bool:
            (row,) = await engines[0].standing((limit,))
            return row.spent == 40 + served

        await until(counted, 20)


async def test_it_may_start_without_redis(remote: Any) -> None:
    with RedisServer() as server:
        server.stop()
        counters: RedisCounters = await remote(url=server.url, deadline=1.0)
        with pytest.raises(StoreUnavailable):
            await counters.reserve((budget(10),), taking(1))
        opened = budget(10, "team:open:usd", outage="open")
        (await counters.reserve((opened,), taking(4))).settle(nano_usd=4, tokens=0)
        server.start()
        await until(lambda: not counters.away, 30)
        assert await spent(counters, opened) == 4
        (await counters.reserve((budget(10),), taking(10))).release()


async def test_an_emptied_redis_is_told_again(remote: Any) -> None:
    """By those who live what they know, by the ledger what nobody knows any more."""
    ledger = {"team:a:usd": 0, "team:b:usd": 400}
    asked: list[str] = []

    async def seed(claims: Sequence[Claim]) -> Sequence[int]:
        asked.extend(claim.counter for claim in claims)
        return [ledger[claim.counter] for claim in claims]

    with RedisServer() as server:
        one, two = [await remote(url=server.url, deadline=1.0, seed=seed) for _ in range(2)]
        known, before = budget(1000, "team:a:usd"), budget(1000, "team:b:usd")
        window = Claim(
            counter="team:a:rph", unit="requests", limit=50, label="rph", subject="a", seconds=3600
        )
        slots = Claim(counter="team:a:parallel", unit="parallel", limit=2, label="slots", subject="a")
        for _ in range(10):
            for engine in (one, two):
                (await engine.reserve((known, window), taking(10))).settle(nano_usd=10, tokens=0)
        running = await one.reserve((known, slots), taking(100))
        await one.standing((known, window))
        await two.standing((known, window))
        server.stop()
        await until(lambda: one.away and two.away, 20)
        (await two.reserve((budget(1000, "team:a:usd", outage="open"),), taking(50))).settle(
            nano_usd=50, tokens=0
        )
        server.start()
        ledger["team:a:usd"] = 150  # it lags
        await until(lambda: not one.away and not two.away, 30)

        async def counted() -> bool:
            rows = await one.standing((known, window, slots))
            return [(row.spent, row.held) for row in rows] == [(250, 100), (20, 0), (0, 1)]

        await until(counted, 20)
        assert await spent(two, before) == 400
        with pytest.raises(BudgetExceeded):
            await two.reserve((before,), taking(601))
        (await two.reserve((before,), taking(600))).release()
        running.settle(nano_usd=90, tokens=0)

        async def settled() -> bool:
            rows = await two.standing((known, slots))
            return [(row.spent, row.held) for row in rows] == [(340, 0), (0, 0)]

        await until(settled, 20)
        assert {"team:a:usd", "team:b:usd"} <= set(asked)


async def test_a_ledger_that_cannot_be_read(remote: Any) -> None:
    away = True

    async def seed(claims: Sequence[Claim]) -> Sequence[int]:
        if away:
            raise StoreUnavailable("The database is away")
        return [7 for _ in claims]

    counters: RedisCounters = await remote(seed=seed)
    with pytest.raises(StoreUnavailable, match="database"):
        await counters.reserve((budget(10),), taking(1))
    away = False
    (await counters.reserve((budget(10),), taking(3))).release()
    assert await spent(counters, budget(10)) == 7


async def test_a_process_that_was_taken_for_dead(redis: RedisServer, remote: Any) -> None:
    """It was cut off and others were given its slots. It comes back with what is running, and takes nothing new."""
    claims = (budget(1000), Claim(counter="t:p", unit="parallel", limit=3, label="slots", subject="t"))
    async with Proxy("127.0.0.1", redis.port) as proxy:
        cut: RedisCounters = await remote(
            url=f"redis://127.0.0.1:{proxy.port}", deadline=0.5, beat=1.0, grace=0.5
        )
        other: RedisCounters = await remote(beat=1.0, grace=0.5)
        holds = [await cut.reserve(claims, taking(300)) for _ in range(3)]
        await proxy.cut()
        await until(lambda: cut.away, 20)

        async def given() -> bool:
            try:
                (await other.reserve(claims, taking(1000))).settle(nano_usd=100, tokens=0)
            except Exception:
                return False
            return True

        await until(given, 30)
        await proxy.mend()
        await until(lambda: not cut.away, 30)
        for hold in holds:
            hold.settle(nano_usd=200, tokens=0)

        async def counted() -> bool:
            return [(row.spent, row.held) for row in await other.standing(claims)] == [(700, 0), (0, 0)]

        await until(counted, 30)


async def test_what_a_dead_process_did_not_report_is_counted_once(redis: RedisServer, remote: Any) -> None:
    claim = budget(1000)
    position = (0, 0)
    prefix = uuid4().hex
    link = RedisLink(redis.url, prefix=prefix, connect=PATIENT, deadline=PATIENT)
    dead = RedisCounters(link, spool="w1", position=lambda: position, beat=60, grace=60)
    await dead.start()
    (await dead.reserve((claim,), taking(500))).settle(nano_usd=100, tokens=0)
    position = (0, 40)
    await dead.standing((claim,))
    running = await dead.reserve((claim,), taking(400))
    await dead.standing((claim,))
    # It dies: what it settles now reaches its spool and nobody else.
    for task in (dead._task, dead._listening):
        assert task is not None
        task.cancel()
    running.settle(nano_usd=300, tokens=0)
    heir: RedisCounters = await remote(prefix=prefix)
    assert [(row.spent, row.held) for row in await heir.standing((claim,))] == [(100, 400)]
    assert await heir.recover("w1") == (0, 40)
    assert await heir.recover("nobody") is None
    left = [Settlement(claims=(claim,), nano_usd=300, at=datetime.now(UTC).timestamp())]
    assert not await heir.apply("w1", (0, 39), (0, 80), left)
    assert await heir.apply("w1", (0, 40), (0, 80), left)
    assert not await heir.apply("w1", (0, 40), (0, 80), left)
    assert [(row.spent, row.held) for row in await heir.standing((claim,))] == [(400, 0)]
    assert await heir.recover("w1") == (0, 80)
    await link.close()
