"""ConverseStream: frames of Amazon's event stream as events of the hub.

Text and reasoning open with their first delta; a content block that turns from one into the other becomes two. Server
tools' calls and results, and images, are gathered and given whole. The last event (``metadata``) comes after
``messageStop``; the end of the bytes is the end of the stream.
"""

from __future__ import annotations

import base64
import binascii

import msgspec
from msgspec import Raw, Struct

from tollway.errors import BadRequest
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    End,
    Failed,
    Finished,
    Image,
    Metered,
    Source,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.decoding import answer, given
from tollway.wire.event_stream import Frame, FrameReader
from tollway.wire.formats.bedrock_converse.errors import STREAM_STATUSES
from tollway.wire.formats.bedrock_converse.read_answer import read_stop
from tollway.wire.formats.bedrock_converse.read_blocks import citation, opaque
from tollway.wire.formats.bedrock_converse.shapes import (
    FAMILY,
    IMAGE_MEDIA,
    ServiceTier,
    TokenUsage,
    Wire,
    encode,
    read_usage,
)


class _ToolUse(Struct):
    toolUseId: str = ""
    name: str = ""
    type: str | None = None
    input: str = ""


class _ToolResult(Struct):
    toolUseId: str = ""
    type: str | None = None
    status: str | None = None


class _ImageStart(Struct):
    format: str = "png"


class _Opening(Struct):
    toolUse: _ToolUse | None = None
    toolResult: _ToolResult | None = None
    image: _ImageStart | None = None


class _BlockStart(Struct):
    contentBlockIndex: int
    start: _Opening


class _Reasoning(Struct):
    text: str | None = None
    signature: str | None = None
    redactedContent: str | None = None


class _Bytes(Struct):
    bytes: str = ""


class _ImageDelta(Struct):
    source: _Bytes | None = None


class _Delta(Struct):
    text: str | None = None
    toolUse: _ToolUse | None = None
    reasoningContent: _Reasoning | None = None
    citation: Raw = Raw()
    toolResult: list[Raw] | None = None
    image: _ImageDelta | None = None


class _BlockDelta(Struct):
    contentBlockIndex: int
    delta: _Delta


class _BlockStop(Struct):
    contentBlockIndex: int


class _MessageStop(Struct):
    stopReason: str
    additionalModelResponseFields: Raw = Raw()


class _Metadata(Struct):
    usage: Raw = Raw()
    serviceTier: ServiceTier | None = None


class _Exception(Struct):
    message: str = ""
    originalStatusCode: int | None = None
    originalMessage: str | None = None


_block_start = msgspec.json.Decoder(_BlockStart)
_block_delta = msgspec.json.Decoder(_BlockDelta)
_block_stop = msgspec.json.Decoder(_BlockStop)
_message_stop = msgspec.json.Decoder(_MessageStop)
_metadata = msgspec.json.Decoder(_Metadata)
_usage = msgspec.json.Decoder(TokenUsage)
_exception = msgspec.json.Decoder(_Exception)

WHAT = "Bedrock's stream"


class _Gathered(Struct):
    """A block that is given whole: its kind, what its start said, and what came since."""

    kind: str
    opening: Wire
    text: list[str]
    parts: list[Raw]


class Reader:
    """The state of one stream."""

    __slots__ = ("_blocks", "_frames", "_gathered", "_next", "_over", "_started", "_stopped")

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._started = False
        self._stopped = False
        self._over = False
        self._next = 0
        self._blocks: dict[int, tuple[int, Block]] = {}
        self._gathered: dict[int, _Gathered] = {}

    def feed(self, data: bytes) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for frame in self._frames.feed(data):
            if not self._over:
                self._frame(frame, events)
        return events

    def finish(self) -> list[StreamEvent]:
        if self._over:
            return []
        self._over = True
        if self._stopped and not self._frames.rest:
            return [End()]
        return [Failed(message="Bedrock's stream broke off before its end.", code="stream_broken")]

    def _frame(self, frame: Frame, events: list[StreamEvent]) -> None:
        kind = frame.text(":message-type")
        if kind == "event":
            name = frame.text(":event-type")
            if not self._started and name != "initial-response":
                self._started = True
                events.append(Start())
            if name == "contentBlockDelta":
                wire = answer(_block_delta, frame.payload, WHAT)
                self._delta(wire.contentBlockIndex, wire.delta, events)
            elif name == "contentBlockStart":
                opened = answer(_block_start, frame.payload, WHAT)
                self._open(opened.contentBlockIndex, opened.start, events)
            elif name == "contentBlockStop":
                self._close(answer(_block_stop, frame.payload, WHAT).contentBlockIndex, events)
            elif name == "messageStop":
                self._stop(answer(_message_stop, frame.payload, WHAT), events)
            elif name == "metadata":
                self._meter(answer(_metadata, frame.payload, WHAT), events)
            return
        self._over = True
        events.append(_failed(frame, kind))

    def _open(self, number: int, start: _Opening, events: list[StreamEvent]) -> None:
        self._close(number, events)
        call = start.toolUse
        if call is not None and call.type is None:
            made = call.toolUseId or f"tooluse_{self._next}"  # the hub knows no call without an id
            self._begin(number, ToolCall(id=made, name=call.name, arguments=""), events)
        elif call is not None:
            opening: Wire = {"toolUseId": call.toolUseId, "name": call.name, "type": call.type}
            self._gathered[number] = _Gathered("toolUse", opening, [], [])
        elif start.toolResult is not None:
            result = start.toolResult
            opening = {"toolUseId": result.toolUseId}
            if result.type is not None:
                opening["type"] = result.type
            if result.status is not None:
                opening["status"] = result.status
            self._gathered[number] = _Gathered("toolResult", opening, [], [])
        elif start.image is not None:
            self._gathered[number] = _Gathered("image", {"format": start.image.format}, [], [])

    def _delta(self, number: int, delta: _Delta, events: list[StreamEvent]) -> None:
        if delta.text is not None:
            index = self._current(number, Text, events)
            if delta.text:
                events.append(BlockDelta(index=index, text=delta.text))
        elif delta.toolUse is not None:
            gathered = self._gathered.get(number)
            if gathered is not None:
                gathered.text.append(delta.toolUse.input)
            elif delta.toolUse.input:
                if number not in self._blocks:
                    raise Unreadable("Bedrock's stream has tool input for a block that was not opened")
                events.append(BlockDelta(index=self._blocks[number][0], arguments=delta.toolUse.input))
        elif delta.reasoningContent is not None:
            index = self._current(number, Thinking, events)
            said = delta.reasoningContent
            if said.text:
                events.append(BlockDelta(index=index, text=said.text))
            if said.signature:
                events.append(BlockDelta(index=index, signature=said.signature))
            if said.redactedContent:
                events.append(BlockDelta(index=index, redacted=said.redactedContent))
        elif given(delta.citation):
            index = self._current(number, Text, events)
            try:
                events.append(BlockDelta(index=index, citation=citation(delta.citation, "citation")))
            except BadRequest as error:
                raise Unreadable(f"{WHAT} does not fit its format: {error.message}") from None
        elif delta.toolResult is not None and number in self._gathered:
            self._gathered[number].parts.extend(delta.toolResult)
        elif delta.image is not None and number in self._gathered and delta.image.source is not None:
            self._gathered[number].text.append(delta.image.source.bytes)

    def _current(self, number: int, kind: type[Text] | type[Thinking], events: list[StreamEvent]) -> int:
        """The open block of a content block, which text and reasoning open without being announced."""
        held = self._blocks.get(number)
        if held is not None and isinstance(held[1], kind):
            return held[0]
        self._close(number, events)
        return self._begin(number, Text() if kind is Text else Thinking(format=FAMILY), events)

    def _begin(self, number: int, block: Block, events: list[StreamEvent]) -> int:
        index = self._next
        self._next += 1
        self._blocks[number] = (index, block)
        events.append(BlockStart(index=index, block=block))
        return index

    def _close(self, number: int, events: list[StreamEvent]) -> None:
        held = self._blocks.pop(number, None)
        if held is not None:
            events.append(BlockStop(index=held[0]))
        gathered = self._gathered.pop(number, None)
        if gathered is not None:
            self._begin(number, _whole(gathered), events)
            events.append(BlockStop(index=self._blocks.pop(number)[0]))

    def _stop(self, wire: _MessageStop, events: list[StreamEvent]) -> None:
        if self._stopped:
            return
        for number in sorted(self._blocks.keys() | self._gathered.keys()):
            self._close(number, events)
        finish, sequence = read_stop(wire.stopReason, wire.additionalModelResponseFields)
        self._stopped = True
        events.append(Finished(finish=finish, stop_sequence=sequence))

    def _meter(self, wire: _Metadata, events: list[StreamEvent]) -> None:
        if given(wire.usage):
            usage = read_usage(answer(_usage, wire.usage, WHAT))
            tier = wire.serviceTier.type if wire.serviceTier else None
            events.append(Metered(usage=usage, raw=wire.usage, service_tier=tier))


def _whole(gathered: _Gathered) -> Block:
    wire: Wire = dict(gathered.opening)
    if gathered.kind == "image":
        short: str = wire["format"]
        media = IMAGE_MEDIA.get(short, short)
        return Image(source=Source(kind="data", value=_joined(gathered.text), media_type=media))
    if gathered.kind == "toolResult":
        wire["content"] = gathered.parts
    else:
        wire["input"] = _json("".join(gathered.text))
    return opaque(gathered.kind, Raw(encode(wire)))


def _json(text: str) -> Raw:
    if not text:
        return Raw(b"{}")
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return Raw(encode(text))
    return Raw(text.encode())


def _joined(pieces: list[str]) -> str:
    """One base64 text out of several, each of which may carry its own padding."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join(base64.b64decode(piece, validate=True) for piece in pieces)).decode()
    except binascii.Error:
        raise Unreadable("Bedrock's stream has an image that is not base64") from None


def _failed(frame: Frame, kind: str) -> Failed:
    if kind == "exception":
        name = frame.text(":exception-type")
        try:
            wire = _exception.decode(frame.payload)
        except (msgspec.DecodeError, RecursionError):
            wire = _Exception(message=frame.payload[:500].decode(errors="replace"))
        status = STREAM_STATUSES.get(name, 502)
        if name == "modelStreamErrorException" and wire.originalStatusCode in range(400, 600):
            status = wire.originalStatusCode or status
        message = (
            wire.message
            or wire.originalMessage
            or f"Bedrock broke the stream off: {name or 'no reason given'}."
        )
        return Failed(message=message, status=status, kind=name or "api_error", code=name or None)
    if kind == "error":
        code = frame.text(":error-code")
        status = int(code) if code.isdigit() and 400 <= int(code) <= 599 else 502
        message = frame.text(":error-message") or "Bedrock broke the stream off."
        return Failed(message=message, status=status, code=code or None)
    raise Unreadable("Bedrock's stream has a frame of no known message type")
