from __future__ import annotations

import msgspec
import pytest

from tollway.errors import Conflict, NotFound
from tollway.model.key import Budget, RateLimit, VirtualKey
from tollway.model.terms import Terms
from tollway.storage.engine import Database
from tollway.storage.repositories.generation import Generation
from tollway.storage.repositories.keys import Keys

FULL = VirtualKey(
    id="key_1",
    name="ci",
    hash="a" * 64,
    hint="sk-tw-…abcd",
    models=("fast", "openai/*"),
    budgets=(Budget(limit=10_000_000_000, per="month"), Budget(limit=1, per="30d", strict=True)),
    limits=RateLimit(rpm=60, tpm=100_000, parallel=4),
    team="core",
    user="ada",
    customer="acme",
    tags=("prod", "eu"),
    metadata={"owner": "ci", "note": "ä"},
    created_at=1_763_800_000.25,
    expires_at=1_800_000_000.0,
    blocked=True,
    revoked_at=1_763_900_000.5,
    more=Terms(denied_models=("big",), routes=("chat.*",), more_limits=(RateLimit(tpd=9, models=("fast",)),)),
    organization="acme",
    project="acme.rank",
    service=True,
    description="builds",
    former_hash="c" * 64,
    former_until=1_763_990_000.5,
    created_by="bob",
)
PLAIN = VirtualKey(id="key_2", name="plain", hash="b" * 64, hint="sk-tw-…efgh", created_at=2e9)


async def test_every_field_comes_back(database: Database) -> None:
    keys = Keys(database)
    await keys.add(PLAIN)
    await keys.add(FULL)
    assert await keys.all() == [FULL, PLAIN]
    assert await keys.find("key_1") == FULL
    assert await keys.find("plain") == PLAIN
    assert await keys.find("nobody") is None


async def test_an_id_wins_over_a_name(database: Database) -> None:
    keys = Keys(database)
    await keys.add(FULL)
    await keys.add(msgspec.structs.replace(PLAIN, name="key_1"))
    assert await keys.find("key_1") == FULL


@pytest.mark.parametrize(
    ("change", "param"),
    [({"name": "ci", "organization": "acme"}, "name"), ({"hash": "a" * 64}, "key"), ({"id": "key_1"}, "id")],
)
async def test_what_is_taken_is_named(database: Database, change: dict[str, str], param: str) -> None:
    keys = Keys(database)
    await keys.add(FULL)
    before = await Generation(database).current()
    with pytest.raises(Conflict) as caught:
        await keys.add(msgspec.structs.replace(PLAIN, **change))
    assert caught.value.param == param
    assert await keys.all() == [FULL]
    assert await Generation(database).current() == before


async def test_replacing(database: Database) -> None:
    keys = Keys(database)
    await keys.add(FULL)
    await keys.add(msgspec.structs.replace(PLAIN, organization="acme"))
    changed = msgspec.structs.replace(FULL, name="ci-2", blocked=False, budgets=())
    await keys.put(changed)
    assert await keys.find("ci-2") == changed
    assert await keys.find("ci") is None
    with pytest.raises(Conflict, match="plain"):
        await keys.put(msgspec.structs.replace(FULL, name="plain"))
    with pytest.raises(NotFound):
        await keys.put(msgspec.structs.replace(FULL, id="key_9"))


async def test_every_write_is_noticed(database: Database) -> None:
    keys, generation = Keys(database), Generation(database)
    assert await generation.current() == 0
    await keys.add(FULL)
    assert await generation.current() == 1
    await keys.put(FULL)
    assert await generation.current() == 2
    assert await keys.remove("key_1") is True
    assert await generation.current() == 3
    assert await keys.remove("key_1") is False
    assert await generation.current() == 3
