"""The store of responses over a real database: what is at hand, what waits, what belongs to whom, what is too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tollway.errors import BadRequest, NotFound, PreviousResponseNotFound, StoreUnavailable
from tollway.model.key import ADMIN, Principal, VirtualKey
from tollway.model.stored_response import StoredResponse
from tollway.pipeline import stored_responses
from tollway.pipeline.stored_responses import StoredResponses
from tollway.storage.engine import Database
from tollway.storage.repositories.responses import Responses


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open("sqlite:///responses.db", tmp_path)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(database: Database, clock: Clock) -> StoredResponses:
    return StoredResponses(Responses(database), 3600.0, clock)


def principal(id: str) -> Principal:
    key = VirtualKey(id=id, name=id, hash="00" * 32, hint="")
    return Principal(kind="key", key=key)


ADA, BOB = principal("ada"), principal("bob")


def one(id: str, owner: str = "ada", **more: object) -> StoredResponse:
    fields: dict[str, object] = {
        "response": msgspec.json.encode({"id": id, "status": "completed", "output": []})
    }
    return StoredResponse(id=id, owner=owner, **(fields | more))  # type: ignore[arg-type]


async def test_at_hand_before_it_is_written_and_found_after(database: Database, clock: Clock) -> None:
    store = opened(database, clock)
    assert store.keep(one("resp_1"))
    assert (await store.find("resp_1", ADA)).id == "resp_1"
    assert await Responses(database).find("resp_1") is None
    await store.flush()
    found = await opened(database, clock).find("resp_1", ADA)
    assert found.created == 1000.0
    assert found.expires == 4600.0


async def test_owner_and_administrator_alone(database: Database, clock: Clock) -> None:
    store = opened(database, clock)
    store.keep(one("resp_1"))
    for again in (store, opened(database, clock)):
        await store.flush()
        assert (await again.find("resp_1", ADMIN)).owner == "ada"
        with pytest.raises(NotFound) as hidden:
            await again.find("resp_1", BOB)
        with pytest.raises(NotFound) as unknown:
            await again.find("resp_2", BOB)
        assert hidden.value.message.replace("resp_1", "") == unknown.value.message.replace("resp_2", "")
        with pytest.raises(PreviousResponseNotFound):
            await again.chain("resp_1", BOB)
    assert not store.keep(one("resp_1", owner="bob"))
    assert (await store.find("resp_1", ADA)).owner == "ada"


async def test_what_expired_is_gone_before_it_is_purged(database: Database, clock: Clock) -> None:
    store = opened(database, clock)
    store.keep(one("resp_1"))
    clock.now += 3599
    await store.find("resp_1", ADA)
    clock.now += 2
    with pytest.raises(NotFound):
        await store.find("resp_1", ADA)


async def test_removed_while_it_waits_it_stays_away(database: Database, clock: Clock) -> None:
    store = opened(database, clock)
    store.keep(one("resp_1"))
    writing = asyncio.ensure_future(store.flush())
    await store.remove("resp_1")
    await writing
    await store.flush()
    with pytest.raises(NotFound):
        await store.find("resp_1", ADA)
    assert await Responses(database).find("resp_1") is None


async def test_removed_while_it_is_looked_for_it_stays_away(database: Database, clock: Clock) -> None:
    store = opened(database, clock)
    store.keep(one("resp_1"))
    await store.flush()
    again = opened(database, clock)
    looking = asyncio.ensure_future(again.find("resp_1", ADA))
    await asyncio.sleep(0)
    await again.remove("resp_1")
    await asyncio.gather(looking, return_exceptions=True)
    with pytest.raises(NotFound):
        await again.find("resp_1", ADA)
    assert not again.keep(one("resp_1"))


async def test_a_chain_from_memory_and_database(database: Database, clock: Clock) -> None:
    first = opened(database, clock)
    for number in range(4):
        first.keep(one(f"resp_{number}", previous=f"resp_{number - 1}" if number else None))
    await first.flush()
    store = opened(database, clock)
    store.keep(one("resp_4", previous="resp_3"))
    assert [each.id for each in await store.chain("resp_4", ADA)] == [f"resp_{n}" for n in (4, 3, 2, 1, 0)]
    await store.remove("resp_1")
    with pytest.raises(PreviousResponseNotFound, match="resp_4"):
        await store.chain("resp_4", ADA)


async def test_a_chain_does_not_lead_into_anothers(database: Database, clock: Clock) -> None:
    store = opened(database, clock)
    store.keep(one("resp_1", owner="bob"))
    store.keep(one("resp_2", previous="resp_1"))
    with pytest.raises(PreviousResponseNotFound):
        await store.chain("resp_2", ADA)


async def test_a_chain_has_an_end(database: Database, clock: Clock) -> None:
    store = opened(database, clock)
    for number in range(stored_responses.MAX_CHAIN + 1):
        store.keep(one(f"resp_{number}", previous=f"resp_{number - 1}" if number else None))
    assert len(await store.chain(f"resp_{stored_responses.MAX_CHAIN - 1}", ADA)) == stored_responses.MAX_CHAIN
    while store._waiting:
        await store.flush()
    for again in (store, opened(database, clock)):
        with pytest.raises(BadRequest, match="longer than this gateway"):
            await again.chain(f"resp_{stored_responses.MAX_CHAIN}", ADA)


async def test_what_is_too_large_or_too_much_is_not_kept(database: Database, clock: Clock) -> None:
    store = opened(database, clock)
    assert not store.keep(one("resp_1", input=b"x" * stored_responses.MAX_BYTES))
    big = b"x" * (stored_responses.MAX_BYTES // 2)
    kept = [store.keep(one(f"resp_{n}", input=big)) for n in range(20)]
    assert kept.index(False) == stored_responses.WAITING_BYTES // (len(big) + 600)
    assert store.dropped == 1 + kept.count(False)
    assert store._known_bytes <= stored_responses.AT_HAND_BYTES
    # What waits for the database is found although memory holds less.
    assert (await store.find("resp_0", ADA)).input == big
    await store.flush()
    assert store._waiting_bytes == 0
    assert store.keep(one("resp_30", input=big))


async def test_a_database_that_is_away_is_caught_up_with(database: Database, clock: Clock) -> None:
    store = opened(database, clock)
    away = database.path.with_suffix(".away")
    database.path.rename(away)
    store.keep(one("resp_1"))
    await store.flush()
    assert (await store.find("resp_1", ADA)).id == "resp_1"
    with pytest.raises(StoreUnavailable):
        await store.find("resp_2", ADA)
    away.rename(database.path)
    await store.flush()
    assert await Responses(database).find("resp_1") is not None


async def test_what_an_earlier_process_worked_at_has_failed(database: Database, clock: Clock) -> None:
    before = opened(database, clock)
    before.running.add("resp_1")
    before.keep(one("resp_1", status="in_progress", background=True))
    assert (await before.find("resp_1", ADA)).status == "in_progress"
    await before.flush()
    clock.now += 10
    store = opened(database, clock)
    found = await store.find("resp_1", ADA)
    assert found.status == "failed"
    assert msgspec.json.decode(found.response)["error"]["code"] == "server_error"
    running = asyncio.ensure_future(store.run())
    for _ in range(200):
        row = await Responses(database).find("resp_1")
        assert row is not None
        if row.status == "failed":
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("it was never marked")
    running.cancel()
