"""The events of one stream while a dialect makes them: bytes, the tokens each finishes, and where usage stands."""

from __future__ import annotations

import msgspec

from tollway.simulator.answer import Answer, Shape
from tollway.simulator.knobs import Knobs

SSE = b"text/event-stream; charset=utf-8"

_json = msgspec.json.encode


class Track:
    """``add`` events in order, then ``answer`` once."""

    def __init__(self, ident: str, knobs: Knobs) -> None:
        self.ident = ident
        self.knobs = knobs
        self.events: list[bytes] = []
        self.tokens: list[int] = []
        self.usage: bytes | None = None
        self.usage_at = 0

    def add(self, event: bytes, tokens: int = 0, usage: bytes | None = None) -> None:
        """``usage`` is what this event carries of it, byte for byte; the last one given counts."""
        if usage is not None:
            self.usage, self.usage_at = usage, len(self.events)
        self.events.append(event)
        self.tokens.append(tokens)

    def answer(
        self,
        error: bytes,
        shape: Shape = "sse",
        content_type: bytes = SSE,
        headers: bytes = b"cache-control: no-cache\r\n",
        unseen: int = 0,
    ) -> Answer:
        """The stream, or its beginning with ``error`` behind it where the knob asks for that.

        ``unseen`` tokens (reasoning, audio) happened before the first visible one and are billed with it.
        """
        events, tokens, usage = self.events, self.tokens, self.usage
        if unseen and tokens:
            tokens[0] += unseen
        place = self.knobs.error_event
        if place is not None:
            events, tokens = [*events[:place], error], tokens[:place]
            if self.usage_at >= place:
                usage = None
        return Answer(
            self.ident,
            events,
            streamed=True,
            content_type=content_type,
            headers=headers,
            usage=usage,
            usage_at=self.usage_at,
            event_tokens=tokens,
            shape=shape,
        )


def event(data: object, name: str | None = None) -> bytes:
    """A server-sent event with a value's JSON."""
    line = b"data: %b\n\n" % _json(data)
    return line if name is None else b"event: %b\n%b" % (name.encode(), line)
