"""The stream of streamGenerateContent (``alt=sse``) read into events of the hub.

An error that Google puts between the events, or in place of them, is bare JSON on lines of its own: it is understood
too.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.wire.codec import Unreadable
from tollway.wire.conversation import StreamEvent
from tollway.wire.formats.gemini_generate.read_answer import Pieces
from tollway.wire.sse import Splitter, parse, split

_items = msgspec.json.Decoder(list[Raw]).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode


class Reader:
    """The state of one stream."""

    __slots__ = ("_pieces", "_splitter")

    def __init__(self) -> None:
        self._splitter = Splitter()
        self._pieces = Pieces()

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Events made of ``data`` and what came before. Raises Unreadable, sse.EventTooLarge."""
        whole = self._splitter.feed(data)
        out: list[StreamEvent] = []
        if whole:
            for block in split(whole):
                self._event(block, out)
        return out

    def finish(self) -> list[StreamEvent]:
        """Events of the end of the bytes. A last event without its blank line still counts when it is complete."""
        out: list[StreamEvent] = []
        rest = self._splitter.rest()
        if rest.strip():
            try:
                self._event(rest, out)
            except Unreadable:
                pass  # torn in the middle: the end says that the stream broke off
        out += self._pieces.close(whole=False)
        return out

    def _event(self, block: bytes, out: list[StreamEvent]) -> None:
        data = parse(block).data
        if data is None:
            bare = block.strip()
            if bare[:1] in (b"{", b"["):
                self._bare(bare, out)
            return
        if not data or data == b"[DONE]":  # the mark of OpenAI's streams, which some proxies add
            return
        out += self._pieces.take(data)

    def _bare(self, text: bytes, out: list[StreamEvent]) -> None:
        try:
            for raw in _items(text) if text[:1] == b"[" else [Raw(text)]:
                _object(raw)
                out += self._pieces.take(bytes(raw))
        except (msgspec.DecodeError, RecursionError):
            raise Unreadable("a line of Gemini's stream is neither an event nor JSON") from None
