"""Images and documents as the API takes them: four kinds of image, PDF and plain text. None for what it refuses."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from tollway.wire.conversation import Document, Image

Wire = dict[str, Any]

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_IMAGE_MAGIC = (
    ("iVBOR", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
)


def write_image(block: Image) -> Wire | None:
    source = block.source
    if source.kind == "url":
        return {"type": "image", "source": {"type": "url", "url": source.value}}
    if source.kind == "file":
        return {"type": "image", "source": _file(source.value)} if _is_file_id(source.value) else None
    media_type = source.media_type
    if media_type == "image/jpg":
        media_type = "image/jpeg"
    if media_type not in _IMAGE_TYPES:
        media_type = next((found for magic, found in _IMAGE_MAGIC if source.value.startswith(magic)), None)
        if media_type is None:
            return None
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": source.value}}


def write_document(block: Document) -> Wire | None:
    source = _document_source(block)
    if source is None:
        return None
    wire: Wire = {"type": "document", "source": source}
    if block.title:
        wire["title"] = block.title
    if block.context:
        wire["context"] = block.context
    if block.citations:
        wire["citations"] = {"enabled": True}
    return wire


def _document_source(block: Document) -> Wire | None:
    text = block.text
    source = block.source
    if text is None and source is not None and source.kind == "data":
        media_type = (source.media_type or "").partition(";")[0]
        if media_type == "application/pdf" or (not media_type and source.value.startswith("JVBERi")):
            return {"type": "base64", "media_type": "application/pdf", "data": source.value}
        if media_type.startswith("text/") or media_type in ("application/json", "application/xml"):
            text = _decoded_text(source.value)
    if text is not None:
        # The API refuses an empty document.
        return {"type": "text", "media_type": "text/plain", "data": text} if text.strip() else None
    if source is None or source.kind == "data":
        return None
    if source.kind == "url":
        return {"type": "url", "url": source.value}
    return _file(source.value) if _is_file_id(source.value) else None


def _file(file_id: str) -> Wire:
    return {"type": "file", "file_id": file_id}


def _is_file_id(file_id: str) -> bool:
    """Whether it can be a file of this API: ``file-…`` is one of OpenAI's, an address one of Google's."""
    return not file_id.startswith("file-") and "/" not in file_id


def _decoded_text(data: str) -> str | None:
    """UTF-8 text that came as base64; None when it is something else."""
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
