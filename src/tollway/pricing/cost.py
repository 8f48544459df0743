"""Price x Usage -> Money, in integers throughout. Knows no provider, and rounds once, at the end."""

from __future__ import annotations

from tollway.model.money import Money, rounded
from tollway.model.price import Price
from tollway.model.usage import Usage

# Classes that few requests use and that fall back to nothing.
_OTHER_UNITS = ("images", "video_seconds", "characters", "seconds", "pages", "searches", "requests")


def cost(price: Price, usage: Usage, variant: str | None = None) -> Money | None:
    """Nano-dollars for one attempt, or None where a used class has neither a rate nor a fallback.

    ``variant`` is the service tier the provider reported (``batch``, ``flex``, ``priority`` ...). A name
    without rates of its own in ``price`` (``default``, ``auto``, ``standard``, ``scale``, or a discount the
    book does not know) is charged at base rates, so a missing discount overstates and a missing surcharge
    understates.

    The tier is chosen by all tokens read and applies to the whole request. A variant without tiers keeps
    the base tiers: providers that do not list a variant for long prompts serve those at the base rate.

    Fallbacks: cache classes and audio input to ``input`` (one-hour cache writes to the five-minute rate
    first), ``reasoning`` and audio output to ``output``. Reasoning is a part of output and charged once.
    """
    rates, tiers = price.rates, price.tiers
    if variant is not None and variant in price.variants:
        rates = price.variants[variant]
        tiers = price.variant_tiers.get(variant, tiers)
    if tiers:
        prompt = usage.prompt_tokens()
        reached = -1
        for tier in tiers:
            if prompt > tier.above > reached:
                rates, reached = tier.rates, tier.above

    total = 0
    fresh = rates.input
    if units := usage.input:
        if fresh is None:
            return None
        total += units * fresh
    if units := usage.cache_read:
        rate = fresh if rates.cache_read is None else rates.cache_read
        if rate is None:
            return None
        total += units * rate
    if units := usage.cache_write_5m:
        rate = fresh if rates.cache_write_5m is None else rates.cache_write_5m
        if rate is None:
            return None
        total += units * rate
    if units := usage.cache_write_1h:
        rate = rates.cache_write_5m if rates.cache_write_1h is None else rates.cache_write_1h
        rate = fresh if rate is None else rate
        if rate is None:
            return None
        total += units * rate
    if units := usage.audio_input:
        rate = fresh if rates.audio_input is None else rates.audio_input
        if rate is None:
            return None
        total += units * rate
    if units := usage.output:
        thought = usage.reasoning
        if thought and rates.reasoning is not None:
            thought = min(thought, units)
            total += thought * rates.reasoning
            units -= thought
        if units:
            if rates.output is None:
                return None
            total += units * rates.output
    if units := usage.audio_output:
        rate = rates.output if rates.audio_output is None else rates.audio_output
        if rate is None:
            return None
        total += units * rate
    if (
        usage.images
        or usage.video_seconds
        or usage.characters
        or usage.seconds
        or usage.pages
        or (usage.searches or usage.requests)
    ):
        for name in _OTHER_UNITS:
            if units := getattr(usage, name):
                rate = getattr(rates, name)
                if rate is None:
                    return None
                total += units * rate
    return rounded(total)
