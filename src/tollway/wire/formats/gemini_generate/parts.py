"""One part of a ``Content`` read into a block of the hub, and a block with bytes written as a part.

Requests and answers share this; function calls and their answers need what stands around them and are read there.
"""

from __future__ import annotations

import base64
import binascii

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.conversation import (
    Audio,
    Block,
    Document,
    Extra,
    Image,
    Opaque,
    Source,
    Text,
    Video,
)
from tollway.wire.formats.gemini_generate.reading import fields_of, read
from tollway.wire.formats.gemini_generate.shapes import (
    CONTENT_FIELDS,
    FAMILY,
    MODIFIERS,
    PART_FIELDS,
    RESOLUTIONS,
    Part,
    given,
)
from tollway.wire.formats.gemini_generate.signatures import unseal

_decode = msgspec.json.Decoder(Part).decode
_encode = msgspec.json.Encoder().encode
_LEVELS = {detail: level for level, detail in RESOLUTIONS.items()}
_GOOGLE_FILES = ("gs://", "files/", "https://generativelanguage.googleapis.com/")

# The first base64 letters of the formats people forget to name.
_MAGIC = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi", "application/pdf"),
)
_ENDINGS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".pdf": "application/pdf",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".txt": "text/plain",
}


def decode(raw: Raw, path: str, extras: list[Extra] | None) -> Part | Opaque | None:
    """A part as its Struct, or as ``Opaque`` where the hub has no block for it; None where it says nothing.

    Fields that only modify a part go to ``extras`` under their path. Raises BadRequest for a wrong type.
    """
    try:
        return _decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return _looked_at_again(raw, path, extras)


def _looked_at_again(raw: Raw, path: str, extras: list[Extra] | None) -> Part | Opaque | None:
    fields = read(fields_of, raw, path)
    known = {name: value for name, value in fields.items() if name in PART_FIELDS}
    others = [name for name, value in fields.items() if name not in PART_FIELDS and given(value)]
    if not CONTENT_FIELDS & known.keys():
        for name in others:
            if name not in MODIFIERS:
                return Opaque(format=FAMILY, kind=name, raw=raw)
    if extras is not None:
        extras.extend(Extra(format=FAMILY, name=f"{path}.{name}", raw=fields[name]) for name in others)
    if not known:
        return None
    return read(_decode, Raw(_encode(known)), path)


def block(part: Part, raw: Raw, path: str) -> Block | None:
    """The block of a part that is no function call and no function response; None where it has no content."""
    if part.text is not None:
        if part.thought:
            return unseal(part.text, part.thought_signature)[0]
        return Text(text=part.text, signature=part.thought_signature)
    if part.inline_data is not None:
        if part.thought:
            # A picture made on the way to the answer: never to be taken for the answer.
            return Opaque(format=FAMILY, kind="thought", raw=raw)
        if part.inline_data.data is None:
            raise BadRequest(f"'{path}.inlineData.data' is missing.", param=f"{path}.inlineData.data")
        kind = part.inline_data.mime_type
        return _attachment(part, Source(kind="data", value=part.inline_data.data, media_type=kind))
    if part.file_data is not None:
        uri = part.file_data.file_uri
        if not uri:
            raise BadRequest(f"'{path}.fileData.fileUri' is missing.", param=f"{path}.fileData.fileUri")
        at_google = uri.startswith(_GOOGLE_FILES)
        return _attachment(
            part,
            Source(kind="file" if at_google else "url", value=uri, media_type=part.file_data.mime_type),
        )
    if part.thought_signature is not None:
        if part.thought:
            return unseal("", part.thought_signature)[0]
        return Text(signature=part.thought_signature)
    return None


def _attachment(part: Part, source: Source) -> Image | Audio | Video | Document:
    kind = source.media_type
    if kind is None:
        kind = _media_type(source) or ""
    family = kind.partition("/")[0]
    if family == "image":
        level = part.media_resolution.level if part.media_resolution else None
        return Image(
            source=source,
            detail=RESOLUTIONS.get(level) if level else None,
            signature=part.thought_signature,
        )
    if family == "audio":
        return Audio(source=source)
    if family == "video" or given(part.video_metadata) or _is_youtube(source):
        return Video(source=source, metadata=part.video_metadata if given(part.video_metadata) else Raw())
    if source.kind == "data" and kind.partition(";")[0] == "text/plain":
        try:
            return Document(text=base64.b64decode(source.value, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            pass
    return Document(source=source)


def _is_youtube(source: Source) -> bool:
    return source.kind == "url" and source.value.startswith(("https://www.youtube.com/", "https://youtu.be/"))


def _media_type(source: Source) -> str | None:
    if source.kind == "data":
        for start, kind in _MAGIC:
            if source.value.startswith(start):
                return kind
        return None
    path = source.value.partition("?")[0].partition("#")[0].lower()
    return _ENDINGS.get(path[path.rfind(".") :]) if "." in path else None


def media(source: Source) -> dict[str, object] | None:
    """``inlineData`` or ``fileData`` for ``source``; None for another provider's file id."""
    kind = source.media_type or _media_type(source)
    if source.kind == "data":
        return {"inlineData": {"mimeType": kind or "application/octet-stream", "data": source.value}}
    if source.kind == "file" and "://" not in source.value and not source.value.startswith("files/"):
        return None
    held: dict[str, object] = {"fileUri": source.value}
    if kind:
        held["mimeType"] = kind
    return {"fileData": held}


def resolution(detail: str | None) -> dict[str, object] | None:
    """``mediaResolution`` for an image's detail, where there is one."""
    level = _LEVELS.get(detail) if detail else None
    return {"level": level} if level else None
