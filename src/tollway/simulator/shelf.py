"""What clients left with one simulator: files, responses, batches, jobs. Bounded: the oldest go first.

It knows neither requests nor dialects; a value's meaning is its kind's own affair.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

KEPT = 10_000
"""Values of one kind."""


class Shelf:
    """Values by kind and id, oldest first. A dialect alone writes the kinds it reads."""

    def __init__(self) -> None:
        self._kinds: dict[str, OrderedDict[str, Any]] = {}

    def put(self, kind: str, ident: str, value: Any) -> None:
        held = self._kinds.setdefault(kind, OrderedDict())
        held[ident] = value
        if len(held) > KEPT:
            held.popitem(last=False)

    def get(self, kind: str, ident: str) -> Any:
        """The value, or None."""
        return self._kinds.get(kind, OrderedDict()).get(ident)

    def take(self, kind: str, ident: str) -> Any:
        """The value, which is then gone, or None."""
        return self._kinds.get(kind, OrderedDict()).pop(ident, None)

    def all(self, kind: str) -> Iterator[Any]:
        """Newest first."""
        return reversed(self._kinds.get(kind, OrderedDict()).values())
