"""A client's stream of formats in which several blocks may be open at once: one method an event, nothing after the end.
Formats that allow one open block use ``one_at_a_time``."""

from __future__ import annotations

from collections.abc import Sequence

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
)


class EventWriter:
    """``out`` takes whole frames."""

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        self._ended = False

    def write(self, events: Sequence[StreamEvent]) -> bytes:
        """Whole frames for these events."""
        out: list[bytes] = []
        for event in events:
            if self._ended:
                break
            if isinstance(event, BlockDelta):
                self._delta(event, out)
            elif isinstance(event, BlockStart):
                self._begin(event, out)
            elif isinstance(event, BlockStop):
                self._stop(event, out)
            elif isinstance(event, Start):
                self._start(event, out)
            elif isinstance(event, Finished):
                self._finished(event, out)
            elif isinstance(event, Metered):
                self._meter(event)
            elif isinstance(event, End):
                self._ended = True
                self._end(out)
            elif isinstance(event, Failed):
                self._ended = True
                self._fail(event, out)
        return b"".join(out)

    def _start(self, event: Start, out: list[bytes]) -> None:
        raise NotImplementedError

    def _begin(self, event: BlockStart, out: list[bytes]) -> None:
        raise NotImplementedError

    def _delta(self, event: BlockDelta, out: list[bytes]) -> None:
        raise NotImplementedError

    def _stop(self, event: BlockStop, out: list[bytes]) -> None:
        raise NotImplementedError

    def _finished(self, event: Finished, out: list[bytes]) -> None:
        raise NotImplementedError

    def _meter(self, event: Metered) -> None:
        raise NotImplementedError

    def _end(self, out: list[bytes]) -> None:
        raise NotImplementedError

    def _fail(self, event: Failed, out: list[bytes]) -> None:
        raise NotImplementedError
