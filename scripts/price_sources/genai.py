"""The genai-prices package: decimal USD per million tokens, with cliffs, dates and variants by request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal

from genai_prices.data import providers
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ConditionalPrice,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from price_sources import names
from price_sources.quote import PER_MILLION, Quote, Rates, scaled, settled, without_text_output

SOURCE = "genai-prices"

FIELDS: dict[str, tuple[str, Decimal]] = {
    "input_mtok": ("input", PER_MILLION),
    "cache_read_mtok": ("cache_read", PER_MILLION),
    "cache_write_mtok": ("cache_write_5m", PER_MILLION),
    "cache_write_5m_mtok": ("cache_write_5m", PER_MILLION),
    "cache_write_1h_mtok": ("cache_write_1h", PER_MILLION),
    "output_mtok": ("output", PER_MILLION),
    "output_reasoning_mtok": ("reasoning", PER_MILLION),
    "input_audio_mtok": ("audio_input", PER_MILLION),
    "output_audio_mtok": ("audio_output", PER_MILLION),
    "audio_hours": ("seconds", PER_MILLION * 1_000_000 / 3600),
    "input_audio_hours": ("seconds", PER_MILLION * 1_000_000 / 3600),
    "input_document_kpages": ("pages", PER_MILLION * 1000),
    "input_mchars": ("characters", PER_MILLION),
    "web_searches_kcount": ("searches", PER_MILLION * 1000),
    "rerank_searches_kcount": ("searches", PER_MILLION * 1000),
    "requests_kcount": ("requests", PER_MILLION * 1000),
}
# Contexts that are service tiers or modes of processing. Others (a route, a kind of search) have no place.
CONTEXTS = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}


def read(day: date) -> Iterator[Quote]:
    """Every model under its id and the names its match states in full, with the price valid on ``day``."""
    for provider in providers:
        if provider.id in names.GENAI_SKIPPED:
            continue
        for model in provider.models:
            for name in dict.fromkeys((model.id, *_stated(model.match))):
                owner, written = names.genai(provider.id, name)
                if owner == "gemini" and name.startswith("claude"):
                    owner = "vertex_ai"
                yield _quote(owner, written, model, day, exact=True)


def witness(provider: str, model: str, day: date) -> Quote | None:
    """What the package says of a name the book has from elsewhere, found by the package's own patterns."""
    for listed in _providers(provider):
        found = next((m for m in listed.models if m.is_match(model)), None)
        if found is not None:
            # A dated snapshot of a stated name is as good as stated: the package prices it on purpose.
            bare = names.DATED.sub("", model).lower()
            stated = {name.lower() for name in (found.id, *_stated(found.match))}
            return _quote(provider, model, found, day, exact=bare in stated)
    return None


def _providers(provider: str) -> list[Provider]:
    wanted = names.GENAI_WITNESS.get(provider)
    return [
        p
        for p in providers
        if not p.id.startswith("huggingface_")
        and p.id not in names.GENAI_SKIPPED
        and (p.id == wanted or names.genai(p.id, "")[0] == provider)
    ]


def _stated(match: MatchLogic) -> Iterator[str]:
    if isinstance(match, ClauseEquals):
        yield match.equals
    elif isinstance(match, ClauseOr):
        for clause in match.or_:
            yield from _stated(clause)


def _quote(provider: str, name: str, model: ModelInfo, day: date, exact: bool) -> Quote:
    moment = datetime.combine(day, time(12), tzinfo=UTC)
    standard, since, hours = _standard(model, moment)
    quote = Quote(
        source=SOURCE,
        provider=provider,
        model=name,
        rates=_flat(standard, None),
        max_input=model.context_window,
        valid_from=since,
        exact=exact,
    )
    if hours:
        quote.notes.append("the price depends on the hour; the dearest is taken")
    quote.tiers = {above: _flat(standard, above) for above in _starts(standard)}
    image_output: dict[str, int | None] = {}
    for variant, context in CONTEXTS.items():
        for key, value in context.items():
            changes = _changes(model, moment, {key: value})
            if changes is not None:
                quote.variants[variant] = _flat(changes, None)
                image_output[variant] = scaled(changes.output_image_mtok, PER_MILLION)
                if starts := _starts(changes):
                    quote.variant_tiers[variant] = {above: _flat(changes, above) for above in starts}
    if standard.output_image_mtok is not None:
        stated = {v: r for v, r in image_output.items() if r is not None}
        without_text_output(quote)
        for variant, rate in stated.items():
            quote.variants[variant]["output"] = rate
    return settled(quote, free=name.endswith((":free", "-free")))


def _standard(model: ModelInfo, moment: datetime) -> tuple[ModelPrice, str | None, bool]:
    """The price in force, since when, and whether it depends on the time of day."""
    if isinstance(model.prices, ModelPrice):
        return model.prices, None, False
    chosen, since = model.prices[0].prices, None
    by_hour: list[ConditionalPrice] = []
    for price in model.prices:
        if isinstance(price.constraint, TimeOfDateConstraint):
            by_hour.append(price)
        elif price.constraint is None:
            chosen, since = price.prices, None
        elif isinstance(price.constraint, StartDateConstraint) and price.constraint.active(moment):
            chosen, since = price.prices, price.constraint.start_date.isoformat()
    candidates = [chosen, *(price.prices for price in by_hour)]
    return max(candidates, key=lambda p: sum(_flat(p, None).values())), since, bool(by_hour)


def _changes(model: ModelInfo, moment: datetime, context: dict[str, str]) -> ModelPrice | None:
    """What a context overrides: the first active variant that states a class wins it. None: nothing."""
    found: dict[str, Decimal | TieredPrices] = {}
    for variant in model.price_variants or ():
        active = variant.constraint is None or variant.constraint.active(moment)
        if variant.when != context or not active:
            continue
        for key, value in variant.prices.__dict__.items():
            if value is not None:
                found.setdefault(key, value)
    return ModelPrice(**found) if found else None


def _starts(prices: ModelPrice) -> list[int]:
    tiered = [value for value in prices.__dict__.values() if isinstance(value, TieredPrices)]
    return sorted({tier.start for value in tiered for tier in value.tiers})


def _flat(prices: ModelPrice, above: int | None) -> Rates:
    """Rates at the base (``above`` None), or the tiered ones once the prompt exceeds ``above`` tokens."""
    rates: Rates = {}
    for key, value in prices.__dict__.items():
        if value is None or key not in FIELDS:
            continue
        unit, factor = FIELDS[key]
        if isinstance(value, TieredPrices):
            reached = [tier.price for tier in value.tiers if above is not None and tier.start <= above]
            amount = reached[-1] if reached else value.base
        elif above is None:
            amount = value
        else:
            continue
        rate = scaled(amount, factor)
        if rate is not None:
            rates[unit] = rate
    image_output = prices.__dict__.get("output_image_mtok")
    if isinstance(image_output, Decimal) and above is None:
        rates["output"] = scaled(image_output, PER_MILLION) or 0
    return rates
