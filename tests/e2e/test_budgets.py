"""Budgets, limits and the life of keys on a real gateway, under crowds: nothing is admitted beyond what a ceiling
allows, nothing refused that it leaves room for, and refusals say what a client needs to know."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from load import cost_of
from running import ADMIN, Gateway, Reply, Wire, chat, gateway, provider, request_bytes, until
from tollway.simulator.running import RunningSimulator

INPUT, OUTPUT = 1_000, 2_000
"""Nano-dollars a token: prices that are checked by eye."""

PRICE = {"input": INPUT / 1000, "output": OUTPUT / 1000}
MODELS: dict[str, object] = {
    "fast": {"model": "sim/fast+tokens=8", "price": PRICE},
    "slow": {"model": "sim/slow+tokens=8+latency=20ms", "price": PRICE},
    "long": {"model": "sim/long+tokens=900+latency=50ms", "price": PRICE},
    "hanging": {"model": "sim/hanging+stall=headers", "price": PRICE},
}
CLIENTS = 200


def config(upstream: RunningSimulator, *keys: dict[str, object], **more: object) -> dict[str, object]:
    return {"providers": {"sim": provider(upstream)}, "models": MODELS, "keys": list(keys), **more}


def token(name: str) -> str:
    return f"sk-tw-key-of-the-test-named-{name}"


def key(name: str, **terms: object) -> dict[str, object]:
    return {"name": name, "key": token(name), **terms}


def usd(nano: int) -> float:
    return float(Decimal(nano) / 10**9)


def error_of(reply: Reply) -> Any:
    return reply.json()["error"]


async def together(running: Gateway, count: int, body: object, name: str) -> list[Reply]:
    """``count`` clients, each on a connection of its own that stands already, ask at once."""
    wires = [Wire(running.port) for _ in range(count)]
    await asyncio.gather(*(wire.open() for wire in wires))
    replies = await asyncio.gather(
        *(wire.ask(body, key=token(name), chunked=number % 5 == 0) for number, wire in enumerate(wires))
    )
    for wire in wires:
        wire.close()
    return list(replies)


@asynccontextmanager
async def hanging(
    running: Gateway, upstream: RunningSimulator, name: str, count: int, body: object = None
) -> AsyncIterator[None]:
    """``count`` requests that were admitted and are under way; their clients leave at the end."""
    before = upstream.simulator.open
    wires = [Wire(running.port) for _ in range(count)]
    for wire in wires:
        _, writer = await wire.open()
        writer.write(request_bytes(body or chat("hanging", max_tokens=8), key=token(name)))
    await until(lambda: upstream.simulator.open == before + count, 5, f"{count} requests are under way")
    yield
    for wire in wires:
        wire.close()
    await until(lambda: upstream.simulator.open == before, 5)


async def counters(running: Gateway, name: str) -> dict[str, tuple[int, int]]:
    return {each["label"]: (each["spent"], each["held"]) for each in (await running.key(name))["counters"]}


def assert_rightly_refused(reply: Reply, limit: int) -> None:
    """The room that was left was less than what the request needed."""
    assert reply.status == 402, reply
    error = error_of(reply)
    assert (error["code"], error["type"]) == ("budget_exceeded", "insufficient_quota")
    assert error["limit_nano_usd"] == limit
    assert error["needed_nano_usd"] > 0
    assert error["spent_nano_usd"] + error["held_nano_usd"] + error["needed_nano_usd"] > limit, error
    assert {"budget", "subject", "resets_at"} <= set(error)
    assert "retry-after" not in reply.headers, "an SDK would try again"


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "default"])
async def test_a_crowd_never_overshoots(tmp_path: Path, upstream: RunningSimulator, strict: bool) -> None:
    """Two hundred clients and room for fewer, until nothing fits any more. The default holds what a request is
    expected to cost, and here that is at least what it costs, so it must not overshoot either."""
    limit = 3_000_000
    budget = {"usd": usd(limit), "per": "total", "strict": strict}
    body = chat("slow", "word " * 20, max_tokens=12)
    async with gateway(tmp_path, config(upstream, key("crowd", budget=budget))) as running:
        seen: list[int] = []

        async def watch() -> None:
            while True:
                found = await running.key("crowd")
                seen.append(found["spent_nano_usd"] + found["held_nano_usd"])
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        replies: list[Reply] = []
        for _ in range(4):
            replies += await together(running, CLIENTS, body, "crowd")
            # Strict budgets hold much more than is spent, so after each wave there is room for another.
        while (last := await running.ask(body, key=token("crowd"))).status == 200:
            replies.append(last)
        watching.cancel()
        replies.append(last)
        statuses = Counter(reply.status for reply in replies)
        assert set(statuses) == {200, 402}
        for reply in replies:
            if reply.status == 402:
                assert_rightly_refused(reply, limit)
        assert len(seen) >= 3
        assert max(seen) <= limit
        events = await running.events()
        found = await running.key("crowd")
        assert len(events) == statuses[200] == upstream.simulator.bill.requests
        assert cost_of(events) == found["spent_nano_usd"] <= limit
        assert found["held_nano_usd"] == 0
        # It was used up as far as the last hold allowed: a refusal is never early.
        assert limit - found["spent_nano_usd"] < error_of(last)["needed_nano_usd"]


async def test_room_is_counted_to_the_nano_dollar(tmp_path: Path, upstream: RunningSimulator) -> None:
    """Room for exactly five holds admits five; one nano-dollar less admits four."""
    async with gateway(tmp_path, config(upstream, key("probe", budget="1usd"))) as running:
        await until(lambda: _ready(running))
        async with hanging(running, upstream, "probe", 1):
            hold = (await running.key("probe"))["held_nano_usd"]
        assert hold >= 8 * OUTPUT
        for name, limit, room in (("five", 5 * hold, 5), ("four", 5 * hold - 1, 4)):
            terms = {"name": name, "key": token(name), "budget": {"usd": usd(limit), "per": "total"}}
            await running.api("/keys", terms)
            async with hanging(running, upstream, name, room):
                asked = upstream.simulator.requests
                refused = await running.ask(chat("hanging", max_tokens=8), key=token(name))
                assert_rightly_refused(refused, limit)
                error = error_of(refused)
                assert error["budget"] == "total budget"
                assert error["subject"] == f"key {name}"
                assert (error["spent_nano_usd"], error["held_nano_usd"]) == (0, room * hold)
                assert error["needed_nano_usd"] == hold
                assert error["resets_at"] is None
                assert upstream.simulator.requests == asked, "the provider was asked for a refused request"
                # Nothing free is refused: what needs less than the rest is served beside the holds.
                if room == 4:
                    assert (await running.ask(chat("fast", "", max_tokens=1), key=token(name))).status == 200

            async def let_go(name: str = name) -> bool:
                return (await running.key(name))["held_nano_usd"] == 0

            await until(let_go, 1.0)


async def test_an_answer_longer_than_expected_is_booked_in_full(
    tmp_path: Path, upstream: RunningSimulator
) -> None:
    """The default's bound: what the requests admitted together took beyond their holds, and not a request more."""
    limit = 5_000_000
    async with gateway(tmp_path, config(upstream, key("long", budget=f"{usd(limit)}usd"))) as running:
        replies = await together(running, CLIENTS, chat("long"), "long")
        served = [reply for reply in replies if reply.status == 200]
        refused = [reply for reply in replies if reply.status == 402]
        assert len(served) + len(refused) == CLIENTS
        for reply in refused:
            assert_rightly_refused(reply, limit)
        cost = sum(
            INPUT * reply.json()["usage"]["prompt_tokens"]
            + OUTPUT * reply.json()["usage"]["completion_tokens"]
            for reply in served
        )
        found = await running.key("long")
        assert found["spent_nano_usd"] == cost == cost_of(await running.events())
        needed = error_of(refused[0])["needed_nano_usd"]
        assert len(served) <= limit // needed
        assert limit < cost <= limit + len(served) * (900 * OUTPUT)
        assert (await running.ask(chat("fast", max_tokens=1), key=token("long"))).status == 402


async def test_the_refusal_says_when_the_budget_resets(tmp_path: Path, upstream: RunningSimulator) -> None:
    periods = ("day", "week", "month", "30d", "total")
    keys = [key(f"per-{per}", budget={"usd": 0.00001, "per": per}) for per in periods]
    async with gateway(tmp_path, config(upstream, *keys)) as running:
        for per in periods:
            before = datetime.now(UTC)
            reply = await running.ask(chat("fast"), key=token(f"per-{per}"))
            assert_rightly_refused(reply, 10_000)
            error = error_of(reply)
            assert error["budget"] == ("total budget" if per == "total" else f"budget per {per}")
            expected = {_reset(per, before), _reset(per, datetime.now(UTC))}
            assert error["resets_at"] in expected
            if per != "total":
                assert error["resets_at"] in error["message"]
        assert upstream.simulator.requests == 0
        assert await running.events() == []


def _reset(per: str, now: datetime) -> str | None:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match per:
        case "total":
            return None
        case "day":
            end = midnight + timedelta(days=1)
        case "week":
            end = midnight + timedelta(days=7 - midnight.weekday())
        case "month":
            end = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        case _:
            # A key of the file counts its days from the beginning of Unix time.
            days = int(per[:-1])
            end = datetime.fromtimestamp((now.timestamp() // 86400 // days + 1) * days * 86400, UTC)
    return end.strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_every_budget_of_a_key_counts(tmp_path: Path, upstream: RunningSimulator) -> None:
    """The tightest refuses and is named; the refused request leaves no hold on the others."""
    budgets = ["1usd/month", {"usd": 0.0002, "per": "day"}, {"usd": 0.5, "per": "total", "strict": True}]
    async with gateway(tmp_path, config(upstream, key("many", budget=budgets))) as running:
        served = 0
        while (reply := await running.ask(chat("fast", max_tokens=8), key=token("many"))).status == 200:
            served += 1
        assert served > 2
        assert error_of(reply)["budget"] == "budget per day"
        found = await running.key("many")
        spent = cost_of(await running.events())
        assert [each["spent_nano_usd"] for each in found["budgets"]] == [spent] * 3
        assert [each["held_nano_usd"] for each in found["budgets"]] == [0] * 3


async def test_requests_per_minute(tmp_path: Path, upstream: RunningSimulator) -> None:
    async with gateway(tmp_path, config(upstream, key("rpm", limits={"rpm": 5}))) as running:
        for left in (4, 3, 2, 1, 0):
            reply = await running.ask(chat("fast", stream=left % 2 == 0), key=token("rpm"), chunked=left == 3)
            assert reply.status == 200
            assert reply.headers["x-ratelimit-limit-requests"] == "5"
            assert reply.headers["x-ratelimit-remaining-requests"] == str(left)
            assert 55 <= _seconds(reply.headers["x-ratelimit-reset-requests"]) <= 61
            assert not any("tokens" in name for name in reply.headers if name.startswith("x-ratelimit"))
        refused = await running.ask(chat("fast"), key=token("rpm"))
        assert refused.status == 429
        error = error_of(refused)
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert (error["limit"], error["subject"], error["allowed"], error["used"]) == ("rpm", "key rpm", 5, 5)
        assert 50 <= int(refused.headers["retry-after"]) <= 61
        assert 50_000 <= int(refused.headers["retry-after-ms"]) <= 61_000
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert upstream.simulator.requests == 5
        # Another key, and the administrator, are none of its business.
        assert (await running.ask(chat("fast"), key=ADMIN)).status == 200


async def test_a_crowd_gets_no_request_more_than_its_limit(
    tmp_path: Path, upstream: RunningSimulator
) -> None:
    async with gateway(
        tmp_path, config(upstream, key("rpm", limits={"rpm": 50, "tpm": 1_000_000}))
    ) as running:
        statuses = Counter(reply.status for reply in await together(running, CLIENTS, chat("slow"), "rpm"))
        assert statuses == {200: 50, 429: CLIENTS - 50}
        assert upstream.simulator.bill.requests == 50
        assert (await counters(running, "rpm"))["rpm"] == (50, 0)


async def test_tokens_per_minute(tmp_path: Path, upstream: RunningSimulator) -> None:
    """A whole answer's headers count what it really took, not what was held for it."""
    limit = 150
    async with gateway(tmp_path, config(upstream, key("tpm", limits={"tpm": limit}))) as running:
        used = 0
        while (reply := await running.ask(chat("fast", max_tokens=8), key=token("tpm"))).status == 200:
            used += reply.json()["usage"]["total_tokens"]
            assert reply.headers["x-ratelimit-limit-tokens"] == str(limit)
            assert reply.headers["x-ratelimit-remaining-tokens"] == str(limit - used)
            assert 55 <= _seconds(reply.headers["x-ratelimit-reset-tokens"]) <= 61
        assert used > limit / 2
        assert reply.status == 429
        error = error_of(reply)
        assert (error["limit"], error["allowed"], error["used"]) == ("tpm", limit, used)
        assert 1 <= int(reply.headers["retry-after"]) <= 61
        assert (await counters(running, "tpm"))["tpm"] == (used, 0)
        # What never fits is told so, and not to come back later.
        endless = await running.ask(chat("fast", "word " * 500), key=token("tpm"))
        assert endless.status == 429
        assert "more than" in error_of(endless)["message"]
        assert "retry-after" not in endless.headers


async def test_parallel_requests(tmp_path: Path, upstream: RunningSimulator) -> None:
    async with gateway(tmp_path, config(upstream, key("two", limits={"parallel": 2}))) as running:
        async with hanging(running, upstream, "two", 2):
            refused = await running.ask(chat("fast"), key=token("two"))
            assert refused.status == 429
            error = error_of(refused)
            assert (error["limit"], error["allowed"], error["used"]) == ("parallel", 2, 2)
            assert refused.headers["retry-after"] == "1"
            assert (await counters(running, "two"))["parallel"][1] == 2
        assert (await running.ask(chat("fast"), key=token("two"))).status == 200
        assert (await counters(running, "two"))["parallel"][1] == 0


async def test_a_crowd_never_runs_more_at_once(tmp_path: Path, upstream: RunningSimulator) -> None:
    most = 0
    async with gateway(tmp_path, config(upstream, key("some", limits={"parallel": 20}))) as running:

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, upstream.simulator.open)
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        statuses = Counter(reply.status for reply in await together(running, CLIENTS, chat("slow"), "some"))
        watching.cancel()
        assert set(statuses) == {200, 429}
        assert statuses[200] >= 20
        assert 0 < most <= 20
        # All of them are free again.
        assert {reply.status for reply in await together(running, 20, chat("slow"), "some")} == {200}


async def test_keys_that_are_not_served(tmp_path: Path, upstream: RunningSimulator) -> None:
    keys = [key("late", expires="2020-01-31"), key("blocked", blocked=True), key("narrow", models=["slow"])]
    async with gateway(tmp_path, config(upstream, *keys)) as running:
        await until(lambda: _ready(running))
        for name, model, status, code in (
            ("late", "fast", 401, "key_expired"),
            ("blocked", "fast", 403, "key_blocked"),
            ("nobody", "fast", 401, "invalid_api_key"),
            ("narrow", "fast", 403, "model_not_allowed"),
            ("narrow", "slow", 200, ""),
        ):
            for chunked in (False, True):
                reply = await running.ask(chat(model), key=token(name), chunked=chunked)
                assert reply.status == status, (name, reply)
                assert reply.request_id
                if code:
                    assert error_of(reply)["code"] == code
        assert upstream.simulator.requests == 2

        expiring = await running.api("/keys", {"name": "brief", "expires": "2s"})
        assert (await running.ask(chat("fast"), key=expiring["key"])).status == 200

        async def expired() -> bool:
            reply = await running.ask(chat("fast"), key=expiring["key"])
            return reply.status == 401 and error_of(reply)["code"] == "key_expired"

        await until(expired, 4)


async def test_what_the_api_changes_holds_for_the_next_request(
    tmp_path: Path, upstream: RunningSimulator
) -> None:
    async with gateway(tmp_path, config(upstream)) as running:
        await until(lambda: _ready(running))
        made = await running.api("/keys", {"name": "made", "budget": {"usd": 0.00005, "per": "total"}})

        async def status(value: str = made["key"]) -> int:
            return (await running.ask(chat("fast", max_tokens=8), key=value)).status

        assert await status() == 200
        while await status() == 200:
            pass
        assert await status() == 402
        spent = (await running.key("made"))["spent_nano_usd"]
        await running.api("/keys/made", {"budget": {"usd": 1, "per": "total"}}, "PATCH")
        assert await status() == 200
        assert (await running.key("made"))["spent_nano_usd"] > spent > 0, "what was spent stays counted"
        await running.api("/keys/made/block", method="POST")
        assert await status() == 403
        await running.api("/keys/made/unblock", method="POST")
        assert await status() == 200
        rotated = await running.api("/keys/made/rotate", method="POST")
        assert (await status(), await status(rotated["key"])) == (401, 200)
        await running.api("/keys/made/revoke", method="POST")
        assert await status(rotated["key"]) == 401
        assert (await running.key("made"))["spent_nano_usd"] == cost_of(await running.events())


async def test_a_key_of_the_command_line_is_served_within_a_second(
    tmp_path: Path, upstream: RunningSimulator
) -> None:
    async with gateway(tmp_path, config(upstream)) as running:
        await until(lambda: _ready(running))

        async def command(*words: str) -> str:
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "tollway", *words],
                env=running.environ,
                cwd=running.directory,
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            )
            return done.stdout.strip()

        for number in range(3):
            name = f"cli-{number}"
            value = await command("keys", "create", "--name", name, "--budget", "1usd/month", "--rpm", "7")

            async def answered(status: int, value: str = value) -> bool:
                return (await running.ask(chat("fast"), key=value)).status == status

            made = time.monotonic()
            await until(lambda: answered(200), 1.0, "the key is served")
            assert (await running.key(name))["limits"] == {"rpm": 7}
            await command("keys", "revoke", name)
            await until(lambda: answered(401), 1.0, "the key is refused")
            assert time.monotonic() - made < 30


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)s", text)
    assert found is not None, text
    return int(found[1])


async def _ready(running: Gateway) -> bool:
    return bool((await running.readiness())["status"] == "ready")


async def test_end_users_nobody_declared_keep_what_they_spent(
    tmp_path: Path, upstream: RunningSimulator
) -> None:
    """Every level's budgets stand after a restart where they stood: a team's, and an end user's who is only named by
    requests."""
    fast = 3 * (8 * OUTPUT + 40 * INPUT)
    settings = config(
        upstream,
        key("member", team="crew"),
        key("other"),
        teams=[{"name": "crew", "budget": {"usd": usd(fast)}}],
        customers=[{"name": "default", "budget": {"usd": usd(fast), "per": "month"}}],
    )
    running = Gateway(tmp_path, settings)
    try:
        await running.start()

        async def spend(name: str, **more: object) -> list[int]:
            statuses = []
            for _ in range(12):
                reply = await running.ask(chat("fast", max_tokens=8, **more), key=token(name))
                statuses.append(reply.status)
            return statuses

        for name, more in (("member", {}), ("other", {"user": "visitor"})):
            statuses = await spend(name, **more)
            assert statuses[0] == 200
            assert statuses[-1] == 402
        assert (
            await running.ask(chat("fast", max_tokens=8, user="somebody else"), key=token("other"))
        ).status == 200
        assert await running.stop() == 0
        await running.start()
        assert (await running.ask(chat("fast", max_tokens=8), key=token("member"))).status == 402
        assert (
            await running.ask(chat("fast", max_tokens=8, user="visitor"), key=token("other"))
        ).status == 402
        assert (
            await running.ask(chat("fast", max_tokens=8, user="somebody else"), key=token("other"))
        ).status == 200
    finally:
        running.kill()
