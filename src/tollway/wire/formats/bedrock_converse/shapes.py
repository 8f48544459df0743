"""Names, tables and Structs of the Converse API, from the service's own model (bedrock-runtime 2023-09-30).

``FAMILIES`` holds what the models behind the one API want differently; everything else is the same for all.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tollway.model.usage import Usage
from tollway.wire.conversation import Finish

FAMILY = "bedrock"
"""The name under which opaque blocks, thinking and extra fields of this format are carried."""

encode = msgspec.json.Encoder().encode
decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode

Wire = dict[str, Any]
"""A JSON object about to be encoded."""

# ------------------------------------------------------------------ what the models want differently


class Family(Struct, frozen=True, kw_only=True):
    """``marks`` are parts of model names. ``thinking``: how reasoning is asked for in additionalModelRequestFields;
    ``top_k``: where top_k goes there; ``cache`` whether cache points are known; ``signed``: thoughts come back only
    with their signature; ``accepts``: whose thoughts are valid here."""

    marks: tuple[str, ...]
    thinking: str = "none"
    top_k: tuple[str, ...] = ()
    cache: bool = False
    cache_tools: bool = False
    signed: bool = False
    accepts: tuple[str, ...] = (FAMILY,)
    system_tools: dict[str, str] = {}
    native_tools: bool = False
    stop_path: str | None = None


FAMILIES = (
    Family(
        marks=("anthropic.", "claude"),
        thinking="anthropic",
        top_k=("top_k",),
        cache=True,
        cache_tools=True,
        signed=True,
        accepts=(FAMILY, "anthropic"),
        native_tools=True,
        stop_path="/stop_sequence",
    ),
    Family(
        marks=("amazon.nova", "nova-"),
        thinking="nova",
        top_k=("inferenceConfig", "topK"),
        cache=True,
        system_tools={"web_search": "nova_grounding", "code_execution": "nova_code_interpreter"},
    ),
    Family(marks=("openai.", "gpt-oss"), thinking="effort"),
    Family(marks=("deepseek",), accepts=()),
    Family(marks=("mistral",), top_k=("top_k",)),
    Family(marks=("cohere",), top_k=("k",)),
)
OTHER = Family(marks=())


def family_of(model: str) -> Family:
    """What is known of a model by its id (inference profiles and ARNs hold it too)."""
    name = model.lower()
    for family in FAMILIES:
        if any(mark in name for mark in family.marks):
            return family
    return OTHER


BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
"""Thinking tokens for an effort, where a model counts tokens."""

SMALLEST_BUDGET = 1024
EFFORTS = ("low", "medium", "high", "xhigh", "max")
"""What outputConfig.effort takes."""

THREE_EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}

COMPUTER_BETAS = {
    "20241022": "computer-use-2024-10-22",
    "20250124": "computer-use-2025-01-24",
    "20251124": "computer-use-2025-11-24",
}
"""The beta that a version of Anthropic's computer, bash and text editor tools wants to be named."""

# ------------------------------------------------------------------ media

IMAGE_FORMATS = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
DOCUMENT_FORMATS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
VIDEO_FORMATS = {
    "video/x-matroska": "mkv",
    "video/quicktime": "mov",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/mpeg": "mpeg",
    "video/x-ms-wmv": "wmv",
    "video/3gpp": "three_gp",
}
AUDIO_FORMATS = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/opus": "opus",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/mp4": "mp4",
    "audio/ogg": "ogg",
    "audio/x-matroska": "mka",
    "audio/m4a": "m4a",
    "audio/pcm": "pcm",
    "audio/webm": "webm",
}


def _first_wins(table: dict[str, str]) -> dict[str, str]:
    back: dict[str, str] = {}
    for media, short in table.items():
        back.setdefault(short, media)
    return back


IMAGE_MEDIA = _first_wins(IMAGE_FORMATS)
DOCUMENT_MEDIA = _first_wins(DOCUMENT_FORMATS)
VIDEO_MEDIA = _first_wins(VIDEO_FORMATS) | {"mpg": "video/mpeg"}
AUDIO_MEDIA = _first_wins(AUDIO_FORMATS) | {
    "mpeg": "audio/mpeg",
    "mpga": "audio/mpeg",
    "x-aac": "audio/aac",
    "mkv": "audio/x-matroska",
}

# ------------------------------------------------------------------ limits

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
UNSAFE_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]")
UNSAFE_IN_ID = re.compile(r"[^a-zA-Z0-9_.:-]")
UNSAFE_IN_TITLE = re.compile(r"[^a-zA-Z0-9 ()\[\]-]+")
METADATA = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}")
MOST_METADATA = 16
TIERS = ("priority", "default", "flex", "reserved")

# ------------------------------------------------------------------ why an answer ended

FINISHES: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
    "refusal": "refusal",
    "pause_turn": "pause",
}
STOP_REASONS: dict[Finish, str] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "content_filtered",
    "refusal": "content_filtered",
    "pause": "end_turn",
    "error": "malformed_model_output",
}

# ------------------------------------------------------------------ usage


class CacheDetail(Struct):
    ttl: str = "5m"
    inputTokens: int = 0


class TokenUsage(Struct):
    """``inputTokens`` leaves out what was read from the cache or written to it."""

    inputTokens: int = 0
    outputTokens: int = 0
    cacheReadInputTokens: int | None = None
    cacheWriteInputTokens: int | None = None
    cacheDetails: list[CacheDetail] | None = None


class ServiceTier(Struct):
    type: str = "default"


def read_usage(wire: TokenUsage) -> Usage:
    written = max(wire.cacheWriteInputTokens or 0, 0)
    hour = sum(detail.inputTokens for detail in wire.cacheDetails or () if detail.ttl == "1h")
    hour = min(max(hour, 0), written)
    return Usage(
        input=max(wire.inputTokens, 0),
        cache_read=max(wire.cacheReadInputTokens or 0, 0),
        cache_write_5m=written - hour,
        cache_write_1h=hour,
        output=max(wire.outputTokens, 0),
    )


def write_usage(usage: Usage | None) -> Wire:
    """Audio is part of input and output here: the format counts no class of its own for it."""
    if usage is None:
        return {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    written = usage.cache_write_5m + usage.cache_write_1h
    wire: Wire = {
        "inputTokens": usage.input + usage.audio_input,
        "outputTokens": usage.output + usage.audio_output,
        "totalTokens": usage.tokens(),
    }
    if usage.cache_read or written:
        wire["cacheReadInputTokens"] = usage.cache_read
        wire["cacheWriteInputTokens"] = written
    if usage.cache_write_1h:
        details = [{"ttl": "1h", "inputTokens": usage.cache_write_1h}]
        if usage.cache_write_5m:
            details.append({"ttl": "5m", "inputTokens": usage.cache_write_5m})
        wire["cacheDetails"] = details
    return wire
