"""A key as the API shows it: its terms, state, what it has spent and holds. Never its secret nor its hash."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tollway.admin.context import Context
from tollway.admin.events import caught_up
from tollway.admin.times import iso, iso_or_none
from tollway.model.key import RateLimit, VirtualKey
from tollway.model.money import NANO, Money
from tollway.shared.interface import Standing, Unit

_ASKED_SINGLY = 8
KeyStatus = Literal["active", "blocked", "expired", "revoked"]
_CLAIMS_AT_ONCE = 256
"""Claims asked for in one call: a page of keys must not become one giant command for a remote engine."""


class BudgetView(Struct, frozen=True, kw_only=True):
    """A budget and where it stands in its period. ``usd`` is for people, the nano-dollars are exact."""

    usd: float
    per: str
    strict: bool
    limit_nano_usd: Money
    spent_nano_usd: Money
    held_nano_usd: Money
    remaining_nano_usd: Money
    resets_at: str | None


class CounterView(Struct, frozen=True, kw_only=True):
    """A ceiling that applies to the key (its own, or its team's) and the count at this moment."""

    label: str
    subject: str
    unit: Unit
    limit: int
    spent: int
    held: int
    resets_at: str | None


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
    models: tuple[str, ...]
    team: str | None
    user: str | None
    customer: str | None
    tags: tuple[str, ...]
    metadata: dict[str, str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    limits: RateLimit
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
    found: list[Standing] = []
    for start in range(0, len(wanted), _CLAIMS_AT_ONCE):
        found += await context.counters.standing(tuple(wanted[start : start + _CLAIMS_AT_ONCE]))
    standings = iter(found)
    ledger = await _spent(context, [key for key in keys if not key.budgets])
    now = context.clock()
    return [
        _view(key, [next(standings) for _ in each], now, ledger.get(key.id, 0))
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
    rows, _ = await context.events.usage(("key_id",))
    return {str(row["key_id"]): int(row["cost_nano_usd"] or 0) for row in rows}


def _view(key: VirtualKey, standings: list[Standing], now: float, ledger: Money) -> KeyView:
    money = [each for each in standings if each.claim.unit == "nano_usd" and each.claim.per]
    budgets = []
    for budget in key.budgets:
        # A budget and its claim meet by period and ceiling; each claim serves one budget.
        match = next((s for s in money if (s.claim.per, s.claim.limit) == (budget.per, budget.limit)), None)
        if match is not None:
            money.remove(match)
        spent, held = (match.spent, match.held) if match is not None else (0, 0)
        budgets.append(
            BudgetView(
                usd=budget.limit / NANO,
                per=budget.per,
                strict=budget.strict,
                limit_nano_usd=budget.limit,
                spent_nano_usd=spent,
                held_nano_usd=held,
                remaining_nano_usd=max(0, budget.limit - spent - held),
                resets_at=iso_or_none(match.resets_at) if match is not None else None,
            )
        )
    tightest = min(budgets, key=lambda each: each.remaining_nano_usd, default=None)
    return KeyView(
        id=key.id,
        name=key.name,
        hint=key.hint,
        owner=key.owner,
        status=status_of(key, now),
        models=key.models,
        team=key.team,
        user=key.user,
        customer=key.customer,
        tags=key.tags,
        metadata=key.metadata,
        created_at=iso(key.created_at),
        expires_at=iso_or_none(key.expires_at),
        revoked_at=iso_or_none(key.revoked_at),
        limits=key.limits,
        budget=tightest,
        budgets=tuple(budgets),
        spent_nano_usd=tightest.spent_nano_usd if tightest is not None else ledger,
        held_nano_usd=tightest.held_nano_usd if tightest is not None else 0,
        resets_at=tightest.resets_at if tightest is not None else None,
        counters=tuple(
            CounterView(
                label=each.claim.label,
                subject=each.claim.subject,
                unit=each.claim.unit,
                limit=each.claim.limit,
                spent=each.spent,
                held=each.held,
                resets_at=iso_or_none(each.resets_at),
            )
            for each in standings
        ),
    )
