"""Money is an integer of nano-dollars (1e-9 USD). No float reaches the ledger; decimals appear at the edges only."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

Money = int

NANO = 1_000_000_000
PER_MILLION = 1_000_000


def rounded(micro_nano: int) -> Money:
    """Turn units x (nano-dollars per million units) into nano-dollars, half up. The one place where money rounds."""
    return (micro_nano + 500_000) // PER_MILLION


def from_usd(amount: str | int | float | Decimal) -> Money:
    """USD as written by a person (``10``, ``"0.15"``) to nano-dollars. Raises ValueError for anything else."""
    try:
        value = Decimal(str(amount))
    except InvalidOperation as error:
        raise ValueError(f"{amount!r} is not an amount of money") from error
    if not value.is_finite() or abs(value) > 1_000_000_000_000:
        raise ValueError(f"{amount!r} is not an amount of money")
    return int((value * NANO).to_integral_value(ROUND_HALF_UP))


def to_usd(amount: Money) -> str:
    """Nano-dollars as a plain decimal string: ``24900`` is ``"0.0000249"``, whole dollars keep two places."""
    sign = ""
    if amount < 0:
        sign, amount = "-", -amount
    whole = amount // NANO
    digits = str(NANO + amount % NANO)[1:].rstrip("0")
    if len(digits) < 2:
        digits = (digits + "00")[:2]
    return f"{sign}{whole}.{digits}"
