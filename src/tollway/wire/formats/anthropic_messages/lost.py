"""What a request cannot carry, while it is being written: named once each."""

from __future__ import annotations

from tollway.wire.conversation import Weight

Lost = dict[str, Weight]


def lose(lost: Lost, field: str, weight: Weight = "hint") -> None:
    """Name ``field``; what changes the meaning outweighs a hint, and that outweighs an aside."""
    if weight == "meaning" or lost.get(field, "aside") == "aside":
        lost[field] = weight
