"""Customers: the end users of your products, told apart by the id that requests send."""

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


class NewCustomer(NewTenant, frozen=True, kw_only=True):
    """A customer to create. Its id is what requests send; left out, it is the name, after the organization and a
    dot where it has one. The terms of the customer ``default`` hold for whoever is not declared."""

    organization: str | None = None


class CustomerPatch(TenantPatch, frozen=True, kw_only=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, objects merge, lists are replaced."""


class CustomerChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One update within a bulk request: an id or name and a merge patch."""

    id: str
    set: CustomerPatch


class CustomerBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1000 changes, done in this order."""

    create: tuple[NewCustomer, ...] = ()
    update: tuple[CustomerChange, ...] = ()
    delete: tuple[str, ...] = ()


@action(permission="customers.create", audit=True, route=("POST", "/customers"), status=201)
async def create(context: Context, body: NewCustomer) -> TenantView:
    """Create a customer."""
    return await tenants.create(context, "customer", body, organization=body.organization)


@action(permission="customers.create", audit=True, route=("POST", "/customers/bulk"))
async def bulk(context: Context, body: CustomerBulk) -> BulkAnswer:
    """Create, update and delete many customers; each has its own result, and its own permission is asked."""
    steps: list[Step] = [
        *(("create", partial(create, body=new)) for new in body.create),
        *(("update", partial(update, customer=each.id, body=each.set)) for each in body.update),
        *(("delete", partial(delete, customer=each, query=Deletion())) for each in body.delete),
    ]
    return await in_bulk(context, steps)


@action(permission="customers.read", audit=False, route=("GET", "/customers"))
async def list_(context: Context, query: TenantQuery) -> TenantPage:
    """List customers, newest first, those of the configuration file included."""
    return await tenants.list_(context, "customer", query)


@action(permission="customers.read", audit=False, route=("GET", "/customers/{customer}"))
async def get(context: Context, customer: str) -> TenantView:
    """Look at a customer, by id or name: its terms, what it has spent and when its budgets reset."""
    return await tenants.get(context, "customer", customer)


@action(permission="customers.update", audit=True, route=("PATCH", "/customers/{customer}"))
async def update(context: Context, customer: str, body: CustomerPatch) -> TenantView:
    """Change a customer with a JSON merge patch. What it has spent stays counted."""
    return await tenants.update(context, "customer", customer, body)


@action(permission="customers.delete", audit=True, route=("DELETE", "/customers/{customer}"))
async def delete(context: Context, customer: str, query: Deletion) -> Deleted:
    """Delete a customer. Its spend stays in the ledger."""
    return await tenants.delete(context, "customer", customer, query)


@action(permission="customers.block", audit=True, route=("POST", "/customers/{customer}/block"))
async def block(context: Context, customer: str) -> TenantView:
    """Refuse every request of a customer until it is unblocked."""
    return await tenants.block(context, "customer", customer, True)


@action(permission="customers.block", audit=True, route=("POST", "/customers/{customer}/unblock"))
async def unblock(context: Context, customer: str) -> TenantView:
    """Serve a blocked customer again."""
    return await tenants.block(context, "customer", customer, False)


@action(permission="customers.budget", audit=True, route=("POST", "/customers/{customer}/reset_spend"))
async def reset_spend(context: Context, customer: str, body: ResetSpend) -> SpendReset:
    """Forgive what a customer has spent in the current periods, by entries beside the ledger."""
    return await tenants.reset_spend(context, "customer", customer, body)


@action(permission="customers.budget", audit=True, route=("POST", "/customers/{customer}/raise"))
async def raise_budget(context: Context, customer: str, body: Raise) -> TenantView:
    """Raise a budget of a customer for a while."""
    return await tenants.raise_budget(context, "customer", customer, body)
