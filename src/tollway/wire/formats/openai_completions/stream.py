"""Streams of the Completions format, to and from the hub. Its chunks have the shape of its whole answers.

A choice is finished when the stream is, as several servers say more after the finish reason.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import msgspec
from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire.conversation import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Conversation,
    End,
    Failed,
    Finished,
    Metered,
    Refusal,
    Start,
    StreamEvent,
    Text,
)
from tollway.wire.decoding import answer as decode_answer
from tollway.wire.formats.openai_chat.read_stream import read_failure
from tollway.wire.formats.openai_chat.usage import write_usage
from tollway.wire.formats.openai_chat.write_stream import write_failure
from tollway.wire.formats.openai_chunks import ChunkReader
from tollway.wire.formats.openai_completions.answer import FINISH_WRITTEN, finish, stopped_at
from tollway.wire.formats.openai_completions.logprobs import from_chat, to_chat
from tollway.wire.formats.openai_completions.shapes import Answer, AnswerChoice
from tollway.wire.formats.openai_stream import DONE
from tollway.wire.formats.openai_usage import read_usage

_decoder = msgspec.json.Decoder(Answer)
_encode = msgspec.json.Encoder().encode


class _Choice:
    __slots__ = ("offset", "open", "reason", "stop_sequence")

    def __init__(self) -> None:
        self.open = False
        self.reason: str | None = None
        self.stop_sequence: str | None = None
        self.offset = 0


class CompletionStreamReader(ChunkReader[Answer]):
    """The state of one provider's stream."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[int, _Choice] = {}

    def _decode(self, data: bytes) -> Answer:
        return decode_answer(_decoder, data, "An event of the provider's stream")

    def _usage(self, raw: Raw) -> Usage | None:
        return read_usage(raw)

    def _failure(self, error: Raw) -> Failed:
        return read_failure(error)

    def _read(self, chunk: Answer, events: list[StreamEvent]) -> None:
        for choice in chunk.choices or ():
            self._choice(choice, events)

    def _choices(self) -> Sized:
        return self._told

    def _is_over(self) -> bool:
        return any(choice.reason is not None for choice in self._told.values())

    def _choice(self, said: AnswerChoice, events: list[StreamEvent]) -> None:
        number = said.index or 0
        choice = self._told.setdefault(number, _Choice())
        logprobs = to_chat(said.logprobs)
        if said.text or bytes(logprobs):
            if not choice.open:
                choice.open = True
                events.append(BlockStart(index=0, block=Text(), choice=number))
            events.append(BlockDelta(index=0, text=said.text or "", choice=number, logprobs=logprobs))
        if said.finish_reason is not None:
            choice.reason = said.finish_reason
            choice.stop_sequence = stopped_at(said)

    def _close(self, events: list[StreamEvent]) -> None:
        for number, choice in self._told.items():
            if choice.open:
                events.append(BlockStop(index=0, choice=number))
            events.append(
                Finished(finish=finish(choice.reason), stop_sequence=choice.stop_sequence, choice=number)
            )


class CompletionStreamWriter:
    """The state of one client's stream."""

    __slots__ = ("_choices", "_done", "_include_usage", "_metered", "_open", "_start")

    def __init__(self, conversation: Conversation) -> None:
        self._include_usage = conversation.include_usage
        self._choices: dict[int, _Choice] = {}
        self._open: set[tuple[int, int]] = set()
        self._metered: Metered | None = None
        self._start = Start()
        self._done = False

    def write(self, events: Sequence[StreamEvent]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if self._done:
                break
            if isinstance(event, BlockDelta):
                if event.text is not None and (event.choice, event.index) in self._open:
                    out.append(self._text(event.choice, event.text, event.logprobs))
            elif isinstance(event, BlockStart):
                if isinstance(event.block, Text | Refusal):
                    self._open.add((event.choice, event.index))
                    if event.block.text:
                        out.append(self._text(event.choice, event.block.text, Raw()))
            elif isinstance(event, Start):
                self._start = event
            elif isinstance(event, Finished):
                out.append(self._chunk(event.choice, "", None, FINISH_WRITTEN[event.finish]))
            elif isinstance(event, Metered):
                self._metered = event
            elif isinstance(event, End):
                self._done = True
                out += (self._usage(), DONE)
            elif isinstance(event, Failed):
                self._done = True
                out += (write_failure(event), DONE)
        return b"".join(out)

    def _text(self, number: int, text: str, logprobs: Raw) -> bytes:
        choice = self._choices.setdefault(number, _Choice())
        found = from_chat(logprobs, choice.offset)
        choice.offset += len(text)
        return self._chunk(number, text, found, None)

    def _chunk(self, number: int, text: str, logprobs: object, reason: str | None) -> bytes:
        choice = {"text": text, "index": number, "logprobs": logprobs, "finish_reason": reason}
        wire = self._head([choice])
        if self._include_usage:
            wire["usage"] = None
        return b"data: " + _encode(wire) + b"\n\n"

    def _usage(self) -> bytes:
        """The usage chunk, where one was asked for and there is anything to say."""
        usage, cost = self._start.usage, None
        if self._metered is not None:
            usage, cost = self._metered.usage, self._metered.cost
        if not self._include_usage or usage is None:
            return b""
        wire = self._head([])
        wire["usage"] = write_usage(usage, cost)
        return b"data: " + _encode(wire) + b"\n\n"

    def _head(self, choices: list[dict[str, object]]) -> dict[str, Any]:
        wire: dict[str, Any] = {
            "id": self._start.id,
            "object": "text_completion",
            "created": self._start.created,
            "model": self._start.model,
            "choices": choices,
        }
        tier = (self._metered.service_tier if self._metered else None) or self._start.service_tier
        if tier:
            wire["service_tier"] = tier
        return wire
