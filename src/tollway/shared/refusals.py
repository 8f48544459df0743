"""What a client is told when a ceiling is reached: whose it is, how much of it is used, and when it has room again.

Every engine of counters refuses with these words; none of them decides here.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from tollway.errors import BudgetExceeded, RateLimitExceeded
from tollway.model.money import to_usd
from tollway.shared.interface import Claim

_WINDOW_NAMES = {1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}


def iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def header_lines(unit: str, limit: int, used: int, reset: float) -> str:
    """The ``x-ratelimit-*`` lines of one limit; ``reset`` is seconds until nothing of it is used."""
    return (
        f"x-ratelimit-limit-{unit}: {limit}\r\nx-ratelimit-remaining-{unit}: {max(limit - used, 0)}\r\n"
        f"x-ratelimit-reset-{unit}: {math.ceil(reset)}s\r\n"
    )


def budget_refusal(
    claim: Claim, *, limit: int, spent: int, held: int, needed: int, end: float | None
) -> BudgetExceeded:
    """``limit`` is that of now, a temporary increase included. ``end`` is when the period ends, Unix seconds."""
    resets = iso(end)
    until = f"It resets at {resets}." if resets else "It does not reset; raise it to go on."
    details: dict[str, object] = {
        "budget": claim.label,
        "limit": claim.label,
        "subject": claim.subject,
        "unit": claim.unit,
        "free": max(limit - spent - held, 0),
        "clamp": claim.clamp,
        "resets_at": resets,
    }
    if claim.unit == "nano_usd":
        details["limit_nano_usd"] = limit
        details["spent_nano_usd"] = spent
        details["held_nano_usd"] = held
        details["needed_nano_usd"] = needed
    else:
        details["allowed"] = limit
        details["spent"] = spent
        details["held"] = held
        details["needed"] = needed

    def said(amount: int) -> str:
        return f"${to_usd(amount)}" if claim.unit == "nano_usd" else f"{amount}"

    whole = said(limit) if claim.unit == "nano_usd" else f"{limit} {claim.unit}"
    return BudgetExceeded(
        f"{claim.subject} has a {claim.label} of {whole}: {said(spent)} is spent, "
        f"{said(held)} is held by running requests and this one needs {said(needed)}. {until}",
        details=details,
    )


def rate_refusal(
    claim: Claim, *, limit: int, used: int, needed: int, wait: float, reset: float, now: float
) -> RateLimitExceeded:
    """``wait`` is seconds until ``needed`` more fit, ``reset`` seconds until nothing is used."""
    per = _WINDOW_NAMES.get(claim.seconds, f"{claim.seconds} s")
    details: dict[str, object] = {
        "limit": claim.label,
        "subject": claim.subject,
        "unit": claim.unit,
        "allowed": limit,
        "used": used,
        "spent": used,
        "held": 0,
        "needed": needed,
        "free": max(limit - used, 0),
        "clamp": claim.clamp,
    }
    if needed > limit:
        return RateLimitExceeded(
            f"This request counts {needed} {claim.unit}, more than {claim.subject} may use in a {per} "
            f"({claim.label} {limit}). Shorten it or lower max_tokens.",
            details=details,
        )
    details["resets_at"] = iso(now + wait) or ""
    seconds = math.ceil(wait)
    headers = {"retry-after": str(seconds), "retry-after-ms": str(math.ceil(wait * 1000))}
    unit = "requests" if claim.unit == "requests" else "tokens"
    for line in header_lines(unit, limit, used, reset).split("\r\n")[:-1]:
        name, _, value = line.partition(": ")
        headers[name] = value
    return RateLimitExceeded(
        f"{claim.subject} has reached its limit of {limit} {claim.unit} per {per} ({claim.label}): "
        f"{used} used, {needed} more asked for. Retry in {seconds} s.",
        details=details,
        headers=headers,
    )


def slots_refusal(claim: Claim, *, limit: int, held: int) -> RateLimitExceeded:
    return RateLimitExceeded(
        f"{claim.subject} may run {limit} requests at the same time and {held} are running. "
        f"Wait for one to end.",
        details={
            "limit": claim.label,
            "subject": claim.subject,
            "unit": claim.unit,
            "allowed": limit,
            "used": held,
            "spent": 0,
            "held": held,
            "needed": 1,
            "free": max(limit - held, 0),
            "clamp": claim.clamp,
        },
        headers={"retry-after": "1", "retry-after-ms": "1000"},
    )
