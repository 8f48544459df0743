"""What one source says of one model, in our units: integer nano-dollars per million units, by class."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

Rates = dict[str, int]

PER_UNIT = Decimal(10) ** 15  # USD per unit -> nano-dollars per million units
PER_MILLION = Decimal(10) ** 9  # USD per million units -> nano-dollars per million units

TOKENS = (
    "input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "output",
    "reasoning",
    "audio_input",
    "audio_output",
)
UNITS = ("images", "video_seconds", "characters", "seconds", "pages", "searches", "requests")
CLASSES = TOKENS + UNITS
# Classes in which a zero means that nobody filled it in: a model that writes text does not do it for nothing,
# and an image model priced by the image may still bill tokens.
GAPS: dict[str | None, tuple[str, ...]] = {
    None: ("output",),
    "chat": ("output",),
    "responses": ("output",),
    "completion": ("output",),
    "image": ("input", "output"),
    "image_edit": ("input", "output"),
}
CACHE = ("cache_read", "cache_write_5m", "cache_write_1h")

# Above any list price of fresh text (USD 150 a million): a slip by a factor of a thousand.
DEAREST_INPUT = int(Decimal(250) * PER_MILLION)
# A token dearer than this is another unit in disguise (a minute, an image, a search).
DEAREST_TOKEN = int(Decimal(2000) * PER_MILLION)


@dataclass
class Quote:
    """``rates`` are the base rates; tiers, variants and variant tiers hold only what differs from them.

    ``exact`` is False where the source matched the name by a pattern, ``prefixed`` True
    where it repeated the provider in front. ``notes`` go into the report.
    """

    source: str
    provider: str
    model: str
    rates: Rates
    tiers: dict[int, Rates] = field(default_factory=dict)
    variants: dict[str, Rates] = field(default_factory=dict)
    variant_tiers: dict[str, dict[int, Rates]] = field(default_factory=dict)
    mode: str | None = None
    max_input: int | None = None
    max_output: int | None = None
    deprecated: str | None = None
    valid_from: str | None = None
    exact: bool = True
    prefixed: bool = False
    notes: list[str] = field(default_factory=list)


def number(value: object) -> Decimal | None:
    """A price as written, less a float's tail (2.1429999999999996e-06 was 2.143e-06). None: not a price."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    exact = Decimal(value)
    if not exact.is_finite() or exact < 0:
        return None
    if len(exact.as_tuple().digits) >= 15:
        exact = Decimal(f"{exact:.11e}")
    return exact


def scaled(value: object, factor: Decimal) -> int | None:
    """``value`` times ``factor`` as an integer, half up; None where ``value`` is no price."""
    exact = number(value)
    return None if exact is None else int((exact * factor).to_integral_value(ROUND_HALF_UP))


def close(one: int, other: int) -> bool:
    """Equal within 0.5 %."""
    return abs(one - other) * 200 <= max(one, other)


def without_text_output(quote: Quote) -> None:
    """Of a model whose output rate is that of image tokens, drop the changes that concern text it writes."""
    longer = [rates for tiers in quote.variant_tiers.values() for rates in tiers.values()]
    for changes in (*quote.variants.values(), *quote.tiers.values(), *longer):
        changes.pop("output", None)


def settled(quote: Quote, free: bool) -> Quote:
    """Apply the rules for slips and zeros: absent is not free.

    A zero for a cache class is taken as absent (the class then costs what its fallback costs). Another zero
    stays only beside a positive rate of the same model, and not where it is a gap in such lists (``GAPS``). A
    model whose every rate is zero is unpriced unless its source says clearly that it is free.
    """
    rates = {name: rate for name, rate in quote.rates.items() if rate or name not in CACHE}
    fresh = rates.get("input", 0)
    if fresh > DEAREST_INPUT:
        rates = {}
    elif fresh and rates.get("cache_read", 0) * 100 > fresh * 102:
        del rates["cache_read"]
    if not any(rates.values()):
        quote.rates = {"input": 0, "output": 0} if free else {}
    else:
        quote.rates = {n: r for n, r in rates.items() if r or n not in GAPS.get(quote.mode, ())}
    if not quote.rates or free:
        quote.tiers, quote.variants, quote.variant_tiers = {}, {}, {}
    known = set(quote.rates)
    zero_cache = set(CACHE)

    def listed(changes: Rates) -> Rates:
        return {n: r for n, r in changes.items() if n in known and (r or n not in zero_cache)}

    quote.tiers = {above: kept for above, r in quote.tiers.items() if (kept := listed(r))}
    quote.variants = {name: kept for name, r in quote.variants.items() if (kept := listed(r))}
    quote.variant_tiers = {
        name: tiers
        for name, by_size in quote.variant_tiers.items()
        if name in quote.variants
        and (tiers := {above: kept for above, r in by_size.items() if (kept := listed(r))})
    }
    if quote.rates.get("reasoning") == quote.rates.get("output"):
        quote.rates.pop("reasoning", None)
        for changes in (*quote.tiers.values(), *quote.variants.values()):
            changes.pop("reasoning", None)
    return quote
