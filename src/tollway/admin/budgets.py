"""Every budget an actor sees, on whatever level, with where it stands: what is nearly used up comes first."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict

from tollway.admin.action import action
from tollway.admin.context import Context
from tollway.admin.key_places import covers
from tollway.admin.sight import Belonging, Sight
from tollway.admin.standing import BudgetView, budget_views, standings_of
from tollway.admin.tenants import visible
from tollway.model.terms import Budget
from tollway.shared.claims import Ceiling, Groups, ceilings_of_key, ceilings_of_member, ceilings_of_tenant

BudgetLevel = Literal["organization", "team", "project", "user", "member", "customer", "tag", "key"]
_Holder = tuple[BudgetLevel, str, str, tuple[Budget, ...], tuple[Ceiling, ...]]


class BudgetQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``used`` is the least share used, in percent."""

    level: BudgetLevel | None = None
    used: Annotated[int, Meta(ge=0, le=100)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class BudgetRow(BudgetView, frozen=True, kw_only=True):
    """A budget and whose it is. ``id`` of a member is `team/user`. ``used`` is in percent of the limit."""

    level: BudgetLevel
    id: str
    name: str
    used: float


class BudgetList(Struct, frozen=True, kw_only=True):
    """The budgets with the largest share used first; ``total`` is how many match."""

    data: tuple[BudgetRow, ...]
    total: int


@action(permission="budgets.read", audit=False, route=("GET", "/budgets"))
async def list_(context: Context, query: BudgetQuery) -> BudgetList:
    """List the budgets of every level with what is spent and held, those nearly used up first."""
    society = await context.society()
    sight = context.sight("budgets.read")
    holders = [
        one
        for one in [
            *_tenants(society, sight),
            *_members(society, sight),
            *await _keys(context, society, sight),
        ]
        if one[3] and query.level in (None, one[0])
    ]
    found = await standings_of(context, [one[4] for one in holders])
    rows = [
        BudgetRow(
            **asdict(each), level=level, id=id, name=name, used=round(100 * each.spent / (each.limit or 1), 2)
        )
        for (level, id, name, budgets, _), standings in zip(holders, found, strict=True)
        for each in budget_views(budgets, standings)
    ]
    rows = [row for row in rows if row.used >= query.used]
    rows.sort(key=lambda row: (-row.used, row.level, row.id))
    return BudgetList(data=tuple(rows[: query.limit]), total=len(rows))


def _tenants(society: Belonging, sight: Sight) -> list[_Holder]:
    groups = Groups(society.directory)
    return [
        (one.level, one.id, one.name, one.terms.budgets, ceilings_of_tenant(one, groups))
        for one in society.directory.tenants
        if one.terms.budgets and visible(society, sight, one)
    ]


def _members(society: Belonging, sight: Sight) -> list[_Holder]:
    groups = Groups(society.directory)
    found: list[_Holder] = []
    for one in society.directory.memberships:
        tenant = society.tenants.get((one.level, one.tenant))
        if tenant is None or not sight.covers(*society.place_of(one)):
            continue
        budgets = one.terms.budgets or tenant.members.budgets
        ceilings = ceilings_of_member(tenant, one.user, one, groups)
        found.append(("member", f"{one.tenant}/{one.user}", one.user, budgets, ceilings))
    return found


async def _keys(context: Context, society: Belonging, sight: Sight) -> list[_Holder]:
    groups = Groups(society.directory)
    stored = await context.keys.all() if context.keys is not None else []
    served = context.snapshot().keys()
    every = [*(key for key in served if key.owner == "file"), *stored]
    return [
        ("key", key.id, key.name, key.budgets, ceilings_of_key(key, groups))
        for key in every
        if key.budgets and key.revoked_at is None and covers(sight, key)
    ]
