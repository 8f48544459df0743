"""A request of ``/api/chat`` as a Conversation. Calls and results without ids get ids that fit each other."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.errors import BadRequest
from tollway.wire import body
from tollway.wire.conversation import (
    Block,
    Conversation,
    Extra,
    Image,
    Message,
    Reasoning,
    ResponseFormat,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from tollway.wire.decoding import decode, given
from tollway.wire.formats.ollama_chat.shapes import FAMILY, WireMessage, encode, read_call
from tollway.wire.turns import media_type


class _Function(Struct):
    name: str
    description: str | None = None
    parameters: Raw = Raw()


class _Tool(Struct):
    function: _Function
    type: str = "function"


class _Options(Struct):
    """The options the hub has names for."""

    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: list[str] | str | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


_messages = msgspec.json.Decoder(list[WireMessage])
_tools = msgspec.json.Decoder(list[_Tool])
_options = msgspec.json.Decoder(_Options)
_fields = msgspec.json.Decoder(dict[str, Raw])
_think = msgspec.json.Decoder(bool | str)

_READ = frozenset(
    ("model", "messages", "tools", "stream", "format", "options", "think", "logprobs", "top_logprobs")
)


def read_request(data: bytes) -> Conversation:
    fields = body.parse(data)
    model = body.text(fields, "model")
    if not model:
        raise BadRequest("'model' is missing. It is required.", param="model")
    messages: list[Message] = []
    if "messages" in fields and given(fields["messages"]):
        messages = _read_messages(decode(_messages, fields["messages"], "messages"))
    options = _Options()
    extra = [
        Extra(format=FAMILY, name=name, raw=raw)
        for name, raw in fields.items()
        if name not in _READ and given(raw)
    ]
    if "options" in fields and given(fields["options"]):
        options = decode(_options, fields["options"], "options")
        rest = {
            name: raw
            for name, raw in decode(_fields, fields["options"], "options").items()
            if name not in options.__struct_fields__
        }
        if options.num_predict is not None and options.num_predict < 0:
            # Below zero it is no limit but a way of having none.
            rest["num_predict"] = Raw(encode(options.num_predict))
        if rest:
            extra.append(Extra(format=FAMILY, name="options", raw=Raw(encode(rest))))
    limit = options.num_predict
    stop = options.stop or ()
    return Conversation(
        model=model,
        messages=tuple(messages),
        tools=_read_tools(fields),
        response_format=_read_format(fields),
        reasoning=_read_think(fields),
        max_tokens=limit if limit is not None and limit >= 0 else None,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        frequency_penalty=options.frequency_penalty,
        presence_penalty=options.presence_penalty,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=options.seed,
        logprobs=body.flag(fields, "logprobs"),
        top_logprobs=body.count(fields, "top_logprobs"),
        stream=body.flag(fields, "stream") if given(fields.get("stream", Raw())) else True,
        include_usage=True,
        format=FAMILY,
        extra=tuple(extra),
    )


def _read_messages(wire: list[WireMessage]) -> list[Message]:
    messages: list[Message] = []
    waiting: list[ToolCall] = []
    for number, said in enumerate(wire):
        where = f"messages.{number}"
        if said.role == "tool":
            messages.append(Message(role="user", blocks=(_read_result(said, number, waiting),)))
            continue
        blocks: list[Block] = []
        if said.role == "assistant":
            if said.thinking:
                blocks.append(Thinking(text=said.thinking, format=FAMILY))
            if said.content:
                blocks.append(Text(text=said.content))
            waiting = [
                read_call(call, f"call_{number}_{index}") for index, call in enumerate(said.tool_calls or ())
            ]
            blocks.extend(waiting)
            messages.append(Message(role="assistant", blocks=tuple(blocks)))
            continue
        if said.content:
            blocks.append(Text(text=said.content))
        blocks.extend(
            Image(source=Source(kind="data", value=image, media_type=media_type(None, image)))
            for image in said.images or ()
        )
        if said.role == "system":
            messages.append(Message(role="system", blocks=tuple(blocks)))
        elif said.role == "user":
            messages.append(Message(role="user", blocks=tuple(blocks)))
        else:
            raise BadRequest(
                f"'{where}.role' must be system, user, assistant or tool.", param=f"{where}.role"
            )
    return messages


def _read_result(said: WireMessage, number: int, waiting: list[ToolCall]) -> ToolResult:
    """Without an id a result belongs to the first call of its tool that has none yet, else to the first call."""
    call = next((call for call in waiting if said.tool_call_id and call.id == said.tool_call_id), None)
    if call is None and not said.tool_call_id:
        call = next((call for call in waiting if said.tool_name in (None, "", call.name)), None)
    if call is not None:
        waiting.remove(call)
    blocks: list[Text | Image] = [Text(text=said.content)] if said.content else []
    blocks.extend(
        Image(source=Source(kind="data", value=image, media_type=media_type(None, image)))
        for image in said.images or ()
    )
    return ToolResult(
        call_id=said.tool_call_id or (call.id if call else f"call_{number}"),
        name=said.tool_name or (call.name if call else None),
        content=tuple(blocks),
    )


def _read_tools(fields: body.Fields) -> tuple[Tool, ...]:
    if "tools" not in fields or not given(fields["tools"]):
        return ()
    tools: list[Tool] = []
    for wire in decode(_tools, fields["tools"], "tools"):
        function = wire.function
        tool = Tool(name=function.name, description=function.description)
        if given(function.parameters):
            tool = Tool(name=function.name, description=function.description, schema=function.parameters)
        tools.append(tool)
    return tuple(tools)


def _read_format(fields: body.Fields) -> ResponseFormat | None:
    raw = fields.get("format", Raw())
    if not given(raw) or bytes(raw) == b'""':
        return None
    if bytes(raw) == b'"json"':
        return ResponseFormat(kind="json_object")
    if body.kind(raw) != "an object":
        raise BadRequest("'format' must be \"json\" or a JSON Schema.", param="format")
    return ResponseFormat(kind="json_schema", schema=raw)


def _read_think(fields: body.Fields) -> Reasoning | None:
    raw = fields.get("think", Raw())
    if not given(raw):
        return None
    wanted = decode(_think, raw, "think")
    return Reasoning(enabled=wanted) if isinstance(wanted, bool) else Reasoning(enabled=True, effort=wanted)
