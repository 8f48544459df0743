"""Tags: labels of requests and keys that have budgets and limits of their own."""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from tollway.admin import tenants
from tollway.admin.action import action
from tollway.admin.bulk import BulkAnswer, Step, in_bulk
from tollway.admin.context import Context
from tollway.admin.spend import Raise, ResetSpend, SpendReset
from tollway.admin.tenant_view import TenantPage, TenantView
from tollway.admin.tenants import Deleted, Deletion, NewTenant, TenantPatch, TenantQuery


class NewTag(NewTenant, frozen=True, kw_only=True):
    """A tag to create. Its id is what requests and keys bear; left out, it is the name."""


class TagPatch(TenantPatch, frozen=True, kw_only=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, objects merge, lists are replaced."""


class TagChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One update within a bulk request: an id or name and a merge patch."""

    id: str
    set: TagPatch


class TagBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1000 changes, done in this order."""

    create: tuple[NewTag, ...] = ()
    update: tuple[TagChange, ...] = ()
    delete: tuple[str, ...] = ()


@action(permission="tags.create", audit=True, route=("POST", "/tags"), status=201)
async def create(context: Context, body: NewTag) -> TenantView:
    """Create a tag."""
    return await tenants.create(context, "tag", body)


@action(permission="tags.create", audit=True, route=("POST", "/tags/bulk"))
async def bulk(context: Context, body: TagBulk) -> BulkAnswer:
    """Create, update and delete many tags; each has its own result, and its own permission is asked."""
    steps: list[Step] = [
        *(("create", partial(create, body=new)) for new in body.create),
        *(("update", partial(update, tag=each.id, body=each.set)) for each in body.update),
        *(("delete", partial(delete, tag=each, query=Deletion())) for each in body.delete),
    ]
    return await in_bulk(context, steps)


@action(permission="tags.read", audit=False, route=("GET", "/tags"))
async def list_(context: Context, query: TenantQuery) -> TenantPage:
    """List tags, newest first, those of the configuration file included."""
    return await tenants.list_(context, "tag", query)


@action(permission="tags.read", audit=False, route=("GET", "/tags/{tag}"))
async def get(context: Context, tag: str) -> TenantView:
    """Look at a tag, by id or name: its terms, what it has spent and when its budgets reset."""
    return await tenants.get(context, "tag", tag)


@action(permission="tags.update", audit=True, route=("PATCH", "/tags/{tag}"))
async def update(context: Context, tag: str, body: TagPatch) -> TenantView:
    """Change a tag with a JSON merge patch. What it has spent stays counted."""
    return await tenants.update(context, "tag", tag, body)


@action(permission="tags.delete", audit=True, route=("DELETE", "/tags/{tag}"))
async def delete(context: Context, tag: str, query: Deletion) -> Deleted:
    """Delete a tag. Its spend stays in the ledger."""
    return await tenants.delete(context, "tag", tag, query)


@action(permission="tags.block", audit=True, route=("POST", "/tags/{tag}/block"))
async def block(context: Context, tag: str) -> TenantView:
    """Refuse every request of a tag until it is unblocked."""
    return await tenants.block(context, "tag", tag, True)


@action(permission="tags.block", audit=True, route=("POST", "/tags/{tag}/unblock"))
async def unblock(context: Context, tag: str) -> TenantView:
    """Serve a blocked tag again."""
    return await tenants.block(context, "tag", tag, False)


@action(permission="tags.budget", audit=True, route=("POST", "/tags/{tag}/reset_spend"))
async def reset_spend(context: Context, tag: str, body: ResetSpend) -> SpendReset:
    """Forgive what a tag has spent in the current periods, by entries beside the ledger."""
    return await tenants.reset_spend(context, "tag", tag, body)


@action(permission="tags.budget", audit=True, route=("POST", "/tags/{tag}/raise"))
async def raise_budget(context: Context, tag: str, body: Raise) -> TenantView:
    """Raise a budget of a tag for a while."""
    return await tenants.raise_budget(context, "tag", tag, body)
