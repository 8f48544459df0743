"""A Conversation as a request of ``/api/chat``.

A turn is one text with images and calls: its text blocks are joined by a line end. Results become ``tool`` turns of
their own, named by tool and id, in the order they were given. Nothing is fetched: an image has to come as data.
"""

from __future__ import annotations

from msgspec import Raw

from tollway.wire import turns
from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Block,
    Conversation,
    Document,
    Image,
    Message,
    Opaque,
    Refusal,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Written,
)
from tollway.wire.decoding import given
from tollway.wire.formats.ollama_chat.shapes import FAMILY, Wire, decode_fields, encode

_EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


def write_request(conversation: Conversation, profile: Profile) -> Written:
    lost = turns.Losses()
    writer = _Turns(conversation, profile, lost)
    for message in conversation.messages:
        writer.add(message)
    extra = {found.name: found.raw for found in conversation.extra if found.format == FAMILY}
    options = _options(conversation, extra)
    fields: Wire = {
        **extra,
        "model": profile.model,
        "messages": writer.messages,
        "stream": conversation.stream,
    }
    tools = _tools(conversation, profile, lost)
    if tools:
        fields["tools"] = tools
    if options:
        fields["options"] = options
    _response_format(conversation, profile, fields, lost)
    _think(conversation, profile, fields, lost)
    if conversation.logprobs:
        fields["logprobs"] = True
    if conversation.top_logprobs is not None:
        fields["top_logprobs"] = conversation.top_logprobs
    turns.unserved(conversation, lost, FAMILY)
    return Written(body=encode(fields), lost=lost.all())


class _Turns:
    """The turns of one request in the making."""

    __slots__ = ("_conversation", "_lost", "_names", "_profile", "messages")

    def __init__(self, conversation: Conversation, profile: Profile, lost: turns.Losses) -> None:
        self._conversation = conversation
        self._profile = profile
        self._lost = lost
        self._names = turns.tool_names(conversation.messages)
        self.messages: list[Wire] = []

    def add(self, message: Message) -> None:
        role = "system" if message.role == "developer" else message.role
        if message.name:
            self._lost.hint("messages.name")
        text: list[str] = []
        images: list[str] = []
        calls: list[Wire] = []
        thoughts: list[str] = []
        for block in message.blocks:
            if isinstance(block, ToolResult):
                # What was said before the result stays before it.
                self._flush(role, text, images)
                self._result(block)
            elif isinstance(block, ToolCall):
                calls.append(self._call(block))
            elif isinstance(block, Thinking):
                if block.format == FAMILY and not block.redacted:
                    thoughts.append(block.text)
                else:
                    self._lost.hint("messages.thinking")
            else:
                self._say(block, text, images)
            if getattr(block, "cache", None) is not None:
                self._lost.hint("cache_control")
        if role != "assistant":
            self._flush(role, text, images)
            return
        if not (text or calls or thoughts or images):
            return
        wire: Wire = {"role": role, "content": "\n".join(text)}
        if thoughts:
            wire["thinking"] = "\n".join(thoughts)
        if images:
            wire["images"] = images
        if calls:
            wire["tool_calls"] = calls
        self.messages.append(wire)

    def _flush(self, role: str, text: list[str], images: list[str]) -> None:
        if not text and not images:
            return
        wire: Wire = {"role": role, "content": "\n".join(text)}
        if images:
            wire["images"] = list(images)
        self.messages.append(wire)
        text.clear()
        images.clear()

    def _say(self, block: Block, text: list[str], images: list[str]) -> None:
        if isinstance(block, Text):
            if block.signature:
                self._lost.hint("messages.signature")
            if block.citations:
                self._lost.hint("messages.citations")
            if block.text:
                text.append(block.text)
        elif isinstance(block, Refusal):
            text.append(block.text)
        elif isinstance(block, Image):
            if block.source.kind == "data" and self._profile.images:
                images.append(block.source.value)
                if block.detail not in (None, "auto"):
                    self._lost.hint("messages.image.detail")
            else:
                self._lost.meaning("messages.image")
        elif isinstance(block, Document):
            words = turns.document_words(block)
            if words is None:
                self._lost.meaning("messages.document")
            else:
                text.append(words)
        elif isinstance(block, Opaque):
            self._lost.meaning(f"messages.{block.kind}")
        else:
            self._lost.meaning(f"messages.{block.__struct_config__.tag}")

    def _call(self, block: ToolCall) -> Wire:
        if block.signature:
            self._lost.hint("messages.signature")
        arguments = turns.arguments(block, self._conversation)
        return {"id": block.id, "function": {"name": block.name, "arguments": arguments}}

    def _result(self, block: ToolResult) -> None:
        text: list[str] = []
        images: list[str] = []
        for part in block.content:
            self._say(part, text, images)
        if block.error:
            self._lost.hint("messages.tool_result.error")
        wire: Wire = {"role": "tool", "content": "\n".join(text), "tool_call_id": block.call_id}
        name = block.name or self._names.get(block.call_id)
        if name:
            wire["tool_name"] = name
        if images:
            wire["images"] = images
        self.messages.append(wire)


def _tools(conversation: Conversation, profile: Profile, lost: turns.Losses) -> list[Wire]:
    choice = conversation.tool_choice
    if not conversation.tools:
        return []
    if choice is not None and choice.mode == "none":
        return []  # a model that is told of no tools calls none
    if not profile.tools:
        lost.meaning("tools")
        return []
    if choice is not None and choice.mode in ("required", "named"):
        lost.meaning("tool_choice")
    if conversation.parallel_tool_calls is False:
        lost.hint("parallel_tool_calls")
    for tool in conversation.tools:
        if isinstance(tool, ServerTool) and tool.format != FAMILY:
            lost.meaning(f"tools.{tool.kind}")
    wire: list[Wire] = []
    for own in turns.offered(conversation):
        if own.custom:
            lost.meaning("tools.custom")
            continue
        if own.cache is not None:
            lost.hint("cache_control")
        if own.strict:
            lost.hint("tools.strict")
        wire.append(_tool(own))
    return wire


def _tool(tool: Tool) -> Wire:
    function: Wire = {"name": tool.name, "description": tool.description or ""}
    function["parameters"] = turns.object_schema(tool)
    return {"type": "function", "function": function}


def _options(conversation: Conversation, extra: dict[str, Raw]) -> Wire:
    options: Wire = {}
    if "options" in extra:
        options.update(decode_fields(extra.pop("options")))
    for name, value in (
        ("num_predict", conversation.max_tokens),
        ("temperature", conversation.temperature),
        ("top_p", conversation.top_p),
        ("top_k", conversation.top_k),
        ("min_p", conversation.min_p),
        ("seed", conversation.seed),
        ("frequency_penalty", conversation.frequency_penalty),
        ("presence_penalty", conversation.presence_penalty),
        ("stop", list(conversation.stop) or None),
    ):
        if value is not None:
            options[name] = value
    return options


def _response_format(conversation: Conversation, profile: Profile, fields: Wire, lost: turns.Losses) -> None:
    wanted = conversation.response_format
    if wanted is None:
        return
    if wanted.kind == "json_object":
        fields["format"] = "json"
    elif profile.schema and given(wanted.schema):
        fields["format"] = wanted.schema
    else:
        lost.meaning("response_format")


def _think(conversation: Conversation, profile: Profile, fields: Wire, lost: turns.Losses) -> None:
    """A level for models with levels, else yes or no; a model that cannot think refuses to be asked."""
    wanted = conversation.reasoning
    if wanted is None:
        return
    off = wanted.enabled is False or wanted.effort == "none"
    if profile.thinking == "none":
        if not off:
            lost.hint("reasoning")
        return
    if off:
        fields["think"] = False
        return
    if not (wanted.enabled or wanted.effort or wanted.budget or wanted.adaptive):
        return
    leveled = profile.thinking == "effort" or conversation.format == FAMILY
    if wanted.effort in _EFFORTS and leveled:
        fields["think"] = _EFFORTS[wanted.effort]
        return
    fields["think"] = True
    if wanted.effort or wanted.budget is not None:
        lost.hint("reasoning.effort" if wanted.effort else "reasoning.budget")
