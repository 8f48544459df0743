"""Blocks of the hub as content blocks of Converse. What Converse cannot say is named in ``Losses``.

Limits kept here: ids and names in the service's charset, document names as it demands (and no two alike), images and
documents as bytes or in S3 only (nothing is fetched), no empty text.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable

from msgspec import Raw

from tollway.wire import turns
from tollway.wire.conversation import (
    Audio,
    Block,
    Cache,
    Conversation,
    Document,
    Image,
    Opaque,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Video,
)
from tollway.wire.formats.bedrock_converse.shapes import (
    AUDIO_FORMATS,
    DOCUMENT_FORMATS,
    FAMILY,
    IMAGE_FORMATS,
    TOOL_NAME,
    UNSAFE_IN_ID,
    UNSAFE_IN_NAME,
    UNSAFE_IN_TITLE,
    VIDEO_FORMATS,
    Family,
    Wire,
)

_SPACES = re.compile(r"\s+")
_S3 = "s3://"


class BlockWriter:
    """Writes the blocks of one request: remembers what was lost and which document names are taken."""

    __slots__ = ("_conversation", "_documents", "_family", "lost")

    def __init__(self, conversation: Conversation, family: Family, lost: turns.Losses) -> None:
        self._conversation = conversation
        self._family = family
        self._documents: set[str] = set()
        self.lost = lost

    def content(self, blocks: Iterable[Block], role: str) -> list[Wire | Raw]:
        """A turn's content, empty when nothing of it can be said."""
        wire: list[Wire | Raw] = []
        for block in blocks:
            written = self._one(block, role)
            if written is None:
                continue
            wire.append(written)
            cache = getattr(block, "cache", None)
            if cache is not None:
                self._cache(wire, cache)
        return wire

    def system(self, blocks: Iterable[Block]) -> list[Wire | Raw]:
        """System prompts hold text, guarded content and cache points only."""
        wire: list[Wire | Raw] = []
        for block in blocks:
            if isinstance(block, Text):
                if not block.text.strip():
                    continue
                wire.append({"text": block.text})
                if block.cache is not None:
                    self._cache(wire, block.cache)
            elif isinstance(block, Opaque) and block.format == FAMILY:
                wire.append(block.raw)
            else:
                self.lost.meaning(f"messages.{block.__struct_config__.tag}")
        return wire

    def cache_point(self, cache: Cache) -> Wire:
        point: Wire = {"type": "default"}
        if cache.ttl != "5m":
            point["ttl"] = cache.ttl
        return {"cachePoint": point}

    def _cache(self, wire: list[Wire | Raw], cache: Cache) -> None:
        if self._family.cache:
            wire.append(self.cache_point(cache))
        else:
            self.lost.hint("cache_control")

    def _one(self, block: Block, role: str) -> Wire | Raw | None:
        if getattr(block, "signature", None) and not isinstance(block, Thinking):
            self.lost.hint("messages.signature")
        if isinstance(block, Text):
            return self._text(block)
        if isinstance(block, ToolCall):
            return self._tool_call(block)
        if isinstance(block, ToolResult):
            return self._tool_result(block)
        if isinstance(block, Thinking):
            return self._thinking(block)
        if isinstance(block, Opaque):
            if block.format == FAMILY:
                return block.raw
            self.lost.meaning(f"messages.{block.kind}")
            return None
        if isinstance(block, Refusal):
            return {"text": block.text} if block.text.strip() else None
        if role != "user":
            self.lost.meaning(f"messages.{block.__struct_config__.tag}")
            return None
        if isinstance(block, Image):
            return self._image(block)
        if isinstance(block, Document):
            return self._document(block)
        return self._clip(block)

    def _text(self, block: Text) -> Wire | None:
        if not block.text.strip():
            return None
        if not block.citations:
            return {"text": block.text}
        if any(found.format != FAMILY or not bytes(found.raw) for found in block.citations):
            self.lost.hint("messages.citations")
            return {"text": block.text}
        return {
            "citationsContent": {
                "content": [{"text": block.text}],
                "citations": [found.raw for found in block.citations],
            }
        }

    def _thinking(self, block: Thinking) -> Wire | None:
        proven = bool(block.signature or block.redacted)
        if block.format not in self._family.accepts or (self._family.signed and not proven):
            self.lost.hint("messages.thinking")
            return None
        if block.redacted is not None:
            return {"reasoningContent": {"redactedContent": block.redacted}}
        said: Wire = {"text": block.text}
        if block.signature:
            said["signature"] = block.signature
        return {"reasoningContent": {"reasoningText": said}}

    def _tool_call(self, block: ToolCall) -> Wire:
        name = block.name
        if not TOOL_NAME.fullmatch(name):
            name = UNSAFE_IN_NAME.sub("_", name)[:64] or "tool"
        return {
            "toolUse": {
                "toolUseId": turns.safe_id(block.id, unsafe=UNSAFE_IN_ID),
                "name": name,
                "input": turns.arguments(block, self._conversation),
            }
        }

    def _tool_result(self, block: ToolResult) -> Wire:
        content: list[Wire | Raw] = []
        for part in block.content:
            written = self._one(part, "user")
            if written is not None:
                content.append(written)
        result: Wire = {
            "toolUseId": turns.safe_id(block.call_id, unsafe=UNSAFE_IN_ID),
            # An empty result is a result; the service wants at least one block, and no empty text for some models.
            "content": content or [{"text": "(empty)"}],
        }
        if block.error:
            result["status"] = "error"
        return {"toolResult": result}

    def _image(self, block: Image) -> Wire | None:
        written = self._media(block.source, IMAGE_FORMATS)
        if written is None:
            self.lost.meaning("messages.image")
            return None
        if block.detail not in (None, "auto"):
            self.lost.hint("messages.image.detail")
        return {"image": written}

    def _clip(self, block: Video | Audio) -> Wire | None:
        video = isinstance(block, Video)
        written = self._media(block.source, VIDEO_FORMATS if video else AUDIO_FORMATS)
        name = "video" if video else "audio"
        if written is None:
            self.lost.meaning(f"messages.{name}")
            return None
        return {name: written}

    def _document(self, block: Document) -> Wire | None:
        written: Wire | None
        if block.text is not None and block.source is None:
            written = {"format": "txt", "source": {"bytes": b64encode(block.text.encode()).decode()}}
        else:
            written = self._media(block.source, DOCUMENT_FORMATS) if block.source else None
        if written is None:
            self.lost.meaning("messages.document")
            return None
        written["name"] = self._name(block.title)
        if block.context:
            written["context"] = block.context
        if block.citations:
            written["citations"] = {"enabled": True}
        return {"document": written}

    def _name(self, title: str | None) -> str:
        """Letters, digits, single spaces, hyphens, round and square brackets, at most 200, and each name once."""
        clean = _SPACES.sub(" ", UNSAFE_IN_TITLE.sub(" ", title or "")).strip()[:180].strip() or "document"
        name = clean
        number = 1
        while name in self._documents:
            number += 1
            name = f"{clean} ({number})"
        self._documents.add(name)
        return name

    def _media(self, source: Source, formats: dict[str, str]) -> Wire | None:
        if source.kind == "url" and not source.value.startswith(_S3):
            return None
        if source.kind == "file":
            return None
        data = source.value if source.kind == "data" else ""
        short = formats.get(turns.media_type(source.media_type, data) or "")
        if short is None and source.kind == "url":
            ending = source.value.rpartition(".")[2].lower()
            short = {"jpg": "jpeg"}.get(ending, ending)
            short = short if short in formats.values() else None
        if short is None:
            return None
        where: Wire = {"bytes": data} if source.kind == "data" else {"s3Location": {"uri": source.value}}
        return {"format": short, "source": where}
