"""To the nano-dollar: what clients were told, the events, the roll-ups, the keys' counters and the provider's own
bill times the configured prices are the same money."""

from __future__ import annotations

import json
import random
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from load import assert_sums_agree, billed, cost_of, crowd, nano_usd
from running import Reply, Wire, chat, gateway, provider
from tollway.model.money import to_usd
from tollway.simulator.running import RunningSimulator

# Rates that do not come out even, so that every event has something to round.
PRICES: dict[str, dict[str, str]] = {
    "plain": {"input": "0.150000001", "output": "0.600000007"},
    "cached": {
        "input": "0.123456789",
        "cache_read": "0.030864197",
        "output": "0.777777777",
        "reasoning": "1.1",
    },
    "cheap-cache": {"input": "2.5", "output": "10"},
    "flaky": {"input": "0.333333333", "output": "1.234567891"},
    "up": {"input": "0.0000015", "output": "0.0000035"},
    "silent": {"input": "0.77", "output": "3.1"},
    "running": {"input": "0.21", "output": "0.430000001"},
    "cutting": {"input": "0.9", "output": "1.7"},
    "embed": {"input": "0.020000003"},
}


def priced(knobs: str) -> dict[str, object]:
    """A target of the simulator, whose bill names the model without its knobs."""
    name = knobs.partition("+")[0]
    return {"model": f"sim/{knobs}", "price": {unit: float(rate) for unit, rate in PRICES[name].items()}}


MODELS: dict[str, object] = {
    "plain": priced("plain"),
    "cached": priced("cached+cached=60%+reasoning=7+tokens=21"),
    "cheap-cache": priced("cheap-cache+cached=3"),
    "flaky": {
        "targets": [priced("flaky+status=503+errors=40%+retry_after=1ms")],
        "retry": {"attempts": 5, "on": ["503"]},
    },
    "fallback": {
        "strategy": "fallback",
        "targets": [
            {"model": "sim/down+status=500", "price": {"input": 5, "output": 5}},
            priced("up+reasoning=3"),
        ],
        "retry": {"attempts": 1},
    },
    "silent": priced("silent+no_usage"),
    "running": priced("running+usage_every"),
    "cutting": {"targets": [priced("cutting+cut=4")], "retry": {"attempts": 1}},
    "embed": priced("embed"),
    "unpriced": "sim/nobody-knows-this-model",
}
USUAL = [name for name in MODELS if name not in ("embed", "cutting")]
KEYS = {"month": "sk-tw-key-with-budgets-0000", "loose": "sk-tw-key-without-budget-00"}


async def one_request(wire: Wire, dice: random.Random) -> tuple[str, Reply]:
    model = dice.choice([*USUAL, "embed", "cutting"])
    text = "word " * dice.randrange(1, 60)
    how: dict[str, Any] = {
        "key": dice.choice(list(KEYS.values())),
        "chunked": dice.random() < 0.3,
        "headers": {"te": "trailers"},
    }
    if model == "embed":
        return model, await wire.ask({"model": model, "input": [text, text]}, "/v1/embeddings", **how)
    body = chat(model, text)
    # Broken off half-way only streams can end within the protocol.
    if model == "cutting" or dice.random() < 0.6:
        body["stream"] = True
        if dice.random() < 0.5:
            body["stream_options"] = {"include_usage": dice.random() < 0.8}
    return model, await wire.ask(body, **how)


def told_cost(reply: Reply) -> str | None:
    """What the client was told its answer cost: a header of a whole answer, the trailer of a stream."""
    return reply.headers.get("x-tollway-cost-usd") or reply.trailers.get("x-tollway-cost-usd")


@pytest.mark.parametrize("count", [1200, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_every_sum_agrees_to_the_nano_dollar(
    tmp_path: Path, upstream: RunningSimulator, count: int
) -> None:
    keys = [
        {"name": "month", "key": KEYS["month"], "budget": ["5usd/month", {"usd": 7, "per": "total"}]},
        {"name": "loose", "key": KEYS["loose"], "limits": {"parallel": 1000, "rpm": 1_000_000}},
    ]
    config = {"providers": {"sim": provider(upstream)}, "models": MODELS, "keys": keys}
    async with gateway(tmp_path, config) as running:
        answers: list[tuple[str, Reply]] = []
        wires = [Wire(running.port) for _ in range(24)]
        free = list(wires)

        async def work(_: int, dice: random.Random) -> None:
            wire = free.pop()
            answers.append(await one_request(wire, dice))
            free.append(wire)

        await crowd(len(wires), count, work)
        for wire in wires:
            wire.close()

        events = await running.events()
        await assert_sums_agree(running, events, KEYS)
        assert_answers(answers, events)
        assert_bill(upstream, answers, events)

        # What was counted in memory is what a new process reads from the ledger.
        assert await running.stop() == 0
        await running.start()
        assert len(await running.events()) == len(events)
        await assert_sums_agree(running, events, KEYS)


def assert_answers(answers: list[tuple[str, Reply]], events: list[Any]) -> None:
    """Each answer has its attempts' events, and names the cost of the one that served it."""
    by_request: dict[str, list[Any]] = {}
    for event in sorted(events, key=lambda one: one["attempt"]):
        by_request.setdefault(event["request_id"], []).append(event)
    assert len({reply.request_id for _, reply in answers}) == len(answers)
    assert set(by_request) == {reply.request_id for _, reply in answers}
    for model, reply in answers:
        attempts = by_request[reply.request_id]
        assert [each["attempt"] for each in attempts] == list(range(1, len(attempts) + 1))
        assert {each["model"] for each in attempts} == {model}
        assert all(each["outcome"] == "error" for each in attempts[:-1])
        last = attempts[-1]
        if model == "cutting":
            assert (last["outcome"], last["estimated"]) == ("error", True)
            assert 0 < last["usage"]["output"] <= 4
            assert reply.data[-1] == "[DONE]"
            assert "error" in reply.chunks[-1]
        elif reply.status == 200:
            assert int(reply.headers["x-tollway-attempts"]) == len(attempts)
            assert (last["outcome"], last["status"]) == ("ok", 200)
            assert last["estimated"] is (model == "silent")
            assert last["streamed"] is reply.streamed
            if (told := told_cost(reply)) is not None:
                assert told == (to_usd(last["cost_nano_usd"]) if last["priced"] else "unpriced")
            assert_usage_shown(reply, last)
        else:
            assert (model, reply.status, len(attempts)) == ("flaky", 503, 5)
    assert any(told_cost(reply) for _, reply in answers if reply.streamed), "no client took a trailer"


def assert_usage_shown(reply: Reply, event: Any) -> None:
    """A stream's usage chunk (where it was asked for) carries the provider's usage and the cost."""
    if not reply.streamed:
        return
    shown = [chunk["usage"] for chunk in reply.chunks if chunk.get("usage") and not chunk["choices"]]
    for usage in shown:
        cost = usage.pop("cost", None)
        assert usage == event["raw_usage"]
        if event["priced"]:
            assert Decimal(str(cost)) == Decimal(to_usd(event["cost_nano_usd"]))


def assert_bill(upstream: RunningSimulator, answers: list[tuple[str, Reply]], events: list[Any]) -> None:
    """The provider's bill, priced in decimals, is the ledger's sum: line by line and in all."""
    bill = upstream.simulator.bill.entries()
    assert len(bill) == len(events), "one event for each attempt that reached the provider"
    by_model = Counter(line.model for line in bill)
    assert by_model == Counter(event["upstream_model"].partition("+")[0] for event in events)
    events_of = {event["request_id"]: event for event in sorted(events, key=lambda one: one["attempt"])}
    lines = {line.id: line for line in bill}
    for model, reply in answers:
        if reply.status != 200 or model in ("embed", "cutting", "silent"):
            continue
        line, event = lines[reply.answer_id], events_of[reply.request_id]
        assert line.complete
        assert line.usage is not None
        usage = json.loads(bytes(line.usage))
        assert event["raw_usage"] == usage
        counts = billed(usage)
        assert {unit: event["usage"][unit] for unit in counts} == counts
        if line.model in PRICES:
            assert event["cost_nano_usd"] == nano_usd(PRICES[line.model], counts)
            assert event["priced"]
        else:
            assert (event["cost_nano_usd"], event["priced"]) == (0, False)
    served = [line for line in bill if line.usage is not None and line.complete and line.model in PRICES]
    total = sum(nano_usd(PRICES[line.model], billed(json.loads(bytes(line.usage or b"")))) for line in served)
    reported = [event for event in events if event["raw_usage"] is not None]
    assert total == cost_of(reported) > 0
    # What the provider did not report is our count at the same prices; what it refused costs nothing.
    for event in events:
        name = event["upstream_model"].partition("+")[0]
        if event["estimated"]:
            assert event["usage"]["input"] > 0
        elif event["outcome"] == "error":
            assert event["cost_nano_usd"] == 0
        if name in PRICES:
            assert event["cost_nano_usd"] == nano_usd(PRICES[name], event["usage"])
    assert {event["outcome"] for event in events} == {"ok", "error"}
    failed = [
        event for event in events if event["upstream_model"].startswith("flaky") and event["status"] == 503
    ]
    assert len(failed) == upstream.simulator.bill.totals["flaky"].errors > 0
