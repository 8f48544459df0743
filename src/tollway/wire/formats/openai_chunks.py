"""What the streams of OpenAI's two older formats have in common: events of JSON until ``[DONE]``, an error in place of
one, usage in the last. What a chunk's choices say is the format's own affair.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Generic, TypeVar

from msgspec import Raw, Struct

from tollway.model.usage import Usage
from tollway.wire import sse
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import End, Failed, Metered, Start, StreamEvent
from tollway.wire.decoding import given


class Chunk(Struct):
    """One event, or a whole answer, as far as both formats spell it alike. ``object`` is ``error`` where an old vLLM
    says an error without wrapping it."""

    id: str | int | None = None
    object: str | None = None
    model: str | None = None
    created: int | float | str | None = None
    usage: Raw = Raw()
    service_tier: str | None = None
    error: Raw = Raw()


def seconds(created: float | str | None) -> int:
    """When an answer was made, in Unix seconds; 0 where the server says it in a way of its own."""
    if isinstance(created, str):
        return int(created) if created.isascii() and created.isdigit() and len(created) < 12 else 0
    return int(created or 0)


C = TypeVar("C", bound=Chunk)


class ChunkReader(Generic[C]):
    """The state of one stream. A format says how a chunk is decoded, what its choices tell and how they end."""

    __slots__ = ("_answer_id", "_ended", "_metered", "_splitter", "_started")

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._answer_id = ""
        self._started = False
        self._ended = False
        self._metered = False

    # What a format says.

    def _decode(self, data: bytes) -> C:
        """Raises Unreadable."""
        raise NotImplementedError

    def _read(self, chunk: C, events: list[StreamEvent]) -> None:
        raise NotImplementedError

    def _usage(self, raw: Raw) -> Usage | None:
        raise NotImplementedError

    def _failure(self, error: Raw) -> Failed:
        raise NotImplementedError

    def _choices(self) -> Sized:
        raise NotImplementedError

    def _is_over(self) -> bool:
        """Whether a choice has told why it ended."""
        raise NotImplementedError

    def _close(self, events: list[StreamEvent]) -> None:
        raise NotImplementedError

    # What is the same.

    def feed(self, data: bytes) -> list[StreamEvent]:
        block = self._splitter.feed(data)
        events: list[StreamEvent] = []
        if block and not self._ended:
            for part in sse.split(block):
                self._event(part, events)
        return events

    def finish(self) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        rest = self._splitter.rest()
        if rest.strip() and not self._ended:
            try:
                self._event(rest.rstrip(b"\r\n") + b"\n\n", events)
            except Unreadable:
                pass  # a torn event: what it was the end of is judged below
        if self._ended:
            return events
        if self._metered or self._is_over():
            self._end(events)
        else:
            events.append(Failed(message="The provider's stream broke off before its end."))
            self._ended = True
        return events

    def _event(self, part: bytes, events: list[StreamEvent]) -> None:
        if self._ended:
            return
        data = sse.parse(part).data
        if data is None:
            return
        if data.strip() == b"[DONE]":
            self._end(events)
            return
        if not data.strip():
            return
        chunk = self._decode(data)
        if given(chunk.error) or chunk.object == "error":
            events.append(self._failure(chunk.error if given(chunk.error) else Raw(data)))
            self._ended = True
            return
        if not self._started:
            self._start(chunk, events)
        self._read(chunk, events)
        if given(chunk.usage):
            usage = self._usage(chunk.usage)
            if usage is not None:
                self._metered = True
                events.append(Metered(usage=usage, raw=chunk.usage, service_tier=chunk.service_tier))

    def _start(self, chunk: C, events: list[StreamEvent]) -> None:
        self._started = True
        self._answer_id = "" if chunk.id is None else str(chunk.id)
        events.append(
            Start(
                id=self._answer_id,
                model=chunk.model or "",
                created=seconds(chunk.created),
                service_tier=chunk.service_tier,
            )
        )

    def _end(self, events: list[StreamEvent]) -> None:
        self._ended = True
        if not self._choices():
            events.append(Failed(message="The provider's stream ended without an answer."))
            return
        self._close(events)
        events.append(End())
