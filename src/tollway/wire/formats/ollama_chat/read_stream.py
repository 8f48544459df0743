"""Lines of a stream of ``/api/chat`` as events of the hub. A call comes whole in one line; each is a block of its own.

Neither the index nor the order of lines tells calls apart in all versions, so every entry is a new call.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.wire.conversation import (
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
from tollway.wire.formats.ollama_chat.shapes import (
    FAMILY,
    Answer,
    Call,
    id_base,
    read_call,
    read_finish,
    read_time,
    read_usage,
)
from tollway.wire.sse import EventTooLarge

_line = msgspec.json.Decoder(Answer)
WHAT = "Ollama's stream"
LONGEST_LINE = 16 * 1024 * 1024


class Reader:
    """The state of one stream. ``_open`` is the kind of the open block, None when none is."""

    __slots__ = ("_base", "_calls", "_held", "_next", "_open", "_over", "_pieces", "_started")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._started = False
        self._over = False
        self._next = 0
        self._calls = 0
        self._base = ""
        self._open: type[Text] | type[Thinking] | None = None

    def feed(self, data: bytes) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        end = data.rfind(b"\n") + 1
        if end:
            whole = b"".join((*self._pieces, data[:end]))
            self._pieces.clear()
            self._held = 0
            for line in whole.split(b"\n"):
                if not self._over and line.strip():
                    self._read(line, events)
            data = data[end:]
        if data and not self._over:
            self._pieces.append(data)
            self._held += len(data)
            if self._held > LONGEST_LINE:
                raise EventTooLarge(f"a line of the stream is longer than {LONGEST_LINE} bytes")
        return events

    def finish(self) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        rest = b"".join(self._pieces)
        self._pieces.clear()
        if not self._over and rest.strip() and _complete(rest):
            self._read(rest, events)
        if not self._over:
            self._over = True
            events.append(Failed(message="Ollama's stream broke off before its end.", code="stream_broken"))
        return events

    def _read(self, line: bytes, events: list[StreamEvent]) -> None:
        wire = answer(_line, line, WHAT)
        if wire.error is not None:
            self._over = True
            events.append(Failed(message=wire.error or "Ollama reported an error without a message."))
            return
        if not self._started:
            self._started = True
            self._base = id_base(wire.created_at)
            events.append(Start(model=wire.model, created=read_time(wire.created_at)))
        said = wire.message
        if said is not None:
            if said.thinking:
                events.append(BlockDelta(index=self._in(Thinking, events), text=said.thinking))
            if said.content or given(wire.logprobs):
                logprobs = (
                    Raw(b'{"content":' + bytes(wire.logprobs) + b"}") if given(wire.logprobs) else Raw()
                )
                index = self._in(Text, events)
                events.append(BlockDelta(index=index, text=said.content or "", logprobs=logprobs))
            for call in said.tool_calls or ():
                self._call(call, events)
        if wire.done:
            self._close(events)
            self._over = True
            events.append(Finished(finish=read_finish(wire.done_reason, self._calls > 0)))
            usage, raw = read_usage(wire)
            if usage is not None:
                events.append(Metered(usage=usage, raw=raw))
            events.append(End())

    def _in(self, kind: type[Text] | type[Thinking], events: list[StreamEvent]) -> int:
        """The number of the open block, which is of this kind afterwards."""
        if self._open is not kind:
            self._close(events)
            self._open = kind
            events.append(
                BlockStart(index=self._next, block=Text() if kind is Text else Thinking(format=FAMILY))
            )
        return self._next

    def _close(self, events: list[StreamEvent]) -> None:
        if self._open is not None:
            self._open = None
            events.append(BlockStop(index=self._next))
            self._next += 1

    def _call(self, wire: Call, events: list[StreamEvent]) -> None:
        self._close(events)
        call = read_call(wire, f"{self._base}_{self._calls}")
        self._calls += 1
        index = self._next
        self._next += 1
        events.append(BlockStart(index=index, block=ToolCall(id=call.id, name=call.name, arguments="")))
        events.append(BlockDelta(index=index, arguments=call.arguments))
        events.append(BlockStop(index=index))


def _complete(line: bytes) -> bool:
    """Whether what stands behind the last line end is a whole object that only lacks one."""
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
