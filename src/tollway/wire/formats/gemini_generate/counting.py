"""The shapes of countTokens: its request as a conversation, its answer as bytes. Counting itself is done elsewhere."""

from __future__ import annotations

import msgspec

from tollway.wire.body import mapping, parse, text
from tollway.wire.conversation import Conversation
from tollway.wire.formats.gemini_generate.read_request import read_fields
from tollway.wire.formats.gemini_generate.shapes import given
from tollway.wire.formats.gemini_generate.spelling import COUNT, respelled


def count_request(body: bytes) -> Conversation:
    """What shall be counted: ``contents``, or a whole ``generateContentRequest``. Raises InvalidJson, BadRequest."""
    fields = parse(respelled(body, COUNT))
    raw = fields.get("generateContentRequest")
    if raw is None or not given(raw):
        return read_fields(fields)
    inner = mapping(fields, "generateContentRequest") or {}
    if text(fields, "model"):
        inner["model"] = fields["model"]
    return read_fields(inner)


def write_count(total: int, cached: int = 0) -> bytes:
    """``{"totalTokens": …}``; ``cached`` of these tokens came from a cache."""
    told = {"totalTokens": total}
    if cached:
        told["cachedContentTokenCount"] = cached
    return msgspec.json.encode(told)
