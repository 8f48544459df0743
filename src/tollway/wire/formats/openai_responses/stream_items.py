"""The output items of a stream as its events tell of them, turned into blocks.

A block is known by its place: the item's index, what it is there, and the part's index. A ``done`` event says the whole
once more; what of it has not been said yet is said then.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, structs

from tollway.wire import decoding
from tollway.wire.conversation import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Opaque,
    Refusal,
    StreamEvent,
    Text,
    Thinking,
)
from tollway.wire.formats.openai_responses import shapes
from tollway.wire.formats.openai_responses.parts import PART, read_citation
from tollway.wire.formats.openai_responses.read_answer import content_of, read_call, read_item, summary_of
from tollway.wire.formats.openai_responses.shapes import FAMILY

_item = msgspec.json.Decoder(shapes.AnswerItem)
_part = msgspec.json.Decoder(shapes.Part)

Place = tuple[int, str, int]


class _Open:
    """An open block: its index in the hub, how many characters and citations were said, the part it has come to."""

    __slots__ = ("cited", "index", "part", "said")

    def __init__(self, index: int) -> None:
        self.index = index
        self.said = 0
        self.cited = 0
        self.part = 0


class StreamItems:
    """Every item of one stream. ``seen`` are the blocks that were opened, as they were when they opened."""

    def __init__(self, out: list[StreamEvent]) -> None:
        self.seen: list[Block] = []
        self._out = out
        self._open: dict[Place, _Open] = {}
        self._told: set[Place] = set()
        self._ids: dict[int, str | None] = {}

    # -------------------------------------------------------------- blocks

    def _start(self, place: Place, block: Block) -> _Open:
        opened = _Open(len(self.seen))
        self.seen.append(block)
        self._told.add(place)
        self._open[place] = opened
        self._out.append(BlockStart(index=opened.index, block=block))
        return opened

    def _stop(self, place: Place) -> None:
        opened = self._open.pop(place, None)
        if opened is not None:
            self._out.append(BlockStop(index=opened.index))

    def close_all(self) -> None:
        for place in list(self._open):
            self._stop(place)

    def _ensure(self, place: Place, block: Block) -> _Open | None:
        """The open block at a place, opened now if nothing told of it; None when it is over already."""
        opened = self._open.get(place)
        if opened is None and place not in self._told:
            opened = self._start(place, block)
        return opened

    def _say(self, opened: _Open, text: object, logprobs: Raw = Raw()) -> None:
        if not isinstance(text, str) or not text:
            return
        opened.said += len(text)
        if bytes(logprobs) in (b"", b"[]", b"null"):
            self._out.append(BlockDelta(index=opened.index, text=text))
        else:
            found = Raw(b'{"content":' + bytes(logprobs) + b"}")
            self._out.append(BlockDelta(index=opened.index, text=text, logprobs=found))

    def _rest(self, opened: _Open, whole: object, logprobs: Raw = Raw()) -> None:
        """What of the whole text has not been said: all of it where the server sends no deltas."""
        if isinstance(whole, str):
            self._say(opened, whole[opened.said :], logprobs if not opened.said else Raw())

    # -------------------------------------------------------------- items

    def added(self, event: shapes.Event) -> None:
        item = decoding.answer(_item, event.item, "an output item")
        self._ids[event.output_index] = item.id
        if item.type in ("function_call", "custom_tool_call"):
            self._call((event.output_index, "call", 0), item)

    def done(self, event: shapes.Event) -> None:
        self.item(event.output_index, event.item)

    def item(self, index: int, raw: Raw) -> None:
        """A whole item: whatever of it has not been told yet, and the end of its blocks."""
        item = decoding.answer(_item, raw, "an output item")
        self._ids[index] = item.id
        if item.type == "message":
            for number, part in enumerate(item.content or ()):
                self._part((index, "content", number), part)
        elif item.type in ("function_call", "custom_tool_call"):
            opened = self._call((index, "call", 0), item)
            if opened is not None:
                self._argue(opened, read_call(item).arguments[opened.said :])
        elif item.type == "reasoning":
            self._reasoning(index, item)
        elif (index, "item", 0) not in self._told:
            for block in read_item(item, raw):
                self._start((index, "item", 0), block)
        for place in [place for place in self._open if place[0] == index]:
            self._stop(place)

    # -------------------------------------------------------------- messages

    def part_added(self, event: shapes.Event) -> None:
        part = decoding.answer(_part, event.part, "a content part")
        place = (event.output_index, "content", event.content_index)
        if part.type == "output_text":
            opened = self._ensure(place, Text())
            if opened is not None:
                self._rest(opened, part.text)
        elif part.type == "refusal":
            opened = self._ensure(place, Refusal())
            if opened is not None:
                self._rest(opened, part.refusal)

    def part_done(self, event: shapes.Event) -> None:
        place = (event.output_index, "content", event.content_index)
        self._part(place, event.part)
        self._stop(place)

    def _part(self, place: Place, raw: Raw) -> None:
        part = decoding.answer(_part, raw, "a content part")
        if part.type == "output_text":
            opened = self._ensure(place, Text())
            if opened is not None:
                self._rest(opened, part.text, part.logprobs)
                for annotation in (part.annotations or [])[opened.cited :]:
                    self._cite(opened, annotation)
        elif part.type == "refusal":
            opened = self._ensure(place, Refusal())
            if opened is not None:
                self._rest(opened, part.refusal)
        elif part.type != "reasoning_text" and place not in self._told:
            self._start(place, Opaque(format=FAMILY, kind=PART + part.type, raw=raw))

    def text_delta(self, event: shapes.Event) -> None:
        opened = self._ensure((event.output_index, "content", event.content_index), _TEXT)
        if opened is not None:
            self._say(opened, event.delta, event.logprobs)

    def text_done(self, event: shapes.Event) -> None:
        opened = self._ensure((event.output_index, "content", event.content_index), _TEXT)
        if opened is not None:
            self._rest(opened, event.text, event.logprobs)

    def refusal_delta(self, event: shapes.Event) -> None:
        opened = self._ensure((event.output_index, "content", event.content_index), _REFUSAL)
        if opened is not None:
            self._say(opened, event.delta)

    def refusal_done(self, event: shapes.Event) -> None:
        opened = self._ensure((event.output_index, "content", event.content_index), _REFUSAL)
        if opened is not None:
            self._rest(opened, event.refusal)

    def annotated(self, event: shapes.Event) -> None:
        opened = self._ensure((event.output_index, "content", event.content_index), _TEXT)
        if opened is not None and decoding.given(event.annotation):
            self._cite(opened, event.annotation)

    def _cite(self, opened: _Open, annotation: Raw) -> None:
        opened.cited += 1
        self._out.append(BlockDelta(index=opened.index, citation=read_citation(annotation)))

    # -------------------------------------------------------------- calls

    def _call(self, place: Place, item: shapes.AnswerItem) -> _Open | None:
        """The call's block; what it was added with already counts as said."""
        if place in self._told:
            return self._open.get(place)
        call = read_call(item)
        opened = self._start(place, structs.replace(call, arguments=""))
        if isinstance(item.input if call.custom else item.arguments, str):
            self._argue(opened, (item.input if call.custom else item.arguments) or "")
        return opened

    def arguments_delta(self, event: shapes.Event) -> None:
        opened = self._open.get((event.output_index, "call", 0))
        if opened is not None and isinstance(event.delta, str):
            self._argue(opened, event.delta)

    def _argue(self, opened: _Open, arguments: str) -> None:
        if arguments:
            opened.said += len(arguments)
            self._out.append(BlockDelta(index=opened.index, arguments=arguments))

    # -------------------------------------------------------------- reasoning

    def summary_delta(self, event: shapes.Event) -> None:
        self._think((event.output_index, "summary", 0), event.summary_index, event.delta)

    def thought_delta(self, event: shapes.Event) -> None:
        self._think((event.output_index, "thought", 0), event.content_index, event.delta)

    def _think(self, place: Place, part: int, text: object) -> None:
        """Parts of a thought are one block, a blank line between them."""
        if not isinstance(text, str) or not text:
            return
        opened = self._thought(place)
        if opened is None:
            return
        if part > opened.part:
            self._say(opened, "\n\n" * (part - opened.part))
            opened.part = part
        self._say(opened, text)

    def _thought(self, place: Place) -> _Open | None:
        block = Thinking(summary=place[1] == "summary", id=self._ids.get(place[0]), format=FAMILY)
        return self._ensure(place, block)

    def _reasoning(self, index: int, item: shapes.AnswerItem) -> None:
        last: _Open | None = None
        for name, whole in (("summary", summary_of(item)), ("thought", content_of(item))):
            place = (index, name, 0)
            if whole or place in self._open:
                opened = self._thought(place)
                if opened is not None:
                    self._rest(opened, whole)
                    last = opened
        if last is not None:
            if item.encrypted_content:
                self._out.append(BlockDelta(index=last.index, signature=item.encrypted_content))
        elif (index, "whole", 0) not in self._told:
            for block in read_item(item, Raw()):
                self._start((index, "whole", 0), block)


_TEXT = Text()
_REFUSAL = Refusal()
