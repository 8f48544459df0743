"""Virtual keys from creation to revocation, on a real database and real counters."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import replace

import msgspec
import pytest
from msgspec import UNSET

from tollway.admin import keys
from tollway.admin.context import NOBODY, Actor
from tollway.admin.key_terms import KeyPatch, NewKey, Rotation
from tollway.admin.keys import KeyQuery
from tollway.admin.terms import BudgetTerms, LimitTerms
from tollway.errors import BadRequest, Conflict, Forbidden, NotFound
from tollway.model.key import ADMIN, Budget, Principal, RateLimit, VirtualKey
from tollway.shared.claims import claims_of
from tollway.shared.interface import Amounts


async def test_created_key_is_served_at_once_and_only_its_hash_is_kept(world):
    made = await keys.create(world.context, NewKey(name="ci", models=("fast", "openai/*", "fast")))
    assert made.key.startswith("sk-tw-")
    assert len(made.key) >= 6 + 43
    served = world.served(made.id)
    assert served.hash == hashlib.sha256(made.key.encode()).hexdigest()
    assert served.models == ("fast", "openai/*")
    assert made.hint == served.hint == f"sk-tw-…{made.key[-4:]}"
    files = [path.read_bytes() for path in world.database.path.parent.glob("tollway.db*")]
    assert any(served.hash.encode() in content for content in files)
    assert not any(made.key.encode() in content for content in files)
    shown = msgspec.json.encode(await keys.get(world.context, "ci"))
    assert made.key.encode() not in shown
    assert served.hash.encode() not in shown


async def test_every_term_is_stored(world):
    world.now = 1_800_000_000.0
    made = await keys.create(
        world.context,
        NewKey(
            name=" spaced ",
            budget=(BudgetTerms(usd="2.5", per="day", strict=True), BudgetTerms(usd=100)),
            limits=LimitTerms(rpm=60, parallel=4),
            expires="30d",
            team="web",
            user="ada",
            customer="acme",
            tags=("a", "b"),
            metadata={"cost-centre": "7"},
        ),
    )
    stored = await world.keys.find(made.id)
    assert stored == VirtualKey(
        id=made.id,
        name="spaced",
        hash=stored.hash,
        hint=stored.hint,
        budgets=(Budget(limit=2_500_000_000, per="day", strict=True), Budget(limit=100_000_000_000)),
        limits=RateLimit(rpm=60, parallel=4),
        team="web",
        user="ada",
        customer="acme",
        tags=("a", "b"),
        metadata={"cost-centre": "7"},
        created_at=1_800_000_000.0,
        expires_at=1_800_000_000.0 + 30 * 86400,
    )
    assert made.expires_at == "2027-02-14T08:00:00.000Z"


async def test_short_budget(world):
    made = await keys.create(world.context, NewKey(name="ci", budget="10usd/month"))
    assert (made.budget.usd, made.budget.per, made.budget.limit_nano_usd) == (10, "month", 10_000_000_000)


async def test_key_value_of_ones_own(world):
    value = "imported-key-0123456789"
    made = await keys.create(world.context, NewKey(name="old", key=value))
    assert made.key == value
    assert made.hint == "…6789"
    with pytest.raises(Conflict) as refused:
        await keys.create(world.context, NewKey(name="other", key=value))
    assert refused.value.param == "key"
    assert value not in refused.value.message


@pytest.mark.parametrize(
    "value",
    ["short", "sk-tw-user-0123456789abcdef", "has a space in the middle", "x" * 513, "ünïcödé-0123456789"],
)
async def test_weak_key_values_are_refused_and_not_repeated(world, value):
    with pytest.raises(BadRequest) as refused:
        await keys.create(world.context, NewKey(name="old", key=value))
    assert refused.value.param == "key"
    assert value not in refused.value.message
    assert await world.keys.all() == []


async def test_admin_key_is_no_virtual_key(world):
    with pytest.raises(Conflict, match="admin key"):
        await keys.create(world.context, NewKey(name="sly", key=world.settings.admin_key.reveal()))


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        (NewKey(name="  "), "name"),
        (NewKey(name="a/b"), "name"),
        (NewKey(name="key_0123"), "name"),
        (NewKey(name="sk-tw-abc"), "name"),
        (NewKey(name="n" * 101), "name"),
        (NewKey(name="a\nb"), "name"),
        (NewKey(name="a", models=("fast", " ")), "models"),
        (NewKey(name="a", budget=BudgetTerms(per="day")), "budget.usd"),
        (NewKey(name="a", budget=BudgetTerms(usd=-1)), "budget.usd"),
        (NewKey(name="a", budget=BudgetTerms(usd="ten")), "budget.usd"),
        (NewKey(name="a", budget=BudgetTerms(usd=10**10)), "budget.usd"),
        (NewKey(name="a", budget=BudgetTerms(usd=1, per="fortnight")), "budget.per"),
        (NewKey(name="a", budget=(BudgetTerms(usd=1), BudgetTerms(usd=2, per="0d"))), "budget[1].per"),
        (NewKey(name="a", budget=(BudgetTerms(usd=1), BudgetTerms(usd=2))), "budget"),
        (NewKey(name="a", budget="10 euros"), "budget"),
        (NewKey(name="a", limits=LimitTerms(rpm=0)), "limits.rpm"),
        (NewKey(name="a", limits=LimitTerms(tpd=10**13)), "limits.tpd"),
        (NewKey(name="a", expires="yesterday"), "expires"),
        (NewKey(name="a", expires="2001-01-01"), "expires"),
        (NewKey(name="a", expires="999999999w"), "expires"),
        (NewKey(name="a", team=""), "team"),
        (NewKey(name="a", tags=("",)), "tags"),
        (NewKey(name="a", metadata={"a": "x" * 5000}), "metadata"),
        (NewKey(name="a", metadata={"a": "\x00"}), "metadata"),
    ],
)
async def test_wrong_terms_name_their_field(world, wrong, param):
    with pytest.raises(BadRequest) as refused:
        await keys.create(world.context, wrong)
    assert refused.value.param == param
    assert await world.keys.all() == []


async def test_two_creates_at_once_with_one_name(world):
    # A context of its own has a lock of its own, as another process has: then the database decides.
    elsewhere = replace(world.context, writing=asyncio.Lock())
    answers = await asyncio.gather(
        *(keys.create(context, NewKey(name="ci")) for context in (world.context, elsewhere) * 5),
        return_exceptions=True,
    )
    refused = [each for each in answers if isinstance(each, Conflict)]
    assert len(refused) == 9
    assert {each.param for each in refused} == {"name"}
    assert [key.name for key in await world.keys.all()] == ["ci"]


async def test_name_of_a_file_key_is_taken(world):
    with pytest.raises(Conflict, match="exists already"):
        await keys.create(world.context, NewKey(name="from-file"))


async def test_file_key_is_shown_and_not_touched(world):
    shown = await keys.get(world.context, "from-file")
    assert (shown.owner, shown.limits.rpm) == ("file", 60)
    assert [counter.label for counter in shown.counters] == ["rpm"]
    for change in (
        keys.update(world.context, "from-file", KeyPatch(team="x")),
        keys.block(world.context, "from-file"),
        keys.unblock(world.context, shown.id),
        keys.revoke(world.context, shown.id),
        keys.rotate(world.context, "from-file"),
    ):
        with pytest.raises(Conflict, match=r"tollway\.yaml"):
            await change


async def test_without_a_database(world):
    stateless = replace(world.context, keys=None, events=None)
    with pytest.raises(Conflict, match="without a database"):
        await keys.create(stateless, NewKey(name="ci"))
    assert (await keys.get(stateless, "from-file")).spent_nano_usd == 0
    assert [key.name for key in (await keys.list_(stateless, KeyQuery())).data] == ["from-file"]
    with pytest.raises(NotFound):
        await keys.block(stateless, "ci")


async def test_budget_shows_what_is_spent_and_held(world):
    made = await keys.create(world.context, NewKey(name="ci", budget=BudgetTerms(usd=1, per="month")))
    claims = claims_of(world.served(made.id))
    first = await world.counters.reserve(claims, Amounts(nano_usd=300, worst_nano_usd=300))
    await world.counters.reserve(claims, Amounts(nano_usd=50, worst_nano_usd=50))
    first.settle(nano_usd=120, tokens=0)
    shown = await keys.get(world.context, "ci")
    assert (shown.spent_nano_usd, shown.held_nano_usd) == (120, 50)
    assert shown.budget.remaining_nano_usd == 1_000_000_000 - 170
    assert shown.resets_at == shown.budget.resets_at
    assert shown.resets_at.endswith("-01T00:00:00.000Z")


async def test_tightest_of_several_budgets_speaks(world):
    budgets = (BudgetTerms(usd=5, per="month"), BudgetTerms(usd=1, per="day"), BudgetTerms(usd=9))
    made = await keys.create(world.context, NewKey(name="ci", budget=budgets))
    assert made.budget.per == "day"
    assert [each.per for each in made.budgets] == ["month", "day", "total"]
    assert made.budgets[2].resets_at is None


async def test_merge_patch(world):
    made = await keys.create(
        world.context,
        NewKey(
            name="ci",
            budget=BudgetTerms(usd=10, per="month", strict=True),
            limits=LimitTerms(rpm=60, tpm=1000),
            expires="30d",
            team="web",
            user="ada",
            tags=("a",),
            metadata={"a": "1", "b": "2"},
        ),
    )
    before = world.served(made.id)

    async def patched(body: str) -> VirtualKey:
        await keys.update(world.context, made.id, msgspec.json.decode(body, type=KeyPatch))
        return world.served(made.id)

    assert await patched("{}") == before
    now = await patched(
        '{"limits": {"rpm": null, "parallel": 2}, "metadata": {"a": null, "c": "3"}, "team": null}'
    )
    assert now.limits == RateLimit(tpm=1000, parallel=2)
    assert now.metadata == {"b": "2", "c": "3"}
    assert (now.team, now.user) == (None, "ada")
    now = await patched('{"budget": {"usd": 20}}')
    assert now.budgets == (Budget(limit=20_000_000_000, per="month", strict=True),)
    now = await patched('{"budget": {"per": null, "strict": null}}')
    assert now.budgets == (Budget(limit=20_000_000_000),)
    now = await patched('{"budget": [{"usd": 1, "per": "day"}, {"usd": 5}]}')
    assert len(now.budgets) == 2
    now = await patched(
        '{"budget": null, "limits": null, "expires": null, "tags": null, "metadata": null, "user": null}'
    )
    assert now == msgspec.structs.replace(
        before, budgets=(), limits=RateLimit(), expires_at=None, tags=(), metadata={}, user=None, team=None
    )
    assert now.hash == before.hash


async def test_patches_at_once_do_not_swallow_each_other(world):
    made = await keys.create(world.context, NewKey(name="ci"))
    patches = [KeyPatch(metadata={f"m{number}": "x"}) for number in range(20)]
    await asyncio.gather(*(keys.update(world.context, made.id, patch) for patch in patches))
    assert len(world.served(made.id).metadata) == 20


async def test_rename_to_a_taken_name(world):
    await keys.create(world.context, NewKey(name="one"))
    await keys.create(world.context, NewKey(name="two"))
    with pytest.raises(Conflict):
        await keys.update(world.context, "two", KeyPatch(name="one"))
    assert (await keys.update(world.context, "two", KeyPatch(name="two"))).name == "two"


async def test_block_and_unblock(world):
    made = await keys.create(world.context, NewKey(name="ci"))
    assert (await keys.block(world.context, "ci")).status == "blocked"
    assert world.served(made.id).blocked
    assert (await keys.unblock(world.context, "ci")).status == "active"
    assert not world.served(made.id).blocked


async def test_revoking_is_for_good_and_frees_the_name_by_renaming(world):
    made = await keys.create(world.context, NewKey(name="ci"))
    first = await keys.revoke(world.context, "ci")
    world.now += 60
    again = await keys.revoke(world.context, "ci")
    assert first.status == again.status == "revoked"
    assert first.revoked_at == again.revoked_at
    for change in (
        keys.unblock(world.context, made.id),
        keys.rotate(world.context, made.id),
        keys.update(world.context, made.id, KeyPatch(team="x")),
        keys.create(world.context, NewKey(name="ci")),
    ):
        with pytest.raises(Conflict, match="revoked"):
            await change
    await keys.update(world.context, made.id, KeyPatch(name="ci-2026"))
    assert (await keys.create(world.context, NewKey(name="ci"))).id != made.id
    assert world.served(made.id).revoked_at is not None


async def test_rotation_stops_the_old_secret_and_keeps_the_rest(world):
    made = await keys.create(world.context, NewKey(name="ci", team="web"))
    before = world.served(made.id)
    turned = await keys.rotate(world.context, "ci")
    after = world.served(made.id)
    assert turned.key != made.key
    assert after.hash == hashlib.sha256(turned.key.encode()).hexdigest()
    assert msgspec.structs.replace(after, hash=before.hash, hint=before.hint) == before
    assert (await keys.rotate(world.context, "ci", Rotation(key="my-own-key-0123456789"))).key.startswith(
        "my-own"
    )


async def test_rotating_to_a_value_in_use(world):
    await keys.create(world.context, NewKey(name="one", key="value-one-0123456789"))
    await keys.create(world.context, NewKey(name="two"))
    with pytest.raises(Conflict):
        await keys.rotate(world.context, "two", Rotation(key="value-one-0123456789"))


async def test_unknown_key_is_not_repeated(world):
    pasted = "sk-tw-somebody-pasted-a-secret"
    for call in (keys.get(world.context, pasted), keys.block(world.context, pasted)):
        with pytest.raises(NotFound) as refused:
            await call
        assert pasted not in refused.value.message


async def test_a_write_ends_even_if_the_caller_goes_away(world):
    running = asyncio.create_task(keys.create(world.context, NewKey(name="ci")))
    while not world.context.writing.locked():
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(5):
        while not any(key.name == "ci" for key in world.snapshot.keys()):  # noqa: SIM118
            await asyncio.sleep(0.01)
    assert [key.name for key in await world.keys.all()] == ["ci"]


async def test_listing_filters(world):
    await keys.create(world.context, NewKey(name="one", team="web", tags=("x",)))
    await keys.create(world.context, NewKey(name="two", team="web", user="Ada"))
    await keys.create(world.context, NewKey(name="three"))
    await keys.block(world.context, "two")

    async def names(**wanted: str) -> set[str]:
        return {key.name for key in (await keys.list_(world.context, KeyQuery(**wanted))).data}

    assert await names() == {"one", "two", "three", "from-file"}
    assert await names(team="web") == {"one", "two"}
    assert await names(tag="x") == {"one"}
    assert await names(status="blocked") == {"two"}
    assert await names(owner="file") == {"from-file"}
    assert await names(search="ada") == {"two"}
    assert await names(team="web", status="active") == {"one"}


async def test_paging_does_not_shift(world):
    for number in range(1205):
        await world.keys.add(
            VirtualKey(
                id=f"key_{number:020}",
                name=f"k{number}",
                hash=f"{number:064}",
                hint="…",
                created_at=number // 3,
            )
        )
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        page = await keys.list_(world.context, KeyQuery(limit=500, cursor=cursor))
        seen += [key.id for key in page.data]
        cursor = page.next_cursor
        await keys.create(world.context, NewKey(name=f"late-{len(seen)}"))
    assert cursor is None
    assert len(seen) == len(set(seen)) == 1206
    assert seen[0] == "key_00000000000000001203"
    assert seen[-1] == "key_ffffffffffffffffffff"


async def test_wrong_cursors(world):
    for cursor in ("x", "!!!", "bnVsbA", "é"):
        with pytest.raises(BadRequest) as refused:
            await keys.list_(world.context, KeyQuery(cursor=cursor))
        assert refused.value.param == "cursor"


async def test_only_the_administrator(world):
    key = VirtualKey(id="key_x", name="x", hash="0" * 64, hint="…")
    for actor in (NOBODY, Actor(principal=Principal(kind="key", key=key), via="api")):
        for call in (
            keys.create(world.context.acting(actor), NewKey(name="ci")),
            keys.list_(world.context.acting(actor), KeyQuery()),
            keys.get(world.context.acting(actor), "from-file"),
        ):
            with pytest.raises(Forbidden):
                await call
    assert await world.keys.all() == []


async def test_audit_names_the_deed_and_no_secret(world, caplog):
    caplog.set_level(logging.INFO, "tollway.audit")
    actor = Actor(principal=ADMIN, via="api", request_id="r1")
    value = "imported-key-0123456789"
    made = await keys.create(world.context.acting(actor), NewKey(name="ci", key=value, team="web"))
    await keys.get(world.context, "ci")
    with pytest.raises(Conflict):
        await keys.create(world.context, NewKey(name="ci"))
    with pytest.raises(NotFound):
        await keys.revoke(world.context, "sk-tw-somebody-pasted-a-secret")
    with pytest.raises(Forbidden):
        await keys.revoke(world.context.acting(NOBODY), "ci")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "tollway.audit"]
    assert [(line["actor"], line["action"], line.get("target"), line["outcome"]) for line in lines] == [
        ("admin", "keys.create", made.id, "ok"),
        ("admin", "keys.create", "ci", "conflict"),
        ("admin", "keys.revoke", "sk-tw-so…", "not_found"),
        ("anonymous", "keys.revoke", "ci", "permission_denied"),
    ]
    assert lines[0]["request_id"] == "r1"
    assert lines[0]["fields"] == ["name", "key", "team"]
    assert value not in caplog.text


async def test_a_patch_without_values_is_told_from_one_with_null():
    assert KeyPatch().team is UNSET
    assert msgspec.json.decode('{"team": null}', type=KeyPatch).team is None
