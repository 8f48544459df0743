"""A Conversation as the body of a Converse request, for the model named by the profile (which goes into the URL).

What the service demands is brought about here: turns alternate and begin with the user's, results follow their calls,
a request with calls in its history names tools, a turn with a document says something. System and developer turns all
move to the front. What cannot be said is named as lost.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire import turns
from tollway.wire.codec import Profile
from tollway.wire.conversation import Conversation, Message, ServerTool, Tool, ToolCall, Written
from tollway.wire.decoding import given
from tollway.wire.formats.bedrock_converse.reasoning import Additional, write_reasoning
from tollway.wire.formats.bedrock_converse.shapes import (
    COMPUTER_BETAS,
    FAMILY,
    METADATA,
    MOST_METADATA,
    TIERS,
    TOOL_NAME,
    UNSAFE_IN_NAME,
    Family,
    Wire,
    decode_fields,
    encode,
    family_of,
)
from tollway.wire.formats.bedrock_converse.write_blocks import BlockWriter

_EMPTY_SCHEMA = Raw(b'{"type":"object","properties":{}}')
_NATIVE_TOOLS = ("computer", "bash", "text_editor")


def write_request(conversation: Conversation, profile: Profile) -> Written:
    lost = turns.Losses()
    family = family_of(profile.model)
    writer = BlockWriter(conversation, family, lost)
    system, others = turns.without_system(conversation.messages)
    arranged = turns.paired(others)
    if not profile.tools:
        arranged = turns.merged(turns.in_words(arranged))
    messages = _messages(arranged, writer, bool(conversation.messages))

    extra = {found.name: found.raw for found in conversation.extra if found.format == FAMILY}
    additional = Additional()
    if "additionalModelRequestFields" in extra:
        additional.fields.update(decode_fields(extra.pop("additionalModelRequestFields")))
    fields: Wire = dict(extra)
    if messages:
        fields["messages"] = messages
    if system:
        blocks = writer.system(system)
        if blocks:
            fields["system"] = blocks
    tools = _tool_config(conversation, profile, family, writer, additional)
    if tools:
        fields["toolConfig"] = tools
    thinking = write_reasoning(conversation, profile, family, arranged, additional, lost)
    inference = _inference(conversation, profile, thinking, lost)
    if inference:
        fields["inferenceConfig"] = inference
    _sampling(conversation, family, thinking, additional, lost)
    output: Wire = {}
    _response_format(conversation, profile, output, lost)
    if additional.effort:
        output["effort"] = additional.effort
    if output:
        fields["outputConfig"] = output
    if additional.fields:
        fields["additionalModelRequestFields"] = additional.fields
    if conversation.stop and family.stop_path and "additionalModelResponseFieldPaths" not in fields:
        # Which sequence ended an answer is the model's own field; asked for, it comes along.
        fields["additionalModelResponseFieldPaths"] = [family.stop_path]
    _the_rest(conversation, fields, lost)
    return Written(body=encode(fields), lost=lost.all())


def _messages(arranged: list[Message], writer: BlockWriter, wanted: bool) -> list[Wire]:
    messages: list[Wire] = []
    for turn in arranged:
        if turn.name:
            writer.lost.hint("messages.name")
        content = writer.content(turn.blocks, turn.role)
        if not content:
            continue
        if turn.role == "user" and _only_documents(content):
            content.append({"text": "See the document."})
        if messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"].extend(content)
        else:
            messages.append({"role": turn.role, "content": content})
    if wanted and (not messages or messages[0]["role"] != "user"):
        messages.insert(0, {"role": "user", "content": [{"text": "."}]})
    if messages and messages[-1]["role"] == "assistant":
        last = messages[-1]["content"][-1]
        if isinstance(last, dict) and "text" in last:
            last["text"] = last["text"].rstrip()  # a prefilled answer must not end in white space
    return messages


def _only_documents(content: list[Wire | Raw]) -> bool:
    """The service wants words beside a document."""
    document = False
    for block in content:
        if not isinstance(block, dict) or "text" in block or "toolResult" in block:
            return False
        document = document or "document" in block
    return document


# ------------------------------------------------------------------ tools


def _tool_config(
    conversation: Conversation, profile: Profile, family: Family, writer: BlockWriter, additional: Additional
) -> Wire | None:
    lost = writer.lost
    choice = conversation.tool_choice
    called = _called(conversation)
    if not profile.tools:
        if conversation.tools:
            lost.meaning("tools")
        return None
    if choice is not None and choice.mode == "none":
        if not called:
            return None  # without tools none can be called
        lost.meaning("tool_choice")
    wire: list[Wire | Raw] = []
    names: set[str] = set()
    for tool in turns.offered(conversation):
        if tool.custom:
            lost.meaning("tools.custom")
            continue
        wire.append(_tool(tool, conversation, profile, lost))
        names.add(tool.name)
        if tool.cache is not None:
            if family.cache_tools:
                wire.append(writer.cache_point(tool.cache))
            else:
                lost.hint("cache_control")
    for server in conversation.tools:
        if isinstance(server, ServerTool):
            _server_tool(server, family, wire, additional, lost)
    if not wire:
        # The service refuses a history with calls when no tool is defined.
        wire = [_tool(Tool(name=name), conversation, profile, lost) for name in called]
        names = set(called)
        if not wire:
            return None
    config: Wire = {"tools": wire}
    if choice is not None:
        if choice.mode == "required":
            config["toolChoice"] = {"any": {}}
        elif choice.mode == "named":
            if choice.name in names:
                config["toolChoice"] = {"tool": {"name": choice.name}}
            else:
                lost.meaning("tool_choice")
    if conversation.parallel_tool_calls is False:
        lost.hint("parallel_tool_calls")
    return config


def _called(conversation: Conversation) -> list[str]:
    names: dict[str, None] = {}
    for message in conversation.messages:
        if message.role == "assistant":
            for block in message.blocks:
                if isinstance(block, ToolCall):
                    names[UNSAFE_IN_NAME.sub("_", block.name)[:64] or "tool"] = None
    return list(names)


def _tool(tool: Tool, conversation: Conversation, profile: Profile, lost: turns.Losses) -> Wire:
    if not TOOL_NAME.fullmatch(tool.name):
        where = f"tools.{conversation.tools.index(tool)}.name"
        raise BadRequest(
            f"Tool name '{tool.name[:80]}' is not accepted by Bedrock. Use 1 to 64 letters, digits, _ and -.",
            param=where,
        )
    spec: Wire = {"name": tool.name, "inputSchema": {"json": _schema(tool)}}
    if tool.description:
        spec["description"] = tool.description
    if tool.strict:
        if profile.schema:
            spec["strict"] = True
        else:
            lost.hint("tools.strict")
    return {"toolSpec": spec}


def _schema(tool: Tool) -> Raw:
    """The schema of a tool's arguments, which must say that it is an object's."""
    if not given(tool.schema):
        return _EMPTY_SCHEMA
    try:
        fields = decode_fields(tool.schema)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(f"The schema of tool '{tool.name}' must be a JSON object.", param="tools") from None
    if "type" in fields:
        return tool.schema
    return Raw(encode({"type": "object", **fields}))


def _server_tool(
    tool: ServerTool, family: Family, wire: list[Wire | Raw], additional: Additional, lost: turns.Losses
) -> None:
    if tool.format == FAMILY:
        wire.append(tool.raw)
    elif tool.kind in family.system_tools:
        wire.append({"systemTool": {"name": family.system_tools[tool.kind]}})
    elif family.native_tools and tool.format == "anthropic" and tool.kind in _NATIVE_TOOLS:
        additional.append("tools", tool.raw)
        version = bytes(decode_fields(tool.raw).get("type", Raw())).decode().strip('"').rpartition("_")[2]
        if version in COMPUTER_BETAS:
            additional.append("anthropic_beta", Raw(encode(COMPUTER_BETAS[version])))
    else:
        lost.meaning(f"tools.{tool.kind}")


# ------------------------------------------------------------------ settings


def _inference(conversation: Conversation, profile: Profile, thinking: bool, lost: turns.Losses) -> Wire:
    wire: Wire = {}
    if conversation.max_tokens is not None:
        wire["maxTokens"] = conversation.max_tokens
    elif thinking and profile.max_output:
        wire["maxTokens"] = profile.max_output
    temperature, top_p = conversation.temperature, conversation.top_p
    if temperature is not None:
        if thinking and temperature != 1:
            lost.hint("temperature")  # thinking models take no other
        else:
            wire["temperature"] = min(temperature, 1.0)
            if temperature > 1:
                lost.hint("temperature")
    if top_p is not None:
        if thinking and top_p < 0.95:
            lost.hint("top_p")
        else:
            wire["topP"] = top_p
    stop = [sequence for sequence in conversation.stop if sequence]
    if stop:
        wire["stopSequences"] = stop
    return wire


def _sampling(
    conversation: Conversation, family: Family, thinking: bool, additional: Additional, lost: turns.Losses
) -> None:
    if conversation.top_k is None:
        return
    if not family.top_k or thinking:
        lost.hint("top_k")
    else:
        additional.put(family.top_k, Raw(encode(conversation.top_k)))


def _response_format(conversation: Conversation, profile: Profile, output: Wire, lost: turns.Losses) -> None:
    wanted = conversation.response_format
    if wanted is None:
        return
    if wanted.kind != "json_schema" or not profile.schema or not given(wanted.schema):
        lost.meaning("response_format")
        return
    schema: Wire = {"schema": bytes(wanted.schema).decode(), "name": wanted.name}
    if wanted.description:
        schema["description"] = wanted.description
    output["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": schema}}


def _the_rest(conversation: Conversation, fields: Wire, lost: turns.Losses) -> None:
    tier = conversation.service_tier
    if tier in TIERS:
        fields["serviceTier"] = {"type": tier}
    elif tier not in (None, "auto"):
        lost.hint("service_tier")
    metadata = conversation.metadata
    if metadata:
        fits = len(metadata) <= MOST_METADATA and all(
            key and METADATA.fullmatch(key) and METADATA.fullmatch(value) for key, value in metadata.items()
        )
        if fits:
            fields["requestMetadata"] = metadata
        else:
            lost.hint("metadata")
    if conversation.n > 1:
        lost.meaning("n")
    if any(modality != "text" for modality in conversation.modalities):
        lost.meaning("modalities")
    if conversation.previous_response_id:
        lost.meaning("previous_response_id")
    turns.unsaid(
        conversation,
        lost,
        "min_p",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "logprobs",
        "top_logprobs",
        "audio",
        "prediction",
        "verbosity",
        "user",
        "safety_identifier",
        "prompt_cache_key",
    )
    if conversation.store:
        lost.hint("store")
    for found in conversation.extra:
        if found.format != FAMILY:
            lost.weigh(found.name, found.weight)
