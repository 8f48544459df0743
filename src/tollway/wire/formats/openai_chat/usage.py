"""Usage of the hub in this family's own counting: a prompt includes what was cached and heard, reasoning is output."""

from __future__ import annotations

from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire.formats.openai_chat.shapes import Wire


def write_usage(usage: Usage, cost: str | None) -> Wire:
    """``cost`` is USD as a decimal string, written as a number."""
    prompt = usage.prompt_tokens()
    completion = usage.output + usage.audio_output
    into: Wire = {"cached_tokens": usage.cache_read, "audio_tokens": usage.audio_input}
    written = usage.cache_write_5m + usage.cache_write_1h
    if written:
        into["cache_write_tokens"] = written
    wire: Wire = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": into,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.audio_output,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    if usage.searches:
        wire["num_search_queries"] = usage.searches
    if cost is not None:
        wire["cost"] = Raw(cost.encode())
    return wire
