"""A request of the Responses API into a conversation.

``instructions`` is a leading system turn. ``prompt`` and ``conversation`` stand for content we cannot see: they become
Opaque blocks of a leading developer turn, so that a writer of another format names their loss as one of meaning.
Fields the hub has no name for are kept in ``extra``.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire import body as bodies
from tollway.wire import decoding
from tollway.wire.conversation import (
    Block,
    Conversation,
    Extra,
    Message,
    Opaque,
    Reasoning,
    ResponseFormat,
    Text,
    Weight,
)
from tollway.wire.formats.openai_responses import shapes
from tollway.wire.formats.openai_responses.names import NAMESPACES
from tollway.wire.formats.openai_responses.read_items import ItemReader
from tollway.wire.formats.openai_responses.shapes import FAMILY, encode
from tollway.wire.formats.openai_responses.tools import ToolReader, read_choice

T = TypeVar("T")

_text = msgspec.json.Decoder(str)
_number = msgspec.json.Decoder(float)
_integer = msgspec.json.Decoder(int)
_flag = msgspec.json.Decoder(bool)
_raws = msgspec.json.Decoder(list[Raw])
_metadata = msgspec.json.Decoder(dict[str, str])
_text_config = msgspec.json.Decoder(shapes.TextConfig)
_reasoning = msgspec.json.Decoder(shapes.ReasoningConfig)
_includes = msgspec.json.Decoder(list[str])

LOGPROBS = "message.output_text.logprobs"
STANDING = ("prompt", "conversation")
"""Fields that stand for content kept at the provider."""


def read_request(body: bytes) -> Conversation:
    """Raises BadRequest, with the dotted path of what is wrong."""
    fields = bodies.parse(body)
    taken = _Fields(fields)
    model = taken.one("model", _text)
    if not model:
        raise BadRequest("'model' is missing. Name the model to use.", param="model")
    tools = ToolReader()
    tools.read(taken.one("tools", _raws) or [], "tools")
    items = ItemReader(tools)
    leading = _leading(taken)
    previous = taken.one("previous_response_id", _text)
    source = taken.raw("input")
    if decoding.given(source):
        items.read(source)
    elif not previous and not any(message.role == "developer" for message in leading):
        raise BadRequest(
            "'input' is missing. Give a text or a list of items, or one of 'previous_response_id', 'prompt' and "
            "'conversation'.",
            param="input",
        )
    text = taken.one("text", _text_config) or shapes.TextConfig()
    include = taken.one("include", _includes) or []
    reasoning, of_reasoning = _read_reasoning(taken)
    stream = taken.one("stream", _flag) or False
    return Conversation(
        model=model,
        messages=(*leading, *items.messages),
        tools=tuple(tools.tools),
        tool_choice=read_choice(taken.raw("tool_choice")),
        parallel_tool_calls=taken.one("parallel_tool_calls", _flag),
        response_format=_read_format(text.format),
        reasoning=reasoning,
        max_tokens=_at_least(taken.one("max_output_tokens", _integer), 1, "max_output_tokens"),
        temperature=taken.one("temperature", _number),
        top_p=taken.one("top_p", _number),
        logprobs=LOGPROBS in include,
        top_logprobs=_at_least(taken.one("top_logprobs", _integer), 0, "top_logprobs"),
        verbosity=text.verbosity,
        service_tier=taken.one("service_tier", _text),
        metadata=taken.one("metadata", _metadata) or {},
        user=taken.one("user", _text),
        safety_identifier=taken.one("safety_identifier", _text),
        prompt_cache_key=taken.one("prompt_cache_key", _text),
        store=taken.one("store", _flag),
        previous_response_id=previous,
        stream=stream,
        include_usage=stream,
        format=FAMILY,
        extra=(
            *_included(include),
            *of_reasoning,
            *tools.extra,
            *_spaces(tools),
            *(Extra(format=FAMILY, name=name, raw=Raw(b"true")) for name in sorted(items.unplaced)),
            *taken.rest(),
        ),
    )


class _Fields:
    """A request's top level; what nobody took is the rest."""

    __slots__ = ("_left",)

    def __init__(self, fields: bodies.Fields) -> None:
        self._left = fields

    def raw(self, name: str) -> Raw:
        return self._left.pop(name, Raw())

    def one(self, name: str, decoder: msgspec.json.Decoder[T]) -> T | None:
        raw = self._left.pop(name, None)
        if raw is None or bytes(raw) == b"null":
            return None
        return decoding.decode(decoder, raw, name)

    def rest(self) -> list[Extra]:
        return [
            Extra(format=FAMILY, name=name, raw=raw)
            for name, raw in self._left.items()
            if bytes(raw) != b"null"
        ]


def _leading(taken: _Fields) -> list[Message]:
    messages = []
    instructions = taken.one("instructions", _text)
    if instructions:
        messages.append(Message(role="system", blocks=(Text(text=instructions),)))
    standing: list[Block] = []
    for name in STANDING:
        raw = taken.raw(name)
        if decoding.given(raw):
            standing.append(Opaque(format=FAMILY, kind=name, raw=raw))
    if standing:
        messages.append(Message(role="developer", blocks=tuple(standing)))
    return messages


def _read_format(found: shapes.TextFormat | None) -> ResponseFormat | None:
    if found is None or found.type == "text":
        return None
    if found.type == "json_object":
        return ResponseFormat(kind="json_object")
    if found.type != "json_schema":
        raise BadRequest(
            "'text.format.type' must be 'text', 'json_object' or 'json_schema'.", param="text.format.type"
        )
    if not found.name:
        raise BadRequest("'text.format.name' is missing. Name the schema.", param="text.format.name")
    if not decoding.given(found.schema):
        raise BadRequest("'text.format.schema' is missing. It is required.", param="text.format.schema")
    return ResponseFormat(
        kind="json_schema",
        name=found.name,
        description=found.description,
        schema=found.schema,
        strict=found.strict,
    )


def _read_reasoning(taken: _Fields) -> tuple[Reasoning | None, list[Extra]]:
    found = taken.one("reasoning", _reasoning)
    if found is None:
        return None, []
    summary = found.summary or found.generate_summary
    extra = [
        Extra(format=FAMILY, name=f"reasoning.{name}", raw=raw)
        for name, raw in (("context", found.context), ("mode", found.mode))
        if decoding.given(raw)
    ]
    reasoning = Reasoning(
        enabled=None if found.effort is None else found.effort != "none",
        effort=found.effort,
        show=True if summary else None,
        summary=summary,
    )
    return reasoning, extra


ENCRYPTED = "reasoning.encrypted_content"


def _included(include: list[str]) -> list[Extra]:
    others = [name for name in include if name != LOGPROBS]
    if not others:
        return []
    # Codex asks for it of every model; without it the reasoning comes back in another way, or there is none.
    weight: Weight = "aside" if others == [ENCRYPTED] else "hint"
    return [Extra(format=FAMILY, name="include", raw=Raw(encode(others)), weight=weight)]


def _spaces(tools: ToolReader) -> list[Extra]:
    if not tools.spaces:
        return []
    return [Extra(format=FAMILY, name=NAMESPACES, raw=Raw(encode(list(tools.spaces.values()))))]


def _at_least(number: int | None, least: int, name: str) -> int | None:
    if number is not None and number < least:
        raise BadRequest(f"'{name}' must be at least {least}.", param=name)
    if number is not None and number > bodies.MAX_COUNT:
        raise BadRequest(f"'{name}' is too large.", param=name)
    return number
