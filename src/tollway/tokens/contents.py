"""What of a conversation is counted: its texts for the tokenizer, and tokens known without one.

Walks the hub once, without tokenizing, copying or decoding anything large: what it leaves for later is done by
``tokens_in`` wherever the tokenizer runs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from math import ceil

import msgspec
from msgspec import Raw, Struct

from tollway.tokens.family import Family, estimate
from tollway.tokens.images import image_size, image_tokens
from tollway.tokens.vocabulary import pieces
from tollway.wire.conversation import (
    Audio,
    Block,
    Conversation,
    Document,
    Image,
    Opaque,
    Refusal,
    ServerTool,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Video,
)

# Media whose length the request does not say. Compressed speech is 16 kB a second, video 250 kB, a page of a PDF 50 kB.
_AUDIO_RATE, _VIDEO_RATE, _PAGE_BYTES = 16_000, 250_000, 50_000
_UNSEEN_SECONDS, _UNSEEN_PAGES = 60, 5
_SAMPLE, _SAMPLES = 4_096, 16
# OpenAI's cookbook: for the list of properties, a property, an enumeration and each of its items.
_LIST, _PROPERTY, _ENUM, _ITEM = 3, 3, -3, 3


class Contents(Struct, kw_only=True):
    """``texts`` and ``json`` go through the tokenizer, ``outlines`` are tools that are rewritten first; ``bytes`` is
    the size of all three. ``fixed`` are tokens besides; ``certain`` says that they follow a documented rule."""

    texts: list[str] = []
    json: list[Raw] = []
    outlines: list[Tool] = []
    bytes: int = 0
    fixed: int = 0
    certain: bool = True

    def add(self, text: str | None) -> None:
        if text:
            self.texts.append(text)
            self.bytes += text_size(text)

    def add_json(self, raw: Raw) -> None:
        size = len(memoryview(raw))
        if size:
            self.json.append(raw)
            self.bytes += size


def text_size(text: str) -> int:
    """Bytes of a text in UTF-8: exact for ASCII and for short texts, from samples for long ones, since the size alone
    must not cost what counting costs."""
    if text.isascii():
        return len(text)
    if len(text) <= _SAMPLE * _SAMPLES:
        return len(text.encode("utf-8", "surrogatepass"))
    step = len(text) // _SAMPLES
    samples = "".join(text[start : start + _SAMPLE] for start in range(0, step * _SAMPLES, step))
    return ceil(len(samples.encode("utf-8", "surrogatepass")) * len(text) / len(samples))


def of_text(text: str) -> Contents:
    """One text, nothing around it."""
    contents = Contents()
    contents.add(text)
    return contents


def of_conversation(conversation: Conversation, family: Family) -> Contents:
    """System prompt, turns, tools, answer format: everything a model reads before it answers."""
    contents = Contents(fixed=family.priming, certain=family.documented)
    for message in conversation.messages:
        results = sum(isinstance(block, ToolResult) for block in message.blocks)
        # A tool's result is a message of its own in most formats, whatever else the turn holds.
        contents.fixed += family.message * max(results + (results < len(message.blocks)), 1)
        if message.name:
            contents.fixed += family.named
            contents.add(message.name)
        for block in message.blocks:
            _add_block(contents, block, family)
    if conversation.tools:
        contents.certain = False
        contents.fixed += family.tools
        for tool in conversation.tools:
            _add_tool(contents, tool, family)
    if conversation.response_format is not None:
        contents.certain = False
        contents.add_json(conversation.response_format.schema)
    return contents


def _add_tool(contents: Contents, tool: Tool | ServerTool, family: Family) -> None:
    contents.fixed += family.tool
    if isinstance(tool, ServerTool):
        contents.add_json(tool.raw)
    elif family.schema == "outline" and not tool.custom:
        contents.outlines.append(tool)
        contents.bytes += (
            text_size(tool.name) + text_size(tool.description or "") + len(memoryview(tool.schema))
        )
    else:
        contents.add(tool.name)
        contents.add(tool.description)
        contents.add_json(tool.grammar if tool.custom else tool.schema)


def _add_block(contents: Contents, block: Block, family: Family) -> None:
    match block:
        case Text() | Refusal():
            contents.add(block.text)
            return
        case Image():
            size = image_size(block.source.value) if block.source.kind == "data" else None
            contents.fixed += image_tokens(family.image, size, block.detail)
        case Audio():
            contents.fixed += family.audio * _seconds(block.source, _AUDIO_RATE)
            contents.add(block.transcript)
        case Video():
            contents.fixed += family.video * _seconds(block.source, _VIDEO_RATE)
        case Document():
            _add_document(contents, block, family)
        case ToolCall():
            contents.fixed += family.call
            contents.add(block.name)
            contents.add(block.arguments)
        case ToolResult():
            for inner in block.content:
                _add_block(contents, inner, family)
        case Thinking():
            contents.add(block.text)
            contents.add(block.redacted)
        case Opaque():
            contents.add_json(block.raw)
    contents.certain = False


def _add_document(contents: Contents, document: Document, family: Family) -> None:
    for text in (document.title, document.context, document.text):
        contents.add(text)
    source = document.source
    if source is None:
        return
    if source.kind != "data":
        contents.fixed += family.page * _UNSEEN_PAGES
    elif (source.media_type or "").startswith("text/"):
        contents.fixed += estimate(_decoded(source), family)
    else:
        contents.fixed += family.page * max(round(_decoded(source) / _PAGE_BYTES), 1)


def _decoded(source: Source) -> int:
    return len(source.value) * 3 // 4


def _seconds(source: Source, rate: int) -> int:
    if source.kind != "data":
        return _UNSEEN_SECONDS
    return max(ceil(_decoded(source) / (_wav_rate(source) or rate)), 1)


def _wav_rate(source: Source) -> int:
    """Bytes a second as the header of a WAV file says; 0 for anything else."""
    try:
        head = base64.b64decode(source.value[:64])
    except (binascii.Error, ValueError):
        return 0
    return int.from_bytes(head[28:32], "little") if head[:4] == b"RIFF" and head[8:12] == b"WAVE" else 0


# ------------------------------------------------------------------ where the tokenizer runs


class GivenUp(Exception):
    """Nobody waits for the count any more."""


def tokens_in(
    contents: Contents, count: Callable[[str], int], wanted: Callable[[], bool]
) -> tuple[int, bool]:
    """Tokens of everything that is text, and whether that is certain to the token; ``fixed`` is not in it.

    ``count`` gets at most ``PIECE`` characters at a time; GivenUp is raised between two pieces once ``wanted`` is
    false.
    """
    total, certain = 0, True
    for text, besides in _texts(contents):
        total += besides
        for piece, clean in pieces(text):
            if not wanted():
                raise GivenUp
            total += count(piece)
            certain = certain and clean
    return total, certain


def _texts(contents: Contents) -> Iterator[tuple[str, int]]:
    """Every text, with tokens that go along with it."""
    for text in contents.texts:
        yield text, 0
    for raw in contents.json:
        yield str(memoryview(raw), "utf-8", "replace"), 0
    for tool in contents.outlines:
        yield from _outline(tool)


def _outline(tool: Tool) -> Iterator[tuple[str, int]]:
    """A tool as OpenAI's cookbook counts it: lines of text, each with tokens besides. Properties of properties, which
    it does not speak of, count the same."""
    yield f"{tool.name}:{(tool.description or '').removesuffix('.')}", 0
    try:
        waiting: list[object] = [msgspec.json.decode(tool.schema)]
    except (msgspec.DecodeError, RecursionError):
        yield str(memoryview(tool.schema), "utf-8", "replace"), 0
        return
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, list):
            waiting.extend(schema)
        if not isinstance(schema, dict):
            continue
        properties = schema.get("properties")
        if isinstance(properties, dict) and properties:
            yield "", _LIST
            for key, value in properties.items():
                yield from _property(key, value)
                waiting.append(value)
        waiting.extend(
            schema.get(key) for key in ("items", "anyOf", "oneOf", "allOf", "additionalProperties")
        )
        for key in ("$defs", "definitions"):
            if isinstance(held := schema.get(key), dict):
                waiting.extend(held.values())


def _property(key: str, value: object) -> Iterator[tuple[str, int]]:
    described: dict[object, object] = value if isinstance(value, dict) else {}
    choices = described.get("enum")
    if isinstance(choices, list):
        yield "", _ENUM
        for choice in choices:
            yield str(choice), _ITEM
    description = described.get("description")
    text = description.removesuffix(".") if isinstance(description, str) else ""
    yield f"{key}:{described.get('type', '')}:{text}", _PROPERTY
