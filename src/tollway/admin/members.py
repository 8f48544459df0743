"""Memberships: who belongs to a team or an organization, with which role there, and under which terms of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from tollway.admin.action import action
from tollway.admin.context import Context
from tollway.admin.sight import Belonging
from tollway.admin.spend import Raise, ResetSpend, SpendReset, forgive, raised
from tollway.admin.standing import BudgetView, CounterView, budget_views, counter_views, standings_of
from tollway.admin.tenants import located, to_the_end, visible
from tollway.admin.terms import TermsBody, TermsShown, shown_terms, terms
from tollway.admin.times import iso
from tollway.errors import Conflict, NotFound
from tollway.model.tenant import Membership, Tenant
from tollway.model.terms import Terms
from tollway.shared.claims import Groups, ceilings_of_member

MemberRole = Literal["admin", "member", "viewer"]
_Level = Literal["organization", "team"]


class NewMember(TermsBody, frozen=True, kw_only=True):
    """``user`` is an id or a name. Terms left out are those of every member of the team or organization."""

    user: str
    role: MemberRole = "member"


class MemberPatch(TermsBody, frozen=True, kw_only=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, objects merge, lists are replaced."""

    role: MemberRole | UnsetType = UNSET


class MemberView(Struct, frozen=True, kw_only=True):
    """A membership. ``terms`` are its own; ``budgets`` and ``counters`` those that hold, the usual ones included."""

    id: str
    level: _Level
    tenant: str
    user: str
    name: str
    role: MemberRole
    owner: Literal["file", "database"]
    created_at: str
    terms: TermsShown
    budgets: tuple[BudgetView, ...]
    counters: tuple[CounterView, ...]


class MemberList(Struct, frozen=True, kw_only=True):
    """Every member, by id."""

    data: tuple[MemberView, ...]


class MemberRemoved(Struct, frozen=True, kw_only=True):
    """The user that is no member any more."""

    id: str
    removed: bool


@action(permission="members.create", audit=True, route=("POST", "/teams/{team}/members"), status=201)
async def add_to_team(context: Context, team: str, body: NewMember) -> MemberView:
    """Make a user a member of a team."""
    return await _add(context, "team", team, body)


@action(permission="members.read", audit=False, route=("GET", "/teams/{team}/members"))
async def list_of_team(context: Context, team: str) -> MemberList:
    """List a team's members with what each has spent there."""
    return await _list(context, "team", team)


@action(permission="members.update", audit=True, route=("PATCH", "/teams/{team}/members/{user}"))
async def update_in_team(context: Context, team: str, user: str, body: MemberPatch) -> MemberView:
    """Change a member's role or terms in a team with a JSON merge patch."""
    return await _update(context, "team", team, user, body)


@action(permission="members.delete", audit=True, route=("DELETE", "/teams/{team}/members/{user}"))
async def remove_from_team(context: Context, team: str, user: str) -> MemberRemoved:
    """End a membership in a team. The user's keys of the team go on: block or revoke them."""
    return await _remove(context, "team", team, user)


@action(permission="members.budget", audit=True, route=("POST", "/teams/{team}/members/{user}/reset_spend"))
async def reset_spend_in_team(context: Context, team: str, user: str, body: ResetSpend) -> SpendReset:
    """Forgive what a member has spent in a team in the current periods, by entries beside the ledger."""
    return await _reset(context, "team", team, user, body)


@action(permission="members.budget", audit=True, route=("POST", "/teams/{team}/members/{user}/raise"))
async def raise_budget_in_team(context: Context, team: str, user: str, body: Raise) -> MemberView:
    """Raise a budget that a member has in a team for a while."""
    return await _raise(context, "team", team, user, body)


@action(
    permission="members.create",
    audit=True,
    route=("POST", "/organizations/{organization}/members"),
    status=201,
)
async def add_to_organization(context: Context, organization: str, body: NewMember) -> MemberView:
    """Make a user a member of an organization."""
    return await _add(context, "organization", organization, body)


@action(permission="members.read", audit=False, route=("GET", "/organizations/{organization}/members"))
async def list_of_organization(context: Context, organization: str) -> MemberList:
    """List an organization's members with what each has spent there."""
    return await _list(context, "organization", organization)


@action(
    permission="members.update", audit=True, route=("PATCH", "/organizations/{organization}/members/{user}")
)
async def update_in_organization(
    context: Context, organization: str, user: str, body: MemberPatch
) -> MemberView:
    """Change a member's role or terms in an organization with a JSON merge patch."""
    return await _update(context, "organization", organization, user, body)


@action(
    permission="members.delete", audit=True, route=("DELETE", "/organizations/{organization}/members/{user}")
)
async def remove_from_organization(context: Context, organization: str, user: str) -> MemberRemoved:
    """End a membership in an organization. Those in its teams stay."""
    return await _remove(context, "organization", organization, user)


@action(
    permission="members.budget",
    audit=True,
    route=("POST", "/organizations/{organization}/members/{user}/reset_spend"),
)
async def reset_spend_in_organization(
    context: Context, organization: str, user: str, body: ResetSpend
) -> SpendReset:
    """Forgive what a member has spent in an organization in the current periods, by entries beside the ledger."""
    return await _reset(context, "organization", organization, user, body)


@action(
    permission="members.budget",
    audit=True,
    route=("POST", "/organizations/{organization}/members/{user}/raise"),
)
async def raise_budget_in_organization(
    context: Context, organization: str, user: str, body: Raise
) -> MemberView:
    """Raise a budget that a member has in an organization for a while."""
    return await _raise(context, "organization", organization, user, body)


async def _add(context: Context, level: _Level, text: str, body: NewMember) -> MemberView:
    made: list[Membership] = []

    async def write() -> None:
        society = await context.society()
        tenant = await located(context, level, text, "members.create", society=society)
        user = _addable(context, society, tenant, body.user)
        if any(one.tenant == tenant.id and one.level == level for one in society.memberships(user.id)):
            raise Conflict(f"{user.name} is a member already", param="user")
        now = context.clock()
        member = Membership(
            level=level,
            tenant=tenant.id,
            user=user.id,
            role=body.role,
            terms=terms(body, Terms(), now),
            created_at=now,
        )
        await context.stored_tenants().put_member(member)
        await context.changed()
        made.append(member)

    await to_the_end(context, write)
    return await _view(context, made[0])


async def _list(context: Context, level: _Level, text: str) -> MemberList:
    society = await context.society()
    tenant = await located(context, level, text, "members.read", society=society)
    found = [one for one in society.directory.memberships if one.level == level and one.tenant == tenant.id]
    found.sort(key=lambda one: one.user)
    return MemberList(data=tuple(await _views(context, society, found)))


async def _update(context: Context, level: _Level, text: str, user: str, body: MemberPatch) -> MemberView:
    now = context.clock()

    def change(found: Membership) -> Membership:
        role = found.role if body.role is UNSET else body.role
        return replace(found, role=role, terms=terms(body, found.terms, now))

    return await _changed(context, level, text, user, "members.update", change)


async def _raise(context: Context, level: _Level, text: str, user: str, body: Raise) -> MemberView:
    now = context.clock()
    society = await context.society()
    tenant = await located(context, level, text, "members.budget", society=society)

    def change(found: Membership) -> Membership:
        # A usual budget becomes the member's own, so that it can be raised for this one.
        budgets = found.terms.budgets or tenant.members.budgets
        return replace(found, terms=replace(found.terms, budgets=raised(budgets, body, now)))

    return await _changed(context, level, text, user, "members.budget", change)


async def _remove(context: Context, level: _Level, text: str, user: str) -> MemberRemoved:
    gone: list[Membership] = []

    async def write() -> None:
        _, found = await _found(context, level, text, user, "members.delete")
        _refuse_file(context, found)
        await context.stored_tenants().remove_member(level, found.tenant, found.user)
        await context.changed()
        gone.append(found)

    await to_the_end(context, write)
    return MemberRemoved(id=gone[0].user, removed=True)


async def _reset(context: Context, level: _Level, text: str, user: str, body: ResetSpend) -> SpendReset:
    society, found = await _found(context, level, text, user, "members.budget")
    tenant = society.tenants[level, found.tenant]
    return await forgive(
        context, ceilings_of_member(tenant, found.user, found, Groups(society.directory)), body
    )


async def _changed(
    context: Context,
    level: _Level,
    text: str,
    user: str,
    permission: str,
    change: Callable[[Membership], Membership],
) -> MemberView:
    made: list[Membership] = []

    async def write() -> None:
        _, found = await _found(context, level, text, user, permission)
        _refuse_file(context, found)
        new = change(found)
        if new != found:
            await context.stored_tenants().put_member(new)
            await context.changed()
        made.append(new)

    await to_the_end(context, write)
    return await _view(context, made[0])


async def _found(
    context: Context, level: _Level, text: str, user: str, permission: str
) -> tuple[Belonging, Membership]:
    society = await context.society()
    tenant = await located(context, level, text, permission, society=society)
    for one in society.directory.memberships:
        if one.level == level and one.tenant == tenant.id:
            known = society.tenants.get(("user", one.user))
            if user == one.user or (known is not None and known.name == user):
                return society, one
    raise NotFound("no member has this id or name", param="user")


def _addable(context: Context, society: Belonging, tenant: Tenant, text: str) -> Tenant:
    """A user the actor sees, or one of the same organization. Others look unknown."""
    organization = tenant.id if tenant.level == "organization" else tenant.organization
    sight = context.sight("users.read")
    found = []
    for one in society.directory.tenants:
        if one.level == "user" and text in (one.id, one.name, one.email):
            at_home = organization is not None and any(
                place[0] == organization for place in society.places(one, reading=True)
            )
            if at_home or visible(society, sight, one):
                found.append(one)
    exact = [one for one in found if one.id == text]
    if len(exact or found) > 1:
        raise Conflict("several users have this name: use the id", param="user")
    if not found:
        raise NotFound("no user has this id or name", param="user")
    return (exact or found)[0]


def _refuse_file(context: Context, found: Membership) -> None:
    if found.owner == "file":
        place = context.settings().source or "the configuration"
        raise Conflict(f"this membership is declared in {place}: change it there and reload")


async def _view(context: Context, member: Membership) -> MemberView:
    return (await _views(context, await context.society(), [member]))[0]


async def _views(context: Context, society: Belonging, members: list[Membership]) -> list[MemberView]:
    groups = Groups(society.directory)
    within = [society.tenants[one.level, one.tenant] for one in members]
    ceilings = [
        ceilings_of_member(tenant, one.user, one, groups) for tenant, one in zip(within, members, strict=True)
    ]
    found = await standings_of(context, ceilings)
    return [
        MemberView(
            id=one.user,
            level=one.level,
            tenant=one.tenant,
            user=one.user,
            name=known.name if (known := society.tenants.get(("user", one.user))) is not None else one.user,
            role=one.role,
            owner=one.owner,
            created_at=iso(one.created_at),
            terms=shown_terms(one.terms),
            budgets=budget_views(one.terms.budgets or tenant.members.budgets, each),
            counters=counter_views(each),
        )
        for tenant, one, each in zip(within, members, found, strict=True)
    ]
