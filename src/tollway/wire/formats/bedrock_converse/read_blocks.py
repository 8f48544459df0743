"""Content blocks of Converse messages as blocks of the hub, for requests and answers alike.

A block is an object with one member, named by its kind. Kinds without a name in the hub become Opaque, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw, Struct, structs

from tollway.errors import BadRequest
from tollway.wire.conversation import (
    Audio,
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
    Video,
)
from tollway.wire.decoding import decode, given
from tollway.wire.formats.bedrock_converse.shapes import (
    AUDIO_MEDIA,
    DOCUMENT_MEDIA,
    FAMILY,
    IMAGE_MEDIA,
    VIDEO_MEDIA,
    encode,
)

WireBlock = dict[str, Raw]


class _S3(Struct):
    uri: str


class _Source(Struct):
    bytes: str | None = None
    s3Location: _S3 | None = None
    text: str | None = None
    content: list[dict[str, str]] | None = None


class _Media(Struct):
    format: str
    source: _Source


class _Enabled(Struct):
    enabled: bool = False


class _Document(Struct):
    name: str
    source: _Source
    format: str | None = None
    context: str | None = None
    citations: _Enabled | None = None


class _ToolUse(Struct):
    toolUseId: str
    name: str
    input: Raw = Raw()
    type: str | None = None


class _ToolResult(Struct):
    toolUseId: str
    content: list[WireBlock]
    status: str | None = None
    type: str | None = None


class _ReasoningText(Struct):
    text: str = ""
    signature: str | None = None


class _Reasoning(Struct):
    reasoningText: _ReasoningText | None = None
    redactedContent: str | None = None


class _CachePoint(Struct):
    type: str = "default"
    ttl: str | None = None


class _Said(Struct):
    text: str = ""


class _Web(Struct):
    url: str | None = None


class _Location(Struct):
    web: _Web | None = None


class WireCitation(Struct):
    title: str | None = None
    source: str | None = None
    sourceContent: list[_Said] | None = None
    location: _Location | None = None


class _Cited(Struct):
    content: list[_Said] | None = None
    citations: list[Raw] | None = None


_text = msgspec.json.Decoder(str)
_media = msgspec.json.Decoder(_Media)
_document = msgspec.json.Decoder(_Document)
_tool_use = msgspec.json.Decoder(_ToolUse)
_tool_result = msgspec.json.Decoder(_ToolResult)
_reasoning = msgspec.json.Decoder(_Reasoning)
_cache_point = msgspec.json.Decoder(_CachePoint)
_cited = msgspec.json.Decoder(_Cited)
_citation = msgspec.json.Decoder(WireCitation)


def read_blocks(wire: Sequence[WireBlock], path: str) -> tuple[Block, ...]:
    """Raises BadRequest with the place below ``path``."""
    blocks: list[Block] = []
    for index, block in enumerate(wire):
        if len(block) != 1:
            where = f"{path}.{index}"
            raise BadRequest(f"'{where}' must have exactly one member, such as text.", param=where)
        kind, raw = next(iter(block.items()))
        if kind == "text":
            blocks.append(Text(text=decode(_text, raw, f"{path}.{index}.text")))
            continue
        if kind == "cachePoint":
            point = decode(_cache_point, raw, f"{path}.{index}.cachePoint")
            if blocks and _mark(blocks, point):
                continue
        blocks.append(_read(kind, raw, f"{path}.{index}.{kind}"))
    return tuple(blocks)


def _read(kind: str, raw: Raw, path: str) -> Block:
    reader = _READERS.get(kind)
    return reader(raw, path) if reader else opaque(kind, raw)


def read_cache(point: _CachePoint) -> Cache:
    return Cache(ttl="1h") if point.ttl == "1h" else Cache()


def read_cache_point(raw: Raw, path: str) -> Cache:
    return read_cache(decode(_cache_point, raw, path))


def _mark(blocks: list[Block], point: _CachePoint) -> bool:
    last = blocks[-1]
    if "cache" not in last.__struct_fields__ or getattr(last, "cache", None) is not None:
        return False
    blocks[-1] = structs.replace(last, cache=read_cache(point))
    return True


def opaque(kind: str, raw: Raw) -> Opaque:
    return Opaque(format=FAMILY, kind=kind, raw=Raw(encode({kind: raw})))


def citation(raw: Raw, path: str) -> Citation:
    wire = decode(_citation, raw, path)
    cited = "".join(part.text for part in wire.sourceContent or ())
    web = wire.location.web if wire.location else None
    return Citation(
        url=web.url if web else None,
        title=wire.title,
        cited=cited or None,
        format=FAMILY,
        raw=raw,
    )


def _source(wire: _Source, media: str | None) -> Source | None:
    if wire.bytes is not None:
        return Source(kind="data", value=wire.bytes, media_type=media)
    if wire.s3Location is not None:
        return Source(kind="url", value=wire.s3Location.uri, media_type=media)
    return None


def _media_of(raw: Raw, path: str, names: dict[str, str]) -> Source | None:
    wire = decode(_media, raw, path)
    return _source(wire.source, names.get(wire.format, wire.format))


def _image(raw: Raw, path: str) -> Block:
    source = _media_of(raw, path, IMAGE_MEDIA)
    return Image(source=source) if source else opaque("image", raw)


def _video(raw: Raw, path: str) -> Block:
    source = _media_of(raw, path, VIDEO_MEDIA)
    return Video(source=source) if source else opaque("video", raw)


def _audio(raw: Raw, path: str) -> Block:
    source = _media_of(raw, path, AUDIO_MEDIA)
    return Audio(source=source) if source else opaque("audio", raw)


def _read_document(raw: Raw, path: str) -> Block:
    wire = decode(_document, raw, path)
    media = DOCUMENT_MEDIA.get(wire.format or "", wire.format)
    source = _source(wire.source, media)
    text = wire.source.text
    if wire.source.content is not None:
        text = "\n".join(part.get("text", "") for part in wire.source.content)
    if source is None and text is None:
        return opaque("document", raw)
    return Document(
        source=source,
        text=text,
        title=wire.name,
        context=wire.context,
        citations=wire.citations is not None and wire.citations.enabled,
    )


def _read_tool_use(raw: Raw, path: str) -> Block:
    wire = decode(_tool_use, raw, path)
    if wire.type is not None:
        return opaque("toolUse", raw)
    if not wire.toolUseId:
        raise BadRequest(f"'{path}.toolUseId' must not be empty.", param=f"{path}.toolUseId")
    arguments = bytes(wire.input).decode() if given(wire.input) else "{}"
    return ToolCall(id=wire.toolUseId, name=wire.name, arguments=arguments)


def _read_tool_result(raw: Raw, path: str) -> Block:
    wire = decode(_tool_result, raw, path)
    if wire.type is not None:
        return opaque("toolResult", raw)
    content: list[Text | Image | Document | Opaque] = []
    for index, part in enumerate(wire.content):
        where = f"{path}.content.{index}"
        if len(part) != 1:
            raise BadRequest(f"'{where}' must have exactly one member, such as text.", param=where)
        kind, inner = next(iter(part.items()))
        if kind == "json":
            # A result as JSON is text to every other dialect, and Converse takes text as well.
            content.append(Text(text=bytes(inner).decode()))
            continue
        block = _read(kind, inner, f"{where}.{kind}")
        if not isinstance(block, Text | Image | Document | Opaque):
            block = opaque(kind, inner)
        content.append(block)
    return ToolResult(call_id=wire.toolUseId, content=tuple(content), error=wire.status == "error")


def _read_reasoning(raw: Raw, path: str) -> Block:
    wire = decode(_reasoning, raw, path)
    if wire.redactedContent is not None:
        return Thinking(redacted=wire.redactedContent, format=FAMILY)
    said = wire.reasoningText or _ReasoningText()
    return Thinking(text=said.text, signature=said.signature, format=FAMILY)


def _read_cited(raw: Raw, path: str) -> Block:
    wire = decode(_cited, raw, path)
    return Text(
        text="".join(part.text for part in wire.content or ()),
        citations=tuple(
            citation(found, f"{path}.citations.{index}") for index, found in enumerate(wire.citations or ())
        ),
    )


def _read_text(raw: Raw, path: str) -> Block:
    return Text(text=decode(_text, raw, path))


_READERS: dict[str, Callable[[Raw, str], Block]] = {
    "text": _read_text,
    "image": _image,
    "video": _video,
    "audio": _audio,
    "document": _read_document,
    "toolUse": _read_tool_use,
    "toolResult": _read_tool_result,
    "reasoningContent": _read_reasoning,
    "citationsContent": _read_cited,
}
