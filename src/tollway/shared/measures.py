"""What of a request a claim counts: money, tokens of some kind, or the request itself. Holding it is done elsewhere."""

from __future__ import annotations

from typing import Final

from tollway.shared.interface import Amounts, Claim

ONE: Final = 0
USD: Final = 1
WORST_USD: Final = 2
TOKENS: Final = 3
INPUT: Final = 4
OUTPUT: Final = 5

UNBOUNDED: Final = 1 << 62
"""The limit of a claim that only adds to a counter whose limit other claims say."""


def measure_of(claim: Claim) -> int:
    if claim.unit == "nano_usd":
        return WORST_USD if claim.strict else USD
    if claim.unit != "tokens":
        return ONE
    if claim.count == "input":
        return INPUT
    return OUTPUT if claim.count == "output" else TOKENS


def expected(measure: int, amounts: Amounts) -> int:
    """What is held for a request."""
    if measure == USD:
        return amounts.nano_usd
    if measure == WORST_USD:
        return amounts.worst_nano_usd
    if measure == TOKENS:
        return amounts.tokens
    if measure == INPUT:
        return amounts.input_tokens
    if measure == OUTPUT:
        return max(amounts.tokens - amounts.input_tokens, 0)
    return 1


def certain(measure: int, amounts: Amounts) -> int:
    """The part of it that is no expectation."""
    if measure in (TOKENS, INPUT):
        return amounts.input_tokens
    return 0


def grown(measure: int, nano_usd: int, tokens: int) -> int:
    """What more an answer holds that grows: output, and money where the worst case is not held already."""
    if measure == USD:
        return nano_usd
    if measure in (TOKENS, OUTPUT):
        return tokens
    return 0


def used(
    measure: int, cached: bool, nano_usd: int, tokens: int, input_tokens: int, cached_tokens: int
) -> int:
    """What a finished request counts. ``cached`` false leaves out what was read from the provider's cache."""
    if measure in (USD, WORST_USD):
        return nano_usd
    if measure == ONE:
        return 1
    if measure == OUTPUT:
        return max(tokens - input_tokens, 0)
    count = tokens if measure == TOKENS else input_tokens
    return count if cached else max(count - cached_tokens, 0)
