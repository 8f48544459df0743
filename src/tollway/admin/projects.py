"""Projects: work whose spend is counted on its own, within a team or an organization."""

from __future__ import annotations

from functools import partial

from msgspec import UNSET, Struct, UnsetType

from tollway.admin import tenants
from tollway.admin.action import action
from tollway.admin.bulk import BulkAnswer, Step, in_bulk
from tollway.admin.context import Context
from tollway.admin.spend import Raise, ResetSpend, SpendReset
from tollway.admin.tenant_view import TenantPage, TenantView
from tollway.admin.tenants import Deleted, Deletion, NewTenant, TenantPatch, TenantQuery
from tollway.admin.terms import TermsBody


class NewProject(NewTenant, frozen=True, kw_only=True):
    """A project to create, in a team, in an organization or in none.

    ``keys``: what new keys begin with.
    """

    keys: TermsBody | UnsetType | None = UNSET
    organization: str | None = None
    team: str | None = None


class ProjectPatch(TenantPatch, frozen=True, kw_only=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, objects merge, lists are replaced.

    ``keys``: what new keys begin with.
    """

    keys: TermsBody | UnsetType | None = UNSET


class ProjectChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One update within a bulk request: an id or name and a merge patch."""

    id: str
    set: ProjectPatch


class ProjectBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1000 changes, done in this order."""

    create: tuple[NewProject, ...] = ()
    update: tuple[ProjectChange, ...] = ()
    delete: tuple[str, ...] = ()


@action(permission="projects.create", audit=True, route=("POST", "/projects"), status=201)
async def create(context: Context, body: NewProject) -> TenantView:
    """Create a project."""
    return await tenants.create(context, "project", body, organization=body.organization, team=body.team)


@action(permission="projects.create", audit=True, route=("POST", "/projects/bulk"))
async def bulk(context: Context, body: ProjectBulk) -> BulkAnswer:
    """Create, update and delete many projects; each has its own result, and its own permission is asked."""
    steps: list[Step] = [
        *(("create", partial(create, body=new)) for new in body.create),
        *(("update", partial(update, project=each.id, body=each.set)) for each in body.update),
        *(("delete", partial(delete, project=each, query=Deletion())) for each in body.delete),
    ]
    return await in_bulk(context, steps)


@action(permission="projects.read", audit=False, route=("GET", "/projects"))
async def list_(context: Context, query: TenantQuery) -> TenantPage:
    """List projects, newest first, those of the configuration file included."""
    return await tenants.list_(context, "project", query)


@action(permission="projects.read", audit=False, route=("GET", "/projects/{project}"))
async def get(context: Context, project: str) -> TenantView:
    """Look at a project, by id or name: its terms, what it has spent and when its budgets reset."""
    return await tenants.get(context, "project", project)


@action(permission="projects.update", audit=True, route=("PATCH", "/projects/{project}"))
async def update(context: Context, project: str, body: ProjectPatch) -> TenantView:
    """Change a project with a JSON merge patch. What it has spent stays counted."""
    return await tenants.update(context, "project", project, body)


@action(permission="projects.delete", audit=True, route=("DELETE", "/projects/{project}"))
async def delete(context: Context, project: str, query: Deletion) -> Deleted:
    """Delete a project. Refused while keys hang on it, unless `cascade=true`. Its spend stays in the ledger."""
    return await tenants.delete(context, "project", project, query)


@action(permission="projects.block", audit=True, route=("POST", "/projects/{project}/block"))
async def block(context: Context, project: str) -> TenantView:
    """Refuse every request of a project until it is unblocked."""
    return await tenants.block(context, "project", project, True)


@action(permission="projects.block", audit=True, route=("POST", "/projects/{project}/unblock"))
async def unblock(context: Context, project: str) -> TenantView:
    """Serve a blocked project again."""
    return await tenants.block(context, "project", project, False)


@action(permission="projects.budget", audit=True, route=("POST", "/projects/{project}/reset_spend"))
async def reset_spend(context: Context, project: str, body: ResetSpend) -> SpendReset:
    """Forgive what a project has spent in the current periods, by entries beside the ledger."""
    return await tenants.reset_spend(context, "project", project, body)


@action(permission="projects.budget", audit=True, route=("POST", "/projects/{project}/raise"))
async def raise_budget(context: Context, project: str, body: Raise) -> TenantView:
    """Raise a budget of a project for a while."""
    return await tenants.raise_budget(context, "project", project, body)
