"""The hub's events as the API's event stream: one block open at a time, with indices that only grow.

Blocks that a provider sends side by side wait for their turn. A block starts when there is something in it, so that a
client never keeps an empty one, which the API would refuse to read again. The end (``message_delta`` with the final
usage) is written when the hub's stream ends, because usage may come after the reason. What an answer leaves out is
said in ``answer``; a call's arguments go out as they come, whole JSON or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from tollway.model.usage import NOTHING, Usage
from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Conversation,
    End,
    Failed,
    Finished,
    Metered,
    Opaque,
    Ping,
    Refusal,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.anthropic_messages.answer import message_id, write_citation, write_thought
from tollway.wire.formats.anthropic_messages.errors import error_event
from tollway.wire.formats.anthropic_messages.proof import FAMILY, seal_call
from tollway.wire.formats.anthropic_messages.reasons import write_reason
from tollway.wire.formats.anthropic_messages.usage import delta_usage, write_usage

_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":'
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":'


class StreamWriter:
    """The state of one client's stream. Choices but the first are left out."""

    __slots__ = (
        "_block",
        "_calls",
        "_filled",
        "_finished",
        "_index",
        "_model",
        "_open",
        "_out",
        "_over",
        "_proof",
        "_said",
        "_show",
        "_started",
        "_usage",
        "_waiting",
    )

    def __init__(self, request: Conversation) -> None:
        self._model = request.model
        self._show = request.reasoning is None or request.reasoning.show is not False
        self._out: list[bytes] = []
        self._usage: Usage = NOTHING
        self._finished: Finished | None = None
        self._calls = False
        self._over = False
        self._started = False
        self._waiting: dict[int, list[StreamEvent]] = {}
        self._open = -1  # the hub's index of the block being written
        self._index = -1  # the dialect's last index
        self._block: Block | None = None
        self._said = False  # whether the block being written has started there
        self._filled = False  # whether text or arguments have come
        self._proof = ""  # signature of the block being written, as far as it came

    def write(self, events: Sequence[StreamEvent]) -> bytes:
        for event in events:
            if not self._over:
                self._one(event)
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _one(self, event: StreamEvent) -> None:
        if isinstance(event, BlockDelta):
            if event.choice:
                return
            if event.index == self._open:
                self._more(event)
            elif event.index in self._waiting:
                self._waiting[event.index].append(event)
        elif isinstance(event, BlockStart):
            if event.choice:
                return
            if self._open < 0:
                self._begin(event)
            else:
                self._waiting[event.index] = [event]
        elif isinstance(event, BlockStop):
            if event.choice:
                return
            if event.index == self._open:
                self._end()
                self._next()
            elif event.index in self._waiting:
                self._waiting[event.index].append(event)
        elif isinstance(event, Finished):
            if not event.choice:
                self._finished = event
        elif isinstance(event, Metered):
            self._usage = event.usage
        elif isinstance(event, Ping):
            self._out.append(PING)
        elif isinstance(event, Start):
            self._start(event)
        elif isinstance(event, Failed):
            self._over = True
            self._out.append(error_event(event))
        else:
            self._stop(event)

    # -------------------------------------------------------------- the message

    def _start(self, event: Start) -> None:
        if event.usage is not None:
            self._usage = event.usage
        self._started = True
        message: dict[str, Any] = {
            "id": message_id(event.id),
            "type": "message",
            "role": "assistant",
            "model": event.model or self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_usage(event.usage, event.service_tier),
        }
        self._frame(b"message_start", {"type": "message_start", "message": message})

    def _stop(self, event: End) -> None:
        if not self._started:
            self._start(Start())
        while self._open >= 0:
            self._end()
            self._next()
        finished = self._finished or Finished(finish="stop")
        delta = {
            "stop_reason": write_reason(finished.finish, finished.stop_sequence, self._calls),
            "stop_sequence": finished.stop_sequence,
        }
        self._frame(
            b"message_delta", {"type": "message_delta", "delta": delta, "usage": delta_usage(self._usage)}
        )
        self._frame(b"message_stop", {"type": "message_stop"})
        self._over = True

    # -------------------------------------------------------------- blocks

    def _begin(self, event: BlockStart) -> None:
        block = event.block
        self._open = event.index
        self._block = block
        self._said = self._filled = False
        self._proof = ""
        if isinstance(block, ToolCall):
            self._calls = True
            if block.signature:
                self._whole({"type": "redacted_thinking", "data": seal_call(block.id, block.signature)})
            self._begin_block({"type": "tool_use", "id": block.id, "name": block.name, "input": {}})
            if block.arguments:
                self._arguments(block)
                self._filled = True
        elif isinstance(block, Text):
            self._text(block.text)
            for citation in block.citations:
                self._citation(write_citation(citation))
        elif isinstance(block, Refusal):
            self._text(block.text)
        elif isinstance(block, Audio):
            self._text(block.transcript or "")
        elif isinstance(block, Thinking):
            self._proof = block.signature or ""
            self._think(block.text)
        elif isinstance(block, Opaque) and block.format == FAMILY:
            self._opaque(block)

    def _more(self, event: BlockDelta) -> None:
        block = self._block
        if event.text is not None:
            if isinstance(block, Thinking):
                self._think(event.text)
            elif isinstance(block, Text | Refusal | Audio):
                self._text(event.text)
        elif event.arguments is not None:
            if isinstance(block, ToolCall) and event.arguments:
                self._arguments(msgspec.structs.replace(block, arguments=event.arguments))
                self._filled = True
        elif event.signature is not None:
            self._proof += event.signature
        elif event.redacted is not None:
            if isinstance(block, Thinking):
                self._block = msgspec.structs.replace(block, redacted=(block.redacted or "") + event.redacted)
        elif event.citation is not None and isinstance(block, Text):
            self._citation(write_citation(event.citation))

    def _end(self) -> None:
        block = self._block
        self._open = -1
        self._block = None
        if isinstance(block, Thinking):
            self._end_thought(block)
            return
        if not self._said:
            return
        if isinstance(block, ToolCall):
            if not self._filled:
                self._json(b'{"input":""}' if block.custom else b"{}")
            elif block.custom:
                self._json(b'"}')
        self._out.append(_STOP + b"%d}\n\n" % self._index)
        if isinstance(block, ToolCall) and self._proof:
            self._whole({"type": "redacted_thinking", "data": seal_call(block.id, self._proof)})

    def _next(self) -> None:
        """Blocks that waited: those that are over whole, then the first that is not as far as it came."""
        while self._open < 0 and self._waiting:
            index = next(iter(self._waiting))
            for event in self._waiting.pop(index):
                if isinstance(event, BlockStart):
                    self._begin(event)
                elif isinstance(event, BlockDelta):
                    self._more(event)
                else:
                    self._end()

    # -------------------------------------------------------------- what stands in them

    def _text(self, text: str) -> None:
        if not text:
            return
        if not self._said:
            self._begin_block({"type": "text", "text": ""})
        self._out.append(
            _DELTA + b'%d,"delta":{"type":"text_delta","text":%b}}\n\n' % (self._index, _encode(text))
        )

    def _citation(self, citation: object | None) -> None:
        if citation is None:
            return
        if not self._said:
            self._begin_block({"type": "text", "text": ""})
        if isinstance(citation, Raw):
            citation = Raw(_one_line(citation))
        delta = {"type": "citations_delta", "citation": citation}
        self._frame(
            b"content_block_delta", {"type": "content_block_delta", "index": self._index, "delta": delta}
        )

    def _think(self, text: str) -> None:
        if not text:
            return
        if not self._said:
            self._begin_block({"type": "thinking", "thinking": "", "signature": ""})
        if self._show:
            self._out.append(
                _DELTA
                + b'%d,"delta":{"type":"thinking_delta","thinking":%b}}\n\n' % (self._index, _encode(text))
            )
        elif not self._out or self._out[-1] is not PING:
            self._out.append(PING)  # the client does not want to read it, but to know that there is life
        self._filled = True

    def _end_thought(self, block: Thinking) -> None:
        """The proof is known at the end only: SDKs keep the last signature they are given, so it goes out whole."""
        said = msgspec.structs.replace(block, text="?" if self._filled else "", signature=self._proof or None)
        whole = write_thought(said, self._show)
        if not self._said:
            if whole is not None and whole["type"] == "redacted_thinking":
                self._whole(whole)
                return
            if whole is None:
                return
            self._begin_block({"type": "thinking", "thinking": "", "signature": ""})
        proof = whole.get("signature") if whole is not None else None
        if proof:
            self._out.append(
                _DELTA
                + b'%d,"delta":{"type":"signature_delta","signature":%b}}\n\n' % (self._index, _encode(proof))
            )
        self._out.append(_STOP + b"%d}\n\n" % self._index)

    def _arguments(self, block: ToolCall) -> None:
        if block.custom:
            # Free text, as the one member of an object, escaped piece by piece.
            self._json((b"" if self._filled else b'{"input":"') + _encode(block.arguments)[1:-1])
        else:
            self._json(block.arguments.encode(errors="replace"))

    def _json(self, piece: bytes) -> None:
        self._out.append(
            _DELTA
            + b'%d,"delta":{"type":"input_json_delta","partial_json":%b}}\n\n'
            % (self._index, _encode(piece.decode()))
        )

    def _opaque(self, block: Opaque) -> None:
        """A block of the API's own; a server tool's input goes out as the API sends it, behind an empty one."""
        raw = _one_line(block.raw)
        fields = _decode_fields(raw)
        given = fields.get("input")
        if given is not None and block.kind.endswith("tool_use"):
            self._begin_block({**fields, "input": {}})
            self._json(bytes(given))
        else:
            self._begin_block(Raw(raw))

    def _whole(self, block: dict[str, Any]) -> None:
        """A block that is over as it starts, before or behind the one being written."""
        said = self._said
        self._begin_block(block)
        self._out.append(_STOP + b"%d}\n\n" % self._index)
        self._said = said

    def _begin_block(self, block: object) -> None:
        self._index += 1
        self._said = True
        self._frame(
            b"content_block_start",
            {"type": "content_block_start", "index": self._index, "content_block": block},
        )

    def _frame(self, name: bytes, fields: dict[str, Any]) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (name, _encode(fields)))


def _one_line(raw: Raw) -> bytes:
    """JSON as the provider or the client wrote it, without the line breaks that would end a ``data`` line."""
    value = bytes(raw)
    return msgspec.json.format(value, indent=-1) if b"\n" in value or b"\r" in value else value
