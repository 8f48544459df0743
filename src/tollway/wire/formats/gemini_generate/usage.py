"""``usageMetadata`` as disjoint classes, and back in Google's way of counting.

``promptTokenCount`` includes what came from a cache, ``candidatesTokenCount`` leaves thoughts out,
``toolUsePromptTokenCount`` stands beside the prompt. The details by modality tell audio from the rest. Pictures a model
makes are counted as its output tokens. Cache writes have no place here: they are told as plain prompt tokens.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.model.usage import Usage
from tollway.wire.formats.gemini_generate.shapes import TRAFFIC, given


class _Count(Struct, rename="camel"):
    modality: str = ""
    token_count: int | None = None


class _Metadata(Struct, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[_Count] | None = None
    cache_tokens_details: list[_Count] | None = None
    candidates_tokens_details: list[_Count] | None = None
    tool_use_prompt_tokens_details: list[_Count] | None = None
    traffic_type: str | None = None


_decode = msgspec.json.Decoder(_Metadata, strict=False).decode


def _audio(details: list[_Count] | None) -> int:
    if not details:
        return 0
    return sum(count.token_count or 0 for count in details if count.modality == "AUDIO")


def read_usage(raw: Raw, searches: int = 0) -> Usage | None:
    """Disjoint classes; None when ``raw`` is no usage object or counts nothing. ``searches`` are reported elsewhere."""
    if not given(raw):
        return None
    try:
        told = _decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    prompt = told.prompt_token_count
    written = told.candidates_token_count
    total = told.total_token_count
    if prompt is None and written is None and total is None:
        return None
    prompt = prompt or 0
    cached = told.cached_content_token_count or 0
    thoughts = told.thoughts_token_count or 0
    used = told.tool_use_prompt_token_count or 0
    if written is None:
        written = max((total or 0) - prompt - used - thoughts, 0)
    elif thoughts and total == prompt + used + written and written >= thoughts:
        written -= thoughts  # some deployments count thoughts among the candidates' tokens
    spoken = _audio(told.candidates_tokens_details)
    heard = max(_audio(told.prompt_tokens_details) - _audio(told.cache_tokens_details), 0)
    heard_by_tools = _audio(told.tool_use_prompt_tokens_details)
    return Usage(
        input=max(prompt - cached - heard, 0) + max(used - heard_by_tools, 0),
        cache_read=cached,
        output=max(written - spoken, 0) + thoughts,
        reasoning=thoughts,
        audio_input=heard + heard_by_tools,
        audio_output=spoken,
        searches=searches,
    )


def read_tier(raw: Raw) -> str | None:
    """The service tier that Vertex AI names beside the counts."""
    if not given(raw):
        return None
    try:
        kind = _decode(raw).traffic_type
    except (msgspec.DecodeError, RecursionError):
        return None
    return TRAFFIC.get(kind) if kind else None


def write_usage(usage: Usage) -> dict[str, object]:
    """``usageMetadata`` for ``usage``."""
    prompt = usage.prompt_tokens()
    spoken = usage.output - usage.reasoning + usage.audio_output
    told: dict[str, object] = {"promptTokenCount": prompt, "candidatesTokenCount": spoken}
    if usage.reasoning:
        told["thoughtsTokenCount"] = usage.reasoning
    told["totalTokenCount"] = prompt + spoken + usage.reasoning
    if usage.cache_read:
        told["cachedContentTokenCount"] = usage.cache_read
    if usage.audio_input:
        told["promptTokensDetails"] = _details(prompt - usage.audio_input, usage.audio_input)
    if usage.audio_output:
        told["candidatesTokensDetails"] = _details(spoken - usage.audio_output, usage.audio_output)
    return told


def _details(text: int, audio: int) -> list[dict[str, object]]:
    told: list[dict[str, object]] = [{"modality": "AUDIO", "tokenCount": audio}]
    if text:
        told.insert(0, {"modality": "TEXT", "tokenCount": text})
    return told
