"""Reading the ledger: it is brought up to date first, and a reader does not hang on one that cannot be."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from tollway.admin import events, usage
from tollway.admin.events import EventQuery
from tollway.admin.usage import UsageQuery
from tollway.errors import Conflict
from tollway.model.event import UsageEvent
from tollway.model.usage import Usage
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.segments import BEGINNING, Position

EVENT = UsageEvent(
    id="ue_r1_1",
    request_id="r1",
    time="2026-11-22T10:00:00.123Z",
    key="ci",
    key_id="key_1",
    endpoint="chat.completions",
    model="fast",
    provider="openai",
    upstream_model="gpt-5-mini",
    deployment="openai/gpt-5-mini",
    status=200,
    outcome="ok",
    usage=Usage(input=42, output=31),
    cost_nano_usd=24_900,
)


def stored(world, record: bytes):
    async def flush() -> None:
        await Ledger(world.database).append([read_entry(record)], "spool", BEGINNING, Position(1, 1))

    return replace(world.context, flush=flush)


async def test_the_ledger_catches_up_before_it_is_read(world):
    context = stored(world, msgspec.json.encode(EVENT))
    page = await events.list_(context, EventQuery(request_id="r1"))
    assert [event.id for event in page.data] == ["ue_r1_1"]
    assert msgspec.structs.asdict(page.data[0].usage) == msgspec.structs.asdict(EVENT.usage)


async def test_an_event_without_its_younger_fields_is_shown_whole(world):
    young = (
        "key",
        "key_id",
        "tags",
        "attempt",
        "streamed",
        "raw_usage",
        "error",
        "cost_nano_usd",
        "overhead_ms",
    )
    old = {
        name: value
        for name, value in msgspec.json.decode(msgspec.json.encode(EVENT)).items()
        if name not in young
    }
    page = await events.list_(stored(world, msgspec.json.encode(old)), EventQuery())
    shown = msgspec.json.decode(msgspec.json.encode(page.data[0]))
    assert set(shown) == set(UsageEvent.__struct_fields__)
    assert (shown["raw_usage"], shown["tags"], shown["usage"]["input"]) == (None, [], 42)


async def test_a_ledger_that_cannot_catch_up_is_read_as_it_is(world, caplog):
    await events.list_(stored(world, msgspec.json.encode(EVENT)), EventQuery())

    async def never() -> None:
        await asyncio.Event().wait()

    page = await events.list_(replace(world.context, flush=never), EventQuery())
    assert [event.id for event in page.data] == ["ue_r1_1"]
    assert "did not catch up" in caplog.text


async def test_without_a_database(world):
    stateless = replace(world.context, keys=None, events=None)
    for read in (events.list_(stateless, EventQuery()), usage.report(stateless, UsageQuery())):
        with pytest.raises(Conflict, match="without a database"):
            await read


async def test_times_are_read_from_now_back(world):
    world.now = 1_795_345_200.0  # 2026-11-22T11:00:00Z
    context = stored(world, msgspec.json.encode(EVENT))
    await events.list_(context, EventQuery())
    for since, until, found in (("2h", None, 1), ("30m", None, 0), ("1d", "90m", 0), ("1d", "30m", 1)):
        query = EventQuery(since=since, until=until)
        assert len((await events.list_(world.context, query)).data) == found, query
        total = (await usage.report(world.context, UsageQuery(since=since, until=until))).total
        assert total.requests == found, query
