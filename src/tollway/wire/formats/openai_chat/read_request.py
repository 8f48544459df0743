"""A client's Chat Completions request into the hub. Reads the older ``functions`` and the de-facto fields too."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire import body as bodies
from tollway.wire.conversation import (
    Conversation,
    Extra,
    Reasoning,
    ResponseFormat,
    ServerTool,
    Tool,
    ToolChoice,
)
from tollway.wire.decoding import decode, given
from tollway.wire.formats.openai_chat.parts import missing, read_cache
from tollway.wire.formats.openai_chat.read_turns import read_turns
from tollway.wire.formats.openai_chat.shapes import (
    FAMILY,
    KNOWN,
    SERVER_TOOLS,
    Choosing,
    Format,
    Function,
    Request,
    ToolEntry,
    decode_fields,
    decode_string,
    encode,
)

_request_decoder = msgspec.json.Decoder(Request)
_tool_decoder = msgspec.json.Decoder(ToolEntry)

NO_ARGUMENTS = Raw(b'{"type":"object","properties":{}}')


def read_request(body: bytes) -> Conversation:
    """Raises InvalidJson, or BadRequest with the path of what is wrong."""
    fields = bodies.parse(body)
    if not given(fields.get("model", Raw())):
        raise BadRequest("'model' is missing. Name the model to use.", param="model")
    if not given(fields.get("messages", Raw())):
        raise BadRequest("'messages' is missing. Send at least one message.", param="messages")
    request = decode(_request_decoder, body, "")
    if not request.model:
        raise BadRequest("'model' is empty. Name the model to use.", param="model")
    if not request.messages:
        raise BadRequest("'messages' is empty. Send at least one message.", param="messages")
    if request.n is not None and request.n < 1:
        raise BadRequest("'n' must be at least 1.", param="n")
    limit = request.max_completion_tokens
    limit_name = "max_completion_tokens"
    if limit is None:
        limit, limit_name = request.max_tokens, "max_tokens"
    if limit is not None and limit < 0:
        raise BadRequest(f"'{limit_name}' must not be negative.", param=limit_name)
    stop = request.stop
    return Conversation(
        model=request.model,
        messages=read_turns(request.messages, fields["messages"]),
        tools=_tools(request),
        tool_choice=_tool_choice(request),
        parallel_tool_calls=request.parallel_tool_calls,
        response_format=_response_format(request.response_format),
        reasoning=_reasoning(request),
        max_tokens=limit,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        stop=() if not stop else (stop,) if isinstance(stop, str) else tuple(stop),
        seed=request.seed,
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs,
        n=request.n or 1,
        modalities=tuple(request.modalities or ()),
        audio=_object(request.audio, "audio"),
        prediction=_object(request.prediction, "prediction"),
        verbosity=request.verbosity,
        service_tier=request.service_tier,
        metadata=_metadata(request.metadata) if request.metadata else {},
        user=request.user,
        safety_identifier=request.safety_identifier,
        prompt_cache_key=request.prompt_cache_key,
        store=request.store,
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
        functions=request.tools is None and bool(request.functions),
        format=FAMILY,
        extra=_extra(fields),
    )


def _extra(fields: dict[str, Raw]) -> tuple[Extra, ...]:
    extra = [
        Extra(format=FAMILY, name=name, raw=raw)
        for name, raw in fields.items()
        if name not in KNOWN and given(raw)
    ]
    options = fields.get("stream_options")
    if options is not None and given(options):
        more = decode_fields(options)
        more.pop("include_usage", None)
        if more:
            extra.append(Extra(format=FAMILY, name="stream_options", raw=Raw(encode(more))))
    return tuple(extra)


def _object(raw: Raw, name: str) -> Raw:
    """A field that is carried as it came: empty where it was not given. Raises BadRequest unless it is an object."""
    if not given(raw):
        return Raw()
    if bytes(raw).lstrip()[:1] != b"{":
        raise BadRequest(f"'{name}' must be an object, not {bodies.kind(raw)}.", param=name)
    return raw


def _metadata(values: dict[str, Raw]) -> dict[str, str]:
    """Values are strings by the book; what clients put there besides is kept as its JSON."""
    found = {}
    for name, raw in values.items():
        text = bytes(raw)
        found[name] = decode_string(text) if text[:1] == b'"' else text.decode()
    return found


# ------------------------------------------------------------------ tools


def _tools(request: Request) -> tuple[Tool | ServerTool, ...]:
    tools: list[Tool | ServerTool] = []
    for number, raw in enumerate(request.tools or ()):
        path = f"tools.{number}"
        entry = decode(_tool_decoder, raw, path)
        if entry.function is not None:
            tool = _function(entry.function, f"{path}.function")
            if given(entry.cache_control):
                cache = read_cache(entry.cache_control, f"{path}.cache_control")
                tool = msgspec.structs.replace(tool, cache=cache)
            tools.append(tool)
        elif entry.type == "function":
            raise missing(f"{path}.function")
        elif entry.custom is not None:
            custom = entry.custom
            tools.append(
                Tool(
                    name=_name(custom.name, f"{path}.custom.name"),
                    description=custom.description,
                    schema=Raw(),
                    custom=True,
                    grammar=custom.format if given(custom.format) else Raw(),
                )
            )
        elif entry.type == "custom":
            raise missing(f"{path}.custom")
        else:
            tools.append(_server_tool(entry, raw, path))
    if request.tools is None:
        for number, function in enumerate(request.functions or ()):
            tools.append(_function(function, f"functions.{number}"))
    search = _object(request.web_search_options, "web_search_options")
    if bytes(search):
        tools.append(ServerTool(kind="web_search", name="web_search", format=FAMILY, raw=search))
    return tuple(tools)


def _function(function: Function, path: str) -> Tool:
    schema = function.parameters
    if not given(schema):
        schema = NO_ARGUMENTS
    elif bytes(schema).lstrip()[:1] != b"{":
        raise BadRequest(
            f"'{path}.parameters' must be a JSON Schema object, not {bodies.kind(schema)}.",
            param=f"{path}.parameters",
        )
    return Tool(
        name=_name(function.name, f"{path}.name"),
        description=function.description,
        schema=schema,
        strict=function.strict,
    )


def _name(name: str, path: str) -> str:
    if not name:
        raise BadRequest(f"'{path}' is empty. A tool needs a name.", param=path)
    return name


def _server_tool(entry: ToolEntry, raw: Raw, path: str) -> ServerTool:
    """A tool the provider runs: by its type, or (Gemini's way) by the only key of its object."""
    said = entry.type
    if said is None:
        keys = list(decode_fields(raw))
        if len(keys) != 1:
            raise missing(f"{path}.type")
        said = keys[0]
    kind = next((kind for start, kind in SERVER_TOOLS if said.startswith(start)), said)
    # A type with a date behind it is Anthropic's way to version its tools.
    dated = said[-9:-8] == "_" and said[-8:].isdigit()
    return ServerTool(kind=kind, name=entry.name, format="anthropic" if dated else FAMILY, raw=raw)


def _tool_choice(request: Request) -> ToolChoice | None:
    chosen, path = request.tool_choice, "tool_choice"
    if chosen is None:
        chosen, path = request.function_call, "function_call"
    if chosen is None:
        return None
    if isinstance(chosen, str):
        if chosen in ("auto", "none"):
            return ToolChoice(mode="auto" if chosen == "auto" else "none")
        if chosen in ("required", "any"):  # any: Mistral's word
            return ToolChoice(mode="required")
        raise BadRequest(f"'{path}' must be none, auto, required or an object that names a tool.", param=path)
    return _chosen(chosen, path)


def _chosen(chosen: Choosing, path: str) -> ToolChoice:
    if chosen.allowed_tools is not None:
        allowed = chosen.allowed_tools
        names = []
        for number, tool in enumerate(allowed.tools):
            named = tool.function or tool.custom
            if named is None:
                raise missing(f"{path}.allowed_tools.tools.{number}.function")
            names.append(named.name)
        return ToolChoice(mode="required" if allowed.mode == "required" else "auto", allowed=tuple(names))
    named = chosen.function or chosen.custom
    name = named.name if named is not None else chosen.name
    if name:
        return ToolChoice(mode="named", name=name)
    if chosen.type in ("auto", "none", "required"):
        mode = chosen.type
        return ToolChoice(mode="auto" if mode == "auto" else "none" if mode == "none" else "required")
    raise missing(f"{path}.function.name" if path == "tool_choice" else f"{path}.name")


# ------------------------------------------------------------------ how to answer


def _response_format(wanted: Format | None) -> ResponseFormat | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        # De facto (Together, llama.cpp): a schema beside json_object.
        if given(wanted.schema):
            return ResponseFormat(kind="json_schema", schema=wanted.schema)
        return ResponseFormat(kind="json_object")
    if wanted.type != "json_schema":
        raise BadRequest(
            "'response_format.type' must be text, json_object or json_schema.", param="response_format.type"
        )
    shape = wanted.json_schema
    if shape is None:
        raise missing("response_format.json_schema")
    if given(shape.schema) and bytes(shape.schema).lstrip()[:1] != b"{":
        raise BadRequest(
            "'response_format.json_schema.schema' must be a JSON Schema object, "
            f"not {bodies.kind(shape.schema)}.",
            param="response_format.json_schema.schema",
        )
    return ResponseFormat(
        kind="json_schema",
        name=shape.name or "response",
        description=shape.description,
        schema=shape.schema if given(shape.schema) else Raw(),
        strict=shape.strict,
    )


def _reasoning(request: Request) -> Reasoning | None:
    """``reasoning_effort``, or what other servers call it. The documented field wins."""
    effort = request.reasoning_effort
    told = request.reasoning
    thinking = request.thinking
    if effort is None and told is None and thinking is None:
        return None
    enabled = budget = show = summary = None
    adaptive = False
    if told is not None:
        effort = effort or told.effort
        budget, enabled, summary = told.max_tokens, told.enabled, told.summary
        show = None if told.exclude is None else not told.exclude
    if thinking is not None:
        if thinking.type not in ("enabled", "disabled", "adaptive", "auto"):
            raise BadRequest("'thinking.type' must be enabled, disabled or adaptive.", param="thinking.type")
        enabled = thinking.type != "disabled"
        budget = thinking.budget_tokens if thinking.budget_tokens is not None else budget
        adaptive = thinking.type in ("adaptive", "auto")
    if effort == "none":
        enabled = False
    return Reasoning(
        enabled=enabled, effort=effort, budget=budget, adaptive=adaptive, show=show, summary=summary
    )
