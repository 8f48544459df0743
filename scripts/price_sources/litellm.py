"""LiteLLM's model map: USD per token, character, second, image, page or query, one flat object a model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from price_sources import names
from price_sources.quote import PER_UNIT, Quote, Rates, scaled, settled, without_text_output

SOURCE = "litellm"

TOKEN_FIELDS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "input_cost_per_token_cache_hit": "cache_read",
    "cache_creation_input_token_cost": "cache_write_5m",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
}
VARIANTS = {
    "batches": "batch",
    "flex": "flex",
    "priority": "priority",
    "balanced": "balanced",
    "ultrafast": "ultrafast",
}
FIELD = re.compile(
    r"^(?P<name>.+?)(?:_above_(?P<above>\d+)k_tokens)?(?:_(?P<variant>batches|flex|priority|balanced|ultrafast))?$"
)
RESOLUTION = re.compile(r"^[\d.]+[pkK]?$")
SIZE = re.compile(r"(\d+)-x-(\d+)")

MODES = {"image_generation": "image", "video_generation": "video"}
BY_SIZE = (("output_cost_per_second_", "video_seconds"), ("output_cost_per_image_", "images"))
IMAGES = {"image", "image_edit"}
TIMED = {"audio_transcription", "audio_speech", "realtime"}
SEARCHED = {"rerank", "search", "vector_store"}
# Perplexity's default search context is the small one, everybody else's the medium one.
SEARCH_CONTEXT = {"perplexity": "search_context_size_low"}
# OpenAI states that its moderation endpoint is free of charge; elsewhere a zero is only a gap in the list.
FREE = re.compile(r"^openai/omni-moderation|^[^/]+/.*(:free|-free)$")


def read(path: Path) -> Iterator[Quote]:
    """Every entry as a quote; entries that are no model of a provider are left out."""
    data = json.loads(path.read_text(), parse_float=Decimal)
    for key, entry in data.items():
        tag = entry.get("litellm_provider")
        if key in ("sample_spec", "fallback_generalizations") or not isinstance(tag, str):
            continue
        provider, model = names.litellm(tag, key)
        if names.BUCKET.match(model):
            continue
        yield from _quotes(provider, model, entry, prefixed=model != key)


def _quotes(provider: str, model: str, entry: dict[str, Any], prefixed: bool) -> Iterator[Quote]:
    mode = MODES.get(entry.get("mode", ""), entry.get("mode"))
    quote = Quote(
        source=SOURCE,
        provider=provider,
        model=model,
        rates={},
        mode=mode,
        max_input=_limit(entry.get("max_input_tokens")),
        max_output=_limit(entry.get("max_output_tokens")),
        deprecated=entry.get("deprecation_date"),
        prefixed=prefixed,
    )
    if not names.COMMITMENT.search(model) and not names.ROUTER.match(model):
        _tokens(quote, entry)
        _ranges(quote, entry)
        _other_units(quote, entry)
    if entry.get("off_peak_pricing"):
        quote.notes.append("off-peak hours are cheaper; the peak rate is taken")
    free = bool(FREE.match(f"{provider}/{model}")) or "is free" in str(entry.get("metadata", ""))
    sizes = list(_sizes(quote, entry))
    yield settled(quote, free)
    yield from sizes


def _limit(value: object) -> int | None:
    return int(value) if isinstance(value, int | Decimal) and value > 0 else None


def _tokens(quote: Quote, entry: dict[str, Any]) -> None:
    found: dict[tuple[str | None, int | None], Rates] = {}
    for name, value in entry.items():
        match = FIELD.match(name)
        unit = TOKEN_FIELDS.get(match["name"]) if match else None
        rate = scaled(value, PER_UNIT)
        if match is None or unit is None or rate is None:
            continue
        above = int(match["above"]) * 1000 if match["above"] else None
        rates = found.setdefault((match["variant"], above), {})
        if name != "input_cost_per_token_cache_hit" or unit not in rates:
            rates[unit] = rate
    for (variant, above), rates in found.items():
        if variant is None and above is None:
            quote.rates.update(rates)
        elif variant is None and above is not None:
            quote.tiers[above] = rates
        elif variant is not None and above is None:
            quote.variants[VARIANTS[variant]] = rates
        elif variant is not None and above is not None:
            quote.variant_tiers.setdefault(VARIANTS[variant], {})[above] = rates


def _ranges(quote: Quote, entry: dict[str, Any]) -> None:
    """``tiered_pricing``: ranges of prompt length, or (search) of results, of which the first is the base."""
    ranges = entry.get("tiered_pricing") or []
    for step in ranges:
        rates = {u: r for f, u in TOKEN_FIELDS.items() if (r := scaled(step.get(f), PER_UNIT)) is not None}
        start = int(step["range"][0]) if "range" in step else 0
        if start:
            quote.tiers[start] = rates
        else:
            quote.rates = {**rates, **quote.rates}
    if ranges and "input_cost_per_query" in ranges[0]:
        quote.rates["searches"] = scaled(ranges[0]["input_cost_per_query"], PER_UNIT) or 0
        quote.notes.append("priced by number of results; the smallest is taken")


def _other_units(quote: Quote, entry: dict[str, Any]) -> None:
    def usd(*fields: str) -> int | None:
        return next((rate for f in fields if (rate := scaled(entry.get(f), PER_UNIT))), None)

    rates, mode = quote.rates, quote.mode
    added: dict[str, int | None] = {}
    if mode in IMAGES:
        added["images"] = usd("output_cost_per_image") or _by_pixel(quote.model, entry)
        per_token = usd("output_cost_per_image_token")
        if not (per_token or rates.get("output")) or SIZE.search(quote.model):
            added["images"] = added["images"] or usd("input_cost_per_image")
        if per_token:
            # An image model writes image tokens; the rate of its few text tokens would understate them.
            rates["output"] = per_token
            without_text_output(quote)
            if batch := usd("output_cost_per_image_token_batches"):
                quote.variants.setdefault("batch", {})["output"] = batch
    elif mode == "video":
        added["video_seconds"] = usd("output_cost_per_second", "output_cost_per_video_per_second")
    elif mode in TIMED:
        added["seconds"] = usd("input_cost_per_second", "output_cost_per_second")
        added["characters"] = usd("input_cost_per_character") if mode == "audio_speech" else None
    elif mode == "embedding":
        added["images"] = usd("input_cost_per_image")
        added["video_seconds"] = usd("input_cost_per_video_per_second")
        added["seconds"] = usd("input_cost_per_audio_per_second")
        added["requests"] = usd("input_cost_per_query")
    elif mode == "ocr":
        added["pages"] = usd("ocr_cost_per_page")
    elif mode is None:
        added["seconds"] = usd("input_cost_per_second")
        added["characters"] = usd("input_cost_per_character")
    if mode in SEARCHED:
        added["searches"] = usd("input_cost_per_query")
    else:
        context = entry.get("search_context_cost_per_query") or {}
        size = SEARCH_CONTEXT.get(quote.provider, "search_context_size_medium")
        added["searches"] = scaled(context.get(size), PER_UNIT) or None
    added.setdefault("requests", usd("input_cost_per_request"))
    rates.update({unit: rate for unit, rate in added.items() if rate})


def _by_pixel(model: str, entry: dict[str, Any]) -> int | None:
    """A price by the pixel times the size in the id, to a hundredth of a cent: a round price, divided."""
    size, pixel = SIZE.search(model), entry.get("input_cost_per_pixel")
    if size is None or not isinstance(pixel, Decimal):
        return None
    usd = (pixel * int(size[1]) * int(size[2])).quantize(Decimal("0.0001"))
    return int(usd * PER_UNIT) or None


def _sizes(quote: Quote, entry: dict[str, Any]) -> Iterator[Quote]:
    """Prices by resolution become entries of their own: ``1080p/veo-3.0-generate-001``."""
    for name, value in entry.items():
        for prefix, unit in BY_SIZE:
            size = name.removeprefix(prefix)
            rate = scaled(value, PER_UNIT)
            if size == name or not rate or not RESOLUTION.match(size):
                continue
            yield Quote(SOURCE, quote.provider, f"{size}/{quote.model}", {unit: rate}, mode=quote.mode)


def left_out(path: Path) -> Counter[str]:
    """Price fields this reader does not use, and how many entries carry them: for the report."""
    used = {
        *TOKEN_FIELDS,
        "output_cost_per_image",
        "output_cost_per_image_token",
        "output_cost_per_second",
        "output_cost_per_video_per_second",
        "input_cost_per_second",
        "input_cost_per_character",
        "input_cost_per_image",
        "input_cost_per_pixel",
        "input_cost_per_query",
        "input_cost_per_request",
        "input_cost_per_video_per_second",
        "input_cost_per_audio_per_second",
        "ocr_cost_per_page",
    }
    seen: Counter[str] = Counter()
    for key, entry in json.loads(path.read_text(), parse_float=Decimal).items():
        for name, value in entry.items() if key != "sample_spec" else ():
            match = FIELD.match(name)
            if "cost" not in name or not isinstance(value, Decimal | int) or not value or match is None:
                continue
            if match["name"] not in used and not re.search(r"_(\d+p|[\d.]+[kK]|\d+)$", name):
                seen[match["name"]] += 1
    return seen
