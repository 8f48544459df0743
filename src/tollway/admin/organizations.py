"""Organizations: the outermost level, each a tenant of its own: what is one organization's, no other sees."""

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


class NewOrganization(NewTenant, frozen=True, kw_only=True):
    """An organization to create.

    ``members``: terms of each member unless its membership says otherwise; ``keys``: what new keys begin with.
    """

    members: TermsBody | UnsetType | None = UNSET
    keys: TermsBody | UnsetType | None = UNSET


class OrganizationPatch(TenantPatch, frozen=True, kw_only=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, objects merge, lists are replaced.

    ``members``: terms of each member unless its membership says otherwise; ``keys``: what new keys begin with.
    """

    members: TermsBody | UnsetType | None = UNSET
    keys: TermsBody | UnsetType | None = UNSET


class OrganizationChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One update within a bulk request: an id or name and a merge patch."""

    id: str
    set: OrganizationPatch


class OrganizationBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1000 changes, done in this order."""

    create: tuple[NewOrganization, ...] = ()
    update: tuple[OrganizationChange, ...] = ()
    delete: tuple[str, ...] = ()


@action(permission="organizations.create", audit=True, route=("POST", "/organizations"), status=201)
async def create(context: Context, body: NewOrganization) -> TenantView:
    """Create an organization."""
    return await tenants.create(context, "organization", body)


@action(permission="organizations.create", audit=True, route=("POST", "/organizations/bulk"))
async def bulk(context: Context, body: OrganizationBulk) -> BulkAnswer:
    """Create, update and delete many organizations; each has its own result, and its own permission is asked."""
    steps: list[Step] = [
        *(("create", partial(create, body=new)) for new in body.create),
        *(("update", partial(update, organization=each.id, body=each.set)) for each in body.update),
        *(("delete", partial(delete, organization=each, query=Deletion())) for each in body.delete),
    ]
    return await in_bulk(context, steps)


@action(permission="organizations.read", audit=False, route=("GET", "/organizations"))
async def list_(context: Context, query: TenantQuery) -> TenantPage:
    """List organizations, newest first, those of the configuration file included."""
    return await tenants.list_(context, "organization", query)


@action(permission="organizations.read", audit=False, route=("GET", "/organizations/{organization}"))
async def get(context: Context, organization: str) -> TenantView:
    """Look at an organization, by id or name: its terms, what it has spent and when its budgets reset."""
    return await tenants.get(context, "organization", organization)


@action(permission="organizations.update", audit=True, route=("PATCH", "/organizations/{organization}"))
async def update(context: Context, organization: str, body: OrganizationPatch) -> TenantView:
    """Change an organization with a JSON merge patch. What it has spent stays counted."""
    return await tenants.update(context, "organization", organization, body)


@action(permission="organizations.delete", audit=True, route=("DELETE", "/organizations/{organization}"))
async def delete(context: Context, organization: str, query: Deletion) -> Deleted:
    """Delete an organization.

    Refused while teams, projects, customers, users of its own or keys hang on it, unless `cascade=true`. Its spend
    stays in the ledger.
    """
    return await tenants.delete(context, "organization", organization, query)


@action(permission="organizations.block", audit=True, route=("POST", "/organizations/{organization}/block"))
async def block(context: Context, organization: str) -> TenantView:
    """Refuse every request of an organization until it is unblocked."""
    return await tenants.block(context, "organization", organization, True)


@action(permission="organizations.block", audit=True, route=("POST", "/organizations/{organization}/unblock"))
async def unblock(context: Context, organization: str) -> TenantView:
    """Serve a blocked organization again."""
    return await tenants.block(context, "organization", organization, False)


@action(
    permission="organizations.budget", audit=True, route=("POST", "/organizations/{organization}/reset_spend")
)
async def reset_spend(context: Context, organization: str, body: ResetSpend) -> SpendReset:
    """Forgive what an organization has spent in the current periods, by entries beside the ledger."""
    return await tenants.reset_spend(context, "organization", organization, body)


@action(permission="organizations.budget", audit=True, route=("POST", "/organizations/{organization}/raise"))
async def raise_budget(context: Context, organization: str, body: Raise) -> TenantView:
    """Raise a budget of an organization for a while."""
    return await tenants.raise_budget(context, "organization", organization, body)
