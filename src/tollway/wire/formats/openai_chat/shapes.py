"""What requests, answers and events of the Chat Completions format look like: Structs to decode by, and its tables.

Source: the OpenAI API reference and the types of its SDK; fields that other servers added are marked de facto. Fields
that nobody reads are not listed.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from tollway.wire.conversation import Finish
from tollway.wire.formats.openai_chunks import Chunk

FAMILY: Final = "openai.chat"
"""The name under which extra fields, opaque parts and unsigned reasoning of this format are carried."""

Wire = dict[str, Any]
"""A JSON object about to be encoded."""

encode = msgspec.json.Encoder().encode
decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
decode_string = msgspec.json.Decoder(str).decode

# ------------------------------------------------------------------ requests


class FunctionCall(Struct):
    """``arguments`` is JSON text in a string; some servers and clients give the object itself."""

    name: str | None = None
    arguments: Raw = Raw()


class CustomCall(Struct):
    name: str | None = None
    input: str | None = None


class Call(Struct):
    """One entry of ``tool_calls``, whole or a delta. ``extra_content`` is where Google puts thought signatures."""

    id: str | None = None
    index: int | None = None
    type: str | None = None
    function: FunctionCall | None = None
    custom: CustomCall | None = None
    extra_content: Raw = Raw()


class Part(Struct):
    """One content part of any kind; ``type`` says which fields count. Kinds unknown here stay as they came."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Raw = Raw()
    input_audio: Raw = Raw()
    file: Raw = Raw()
    video_url: Raw = Raw()
    thinking: Raw = Raw()
    signature: str | None = None
    detail: str | None = None
    cache_control: Raw = Raw()
    prompt_cache_breakpoint: Raw = Raw()


class ThinkingBlock(Struct):
    """De facto: an entry of ``thinking_blocks``, signed reasoning of another format that a client hands back."""

    type: str = "thinking"
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    format: str | None = None
    id: str | None = None
    summary: bool | None = None


class Turn(Struct):
    """One message of a request. The reasoning fields are de facto."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    audio: Raw = Raw()
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: Raw = Raw()
    thinking_blocks: list[ThinkingBlock] | None = None
    cache_control: Raw = Raw()


class Function(Struct):
    name: str
    description: str | None = None
    parameters: Raw = Raw()
    strict: bool | None = None


class Custom(Struct):
    name: str
    description: str | None = None
    format: Raw = Raw()


class ToolEntry(Struct):
    type: str | None = None
    name: str | None = None
    function: Function | None = None
    custom: Custom | None = None
    cache_control: Raw = Raw()


class Named(Struct):
    name: str


class AllowedTool(Struct):
    function: Named | None = None
    custom: Named | None = None


class Allowed(Struct):
    tools: list[AllowedTool]
    mode: str = "auto"


class Choosing(Struct):
    """``tool_choice`` as an object, and the older ``function_call`` (only ``name``)."""

    type: str | None = None
    function: Named | None = None
    custom: Named | None = None
    allowed_tools: Allowed | None = None
    name: str | None = None


class JsonSchema(Struct):
    name: str | None = None
    description: str | None = None
    schema: Raw = Raw()
    strict: bool | None = None


class Format(Struct):
    type: str
    json_schema: JsonSchema | None = None
    schema: Raw = Raw()


class StreamOptions(Struct):
    include_usage: bool | None = None


class ReasoningObject(Struct):
    """De facto (OpenRouter): ``reasoning``."""

    effort: str | None = None
    max_tokens: int | None = None
    exclude: bool | None = None
    enabled: bool | None = None
    summary: str | None = None


class ThinkingObject(Struct):
    """De facto: ``thinking`` as Anthropic, DeepSeek and others write it."""

    type: str
    budget_tokens: int | None = None


class Request(Struct):
    """The fields with a place in the hub; every other one is carried as it came."""

    model: str
    messages: list[Turn]
    tools: list[Raw] | None = None
    tool_choice: str | Choosing | None = None
    functions: list[Function] | None = None
    function_call: str | Choosing | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None
    reasoning_effort: str | None = None
    reasoning: ReasoningObject | None = None
    thinking: ThinkingObject | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    n: int | None = None
    modalities: list[str] | None = None
    audio: Raw = Raw()
    prediction: Raw = Raw()
    verbosity: str | None = None
    service_tier: str | None = None
    metadata: dict[str, Raw] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    web_search_options: Raw = Raw()


KNOWN: Final = frozenset(Request.__struct_fields__)

# ------------------------------------------------------------------ answers and events


class AudioObject(Struct):
    id: str | None = None
    data: str | None = None
    transcript: str | None = None


class ImageUrl(Struct):
    url: str = ""
    detail: str | None = None


class ImageEntry(Struct):
    """De facto: an entry of ``images``, pictures a model made."""

    image_url: ImageUrl | None = None


class Said(Struct):
    """A whole ``message`` or a ``delta``: they share their fields."""

    content: str | list[Raw] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Raw] | None = None
    thinking_blocks: list[ThinkingBlock] | None = None
    tool_calls: list[Call] | None = None
    function_call: FunctionCall | None = None
    annotations: list[Raw] | None = None
    audio: AudioObject | None = None
    images: list[ImageEntry] | None = None


class AnswerChoice(Struct):
    """``stop_reason`` is de facto (vLLM): the stop string that matched, or a token's number."""

    index: int | None = None
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: Raw = Raw()


class Answer(Chunk):
    """A whole answer or an event: they have one shape."""

    choices: list[AnswerChoice] | None = None
    message: str | None = None


class UrlCitation(Struct):
    url: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None
    content: str | None = None


class Annotation(Struct):
    type: str | None = None
    url_citation: UrlCitation | None = None


class ErrorFields(Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    status: str | int | None = None


# ------------------------------------------------------------------ tables

FINISH_READ: Final[dict[str, Finish]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    # What other servers say.
    "end_turn": "stop",
    "eos": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_length": "length",
    "sensitive": "content_filter",
    "safety": "content_filter",
    "refusal": "refusal",
    "error": "error",
    "abort": "error",
    "network_error": "error",
    "insufficient_system_resource": "error",
}

FINISH_WRITTEN: Final[dict[Finish, str]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "stop",
    "error": "length",
}
"""A ``refusal`` whose words stand in the field ``refusal`` is ``stop``; a broken-off answer was cut: ``length``."""

SERVICE_TIERS: Final = frozenset(("auto", "default", "flex", "scale", "priority", "fast"))

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

AUDIO_TYPES: Final = {"mp3": "audio/mpeg", "mpeg": "audio/mpeg", "m4a": "audio/mp4", "pcm16": "audio/pcm"}
AUDIO_FORMATS: Final = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/mp4": "m4a",
    "audio/x-m4a": "m4a",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/pcm": "pcm16",
}

FILE_TYPES: Final = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}

SERVER_TOOLS: Final = (
    ("web_search", "web_search"),
    ("web_fetch", "web_fetch"),
    ("code_execution", "code_execution"),
    ("code_interpreter", "code_execution"),
    ("file_search", "file_search"),
    ("image_generation", "image_generation"),
    ("computer", "computer"),
    ("mcp", "mcp"),
    ("bash", "bash"),
    ("text_editor", "text_editor"),
    ("url_context", "url_context"),
    ("google_search", "web_search"),
    ("googleSearch", "web_search"),
    ("urlContext", "url_context"),
    ("codeExecution", "code_execution"),
    ("googleMaps", "maps"),
)
"""Beginnings of a tool's type (or its only key), and what the hub calls the kind."""
