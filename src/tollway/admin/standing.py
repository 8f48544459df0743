"""Budgets and counters as the API shows them: what is spent and held at this moment, and when it resets."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from tollway.admin.context import Context
from tollway.admin.terms import BudgetShown, shown_budget
from tollway.admin.times import iso_or_none
from tollway.model.money import Money
from tollway.model.terms import Budget
from tollway.shared.claims import Ceiling
from tollway.shared.interface import Claim, Standing, Unit

_AT_ONCE = 256
"""Claims asked for in one call: a page of keys must not become one giant command for a remote engine."""


class BudgetView(BudgetShown, frozen=True, kw_only=True):
    """A budget and where it stands in its period; ``spent``, ``held`` and ``remaining`` in its unit. The fields in
    nano-dollars are 0 where tokens or requests are counted."""

    spent: int
    held: int
    remaining: int
    limit_nano_usd: Money
    spent_nano_usd: Money
    held_nano_usd: Money
    remaining_nano_usd: Money
    resets_at: str | None


class CounterView(Struct, frozen=True, kw_only=True):
    """A ceiling that applies and the count at this moment. ``label`` and ``subject`` are what a refusal would say."""

    counter: str
    label: str
    subject: str
    unit: Unit
    limit: int
    spent: int
    held: int
    resets_at: str | None


async def standings(context: Context, claims: Sequence[Claim]) -> list[Standing]:
    """Where each claim stands, in order."""
    found: list[Standing] = []
    for start in range(0, len(claims), _AT_ONCE):
        found += await context.counters.standing(tuple(claims[start : start + _AT_ONCE]))
    return found


async def standings_of(context: Context, ceilings: Sequence[tuple[Ceiling, ...]]) -> list[list[Standing]]:
    """Where the ceilings of several objects stand, object by object."""
    claims = [context.watched(each) for each in ceilings]
    found = iter(await standings(context, [claim for each in claims for claim in each]))
    return [[next(found) for _ in each] for each in claims]


def budget_views(budgets: Sequence[Budget], found: Sequence[Standing]) -> tuple[BudgetView, ...]:
    """Each budget with its standing among those found."""
    waiting = [each for each in found if each.claim.per]
    views = []
    for budget in budgets:
        # A budget and its claim meet by unit, period and ceiling; each claim serves one budget.
        wanted = (budget.unit, budget.per, budget.limit, budget.zone)
        match = next(
            (s for s in waiting if (s.claim.unit, s.claim.per, s.claim.limit, s.claim.zone) == wanted), None
        )
        if match is not None:
            waiting.remove(match)
        spent, held = (match.spent, match.held) if match is not None else (0, 0)
        money = 1 if budget.unit == "nano_usd" else 0
        remaining = max(0, budget.limit - spent - held)
        views.append(
            BudgetView(
                **shown_budget(budget),
                spent=spent,
                held=held,
                remaining=remaining,
                limit_nano_usd=money * budget.limit,
                spent_nano_usd=money * spent,
                held_nano_usd=money * held,
                remaining_nano_usd=money * remaining,
                resets_at=iso_or_none(match.resets_at) if match is not None else None,
            )
        )
    return tuple(views)


def tightest(budgets: Sequence[BudgetView]) -> BudgetView | None:
    """The budget in dollars with the least left; without one the other with the smallest share left."""
    money = [each for each in budgets if each.unit == "nano_usd"]
    if money:
        return min(money, key=lambda each: each.remaining_nano_usd)
    return min(budgets, key=lambda each: each.remaining / (each.limit or 1), default=None)


def counter_views(found: Sequence[Standing]) -> tuple[CounterView, ...]:
    return tuple(
        CounterView(
            counter=each.claim.counter,
            label=each.claim.label,
            subject=each.claim.subject,
            unit=each.claim.unit,
            limit=each.claim.limit,
            spent=each.spent,
            held=each.held,
            resets_at=iso_or_none(each.resets_at),
        )
        for each in found
    )
