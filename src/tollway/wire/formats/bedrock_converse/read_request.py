"""A Converse request's body as a Conversation. ``model`` and ``stream`` are read where a caller put them in."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, structs

from tollway.errors import BadRequest
from tollway.wire import body
from tollway.wire.conversation import (
    Block,
    Conversation,
    Extra,
    Message,
    Reasoning,
    ResponseFormat,
    Role,
    ServerTool,
    Tool,
    ToolChoice,
    ToolResult,
)
from tollway.wire.decoding import decode, given
from tollway.wire.formats.bedrock_converse.read_blocks import WireBlock, read_blocks, read_cache_point
from tollway.wire.formats.bedrock_converse.shapes import FAMILIES, FAMILY, ServiceTier, encode
from tollway.wire.turns import tool_names

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}


class _Message(Struct):
    role: str
    content: list[WireBlock]


class _Inference(Struct):
    maxTokens: int | None = None
    temperature: float | None = None
    topP: float | None = None
    stopSequences: list[str] | None = None


class _Schema(Struct):
    json: Raw = Raw()


class _ToolSpec(Struct):
    name: str
    inputSchema: _Schema
    description: str | None = None
    strict: bool | None = None


class _Named(Struct):
    name: str


class _ToolConfig(Struct):
    tools: list[WireBlock]
    toolChoice: dict[str, Raw] | None = None


class _JsonSchema(Struct):
    schema: str
    name: str = "response"
    description: str | None = None


class _Structure(Struct):
    jsonSchema: _JsonSchema


class _TextFormat(Struct):
    structure: _Structure
    type: str = "json_schema"


class _OutputConfig(Struct):
    textFormat: _TextFormat | None = None
    effort: str | None = None


class _Thinking(Struct):
    type: str = "enabled"
    budget_tokens: int | None = None


class _ReasoningConfig(Struct):
    type: str = "enabled"
    maxReasoningEffort: str | None = None


_messages = msgspec.json.Decoder(list[_Message])
_system = msgspec.json.Decoder(list[WireBlock])
_inference = msgspec.json.Decoder(_Inference)
_tool_config = msgspec.json.Decoder(_ToolConfig)
_tool_spec = msgspec.json.Decoder(_ToolSpec)
_named = msgspec.json.Decoder(_Named)
_output = msgspec.json.Decoder(_OutputConfig)
_thinking = msgspec.json.Decoder(_Thinking)
_reasoning_config = msgspec.json.Decoder(_ReasoningConfig)
_metadata = msgspec.json.Decoder(dict[str, str])
_tier = msgspec.json.Decoder(ServiceTier)
_fields = msgspec.json.Decoder(dict[str, Raw])
_number = msgspec.json.Decoder(int)
_word = msgspec.json.Decoder(str)

_READ = frozenset(
    (
        "model",
        "stream",
        "messages",
        "system",
        "inferenceConfig",
        "toolConfig",
        "outputConfig",
        "requestMetadata",
        "serviceTier",
        "additionalModelRequestFields",
    )
)


def read_request(data: bytes) -> Conversation:
    fields = body.parse(data)
    messages: list[Message] = []
    if "system" in fields:
        wire = decode(_system, fields["system"], "system")
        blocks = read_blocks(wire, "system")
        if blocks:
            messages.append(Message(role="system", blocks=blocks))
    if "messages" in fields:
        messages.extend(_read_messages(fields["messages"]))
    elif "promptVariables" not in fields:
        raise BadRequest("'messages' is missing. Send at least one user message.", param="messages")
    inference = _Inference()
    if "inferenceConfig" in fields:
        inference = decode(_inference, fields["inferenceConfig"], "inferenceConfig")
    tools, choice = _read_tools(fields)
    output = _OutputConfig()
    if "outputConfig" in fields:
        output = decode(_output, fields["outputConfig"], "outputConfig")
    reasoning, top_k, rest = _read_additional(fields, output.effort)
    extra = [
        Extra(format=FAMILY, name=name, raw=raw)
        for name, raw in fields.items()
        if name not in _READ and given(raw)
    ]
    if rest:
        extra.append(Extra(format=FAMILY, name="additionalModelRequestFields", raw=Raw(encode(rest))))
    metadata: dict[str, str] = {}
    if "requestMetadata" in fields:
        metadata = decode(_metadata, fields["requestMetadata"], "requestMetadata")
    tier = None
    if "serviceTier" in fields:
        tier = decode(_tier, fields["serviceTier"], "serviceTier").type
    return Conversation(
        model=body.text(fields, "model") or "",
        messages=tuple(messages),
        tools=tools,
        tool_choice=choice,
        response_format=_response_format(output),
        reasoning=reasoning,
        max_tokens=inference.maxTokens,
        temperature=inference.temperature,
        top_p=inference.topP,
        top_k=top_k,
        stop=tuple(inference.stopSequences or ()),
        service_tier=tier,
        metadata=metadata,
        stream=body.flag(fields, "stream"),
        include_usage=True,
        format=FAMILY,
        extra=tuple(extra),
    )


def _read_messages(raw: Raw) -> list[Message]:
    found: list[Message] = []
    turns = decode(_messages, raw, "messages")
    for number, wire in enumerate(turns):
        role = _ROLES.get(wire.role)
        if role is None:
            where = f"messages.{number}.role"
            raise BadRequest(f"'{where}' must be user, assistant or system.", param=where)
        found.append(Message(role=role, blocks=read_blocks(wire.content, f"messages.{number}.content")))
    names = tool_names(found)
    return [_with_names(message, names) for message in found] if names else found


def _with_names(message: Message, names: dict[str, str]) -> Message:
    """Tool results with the names of their tools, which Converse does not repeat and other formats want."""
    if message.role != "user":
        return message
    blocks: list[Block] = []
    for block in message.blocks:
        if isinstance(block, ToolResult):
            block = structs.replace(block, name=names.get(block.call_id))
        blocks.append(block)
    return structs.replace(message, blocks=tuple(blocks))


def _read_tools(fields: body.Fields) -> tuple[tuple[Tool | ServerTool, ...], ToolChoice | None]:
    if "toolConfig" not in fields or not given(fields["toolConfig"]):
        return (), None
    config = decode(_tool_config, fields["toolConfig"], "toolConfig")
    tools: list[Tool | ServerTool] = []
    for index, wire in enumerate(config.tools):
        where = f"toolConfig.tools.{index}"
        kind, raw = next(iter(wire.items()), ("", Raw()))
        if kind == "toolSpec":
            spec = decode(_tool_spec, raw, f"{where}.toolSpec")
            schema = spec.inputSchema.json
            tool = Tool(name=spec.name, description=spec.description, strict=spec.strict)
            tools.append(structs.replace(tool, schema=schema) if given(schema) else tool)
        elif kind == "cachePoint":
            cache = read_cache_point(raw, f"{where}.cachePoint")
            if tools and isinstance(tools[-1], Tool):
                tools[-1] = structs.replace(tools[-1], cache=cache)
        elif kind == "systemTool":
            tools.append(_system_tool(decode(_named, raw, f"{where}.systemTool").name, wire))
        elif kind:
            tools.append(ServerTool(kind=kind, format=FAMILY, raw=Raw(encode(wire))))
        else:
            raise BadRequest(f"'{where}' must have one member, such as toolSpec.", param=where)
    return tuple(tools), _read_choice(config.toolChoice)


def _system_tool(name: str, wire: WireBlock) -> ServerTool:
    kind = name
    for family in FAMILIES:
        for ours, theirs in family.system_tools.items():
            if theirs == name:
                kind = ours
    return ServerTool(kind=kind, name=name, format=FAMILY, raw=Raw(encode(wire)))


def _read_choice(wire: dict[str, Raw] | None) -> ToolChoice | None:
    if not wire:
        return None
    kind, raw = next(iter(wire.items()))
    if kind == "auto":
        return ToolChoice(mode="auto")
    if kind == "any":
        return ToolChoice(mode="required")
    if kind == "tool":
        return ToolChoice(mode="named", name=decode(_named, raw, "toolConfig.toolChoice.tool").name)
    where = "toolConfig.toolChoice"
    raise BadRequest(f"'{where}' must be auto, any or tool.", param=where)


def _response_format(output: _OutputConfig) -> ResponseFormat | None:
    if output.textFormat is None:
        return None
    wire = output.textFormat.structure.jsonSchema
    schema = wire.schema.encode()
    try:
        _fields.decode(schema)
    except (msgspec.DecodeError, RecursionError):
        where = "outputConfig.textFormat.structure.jsonSchema.schema"
        raise BadRequest(f"'{where}' must be a JSON Schema, written as a string.", param=where) from None
    return ResponseFormat(
        kind="json_schema", name=wire.name, description=wire.description, schema=Raw(schema), strict=True
    )


def _read_additional(
    fields: body.Fields, effort: str | None
) -> tuple[Reasoning | None, int | None, dict[str, Raw]]:
    """What of the model's own fields the hub has names for, and the rest of them."""
    reasoning = Reasoning(effort=effort) if effort else None
    path = "additionalModelRequestFields"
    if path not in fields or not given(fields[path]):
        return reasoning, None, {}
    rest = decode(_fields, fields[path], path)
    if "thinking" in rest:
        wire = decode(_thinking, rest.pop("thinking"), f"{path}.thinking")
        reasoning = Reasoning(
            enabled=wire.type != "disabled",
            effort=effort,
            budget=wire.budget_tokens,
            adaptive=wire.type == "adaptive",
        )
    elif "reasoningConfig" in rest:
        config = decode(_reasoning_config, rest.pop("reasoningConfig"), f"{path}.reasoningConfig")
        reasoning = Reasoning(enabled=config.type != "disabled", effort=config.maxReasoningEffort or effort)
    elif "reasoning_effort" in rest:
        reasoning = Reasoning(effort=decode(_word, rest.pop("reasoning_effort"), f"{path}.reasoning_effort"))
    top_k = decode(_number, rest.pop("top_k"), f"{path}.top_k") if "top_k" in rest else None
    return reasoning, top_k, rest
