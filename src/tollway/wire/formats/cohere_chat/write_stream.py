"""Events of the hub as the events of a stream of ``/v2/chat``, one block after the other.

Usage and finish stand in ``message-end``; a failure is a ``message-end`` with its error. ``[DONE]`` follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire.conversation import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Citation,
    Conversation,
    End,
    Failed,
    Finished,
    Metered,
    Opaque,
    Refusal,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.cohere_chat.shapes import (
    FAMILY,
    Wire,
    encode,
    is_plan,
    write_call,
    write_citation,
    write_logprobs,
    write_reason,
    write_usage,
)
from tollway.wire.one_at_a_time import OneAtATime

DONE = b"data: [DONE]\n\n"


def _event(kind: str, fields: Wire) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + encode({"type": kind, **fields}) + b"\n\n"


def _message(kind: str, message: Wire, index: int | None = None, more: Wire | None = None) -> bytes:
    fields: Wire = {} if index is None else {"index": index}
    return _event(kind, {**fields, "delta": {"message": message}, **(more or {})})


class Writer:
    """The state of one stream. Content, calls and citations are counted each for itself."""

    __slots__ = ("_block", "_calls", "_cited", "_content", "_id", "_order", "_reason", "_text", "_usage")

    def __init__(self, request: Conversation) -> None:
        self._order = OneAtATime()
        self._block: Block | None = None
        self._content = -1
        self._calls = -1
        self._cited = 0
        self._id = ""
        self._reason = "COMPLETE"
        self._text: list[str] = []
        self._usage: Usage | None = None

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
            self._id = event.id
            self._usage = event.usage
            message: Wire = {
                "role": "assistant",
                "content": [],
                "tool_plan": "",
                "tool_calls": [],
                "citations": [],
            }
            return _event("message-start", {"id": event.id, "delta": {"message": message}})
        if isinstance(event, Finished):
            self._reason = write_reason(event.finish, event.stop_sequence)
        elif isinstance(event, Metered):
            self._usage = event.usage
        elif isinstance(event, End):
            return self._end({"finish_reason": self._reason})
        elif isinstance(event, Failed):
            return self._end({"finish_reason": "ERROR", "error": event.message})
        return b""

    def _end(self, delta: Wire) -> bytes:
        delta["usage"] = write_usage(self._usage)
        return _event("message-end", {"id": self._id, "delta": delta}) + DONE

    def _start(self, block: Block) -> bytes:
        self._block = block
        self._text = []
        if isinstance(block, Thinking) and is_plan(block):
            return _message("tool-plan-delta", {"tool_plan": block.text}) if block.text else b""
        if isinstance(block, ToolCall):
            self._calls += 1
            return _message(
                "tool-call-start", {"tool_calls": write_call(block, block.arguments)}, self._calls
            )
        if isinstance(block, Text | Refusal):
            out = self._open({"type": "text", "text": block.text})
            self._text.append(block.text)
            for citation in block.citations if isinstance(block, Text) else ():
                out += self._cite(citation)
            return out
        if isinstance(block, Thinking) and block.redacted is None:
            return self._open({"type": "thinking", "thinking": block.text})
        if isinstance(block, Opaque) and block.format == FAMILY:
            return self._open(block.raw)
        self._block = None
        return b""

    def _open(self, content: Wire | Raw) -> bytes:
        self._content += 1
        return _message("content-start", {"content": content}, self._content)

    def _delta(self, event: BlockDelta) -> bytes:
        block = self._block
        if block is None:
            return b""
        if event.text is not None:
            if isinstance(block, Thinking):
                if is_plan(block):
                    return _message("tool-plan-delta", {"tool_plan": event.text})
                return _message("content-delta", {"content": {"thinking": event.text}}, self._content)
            self._text.append(event.text)
            logprobs = write_logprobs(event.logprobs)
            more: Wire | None = None
            if logprobs:
                more = {"logprobs": logprobs[0]}
                for extra in logprobs[1:]:
                    more["logprobs"]["text"] += extra["text"]
                    more["logprobs"]["logprobs"] += extra["logprobs"]
            return _message("content-delta", {"content": {"text": event.text}}, self._content, more)
        if event.arguments is not None:
            message = {"tool_calls": {"function": {"arguments": event.arguments}}}
            return _message("tool-call-delta", message, self._calls)
        if event.citation is not None and isinstance(block, Text):
            return self._cite(event.citation)
        return b""

    def _cite(self, citation: Citation) -> bytes:
        index = self._cited
        self._cited += 1
        written = write_citation(citation, "".join(self._text), self._content)
        return _message("citation-start", {"citations": written}, index) + _event(
            "citation-end", {"index": index}
        )

    def _stop(self) -> bytes:
        block, self._block = self._block, None
        if isinstance(block, ToolCall):
            return _event("tool-call-end", {"index": self._calls})
        if block is None or (isinstance(block, Thinking) and is_plan(block)):
            return b""
        return _event("content-end", {"index": self._content})
