from __future__ import annotations

import msgspec
import pytest

from tollway.errors import Conflict, NotFound
from tollway.model.key import VirtualKey
from tollway.model.tenant import AccessGroup, Directory, Membership, Tenant
from tollway.model.terms import Budget, RateLimit, Terms
from tollway.storage.engine import Database
from tollway.storage.repositories.adjustments import Adjustment, Adjustments
from tollway.storage.repositories.admin_tokens import AdminToken, AdminTokens
from tollway.storage.repositories.generation import Generation, Stale
from tollway.storage.repositories.keys import Keys
from tollway.storage.repositories.tenants import Tenants

TERMS = Terms(
    models=("fast",),
    denied_routes=("images.*",),
    aliases={"big": "fast"},
    budgets=(
        Budget(limit=5, unit="tokens", per="quarter", zone="Asia/Tokyo", alert_at=(50,), raised_by=3, raised_until=9.5),
    ),
    limits=RateLimit(rph=5, parallel=2),
    more_limits=(RateLimit(tpm=7, count="input", cached=False, models=("fast",)),),
)  # fmt: skip
ACME = Tenant(
    level="organization", id="acme", name="Acme", terms=TERMS, members=TERMS, keys=TERMS, created_at=1.5
)
TEAM = Tenant(
    level="team", id="acme.search", name="Search", organization="acme", metadata={"a": "ä"}, description="x",
    blocked=True, created_at=2.5, expires_at=3e9,
)  # fmt: skip
ADA = Tenant(level="user", id="ada", name="Ada", email="ada@example.com", role="auditor")
MEMBER = Membership(level="team", tenant="acme.search", user="ada", role="admin", terms=TERMS, created_at=4.5)
GROUP = AccessGroup(
    id="cheap", name="cheap", models=("fast",), mcp_servers=("s",), description="d", created_at=5.5
)


async def test_everything_comes_back(database: Database) -> None:
    tenants = Tenants(database)
    assert await tenants.directory() == Directory()
    await tenants.add(ACME)
    await tenants.add(TEAM)
    await tenants.add(ADA, (MEMBER,))
    await tenants.put_group(GROUP)
    found = await tenants.directory()
    assert {(one.level, one.id): one for one in found.tenants} == {
        ("organization", "acme"): ACME,
        ("team", "acme.search"): TEAM,
        ("user", "ada"): ADA,
    }
    assert (found.memberships, found.groups) == ((MEMBER,), (GROUP,))
    assert await Tenants(database).directory() == found


async def test_every_write_is_noticed(database: Database) -> None:
    tenants, other, generation = Tenants(database), Tenants(database), Generation(database)
    before = await generation.current()
    await tenants.add(ACME)
    await tenants.put(msgspec.structs.replace(ACME, name="New"))
    await tenants.put_member(MEMBER)
    assert [one.name for one in (await other.directory()).tenants] == ["New"]
    assert await other.directory() is await other.directory(), "read once"
    await tenants.put_member(msgspec.structs.replace(MEMBER, role="viewer"))
    assert [one.role for one in (await other.directory()).memberships] == ["viewer"]
    await tenants.remove_member("team", "acme.search", "ada")
    await tenants.put_group(GROUP)
    await tenants.put_group(msgspec.structs.replace(GROUP, models=()))
    assert [one.models for one in (await other.directory()).groups] == [()]
    await tenants.remove_group("cheap")
    await tenants.remove((("organization", "acme"),))
    assert await other.directory() == Directory()
    assert await generation.current() == before + 9


async def test_names_are_taken_within_an_organization_only(database: Database) -> None:
    tenants = Tenants(database)
    await tenants.add(TEAM)
    await tenants.add(msgspec.structs.replace(TEAM, id="b.search", organization="b"))
    await tenants.add(msgspec.structs.replace(TEAM, id="free", organization=None))
    await tenants.add(msgspec.structs.replace(TEAM, level="project"))
    with pytest.raises(Conflict) as taken:
        await tenants.add(msgspec.structs.replace(TEAM, id="other"))
    assert taken.value.param == "name"
    with pytest.raises(Conflict) as taken:
        await tenants.add(msgspec.structs.replace(TEAM, name="other"))
    assert taken.value.param == "id"
    with pytest.raises(Conflict):
        await tenants.put(msgspec.structs.replace(TEAM, id="b.search"))
    with pytest.raises(NotFound):
        await tenants.put(msgspec.structs.replace(TEAM, id="nobody"))
    keys = Keys(database)
    for number, organization in enumerate(("acme", "b", None)):
        await keys.add(
            VirtualKey(id=f"k{number}", name="ci", hash=f"{number}" * 64, hint="…", organization=organization)
        )
    assert [key.id for key in await keys.called("ci")] == ["k0", "k1", "k2"]
    with pytest.raises(Conflict):
        await keys.add(VirtualKey(id="k3", name="ci", hash="3" * 64, hint="…", organization="b"))


async def test_who_goes_leaves_no_membership_and_no_token(database: Database) -> None:
    tenants, tokens = Tenants(database), AdminTokens(database)
    await tenants.add(TEAM)
    await tenants.add(ADA, (MEMBER,))
    token = AdminToken(id="t1", user="ada", name="laptop", hash="h", hint="…", created_at=1.5, expires_at=2.5)
    await tokens.add(token)
    assert await tokens.by_hash("h") == token
    assert await tokens.of_user("ada") == [token]
    await tenants.remove((("user", "ada"),))
    assert (await tenants.directory()).memberships == ()
    assert await tokens.by_hash("h") is None
    await tokens.add(token)
    assert await tokens.remove("bob", "t1") is False
    assert await tokens.remove("ada", "t1") is True
    assert await tokens.of_user("ada") == []


async def test_corrections_add_up_by_counter_and_time(database: Database) -> None:
    adjustments = Adjustments(database)
    assert await adjustments.sums({"a": None}) == {}
    entries = [
        Adjustment(
            id=f"adj_{number}", time=f"2026-11-{day}T00:00:00.000Z", counter=counter, amount=amount, reason="", actor=""
        )
        for number, (day, counter, amount) in enumerate(
            [("01", "a", -5), ("10", "a", 3), ("10", "b", 2**40), ("20", "c", 1)]
        )
    ]  # fmt: skip
    before = await Generation(database).current()
    await adjustments.add(tuple(entries))
    assert await Generation(database).current() == before + 1
    assert await adjustments.sums({"a": None, "b": "2026-11-05T00:00:00.000Z", "d": None}) == {
        "a": -2,
        "b": 2**40,
    }
    assert await adjustments.sums({"a": "2026-11-05T00:00:00.000Z", "c": "2026-12-01T00:00:00.000Z"}) == {
        "a": 3
    }
    assert await adjustments.newest("2026-11-15T00:00:00.000Z") == [entries[3]]
    assert await adjustments.of(["a"], 10) == [entries[1], entries[0]]


async def test_what_another_process_wrote_meanwhile_is_not_swallowed(database: Database) -> None:
    tenants, keys = Tenants(database), Keys(database)
    await tenants.add(ACME)
    newer = msgspec.structs.replace(ACME, description="theirs")
    await tenants.put(newer, ACME)
    with pytest.raises(Stale):
        await tenants.put(msgspec.structs.replace(ACME, name="ours"), ACME)
    assert (await tenants.directory()).tenants == (newer,)
    key = VirtualKey(id="k", name="k", hash="a" * 64, hint="…")
    await keys.add(key)
    await keys.put(msgspec.structs.replace(key, blocked=True), key)
    with pytest.raises(Stale):
        await keys.put(msgspec.structs.replace(key, name="ours"), key)
    assert [(one.name, one.blocked) for one in await keys.all()] == [("k", True)]
