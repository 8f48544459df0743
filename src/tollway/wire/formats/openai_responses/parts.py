"""Content parts of messages and tool outputs: text, images, files, refusals, and their citations.

Reading takes any part; a type that is not known becomes Opaque with its kind behind ``content/``, so that a writer can
tell it from an item. Writing gives the parts a request may hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire import decoding
from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Audio,
    Block,
    Cache,
    Citation,
    Document,
    Image,
    Opaque,
    Refusal,
    Source,
    Text,
)
from tollway.wire.formats.openai_responses.shapes import FAMILY, Annotated, Part, PartHead
from tollway.wire.turns import Losses, media_type

PART = "content/"

_head = msgspec.json.Decoder(PartHead)
_part = msgspec.json.Decoder(Part)
_annotation = msgspec.json.Decoder(Annotated)
_EXTENSIONS = {
    "application/pdf": "pdf",
    "text/plain": "txt",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "application/json": "json",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
}
_AUDIO = {"mp3": "audio/mpeg", "wav": "audio/wav"}


# ------------------------------------------------------------------ reading


def read_parts(parts: Sequence[Raw], path: str, unplaced: set[str]) -> list[Block]:
    return [read_part(raw, f"{path}.{index}", unplaced) for index, raw in enumerate(parts)]


def read_part(raw: Raw, path: str, unplaced: set[str]) -> Block:
    """One part. ``unplaced`` collects the names of fields the hub cannot hold."""
    kind = decoding.decode(_head, raw, path).type
    if kind not in _READERS:
        return Opaque(format=FAMILY, kind=PART + kind, raw=raw)
    part = decoding.decode(_part, raw, path)
    cache = Cache() if decoding.given(part.prompt_cache_breakpoint) else None
    return _READERS[kind](part, path, cache, unplaced)


def _text(part: Part, path: str, cache: Cache | None, unplaced: set[str]) -> Block:
    if part.text is None:
        raise BadRequest(f"'{path}.text' is missing. It is required.", param=f"{path}.text")
    return Text(text=part.text, citations=read_citations(part.annotations or []), cache=cache)


def _refusal(part: Part, path: str, cache: Cache | None, unplaced: set[str]) -> Block:
    return Refusal(text=part.refusal or "")


def _image(part: Part, path: str, cache: Cache | None, unplaced: set[str]) -> Block:
    if part.image_url:
        source = read_url(part.image_url)
    elif part.file_id:
        source = Source(kind="file", value=part.file_id)
    else:
        raise BadRequest(
            f"'{path}' has neither 'image_url' nor 'file_id'. Give one of them.", param=f"{path}.image_url"
        )
    return Image(source=source, detail=part.detail, cache=cache)


def _file(part: Part, path: str, cache: Cache | None, unplaced: set[str]) -> Block:
    if part.detail is not None:
        unplaced.add("input.detail")
    if part.file_data is not None:
        source = read_url(part.file_data)
        if source.kind == "url":
            source = Source(kind="data", value=part.file_data, media_type=media_type(None, part.file_data))
    elif part.file_url:
        source = Source(kind="url", value=part.file_url)
    elif part.file_id:
        source = Source(kind="file", value=part.file_id)
    else:
        raise BadRequest(
            f"'{path}' has none of 'file_data', 'file_url' and 'file_id'. Give one of them.",
            param=f"{path}.file_data",
        )
    return Document(source=source, title=part.filename, cache=cache)


def _audio(part: Part, path: str, cache: Cache | None, unplaced: set[str]) -> Block:
    if part.input_audio is None:
        raise BadRequest(f"'{path}.input_audio' is missing. It is required.", param=f"{path}.input_audio")
    kind = part.input_audio.format or ""
    return Audio(
        source=Source(
            kind="data",
            value=part.input_audio.data,
            media_type=_AUDIO.get(kind, f"audio/{kind}" if kind else None),
        ),
        cache=cache,
    )


_READERS = {
    "input_text": _text,
    "output_text": _text,
    "text": _text,
    "refusal": _refusal,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
}


def read_url(url: str) -> Source:
    """A ``data:`` URL's bytes and type; any other URL as it is."""
    if url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        if comma and head.endswith(";base64"):
            return Source(kind="data", value=data, media_type=head[:-7].partition(";")[0] or None)
    return Source(kind="url", value=url)


def read_citations(annotations: Sequence[Raw]) -> tuple[Citation, ...]:
    return tuple(read_citation(raw) for raw in annotations)


def read_citation(raw: Raw) -> Citation:
    try:
        found = _annotation.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return Citation(format=FAMILY, raw=raw)
    return Citation(
        url=found.url,
        title=found.title or found.filename,
        file_id=found.file_id,
        start=found.start_index,
        end=found.end_index,
        format=FAMILY,
        raw=raw,
    )


# ------------------------------------------------------------------ writing


def write_input(block: Block, profile: Profile, lost: Losses, own: bool) -> dict[str, object] | Raw | None:
    """A part of a user, system or developer message, or of a tool's output; None for what has no place there.

    ``own``: the client speaks this format, so that cache breakpoints, which not every model takes, are its own wish.
    """
    part: dict[str, object] | Raw | None
    if isinstance(block, Text):
        part = {"type": "input_text", "text": block.text} if block.text else None
    elif isinstance(block, Image):
        part = _write_image(block, profile, lost)
    elif isinstance(block, Document):
        part = _write_document(block, profile, lost)
    elif isinstance(block, Opaque) and block.format == FAMILY and block.kind.startswith(PART):
        return block.raw
    else:
        lost.meaning(f"messages.{block.__struct_config__.tag}")
        return None
    if part is not None and block.cache is not None:
        if own:
            part["prompt_cache_breakpoint"] = {"mode": "explicit"}
        else:
            lost.hint("cache_control")
    return part


def write_url(source: Source, fallback: str) -> str:
    if source.kind == "url":
        return source.value
    return f"data:{media_type(source.media_type, source.value) or fallback};base64,{source.value}"


def _write_image(block: Image, profile: Profile, lost: Losses) -> dict[str, object] | None:
    if not profile.images:
        lost.meaning("messages.image")
        return None
    part: dict[str, object] = {"type": "input_image", "detail": block.detail or "auto"}
    if block.source.kind == "file":
        part["file_id"] = block.source.value
    else:
        part["image_url"] = write_url(block.source, "image/png")
    return part


def _write_document(block: Document, profile: Profile, lost: Losses) -> dict[str, object] | None:
    if block.citations:
        lost.hint("messages.document.citations")
    if block.source is None:
        head = [line for line in (block.title, block.context) if line]
        return {"type": "input_text", "text": "\n\n".join([*head, block.text or ""])}
    if not profile.documents:
        lost.meaning("messages.document")
        return None
    if block.context:
        lost.hint("messages.document.context")
    part: dict[str, object] = {"type": "input_file"}
    if block.source.kind == "file":
        part["file_id"] = block.source.value
    elif block.source.kind == "url":
        part["file_url"] = block.source.value
    else:
        kind = media_type(block.source.media_type, block.source.value) or "application/pdf"
        part["filename"] = block.title or f"document.{_EXTENSIONS.get(kind, 'pdf')}"
        part["file_data"] = f"data:{kind};base64,{block.source.value}"
    return part


def write_annotation(citation: Citation, length: int) -> dict[str, object] | Raw | None:
    """A citation as an annotation of a text of ``length`` characters. None for one that names neither a page nor a
    file: this API has no annotation for a place in a document that was sent along."""
    if citation.format == FAMILY and bytes(citation.raw):
        return citation.raw
    start = citation.start if citation.start is not None else 0
    end = citation.end if citation.end is not None else length
    if citation.url is not None:
        return {
            "type": "url_citation",
            "start_index": start,
            "end_index": end,
            "title": citation.title or "",
            "url": citation.url,
        }
    if citation.file_id is not None:
        return {
            "type": "file_citation",
            "file_id": citation.file_id,
            "filename": citation.title or "",
            "index": end,
        }
    return None
