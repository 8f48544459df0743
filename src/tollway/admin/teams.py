"""Teams: people and keys that share budgets, limits and models."""

from __future__ import annotations

from functools import partial

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from tollway.admin import tenant_view, tenants
from tollway.admin.action import action
from tollway.admin.bulk import BulkAnswer, Step, in_bulk
from tollway.admin.context import Context
from tollway.admin.spend import Raise, ResetSpend, SpendReset
from tollway.admin.tenant_view import TenantPage, TenantView
from tollway.admin.tenants import Deleted, Deletion, NewTenant, TenantPatch, TenantQuery
from tollway.admin.terms import TermsBody
from tollway.errors import Conflict
from tollway.model.tenant import Tenant


class NewTeam(NewTenant, frozen=True, kw_only=True):
    """A team to create, in an organization or in none.

    ``members``: terms of each member unless its membership says otherwise; ``keys``: what new keys begin with.
    """

    members: TermsBody | UnsetType | None = UNSET
    keys: TermsBody | UnsetType | None = UNSET
    organization: str | None = None


class TeamPatch(TenantPatch, frozen=True, kw_only=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, objects merge, lists are replaced.

    ``members``: terms of each member unless its membership says otherwise; ``keys``: what new keys begin with.
    """

    members: TermsBody | UnsetType | None = UNSET
    keys: TermsBody | UnsetType | None = UNSET


class TeamChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One update within a bulk request: an id or name and a merge patch."""

    id: str
    set: TeamPatch


class TeamBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1000 changes, done in this order."""

    create: tuple[NewTeam, ...] = ()
    update: tuple[TeamChange, ...] = ()
    delete: tuple[str, ...] = ()


@action(permission="teams.create", audit=True, route=("POST", "/teams"), status=201)
async def create(context: Context, body: NewTeam) -> TenantView:
    """Create a team."""
    return await tenants.create(context, "team", body, organization=body.organization)


@action(permission="teams.create", audit=True, route=("POST", "/teams/bulk"))
async def bulk(context: Context, body: TeamBulk) -> BulkAnswer:
    """Create, update and delete many teams; each has its own result, and its own permission is asked."""
    steps: list[Step] = [
        *(("create", partial(create, body=new)) for new in body.create),
        *(("update", partial(update, team=each.id, body=each.set)) for each in body.update),
        *(("delete", partial(delete, team=each, query=Deletion())) for each in body.delete),
    ]
    return await in_bulk(context, steps)


@action(permission="teams.read", audit=False, route=("GET", "/teams"))
async def list_(context: Context, query: TenantQuery) -> TenantPage:
    """List teams, newest first, those of the configuration file included."""
    return await tenants.list_(context, "team", query)


@action(permission="teams.read", audit=False, route=("GET", "/teams/{team}"))
async def get(context: Context, team: str) -> TenantView:
    """Look at a team, by id or name: its terms, what it has spent and when its budgets reset."""
    return await tenants.get(context, "team", team)


@action(permission="teams.update", audit=True, route=("PATCH", "/teams/{team}"))
async def update(context: Context, team: str, body: TeamPatch) -> TenantView:
    """Change a team with a JSON merge patch. What it has spent stays counted."""
    return await tenants.update(context, "team", team, body)


@action(permission="teams.delete", audit=True, route=("DELETE", "/teams/{team}"))
async def delete(context: Context, team: str, query: Deletion) -> Deleted:
    """Delete a team.

    Refused while projects and keys hang on it, unless `cascade=true`. Its spend stays in the ledger."""
    return await tenants.delete(context, "team", team, query)


@action(permission="teams.block", audit=True, route=("POST", "/teams/{team}/block"))
async def block(context: Context, team: str) -> TenantView:
    """Refuse every request of a team until it is unblocked."""
    return await tenants.block(context, "team", team, True)


@action(permission="teams.block", audit=True, route=("POST", "/teams/{team}/unblock"))
async def unblock(context: Context, team: str) -> TenantView:
    """Serve a blocked team again."""
    return await tenants.block(context, "team", team, False)


@action(permission="teams.budget", audit=True, route=("POST", "/teams/{team}/reset_spend"))
async def reset_spend(context: Context, team: str, body: ResetSpend) -> SpendReset:
    """Forgive what a team has spent in the current periods, by entries beside the ledger."""
    return await tenants.reset_spend(context, "team", team, body)


@action(permission="teams.budget", audit=True, route=("POST", "/teams/{team}/raise"))
async def raise_budget(context: Context, team: str, body: Raise) -> TenantView:
    """Raise a budget of a team for a while."""
    return await tenants.raise_budget(context, "team", team, body)


class TeamTransfer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The organization to move to; null: to none."""

    organization: str | None


@action(permission="teams.transfer", audit=True, route=("POST", "/teams/{team}/transfer"))
async def transfer(context: Context, team: str, body: TeamTransfer) -> TenantView:
    """Move a team with its projects and keys to another organization. Its id stays, and so does what it has spent."""
    moved: list[Tenant] = []

    async def write() -> None:
        society = await context.society()
        found = await tenants.located(context, "team", team, "teams.transfer", society=society)
        tenants.refuse_untouchable(context, found)
        home = None
        if body.organization is not None:
            target = await tenants.located(
                context, "organization", body.organization, "teams.transfer", "organization", society
            )
            home = target.id
        projects = [
            one for one in society.directory.tenants if one.level == "project" and one.team == found.id
        ]
        stored = await context.keys.all() if context.keys is not None else []
        declared = [one.name for one in projects if one.owner == "file"]
        every = context.snapshot().keys()
        declared += [key.name for key in every if key.owner == "file" and key.team == found.id]
        if declared:
            raise Conflict(f"{declared[0]} is declared in the configuration file: change it there")
        store = context.stored_tenants()
        for one in (found, *projects):
            await store.put(replace(one, organization=home))
        for key in stored:
            if key.team == found.id and context.keys is not None:
                await context.keys.put(replace(key, organization=home))
        await context.changed()
        moved.append(replace(found, organization=home))

    await tenants.to_the_end(context, write)
    return await tenant_view.view(context, moved[0])
