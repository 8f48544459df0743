"""Organizations, teams, projects, users, customers and tags as the API shows them: terms, state, and where budgets and
counters stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from tollway.admin.context import Context
from tollway.admin.sight import Belonging
from tollway.admin.standing import (
    BudgetView,
    CounterView,
    budget_views,
    counter_views,
    standings_of,
    tightest,
)
from tollway.admin.terms import LISTS, TermsShown, shown_terms
from tollway.admin.times import iso, iso_or_none
from tollway.model.money import Money
from tollway.model.tenant import Level, Tenant
from tollway.model.terms import RateLimit
from tollway.shared.claims import Ceiling, Groups, ceilings_of_tenant
from tollway.shared.interface import Standing

TenantStatus = Literal["active", "blocked", "expired"]


class TenantView(Struct, frozen=True, kw_only=True):
    """An organization, team, project, user, customer or tag. ``owner`` ``file`` is read-only here.

    ``spent_nano_usd``, ``held_nano_usd``, ``budget`` and ``resets_at`` speak of the budget with the least left.
    ``members`` are the terms of each member, ``keys`` those that new keys begin with.
    """

    id: str
    level: Level
    name: str
    owner: Literal["file", "database"]
    status: TenantStatus
    organization: str | None
    team: str | None
    email: str | None
    role: str | None
    description: str
    metadata: dict[str, str]
    created_at: str
    expires_at: str | None
    models: tuple[str, ...]
    denied_models: tuple[str, ...]
    routes: tuple[str, ...]
    denied_routes: tuple[str, ...]
    mcp_servers: tuple[str, ...]
    denied_mcp_servers: tuple[str, ...]
    aliases: dict[str, str]
    limits: RateLimit
    more_limits: tuple[RateLimit, ...]
    budget: BudgetView | None
    budgets: tuple[BudgetView, ...]
    members: TermsShown
    keys: TermsShown
    spent_nano_usd: Money
    held_nano_usd: Money
    resets_at: str | None
    counters: tuple[CounterView, ...]


class TenantPage(Struct, frozen=True, kw_only=True):
    """Newest first. ``next_cursor`` asks for the next page; null on the last."""

    data: tuple[TenantView, ...]
    next_cursor: str | None


def status_of(tenant: Tenant, now: float) -> TenantStatus:
    if tenant.blocked:
        return "blocked"
    return "expired" if tenant.expires_at is not None and tenant.expires_at <= now else "active"


async def view(context: Context, tenant: Tenant) -> TenantView:
    return (await views(context, [tenant], await context.society()))[0]


async def views(context: Context, shown: Sequence[Tenant], society: Belonging) -> list[TenantView]:
    groups = Groups(society.directory)
    ceilings: list[tuple[Ceiling, ...]] = [ceilings_of_tenant(one, groups) for one in shown]
    found = await standings_of(context, ceilings)
    now = context.clock()
    return [_view(one, each, now) for one, each in zip(shown, found, strict=True)]


def _view(tenant: Tenant, standings: Sequence[Standing], now: float) -> TenantView:
    budgets = budget_views(tenant.terms.budgets, standings)
    least = tightest(budgets)
    return TenantView(
        id=tenant.id,
        level=tenant.level,
        name=tenant.name,
        owner=tenant.owner,
        status=status_of(tenant, now),
        organization=tenant.organization,
        team=tenant.team,
        email=tenant.email,
        role=tenant.role,
        description=tenant.description,
        metadata=tenant.metadata,
        created_at=iso(tenant.created_at),
        expires_at=iso_or_none(tenant.expires_at),
        **{each: getattr(tenant.terms, each) for each in LISTS},
        aliases=tenant.terms.aliases,
        limits=tenant.terms.limits,
        more_limits=tenant.terms.more_limits,
        budget=least,
        budgets=budgets,
        members=shown_terms(tenant.members),
        keys=shown_terms(tenant.keys),
        spent_nano_usd=least.spent_nano_usd if least is not None else 0,
        held_nano_usd=least.held_nano_usd if least is not None else 0,
        resets_at=least.resets_at if least is not None else None,
        counters=counter_views(standings),
    )
