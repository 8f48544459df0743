"""Content blocks as the API writes them, into the hub's; for requests and answers alike.

A block type that the hub has no name for (server tools' calls and results, search results, uploads, whatever is
newer than we are) is carried unread as ``Opaque``. Problems are ``BadRequest`` with the path of the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.body import kind as kind_of
from tollway.wire.conversation import (
    Block,
    Cache,
    Citation,
    Document,
    Image,
    Opaque,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollway.wire.formats.anthropic_messages.proof import FAMILY, unseal
from tollway.wire.formats.anthropic_messages.shapes import (
    CacheMark,
    CitationShape,
    DocumentShape,
    ImageShape,
    OpaqueShape,
    RedactedShape,
    SourceShape,
    Tagged,
    TextShape,
    ThinkingShape,
    ToolResultShape,
    ToolUseShape,
)

T = TypeVar("T")

_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_TYPE = re.compile(r"`([a-z |]+)`")
_STEP = re.compile(r"\[(\d+)\]")
_MISSING = re.compile(r"Object missing required field `(\w+)`")

_tagged = msgspec.json.Decoder(Tagged)
_text = msgspec.json.Decoder(TextShape)
_image = msgspec.json.Decoder(ImageShape)
_document = msgspec.json.Decoder(DocumentShape)
_tool_use = msgspec.json.Decoder(ToolUseShape)
_tool_result = msgspec.json.Decoder(ToolResultShape)
_thinking = msgspec.json.Decoder(ThinkingShape)
_redacted = msgspec.json.Decoder(RedactedShape)
_opaque = msgspec.json.Decoder(OpaqueShape)
_citation = msgspec.json.Decoder(CitationShape)


def decode(decoder: msgspec.json.Decoder[T], raw: Raw | bytes, path: str) -> T:
    """What ``decoder`` makes of ``raw``. BadRequest names the field below ``path`` and what it should be."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), path) from None
    except msgspec.DecodeError:
        raise BadRequest(f"'{path}' is not valid JSON.", param=path) from None
    except RecursionError:
        raise BadRequest(f"'{path}' is nested too deeply.", param=path) from None


def _wrong(words: str, path: str) -> BadRequest:
    reason, _, place = words.partition(" - at `")
    below = _STEP.sub(r".\1", place.rstrip("`").removeprefix("$")).strip(".")
    where = ".".join(part for part in (path, below) if part)
    missing = _MISSING.match(reason)
    if missing:
        where = f"{where}.{missing.group(1)}" if where else missing.group(1)
        return BadRequest(f"'{where}' is missing. Give it.", param=where)
    said = _TYPE.sub(_in_words, reason).replace("Expected ", "must be ", 1).replace(", got ", ", not ", 1)
    return BadRequest(f"'{where}': {said}.", param=where)


def _in_words(found: re.Match[str]) -> str:
    return " or ".join(_WORDS.get(name, f"`{name}`") for name in found.group(1).split(" | "))


def read_block(raw: Raw, path: str) -> Block:
    """One block of a turn or an answer."""
    kind = decode(_tagged, raw, path).type
    reader = _READERS.get(kind)
    if reader is not None:
        return reader(raw, path)
    return opaque(raw, path, kind)


def opaque(raw: Raw, path: str, kind: str) -> Opaque:
    mark = decode(_opaque, raw, path).cache_control
    return Opaque(format=FAMILY, kind=kind, raw=raw, cache=cache_of(mark))


def cache_of(mark: CacheMark | None) -> Cache | None:
    if mark is None:
        return None
    return Cache(ttl="1h") if mark.ttl == "1h" else Cache()


def read_citation(raw: Raw, path: str) -> Citation:
    """Of a web or search result the address, of a document its title and file id; positions are in the source there,
    so none in the block that cites."""
    wire = decode(_citation, raw, path)
    return Citation(
        url=wire.url or wire.source,
        title=wire.title or wire.document_title,
        cited=wire.cited_text,
        file_id=wire.file_id,
        format=FAMILY,
        raw=raw,
    )


def arguments_of(raw: Raw, path: str) -> str:
    """A tool call's input as JSON text."""
    value = bytes(raw)
    if not value.startswith(b"{"):
        if value == b"null":
            return "{}"
        raise BadRequest(f"'{path}' must be an object, not {kind_of(raw)}.", param=path)
    return value.decode()


def text_block(raw: Raw, path: str) -> Text:
    wire = decode(_text, raw, path)
    return Text(
        text=wire.text,
        citations=tuple(
            read_citation(citation, f"{path}.citations.{number}")
            for number, citation in enumerate(wire.citations)
        )
        if wire.citations
        else (),
        cache=cache_of(wire.cache_control),
    )


def _image_block(raw: Raw, path: str) -> Image:
    wire = decode(_image, raw, path)
    return Image(source=_source(wire.source, f"{path}.source"), cache=cache_of(wire.cache_control))


def _source(wire: SourceShape, path: str) -> Source:
    if wire.type == "base64":
        media_type = _need(wire.media_type, f"{path}.media_type")
        return Source(kind="data", value=_base64(_need(wire.data, f"{path}.data")), media_type=media_type)
    if wire.type == "url":
        return Source(kind="url", value=_need(wire.url, f"{path}.url"), media_type=wire.media_type)
    if wire.type == "file":
        return Source(kind="file", value=_need(wire.file_id, f"{path}.file_id"), media_type=wire.media_type)
    raise BadRequest(
        f"'{path}.type' is {wire.type[:40]!r}, which is no source for this block. Use base64, url or file.",
        param=f"{path}.type",
    )


def _base64(data: str) -> str:
    return "".join(data.split()) if "\n" in data or "\r" in data else data


def _need(value: str | None, path: str) -> str:
    if value is None:
        raise BadRequest(f"'{path}' is missing. Give it.", param=path)
    return value


def _document_block(raw: Raw, path: str) -> Block:
    wire = decode(_document, raw, path)
    source = wire.source
    cited = wire.citations is not None and wire.citations.enabled
    attached: Source | None = None
    text: str | None = None
    if source.type == "text":
        text = _need(source.data, f"{path}.source.data")
    elif source.type == "content":
        if source.content is None:
            raise BadRequest(f"'{path}.source.content' is missing. Give it.", param=f"{path}.source.content")
        text = _plain(source.content, f"{path}.source.content")
        if text is None or cited:
            # The parts are what citations count in; joined they would be another document.
            return opaque(raw, path, "document")
    else:
        attached = _source(source, f"{path}.source")
    return Document(
        source=attached,
        text=text,
        title=wire.title,
        context=wire.context,
        citations=cited,
        cache=cache_of(wire.cache_control),
    )


def _plain(content: str | list[Raw], path: str) -> str | None:
    """Text of a document given in blocks; None when there is more than text in it."""
    if isinstance(content, str):
        return content
    parts = [read_block(raw, f"{path}.{number}") for number, raw in enumerate(content)]
    texts = [part.text for part in parts if isinstance(part, Text)]
    return "\n\n".join(texts) if len(texts) == len(parts) else None


def _tool_use_block(raw: Raw, path: str) -> ToolCall:
    wire = decode(_tool_use, raw, path)
    if not wire.id:
        raise BadRequest(f"'{path}.id' is empty. Give the id the call was made with.", param=f"{path}.id")
    return ToolCall(
        id=wire.id,
        name=wire.name,
        arguments=arguments_of(wire.input, f"{path}.input"),
        cache=cache_of(wire.cache_control),
    )


def _tool_result_block(raw: Raw, path: str) -> ToolResult:
    wire = decode(_tool_result, raw, path)
    if not wire.tool_use_id:
        raise BadRequest(
            f"'{path}.tool_use_id' is empty. Give the id of the call it answers.", param=f"{path}.tool_use_id"
        )
    content: list[Text | Image | Document | Opaque] = []
    if isinstance(wire.content, str):
        if wire.content:
            content.append(Text(text=wire.content))
    elif wire.content:
        for number, part in enumerate(wire.content):
            place = f"{path}.content.{number}"
            block = read_block(part, place)
            if not isinstance(block, Text | Image | Document | Opaque):
                raise BadRequest(
                    f"'{place}.type' cannot stand in a tool result. Use text, image, document or search_result.",
                    param=f"{place}.type",
                )
            content.append(block)
    return ToolResult(
        call_id=wire.tool_use_id,
        content=tuple(content),
        error=bool(wire.is_error),
        cache=cache_of(wire.cache_control),
    )


def _thinking_block(raw: Raw, path: str) -> Thinking:
    wire = decode(_thinking, raw, path)
    if not wire.signature:
        # Without proof it is nobody's: the API would refuse it.
        return Thinking(text=wire.thinking)
    return unseal(wire.signature, wire.thinking) or Thinking(
        text=wire.thinking, signature=wire.signature, format=FAMILY
    )


def _redacted_block(raw: Raw, path: str) -> Thinking:
    data = decode(_redacted, raw, path).data
    return unseal(data) or Thinking(redacted=data, format=FAMILY)


_READERS: dict[str, Callable[[Raw, str], Block]] = {
    "text": text_block,
    "image": _image_block,
    "document": _document_block,
    "tool_use": _tool_use_block,
    "tool_result": _tool_result_block,
    "thinking": _thinking_block,
    "redacted_thinking": _redacted_block,
}
