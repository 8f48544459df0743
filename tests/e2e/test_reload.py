"""The configuration is swapped under load, by signal and by API: no request is dropped, each is served and priced by
one configuration whole, and a file that cannot be served changes nothing."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from load import Traffic, assert_sums_agree, nano_usd
from running import ADMIN, KEY, Gateway, Wire, chat, gateway, provider, request_bytes, until
from tollway.simulator.running import RunningSimulator

RATES = {"a": {"input": "1.000000001", "output": "2"}, "b": {"input": "3", "output": "4.000000007"}}
GUEST = "sk-tw-key-that-only-b-declares"


def config(upstream: RunningSimulator, side: str, **more: object) -> dict[str, object]:
    """``a`` and ``b`` differ in prices, limits, models and keys."""
    price = {unit: float(rate) for unit, rate in RATES[side].items()}
    models: dict[str, object] = {
        "fast": {"model": "sim/fast+tokens=8", "price": price},
        "paced": {"model": "sim/paced+tokens=12+pace=4ms", "price": price},
        "patient": {"model": "sim/patient+tokens=300+pace=10ms", "price": price},
        f"only-{side}": {"model": "sim/only", "price": price},
    }
    keys: list[dict[str, object]] = [
        {
            "name": "ci",
            "key": KEY,
            "budget": [{"usd": 50 if side == "a" else 40, "per": "total"}],
            "limits": {"parallel": 1000 if side == "a" else 900},
        }
    ]
    if side == "b":
        keys.append({"name": "guest", "key": GUEST, "budget": "1usd"})
    return {"providers": {"sim": provider(upstream)}, "models": models, "keys": keys, **more}


async def served(running: Gateway, side: str) -> bool:
    """Whether a request meets this configuration."""
    return (await running.ask(chat(f"only-{side}"), key=KEY)).status == 200


async def swap(running: Gateway, upstream: RunningSimulator, side: str, *, by_signal: bool) -> None:
    running.configure(config(upstream, side))
    if by_signal:
        running.signal(signal.SIGHUP)
        await until(lambda: served(running, side), 2, f"configuration {side} is served")
    else:
        reloaded = await running.api("/config/reload", method="POST")
        assert reloaded["waiting"] == []
        assert await served(running, side), "the answer came before the configuration was served"


@pytest.mark.parametrize("swaps", [12, pytest.param(100, marks=pytest.mark.slow)])
async def test_no_request_is_dropped(tmp_path: Path, upstream: RunningSimulator, swaps: int) -> None:
    async with gateway(tmp_path, config(upstream, "a")) as running:
        whole = Traffic(running, chat("fast"), keys=[KEY], clients=6)
        streams = Traffic(running, chat("paced", stream=True), keys=[KEY], clients=6)
        async with whole, streams:
            for number in range(swaps):
                side = "b" if number % 2 == 0 else "a"
                await swap(running, upstream, side, by_signal=number % 3 == 0)
                other = "a" if side == "b" else "b"
                gone = await running.ask(chat(f"only-{other}"), key=KEY)
                assert (gone.status, gone.json()["error"]["code"]) == (404, "model_not_found")
                guest = await running.ask(chat("fast"), key=GUEST)
                assert guest.status == (200 if side == "b" else 401)
                names = {
                    model["id"] for model in (await running.ask(path="/v1/models", key=KEY)).json()["data"]
                }
                assert f"only-{side}" in names
                assert f"only-{other}" not in names
                await whole.answered(20)
                await streams.answered(5)
        assert set(whole.statuses) == set(streams.statuses) == {200}
        assert all(reply.complete and reply.data[-1] == "[DONE]" for reply in streams.replies)
        if swaps % 2 == 0:
            await swap(running, upstream, "b", by_signal=False)

        events = await running.events()
        counted = Counter(event["model"] for event in events)
        assert counted["fast"] >= len(whole.replies)
        assert counted["paced"] == len(streams.replies)
        versions: dict[str, str] = {}
        for event in events:
            side = next(
                side for side in RATES if event["cost_nano_usd"] == nano_usd(RATES[side], event["usage"])
            )
            # The price and the name of its version are of one and the same configuration.
            assert versions.setdefault(event["price_version"], side) == side
        assert sorted(versions.values()) == ["a", "b"]
        # What was spent stays counted through every swap, also of a key that went and came back.
        await assert_sums_agree(running, events, ["ci", "guest"])


async def test_a_stream_keeps_the_configuration_it_began_with(
    tmp_path: Path, upstream: RunningSimulator
) -> None:
    async with gateway(tmp_path, config(upstream, "b")) as running:
        body = chat("patient", stream=True, stream_options={"include_usage": True})
        wires = [Wire(running.port), Wire(running.port)]
        readers = []
        for wire, token in zip(wires, (KEY, GUEST), strict=True):
            reader, writer = await wire.open()
            writer.write(request_bytes(body, key=token))
            readers.append(reader)
        await until(lambda: upstream.simulator.open == 2, 5)
        # Model price, limits and one of the two keys change meanwhile.
        await swap(running, upstream, "a", by_signal=False)
        assert upstream.simulator.open == 2
        for wire, reader in zip(wires, readers, strict=True):
            reply = await wire.read(reader)
            assert (reply.status, reply.data[-1]) == (200, "[DONE]")
            wire.close()
        events = await running.events(model="patient")
        assert len(events) == 2
        assert all(event["cost_nano_usd"] == nano_usd(RATES["b"], event["usage"]) for event in events)


BROKEN: dict[str, tuple[str, str]] = {
    "unknown setting": ('{"modles": {}}', "modles"),
    "no such provider": (
        '{"providers": {"sim": {"type": "openai-compatible"}}, "models": {"x": "nobody/x"}}',
        "nobody",
    ),
    "not YAML": ("models: [unfinished", "not valid YAML"),
    "a missing variable": ('{"admin_key": "${NOBODY_SET_THIS}"}', "NOBODY_SET_THIS"),
}


@pytest.mark.parametrize("text", BROKEN)
async def test_a_file_that_cannot_be_served_changes_nothing(
    tmp_path: Path, upstream: RunningSimulator, text: str
) -> None:
    written, named = BROKEN[text]
    async with gateway(tmp_path, config(upstream, "a")) as running:
        generation = (await running.api("/status"))["generation"]
        running.configure(written)
        async with Traffic(running, chat("fast"), keys=[KEY]) as traffic:
            await traffic.answered(10)
            refused = await running.ask(path="/api/config/reload", method="POST", key=ADMIN)
            assert refused.status == 400
            error = refused.json()["error"]
            assert error["problems"]
            assert named in error["message"]
            running.signal(signal.SIGHUP)
            await until(lambda: "refused and the old one stays" in running.log, 5)
            await traffic.answered(10)
        assert set(traffic.statuses) == {200}
        assert await served(running, "a")
        assert (await running.api("/status"))["generation"] == generation
        # A file that is put right is taken.
        await swap(running, upstream, "b", by_signal=True)


async def test_a_file_that_is_gone_changes_nothing(tmp_path: Path, upstream: RunningSimulator) -> None:
    async with gateway(tmp_path, config(upstream, "a")) as running:
        running.config_path.unlink()
        refused = await running.ask(path="/api/config/reload", method="POST", key=ADMIN)
        assert refused.status == 400
        assert "cannot be read" in refused.json()["error"]["message"]
        assert await served(running, "a")


async def test_what_needs_a_restart_is_said(tmp_path: Path, upstream: RunningSimulator) -> None:
    async with gateway(tmp_path, config(upstream, "a")) as running:
        changed: dict[str, Any] = config(upstream, "b", logs={"bodies": "all"}, server={"keep_alive": "5s"})
        running.configure(changed)
        reloaded = await running.api("/config/reload", method="POST")
        assert {line.partition(" ")[0] for line in reloaded["waiting"]} == {"logs", "server"}
        assert await served(running, "b"), "all the rest is served at once"


async def test_limits_change_with_the_file(tmp_path: Path, upstream: RunningSimulator) -> None:
    """A lower budget holds at once against what was spent under the higher one."""
    settings: dict[str, Any] = config(upstream, "a")
    async with gateway(tmp_path, settings) as running:
        for _ in range(5):
            assert (await running.ask(chat("fast"), key=KEY)).status == 200
        spent = (await running.key("ci"))["spent_nano_usd"]
        settings["keys"][0]["budget"] = {"usd": spent / 10**9, "per": "total"}
        running.configure(settings)
        await running.api("/config/reload", method="POST")
        refused = await running.ask(chat("fast"), key=KEY)
        assert (refused.status, refused.json()["error"]["spent_nano_usd"]) == (402, spent)
        settings["budget_status"] = 429
        settings["keys"][0]["budget"] = [{"usd": spent / 10**9, "per": "total"}, "1usd/month"]
        running.configure(settings)
        await running.api("/config/reload", method="POST")
        assert (await running.ask(chat("fast"), key=KEY)).status == 429
        # A budget that is new to the key begins at what the key has spent already.
        assert {each["spent_nano_usd"] for each in (await running.key("ci"))["budgets"]} == {spent}


async def test_reloads_at_once_end_in_the_last_file(tmp_path: Path, upstream: RunningSimulator) -> None:
    async with gateway(tmp_path, config(upstream, "a")) as running:
        for side in "babab":
            running.configure(config(upstream, side))
            await asyncio.gather(*(running.api("/config/reload", method="POST") for _ in range(5)))
            running.signal(signal.SIGHUP)
        await until(lambda: served(running, "b"), 2)
        assert await served(running, "b")
