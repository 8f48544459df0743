"""What a request's fields say about its cost, read out of a JSON body's view or out of a form's fields."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec

from tollway.pipeline.appraise import Wish
from tollway.pipeline.upload import HeldForm
from tollway.wire import body as json_body
from tollway.wire.body import Fields

MOST_IMAGES = 1_000

_decode_any = msgspec.json.Decoder().decode


def of_fields(endpoint: str, fields: Fields) -> Wish:
    """Values of another type than documented are left for the provider to judge."""
    documents = _items(fields, "documents")
    query = fields.get("query")
    several = query is not None and bytes(memoryview(query)[:1]) == b"["
    return Wish(
        endpoint=endpoint,
        text=sum(_length(fields, name) for name in ("prompt", "input", "query", "documents")),
        images=min(_number(_text(fields, "n")) or 1, MOST_IMAGES),
        size=_size(_text(fields, "size")),
        quality=_text(fields, "quality"),
        seconds=_number(_text(fields, "seconds")),
        documents=documents,
        queries=max(_items(fields, "query"), 1) if several else 1,
        pages=_items(fields, "pages"),
    )


def of_form(endpoint: str, form: HeldForm) -> Wish:
    """As far as it was read. ``uploaded`` is what has passed, or the whole length while nothing has."""
    fields: Mapping[str, str] = form.form.fields
    files = form.form.files
    recording = next((file for file in files if file.name == "file"), None)
    uploaded = form.uploaded() if form.ended else max(form.length or 0, form.uploaded())
    seconds = _number(fields.get("seconds", ""))
    if seconds is None and recording is not None:
        seconds = _played(recording.beginning, uploaded)
    return Wish(
        endpoint=endpoint,
        text=len(fields.get("prompt", "")),
        images=min(_number(fields.get("n", "")) or 1, MOST_IMAGES),
        size=_size(fields.get("size", "")),
        quality=fields.get("quality", ""),
        seconds=seconds,
        uploaded=uploaded,
    )


def _played(beginning: bytes, size: int) -> int | None:
    """The seconds a WAV recording lasts, by the bytes a second that its header tells (RIFF, ``fmt`` first)."""
    if beginning[:4] != b"RIFF" or beginning[8:16] != b"WAVEfmt " or len(beginning) < 32:
        return None
    rate = int.from_bytes(beginning[28:32], "little")
    return -(-max(size - 44, 0) // rate) if rate else None


def _length(fields: Fields, name: str) -> int:
    """Characters of a string, or of all that an array holds."""
    raw = fields.get(name)
    if raw is None:
        return 0
    value = bytes(raw)
    if value[:1] == b'"':
        with suppress(msgspec.DecodeError):
            return len(_decode_any(value))
    if value[:1] in (b"[", b"{"):
        return max(len(value.decode(errors="replace")) - 2, 0)
    return 0


def _items(fields: Fields, name: str) -> int:
    raw = fields.get(name)
    if raw is None or bytes(memoryview(raw)[:1]) != b"[":
        return 0
    try:
        return len(msgspec.json.decode(raw, type=list[msgspec.Raw]))
    except msgspec.DecodeError:
        return 0


def _text(fields: Fields, name: str) -> str:
    """A string or a number, as a string."""
    raw = fields.get(name)
    if raw is None:
        return ""
    value = bytes(raw)
    if value[:1] == b'"':
        return json_body.text(fields, name) or ""
    return value.decode(errors="replace") if value[:1].isdigit() else ""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _size(text: str) -> str:
    """``1024x1024``; nothing for ``auto`` and what is none."""
    width, by, height = text.partition("x")
    return text if by and width.isdecimal() and height.isdecimal() and len(text) < 20 else ""
