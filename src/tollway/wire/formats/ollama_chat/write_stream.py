"""Events of the hub as lines of a stream of ``/api/chat``. A call is held back until it is whole; blocks keep their
order. The last line says ``done``, why, and the counts; an error is a line of its own and the end."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw, structs

from tollway.model.usage import Usage
from tollway.wire.conversation import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Conversation,
    End,
    Failed,
    Finish,
    Finished,
    Metered,
    Refusal,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.decoding import given
from tollway.wire.formats.ollama_chat.answer import content_logprobs
from tollway.wire.formats.ollama_chat.shapes import (
    Wire,
    encode,
    write_call,
    write_reason,
    write_time,
    write_usage,
)
from tollway.wire.one_at_a_time import OneAtATime


class Writer:
    """The state of one stream."""

    __slots__ = ("_arguments", "_block", "_created", "_finish", "_model", "_order", "_usage")

    def __init__(self, request: Conversation) -> None:
        self._order = OneAtATime()
        self._model = request.model
        self._created = write_time(0)
        self._block: Block | None = None
        self._arguments: list[str] = []
        self._finish: Finish = "stop"
        self._usage: Usage | None = None

    def write(self, events: Sequence[StreamEvent]) -> bytes:
        return b"".join([self._one(event) for event in self._order.pass_on(events)])

    def _one(self, event: StreamEvent) -> bytes:
        if isinstance(event, BlockDelta):
            return self._delta(event)
        if isinstance(event, BlockStart):
            self._block = event.block
            self._arguments = []
            if isinstance(event.block, Text | Refusal | Thinking) and event.block.text:
                return self._said(event.block.text)
            return b""
        if isinstance(event, BlockStop):
            block, self._block = self._block, None
            if isinstance(block, ToolCall):
                whole = structs.replace(block, arguments=block.arguments + "".join(self._arguments))
                return self._line({"role": "assistant", "content": "", "tool_calls": [write_call(whole)]})
            return b""
        if isinstance(event, Start):
            self._model = event.model or self._model
            self._created = write_time(event.created)
            self._usage = event.usage
        elif isinstance(event, Finished):
            self._finish = event.finish
        elif isinstance(event, Metered):
            self._usage = event.usage
        elif isinstance(event, End):
            end: Wire = {"done": True, "done_reason": write_reason(self._finish), **write_usage(self._usage)}
            return self._line({"role": "assistant", "content": ""}, end)
        elif isinstance(event, Failed):
            return encode({"error": event.message}) + b"\n"
        return b""

    def _delta(self, event: BlockDelta) -> bytes:
        if event.arguments is not None:
            self._arguments.append(event.arguments)
        elif event.text is not None and isinstance(self._block, Text | Refusal | Thinking):
            return self._said(event.text, content_logprobs(event.logprobs))
        return b""

    def _said(self, text: str, logprobs: Raw | None = None) -> bytes:
        counted = logprobs is not None and given(logprobs)
        if not text and not counted:
            return b""
        message: Wire = {"role": "assistant", "content": text}
        if isinstance(self._block, Thinking):
            message = {"role": "assistant", "content": "", "thinking": text}
        return self._line(message, {"done": False, "logprobs": logprobs} if counted else None)

    def _line(self, message: Wire, more: Wire | None = None) -> bytes:
        fields: Wire = {"model": self._model, "created_at": self._created, "message": message, "done": False}
        if more:
            fields.update(more)
        return encode(fields) + b"\n"
