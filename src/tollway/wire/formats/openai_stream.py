"""A passive tap on an OpenAI-format event stream: relays its bytes, reads usage, keeps ``[DONE]`` single.

Events without usage, error or end pass untouched and unparsed. Usage that we asked for and the client did not is
taken out again; where the client asked, the cost is written into its usage object (``usage.cost``, USD).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw

from tollway.wire import sse
from tollway.wire.formats.openai_shapes import Chunk, ErrorMessage, ErrorObject

DONE = b"data: [DONE]\n\n"


_decode_chunk = msgspec.json.Decoder(Chunk).decode
_decode_error = msgspec.json.Decoder(ErrorMessage).decode
_decode_code = msgspec.json.Decoder(ErrorObject).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
_NULLS = (b"", b"null")


class StreamTap:
    """State of one stream. Feed it what arrives, send on what it returns, end with ``finish``.

    ``hide_usage``: the client did not ask for usage. ``cost_of`` gives the cost of a usage object as a decimal
    string of USD, or None when unpriced; ``clean`` takes secrets out of an error event. ``usage`` is the last usage
    object seen, verbatim; ``events`` counts data events that carried something; ``failure`` is the message of an
    error event.
    """

    __slots__ = (
        "_bytes",
        "_clean",
        "_cost_of",
        "_hide_usage",
        "_smallest",
        "_splitter",
        "done",
        "events",
        "failure",
        "usage",
    )

    def __init__(
        self,
        *,
        hide_usage: bool,
        cost_of: Callable[[Raw], str | None] | None = None,
        clean: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._clean = clean
        self._splitter = sse.Splitter()
        self._hide_usage = hide_usage
        self._cost_of = cost_of
        self._bytes = 0
        self._smallest = 1 << 30
        self.usage: Raw | None = None
        self.events = 0
        self.done = False
        self.failure: str | None = None

    def feed(self, data: bytes) -> bytes:
        """What the client gets of ``data`` so far. Raises sse.EventTooLarge."""
        if data[:7] == b"data: {" and not self.done and self._splitter.single(data):
            plain = self._plain(data)
            if plain:
                return plain
        block = self._splitter.feed(data)
        if not block or self.done:
            return b""
        if self._hide_usage:
            block = block.replace(b',"usage":null', b"").replace(b', "usage": null', b"")
        if block.find(b"[DONE]") >= 0 or block.find(b'"error"') >= 0 or self._says_usage(block):
            return b"".join([self._one(part) for part in sse.split(block)])
        count = block.count(b"\ndata:") + block.count(b"\rdata:") + (block[:5] == b"data:")
        size = len(block)
        self.events += count
        self._bytes += size
        if count == 1 and size < self._smallest:
            self._smallest = size
        return block

    def finish(self) -> bytes:
        """The end of a stream that ended by itself: ``[DONE]`` if the provider did not say it."""
        rest = self._splitter.rest()
        tail = b""
        if rest.strip() and not self.done:
            tail = self._one(rest.rstrip(b"\r\n") + b"\n\n")
        if self.done:
            return tail
        self.done = True
        return tail + DONE

    def estimated_output(self) -> int:
        """Tokens written so far when no usage came: one an event, or a quarter of the bytes beyond the envelope."""
        if not self.events:
            return 0
        beyond = self._bytes - self.events * min(self._smallest, self._bytes // self.events)
        return max(self.events, beyond // 4)

    def _plain(self, event: bytes) -> bytes:
        """The usual read, one event that is one JSON object, as the client gets it. Empty: it must be looked into.

        Providers that were asked for usage say ``"usage":null`` in every event but the last.
        """
        at = event.find(b'"usage"')
        if at > 0:
            if event[at + 7 : at + 12] != b":null" or event.find(b'"usage"', at + 12) > 0:
                return b""
            if self._hide_usage:
                if event[at - 1] != 44:  # a comma
                    return b""
                event = event[: at - 1] + event[at + 12 :]
        if event.find(b'"error"') > 0:
            return b""
        size = len(event)
        self.events += 1
        self._bytes += size
        if size < self._smallest:
            self._smallest = size
        return event

    def _says_usage(self, block: bytes) -> bool:
        """Whether a usage in these events is to be read or taken out. In a JSON text these bytes with both of their
        quotes are a whole string: what follows is never part of a longer one."""
        if block.find(b'"usage"') < 0:
            return False
        return self._hide_usage or block.count(b'"usage"') != block.count(b'"usage":null')

    def _one(self, part: bytes) -> bytes:
        if self.done:
            return b""
        data = sse.parse(part).data
        if data is None:
            return part
        if data.strip() == b"[DONE]":
            self.done = True
            return DONE
        self.events += 1
        self._bytes += len(part)
        try:
            chunk = _decode_chunk(data)
        except (msgspec.DecodeError, RecursionError):
            return part
        if bytes(chunk.error) not in _NULLS:
            if self._clean is not None:
                part = self._clean(part)
                chunk.error = Raw(self._clean(bytes(chunk.error)))
            self.failure = _error_message(chunk.error)
            return part
        if bytes(chunk.usage) in _NULLS:
            if not self._hide_usage or not bytes(chunk.usage):
                return part
            fields = _decode_fields(data)
            del fields["usage"]
            return sse.encode(_encode(fields))
        self.usage = chunk.usage
        alone = bytes(chunk.choices).replace(b" ", b"") in (b"[]", b"", b"null")
        if alone:
            self.events -= 1
            self._bytes -= len(part)
        if self._hide_usage:
            if alone:
                return b""
            fields = _decode_fields(data)
            del fields["usage"]
            return sse.encode(_encode(fields))
        cost = self._cost_of(chunk.usage) if self._cost_of is not None else None
        if cost is None:
            return part
        fields = _decode_fields(data)
        usage = _decode_fields(chunk.usage)
        usage["cost"] = Raw(cost.encode())
        fields["usage"] = Raw(_encode(usage))
        return sse.encode(_encode(fields))


def _error_message(error: Raw) -> str:
    try:
        return _decode_error(error).message[:500] or "the provider reported an error"
    except (msgspec.DecodeError, RecursionError):
        return bytes(error)[:500].decode(errors="replace")


def first_error(block: bytes) -> bytes | None:
    """The data of a stream's first event if that is an error: then nothing has been said yet and it is an ordinary
    error. None when the first data event is anything else, or the block holds none."""
    for part in sse.split(block.removeprefix(sse.BOM)):
        data = sse.parse(part).data
        if data is None:
            continue
        if b'"error"' not in data:
            return None
        try:
            return data if bytes(_decode_chunk(data).error) not in _NULLS else None
        except (msgspec.DecodeError, RecursionError):
            return None
    return None


def has_event(block: bytes) -> bool:
    """Whether a block of whole events holds one with data: comments and pings are not the first event."""
    return block.startswith((b"data", sse.BOM + b"data")) or b"\ndata" in block or b"\rdata" in block


def error_status(error: bytes) -> int:
    """The HTTP status that an error event carries as its code, else 502."""
    try:
        found = _decode_code(error).error
    except (msgspec.DecodeError, RecursionError):
        return 502
    for value in (found.code, found.status):
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return 502
