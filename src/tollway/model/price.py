"""Prices: integer nano-dollars per million units, by class, with context tiers and service variants."""

from __future__ import annotations

from msgspec import Struct


class Rates(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nano-dollars per million units, one field for each class of ``Usage``. None: the source names no price.

    A class without a rate falls back where providers charge so: cache classes and audio input to ``input``,
    ``reasoning`` and audio output to ``output``. Any other used class without a rate leaves a request unpriced.
    """

    input: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    output: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    images: int | None = None
    video_seconds: int | None = None
    characters: int | None = None
    seconds: int | None = None
    pages: int | None = None
    searches: int | None = None
    requests: int | None = None


class Tier(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rates for the whole request once its prompt exceeds ``above`` tokens (a cliff, not a marginal rate)."""

    above: int
    rates: Rates


class Price(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one model costs at one provider.

    ``variants`` holds rates by service tier (``batch``, ``flex``, ``priority``), ``valid_from`` an ISO date,
    ``source`` where the numbers come from, ``version`` the price book they were read from.
    """

    rates: Rates
    tiers: tuple[Tier, ...] = ()
    variants: dict[str, Rates] = {}
    variant_tiers: dict[str, tuple[Tier, ...]] = {}
    valid_from: str | None = None
    source: str = ""
    version: str = ""
