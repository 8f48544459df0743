"""What a writer could not carry, gathered while it writes: each field once, the graver weight kept."""

from __future__ import annotations

from tollway.wire.conversation import Loss, Weight


class Losses:
    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, Weight] = {}

    def hint(self, field: str) -> None:
        self._found.setdefault(field, "hint")

    def meaning(self, field: str) -> None:
        self._found[field] = "meaning"

    def all(self) -> tuple[Loss, ...]:
        return tuple(Loss(field, weight) for field, weight in self._found.items())
