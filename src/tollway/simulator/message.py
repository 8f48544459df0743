"""What is said over a WebSocket, and by whom; no frames here, so that the library is not needed until there are
any."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol


class Message:
    """A text to send after ``delay`` seconds; ``sent`` is called once it was written. ``end``: close behind it;
    ``break_off``: drop the connection in its place."""

    __slots__ = ("break_off", "delay", "end", "sent", "text")

    def __init__(
        self,
        text: str,
        delay: float = 0.0,
        sent: Callable[[], None] | None = None,
        *,
        end: bool = False,
        break_off: bool = False,
    ) -> None:
        self.text = text
        self.delay = delay
        self.sent = sent
        self.end = end
        self.break_off = break_off


class Session(Protocol):
    """One side of a conversation over a WebSocket."""

    def opened(self) -> Iterable[Message]: ...

    def heard(self, text: str | bytes, waiting: deque[Message]) -> Iterable[Message]:
        """The answers to a message; ``waiting`` are those not sent yet, which it may take back."""
        ...

    def lost(self) -> None:
        """The client is gone."""
        ...
