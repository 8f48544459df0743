"""Users: people, with a role over the gateway and memberships. Their tokens are in ``tokens.py``."""

from __future__ import annotations

from functools import partial
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from tollway.admin import tenants
from tollway.admin.action import action
from tollway.admin.bulk import BulkAnswer, Step, in_bulk
from tollway.admin.context import Context
from tollway.admin.labels import email
from tollway.admin.sight import Belonging
from tollway.admin.spend import Raise, ResetSpend, SpendReset
from tollway.admin.tenant_view import TenantPage, TenantView
from tollway.admin.tenants import Deleted, Deletion, NewTenant, TenantPatch, TenantQuery
from tollway.errors import Conflict, Forbidden
from tollway.model.tenant import Membership, Tenant

GatewayRole = Literal["owner", "admin", "auditor", "member", "viewer"]


class NewUser(NewTenant, frozen=True, kw_only=True):
    """A user to create. ``organization`` is the user's home, whose administrators manage the user, and makes
    the user a member of it; ``role`` is held over the whole gateway."""

    organization: str | None = None
    email: str | None = None
    role: GatewayRole | None = None


class UserPatch(TenantPatch, frozen=True, kw_only=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, objects merge, lists are replaced."""

    email: str | UnsetType | None = UNSET
    role: GatewayRole | UnsetType | None = UNSET


class UserChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One update within a bulk request: an id or name and a merge patch."""

    id: str
    set: UserPatch


class UserBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1000 changes, done in this order."""

    create: tuple[NewUser, ...] = ()
    update: tuple[UserChange, ...] = ()
    delete: tuple[str, ...] = ()


@action(permission="users.create", audit=True, route=("POST", "/users"), status=201)
async def create(context: Context, body: NewUser) -> TenantView:
    """Create a user."""
    _refuse_grant(context, body.role)

    def home(made: Tenant) -> tuple[Membership, ...]:
        if made.organization is None:
            return ()
        first = Membership(
            level="organization", tenant=made.organization, user=made.id, created_at=made.created_at
        )
        return (first,)

    more: dict[str, object] = {"email": email(body.email), "role": body.role}
    _refuse_taken_email(await context.society(), more["email"], body.organization, None)
    return await tenants.create(
        context, "user", body, organization=body.organization, more=more, members=home
    )


@action(permission="users.create", audit=True, route=("POST", "/users/bulk"))
async def bulk(context: Context, body: UserBulk) -> BulkAnswer:
    """Create, update and delete many users; each has its own result, and its own permission is asked."""
    steps: list[Step] = [
        *(("create", partial(create, body=new)) for new in body.create),
        *(("update", partial(update, user=each.id, body=each.set)) for each in body.update),
        *(("delete", partial(delete, user=each, query=Deletion())) for each in body.delete),
    ]
    return await in_bulk(context, steps)


@action(permission="users.read", audit=False, route=("GET", "/users"))
async def list_(context: Context, query: TenantQuery) -> TenantPage:
    """List users, newest first, those of the configuration file included."""
    return await tenants.list_(context, "user", query)


@action(permission="users.read", audit=False, route=("GET", "/users/{user}"))
async def get(context: Context, user: str) -> TenantView:
    """Look at a user, by id or name: its terms, what it has spent and when its budgets reset."""
    return await tenants.get(context, "user", user)


@action(permission="users.update", audit=True, route=("PATCH", "/users/{user}"))
async def update(context: Context, user: str, body: UserPatch) -> TenantView:
    """Change a user with a JSON merge patch. What it has spent stays counted."""
    if body.role is not UNSET:
        _refuse_grant(context, body.role or "none")

    def more(found: Tenant, society: Belonging) -> dict[str, object]:
        changes: dict[str, object] = {}
        if body.role is not UNSET:
            changes["role"] = body.role
        if body.email is not UNSET:
            changes["email"] = email(body.email)
            _refuse_taken_email(society, changes["email"], found.organization, found.id)
        return changes

    return await tenants.update(context, "user", user, body, more)


@action(permission="users.delete", audit=True, route=("DELETE", "/users/{user}"))
async def delete(context: Context, user: str, query: Deletion) -> Deleted:
    """Delete a user. Refused while keys hang on it, unless `cascade=true`. Its spend stays in the ledger."""
    return await tenants.delete(context, "user", user, query)


@action(permission="users.block", audit=True, route=("POST", "/users/{user}/block"))
async def block(context: Context, user: str) -> TenantView:
    """Refuse every request of a user until it is unblocked."""
    return await tenants.block(context, "user", user, True)


@action(permission="users.block", audit=True, route=("POST", "/users/{user}/unblock"))
async def unblock(context: Context, user: str) -> TenantView:
    """Serve a blocked user again."""
    return await tenants.block(context, "user", user, False)


@action(permission="users.budget", audit=True, route=("POST", "/users/{user}/reset_spend"))
async def reset_spend(context: Context, user: str, body: ResetSpend) -> SpendReset:
    """Forgive what a user has spent in the current periods, by entries beside the ledger."""
    return await tenants.reset_spend(context, "user", user, body)


@action(permission="users.budget", audit=True, route=("POST", "/users/{user}/raise"))
async def raise_budget(context: Context, user: str, body: Raise) -> TenantView:
    """Raise a budget of a user for a while."""
    return await tenants.raise_budget(context, "user", user, body)


def _refuse_grant(context: Context, role: str | None) -> None:
    """Who holds a role over the gateway is the owner's to decide."""
    if role is not None and not context.actor.may("users.grant"):
        raise Forbidden(f"{context.actor.name} has no permission users.grant: roles are given by an owner")


def _refuse_taken_email(society: Belonging, address: object, home: str | None, own: str | None) -> None:
    """An address is taken within one home only, so that nobody learns who is known elsewhere."""
    known = (one for one in society.directory.tenants if one.level == "user" and one.organization == home)
    if address is not None and any(one.email == address and one.id != own for one in known):
        raise Conflict("a user with this email exists already", param="email")
