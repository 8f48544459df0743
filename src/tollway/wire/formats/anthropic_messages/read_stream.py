"""The API's event stream into the hub's events.

A block that only the API knows is held until it is whole. Usage is told by the start and again, in total, by every
``message_delta``: what the later one says counts, the rest stays. An answer whose end was told is complete even when
``message_stop`` never came. A start that is missing is made up, a second one passed over, and so are blocks behind
the end. Unknown events and deltas are passed over.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire import sse
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    BlockDelta,
    BlockStart,
    BlockStop,
    End,
    Failed,
    Finished,
    Metered,
    Opaque,
    Ping,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.anthropic_messages.proof import FAMILY
from tollway.wire.formats.anthropic_messages.read_blocks import read_block, read_citation
from tollway.wire.formats.anthropic_messages.reasons import error_status, read_reason
from tollway.wire.formats.anthropic_messages.shapes import EventShape, OpaqueDelta, Tagged
from tollway.wire.formats.anthropic_messages.usage import read_usage

_decode = msgspec.json.Decoder(EventShape).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_kind = msgspec.json.Decoder(Tagged).decode
_decode_delta = msgspec.json.Decoder(OpaqueDelta).decode
_decode_string = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class StreamReader:
    """The state of one stream."""

    __slots__ = (
        "_block",
        "_finished",
        "_index",
        "_input",
        "_next",
        "_over",
        "_splitter",
        "_started",
        "_usage",
        "_wire",
    )

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._usage: dict[str, Raw] = {}
        self._next = 0  # the hub's index for the next block
        self._wire = -1  # the API's index of the open block
        self._index = -1  # ours, -1 while none is open or it is held
        self._block: dict[str, Raw] | None = None  # a block of the API's own, held until it is whole
        self._input: str | None = None  # a call's input that came with its start
        self._started = False
        self._finished = False
        self._over = False

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Raises Unreadable, or sse.EventTooLarge."""
        block = self._splitter.feed(data)
        events: list[StreamEvent] = []
        if block and not self._over:
            for part in sse.split(block):
                self._read(part, events)
        return events

    def finish(self) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        rest = self._splitter.rest()
        if rest.strip() and not self._over:
            self._read(rest, events)
        if self._over:
            return events
        self._over = True
        if self._finished:
            self._close(events)
            events.append(End())
        else:
            events.append(Failed(message="The provider's stream broke off before the answer was complete."))
        return events

    def _read(self, part: bytes, events: list[StreamEvent]) -> None:
        data = sse.parse(part).data
        if not data or self._over:
            return
        try:
            event = _decode(data)
            reader = _READERS.get(event.type)
            if reader is None:
                return
            if not self._started and event.type not in _ANY_TIME:
                self._started = True
                events.append(Start())
            reader(self, event, data, events)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Unreadable(f"an event of the stream is not what the Messages API sends: {error}") from None
        except BadRequest as error:
            raise Unreadable(
                f"an event of the stream is not what the Messages API sends: {error.message}"
            ) from None

    # -------------------------------------------------------------- the message

    def _start(self, event: EventShape, data: bytes, events: list[StreamEvent]) -> None:
        message = event.message
        if message is None:
            raise Unreadable("message_start holds no message")
        self._merge(message.usage)
        if self._started:
            return
        self._started = True
        usage, tier = read_usage(message.usage)
        events.append(Start(id=message.id, model=message.model, usage=usage, service_tier=tier))

    def _delta_of_message(self, event: EventShape, data: bytes, events: list[StreamEvent]) -> None:
        delta = event.delta
        if delta is not None and delta.stop_reason is not None and not self._finished:
            self._close(events)
            self._finished = True
            events.append(Finished(finish=read_reason(delta.stop_reason), stop_sequence=delta.stop_sequence))
        if self._merge(event.usage):
            raw = Raw(_encode(self._usage))
            usage, tier = read_usage(raw)
            if usage is not None:
                events.append(Metered(usage=usage, raw=raw, service_tier=tier))

    def _stop(self, event: EventShape, data: bytes, events: list[StreamEvent]) -> None:
        self._close(events)
        if not self._finished:
            self._finished = True
            events.append(Finished(finish="stop"))
        self._over = True
        events.append(End())

    def _merge(self, usage: Raw) -> bool:
        if len(bytes(usage)) < 3 or bytes(usage) == b"null":
            return False
        for name, value in _decode_fields(usage).items():
            if bytes(value) != b"null":
                self._usage[name] = value.copy()
        return True

    def _ping(self, event: EventShape, data: bytes, events: list[StreamEvent]) -> None:
        events.append(Ping())

    def _error(self, event: EventShape, data: bytes, events: list[StreamEvent]) -> None:
        self._over = True
        error = event.error
        kind = error.type if error is not None else "api_error"
        message = error.message if error is not None else ""
        events.append(
            Failed(
                message=message or "The provider reported an error.",
                status=error_status(kind),
                kind=kind,
            )
        )

    # -------------------------------------------------------------- blocks

    def _start_block(self, event: EventShape, data: bytes, events: list[StreamEvent]) -> None:
        if self._finished:
            return
        self._close(events)
        self._wire = event.index
        raw = event.content_block
        if not bytes(raw):
            raise Unreadable("content_block_start holds no content_block")
        kind = _decode_kind(raw).type
        if kind not in _KNOWN:
            self._block = _decode_fields(raw.copy())
            return
        block = read_block(raw.copy(), "content_block")
        index = self._index = self._next
        self._next += 1
        if isinstance(block, Text):
            events.append(BlockStart(index=index, block=Text()))
            if block.text:
                events.append(BlockDelta(index=index, text=block.text))
            events.extend(BlockDelta(index=index, citation=citation) for citation in block.citations)
        elif isinstance(block, ToolCall):
            self._input = block.arguments if block.arguments != "{}" else None
            call = ToolCall(id=block.id, name=block.name, arguments="")
            events.append(BlockStart(index=index, block=call))
        elif isinstance(block, Thinking) and block.redacted is None:
            events.append(BlockStart(index=index, block=Thinking(format=FAMILY)))
            if block.text:
                events.append(BlockDelta(index=index, text=block.text))
            if block.signature:
                events.append(BlockDelta(index=index, signature=block.signature))
        else:
            events.append(BlockStart(index=index, block=block))

    def _delta_of_block(self, event: EventShape, data: bytes, events: list[StreamEvent]) -> None:
        delta = event.delta
        if delta is None or event.index != self._wire:
            return
        if self._block is not None:
            self._grow(_decode_delta(data).delta)
            return
        kind = delta.type
        index = self._index
        if kind == "text_delta":
            if delta.text:
                events.append(BlockDelta(index=index, text=delta.text))
        elif kind == "input_json_delta":
            if delta.partial_json:
                self._input = None
                events.append(BlockDelta(index=index, arguments=delta.partial_json))
        elif kind == "thinking_delta":
            if delta.thinking:
                events.append(BlockDelta(index=index, text=delta.thinking))
        elif kind == "signature_delta":
            if delta.signature:
                events.append(BlockDelta(index=index, signature=delta.signature))
        elif kind == "citations_delta" and bytes(delta.citation):
            citation = read_citation(delta.citation.copy(), "delta.citation")
            events.append(BlockDelta(index=index, citation=citation))

    def _grow(self, delta: dict[str, Raw]) -> None:
        """More of a block of the API's own: a server tool's input comes in pieces of JSON, other text under the name
        it has in the block."""
        block = self._block
        if block is None:
            return
        for name, value in delta.items():
            if not bytes(value).startswith(b'"') or name == "type":
                continue
            more = _decode_string(value)
            if name == "partial_json":
                self._input = (self._input or "") + more
            else:
                had = bytes(block.get(name, b"null"))
                whole = (_decode_string(had) if had.startswith(b'"') else "") + more
                block[name] = Raw(_encode(whole))

    def _stop_block(self, event: EventShape, data: bytes, events: list[StreamEvent]) -> None:
        if event.index == self._wire:
            self._close(events)

    def _close(self, events: list[StreamEvent]) -> None:
        """Ends the open block, if one is."""
        if self._block is not None:
            if self._input:
                self._block["input"] = Raw(self._input.encode())
            kind = _decode_string(self._block["type"])
            whole = Opaque(format=FAMILY, kind=kind, raw=Raw(_encode(self._block)))
            events.append(BlockStart(index=self._next, block=whole))
            events.append(BlockStop(index=self._next))
            self._next += 1
        elif self._index >= 0:
            if self._input is not None:
                events.append(BlockDelta(index=self._index, arguments=self._input))
            events.append(BlockStop(index=self._index))
        self._block = self._input = None
        self._wire = self._index = -1


_ANY_TIME = frozenset({"message_start", "ping", "error"})
_KNOWN = frozenset({"text", "tool_use", "thinking", "redacted_thinking"})
_READERS = {
    "message_start": StreamReader._start,
    "content_block_start": StreamReader._start_block,
    "content_block_delta": StreamReader._delta_of_block,
    "content_block_stop": StreamReader._stop_block,
    "message_delta": StreamReader._delta_of_message,
    "message_stop": StreamReader._stop,
    "ping": StreamReader._ping,
    "error": StreamReader._error,
}
