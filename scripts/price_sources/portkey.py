"""Portkey's pricing files, gathered in one object by provider and model: US cents per token or other unit.

Its zeros are defaults of the file format, so a zero here always means that no price is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from price_sources import names
from price_sources.quote import DEAREST_TOKEN, TOKENS, Quote, Rates, scaled, settled

SOURCE = "portkey"

CENTS_PER_UNIT = Decimal(10) ** 13

TOKEN_FIELDS = {
    "input": ("request_token", "request_text_token"),
    "output": ("response_image_token", "response_token", "response_text_token"),
    "cache_read": ("cache_read_input_token", "cache_read_text_input_token"),
    "cache_write_5m": ("cache_write_input_token",),
    "cache_write_1h": ("cache_write_1h",),
    "reasoning": ("reasoning_token",),
    "audio_input": ("request_audio_token",),
    "audio_output": ("response_audio_token",),
}
OTHER_FIELDS = {
    "images": ("generated_images",),
    "video_seconds": ("video_seconds", "video_duration_seconds_1280_720", "video_duration_seconds_720_1280"),
    "searches": ("web_search", "search", "web_search_medium_context"),
}
# The fields are named tokens whatever they count here: minutes of speech, characters, searches.
OTHER_UNIT = re.compile(r"tts|aura-|whisper|transcri|chirp|speech|rerank|realtime-asr", re.IGNORECASE)
LENGTH = re.compile(r"^(?P<model>.+)-(?P<side>lte|gt)-(?P<k>\d+)k$")
RESOLUTION = re.compile(r"^video_duration_seconds_(\d+)_(\d+)$")


def read(path: Path) -> Iterator[Quote]:
    """Every model as a quote. ``x-lte-128k`` and ``x-gt-128k`` become one model with a tier."""
    for tag, models in json.loads(path.read_text(), parse_float=Decimal).items():
        if tag in names.PORTKEY_SKIPPED:
            continue
        longer: dict[str, dict[int, Rates]] = {}
        quotes: dict[str, Quote] = {}
        for key, entry in models.items():
            if key == "default":
                continue
            match = LENGTH.match(key)
            provider, model = names.portkey(tag, match["model"] if match else key)
            rates = _rates(model, entry)
            if match and match["side"] == "gt":
                longer.setdefault(model, {})[int(match["k"]) * 1000] = rates
                continue
            for quote in _quotes(provider, model, rates, entry):
                quotes.setdefault(quote.model, quote)
        for model, tiers in longer.items():
            if model in quotes:
                base = quotes[model].rates.items()
                quotes[model].tiers = {above: r for above, r in tiers.items() if not r.items() <= base}
        for quote in quotes.values():
            yield settled(quote, free=quote.model.endswith(":free"))


def _price(entry: dict[str, Any], *fields: str) -> int | None:
    more = entry.get("additional_units", {})
    for name in fields:
        found = entry.get(name) or more.get(name) or {}
        if rate := scaled(found.get("price"), CENTS_PER_UNIT):
            return rate
    return None


def _rates(model: str, entry: dict[str, Any]) -> Rates:
    if OTHER_UNIT.search(model):
        return {}
    rates = {unit: rate for unit, fields in TOKEN_FIELDS.items() if (rate := _price(entry, *fields))}
    rates = {unit: rate for unit, rate in rates.items() if rate <= DEAREST_TOKEN or unit not in TOKENS}
    if set(rates) <= {"reasoning", "cache_read", "cache_write_5m", "cache_write_1h"}:
        rates = {}
    rates.update({unit: rate for unit, fields in OTHER_FIELDS.items() if (rate := _price(entry, *fields))})
    return {} if set(rates) == {"searches"} else rates


def _quotes(provider: str, model: str, rates: Rates, entry: dict[str, Any]) -> Iterator[Quote]:
    table = entry.get("image", {})
    plain = (table.get("default") or table.get("standard") or {}).get("default", {})
    by_token = "output" in rates
    if (rate := scaled(plain.get("price"), CENTS_PER_UNIT)) and not by_token:
        rates["images"] = rate
    mode = "image" if table else "video" if "video_seconds" in rates else None
    yield Quote(SOURCE, provider, model, rates, mode=mode)
    for quality, sizes in table.items():
        for size, cell in sizes.items():
            rate = scaled(cell.get("price"), CENTS_PER_UNIT)
            if not rate or size == "default":
                continue
            label = size.replace("x", "-x-")
            name = f"{label}/{model}" if quality == "default" else f"{quality}/{label}/{model}"
            yield Quote(SOURCE, provider, name, {"images": rate}, mode="image")
    for name, cell in entry.get("additional_units", {}).items():
        if (match := RESOLUTION.match(name)) and (rate := scaled(cell.get("price"), CENTS_PER_UNIT)):
            name = f"{match[1]}-x-{match[2]}/{model}"
            yield Quote(SOURCE, provider, name, {"video_seconds": rate}, mode="video")
