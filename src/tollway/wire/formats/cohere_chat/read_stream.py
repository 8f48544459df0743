"""The events of a stream of ``/v2/chat`` as events of the hub.

A text stays open beyond its ``content-end`` until something else begins: citations may follow it. Content and tool
calls are counted apart there and together here.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.wire import sse
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    End,
    Failed,
    Finished,
    Metered,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.decoding import answer, given
from tollway.wire.formats.cohere_chat.answer import made_id, read_content
from tollway.wire.formats.cohere_chat.shapes import (
    FAMILY,
    PLAN,
    Call,
    Content,
    Logprob,
    WireUsage,
    read_citation,
    read_finish,
    read_logprobs,
    read_usage,
)


class _Message(Struct):
    content: Raw = Raw()
    tool_plan: str | None = None
    tool_calls: Raw = Raw()
    citations: Raw = Raw()


class _Delta(Struct):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: Raw = Raw()
    error: str | None = None


class _Event(Struct):
    type: str = ""
    id: str = ""
    index: int = 0
    delta: _Delta | None = None
    logprobs: Logprob | None = None


_event = msgspec.json.Decoder(_Event)
_content = msgspec.json.Decoder(Content)
_call = msgspec.json.Decoder(Call)
_usage = msgspec.json.Decoder(WireUsage)

WHAT = "Cohere's stream"


class Reader:
    """The state of one stream. ``_open`` is the open block, ``_next`` the number of the next one."""

    __slots__ = ("_calls", "_id", "_next", "_open", "_over", "_splitter", "_started")

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._started = False
        self._over = False
        self._next = 0
        self._open: Block | None = None
        self._calls = 0
        self._id = ""

    def feed(self, data: bytes) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        block = self._splitter.feed(data)
        if block:
            for part in sse.split(block):
                self._part(part, events)
        return events

    def finish(self) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        rest = self._splitter.rest()
        if rest.strip() and not self._over:
            parsed = sse.parse(rest).data
            try:
                msgspec.json.decode(parsed or b"")
            except (msgspec.DecodeError, RecursionError):
                pass  # torn off in the middle of an event
            else:
                self._part(rest, events)
        if not self._over:
            self._over = True
            events.append(Failed(message="Cohere's stream broke off before its end.", code="stream_broken"))
        return events

    def _part(self, part: bytes, events: list[StreamEvent]) -> None:
        data = sse.parse(part).data
        if self._over or data is None or not data.strip() or data.strip() == b"[DONE]":
            return
        wire = answer(_event, data, WHAT)
        if wire.type == "message-start":
            self._id = wire.id
        if not self._started:
            self._started = True
            events.append(Start(id=wire.id if wire.type == "message-start" else ""))
        delta = wire.delta or _Delta()
        said = delta.message or _Message()
        if wire.type == "content-delta":
            self._content(answer(_content, said.content, WHAT), wire.logprobs, events)
        elif wire.type == "content-start":
            self._content_start(said.content, events)
        elif wire.type == "tool-plan-delta":
            if not (isinstance(self._open, Thinking) and self._open.id == PLAN):
                self._begin(Thinking(id=PLAN, format=FAMILY), events)
            if said.tool_plan:
                events.append(BlockDelta(index=self._next - 1, text=said.tool_plan))
        elif wire.type == "tool-call-start":
            call = answer(_call, said.tool_calls, WHAT)
            self._call_start(call, events)
        elif wire.type == "tool-call-delta":
            function = answer(_call, said.tool_calls, WHAT).function
            if not isinstance(self._open, ToolCall):
                raise Unreadable(f"{WHAT} has arguments for a tool call that was not opened")
            if function is not None and function.arguments:
                events.append(BlockDelta(index=self._next - 1, arguments=function.arguments))
        elif wire.type == "tool-call-end":
            if isinstance(self._open, ToolCall):
                self._close(events)
        elif wire.type == "citation-start":
            self._citation(said.citations, events)
        elif wire.type == "message-end":
            self._end(delta, events)

    def _content_start(self, raw: Raw, events: list[StreamEvent]) -> None:
        block = read_content(raw) if given(raw) else Text()
        if isinstance(block, Text | Thinking):
            text = block.text
            self._begin(Text() if isinstance(block, Text) else Thinking(format=FAMILY), events)
            if text:
                events.append(BlockDelta(index=self._next - 1, text=text))
        else:
            self._begin(block, events)

    def _content(self, item: Content, logprob: Logprob | None, events: list[StreamEvent]) -> None:
        logprobs = read_logprobs([logprob]) if logprob is not None else Raw()
        if item.thinking is not None:
            if not isinstance(self._open, Thinking) or self._open.id == PLAN:
                self._begin(Thinking(format=FAMILY), events)
            if item.thinking:
                events.append(BlockDelta(index=self._next - 1, text=item.thinking))
        elif item.text or given(logprobs):
            if not isinstance(self._open, Text):
                self._begin(Text(), events)
            events.append(BlockDelta(index=self._next - 1, text=item.text or "", logprobs=logprobs))

    def _call_start(self, wire: Call, events: list[StreamEvent]) -> None:
        name = wire.function.name if wire.function else ""
        call = ToolCall(id=wire.id or made_id(self._id, self._calls), name=name, arguments="")
        self._calls += 1
        self._begin(call, events)
        if wire.function is not None and wire.function.arguments:
            events.append(BlockDelta(index=self._next - 1, arguments=wire.function.arguments))

    def _citation(self, raw: Raw, events: list[StreamEvent]) -> None:
        if not given(raw) or not isinstance(self._open, Text):
            return  # of a thought or a plan
        try:
            wire, citation = read_citation(raw)
        except msgspec.DecodeError:
            raise Unreadable(f"{WHAT} has a citation that does not fit its format") from None
        if wire.type not in ("THINKING_CONTENT", "PLAN"):
            events.append(BlockDelta(index=self._next - 1, citation=citation))

    def _end(self, delta: _Delta, events: list[StreamEvent]) -> None:
        self._over = True
        if delta.error:
            events.append(Failed(message=delta.error))
            return
        self._close(events)
        finish, sequence = read_finish(delta.finish_reason or "COMPLETE")
        events.append(Finished(finish=finish, stop_sequence=sequence))
        usage = read_usage(answer(_usage, delta.usage, WHAT)) if given(delta.usage) else None
        if usage is not None:
            events.append(Metered(usage=usage, raw=delta.usage))
        events.append(End())

    def _begin(self, block: Block, events: list[StreamEvent]) -> None:
        self._close(events)
        events.append(BlockStart(index=self._next, block=block))
        self._open = block
        self._next += 1

    def _close(self, events: list[StreamEvent]) -> None:
        if self._open is not None:
            self._open = None
            events.append(BlockStop(index=self._next - 1))
