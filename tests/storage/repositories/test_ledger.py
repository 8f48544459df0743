from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import select

from tollway.model.usage import Usage
from tollway.storage.engine import Database
from tollway.storage.entries import COLUMNS, DIMENSIONS, PLAIN_UNITS, UNITS, Entry
from tollway.storage.repositories import rollups
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.ledger import Head, Ledger, PositionMoved, read_entry
from tollway.storage.segments import BEGINNING, Position
from tollway.storage.tables import events


def entries(*stored) -> list[Entry]:
    return [read_entry(msgspec.json.encode(event)) for event in stored]


def test_columns_follow_the_model() -> None:
    """The statement is positional: a field added to the model must find its column."""
    names = Usage.__struct_fields__
    assert tuple("service_calls" if name == "requests" else name for name in names) == UNITS
    assert [column.name for column in events.columns] == ["seq", *COLUMNS]
    assert set(DIMENSIONS) <= set(Head.__struct_fields__)


async def test_every_column_is_what_the_event_says(database: Database, make_event) -> None:
    usage = Usage(**{name: n for n, name in enumerate(Usage.__struct_fields__, 1)})
    event = make_event(
        7,
        usage=usage,
        organization="acme",
        project="site",
        user="ada",
        customer="c1",
        tags=("b", "a", "b"),
        attempt=3,
        status=500,
        outcome="error",
        priced=False,
    )
    await Ledger(database).append(entries(event), "s", BEGINNING, Position(1, 9))
    row = await database.read(lambda connection: connection.execute(select(events)).mappings().one())
    told = msgspec.structs.asdict(event)
    for name in ("id", "time", "cost_nano_usd", "priced", *DIMENSIONS):
        assert row[name] == ('["a","b"]' if name == "tags" else told[name]), name
    assert row["outcome"] == "error"
    units = {name: row[name] for name in PLAIN_UNITS} | msgspec.json.decode(row["other_units"])
    assert units == {name: number for number, name in enumerate(UNITS, 1)}
    assert row["event"] == msgspec.json.encode(event)
    assert await rollups.verify(database) == []


async def test_units_beside_the_plain_ones_are_kept_only_where_there_are_any(
    database: Database, make_event
) -> None:
    plain = make_event(1, usage=Usage(input=3, cache_read=2, output=1))
    await Ledger(database).append(entries(plain), "s", BEGINNING, Position(1, 9))
    row = await database.read(lambda connection: connection.execute(select(events)).mappings().one())
    assert (row["input"], row["cache_read"], row["output"], row["other_units"]) == (3, 2, 1, None)
    assert await rollups.verify(database) == []


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256])
async def test_batches_of_any_size(database: Database, make_event, count: int) -> None:
    batch = entries(*(make_event(n, model=f"m{n % 70}", cost_nano_usd=n) for n in range(count)))
    assert await Ledger(database).append(batch, "s", BEGINNING, Position(1, 9)) == count
    assert await Events(database).count() == count
    total = (await Events(database).usage(["model"])).total
    assert (total["requests"], total["cost_nano_usd"]) == (count, sum(range(count)))
    assert await rollups.verify(database) == []


async def test_an_id_counts_once(database: Database, make_event) -> None:
    ledger = Ledger(database)
    first = entries(make_event(1), make_event(2))
    assert await ledger.append(first, "s", BEGINNING, Position(1, 10)) == 2
    again = entries(make_event(2), make_event(3), make_event(3), make_event(1))
    assert await ledger.append(again, "s", Position(1, 10), Position(1, 20)) == 1
    assert await ledger.append(again, "other", BEGINNING, Position(1, 20)) == 0
    assert await Events(database).count() == 3
    total = (await Events(database).usage([])).total
    assert (total["requests"], total["cost_nano_usd"]) == (3, 300)
    assert await ledger.position("s") == Position(1, 20)
    assert await ledger.position("other") == Position(1, 20)


async def test_a_position_moves_once(database: Database, make_event) -> None:
    """Two writers that read the same batch: one stores it."""
    ledger = Ledger(database)
    batch = entries(make_event(1))
    assert await ledger.position("s") == BEGINNING
    await ledger.append(batch, "s", BEGINNING, Position(1, 10))
    for before in (BEGINNING, Position(1, 5), Position(2, 10)):
        with pytest.raises(PositionMoved):
            await ledger.append(entries(make_event(2)), "s", before, Position(1, 20))
    assert await ledger.position("s") == Position(1, 10)
    assert await Events(database).count() == 1
    await ledger.append([], "s", Position(1, 10), Position(2, 0))
    assert await ledger.position("s") == Position(2, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "yesterday"},
        {"time": "2026-11-20T10:00:00Z"},
        {"cost_nano_usd": 1 << 60},
        {"usage": {"input": 1 << 60}},
        {"usage": {"input": "many"}},
        {"id": None},
        {"status": "ok"},
    ],
)
def test_what_is_no_event_is_refused(make_event, changes: dict[str, object]) -> None:
    told = msgspec.json.decode(msgspec.json.encode(make_event(1)))
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        read_entry(msgspec.json.encode({**told, **changes}))
