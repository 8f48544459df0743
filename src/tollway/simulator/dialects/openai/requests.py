"""OpenAI request bodies as the simulator reads them: only the fields it honours; others are accepted and
ignored."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, field

from tollway.simulator.answer import Refusal
from tollway.simulator.dialects.openai.errors import invalid

Count = Annotated[int, Meta(ge=1)]


NOTHING = Raw()
"""A field that was not sent."""


class Audio(Struct):
    data: str = ""


class Part(Struct):
    type: str
    text: str | None = None
    input_audio: Audio | None = None


class Message(Struct):
    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: Raw = NOTHING


class StreamOptions(Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class Function(Struct):
    name: str
    parameters: dict[str, object] | None = None


class Tool(Struct):
    type: str
    function: Function | None = None


class Choice(Struct):
    """``tool_choice`` as an object."""

    type: str
    function: Function | None = None


class NamedSchema(Struct):
    name: str
    schema_: dict[str, object] | None = field(default=None, name="schema")


class Format(Struct):
    type: str
    json_schema: NamedSchema | None = None


class ChatRequest(Struct):
    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    user: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    service_tier: str | None = None


class CompletionRequest(Struct):
    model: str
    prompt: str | list[str | int | list[int]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None


class EmbeddingRequest(Struct):
    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: Annotated[int, Meta(ge=1, le=8192)] | None = None


T = TypeVar("T")

_WHERE = re.compile(r" - at `\$\.?(.*)`$")


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as the type asks for it, or a 400 that names the field."""
    if not body:
        raise invalid("The request body is empty; a JSON object was expected.")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        where = _WHERE.search(text)
        missing = re.search(r"missing required field `(\w+)`", text)
        param = ".".join(part for part in (where[1] if where else "", missing[1] if missing else "") if part)
        raise invalid(f"The request is not valid: {text}.", param or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"We could not parse the JSON body of your request: {error}."
        raise Refusal(400, message, kind="invalid_request_error") from error


def cut_at_stop(text: str, stop: str | list[str] | None) -> str | None:
    """The text before the first stop sequence, or None where none occurs."""
    found = [
        at
        for mark in ([stop] if isinstance(stop, str) else stop or ())
        if mark and (at := text.find(mark)) >= 0
    ]
    return text[: min(found)] if found else None
