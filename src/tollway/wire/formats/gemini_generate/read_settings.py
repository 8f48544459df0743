"""What a generateContent request says beside its turns: tools, tool choice and generationConfig, read into the hub's
fields. What the hub has no name for is kept as ``Extra`` under its path.
"""

from __future__ import annotations

from typing import TypedDict

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.conversation import (
    Extra,
    Reasoning,
    ResponseFormat,
    ServerTool,
    Tool,
    ToolChoice,
)
from tollway.wire.formats.gemini_generate.reading import each, fields_of, read
from tollway.wire.formats.gemini_generate.schema import to_json_schema
from tollway.wire.formats.gemini_generate.shapes import (
    FAMILY,
    SERVER_TOOLS,
    CallingConfig,
    Declaration,
    ThinkingConfig,
    given,
)

_encode = msgspec.json.Encoder().encode
_declaration = msgspec.json.Decoder(Declaration).decode
_calling = msgspec.json.Decoder(CallingConfig).decode
_thinking = msgspec.json.Decoder(ThinkingConfig, strict=False).decode
# Google's JSON reader takes numbers as strings too.
_float = msgspec.json.Decoder(float, strict=False).decode
_int = msgspec.json.Decoder(int, strict=False).decode
_bool = msgspec.json.Decoder(bool).decode
_string = msgspec.json.Decoder(str).decode
_strings = msgspec.json.Decoder(list[str]).decode

_DECLARED = frozenset(("name", "description", "parameters", "parametersJsonSchema"))
_NO_PARAMETERS = Tool(name="").schema
_LEVELS = {
    "MINIMAL": "minimal",
    "LOW": "low",
    "MEDIUM": "medium",
    "HIGH": "high",
    "XHIGH": "xhigh",
}


class Config(TypedDict, total=False):
    """The fields of a Conversation that generationConfig sets."""

    temperature: float
    top_p: float
    top_k: int
    n: int
    max_tokens: int
    stop: tuple[str, ...]
    seed: int
    presence_penalty: float
    frequency_penalty: float
    logprobs: bool
    top_logprobs: int
    modalities: tuple[str, ...]
    response_format: ResponseFormat
    reasoning: Reasoning


def read_tools(raw: Raw, extras: list[Extra]) -> tuple[Tool | ServerTool, ...]:
    tools: list[Tool | ServerTool] = []
    for place, one in enumerate(each(raw, "tools")):
        path = f"tools.{place}"
        for name, value in read(fields_of, one, path).items():
            if not given(value):
                continue
            if name == "functionDeclarations":
                for number, declared in enumerate(each(value, f"{path}.{name}")):
                    tools.append(_tool(declared, f"{path}.{name}.{number}", extras))
                continue
            whole = Raw(b'{"' + name.encode() + b'":' + bytes(value) + b"}")
            tools.append(ServerTool(kind=SERVER_TOOLS.get(name, name), name=name, format=FAMILY, raw=whole))
    return tuple(tools)


def _tool(raw: Raw, path: str, extras: list[Extra]) -> Tool:
    try:
        declared = _declaration(raw)
    except (msgspec.DecodeError, RecursionError):
        fields = read(fields_of, raw, path)
        known = {name: value for name, value in fields.items() if name in _DECLARED}
        declared = read(_declaration, Raw(_encode(known)), path)
        extras.extend(
            Extra(format=FAMILY, name=f"tools.{declared.name}.{name}", raw=value)
            for name, value in fields.items()
            if name not in _DECLARED and given(value)
        )
    if not declared.name:
        raise BadRequest(f"'{path}.name' is empty. Name the function.", param=f"{path}.name")
    schema = _NO_PARAMETERS
    if given(declared.parameters_json_schema):
        read(fields_of, declared.parameters_json_schema, f"{path}.parametersJsonSchema")
        schema = declared.parameters_json_schema
    elif given(declared.parameters):
        schema = to_json_schema(declared.parameters, f"{path}.parameters")
    return Tool(name=declared.name, description=declared.description, schema=schema)


def read_tool_config(raw: Raw, extras: list[Extra]) -> ToolChoice | None:
    choice = None
    for name, value in read(fields_of, raw, "toolConfig").items():
        if not given(value):
            continue
        if name != "functionCallingConfig":
            extras.append(Extra(format=FAMILY, name=f"toolConfig.{name}", raw=value))
            continue
        path = f"toolConfig.{name}"
        config = read(_calling, value, path)
        allowed = tuple(config.allowed_function_names or ())
        mode = (config.mode or "AUTO").upper()
        if mode == "ANY":
            if len(allowed) == 1:
                choice = ToolChoice(mode="named", name=allowed[0])
            else:
                choice = ToolChoice(mode="required", allowed=allowed)
        elif mode == "NONE":
            choice = ToolChoice(mode="none")
        elif mode in ("AUTO", "VALIDATED", "MODE_UNSPECIFIED"):
            choice = ToolChoice(mode="auto", allowed=allowed)
            if mode == "VALIDATED" and not allowed:
                extras.append(Extra(format=FAMILY, name=f"{path}.mode", raw=Raw(b'"VALIDATED"')))
        else:
            raise BadRequest(f"'{path}.mode' must be AUTO, ANY, NONE or VALIDATED.", param=f"{path}.mode")
    return choice


def read_config(raw: Raw, extras: list[Extra]) -> Config:
    told: Config = {}
    schema = mime = None
    schema_name = ""
    for name, value in read(fields_of, raw, "generationConfig").items():
        if not given(value):
            continue
        path = f"generationConfig.{name}"
        match name:
            case "temperature":
                told["temperature"] = read(_float, value, path)
            case "topP":
                told["top_p"] = read(_float, value, path)
            case "topK":
                # A float in the API, whole numbers in effect.
                told["top_k"] = round(read(_float, value, path))
            case "maxOutputTokens":
                told["max_tokens"] = _counted(value, path, 1)
            case "candidateCount":
                told["n"] = _counted(value, path, 1)
            case "stopSequences":
                told["stop"] = tuple(read(_strings, value, path))
            case "seed":
                told["seed"] = read(_int, value, path)
            case "presencePenalty":
                told["presence_penalty"] = read(_float, value, path)
            case "frequencyPenalty":
                told["frequency_penalty"] = read(_float, value, path)
            case "responseLogprobs":
                told["logprobs"] = read(_bool, value, path)
            case "logprobs":
                told["top_logprobs"] = _counted(value, path, 0)
            case "responseModalities":
                told["modalities"] = tuple(each.lower() for each in read(_strings, value, path))
            case "thinkingConfig":
                told["reasoning"] = _reasoning(read(_thinking, value, path))
            case "responseMimeType":
                mime = read(_string, value, path)
            case "responseSchema":
                schema, schema_name = schema or to_json_schema(value, path), name
            case "responseJsonSchema" | "_responseJsonSchema":
                read(fields_of, value, path)
                schema, schema_name = value, name
            case _:
                extras.append(Extra(format=FAMILY, name=path, raw=value))
    if mime == "application/json":
        if schema is None:
            told["response_format"] = ResponseFormat(kind="json_object")
        else:
            told["response_format"] = ResponseFormat(kind="json_schema", schema=schema)
    elif mime is not None and mime != "text/plain":
        # text/x.enum: a bare word of the schema's enum, which no other format can be asked for.
        extras.append(Extra(format=FAMILY, name="generationConfig.responseMimeType", raw=Raw(_encode(mime))))
        if schema is not None:
            extras.append(Extra(format=FAMILY, name="generationConfig.responseJsonSchema", raw=schema))
    elif schema is not None:
        param = "generationConfig.responseMimeType"
        raise BadRequest(
            f"'generationConfig.{schema_name}' needs '{param}' to be application/json.", param=param
        )
    return told


def _counted(raw: Raw, path: str, least: int) -> int:
    number = read(_int, raw, path)
    if number < least:
        raise BadRequest(f"'{path}' must be at least {least}.", param=path)
    return number


def _reasoning(config: ThinkingConfig) -> Reasoning:
    budget = config.thinking_budget
    level = (config.thinking_level or "").upper()
    enabled = None
    if budget is not None:
        enabled = budget != 0
    return Reasoning(
        enabled=enabled,
        effort="none" if budget == 0 else _LEVELS.get(level),
        budget=budget,
        adaptive=budget == -1,
        show=config.include_thoughts,
    )
