"""A key as the API shows it: its terms, state, what it has spent and holds. Never its secret nor its hash."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tollway.admin.context import Context
from tollway.admin.events import caught_up
from tollway.admin.standing import (
    BudgetView,
    CounterView,
    budget_views,
    counter_views,
    standings,
    tightest,
)
from tollway.admin.terms import LISTS
from tollway.admin.times import iso, iso_or_none
from tollway.model.key import RateLimit, VirtualKey
from tollway.model.money import Money
from tollway.shared.interface import Standing

_ASKED_SINGLY = 8
KeyStatus = Literal["active", "blocked", "expired", "revoked"]


class KeyView(Struct, frozen=True, kw_only=True):
    """A virtual key. ``owner`` ``file`` is read-only here: the configuration file declares it.

    ``spent_nano_usd``, ``held_nano_usd``, ``budget`` and ``resets_at`` speak of the budget with the least
    left; without a budget ``spent_nano_usd`` is everything the ledger knows of the key.
    """

    id: str
    name: str
    hint: str
    owner: Literal["file", "database"]
    status: KeyStatus
    description: str
    organization: str | None
    team: str | None
    project: str | None
    user: str | None
    service: bool
    created_by: str | None
    customer: str | None
    tags: tuple[str, ...]
    metadata: dict[str, str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    rotated_value_until: str | None
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
    spent_nano_usd: Money
    held_nano_usd: Money
    resets_at: str | None
    counters: tuple[CounterView, ...]


class MintedKey(KeyView, frozen=True, kw_only=True):
    """A key together with its secret ``key``, which is shown this once and not kept."""

    key: str


class KeyPage(Struct, frozen=True, kw_only=True):
    """Keys, newest first. ``next_cursor`` asks for the next page; null on the last."""

    data: tuple[KeyView, ...]
    next_cursor: str | None


def status_of(key: VirtualKey, now: float) -> KeyStatus:
    if key.revoked_at is not None:
        return "revoked"
    if key.blocked:
        return "blocked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


async def views(context: Context, keys: list[VirtualKey]) -> list[KeyView]:
    """Keys with their counters. The ledger is asked only for keys that no budget counts."""
    claims = [context.claims(key) for key in keys]
    wanted = [claim for each in claims for claim in each]
    found = iter(await standings(context, wanted))
    ledger = await _spent(context, [key for key in keys if not key.budgets])
    now = context.clock()
    return [
        _view(key, [next(found) for _ in each], now, ledger.get(key.id, 0))
        for key, each in zip(keys, claims, strict=True)
    ]


async def view(context: Context, key: VirtualKey) -> KeyView:
    return (await views(context, [key]))[0]


async def _spent(context: Context, keys: list[VirtualKey]) -> dict[str, Money]:
    """What the ledger knows of these keys, by id: one question for each of a few, one for all of many."""
    if not keys or context.events is None:
        return {}
    await caught_up(context)
    if len(keys) <= _ASKED_SINGLY:
        return {key.id: await context.events.spent(key.id) for key in keys}
    report = await context.events.usage(("key_id",))
    return {str(row["key_id"]): int(row["cost_nano_usd"] or 0) for row in report.rows}


def _view(key: VirtualKey, found: list[Standing], now: float, ledger: Money) -> KeyView:
    budgets = budget_views(key.budgets, found)
    least = tightest(budgets)
    grace = key.former_until if key.former_until is not None and key.former_until > now else None
    return KeyView(
        id=key.id,
        name=key.name,
        hint=key.hint,
        owner=key.owner,
        status=status_of(key, now),
        description=key.description,
        organization=key.organization,
        team=key.team,
        project=key.project,
        user=key.user,
        service=key.service,
        created_by=key.created_by,
        customer=key.customer,
        tags=key.tags,
        metadata=key.metadata,
        created_at=iso(key.created_at),
        expires_at=iso_or_none(key.expires_at),
        revoked_at=iso_or_none(key.revoked_at),
        rotated_value_until=iso_or_none(grace),
        models=key.models,
        **{name: getattr(key.more, name) for name in LISTS if name != "models"},
        aliases=key.more.aliases,
        limits=key.limits,
        more_limits=key.more.more_limits,
        budget=least,
        budgets=budgets,
        spent_nano_usd=least.spent_nano_usd if least is not None else ledger,
        held_nano_usd=least.held_nano_usd if least is not None else 0,
        resets_at=least.resets_at if least is not None else None,
        counters=counter_views(found),
    )
