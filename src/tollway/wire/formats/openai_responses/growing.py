"""The kinds of parts an output item grows by, and one part as it grows. Which events tell of a part is its kind."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

Fields = dict[str, object]


class PartKind:
    """Where parts of a kind stand in their item, and the names of the events that tell of one."""

    __slots__ = ("added", "delta", "done", "ended", "field", "index", "list", "type")

    def __init__(self, kind: str, *, part: str, text: str, summary: bool = False) -> None:
        self.type = kind
        self.field = "refusal" if kind == "refusal" else "text"
        self.list = "summary" if summary else "content"
        self.index = "summary_index" if summary else "content_index"
        self.added = f"response.{part}.added"
        self.ended = f"response.{part}.done"
        self.delta = f"response.{text}.delta"
        self.done = f"response.{text}.done"


OUTPUT_TEXT: Final = PartKind("output_text", part="content_part", text="output_text")
REFUSAL: Final = PartKind("refusal", part="content_part", text="refusal")
REASONING_TEXT: Final = PartKind("reasoning_text", part="content_part", text="reasoning_text")
SUMMARY_TEXT: Final = PartKind(
    "summary_text", part="reasoning_summary_part", text="reasoning_summary_text", summary=True
)


class Growing:
    """A part that is being written: ``place`` is what its events say of where it stands."""

    __slots__ = ("annotations", "kind", "logprobs", "pieces", "place")

    def __init__(self, kind: PartKind, place: Fields) -> None:
        self.kind = kind
        self.place = place
        self.pieces: list[str] = []
        self.annotations: list[Fields | Raw] = []
        self.logprobs: list[Fields] = []

    def whole(self, text: str) -> Fields:
        """The part with ``text`` in it."""
        part: Fields = {"type": self.kind.type, self.kind.field: text}
        if self.kind is OUTPUT_TEXT:
            part["annotations"] = self.annotations
            part["logprobs"] = self.logprobs
        return part
