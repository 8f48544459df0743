"""Answers as they went out, to be sent again with a new serial: equal requests within a second cost next to
nothing.

Only plain answers come here: no knob that draws lots, counts or waits. It changes what an answer costs, never
what it says.
"""

from __future__ import annotations

from msgspec import Struct

from tollway.simulator.answer import Answer

LARGEST_REQUEST = 16 * 1024
LARGEST_ANSWER = 64 * 1024
KEPT = 256


class Rendered(Struct, gc=False):
    """``before`` ends where the request id stands; ``rest`` is everything after it, cut at each serial."""

    created: int
    model: str
    answer: Answer
    before: bytes
    rest: list[bytes]
    events: int


class Memory:
    """Rendered answers of one endpoint by request body, the oldest forgotten first."""

    def __init__(self) -> None:
        self._held: dict[bytes, Rendered] = {}

    def get(self, body: bytes, created: int) -> Rendered | None:
        """The answer to an equal request of the same second."""
        found = self._held.get(body)
        return found if found is not None and found.created == created else None

    def put(
        self, body: bytes, serial: str, created: int, model: str, answer: Answer, wire: tuple[bytes, bytes]
    ) -> None:
        before, after = wire
        if len(body) > LARGEST_REQUEST or len(after) > LARGEST_ANSWER:
            return
        if len(self._held) >= KEPT:
            del self._held[next(iter(self._held))]
        events = len(answer.pieces) if answer.streamed else 0
        self._held[body] = Rendered(created, model, answer, before, after.split(serial.encode()), events)

    def clear(self) -> None:
        self._held.clear()
