"""Events of the hub as ConverseStream frames, one content block after the other.

The usage goes into ``metadata``, which follows ``messageStop`` and ends the stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire import event_stream
from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Conversation,
    Document,
    End,
    Failed,
    Finished,
    Image,
    Metered,
    Opaque,
    Refusal,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Video,
)
from tollway.wire.formats.bedrock_converse.errors import stream_exception_for
from tollway.wire.formats.bedrock_converse.shapes import (
    TIERS,
    Wire,
    decode_fields,
    encode,
    write_usage,
)
from tollway.wire.formats.bedrock_converse.write_answer import stop_reason, write_block, write_citation
from tollway.wire.one_at_a_time import OneAtATime


def _event(name: str, payload: Wire) -> bytes:
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return event_stream.encode(headers, encode(payload))


class Writer:
    """The state of one stream. ``index`` counts the content blocks that were written."""

    __slots__ = ("_current", "_index", "_order", "_text", "_tier", "_usage")

    def __init__(self, request: Conversation) -> None:
        self._order = OneAtATime()
        self._index = -1
        self._current: Block | None = None
        self._text: list[str] = []
        self._usage: Usage | None = None
        self._tier: str | None = None

    def write(self, events: Sequence[StreamEvent]) -> bytes:
        return b"".join([self._one(event) for event in self._order.pass_on(events)])

    def _one(self, event: StreamEvent) -> bytes:
        if isinstance(event, BlockDelta):
            return self._delta(event)
        if isinstance(event, BlockStart):
            return self._start(event.block)
        if isinstance(event, BlockStop):
            return self._stop()
        if isinstance(event, Start):
            self._usage = event.usage
            self._tier = event.service_tier
            return _event("messageStart", {"role": "assistant"})
        if isinstance(event, Finished):
            fields: Wire = {"stopReason": stop_reason(event.finish, event.stop_sequence)}
            if event.stop_sequence:
                fields["additionalModelResponseFields"] = {"stop_sequence": event.stop_sequence}
            return _event("messageStop", fields)
        if isinstance(event, Metered):
            self._usage = event.usage
            self._tier = event.service_tier or self._tier
            return b""
        if isinstance(event, End):
            fields = {"usage": write_usage(self._usage), "metrics": {"latencyMs": 0}}
            if self._tier in TIERS:
                fields["serviceTier"] = {"type": self._tier}
            return _event("metadata", fields)
        if isinstance(event, Failed):
            headers = {
                ":exception-type": stream_exception_for(event.status),
                ":content-type": "application/json",
                ":message-type": "exception",
            }
            return event_stream.encode(headers, encode({"message": event.message}))
        return b""  # a sign of life has no frame

    def _start(self, block: Block) -> bytes:
        self._current = block
        self._text = []
        if isinstance(block, Audio | Video | Document | ToolResult) or (
            isinstance(block, Opaque | Image) and write_block(block) is None
        ):
            self._current = None
            return b""
        self._index += 1
        if isinstance(block, ToolCall):
            opening = {"toolUse": {"toolUseId": block.id, "name": block.name}}
            out = self._opened(opening)
            if block.arguments and not block.custom:
                out += self._say({"toolUse": {"input": block.arguments}})
            elif block.custom:
                self._text.append(block.arguments if block.arguments != "{}" else "")
            return out
        if isinstance(block, Opaque):
            return self._opaque(block)
        if isinstance(block, Image):
            image = msgspec.to_builtins(write_block(block))["image"]
            return self._opened({"image": {"format": image["format"]}}) + self._say(
                {"image": {"source": image["source"]}}
            )
        out = b""
        if isinstance(block, Text | Refusal | Thinking):
            if isinstance(block, Thinking):
                for delta in (
                    BlockDelta(index=0, text=block.text or None),
                    BlockDelta(index=0, signature=block.signature),
                    BlockDelta(index=0, redacted=block.redacted),
                ):
                    out += self._delta(delta)
            else:
                # The first delta opens a text; an empty text would otherwise leave no trace but a stop.
                out += self._say({"text": block.text})
                for found in block.citations if isinstance(block, Text) else ():
                    out += self._delta(BlockDelta(index=0, citation=found))
        return out

    def _opaque(self, block: Opaque) -> bytes:
        """Only calls and results of the service's own tools occur in answers; both can be streamed."""
        whole = decode_fields(block.raw)
        inner = decode_fields(whole.get(block.kind, Raw(b"{}")))
        said = inner.pop("input" if block.kind == "toolUse" else "content", Raw(b"{}"))
        out = self._opened({block.kind: inner})
        if block.kind == "toolUse":
            return out + self._say({"toolUse": {"input": bytes(said).decode()}})
        return out + self._say({block.kind: said})

    def _opened(self, start: Wire) -> bytes:
        return _event("contentBlockStart", {"contentBlockIndex": self._index, "start": start})

    def _say(self, delta: Wire) -> bytes:
        return _event("contentBlockDelta", {"contentBlockIndex": self._index, "delta": delta})

    def _delta(self, event: BlockDelta) -> bytes:
        block = self._current
        if block is None:
            return b""
        if event.text is not None:
            if isinstance(block, Thinking):
                return self._say({"reasoningContent": {"text": event.text}})
            return self._say({"text": event.text}) if event.text else b""
        if event.arguments is not None and isinstance(block, ToolCall):
            if block.custom:
                self._text.append(event.arguments)
                return b""
            return self._say({"toolUse": {"input": event.arguments}})
        if isinstance(block, Thinking):
            if event.signature is not None:
                return self._say({"reasoningContent": {"signature": event.signature}})
            if event.redacted is not None:
                return self._say({"reasoningContent": {"redactedContent": event.redacted}})
        if event.citation is not None:
            written = write_citation(event.citation)
            return self._say({"citation": written}) if written is not None else b""
        return b""

    def _stop(self) -> bytes:
        block = self._current
        self._current = None
        if block is None:
            return b""
        out = b""
        if isinstance(block, ToolCall) and block.custom:
            out = self._say({"toolUse": {"input": encode({"input": "".join(self._text)}).decode()}})
        return out + _event("contentBlockStop", {"contentBlockIndex": self._index})
