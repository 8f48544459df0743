"""The wire shapes of the Responses API as Structs: what is read is typed here, what is written is built as dicts.

Names and types are those of the API reference (create a response, the response object, streaming events). An item or
part of a type that is not listed here is nobody's mistake: it is carried as it came.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

FAMILY: Final = "openai.responses"

encode = msgspec.json.Encoder().encode


class Head(Struct):
    """What an input item is: enough to choose its shape."""

    type: str | None = None
    role: str | None = None
    id: str | None = None


class PartHead(Struct):
    type: str


class MessageItem(Struct):
    content: str | list[Raw] | None = None
    id: str | None = None
    phase: str | None = None
    name: str | None = None


class Annotated(Struct):
    """One annotation of a text, as far as a citation needs it."""

    type: str = ""
    url: str | None = None
    title: str | None = None
    file_id: str | None = None
    filename: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class InputAudio(Struct):
    data: str
    format: str | None = None


class Part(Struct):
    """A content part of any known type; which fields count depends on it."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    file_data: str | None = None
    filename: str | None = None
    input_audio: InputAudio | None = None
    annotations: list[Raw] | None = None
    logprobs: Raw = Raw()
    prompt_cache_breakpoint: Raw = Raw()


class CallItem(Struct):
    """``function_call`` (arguments) and ``custom_tool_call`` (input)."""

    name: str
    call_id: str
    arguments: str | None = None
    input: str | None = None
    namespace: str | None = None
    caller: Raw = Raw()


class OutputItem(Struct):
    """What a tool gave back. ``call_id`` is missing where a client tells the model of an event of its own."""

    output: Raw = Raw()
    call_id: str | None = None
    name: str | None = None
    caller: Raw = Raw()


class OutputObject(Struct):
    """The output as an object, which early clients sent."""

    content: str
    success: bool | None = None


class TextPart(Struct):
    """A part of a reasoning item's ``summary`` or ``content``."""

    text: str = ""


class ReasoningItem(Struct):
    id: str | None = None
    summary: list[TextPart] | None = None
    content: list[TextPart] | None = None
    encrypted_content: str | None = None


class AdditionalTools(Struct):
    tools: list[Raw] = []


class ToolHead(Struct):
    type: str
    name: str | None = None
    server_label: str | None = None


class FunctionTool(Struct):
    name: str
    description: str | None = None
    parameters: Raw = Raw()
    strict: bool | None = None


class Grammar(Struct):
    syntax: str | None = None
    definition: str | None = None


class CustomFormat(Struct):
    """What a custom tool's input looks like. The grammar's fields stand beside ``type`` here; the hub keeps it as the
    chat format has it, one level deeper."""

    type: str
    syntax: str | None = None
    definition: str | None = None
    grammar: Grammar | None = None


class CustomTool(Struct):
    name: str
    description: str | None = None
    format: CustomFormat | None = None


class NamespaceTool(Struct):
    name: str
    description: str | None = None
    tools: list[Raw] = []


class Choice(Struct):
    """A tool choice that is an object."""

    type: str
    name: str | None = None
    mode: str | None = None
    tools: list[Choice] = []
    server_label: str | None = None


class TextFormat(Struct):
    type: str
    name: str | None = None
    schema: Raw = Raw()
    description: str | None = None
    strict: bool | None = None


class TextConfig(Struct):
    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningConfig(Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: Raw = Raw()
    mode: Raw = Raw()


class Namespace(Struct):
    """Ours: a namespace of tools whose functions stand in the conversation under one flat name each."""

    name: str
    description: str | None = None
    tools: dict[str, str] = {}


# ------------------------------------------------------------------ answers


class AnswerError(Struct):
    code: str | int | None = None
    message: str | None = None
    type: str | None = None


class IncompleteDetails(Struct):
    reason: str | None = None


class Response(Struct):
    """The response object as far as the hub knows it."""

    id: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    error: AnswerError | None = None
    incomplete_details: IncompleteDetails | None = None
    output: list[Raw] | None = None
    usage: Raw = Raw()
    service_tier: str | None = None


class AnswerItem(Struct):
    """An output item of any type; which fields count depends on it."""

    type: str
    id: str | None = None
    content: list[Raw] | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: Any = None
    input: Any = None
    summary: list[TextPart] | None = None
    encrypted_content: str | None = None
    result: Any = None
    output_format: str | None = None


class Event(Struct):
    """A stream's event. Text fields are Any: types newer than we are put objects there."""

    type: str = ""
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    input: Any = None
    item: Raw = Raw()
    part: Raw = Raw()
    annotation: Raw = Raw()
    logprobs: Raw = Raw()
    response: Raw = Raw()
    error: Raw = Raw()
    code: Any = None
    message: Any = None
