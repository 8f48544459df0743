"""One contract, several engines: the same requests are admitted and refused, and the same is counted, in one process
and when two share a Redis."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from running import until
from tollway.errors import BudgetExceeded, GatewayError, RateLimitExceeded
from tollway.shared.interface import Amounts, Claim, Counters, Crossing, Standing
from tollway.shared.measures import UNBOUNDED
from tollway.shared.periods import period

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def of(unit: str, limit: int, counter: str = "", **more: Any) -> Claim:
    name = counter or f"team:search:{unit}:{more.get('seconds') or more.get('per', '')}"
    if unit in ("nano_usd",) and "per" not in more:
        more["per"] = "total"
    return Claim(counter=name, unit=unit, limit=limit, label="limit", subject="team search", **more)  # type: ignore[arg-type]


def taking(nano_usd: int = 0, *, worst: int = 0, tokens: int = 0, sure: int = 0) -> Amounts:
    return Amounts(tokens=tokens, input_tokens=sure, nano_usd=nano_usd, worst_nano_usd=worst or nano_usd)


async def rows(counters: Counters, claims: tuple[Claim, ...]) -> list[tuple[int, int]]:
    return [(row.spent, row.held) for row in await counters.standing(claims)]


async def settled(next_counters: Any, claims: tuple[Claim, ...], expected: list[tuple[int, int]]) -> None:
    """Reports of other processes take a moment."""

    async def as_expected() -> bool:
        return await rows(next_counters(), claims) == expected

    await until(as_expected, 20)


async def test_a_budget_holds_settles_and_refuses(either: Any) -> None:
    counters = await either()
    claims = (of("nano_usd", 100),)
    first = await counters().reserve(claims, taking(60))
    with pytest.raises(BudgetExceeded) as refused:
        await counters().reserve(claims, taking(41))
    assert refused.value.details["free"] == 40
    assert refused.value.details["held_nano_usd"] == 60
    second = await counters().reserve(claims, taking(40))
    assert await rows(counters(), claims) == [(0, 100)]
    first.settle(nano_usd=10, tokens=0)
    second.release()
    await settled(counters, claims, [(10, 0)])
    await settled(counters, claims, [(10, 0)])
    (await counters().reserve(claims, taking(90))).settle(nano_usd=95, tokens=0)
    await settled(counters, claims, [(105, 0)])
    for amount in (0, 1):
        with pytest.raises(BudgetExceeded, match="It does not reset"):
            await counters().reserve(claims, taking(amount))


async def test_what_is_idle_anywhere_is_found(either: Any) -> None:
    """Whoever ends requests leaves allowance at many places, and another asks for all of it."""
    counters = await either()
    claims = (of("nano_usd", 100), of("parallel", 4), of("tokens", 100, seconds=3600))
    for _ in range(5):
        holds = [await counters().reserve(claims, taking(20, tokens=20)) for _ in range(4)]
        with pytest.raises(GatewayError):
            await counters().reserve(claims, taking(20, tokens=20))
        for hold in holds:
            hold.settle(nano_usd=0, tokens=0)
        whole = await counters().reserve(claims, taking(100, tokens=100, sure=100))
        whole.settle(nano_usd=0, tokens=0)


async def test_parallel_slots(either: Any) -> None:
    counters = await either()
    claims = (of("parallel", 2),)
    holds = [await counters().reserve(claims, Amounts()) for _ in range(2)]
    for _ in range(2):
        with pytest.raises(RateLimitExceeded, match="2 requests at the same time and 2 are running"):
            await counters().reserve(claims, Amounts())
    holds[0].release()
    again = await counters().reserve(claims, Amounts())
    again.settle(nano_usd=0, tokens=0)
    holds[1].settle(nano_usd=0, tokens=0)
    await settled(counters, claims, [(0, 0)])


async def test_all_claims_or_none(either: Any) -> None:
    counters = await either()
    open_claims = (
        of("parallel", 9),
        of("requests", 9, seconds=60),
        of("tokens", 900, seconds=60),
        of("nano_usd", 900),
    )
    for unit, more in (
        ("parallel", {}),
        ("requests", {"seconds": 60}),
        ("nano_usd", {}),
        ("tokens", {"seconds": 60}),
    ):
        full = of(unit, 0, f"user:full:{unit}", **more)
        for claims in ((*open_claims, full), (full, *open_claims)):
            with pytest.raises(GatewayError):
                await counters().reserve(claims, taking(5, tokens=5, sure=5))
    await settled(counters, open_claims, [(0, 0), (0, 0), (0, 0), (0, 0)])
    assert counters().held() == 0


async def test_requests_of_a_minute(either: Any) -> None:
    clock = Clock(NOON)
    counters = await either(clock=clock)
    claims = (of("requests", 3, seconds=60),)
    for _ in range(3):
        (await counters().reserve(claims, Amounts())).settle(nano_usd=0, tokens=0)
        clock.now += 1
    with pytest.raises(RateLimitExceeded) as refused:
        await counters().reserve(claims, Amounts())
    wait = int(refused.value.headers["retry-after-ms"]) / 1000
    assert 57 <= wait <= 60
    assert refused.value.headers["x-ratelimit-remaining-requests"] == "0"
    clock.now += wait
    await counters().reserve(claims, Amounts())
    with pytest.raises(RateLimitExceeded):
        await counters().reserve(claims, Amounts())


async def test_tokens_are_held_then_replaced_by_what_was_used(either: Any) -> None:
    counters = await either()
    claims = (of("tokens", 100, seconds=3600),)
    hold = await counters().reserve(claims, taking(tokens=80))
    with pytest.raises(RateLimitExceeded):
        await counters().reserve(claims, taking(tokens=21, sure=21))
    hold.settle(nano_usd=0, tokens=30)
    await settled(counters, claims, [(30, 0)])
    over = await counters().reserve(claims, taking(tokens=70))
    over.settle(nano_usd=0, tokens=500)
    await settled(counters, claims, [(530, 0)])
    with pytest.raises(RateLimitExceeded, match="Shorten it"):
        await counters().reserve(claims, taking(tokens=300, sure=101))


@pytest.mark.parametrize(
    ("count", "cached", "held", "spent"),
    [("all", True, 100, 90), ("all", False, 100, 70), ("input", False, 60, 30), ("output", True, 40, 40)],
)
async def test_which_tokens_count(either: Any, count: str, cached: bool, held: int, spent: int) -> None:
    counters = await either()
    claims = (
        of("tokens", 1000, seconds=3600, count=count, cached=cached),
        of("tokens", 1000, per="day", count=count, cached=cached),
        of("requests", 10, per="day"),
    )
    hold = await counters().reserve(claims, taking(tokens=100, sure=60))
    assert await rows(counters(), claims) == [(held, 0), (0, held), (0, 1)]
    hold.settle(nano_usd=5, tokens=90, input_tokens=50, cached_tokens=20)
    await settled(counters, claims, [(spent, 0), (spent, 0), (1, 0)])


async def test_a_period_ends(either: Any) -> None:
    clock = Clock(NOON)
    counters = await either(clock=clock)
    claims = (of("nano_usd", 100, per="month", zone="Asia/Tokyo", first_day=15),)
    end = period("month", NOON, 0.0, "Asia/Tokyo", 15)[1]
    assert end is not None
    (await counters().reserve(claims, taking(80))).settle(nano_usd=80, tokens=0)
    running = await counters().reserve(claims, taking(20))
    (row,) = await counters().standing(claims)
    assert row.resets_at == end
    clock.now = end - 0.001
    with pytest.raises(BudgetExceeded):
        await counters().reserve(claims, taking(1))
    clock.now = end
    running.settle(nano_usd=7, tokens=0)
    await settled(counters, claims, [(7, 0)])
    await settled(counters, claims, [(7, 0)])
    await counters().reserve(claims, taking(93))


async def test_a_threshold_is_told_once(either: Any) -> None:
    told: list[Crossing] = []
    counters = await either(crossed=told.append)
    claims = (of("nano_usd", 1000, per="month", alerts=(500, 800)),)
    warned: list[int] = []
    for _ in range(19):
        here = counters()
        hold = await here.reserve(claims, taking(50))
        hold.settle(nano_usd=50, tokens=0)
        warned += [crossing.at for crossing in hold.warnings()]
        await here.standing(claims)
    await until(lambda: len(told) == 2)
    await asyncio.sleep(0.15)
    assert [crossing.at for crossing in told] == [500, 800]
    assert warned == [500, 800]


async def test_a_limit_that_is_only_watched(either: Any) -> None:
    counters = await either()
    claims = (
        of("nano_usd", 10, enforce=False),
        of("requests", 1, seconds=3600, enforce=False),
        of("parallel", 1, enforce=False),
    )
    assert (await counters().reserve(claims, taking(10))).warnings() == ()
    await counters().standing(claims)
    holds = [await counters().reserve(claims, taking(10)) for _ in range(3)]
    assert {crossing.claim.unit for crossing in holds[-1].warnings()} == {"nano_usd", "requests", "parallel"}
    assert all(crossing.shadow for crossing in holds[-1].warnings())
    for hold in holds:
        hold.settle(nano_usd=7, tokens=0)
    await settled(counters, claims, [(21, 10), (4, 0), (0, 1)])


async def test_a_limit_raised_for_a_while(either: Any) -> None:
    clock = Clock(NOON)
    counters = await either(clock=clock)
    claims = (of("nano_usd", 10, raised_by=5, raised_until=NOON + 60),)
    (await counters().reserve(claims, taking(10))).settle(nano_usd=10, tokens=0)
    await settled(counters, claims, [(10, 0)])
    await settled(counters, claims, [(10, 0)])
    (await counters().reserve(claims, taking(5))).settle(nano_usd=0, tokens=0)
    clock.now += 60
    await settled(counters, claims, [(10, 0)])
    await settled(counters, claims, [(10, 0)])
    with pytest.raises(BudgetExceeded):
        await counters().reserve(claims, taking(1))


async def test_a_hold_grows_until_a_ceiling(either: Any) -> None:
    counters = await either()
    claims = (of("nano_usd", 100), of("tokens", 1000, seconds=3600))
    hold = await counters().reserve(claims, taking(40, tokens=20))
    await counters().standing(claims)
    assert hold.extend(nano_usd=20, tokens=20)
    await settled(counters, claims, [(0, 60), (40, 0)])
    assert not hold.extend(nano_usd=100, tokens=1)
    hold.settle(nano_usd=55, tokens=35)
    await settled(counters, claims, [(55, 0), (35, 0)])


async def test_what_was_spent_before_and_a_reset(either: Any) -> None:
    counters = await either()
    claims = (of("nano_usd", 100),)
    counters().seed(claims[0], 30)
    counters().seed(claims[0], 30)
    assert await rows(counters(), claims) == [(30, 0)]
    with pytest.raises(BudgetExceeded):
        await counters().reserve(claims, taking(71))
    await counters().reset(claims[0], 0)
    (await counters().reserve(claims, taking(100))).release()


async def test_a_hold_ends_exactly_once(either: Any) -> None:
    counters = await either()
    claims = (of("parallel", 5), of("requests", 5, seconds=3600), of("nano_usd", 100))
    hold = await counters().reserve(claims, taking(50))
    hold.settle(nano_usd=20, tokens=30)
    hold.settle(nano_usd=20, tokens=30)
    hold.release()
    await settled(counters, claims, [(0, 0), (1, 0), (20, 0)])


async def test_who_leaves_while_waiting_holds_nothing(either: Any) -> None:
    counters = await either()
    claims = (of("parallel", 50), of("nano_usd", 1000))
    for delay in (0, 0, 0, 0.0005, 0.001, 0.002):
        tasks = [asyncio.create_task(counters().reserve(claims, taking(10))) for _ in range(10)]
        await asyncio.sleep(delay)
        for task in tasks:
            task.cancel()
        for task in tasks:
            try:
                (await task).release()
            except asyncio.CancelledError:
                pass
    await settled(counters, claims, [(0, 0), (0, 0)])
    assert counters().held() == counters().held() == 0


@pytest.mark.parametrize("limit", [1, 7, 60, 600])
async def test_a_client_paced_at_95_percent_is_never_refused(either: Any, limit: int) -> None:
    clock = Clock(NOON)
    counters = await either(clock=clock)
    claims = (of("requests", limit, seconds=60),)
    for _ in range(2 * limit + 3):
        (await counters().reserve(claims, Amounts())).release()
        clock.now += 60 / (limit * 0.95)


async def test_no_minute_has_more_than_the_limit(either: Any) -> None:
    clock = Clock(NOON)
    counters = await either(clock=clock)
    claims = (of("requests", 5, seconds=60),)
    admitted = []
    for _ in range(150):
        clock.now += 1.7
        try:
            (await counters().reserve(claims, Amounts())).release()
        except RateLimitExceeded:
            continue
        admitted.append(clock.now)
    assert len(admitted) >= 5 * math.floor(150 * 1.7 / 62)
    assert all(later - first >= 60 for first, later in zip(admitted, admitted[5:], strict=False))
    assert all(first <= later for first, later in pairwise(admitted))


async def test_standings_of_what_nobody_used(either: Any) -> None:
    counters = await either()
    claims = (of("nano_usd", 5, per="day"), of("tokens", 5, seconds=60), of("parallel", 5))
    found: list[Standing] = await counters().standing(claims)
    assert [(row.claim, row.spent, row.held) for row in found] == [(claim, 0, 0) for claim in claims]
    assert found[0].resets_at is not None


async def test_what_is_added_without_a_limit_leaves_the_limit_of_others(either: Any) -> None:
    """A batch that is over is counted however much is left, and the next request meets the budget again."""
    counters = await either()
    claims = (of("nano_usd", 100), of("tokens", 100, "key:k:tokens:total", per="total"))
    (await counters().reserve(claims, taking(10, tokens=10))).settle(nano_usd=10, tokens=10)
    added = tuple(replace(each, limit=UNBOUNDED, enforce=False) for each in claims)
    for _ in range(2):
        (await counters().reserve(added, Amounts())).settle(nano_usd=60, tokens=60)
    await settled(counters, claims, [(130, 0), (130, 0)])
    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            await counters().reserve(claims, taking(1, tokens=1))
