"""Events of the hub written as a stream of GenerateContentResponse: server-sent events (``alt=sse``), or the JSON
array that Google sends without that.

A function call goes out whole when its block is closed. The finish reasons stand in the last piece together with the
usage, whatever order they came in. What is left out is what ``write_answer`` leaves out.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw, structs

from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Citation,
    Conversation,
    Failed,
    Finish,
    Finished,
    Metered,
    Opaque,
    Refusal,
    Start,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.event_writer import EventWriter
from tollway.wire.formats.gemini_generate.errors import STATUSES, error_object
from tollway.wire.formats.gemini_generate.grounding import write_grounding
from tollway.wire.formats.gemini_generate.logprobs import write_logprobs
from tollway.wire.formats.gemini_generate.shapes import FAMILY, METADATA_FIELDS, given
from tollway.wire.formats.gemini_generate.signatures import seal
from tollway.wire.formats.gemini_generate.usage import write_usage
from tollway.wire.formats.gemini_generate.write_answer import (
    Object,
    Part,
    call_part,
    ending,
    malformed_call,
    thought_part,
    wants_thoughts,
    write_part,
)

_encode = msgspec.json.Encoder().encode


class _Open:
    """A block that is being told: its last known state, and what must wait for its end."""

    __slots__ = ("arguments", "begins", "begun", "block", "citations", "redacted", "signature")

    def __init__(self, block: Block, begins: int) -> None:
        self.block = block
        self.begins = begins
        """Characters of the choice's text before this block."""
        self.begun = False
        self.arguments: list[str] = []
        self.citations: list[Citation] = []
        self.signature = ""
        self.redacted = ""


class _Choice:
    __slots__ = ("citations", "finish", "length", "malformed", "metadata", "text")

    def __init__(self) -> None:
        self.finish: Finish | None = None
        self.malformed = ""
        self.metadata: Object = {}
        self.text: list[str] = []
        self.length = 0
        self.citations: list[Citation] = []


class Writer(EventWriter):
    """The state of one client's stream. ``frame`` puts one piece into the stream's framing; ``last`` ends it."""

    __slots__ = ("_choices", "_frame", "_head", "_last", "_open", "_show", "_usage")

    def __init__(
        self, conversation: Conversation, frame: Callable[[bytes], bytes], last: Callable[[], bytes]
    ) -> None:
        super().__init__()
        self._show = wants_thoughts(conversation)
        self._frame = frame
        self._last = last
        self._head: Object = {}
        self._usage: Object | None = None
        self._choices: dict[int, _Choice] = {}
        self._open: dict[tuple[int, int], _Open] = {}

    def _start(self, event: Start, out: list[bytes]) -> None:
        if event.model:
            self._head["modelVersion"] = event.model
        if event.id:
            self._head["responseId"] = event.id
        if event.usage is not None:
            self._usage = write_usage(event.usage)

    def _finished(self, event: Finished, out: list[bytes]) -> None:
        self._choice(event.choice).finish = event.finish

    def _meter(self, event: Metered) -> None:
        self._usage = write_usage(event.usage)

    def _fail(self, event: Failed, out: list[bytes]) -> None:
        name = event.code if event.code in STATUSES.values() else None
        out.append(self._frame(_encode(error_object(event.status, event.message, name=name))))
        out.append(self._last())

    def _choice(self, number: int) -> _Choice:
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _Choice()
        return choice

    def _say(self, number: int, part: Part, out: list[bytes], logprobs: Raw | None = None) -> None:
        candidate: Object = {"content": {"parts": [part], "role": "model"}, "index": number}
        if logprobs is not None:
            likely = write_logprobs(logprobs)
            if likely:
                candidate["logprobsResult"] = likely
        out.append(self._frame(_encode({"candidates": [candidate], **self._head})))

    def _begin(self, event: BlockStart, out: list[bytes]) -> None:
        choice = self._choice(event.choice)
        block = event.block
        held = self._open[event.choice, event.index] = _Open(block, choice.length)
        if isinstance(block, Text):
            held.signature = block.signature or ""
            held.citations.extend(block.citations)
            self._text(event.choice, held, block.text, out)
        elif isinstance(block, Refusal):
            self._text(event.choice, held, block.text, out)
        elif isinstance(block, Thinking):
            held.signature = block.signature or ""
            held.redacted = block.redacted or ""
            self._thought(event.choice, held, block.text, out)
        elif isinstance(block, ToolCall):
            held.signature = block.signature or ""
            held.arguments.append(block.arguments)
        elif isinstance(block, Opaque) and block.format == FAMILY and block.kind in METADATA_FIELDS:
            choice.metadata[block.kind] = block.raw
        else:
            part = write_part(block, self._show)
            if part is not None:
                self._say(event.choice, part, out)

    def _text(
        self, number: int, held: _Open, text: str, out: list[bytes], logprobs: Raw | None = None
    ) -> None:
        if not text and logprobs is None:
            return
        choice = self._choice(number)
        choice.text.append(text)
        choice.length += len(text)
        self._say(number, {"text": text}, out, logprobs)

    def _thought(self, number: int, held: _Open, text: str, out: list[bytes]) -> None:
        if not text or not self._show:
            return
        told: Object = {"text": text, "thought": True}
        if not held.begun and isinstance(held.block, Thinking) and held.block.format != FAMILY:
            whose = seal(structs.replace(held.block, signature=None, redacted=None))
            if whose:
                told["thoughtSignature"] = whose
        held.begun = True
        self._say(number, told, out)

    def _thought_over(self, number: int, block: Thinking, held: _Open, out: list[bytes]) -> None:
        if not self._show:
            return
        over = structs.replace(block, signature=held.signature or None, redacted=held.redacted or None)
        if held.begun:
            if over.signature is None and over.redacted is None:
                return
            signature = seal(over, ends=True)
            if signature:
                self._say(number, {"text": "", "thought": True, "thoughtSignature": signature}, out)
            return
        part = thought_part(over, "")
        if part is not None:
            self._say(number, part, out)

    def _delta(self, event: BlockDelta, out: list[bytes]) -> None:
        held = self._open.get((event.choice, event.index))
        if held is None:
            return
        block = held.block
        if event.text is not None:
            if isinstance(block, Text | Refusal):
                logprobs = event.logprobs if given(event.logprobs) else None
                self._text(event.choice, held, event.text, out, logprobs)
            elif isinstance(block, Thinking):
                self._thought(event.choice, held, event.text, out)
        elif event.arguments is not None:
            held.arguments.append(event.arguments)
        elif event.signature is not None:
            held.signature += event.signature
        elif event.redacted is not None:
            held.redacted += event.redacted
        elif event.citation is not None:
            held.citations.append(event.citation)
        elif event.audio is not None and isinstance(block, Audio):
            piece = structs.replace(block, source=structs.replace(block.source, value=event.audio))
            part = write_part(piece, self._show)
            if part is not None:
                self._say(event.choice, part, out)

    def _stop(self, event: BlockStop, out: list[bytes]) -> None:
        held = self._open.pop((event.choice, event.index), None)
        if held is None:
            return
        block = held.block
        if isinstance(block, ToolCall):
            call = structs.replace(block, arguments="".join(held.arguments), signature=held.signature or None)
            part = call_part(call)
            if part is None:
                self._choice(event.choice).malformed = malformed_call(call)
            else:
                self._say(event.choice, part, out)
        elif isinstance(block, Thinking):
            self._thought_over(event.choice, block, held, out)
        elif isinstance(block, Text):
            if held.signature:
                self._say(event.choice, {"text": "", "thoughtSignature": held.signature}, out)
            for citation in held.citations:
                self._choice(event.choice).citations.append(_moved(citation, held.begins))

    def _end(self, out: list[bytes]) -> None:
        candidates: list[Object] = []
        for number in sorted(self._choices):
            choice = self._choices[number]
            # An empty text is what Google ends with too: its SDKs forget a chat whose last piece has no part.
            content: Object = {"parts": [{"text": ""}], "role": "model"}
            candidate: Object = {"content": content, **ending(choice.finish or "stop", choice.malformed)}
            candidate["index"] = number
            candidate.update(choice.metadata)
            if choice.citations and not choice.metadata.keys() - {"urlContextMetadata"}:
                grounding = write_grounding([(None, "".join(choice.text), choice.citations)])
                if grounding:
                    candidate["groundingMetadata"] = grounding
            candidates.append(candidate)
        told: Object = {"candidates": candidates}
        if self._usage is not None:
            told["usageMetadata"] = self._usage
        told.update(self._head)
        out.append(self._frame(_encode(told)))
        out.append(self._last())


def _moved(citation: Citation, by: int) -> Citation:
    if not by or citation.start is None or citation.end is None:
        return citation
    return structs.replace(citation, start=citation.start + by, end=citation.end + by)


def _line(piece: bytes) -> bytes:
    """JSON on one line. Values passed on as they came may be indented; in JSON a line end is never more than that."""
    if b"\n" in piece or b"\r" in piece:
        return piece.replace(b"\n", b" ").replace(b"\r", b" ")
    return piece


def stream_writer(conversation: Conversation) -> Writer:
    """Server-sent events, framed by CRLF as Google frames them."""
    return Writer(conversation, lambda piece: b"data: " + _line(piece) + b"\r\n\r\n", lambda: b"")


class _Array:
    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = False

    def frame(self, piece: bytes) -> bytes:
        begun, self._begun = self._begun, True
        return (b",\n" if begun else b"[") + _line(piece)

    def last(self) -> bytes:
        return b"]" if self._begun else b"[]"


def array_writer(conversation: Conversation) -> Writer:
    """One JSON array, an item for each piece: ``application/json`` as streamGenerateContent answers by default."""
    array = _Array()
    return Writer(conversation, array.frame, array.last)
