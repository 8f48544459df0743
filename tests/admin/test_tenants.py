"""Organizations, teams and the others from creation to deletion, on a real database and real counters."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from tollway.admin import (
    access_groups,
    adjustments,
    budgets,
    customers,
    keys,
    members,
    organizations,
    projects,
    tags,
    teams,
    users,
)
from tollway.admin.access_groups import AccessGroupPatch, NewAccessGroup
from tollway.admin.adjustments import AdjustmentQuery
from tollway.admin.budgets import BudgetQuery
from tollway.admin.customers import NewCustomer
from tollway.admin.key_terms import KeyPatch, KeyTransfer, NewKey, Rotation
from tollway.admin.keys import KeyBulk, KeyChange
from tollway.admin.members import MemberPatch, NewMember
from tollway.admin.organizations import NewOrganization
from tollway.admin.projects import NewProject
from tollway.admin.spend import Raise, ResetSpend
from tollway.admin.tags import NewTag
from tollway.admin.teams import NewTeam, TeamBulk, TeamChange, TeamPatch, TeamTransfer
from tollway.admin.tenants import Deletion, TenantQuery
from tollway.admin.terms import BudgetTerms, LimitTerms, RaiseTerms, TermsBody
from tollway.admin.users import NewUser, UserPatch
from tollway.errors import BadRequest, Conflict, NotFound
from tollway.model.tenant import Directory, Tenant
from tollway.model.terms import Budget, RateLimit, Terms
from tollway.shared.claims import ceilings_of_tenant
from tollway.shared.interface import Amounts


async def stored(world, level: str, id: str) -> Tenant:
    society = await world.context.society()
    return society.tenants[level, id]


async def test_every_term_is_stored_and_shown(world):
    world.now = 1_800_000_000.0
    shown = await teams.create(
        world.context,
        NewTeam(
            name=" Search & Ads ",
            models=("fast", "group:cheap"),
            denied_models=("openai/*",),
            routes=("llm",),
            denied_routes=("images.*",),
            mcp_servers=("docs",),
            denied_mcp_servers=("shell",),
            aliases={"big": "fast"},
            budget=(
                BudgetTerms(
                    usd="10", per="month", strict=True, soft=8, alert_at=(80, 50), zone="Europe/Berlin", first_day=15,
                    on_tight="clamp", outage="closed", increase=RaiseTerms(usd=5, until="1d"),
                ),
                BudgetTerms(tokens=1000, per="quarter", enforce=False, models=("fast",), first_month=4),
                "500requests",
            ),
            limits=(LimitTerms(rps=5, rpw=9), LimitTerms(tpm=7, count="output", cached=False)),
            members=TermsBody(budget="1usd/day"),
            keys=TermsBody(limits=LimitTerms(parallel=2)),
            description="finds things",
            metadata={"cost": "7"},
            expires="30d",
        ),
    )  # fmt: skip
    assert shown.id == "search-ads"
    found = await stored(world, "team", "search-ads")
    assert found == Tenant(
        level="team",
        id="search-ads",
        name="Search & Ads",
        terms=Terms(
            models=("fast", "group:cheap"),
            denied_models=("openai/*",),
            routes=("llm",),
            denied_routes=("images.*",),
            mcp_servers=("docs",),
            denied_mcp_servers=("shell",),
            aliases={"big": "fast"},
            budgets=(
                Budget(
                    limit=10**10, per="month", strict=True, soft=8 * 10**9, alert_at=(50, 80), zone="Europe/Berlin",
                    first_day=15, on_tight="clamp", outage="closed", raised_by=5 * 10**9,
                    raised_until=world.now + 86400,
                ),
                Budget(limit=1000, unit="tokens", per="quarter", enforce=False, models=("fast",), first_month=4),
                Budget(limit=500, unit="requests"),
            ),
            limits=RateLimit(rps=5, rpw=9),
            more_limits=(RateLimit(tpm=7, count="output", cached=False),),
        ),
        members=Terms(budgets=(Budget(limit=10**9, per="day"),)),
        keys=Terms(limits=RateLimit(parallel=2)),
        metadata={"cost": "7"},
        description="finds things",
        created_at=world.now,
        expires_at=world.now + 30 * 86400,
    )  # fmt: skip
    assert [(each.unit, each.limit, each.usd) for each in shown.budgets] == [
        ("nano_usd", 10**10, 10.0), ("tokens", 1000, None), ("requests", 500, None)
    ]  # fmt: skip
    assert shown.members.budgets[0].usd == 1
    assert {each.label for each in shown.counters} >= {"rps", "rpw", "output tpm"}


async def test_merge_patch(world):
    await teams.create(
        world.context,
        NewTeam(name="t", models=("fast",), limits=LimitTerms(rpm=5, tpm=9), metadata={"a": "1", "b": "2"}),
    )
    await teams.update(
        world.context,
        "t",
        TeamPatch(
            models=None,
            limits=LimitTerms(rpm=None, rpd=7),
            metadata={"a": None, "c": "3"},
            aliases={"x": "fast"},
            members=TermsBody(models=("fast",)),
            description="d",
        ),
    )
    found = await stored(world, "team", "t")
    assert found.terms == Terms(limits=RateLimit(tpm=9, rpd=7), aliases={"x": "fast"})
    assert (found.metadata, found.members, found.description) == (
        {"b": "2", "c": "3"},
        Terms(models=("fast",)),
        "d",
    )
    await teams.update(
        world.context,
        "t",
        TeamPatch(limits=None, aliases={"x": None}, members=None, metadata=None, name="new"),
    )
    found = await stored(world, "team", "t")
    assert (found.terms, found.members, found.metadata, found.name) == (Terms(), Terms(), {}, "new")
    before = found
    await teams.update(world.context, "new", TeamPatch())
    assert await stored(world, "team", "t") == before


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"budget": BudgetTerms(usd=1, tokens=2)}, "budget"),
        ({"budget": BudgetTerms(tokens=0)}, "budget.tokens"),
        ({"budget": BudgetTerms(usd=1, soft=2)}, "budget.soft"),
        ({"budget": BudgetTerms(usd=1, zone="Berlin")}, "budget.zone"),
        ({"budget": BudgetTerms(usd=1, per="week", first_day=3)}, "budget.first_day"),
        ({"budget": BudgetTerms(usd=1, alert_at=(101,))}, "budget.alert_at"),
        ({"budget": BudgetTerms(usd=1, increase=RaiseTerms(tokens=1, until="1d"))}, "budget.raise.usd"),
        (
            {"budget": BudgetTerms(usd=1, increase=RaiseTerms(usd=1, until="2001-01-01"))},
            "budget.raise.until",
        ),
        ({"limits": (LimitTerms(rpm=1), LimitTerms(rpm=2))}, "limits"),
        ({"limits": LimitTerms(rph=0)}, "limits.rph"),
        ({"members": TermsBody(budget=BudgetTerms(usd="x"))}, "members.budget.usd"),
        ({"keys": TermsBody(models=("",))}, "keys.models"),
        ({"id": "a b"}, "id"),
        ({"expires": "2001-01-01"}, "expires"),
        ({"description": "x\x00"}, "description"),
    ],
)
async def test_wrong_terms_name_their_field(world, wrong, param):
    with pytest.raises(BadRequest) as refused:
        await teams.create(world.context, NewTeam(name="t", **wrong))
    assert refused.value.param == param
    assert (await world.context.society()).directory == Directory()


async def test_ids_are_made_of_names_and_stay(world):
    made = await organizations.create(world.context, NewOrganization(name="Größe & Söhne"))
    assert made.id == "groe-sohne"
    first = await teams.create(world.context, NewTeam(name="A team", organization=made.id))
    assert first.id == "groe-sohne.a-team"
    other = await teams.create(world.context, NewTeam(name="A-Team", organization="Größe & Söhne"))
    assert other.id.startswith("groe-sohne.a-team-")
    with pytest.raises(Conflict) as taken:
        await teams.create(world.context, NewTeam(name="A team", organization=made.id))
    assert taken.value.param == "name"
    with pytest.raises(Conflict):
        await teams.create(world.context, NewTeam(name="x", id=first.id))
    free = await customers.create(world.context, NewCustomer(name="end user 7"))
    assert free.id == "end user 7"
    assert (await tags.create(world.context, NewTag(name="nightly build"))).id == "nightly build"
    project = await projects.create(world.context, NewProject(name="p", team=first.id))
    assert (project.id, project.organization, project.team) == ("groe-sohne.p", made.id, first.id)


async def test_lists_are_paged_searched_and_filtered(world):
    for number in range(7):
        world.now += 1
        await teams.create(
            world.context, NewTeam(name=f"team {number}", description="odd" if number % 2 else "")
        )
    first = await teams.list_(world.context, TenantQuery(limit=3))
    assert [one.name for one in first.data] == ["team 6", "team 5", "team 4"]
    await teams.create(world.context, NewTeam(name="meanwhile"))
    second = await teams.list_(world.context, TenantQuery(limit=9, cursor=first.next_cursor))
    assert [one.name for one in second.data] == ["team 3", "team 2", "team 1", "team 0"]
    assert second.next_cursor is None
    found = await teams.list_(world.context, TenantQuery(search="ODD"))
    assert [one.name for one in found.data] == ["team 5", "team 3", "team 1"]
    await teams.block(world.context, "team 3")
    found = await teams.list_(world.context, TenantQuery(status="blocked"))
    assert [one.name for one in found.data] == ["team 3"]
    assert (await teams.unblock(world.context, "team 3")).status == "active"


async def test_nothing_that_hangs_on_it_is_left_behind(world):
    await organizations.create(world.context, NewOrganization(name="acme"))
    await teams.create(world.context, NewTeam(name="t", organization="acme"))
    await projects.create(world.context, NewProject(name="p", team="acme.t"))
    ada = await users.create(world.context, NewUser(name="ada", organization="acme"))
    key = await keys.create(world.context, NewKey(name="k", team="acme.t", user=ada.id))
    for delete, id in ((teams.delete, "acme.t"), (organizations.delete, "acme"), (users.delete, ada.id)):
        with pytest.raises(Conflict, match="1 keys"):
            await delete(world.context, id, Deletion())
    gone = await organizations.delete(world.context, "acme", Deletion(cascade=True))
    assert gone.revoked_keys == 1
    assert (await world.context.society()).directory == Directory()
    assert (await world.keys.find(key.id)).revoked_at == world.now


async def test_what_the_file_declares_is_read_only(world):
    declared = Tenant(
        level="team", id="core", name="core", owner="file", terms=Terms(budgets=(Budget(limit=10),))
    )
    world.settings = replace(world.settings, directory=Directory(tenants=(declared,)))
    assert (await teams.get(world.context, "core")).owner == "file"
    for change in (
        teams.update(world.context, "core", TeamPatch(name="x")),
        teams.block(world.context, "core"),
        teams.delete(world.context, "core", Deletion()),
        teams.raise_budget(world.context, "core", Raise(usd=1, until="1d")),
    ):
        with pytest.raises(Conflict, match=r"declared in tollway\.yaml"):
            await change
    with pytest.raises(Conflict):
        await teams.create(world.context, NewTeam(name="core"))
    await members.add_to_team(world.context, "core", NewMember(user=(await user(world)).id))
    assert [one.id for one in (await members.list_of_team(world.context, "core")).data] == ["ada"]


async def user(world, name: str = "ada"):
    return await users.create(world.context, NewUser(name=name))


async def test_spend_is_forgiven_by_entries(world):
    await teams.create(
        world.context, NewTeam(name="t", budget=("10usd/month", "50usd/year"), limits=LimitTerms(rpm=5))
    )
    claims = tuple(each.claim for each in ceilings_of_tenant(await stored(world, "team", "t")))
    hold = await world.counters.reserve(claims, Amounts(nano_usd=10, worst_nano_usd=10))
    hold.settle(nano_usd=7_000_000_000, tokens=1)
    assert (await teams.get(world.context, "t")).budget.spent == 7_000_000_000
    reset = await teams.reset_spend(world.context, "t", ResetSpend(reason="a mistake", per="month"))
    assert [(each.counter, each.amount, each.actor) for each in reset.data] == [
        ("team:t:usd:month", -7_000_000_000, "admin")
    ]
    shown = await teams.get(world.context, "t")
    assert [each.spent for each in shown.budgets] == [0, 7_000_000_000]
    kept = await adjustments.list_(world.context, AdjustmentQuery(counter="team:t:usd:month"))
    assert [each.reason for each in kept.data] == ["a mistake"]
    assert (await teams.reset_spend(world.context, "t", ResetSpend(per="month"))).data == ()
    with pytest.raises(Conflict, match="no such budget"):
        await teams.reset_spend(world.context, "t", ResetSpend(per="day"))


async def test_a_budget_is_raised_for_a_while(world):
    await teams.create(world.context, NewTeam(name="t", budget=("10usd/month", "100tokens/day")))
    shown = await teams.raise_budget(world.context, "t", Raise(usd=5, until="3d"))
    assert (shown.budgets[0].raised_by, shown.budgets[1].raised_by) == (5_000_000_000, 0)
    ended = await teams.raise_budget(world.context, "t", Raise(per="month"))
    assert (ended.budgets[0].raised_by, ended.budgets[0].raised_until) == (0, None)
    for wrong in (
        Raise(usd=1),
        Raise(requests=1, until="1d"),
        Raise(until="1d"),
        Raise(usd=1, until="2001-01-01"),
    ):
        with pytest.raises(BadRequest):
            await teams.raise_budget(world.context, "t", wrong)


async def test_members_have_terms_of_their_own_and_usual_ones(world):
    await teams.create(world.context, NewTeam(name="t", members=TermsBody(budget="2usd/day")))
    ada = await user(world)
    shown = await members.add_to_team(world.context, "t", NewMember(user="ada", role="admin"))
    assert (shown.id, shown.role, [each.usd for each in shown.budgets]) == (ada.id, "admin", [2.0])
    with pytest.raises(Conflict):
        await members.add_to_team(world.context, "t", NewMember(user="ada"))
    shown = await members.update_in_team(
        world.context, "t", "ada", MemberPatch(role="viewer", budget="3usd/day", models=("fast",))
    )
    assert (shown.role, shown.terms.models, [each.usd for each in shown.budgets]) == (
        "viewer",
        ("fast",),
        [3.0],
    )
    raised = await members.raise_budget_in_team(world.context, "t", "ada", Raise(usd=1, until="1d"))
    assert raised.budgets[0].raised_by == 1_000_000_000
    rows = await budgets.list_(world.context, BudgetQuery(level="member"))
    assert [(row.id, row.limit) for row in rows.data] == [("t/ada", 3_000_000_000)]
    await members.remove_from_team(world.context, "t", "ada")
    with pytest.raises(NotFound):
        await members.remove_from_team(world.context, "t", "ada")


async def test_groups_are_made_changed_and_gone(world):
    await access_groups.create(world.context, NewAccessGroup(name="cheap", models=("fast",)))
    with pytest.raises(BadRequest):
        await access_groups.create(world.context, NewAccessGroup(name="two words"))
    with pytest.raises(Conflict):
        await access_groups.create(world.context, NewAccessGroup(name="cheap"))
    changed = await access_groups.update(world.context, "cheap", AccessGroupPatch(mcp_servers=("docs",)))
    assert (changed.models, changed.mcp_servers) == (("fast",), ("docs",))
    await access_groups.delete(world.context, "cheap")
    assert (await access_groups.list_(world.context)).data == ()


async def test_bulk_has_a_result_for_each(world):
    await teams.create(world.context, NewTeam(name="old"))
    done = await teams.bulk(
        world.context,
        TeamBulk(
            create=(NewTeam(name="a"), NewTeam(name="a"), NewTeam(name="b")),
            update=(
                TeamChange(id="old", set=TeamPatch(name="new")),
                TeamChange(id="nobody", set=TeamPatch()),
            ),
            delete=("b",),
        ),
    )
    assert [(each.action, each.status, each.code) for each in done.data] == [
        ("create", "ok", None), ("create", "refused", "conflict"), ("create", "ok", None), ("update", "ok", None),
        ("update", "refused", "not_found"), ("delete", "ok", None),
    ]  # fmt: skip
    assert done.refused == 2
    assert {one.name for one in (await teams.list_(world.context, TenantQuery())).data} == {"a", "new"}
    with pytest.raises(BadRequest):
        await teams.bulk(world.context, TeamBulk())
    made = await keys.bulk(world.context, KeyBulk(create=(NewKey(name="k"),), block=("from-file",)))
    assert made.data[0].key.startswith("sk-tw-")
    assert world.served(made.data[0].id).name == "k", "served when the answer arrives"
    assert made.data[1].code == "conflict"
    done = await keys.bulk(
        world.context,
        KeyBulk(
            update=(KeyChange(id="k", set=KeyPatch(models=("fast",))),),
            block=("k",),
            unblock=("k",),
            revoke=("k",),
        ),
    )
    assert done.refused == 0
    assert world.served(made.data[0].id).revoked_at is not None


async def test_a_team_moves_with_what_is_in_it(world):
    for name in ("a", "b"):
        await organizations.create(world.context, NewOrganization(name=name))
    await teams.create(world.context, NewTeam(name="t", organization="a"))
    await projects.create(world.context, NewProject(name="p", team="a.t"))
    key = await keys.create(world.context, NewKey(name="k", project="a.p"))
    assert (key.organization, key.team, key.project) == ("a", "a.t", "a.p")
    moved = await teams.transfer(world.context, "a.t", TeamTransfer(organization="b"))
    assert (moved.id, moved.organization) == ("a.t", "b")
    assert (await stored(world, "project", "a.p")).organization == "b"
    assert world.served(key.id).organization == "b"


async def test_a_key_is_transferred(world):
    for name in ("one", "two"):
        await teams.create(world.context, NewTeam(name=name))
    await projects.create(world.context, NewProject(name="p", team="two"))
    ada = await user(world)
    key = await keys.create(world.context, NewKey(name="k", team="one", service=True))
    moved = await keys.transfer(world.context, "k", KeyTransfer(project="p"))
    assert (moved.team, moved.project, moved.service) == ("two", "p", True)
    moved = await keys.transfer(world.context, "k", KeyTransfer(team="one"))
    assert (moved.team, moved.project) == ("one", None)
    with pytest.raises(BadRequest, match="no member"):
        await keys.transfer(world.context, "k", KeyTransfer(user="ada"))
    await members.add_to_team(world.context, "one", NewMember(user=ada.id))
    moved = await keys.transfer(world.context, "k", KeyTransfer(user="ada"))
    assert (moved.user, moved.team, moved.service) == ("ada", "one", False)
    for wrong in (KeyTransfer(team="nobody"), KeyTransfer(user="nobody"), KeyTransfer(organization="nobody")):
        with pytest.raises(NotFound):
            await keys.transfer(world.context, "k", wrong)
    with pytest.raises(BadRequest):
        await keys.transfer(world.context, "k", KeyTransfer(project="p", team="one"))
    assert world.served(key.id).team == "one"


async def test_new_keys_begin_with_what_their_team_says(world):
    await organizations.create(
        world.context, NewOrganization(name="a", keys=TermsBody(budget="9usd/day", models=("x",)))
    )
    await teams.create(
        world.context,
        NewTeam(name="t", organization="a", keys=TermsBody(budget="1usd/day", limits=LimitTerms(rpm=3))),
    )
    made = await keys.create(world.context, NewKey(name="k", team="a.t"))
    served = world.served(made.id)
    assert (served.models, served.budgets, served.limits) == (
        ("x",), (Budget(limit=10**9, per="day"),), RateLimit(rpm=3)
    )  # fmt: skip
    own = await keys.create(
        world.context, NewKey(name="own", team="a.t", budget=None, models=(), limits=LimitTerms(rpm=9))
    )
    served = world.served(own.id)
    assert (served.models, served.budgets, served.limits) == ((), (), RateLimit(rpm=9))


async def test_a_rotated_key_has_its_old_value_for_a_while(world):
    made = await keys.create(world.context, NewKey(name="k"))
    old = world.served(made.id).hash
    await keys.rotate(world.context, "k", Rotation(grace="1h"))
    served = world.served(made.id)
    assert (served.former_hash, served.former_until) == (old, world.now + 3600)
    with pytest.raises(Conflict):
        await keys.create(world.context, NewKey(name="thief", key=made.key))
    await keys.rotate(world.context, "k")
    assert (world.served(made.id).former_hash, world.served(made.id).former_until) == (None, None)
    for grace in ("2001-01-01", "91d"):
        with pytest.raises(BadRequest):
            await keys.rotate(world.context, "k", Rotation(grace=grace))
    await keys.rotate(world.context, "k", Rotation(grace="1h"))
    await keys.revoke(world.context, "k")
    assert world.served(made.id).former_hash is None


async def test_every_term_of_a_key_is_stored(world):
    made = await keys.create(
        world.context,
        NewKey(
            name="k",
            denied_models=("big",),
            routes=("chat.*",),
            aliases={"a": "fast"},
            limits=(LimitTerms(rpm=5), LimitTerms(tpd=9, models=("fast",))),
            description="d",
            service=True,
        ),
    )
    key = world.served(made.id)
    assert key.more == Terms(
        denied_models=("big",),
        routes=("chat.*",),
        aliases={"a": "fast"},
        more_limits=(RateLimit(tpd=9, models=("fast",)),),
    )
    assert (key.limits, key.description, key.service) == (RateLimit(rpm=5), "d", True)
    shown = await keys.update(world.context, "k", KeyPatch(routes=None, limits=None, budget="7requests/day"))
    assert (shown.routes, shown.denied_models, shown.more_limits) == ((), ("big",), ())
    assert (shown.budget.unit, shown.budget.remaining, shown.budget.usd) == ("requests", 7, None)


async def test_users_keep_their_roles_unless_told(world):
    made = await users.create(world.context, NewUser(name="ada", email="Ada@Example.com", role="auditor"))
    assert (made.email, made.role) == ("ada@example.com", "auditor")
    with pytest.raises(Conflict) as taken:
        await users.create(world.context, NewUser(name="other", email="ada@example.com"))
    assert taken.value.param == "email"
    changed = await users.update(world.context, "ada", UserPatch(description="d"))
    assert (changed.email, changed.role) == ("ada@example.com", "auditor")
    changed = await users.update(world.context, "ada", UserPatch(role=None, email=None))
    assert (changed.email, changed.role) == (None, None)
    with pytest.raises(BadRequest):
        await users.update(world.context, "ada", UserPatch(email="nonsense"))
    assert msgspec.structs.asdict(UserPatch())["role"] is UNSET


async def test_two_processes_that_change_one_team_at_once_both_count(world):
    await teams.create(world.context, NewTeam(name="t"))
    await keys.create(world.context, NewKey(name="k"))
    other = replace_lock(world.context)
    await asyncio.gather(
        *(
            teams.update(context, "t", TeamPatch(metadata={f"{name}{number}": "x"}))
            for number in range(4)
            for name, context in (("ours", world.context), ("theirs", other))
        ),
        *(
            keys.update(context, "k", KeyPatch(metadata={f"{name}{number}": "x"}))
            for number in range(4)
            for name, context in (("ours", world.context), ("theirs", other))
        ),
    )
    assert len((await stored(world, "team", "t")).metadata) == 8
    assert len((await world.keys.find("k")).metadata) == 8


def replace_lock(context):
    """As another process would have it: the same database, another lock."""
    return dataclasses.replace(context, writing=asyncio.Lock())
