"""Usage as OpenAI-format answers report it, turned into disjoint classes. Reading only; never guesses a number.

Sources: the OpenAI API reference (usage of chat completions, completions, embeddings and responses); DeepSeek's
``prompt_cache_hit_tokens``; the ``cache_*_input_tokens`` of Anthropic models, which some servers pass on.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire.formats.openai_shapes import Reported, ReportedUsage

_decode_usage = msgspec.json.Decoder(ReportedUsage, strict=False).decode
_decode_answer = msgspec.json.Decoder(Reported).decode
_NULLS = (b"", b"null")


def read_answer(body: bytes) -> Reported | None:
    """What a whole answer reports; None where it reports no usage or the body is not JSON."""
    try:
        reported = _decode_answer(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return None if bytes(reported.usage) in _NULLS else reported


def read_tier(body: bytes) -> str | None:
    """The service tier an answer or an event names."""
    try:
        return _decode_answer(body).service_tier
    except (msgspec.DecodeError, RecursionError):
        return None


def read_usage(raw: Raw) -> Usage | None:
    """Disjoint classes from a usage object; None when it is not one, or reports nothing."""
    try:
        wire = _decode_usage(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    prompt = wire.prompt_tokens
    completion = wire.completion_tokens
    into = wire.prompt_tokens_details or wire.input_tokens_details
    out = wire.completion_tokens_details or wire.output_tokens_details
    if prompt is None and wire.input_tokens is not None:
        prompt, completion = wire.input_tokens, wire.output_tokens
        # Anthropic's input_tokens leave out what was cached, OpenAI's (Responses, images) include it.
        prompt += (wire.cache_read_input_tokens or 0) + (wire.cache_creation_input_tokens or 0)
    total = wire.total_tokens
    if prompt is None and completion is None:
        if total is None:
            return None
        prompt = total  # embeddings and rankings of some providers: all there is was read
    prompt = prompt or 0
    if completion is None:
        completion = max((total or 0) - prompt, 0)
    cached = wire.prompt_cache_hit_tokens or wire.cache_read_input_tokens or 0
    written = wire.cache_creation_input_tokens or 0
    audio_in = audio_out = reasoning = 0
    if into is not None:
        cached = into.cached_tokens or cached
        written = into.cache_write_tokens or into.cache_creation_tokens or written
        audio_in = into.audio_tokens or 0
    if out is not None:
        reasoning = out.reasoning_tokens or 0
        audio_out = out.audio_tokens or 0
    # Some providers leave reasoning out of completion_tokens; then only total_tokens accounts for it.
    unaccounted = (total or 0) - prompt - completion
    if unaccounted > 0 and (reasoning == unaccounted or (reasoning == 0 and completion)):
        completion += unaccounted
        reasoning = unaccounted
    if not (cached or written or audio_in or audio_out or reasoning) and prompt >= 0 and completion >= 0:
        return Usage(input=prompt, output=completion, searches=max(wire.num_search_queries or 0, 0))
    prompt, completion = max(prompt, 0), max(completion, 0)
    cached = min(max(cached, 0), prompt)
    written = min(max(written, 0), prompt - cached)
    audio_in = min(max(audio_in, 0), prompt - cached - written)
    audio_out = min(max(audio_out, 0), completion)
    output = completion - audio_out
    return Usage(
        input=prompt - cached - written - audio_in,
        cache_read=cached,
        cache_write_5m=written,
        output=output,
        reasoning=min(max(reasoning, 0), output),
        audio_input=audio_in,
        audio_output=audio_out,
        searches=max(wire.num_search_queries or 0, 0),
    )
