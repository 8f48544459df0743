"""A Messages request into the hub. What the hub has no name for goes to ``extra`` under its own path.

Paths with a dot are parts of a field: ``output_config.task_budget``, ``tools.<name>`` (what a tool says beyond the
usual), ``messages.image.transformations``. ``mcp_servers`` become server tools, so that a format which cannot reach
them says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire import body as wire_body
from tollway.wire.conversation import (
    Block,
    Conversation,
    Extra,
    Image,
    Message,
    Reasoning,
    ResponseFormat,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    Weight,
)
from tollway.wire.formats.anthropic_messages.proof import FAMILY, unseal_call
from tollway.wire.formats.anthropic_messages.read_blocks import cache_of, decode, read_block
from tollway.wire.formats.anthropic_messages.shapes import (
    Limit,
    MessageShape,
    Named,
    SchemaFormat,
    ThinkingSetting,
    ToolChoiceShape,
    ToolShape,
    Transformed,
)

Fields = dict[str, Raw]

_encode = msgspec.json.Encoder().encode
_string = msgspec.json.Decoder(str)
_limit = msgspec.json.Decoder(Limit)
_number = msgspec.json.Decoder(float)
_boolean = msgspec.json.Decoder(bool)
_strings = msgspec.json.Decoder(list[str])
_fields = msgspec.json.Decoder(dict[str, Raw])
_messages = msgspec.json.Decoder(list[MessageShape])
_system = msgspec.json.Decoder(str | list[Raw])
_blocks = msgspec.json.Decoder(list[Raw])
_thinking = msgspec.json.Decoder(ThinkingSetting)
_choice = msgspec.json.Decoder(ToolChoiceShape)
_schema = msgspec.json.Decoder(SchemaFormat)
_tool = msgspec.json.Decoder(ToolShape)
_transformed = msgspec.json.Decoder(Transformed)
_named = msgspec.json.Decoder(Named)

_ROLES = frozenset({"user", "assistant", "system"})
_TOOL_FIELDS = frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"})

_KINDS = (
    ("web_search", "web_search"),
    ("web_fetch", "web_fetch"),
    ("code_execution", "code_execution"),
    ("computer", "computer"),
    ("bash", "bash"),
    ("text_editor", "text_editor"),
    ("mcp_toolset", "mcp"),
)
"""Server tools by what their dated types begin with."""


def read_request(body: bytes) -> Conversation:
    """A ``/v1/messages`` body. BadRequest (or InvalidJson) with ``param`` naming the field that is wrong."""
    return _read(body, counting=False)


def count_request(body: bytes) -> Conversation:
    """A ``/v1/messages/count_tokens`` body: the same without ``max_tokens``."""
    return _read(body, counting=True)


def _read(body: bytes, *, counting: bool) -> Conversation:
    fields = wire_body.parse(body)
    for name in ("model", "messages") if counting else ("model", "messages", "max_tokens"):
        if name not in fields:
            raise BadRequest(f"'{name}' is missing. Give it.", param=name)
    wire = _Request()
    for name, raw in fields.items():
        reader = _READERS.get(name)
        if reader is None:
            weight: Weight = "meaning" if name == "container" else "hint"
            wire.extra.append(Extra(format=FAMILY, name=name, raw=raw, weight=weight))
        elif bytes(raw) != b"null":
            reader(wire, raw)
        elif name in ("model", "messages") or (name == "max_tokens" and not counting):
            raise BadRequest(f"'{name}' must not be null.", param=name)
    reasoning = wire.reasoning
    if wire.effort is not None:
        reasoning = msgspec.structs.replace(reasoning or Reasoning(), effort=wire.effort)
    stream = wire.values.get("stream", False)
    return Conversation(
        messages=(*wire.system, *wire.messages),
        tools=(*wire.tools, *wire.servers),
        reasoning=reasoning,
        include_usage=stream,
        extra=tuple(wire.extra),
        **wire.values,
    )


class _Request:
    """What has been read so far; ``values`` are fields of the conversation that need no more thought."""

    __slots__ = ("effort", "extra", "messages", "reasoning", "servers", "system", "tools", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.system: list[Message] = []
        self.messages: list[Message] = []
        self.tools: list[Tool | ServerTool] = []
        self.servers: list[ServerTool] = []
        self.extra: list[Extra] = []
        self.reasoning: Reasoning | None = None
        self.effort: str | None = None

    def keep(self, name: str, raw: Raw) -> None:
        self.extra.append(Extra(format=FAMILY, name=name, raw=raw))


# ------------------------------------------------------------------ turns


def _read_system(wire: _Request, raw: Raw) -> None:
    content = decode(_system, raw, "system")
    blocks = _content(wire, content, "system")
    if blocks:
        wire.system.append(Message(role="system", blocks=blocks))


def _read_messages(wire: _Request, raw: Raw) -> None:
    found = decode(_messages, raw, "messages")
    if not found:
        raise BadRequest("'messages' is empty. Give at least one message.", param="messages")
    for number, message in enumerate(found):
        if message.role not in _ROLES:
            raise BadRequest(
                f"'messages.{number}.role' is {message.role[:40]!r}. Use user, assistant or system.",
                param=f"messages.{number}.role",
            )
        blocks = _content(wire, message.content, f"messages.{number}.content")
        wire.messages.append(Message(role=message.role, blocks=blocks))  # type: ignore[arg-type]


def _content(wire: _Request, content: str | list[Raw], path: str) -> tuple[Block, ...]:
    if isinstance(content, str):
        return (Text(text=content),) if content else ()
    blocks: list[Block] = []
    signed: dict[str, str] = {}
    for number, raw in enumerate(content):
        block = read_block(raw, f"{path}.{number}")
        if block.__class__ is Thinking and block.redacted:
            call = unseal_call(block.redacted)
            if call is not None:
                signed[call[0]] = call[1]
                continue
        blocks.append(block)
        if block.__class__ is Image:
            changes = decode(_transformed, raw, f"{path}.{number}").transformations
            if len(bytes(changes)) > 2 and bytes(changes) != b"null":
                wire.keep("messages.image.transformations", changes)
    if signed:
        blocks = [
            msgspec.structs.replace(block, signature=signed[block.id])
            if isinstance(block, ToolCall) and block.id in signed
            else block
            for block in blocks
        ]
    return tuple(blocks)


# ------------------------------------------------------------------ tools


def _read_tools(wire: _Request, raw: Raw) -> None:
    definitions = decode(_blocks, raw, "tools")
    for number, definition in enumerate(definitions):
        path = f"tools.{number}"
        found = decode(_fields, definition, path)
        kind = decode(_string, found["type"], f"{path}.type") if _given(found, "type") else "custom"
        if kind != "custom":
            wire.tools.append(_server_tool(definition, kind, path))
            continue
        tool = decode(_tool, definition, path)
        if not bytes(tool.input_schema).startswith(b"{"):
            raise BadRequest(
                f"'{path}.input_schema' must be a JSON Schema object, not {wire_body.kind(tool.input_schema)}.",
                param=f"{path}.input_schema",
            )
        wire.tools.append(
            Tool(
                name=tool.name,
                description=tool.description,
                schema=tool.input_schema,
                strict=tool.strict,
                cache=cache_of(tool.cache_control),
            )
        )
        more = found.keys() - _TOOL_FIELDS
        if more:
            wire.keep(f"tools.{tool.name}", Raw(_encode({name: found[name] for name in sorted(more)})))


def _server_tool(definition: Raw, kind: str, path: str) -> ServerTool:
    name = decode(_named, definition, path).name
    for begins, known in _KINDS:
        if kind.startswith(begins):
            return ServerTool(kind=known, name=name, format=FAMILY, raw=definition)
    return ServerTool(kind=kind, name=name, format=FAMILY, raw=definition)


def _read_mcp_servers(wire: _Request, raw: Raw) -> None:
    servers = decode(_blocks, raw, "mcp_servers")
    for number, server in enumerate(servers):
        name = decode(_named, server, f"mcp_servers.{number}").name
        wire.servers.append(ServerTool(kind="mcp", name=name, format=FAMILY, raw=server))


def _read_tool_choice(wire: _Request, raw: Raw) -> None:
    found = decode(_choice, raw, "tool_choice")
    if found.disable_parallel_tool_use is not None:
        wire.values["parallel_tool_calls"] = not found.disable_parallel_tool_use
    if found.type == "tool":
        if not found.name:
            raise BadRequest("'tool_choice.name' is missing. Name the tool.", param="tool_choice.name")
        choice = ToolChoice(mode="named", name=found.name)
    elif found.type == "any":
        choice = ToolChoice(mode="required")
    else:
        choice = ToolChoice(mode="none" if found.type == "none" else "auto")
    wire.values["tool_choice"] = choice


# ------------------------------------------------------------------ how to answer


def _read_thinking(wire: _Request, raw: Raw) -> None:
    found = decode(_thinking, raw, "thinking")
    show = {"summarized": True, "omitted": False}.get(found.display or "")
    if found.type == "enabled":
        if found.budget_tokens is None:
            raise BadRequest(
                "'thinking.budget_tokens' is missing. Give it, or use thinking type adaptive.",
                param="thinking.budget_tokens",
            )
        # With a budget the thoughts are told unless that is declined; of adaptive thinking each model has its own way.
        wire.reasoning = Reasoning(enabled=True, budget=found.budget_tokens, show=show is not False)
    elif found.type == "adaptive":
        wire.reasoning = Reasoning(enabled=True, adaptive=True, show=show)
    elif found.type == "disabled":
        wire.reasoning = Reasoning(enabled=False)
    else:
        wire.keep("thinking", raw)


def _read_output_config(wire: _Request, raw: Raw) -> None:
    for name, value in decode(_fields, raw, "output_config").items():
        if bytes(value) == b"null":
            continue
        if name == "effort":
            wire.effort = decode(_string, value, "output_config.effort")
        elif name == "format":
            _read_format(wire, value, "output_config.format")
        else:
            wire.keep(f"output_config.{name}", value)


def _read_output_format(wire: _Request, raw: Raw) -> None:
    _read_format(wire, raw, "output_format")


def _read_format(wire: _Request, raw: Raw, path: str) -> None:
    found = decode(_schema, raw, path)
    if not bytes(found.schema).startswith(b"{"):
        raise BadRequest(
            f"'{path}.schema' must be a JSON Schema object, not {wire_body.kind(found.schema)}.",
            param=f"{path}.schema",
        )
    wire.values["response_format"] = ResponseFormat(kind="json_schema", schema=found.schema, strict=True)


def _read_metadata(wire: _Request, raw: Raw) -> None:
    metadata: dict[str, str] = {}
    for name, value in decode(_fields, raw, "metadata").items():
        if bytes(value) == b"null":
            continue
        text = decode(_string, value, f"metadata.{name}")
        if name == "user_id":
            wire.values["user"] = text
        else:
            metadata[name] = text
    if metadata:
        wire.values["metadata"] = metadata


def _read_service_tier(wire: _Request, raw: Raw) -> None:
    tier = decode(_string, raw, "service_tier")
    wire.values["service_tier"] = "default" if tier == "standard_only" else tier


def _given(fields: Fields, name: str) -> bool:
    return name in fields and bytes(fields[name]) != b"null"


def _value(name: str, field: str, decoder: msgspec.json.Decoder[Any]) -> Callable[[_Request, Raw], None]:
    def read(wire: _Request, raw: Raw) -> None:
        wire.values[field] = decode(decoder, raw, name)

    return read


def _read_stop(wire: _Request, raw: Raw) -> None:
    sequences = decode(_strings, raw, "stop_sequences")
    wire.values["stop"] = tuple(sequences)


_READERS: dict[str, Callable[[_Request, Raw], None]] = {
    "model": _value("model", "model", _string),
    "messages": _read_messages,
    "max_tokens": _value("max_tokens", "max_tokens", _limit),
    "system": _read_system,
    "tools": _read_tools,
    "tool_choice": _read_tool_choice,
    "mcp_servers": _read_mcp_servers,
    "thinking": _read_thinking,
    "output_config": _read_output_config,
    "output_format": _read_output_format,
    "temperature": _value("temperature", "temperature", _number),
    "top_p": _value("top_p", "top_p", _number),
    "top_k": _value("top_k", "top_k", _limit),
    "stop_sequences": _read_stop,
    "stream": _value("stream", "stream", _boolean),
    "metadata": _read_metadata,
    "service_tier": _read_service_tier,
}
