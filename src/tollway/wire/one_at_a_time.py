"""Puts a stream's events into an order in which only one block is open: for dialects that allow no more.

What belongs to a later block waits until the earlier ones are closed; nothing is lost or changed. Of several choices
only the first passes, as these dialects know only one.
"""

from __future__ import annotations

from collections.abc import Iterable

from tollway.wire.conversation import BlockDelta, BlockStart, BlockStop, Finished, StreamEvent


class OneAtATime:
    """The state of one stream. ``pass_on`` gives the events that may be written now."""

    __slots__ = ("_open", "_waiting")

    def __init__(self) -> None:
        self._open: int | None = None
        self._waiting: dict[int, list[StreamEvent]] = {}

    def pass_on(self, events: Iterable[StreamEvent]) -> list[StreamEvent]:
        out: list[StreamEvent] = []
        for event in events:
            if isinstance(event, BlockDelta):
                if event.choice == 0:
                    (out if event.index == self._open else self._waiting.setdefault(event.index, [])).append(
                        event
                    )
            elif isinstance(event, BlockStart):
                if event.choice != 0:
                    continue
                if self._open is None:
                    self._open = event.index
                    out.append(event)
                else:
                    self._waiting.setdefault(event.index, []).append(event)
            elif isinstance(event, BlockStop):
                if event.choice != 0:
                    continue
                if event.index != self._open:
                    self._waiting.setdefault(event.index, []).append(event)
                    continue
                out.append(event)
                self._open = None
                self._release(out)
            elif not isinstance(event, Finished) or event.choice == 0:
                out.append(event)
        return out

    def _release(self, out: list[StreamEvent]) -> None:
        while self._waiting:
            index = next(iter(self._waiting))
            held = self._waiting.pop(index)
            out.extend(held)
            if not isinstance(held[-1], BlockStop):
                self._open = index
                return
