"""A request of ``/v2/chat`` as a Conversation."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.errors import BadRequest
from tollway.wire import body
from tollway.wire.conversation import (
    Block,
    Conversation,
    Document,
    Extra,
    Image,
    Message,
    Opaque,
    Reasoning,
    ResponseFormat,
    Source,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
)
from tollway.wire.decoding import decode, given
from tollway.wire.formats.cohere_chat.shapes import FAMILY, PLAN, Call, read_call, read_citation


class _Message(Struct):
    role: str
    content: Raw = Raw()
    tool_calls: list[Call] | None = None
    tool_plan: str | None = None
    citations: list[Raw] | None = None
    tool_call_id: str | None = None


class _ImageUrl(Struct):
    url: str
    detail: str | None = None


class _Document(Struct):
    data: Raw = Raw()
    id: str | None = None


class _Item(Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    image_url: _ImageUrl | None = None
    document: _Document | None = None


class _Function(Struct):
    name: str
    description: str | None = None
    parameters: Raw = Raw()


class _Tool(Struct):
    function: _Function
    type: str = "function"


class _Format(Struct):
    type: str
    json_schema: Raw = Raw()


class _Thinking(Struct):
    type: str = "enabled"
    token_budget: int | None = None


class _Settings(Struct):
    """The plain settings. They are decoded by one Struct, so that their errors name their place."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    p: float | None = None
    k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop_sequences: list[str] | None = None
    logprobs: bool | None = None
    stream: bool | None = None
    strict_tools: bool | None = None
    tool_choice: str | None = None
    thinking: _Thinking | None = None
    response_format: _Format | None = None
    tools: list[_Tool] | None = None
    messages: list[_Message] | None = None


_settings = msgspec.json.Decoder(_Settings)
_items = msgspec.json.Decoder(list[Raw])
_item = msgspec.json.Decoder(_Item)
_string = msgspec.json.Decoder(str)


def read_request(data: bytes) -> Conversation:
    fields = body.parse(data)
    wire = decode(_settings, data, "")
    if not wire.model:
        raise BadRequest("'model' is missing. It is required.", param="model")
    if wire.messages is None:
        raise BadRequest("'messages' is missing. Send at least one user message.", param="messages")
    thinking = wire.thinking
    return Conversation(
        model=wire.model,
        messages=tuple(_message(message, number) for number, message in enumerate(wire.messages)),
        tools=tuple(_tool(tool, wire.strict_tools) for tool in wire.tools or ()),
        tool_choice=_choice(wire.tool_choice),
        response_format=_format(wire.response_format),
        reasoning=Reasoning(enabled=thinking.type != "disabled", budget=thinking.token_budget)
        if thinking
        else None,
        max_tokens=wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.p,
        top_k=wire.k,
        frequency_penalty=wire.frequency_penalty,
        presence_penalty=wire.presence_penalty,
        stop=tuple(wire.stop_sequences or ()),
        seed=wire.seed,
        logprobs=bool(wire.logprobs),
        stream=bool(wire.stream),
        include_usage=True,
        format=FAMILY,
        extra=tuple(
            Extra(format=FAMILY, name=name, raw=raw)
            for name, raw in fields.items()
            if name not in wire.__struct_fields__ and given(raw)
        ),
    )


def _message(wire: _Message, number: int) -> Message:
    where = f"messages.{number}"
    blocks = _content(wire.content, f"{where}.content")
    if wire.role == "assistant":
        if wire.citations:
            blocks = _cited(blocks, wire.citations, f"{where}.citations")
        if wire.tool_plan:
            blocks.append(Thinking(text=wire.tool_plan, id=PLAN, format=FAMILY))
        for index, call in enumerate(wire.tool_calls or ()):
            if call.function is None or not call.function.name:
                place = f"{where}.tool_calls.{index}.function.name"
                raise BadRequest(f"'{place}' is missing. It is required.", param=place)
            blocks.append(read_call(call, f"call_{number}_{index}"))
        return Message(role="assistant", blocks=tuple(blocks))
    if wire.role == "tool":
        if not wire.tool_call_id:
            raise BadRequest(
                f"'{where}.tool_call_id' is missing. It is required.", param=f"{where}.tool_call_id"
            )
        content = tuple(block for block in blocks if isinstance(block, Text | Image | Document | Opaque))
        return Message(role="user", blocks=(ToolResult(call_id=wire.tool_call_id, content=content),))
    if wire.role == "user":
        return Message(role="user", blocks=tuple(blocks))
    if wire.role == "system":
        return Message(role="system", blocks=tuple(blocks))
    raise BadRequest(f"'{where}.role' must be system, user, assistant or tool.", param=f"{where}.role")


def _content(raw: Raw, where: str) -> list[Block]:
    """A string, a list of items, or a single one."""
    if not given(raw):
        return []
    kind = body.kind(raw)
    if kind == "a string":
        text = decode(_string, raw, where)
        return [Text(text=text)] if text else []
    if kind == "an object":
        return [_block(raw, where)]
    items = decode(_items, raw, where)
    return [_block(item, f"{where}.{index}") for index, item in enumerate(items)]


def _block(raw: Raw, where: str) -> Block:
    item = decode(_item, raw, where)
    if item.type == "text":
        if item.text is None:
            raise BadRequest(f"'{where}.text' is missing. It is required.", param=f"{where}.text")
        return Text(text=item.text)
    if item.type == "thinking" and item.thinking is not None:
        return Thinking(text=item.thinking, format=FAMILY)
    if item.type == "image_url":
        if item.image_url is None:
            raise BadRequest(f"'{where}.image_url' is missing. It is required.", param=f"{where}.image_url")
        return Image(source=_source(item.image_url.url), detail=item.image_url.detail)
    if item.type == "document" and item.document is not None and given(item.document.data):
        data = item.document.data
        text = decode(_string, data, where) if body.kind(data) == "a string" else bytes(data).decode()
        return Document(text=text, title=item.document.id)
    return Opaque(format=FAMILY, kind=item.type, raw=raw)


def _source(url: str) -> Source:
    head, comma, data = url.partition(",")
    if url.startswith("data:") and comma and head.endswith(";base64"):
        return Source(kind="data", value=data, media_type=head[5:-7] or None)
    return Source(kind="url", value=url)


def _cited(blocks: list[Block], citations: list[Raw], where: str) -> list[Block]:
    """Citations put to the texts they stand in."""
    for index, raw in enumerate(citations):
        try:
            wire, citation = read_citation(raw)
        except msgspec.DecodeError:
            raise BadRequest(f"'{where}.{index}' is not a citation.", param=f"{where}.{index}") from None
        place = cited_block(blocks, wire.content_index, wire.type)
        block = blocks[place] if place is not None else None
        if place is not None and isinstance(block, Text):
            blocks[place] = msgspec.structs.replace(block, citations=(*block.citations, citation))
    return blocks


def cited_block(blocks: list[Block], index: int | None, kind: str | None) -> int | None:
    """Where a citation belongs: the text it names, else the first text; None for citations of thoughts and plans."""
    if kind in ("THINKING_CONTENT", "PLAN"):
        return None
    if index is not None and 0 <= index < len(blocks) and isinstance(blocks[index], Text):
        return index
    return next((place for place, block in enumerate(blocks) if isinstance(block, Text)), None)


def _tool(wire: _Tool, strict: bool | None) -> Tool:
    function = wire.function
    schema = function.parameters if given(function.parameters) else Tool(name="").schema
    return Tool(name=function.name, description=function.description, schema=schema, strict=strict)


def _choice(wire: str | None) -> ToolChoice | None:
    if wire is None:
        return None
    if wire == "REQUIRED":
        return ToolChoice(mode="required")
    if wire == "NONE":
        return ToolChoice(mode="none")
    raise BadRequest("'tool_choice' must be REQUIRED or NONE.", param="tool_choice")


def _format(wire: _Format | None) -> ResponseFormat | None:
    if wire is None or wire.type == "text":
        return None
    if wire.type != "json_object":
        raise BadRequest("'response_format.type' must be text or json_object.", param="response_format.type")
    if given(wire.json_schema):
        return ResponseFormat(kind="json_schema", schema=wire.json_schema)
    return ResponseFormat(kind="json_object")
