"""What budgets and limits may say, wherever they are written: the file and the admin API share these names, bounds and
words. Reading either is not done here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from tollway.config import units
from tollway.model.money import NANO
from tollway.model.terms import Budget, RateLimit

MOST_NANO = 1_000_000_000 * NANO
"""Sums of such amounts still fit the 64 bits of a database."""

MOST_COUNT = 1_000_000_000_000
MOST_BUDGETS = 20
MOST_LIMITS = 50
MOST_ENTRIES = 1000

AmountName = Literal["usd", "tokens", "requests"]
BudgetUnit = Literal["nano_usd", "tokens", "requests"]
AMOUNTS: dict[AmountName, BudgetUnit] = {"usd": "nano_usd", "tokens": "tokens", "requests": "requests"}
"""How a budget's amount is written, and its unit."""

AMOUNT_NAMES: dict[BudgetUnit, AmountName] = {unit: name for name, unit in AMOUNTS.items()}

RATES = ("rps", "rpm", "rph", "rpd", "rpw", "tps", "tpm", "tph", "tpd", "tpw", "parallel")
"""The numbers of a limit."""

AMOUNT_MISSING = "is missing: how many dollars?"


class Wrong(ValueError):
    """Terms that contradict themselves. ``part`` names the field; empty: all of it."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


def dollars(text: str) -> int:
    """USD to nano-dollars. Raises ValueError."""
    amount = units.dollars(text)
    if amount > MOST_NANO:
        raise ValueError(f"is more than {MOST_NANO // NANO} US dollars")
    return amount


def count(value: int, least: int = 1) -> int:
    if not least <= value <= MOST_COUNT:
        raise ValueError(f"expected a whole number from {least} to {MOST_COUNT}")
    return value


def zone(name: str) -> str:
    """An IANA time zone. Raises ValueError."""
    if not _known_zone(name):
        raise ValueError("expected a time zone such as Europe/Berlin")
    return name


@lru_cache(256)
def _known_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def checked_budget(budget: Budget) -> Budget:
    """Raises Wrong where parts do not fit together."""
    if budget.soft is not None and not 0 < budget.soft <= budget.limit:
        raise Wrong("soft", "must be more than nothing and not more than the budget")
    if any(not 1 <= percent <= 100 for percent in budget.alert_at):
        raise Wrong("alert_at", "expected percentages from 1 to 100")
    if len(budget.alert_at) > 10:
        raise Wrong("alert_at", "has more than 10 entries")
    if not 1 <= budget.first_day <= 28:
        raise Wrong("first_day", "expected a whole number from 1 to 28")
    if not 1 <= budget.first_month <= 12:
        raise Wrong("first_month", "expected a whole number from 1 to 12")
    if budget.first_day != 1 and budget.per not in ("month", "quarter", "year"):
        raise Wrong("first_day", "belongs to a budget per month, quarter or year")
    if budget.first_month != 1 and budget.per not in ("quarter", "year"):
        raise Wrong("first_month", "belongs to a budget per quarter or year")
    if budget.raised_by and budget.raised_until is None:
        raise Wrong("raise.until", "is missing: when does the increase end?")
    return budget


def checked_budgets(budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    """Raises Wrong for two that would be counted as one."""
    if len(budgets) > MOST_BUDGETS:
        raise Wrong("", f"has more than {MOST_BUDGETS} entries")
    if len({(each.unit, each.per, each.models) for each in budgets}) < len(budgets):
        raise Wrong("", "names the same period twice")
    return tuple(budgets)


def parted_limits(limits: Sequence[RateLimit]) -> tuple[RateLimit, tuple[RateLimit, ...]]:
    """The plain limits (those of every model) and the others. Raises Wrong for two that would be counted as one."""
    if len(limits) > MOST_LIMITS:
        raise Wrong("", f"has more than {MOST_LIMITS} entries")
    seen: set[tuple[object, ...]] = set()
    for each in limits:
        for rate in RATES:
            if getattr(each, rate) is None:
                continue
            counted = (each.count, each.cached) if rate.startswith("t") else ()
            if (rate, each.models, counted) in seen:
                raise Wrong("", f"names {rate} twice" + (" for the same models" if each.models else ""))
            seen.add((rate, each.models, counted))
    plain = next((each for each in limits if not each.models), None)
    return plain or RateLimit(), tuple(each for each in limits if each is not plain)
