"""Repairs of a conversation's turns that several providers demand: alternation, results right behind their calls.

Pure functions on hub values. Which of them a format needs is the format's business; none of them drops anything.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw, structs

from tollway.errors import BadRequest
from tollway.wire.conversation import (
    Block,
    Conversation,
    Document,
    Loss,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Weight,
)
from tollway.wire.decoding import given

_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

NO_RESULT = "No result of this tool call was given."
"""Said to the model in place of a result the client left out, where a provider refuses a call without one."""


_HEAVIER: dict[Weight, int] = {"aside": 0, "hint": 1, "meaning": 2}


class Losses:
    """What a writer could not carry, each field once; the heavier weight wins."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, Weight] = {}

    def weigh(self, field: str, weight: Weight) -> None:
        known = self._found.get(field)
        if known is None or _HEAVIER[weight] > _HEAVIER[known]:
            self._found[field] = weight

    def hint(self, field: str) -> None:
        self.weigh(field, "hint")

    def meaning(self, field: str) -> None:
        self._found[field] = "meaning"

    def all(self) -> tuple[Loss, ...]:
        return tuple(Loss(field, weight) for field, weight in self._found.items())


def without_system(messages: Sequence[Message]) -> tuple[list[Block], list[Message]]:
    """The blocks of every system and developer turn, in order, and the other turns."""
    system: list[Block] = []
    others: list[Message] = []
    for message in messages:
        if message.role in ("system", "developer"):
            system.extend(message.blocks)
        else:
            others.append(message)
    return system, others


def merged(messages: Iterable[Message]) -> list[Message]:
    """Consecutive turns of one role as one turn; turns without blocks vanish."""
    turns: list[Message] = []
    for message in messages:
        if not message.blocks:
            continue
        if turns and turns[-1].role == message.role:
            turns[-1] = structs.replace(turns[-1], blocks=turns[-1].blocks + message.blocks)
        else:
            turns.append(message)
    return turns


def paired(messages: Iterable[Message]) -> list[Message]:
    """Alternating turns in which every turn with tool calls is followed by exactly their results, in their order.

    A call nobody answered gets an error result that says so; a result nobody asked for becomes text, so that the
    model still reads it. Both are refused by providers that check.
    """
    turns = merged(messages)
    arranged: list[Message] = []
    calls: list[ToolCall] = []
    for turn in turns:
        if turn.role == "assistant":
            if calls:
                arranged.append(Message(role="user", blocks=tuple(_unanswered(call) for call in calls)))
            arranged.append(turn)
            calls = [block for block in turn.blocks if isinstance(block, ToolCall)]
            continue
        if not calls and not any(isinstance(block, ToolResult) for block in turn.blocks):
            arranged.append(turn)
            continue
        results: dict[str, ToolResult] = {}
        wanted = {call.id for call in calls}
        others: list[Block] = []
        for block in turn.blocks:
            if not isinstance(block, ToolResult):
                others.append(block)
            elif block.call_id in wanted and block.call_id not in results:
                results[block.call_id] = block
            else:
                others.extend(as_text(block))
        first: list[Block] = [results.get(call.id) or _unanswered(call) for call in calls]
        arranged.append(structs.replace(turn, blocks=tuple(first + others)))
        calls = []
    if calls:
        arranged.append(Message(role="user", blocks=tuple(_unanswered(call) for call in calls)))
    return arranged


def _unanswered(call: ToolCall) -> ToolResult:
    return ToolResult(call_id=call.id, name=call.name, content=(Text(text=NO_RESULT),), error=True)


def as_text(block: ToolCall | ToolResult) -> list[Block]:
    """A tool call or result told in words, for places where the real thing is refused."""
    if isinstance(block, ToolCall):
        return [Text(text=f"[called tool {block.name} with {block.arguments or '{}'}]", cache=block.cache)]
    head = f"[result of tool {block.name or block.call_id}]"
    return [Text(text=head), *block.content]


def tool_names(messages: Iterable[Message]) -> dict[str, str]:
    """Names of called tools by call id: results often do not repeat them."""
    return {
        block.id: block.name
        for message in messages
        if message.role == "assistant"
        for block in message.blocks
        if isinstance(block, ToolCall)
    }


def offered(conversation: Conversation) -> tuple[Tool, ...]:
    """The caller's own tools that the model may use: narrowed to what ``tool_choice`` allows."""
    choice = conversation.tool_choice
    allowed = set(choice.allowed) if choice is not None else set()
    return tuple(
        tool
        for tool in conversation.tools
        if isinstance(tool, Tool) and (not allowed or tool.name in allowed)
    )


def arguments(call: ToolCall, conversation: Conversation) -> Raw:
    """A call's arguments as a JSON object; none become ``{}``, free text ``{"input": text}``.

    Raises BadRequest, naming the turn, where the text is no JSON object.
    """
    if call.custom:
        return Raw(_encode({"input": call.arguments}))
    text = call.arguments
    if not text or text == "{}" or not text.strip():
        return Raw(b"{}")
    encoded = text.encode()
    try:
        _decode_object(encoded)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(
            f"The arguments of tool call '{call.id}' ({call.name}) in {place(call, conversation)} are not a JSON "
            "object. Send what the model wrote as its arguments, or {}.",
            param=place(call, conversation),
        ) from None
    return Raw(encoded)


def place(block: Block, conversation: Conversation) -> str:
    """Where a block stands, as a dotted path in the hub's conversation."""
    for number, message in enumerate(conversation.messages):
        for index, found in enumerate(message.blocks):
            if found is block:
                return f"messages.{number}.blocks.{index}"
    return "messages"


_UNSAFE_ID = re.compile(r"[^a-zA-Z0-9_-]")


def safe_id(call_id: str, limit: int = 64, unsafe: re.Pattern[str] = _UNSAFE_ID) -> str:
    """A tool call's id in a restricted charset and length. The same id always gives the same, two ids never one:
    where anything has to change, a digest of the whole is put behind."""
    if len(call_id) <= limit and not unsafe.search(call_id):
        return call_id
    digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{unsafe.sub('_', call_id)[: limit - 17]}-{digest}"


_MEDIA_BY_START = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi0", "application/pdf"),
)


def media_type(said: str | None, data: str) -> str | None:
    """A media type without parameters; where nobody said one, what the first bytes of ``data`` (base64) show."""
    if said:
        return said.partition(";")[0].strip().lower()
    for start, found in _MEDIA_BY_START:
        if data.startswith(start):
            return found
    return None


def in_words(messages: Iterable[Message]) -> list[Message]:
    """The same turns with tool calls and results told in words, for models that take no tools."""
    told: list[Message] = []
    for message in messages:
        blocks: list[Block] = []
        for block in message.blocks:
            blocks.extend(as_text(block) if isinstance(block, ToolCall | ToolResult) else (block,))
        told.append(structs.replace(message, blocks=tuple(blocks)))
    return told


_UNSAID = Conversation(model="")


def unsaid(conversation: Conversation, lost: Losses, *fields: str) -> None:
    """Names as lost hints the fields the client set and the format has no place for."""
    for field in fields:
        value = getattr(conversation, field)
        if value != getattr(_UNSAID, field) and not (isinstance(value, Raw) and not given(value)):
            lost.hint(field)


def document_words(document: Document) -> str | None:
    """The text of a document under its title; None where it is not text."""
    text = document.text
    source = document.source
    if text is None and source is not None and source.kind == "data":
        media = (source.media_type or "").partition(";")[0]
        if not media.startswith("text/") and media not in ("application/json", "application/xml"):
            return None
        try:
            text = base64.b64decode(source.value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
    if text is None:
        return None
    return "\n".join(part for part in (document.title, document.context, text) if part)


def unserved(conversation: Conversation, lost: Losses, family: str, *fields: str) -> None:
    """Names as lost what plain chat formats have no place for: several answers, other media, kept state, what was asked
    of another format, and ``fields``."""
    if conversation.n > 1:
        lost.meaning("n")
    if any(modality != "text" for modality in conversation.modalities):
        lost.meaning("modalities")
    if conversation.previous_response_id:
        lost.meaning("previous_response_id")
    if conversation.store:
        lost.hint("store")
    if conversation.service_tier not in (None, "auto", "default"):
        lost.hint("service_tier")
    unsaid(
        conversation, lost, *fields, "audio", "prediction", "verbosity", "metadata", "user", "safety_identifier",
        "prompt_cache_key",
    )  # fmt: skip
    for found in conversation.extra:
        if found.format != family:
            lost.weigh(found.name, found.weight)


def object_schema(tool: Tool) -> Raw:
    """A tool's parameters, with the type that some send without. Raises BadRequest."""
    schema = tool.schema if given(tool.schema) else Tool(name="").schema
    try:
        parameters = msgspec.json.decode(schema, type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(f"The schema of tool '{tool.name}' must be a JSON object.", param="tools") from None
    return schema if "type" in parameters else Raw(msgspec.json.encode({"type": "object", **parameters}))
