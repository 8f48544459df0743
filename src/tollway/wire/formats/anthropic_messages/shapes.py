"""The fields of the Messages API that the codec reads, as Structs; how they map is said elsewhere.

Kept apart from the functions because a compiled module loses the annotations that msgspec decodes by.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

Count = Annotated[int, Meta(le=10**12)]
"""More than a trillion is no count but nonsense, and would not fit the ledger once it is priced."""

Limit = Annotated[int, Meta(ge=0, le=2**53)]


class Tagged(Struct):
    """The type of anything that has one."""

    type: str


class CacheMark(Struct):
    """``cache_control``."""

    type: Literal["ephemeral"] = "ephemeral"
    ttl: Literal["5m", "1h"] | None = None


class Enabled(Struct):
    enabled: bool = False


# ------------------------------------------------------------------ blocks


class TextShape(Struct):
    text: str
    citations: list[Raw] | None = None
    cache_control: CacheMark | None = None


class SourceShape(Struct):
    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: str | list[Raw] | None = None


class ImageShape(Struct):
    source: SourceShape
    cache_control: CacheMark | None = None


class Transformed(Struct):
    """What an image block says about scaling, which only the API itself can do."""

    transformations: Raw = Raw()


class DocumentShape(Struct):
    source: SourceShape
    title: str | None = None
    context: str | None = None
    citations: Enabled | None = None
    cache_control: CacheMark | None = None


class ToolUseShape(Struct):
    id: str
    name: str
    input: Raw
    cache_control: CacheMark | None = None


class ToolResultShape(Struct):
    tool_use_id: str
    content: str | list[Raw] | None = None
    is_error: bool | None = None
    cache_control: CacheMark | None = None


class ThinkingShape(Struct):
    thinking: str
    signature: str | None = None


class RedactedShape(Struct):
    data: str


class OpaqueShape(Struct):
    cache_control: CacheMark | None = None


class CitationShape(Struct):
    """Every kind of citation, as far as another format can say it."""

    cited_text: str | None = None
    url: str | None = None
    source: str | None = None
    title: str | None = None
    document_title: str | None = None
    file_id: str | None = None


# ------------------------------------------------------------------ request


class MessageShape(Struct):
    role: str
    content: str | list[Raw]


class ThinkingSetting(Struct):
    type: str
    budget_tokens: Limit | None = None
    display: str | None = None


class ToolChoiceShape(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class SchemaFormat(Struct):
    """``output_config.format`` (and the older ``output_format``)."""

    type: Literal["json_schema"]
    schema: Raw


class ToolShape(Struct):
    name: str
    input_schema: Raw
    description: str | None = None
    strict: bool | None = None
    cache_control: CacheMark | None = None


class Named(Struct):
    name: str | None = None


class SchemaType(Struct):
    """A JSON Schema as far as the API insists on it: the top level is an object."""

    type: Raw = Raw()


# ------------------------------------------------------------------ usage


class CacheCreation(Struct):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class OutputDetails(Struct):
    thinking_tokens: Count | None = None


class ServerToolUse(Struct):
    web_search_requests: Count | None = None


class Iteration(Struct):
    """A step of an answer that took several. The tokens of a ``compaction`` are in no other count."""

    type: str = ""
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: CacheCreation | None = None


class UsageShape(Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputDetails | None = None
    server_tool_use: ServerToolUse | None = None
    service_tier: str | None = None
    iterations: list[Iteration] | None = None


# ------------------------------------------------------------------ answer and stream


class AnswerShape(Struct):
    content: list[Raw]
    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Raw = Raw()


class StartShape(Struct):
    id: str = ""
    model: str = ""
    usage: Raw = Raw()


class DeltaShape(Struct):
    """The ``delta`` of both delta events."""

    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: Raw = Raw()
    stop_reason: str | None = None
    stop_sequence: str | None = None


class ErrorShape(Struct):
    type: str = "api_error"
    message: str = ""


class EventShape(Struct):
    """Every event of a stream."""

    type: str
    index: int = 0
    delta: DeltaShape | None = None
    message: StartShape | None = None
    content_block: Raw = Raw()
    usage: Raw = Raw()
    error: ErrorShape | None = None


class OpaqueDelta(Struct):
    """A delta event as far as a block is concerned that is carried unread."""

    delta: dict[str, Raw]
