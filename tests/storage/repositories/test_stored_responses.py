from __future__ import annotations

from msgspec.structs import replace

from tollway.model.stored_response import StoredResponse
from tollway.storage.engine import Database
from tollway.storage.repositories.responses import Responses


def stored(id: str, **more: object) -> StoredResponse:
    fields: dict[str, object] = {"owner": "k1", "created": 10.0, "expires": 100.0, "response": b'{"id":"x"}'}
    return StoredResponse(id=id, **(fields | more))  # type: ignore[arg-type]


async def test_they_come_change_and_go(database: Database) -> None:
    responses = Responses(database)
    await responses.put([])
    long = stored("r1", input=b'"' + b"long " * 1000 + b'"', events=b"data: {}\n\n", previous="r0", team="t")
    await responses.put([long, stored("r2", status="in_progress", background=True)])
    assert await responses.find("r1") == long
    assert await responses.find("r3") is None
    await responses.put([replace(long, status="failed", response=b"{}")])
    assert await responses.find("r1") == replace(long, status="failed", response=b"{}")
    await responses.remove("r1")
    await responses.remove("r1")
    assert await responses.find("r1") is None
    assert await responses.find("r2") is not None


async def test_anothers_is_never_overwritten(database: Database) -> None:
    responses = Responses(database)
    mine = stored("r1")
    await responses.put([mine])
    await responses.put([stored("r1", owner="k2", response=b'{"stolen":1}'), stored("r2", owner="k2")])
    assert await responses.find("r1") == mine
    assert (await responses.find("r2")) == stored("r2", owner="k2")


async def test_long_texts_lie_compressed(database: Database) -> None:
    responses = Responses(database)
    await responses.put([stored("r1", input=b'"' + b"a" * 100_000 + b'"')])
    size = await database.read(
        lambda connection: connection.exec_driver_sql("SELECT length(input) FROM responses").scalar_one()
    )
    assert size < 2000


async def test_a_chain_goes_back_to_its_beginning_or_the_bound(database: Database) -> None:
    responses = Responses(database)
    await responses.put([stored("r0")] + [stored(f"r{n}", previous=f"r{n - 1}") for n in range(1, 10)])
    assert [one.id for one in await responses.chain("r3", 100, 10_000)] == ["r3", "r2", "r1", "r0"]
    assert len(await responses.chain("r9", 4, 10_000)) == 5
    assert len(await responses.chain("r9", 100, 25)) == 3
    await responses.remove("r2")
    assert [one.id for one in await responses.chain("r4", 100, 10_000)] == ["r4", "r3"]
    assert await responses.chain("none", 100, 10_000) == []


async def test_what_was_not_ended_and_what_is_due(database: Database) -> None:
    responses = Responses(database)
    await responses.put(
        [
            stored(f"r{n}", created=float(n), expires=float(n), status="queued" if n % 2 else "completed")
            for n in range(8)
        ]
    )
    assert {one.id for one in await responses.unfinished(6.0)} == {"r1", "r3", "r5"}
    assert await responses.purge(4.0, 3) == 3
    assert await responses.purge(4.0, 3) == 2
    assert await responses.purge(4.0, 3) == 0
    assert await responses.find("r4") is None
    assert await responses.find("r5") is not None
