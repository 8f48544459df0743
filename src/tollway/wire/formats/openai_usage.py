"""Usage as OpenAI-format answers report it, turned into disjoint classes. Reading only; never guesses a number.

Sources: the OpenAI API reference (usage of chat completions, completions and embeddings); DeepSeek's
``prompt_cache_hit_tokens``; the ``input_tokens`` of the Responses API and of Anthropic Messages; the ``cache_*_input_tokens`` some compatible servers pass on from Anthropic models.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.model.usage import Usage


class _PromptDetails(Struct):
    cached_tokens: int | None = None
    audio_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    num_search_queries: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _PromptDetails | None = None
    output_tokens_details: _CompletionDetails | None = None


class _Answer(Struct):
    usage: Raw = Raw()


_NO_PROMPT = _PromptDetails()
_NO_COMPLETION = _CompletionDetails()
_decode_usage = msgspec.json.Decoder(_Usage, strict=False).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def read_answer(body: bytes) -> Raw | None:
    """The usage object of a whole answer, verbatim; None where there is none or the body is not JSON."""
    try:
        usage = _decode_answer(body).usage
    except (msgspec.DecodeError, RecursionError):
        return None
    return None if bytes(usage) in (b"", b"null") else usage


def read_usage(raw: Raw) -> Usage | None:
    """Disjoint classes from a usage object; None when it is not one, or reports nothing."""
    try:
        wire = _decode_usage(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    prompt = wire.prompt_tokens
    completion = wire.completion_tokens
    into = wire.prompt_tokens_details or wire.input_tokens_details or _NO_PROMPT
    out = wire.completion_tokens_details or wire.output_tokens_details or _NO_COMPLETION
    if prompt is None and wire.input_tokens is not None:
        prompt, completion = wire.input_tokens, wire.output_tokens
        # Anthropic's input_tokens leave out what was cached, OpenAI's (Responses, images) include it.
        prompt += (wire.cache_read_input_tokens or 0) + (wire.cache_creation_input_tokens or 0)
    if prompt is None and completion is None and wire.total_tokens is None:
        return None
    prompt = max(prompt or 0, 0)
    completion = max(completion or 0, 0)
    cached = into.cached_tokens or wire.prompt_cache_hit_tokens or wire.cache_read_input_tokens or 0
    written = into.cache_write_tokens or into.cache_creation_tokens or wire.cache_creation_input_tokens or 0
    audio_in = into.audio_tokens or 0
    reasoning = max(out.reasoning_tokens or 0, 0)
    audio_out = max(out.audio_tokens or 0, 0)
    cached = min(max(cached, 0), prompt)
    written = min(max(written, 0), prompt - cached)
    audio_in = min(max(audio_in, 0), prompt - cached - written)
    # Some providers leave reasoning out of completion_tokens; then only total_tokens accounts for it.
    unaccounted = (wire.total_tokens or 0) - prompt - completion
    if unaccounted > 0 and (reasoning == unaccounted or (reasoning == 0 and completion)):
        completion += unaccounted
        reasoning = unaccounted
    audio_out = min(audio_out, completion)
    output = completion - audio_out
    return Usage(
        input=prompt - cached - written - audio_in,
        cache_read=cached,
        cache_write_5m=written,
        output=output,
        reasoning=min(reasoning, output),
        audio_input=audio_in,
        audio_output=audio_out,
        searches=max(wire.num_search_queries or 0, 0),
    )
