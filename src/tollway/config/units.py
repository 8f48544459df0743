"""Amounts as people write them: ``30s``, ``64MiB``, ``10usd/month``, ``0.15`` USD per million. ValueError
tells what is wrong."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Literal

from tollway.model.key import Budget
from tollway.model.money import NANO, Money, from_usd

_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
    "w": Decimal(604800),
}
_BYTES = {
    "": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4,
    "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4,
    "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4,
}  # fmt: skip
_DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d|w))+\Z")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?\Z")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([a-zA-Z]{0,3})\Z")
_BUDGET = re.compile(r"([0-9.]{1,30}) ?(usd|USD|\$|tokens|requests)?(?: ?/ ?([a-z0-9]{1,8}))?\Z")
_WHOLE = re.compile(r"[1-9][0-9]{0,11}\Z")
_DAYS = re.compile(r"([1-9][0-9]{0,3})d\Z")

PERIODS = ("day", "week", "month", "quarter", "year", "total")
LONGEST = 100 * 366 * 86400.0


def duration(text: str) -> float:
    """Seconds: ``200ms``, ``5s``, ``2m``, ``1h30m``, ``30d``; a bare number is seconds."""
    written = text.strip()
    if _NUMBER.match(written):
        seconds = float(written)
    elif _DURATION.match(written):
        seconds = float(
            sum(Decimal(amount) * _SECONDS[unit] for amount, unit in _DURATION_PART.findall(written))
        )
    else:
        raise ValueError("expected a duration such as 200ms, 30s, 2m, 1h or 30d (a number counts seconds)")
    if seconds > LONGEST:
        raise ValueError("a duration is at most 100 years")
    return seconds


def size(text: str) -> int:
    """Bytes: ``65536``, ``64KiB``, ``10MB``, ``1GiB``."""
    match = _SIZE.match(text.strip())
    if match is None or match.group(2).lower() not in _BYTES:
        raise ValueError("expected a size such as 65536, 64KiB, 10MB or 1GiB")
    return int(Decimal(match.group(1)) * _BYTES[match.group(2).lower()])


def dollars(text: str) -> Money:
    """USD to nano-dollars, exactly: an amount finer than a nano-dollar is refused rather than rounded."""
    written = text.strip()
    try:
        value = Decimal(written)
        if not value.is_finite() or len(written) > 40:
            raise ValueError
        amount = from_usd(value)
    except (InvalidOperation, ValueError):
        raise ValueError("expected an amount in USD such as 10 or 0.15") from None
    if amount < 0:
        raise ValueError("an amount in USD must not be negative")
    if Decimal(amount) != value * NANO:
        raise ValueError("an amount in USD has at most nine decimals")
    return amount


def period(text: str) -> str:
    """``day``, ``week``, ``month``, ``quarter``, ``year``, ``total`` or a number of days such as ``30d``."""
    if text in PERIODS or _DAYS.match(text):
        return text
    raise ValueError("expected day, week, month, quarter, year, total or a number of days such as 30d")


def budget(text: str) -> Budget:
    """``10usd/month``, ``2.50/30d``, ``100usd`` (in total), ``1000000tokens/day``, ``500requests``."""
    match = _BUDGET.match(text.strip())
    if match is None:
        raise ValueError("expected a budget such as 10usd/month, 1000000tokens/day or 100usd")
    amount, unit, per = match.groups()
    if unit not in ("tokens", "requests"):
        return Budget(limit=dollars(amount), per=period(per or "total"))
    if not _WHOLE.match(amount):
        raise ValueError(f"expected a whole number of {unit}")
    counted: Literal["tokens", "requests"] = "tokens" if unit == "tokens" else "requests"
    return Budget(limit=int(amount), unit=counted, per=period(per or "total"))
