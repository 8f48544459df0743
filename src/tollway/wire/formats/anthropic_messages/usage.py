"""The API's usage object and our disjoint classes, both ways. Never guesses a number.

``input_tokens`` leaves out what was read from or written to the cache; ``output_tokens`` includes thinking. The
tokens of a server-side compaction are in ``iterations`` alone, so they are added here.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire.formats.anthropic_messages.shapes import CacheCreation, Iteration, UsageShape

_decode = msgspec.json.Decoder(UsageShape).decode
_TIERS = {"standard": "standard", "default": "standard", "priority": "priority", "batch": "batch"}


def read_usage(raw: Raw | bytes) -> tuple[Usage | None, str | None]:
    """Usage and service tier of a usage object; (None, None) when it is none or counts nothing."""
    if len(bytes(raw)) < 3:
        return None, None
    try:
        wire = _decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None, None
    if wire.input_tokens is None and wire.output_tokens is None:
        return None, wire.service_tier
    fresh = _count(wire.input_tokens)
    cached = _count(wire.cache_read_input_tokens)
    short, long = _written(wire)
    output = _count(wire.output_tokens)
    for step in wire.iterations or ():
        if step.type == "compaction":
            fresh += _count(step.input_tokens)
            cached += _count(step.cache_read_input_tokens)
            output += _count(step.output_tokens)
            more_short, more_long = _written(step)
            short += more_short
            long += more_long
    thinking = _count(wire.output_tokens_details.thinking_tokens) if wire.output_tokens_details else 0
    usage = Usage(
        input=fresh,
        cache_read=cached,
        cache_write_5m=short,
        cache_write_1h=long,
        output=output,
        reasoning=min(thinking, output),
        searches=_count(wire.server_tool_use.web_search_requests) if wire.server_tool_use else 0,
    )
    return usage, wire.service_tier


def write_usage(usage: Usage | None, tier: str | None = None) -> dict[str, Any]:
    """The usage object of a whole message. Audio tokens, which the API has no class for, count as plain ones."""
    usage = usage or Usage()
    written = delta_usage(usage)
    written["cache_creation"] = {
        "ephemeral_5m_input_tokens": usage.cache_write_5m,
        "ephemeral_1h_input_tokens": usage.cache_write_1h,
    }
    if tier in _TIERS:
        written["service_tier"] = _TIERS[tier]
    return written


def delta_usage(usage: Usage) -> dict[str, Any]:
    """The usage object of a ``message_delta``. The split of cache writes belongs to the start of the message; where
    there were any it is told again here, because the start may have known nothing yet."""
    written: dict[str, Any] = {
        "input_tokens": usage.input + usage.audio_input,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output + usage.audio_output,
    }
    if usage.cache_write_5m or usage.cache_write_1h:
        written["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.reasoning:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if usage.searches:
        written["server_tool_use"] = {"web_search_requests": usage.searches, "web_fetch_requests": 0}
    return written


def _count(value: int | None) -> int:
    return value if value is not None and value > 0 else 0


def _written(wire: UsageShape | Iteration) -> tuple[int, int]:
    """Tokens written to the cache for 5 minutes and for an hour; the shorter where nobody said."""
    parts: CacheCreation | None = wire.cache_creation
    short = _count(parts.ephemeral_5m_input_tokens) if parts else 0
    long = _count(parts.ephemeral_1h_input_tokens) if parts else 0
    if wire.cache_creation_input_tokens is None:
        return short, long
    total = _count(wire.cache_creation_input_tokens)
    long = min(long, total)
    return total - long, long
