"""Memory and Redis agree: whatever happens, in whatever order, both admit, refuse and count the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redis_server import RedisServer
from tollway.errors import BudgetExceeded, RateLimitExceeded
from tollway.shared.interface import Amounts, Claim, Hold
from tollway.shared.memory import MemoryCounters
from tollway.shared.redis_counters import RedisCounters
from tollway.shared.redis_link import RedisLink

NOON = datetime(2026, 11, 22, 12, 0, 0, 500_000, tzinfo=UTC).timestamp()

# Whole multiples of five seconds: the engines may differ by one sub-window in when a window forgets.
STEPS = st.sampled_from([0, 5, 10, 55, 60, 65, 300, 43_200, 86_400])

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 60), st.integers(0, 60), st.booleans()),
        st.tuples(st.just("settle"), st.integers(0, 9), st.floats(0, 1.2), st.booleans()),
        st.tuples(st.just("release"), st.integers(0, 9)),
        st.tuples(st.just("pass"), STEPS),
    ),
    min_size=8,
    max_size=30,
)


@pytest.mark.parametrize("cluster", [False, True])
async def test_both_admit_and_count_the_same(cluster: bool) -> None:
    with RedisServer(*(("--cluster-enabled", "yes") if cluster else ())) as server:
        if cluster:
            server.own_all_slots()
        link = RedisLink(server.url, prefix=uuid4().hex, connect=5, deadline=5, cluster=cluster)
        await compare(link, 20 if cluster else 150)
        await link.close()


async def compare(link: RedisLink, examples: int) -> None:
    histories: list[tuple[dict[str, int], list[Any]]] = []

    @given(
        limits=st.fixed_dictionaries(
            {name: st.integers(most // 8, most) for name, most in
             (("usd", 1500), ("strict", 2500), ("day", 900), ("tokens", 800), ("input", 400), ("rpm", 16),
              ("slots", 8), ("served", 24))}
        ),
        operations=OPERATIONS,
    )  # fmt: skip
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    def collect(limits: dict[str, int], operations: list[Any]) -> None:
        histories.append((limits, operations))

    collect()
    for limits, operations in histories:
        await replay(link, limits, operations)


def claims_of(limits: dict[str, int]) -> tuple[Claim, ...]:
    root = uuid4().hex

    def claim(what: str, unit: Any, **more: Any) -> Claim:
        return Claim(
            counter=f"{root}:{what}", unit=unit, limit=limits[what], label=what, subject="team t", **more
        )

    return (
        claim("slots", "parallel"),
        claim("rpm", "requests", seconds=60),
        claim("tokens", "tokens", seconds=60),
        claim("input", "tokens", seconds=60, count="input", cached=False),
        claim("usd", "nano_usd", per="total"),
        claim("strict", "nano_usd", per="month", strict=True),
        claim("day", "nano_usd", per="day", zone="Europe/Berlin"),
        claim("served", "requests", per="day"),
    )


async def replay(link: RedisLink, limits: dict[str, int], operations: list[Any]) -> None:
    now = [NOON]
    memory = MemoryCounters(lambda: now[0])
    remote = RedisCounters(link, clock=lambda: now[0], follow=False, beat=1e6)
    await remote.start()
    claims = claims_of(limits)
    held: list[tuple[Hold, Hold]] = []
    for operation in operations:
        match operation:
            case ("reserve", expected, more, big):
                amounts = Amounts(
                    tokens=expected + more, input_tokens=expected, nano_usd=expected + (100 if big else 0),
                    worst_nano_usd=expected + more + (100 if big else 0),
                )  # fmt: skip
                outcomes: list[Any] = []
                for engine in (memory, remote):
                    try:
                        outcomes.append(await engine.reserve(claims, amounts))
                    except (BudgetExceeded, RateLimitExceeded) as refused:
                        outcomes.append(refused)
                one, two = outcomes
                assert type(one) is type(two) or (
                    not isinstance(one, Exception) and not isinstance(two, Exception)
                )
                if isinstance(one, Exception):
                    assert {k: v for k, v in one.details.items() if k != "resets_at"} == {
                        k: v for k, v in two.details.items() if k != "resets_at"
                    }
                else:
                    held.append((one, two))
            case ("settle", which, share, cached) if held:
                used = int(50 * share)
                for hold in held.pop(which % len(held)):
                    hold.settle(
                        nano_usd=used,
                        tokens=used,
                        input_tokens=used // 2,
                        cached_tokens=used // 4 if cached else 0,
                    )
            case ("release", which) if held:
                for hold in held.pop(which % len(held)):
                    hold.release()
            case ("pass", seconds):
                now[0] += seconds
        there = [(row.claim.label, row.spent, row.held) for row in await remote.standing(claims)]
        assert there == [(row.claim.label, row.spent, row.held) for row in await memory.standing(claims)], (
            operation
        )
    for pair in held:
        for hold in pair:
            hold.release()
    assert remote.held() == memory.held() == 0
    await remote.close()
