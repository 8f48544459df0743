"""The JSON of generateContent as Structs and tables: what is read by name, and the values of its enumerations.

Sources: the Gemini API reference (v1beta ``GenerateContentRequest``, ``GenerateContentResponse``) and the types of
Google's SDK. What a Struct does not name is kept as it came by those who read it.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.wire.conversation import Finish

NAME = "gemini.generate"
FAMILY = "gemini"
"""The ``format`` of blocks, extras and server tools that only this family of APIs understands."""


class Blob(Struct, rename="camel"):
    mime_type: str | None = None
    data: str | None = None


class FileData(Struct, rename="camel"):
    mime_type: str | None = None
    file_uri: str | None = None


class PartialArg(Struct, rename="camel"):
    json_path: str = "$"
    string_value: str | None = None
    number_value: Raw = Raw()
    bool_value: bool | None = None
    null_value: Raw = Raw()


class FunctionCall(Struct, rename="camel"):
    id: str | None = None
    name: str | None = None
    args: Raw = Raw()
    partial_args: list[PartialArg] | None = None
    will_continue: bool | None = None


class FunctionResponse(Struct, rename="camel"):
    id: str | None = None
    name: str | None = None
    response: Raw = Raw()
    parts: list[Raw] | None = None


class Resolution(Struct):
    level: str | None = None


class Part(Struct, rename="camel", forbid_unknown_fields=True):
    """The kinds of part the hub has a block for. Any other field fails, and the part is looked at again."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    video_metadata: Raw = Raw()
    media_resolution: Resolution | None = None


class Content(Struct):
    role: str | None = None
    parts: Raw = Raw()


class Declaration(Struct, rename="camel", forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: Raw = Raw()
    parameters_json_schema: Raw = Raw()


class CallingConfig(Struct, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ThinkingConfig(Struct, rename="camel"):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class Candidate(Struct, rename="camel"):
    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int = 0
    grounding_metadata: Raw = Raw()
    citation_metadata: Raw = Raw()
    url_context_metadata: Raw = Raw()
    logprobs_result: Raw = Raw()


class PromptFeedback(Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class RpcError(Struct):
    code: int = 0
    message: str = ""
    status: str | None = None


class Answer(Struct, rename="camel"):
    """A whole answer, or one event of a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: Raw = Raw()
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None
    error: Raw = Raw()


PART_FIELDS = frozenset(msgspec.structs.fields(Part)[i].encode_name for i in range(9))
CONTENT_FIELDS = frozenset(("text", "inlineData", "fileData", "functionCall", "functionResponse"))
"""Fields that say what a part is; the others modify it."""

MODIFIERS = frozenset(
    (
        "partMetadata",
        "mediaProcessing",
        "audioTranscription",
        "speechMetadata",
        "documentMetadata",
        "spreadsheetMetadata",
        "audioMetadata",
    )
)
"""Fields beside a part's content that the hub has no place for."""

SERVER_TOOLS = {
    "googleSearch": "web_search",
    "googleSearchRetrieval": "web_search",
    "enterpriseWebSearch": "web_search",
    "codeExecution": "code_execution",
    "urlContext": "url_context",
    "googleMaps": "maps",
    "fileSearch": "file_search",
    "computerUse": "computer",
    "mcpServers": "mcp",
}
"""The hub's kind of each tool Google runs; a field not listed keeps its own name."""

FINISHES: dict[str, Finish] = {
    "FINISH_REASON_UNSPECIFIED": "stop",
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter",
    "LANGUAGE": "error",
    "OTHER": "error",
    "MALFORMED_FUNCTION_CALL": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
    "MALFORMED_RESPONSE": "error",
    "IMAGE_OTHER": "error",
    "NO_IMAGE": "error",
    "CONTINUATION": "pause",
}

FINISH_REASONS: dict[Finish, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    # CONTINUATION promises a token to go on with, which only Google can give.
    "pause": "OTHER",
    "error": "OTHER",
}

RESOLUTIONS = {
    "MEDIA_RESOLUTION_LOW": "low",
    "MEDIA_RESOLUTION_MEDIUM": "medium",
    "MEDIA_RESOLUTION_HIGH": "high",
    "MEDIA_RESOLUTION_ULTRA_HIGH": "ultra_high",
}

TIERS = {"standard": "default", "flex": "flex", "priority": "priority", "unspecified": "auto"}
"""``serviceTier`` in the hub's words, which are OpenAI's."""

TRAFFIC = {"ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex", "ON_DEMAND": "default"}
"""The tier that ``usageMetadata.trafficType`` of Vertex AI reports."""

_BEFORE_THREE = ("gemini-1", "gemini-2", "gemini-pro", "gemini-robotics-er-1", "gemma", "learnlm")


def before_gemini_3(model: str) -> bool:
    """Whether ``model`` is of the generations that take no thought signatures, no media in function responses and no
    JSON answers beside tools. A name that is not known to be old counts as new."""
    return model.rpartition("/")[2].startswith(_BEFORE_THREE)


METADATA = {
    "grounding_metadata": "groundingMetadata",
    "citation_metadata": "citationMetadata",
    "url_context_metadata": "urlContextMetadata",
}
"""What a candidate tells beside its content and the hub carries as ``Opaque``: attribute and field."""

METADATA_FIELDS = frozenset(METADATA.values())


def given(raw: Raw) -> bool:
    """Whether a field was there and not null."""
    return bytes(raw) not in (b"", b"null")
