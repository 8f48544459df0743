"""A Conversation as a request of ``/v2/chat``.

System and developer turns become one at the front. Every call is followed by its result as a ``tool`` turn. A named
tool is the only one offered, and required. Cohere takes no schema for the answer beside tools: it is named as lost.
"""

from __future__ import annotations

import msgspec
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
from tollway.wire.formats.cohere_chat.shapes import (
    FAMILY,
    Wire,
    decode_fields,
    encode,
    is_plan,
    write_call,
    write_citation,
)

BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
"""Thinking tokens for an effort."""

MOST_STOPS = 5
MOST_K = 500


def write_request(conversation: Conversation, profile: Profile) -> Written:
    lost = turns.Losses()
    fields: Wire = {found.name: found.raw for found in conversation.extra if found.format == FAMILY}
    fields["model"] = profile.model
    writer = _Turns(conversation, profile, lost)
    system, others = turns.without_system(conversation.messages)
    arranged = turns.paired(others)
    if not profile.tools:
        arranged = turns.merged(turns.in_words(arranged))
    content = writer.content(system, "system")
    if content:
        writer.messages.append({"role": "system", "content": content})
    for message in arranged:
        writer.add(message)
    fields["messages"] = writer.messages
    fields["stream"] = conversation.stream
    _tools(conversation, profile, fields, lost)
    _response_format(conversation, profile, fields, lost)
    _thinking(conversation, profile, fields, lost)
    _sampling(conversation, fields, lost)
    turns.unserved(conversation, lost, FAMILY, "min_p", "top_logprobs")
    return Written(body=encode(fields), lost=lost.all())


class _Turns:
    """The turns of one request in the making."""

    __slots__ = ("_conversation", "_lost", "_profile", "messages")

    def __init__(self, conversation: Conversation, profile: Profile, lost: turns.Losses) -> None:
        self._conversation = conversation
        self._profile = profile
        self._lost = lost
        self.messages: list[Wire] = []

    def add(self, message: Message) -> None:
        if message.name:
            self._lost.hint("messages.name")
        if message.role == "assistant":
            self._assistant(message)
            return
        rest: list[Block] = []
        for block in message.blocks:
            if isinstance(block, ToolResult):
                self._result(block)
            else:
                rest.append(block)
        content = self.content(rest, "user")
        if content:
            self.messages.append({"role": "user", "content": content})

    def _assistant(self, message: Message) -> None:
        wire: Wire = {"role": "assistant"}
        content = self.content(message.blocks, "assistant")
        if content:
            wire["content"] = content
        plan = [block.text for block in message.blocks if isinstance(block, Thinking) and is_plan(block)]
        if plan:
            wire["tool_plan"] = "\n".join(plan)
        calls = [block for block in message.blocks if isinstance(block, ToolCall)]
        if calls:
            wire["tool_calls"] = [
                write_call(call, bytes(turns.arguments(call, self._conversation)).decode()) for call in calls
            ]
        citations = self._citations(message.blocks)
        if citations:
            wire["citations"] = citations
        if len(wire) > 1:
            self.messages.append(wire)

    def _citations(self, blocks: tuple[Block, ...]) -> list[Wire | Raw]:
        found: list[Wire | Raw] = []
        for block in blocks:
            if isinstance(block, Text):
                for citation in block.citations:
                    if citation.format == FAMILY:
                        found.append(write_citation(citation, block.text, 0))
                    else:
                        self._lost.hint("messages.citations")
        return found

    def _result(self, block: ToolResult) -> None:
        self._marks(block)
        content: list[Wire | Raw] = []
        for part in block.content:
            if isinstance(part, Document) and part.text is not None:
                document: Wire = {"data": _data(part.text)}
                if part.title:
                    document["id"] = part.title
                content.append({"type": "document", "document": document})
            else:
                content.extend(self.content((part,), "tool"))
        if block.error:
            self._lost.hint("messages.tool_result.error")
        self.messages.append(
            {
                "role": "tool",
                "tool_call_id": block.call_id,
                "content": content or [{"type": "text", "text": "(empty)"}],
            }
        )

    def _marks(self, block: Block) -> None:
        if getattr(block, "cache", None) is not None:
            self._lost.hint("cache_control")
        if not isinstance(block, Thinking) and getattr(block, "signature", None):
            self._lost.hint("messages.signature")

    def content(self, blocks: list[Block] | tuple[Block, ...], role: str) -> list[Wire | Raw]:
        """The content of a turn, without its calls, results and plans."""
        wire: list[Wire | Raw] = []
        for block in blocks:
            self._marks(block)
            if isinstance(block, Text | Refusal):
                if block.text:
                    wire.append({"type": "text", "text": block.text})
            elif isinstance(block, Thinking):
                if block.format != FAMILY or role != "assistant":
                    self._lost.hint("messages.thinking")
                elif not is_plan(block):
                    wire.append({"type": "thinking", "thinking": block.text})
            elif isinstance(block, Opaque):
                if block.format == FAMILY:
                    wire.append(block.raw)
                else:
                    self._lost.meaning(f"messages.{block.kind}")
            elif isinstance(block, Image):
                if role != "user" or block.source.kind == "file" or not self._profile.images:
                    self._lost.meaning("messages.image")
                else:
                    wire.append({"type": "image_url", "image_url": _image(block)})
            elif isinstance(block, Document):
                words = turns.document_words(block)
                if words is None:
                    self._lost.meaning("messages.document")
                else:
                    wire.append({"type": "text", "text": words})
            elif not isinstance(block, ToolCall):
                self._lost.meaning(f"messages.{block.__struct_config__.tag}")
        return wire


def _image(block: Image) -> Wire:
    url = block.source.value
    if block.source.kind == "data":
        media = turns.media_type(block.source.media_type, url) or "image/png"
        url = f"data:{media};base64,{url}"
    wire: Wire = {"url": url}
    if block.detail:
        wire["detail"] = block.detail
    return wire


def _data(text: str) -> Raw | Wire:
    """A document is an object; what is none becomes its ``text``."""
    encoded = text.encode()
    try:
        decode_fields(encoded)
    except (msgspec.DecodeError, RecursionError):
        return {"text": text}
    return Raw(encoded)


def _tools(conversation: Conversation, profile: Profile, fields: Wire, lost: turns.Losses) -> None:
    choice = conversation.tool_choice
    if not conversation.tools:
        return
    if not profile.tools:
        lost.meaning("tools")
        return
    for server in conversation.tools:
        if isinstance(server, ServerTool):
            lost.meaning(f"tools.{server.kind}")
    offered: list[Tool] = []
    for tool in turns.offered(conversation):
        if tool.custom:
            lost.meaning("tools.custom")
            continue
        if tool.cache is not None:
            lost.hint("cache_control")
        offered.append(tool)
    if choice is not None and choice.mode == "named":
        named = [tool for tool in offered if tool.name == choice.name]
        if named:
            offered = named
        else:
            lost.meaning("tool_choice")
    if not offered:
        return
    strict = [bool(tool.strict) for tool in offered]
    if all(strict):
        fields["strict_tools"] = True
    elif any(strict):
        lost.hint("tools.strict")
    fields["tools"] = [_tool(tool) for tool in offered]
    if choice is not None and choice.mode in ("required", "named"):
        fields["tool_choice"] = "REQUIRED"
    elif choice is not None and choice.mode == "none":
        fields["tool_choice"] = "NONE"
    if conversation.parallel_tool_calls is False:
        lost.hint("parallel_tool_calls")


def _tool(tool: Tool) -> Wire:
    function: Wire = {"name": tool.name, "parameters": turns.object_schema(tool)}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _response_format(conversation: Conversation, profile: Profile, fields: Wire, lost: turns.Losses) -> None:
    wanted = conversation.response_format
    if wanted is None:
        return
    if "tools" in fields or "documents" in fields or (wanted.kind == "json_schema" and not profile.schema):
        lost.meaning("response_format")
        return
    fields["response_format"] = {"type": "json_object"}
    if wanted.kind == "json_schema" and given(wanted.schema):
        fields["response_format"]["json_schema"] = wanted.schema


def _thinking(conversation: Conversation, profile: Profile, fields: Wire, lost: turns.Losses) -> None:
    wanted = conversation.reasoning
    if wanted is None:
        return
    off = wanted.enabled is False or wanted.effort == "none"
    if profile.thinking == "none":
        if not off:
            lost.hint("reasoning")
        return
    if off:
        fields["thinking"] = {"type": "disabled"}
        return
    thinking: Wire = {"type": "enabled"}
    budget = wanted.budget
    if budget is None and wanted.effort is not None:
        budget = BUDGETS.get(wanted.effort)
    if budget is not None and budget > 0:
        limit = conversation.max_tokens
        thinking["token_budget"] = budget if limit is None else max(min(budget, limit - 1), 1)
    fields["thinking"] = thinking


def _sampling(conversation: Conversation, fields: Wire, lost: turns.Losses) -> None:
    """The plain numbers, within Cohere's bounds."""
    if conversation.max_tokens is not None:
        fields["max_tokens"] = conversation.max_tokens
    if conversation.temperature is not None:
        fields["temperature"] = conversation.temperature
    if conversation.seed is not None:
        fields["seed"] = conversation.seed
    if conversation.top_p is not None:
        # 1 and 0 mean "all" and "the one" elsewhere; here the bounds stand just inside of them.
        fields["p"] = min(max(conversation.top_p, 0.01), 0.99)
    if conversation.top_k is not None:
        fields["k"] = min(max(conversation.top_k, 0), MOST_K)
        if fields["k"] != conversation.top_k:
            lost.hint("top_k")
    for name in ("frequency_penalty", "presence_penalty"):
        value: float | None = getattr(conversation, name)
        if value is not None:
            fields[name] = min(max(value, 0.0), 1.0)
            if fields[name] != value:
                lost.hint(name)
    if conversation.stop:
        fields["stop_sequences"] = list(conversation.stop[:MOST_STOPS])
        if len(conversation.stop) > MOST_STOPS:
            lost.hint("stop")
    if conversation.logprobs:
        fields["logprobs"] = True
