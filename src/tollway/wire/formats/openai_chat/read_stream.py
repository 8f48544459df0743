"""A provider's Chat Completions stream into the hub's events, for all the ways servers say it.

Thoughts, text and refusals are closed when the next kind begins; calls stay open side by side until the choice ends,
as their pieces may interleave. A choice is finished when the stream is, because several servers go on after the
finish reason.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Literal

import msgspec
from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Failed,
    Finished,
    Refusal,
    Source,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.decoding import answer as decode_answer
from tollway.wire.decoding import given
from tollway.wire.formats.openai_chat.calls import Calls, CallSoFar
from tollway.wire.formats.openai_chat.read_turns import argument_text, call_signature
from tollway.wire.formats.openai_chat.said import (
    citation,
    detail_thought,
    details_block,
    finish,
    image,
    made_id,
    metered,
    parts,
    stopped_at,
    thought,
)
from tollway.wire.formats.openai_chat.shapes import (
    FAMILY,
    Answer,
    AnswerChoice,
    Call,
    ErrorFields,
    Said,
    ThinkingBlock,
)
from tollway.wire.formats.openai_chunks import ChunkReader
from tollway.wire.formats.openai_stream import error_status

_decoder = msgspec.json.Decoder(Answer)
_decode_error = msgspec.json.Decoder(ErrorFields).decode

Kind = Literal["text", "thinking", "refusal", "audio"]
_NO_RAW = Raw()


class ChatStreamReader(ChunkReader[Answer]):
    """The state of one stream."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[int, _ChoiceReader] = {}

    def _decode(self, data: bytes) -> Answer:
        return decode_answer(_decoder, data, "An event of the provider's stream")

    def _usage(self, raw: Raw) -> Usage | None:
        return metered(raw)

    def _failure(self, error: Raw) -> Failed:
        return read_failure(error)

    def _read(self, chunk: Answer, events: list[StreamEvent]) -> None:
        for choice in chunk.choices or ():
            number = choice.index or 0
            reader = self._told.get(number)
            if reader is None:
                reader = self._told[number] = _ChoiceReader(number, self._answer_id)
            reader.read(choice, events)

    def _choices(self) -> Sized:
        return self._told

    def _is_over(self) -> bool:
        return any(choice.reason is not None for choice in self._told.values())

    def _close(self, events: list[StreamEvent]) -> None:
        for choice in self._told.values():
            choice.close(events)


class _ChoiceReader:
    __slots__ = (
        "_answer_id",
        "_blocks",
        "_calls",
        "_choice",
        "_details",
        "_ids",
        "_open",
        "_open_kind",
        "_refused",
        "_stop_sequence",
        "_thought",
        "reason",
    )

    def __init__(self, choice: int, answer_id: str) -> None:
        self._choice = choice
        self._answer_id = answer_id
        self._blocks = 0
        self._open = -1
        self._open_kind: Kind | None = None
        self._calls = Calls()
        self._ids: set[str] = set()
        self._details: list[Raw] = []
        self._thought = False
        self._refused = False
        self._stop_sequence: str | None = None
        self.reason: str | None = None

    def read(self, choice: AnswerChoice, events: list[StreamEvent]) -> None:
        # A message beside the deltas repeats what was said (MiniMax); alone it is all there is.
        said = choice.delta or (choice.message if not self._blocks else None)
        logprobs = choice.logprobs if given(choice.logprobs) else _NO_RAW
        if said is not None:
            self._said(said, logprobs, events)
        elif bytes(logprobs):
            self._more("text", "", events, logprobs)
        if choice.finish_reason is not None:
            self.reason = choice.finish_reason
            self._stop_sequence = stopped_at(choice)

    def _said(self, said: Said, logprobs: Raw, events: list[StreamEvent]) -> None:
        words = thought(said)
        if said.reasoning_details:
            self._details.extend(said.reasoning_details)
            words = words or detail_thought(said.reasoning_details)
        if words:
            self._thought = True
            self._more("thinking", words, events)
        if said.thinking_blocks:
            self._signed(said.thinking_blocks, events)
        content = said.content
        if isinstance(content, str):
            if content or bytes(logprobs):
                if said.refusal and bytes(logprobs):
                    self._more("refusal", said.refusal, events, logprobs)
                else:
                    self._more("text", content, events, logprobs)
        elif content:
            self._parts(content, events)
        elif bytes(logprobs):
            self._more("refusal" if said.refusal else "text", said.refusal or "", events, logprobs)
        for raw in said.annotations or ():
            index = self._block("text", events)
            events.append(BlockDelta(index=index, citation=citation(raw), choice=self._choice))
        if said.refusal and not bytes(logprobs):
            self._more("refusal", said.refusal, events)
        if said.audio is not None:
            spoken = said.audio
            index = self._block("audio", events, audio_id=spoken.id)
            if spoken.data:
                events.append(BlockDelta(index=index, audio=spoken.data, choice=self._choice))
            if spoken.transcript:
                events.append(BlockDelta(index=index, text=spoken.transcript, choice=self._choice))
        for entry in said.images or ():
            found = image(entry)
            if found is not None:
                self._whole(found, events)
        if said.tool_calls:
            for call in said.tool_calls:
                self._call_delta(call, events)
        if said.function_call is not None:
            self._call_delta(Call(index=0, function=said.function_call), events)

    # -------------------------------------------------------------- text of some kind

    def _more(self, kind: Kind, text: str, events: list[StreamEvent], logprobs: Raw = _NO_RAW) -> None:
        if kind == "refusal":
            self._refused = True
        index = self._open if self._open_kind == kind else self._block(kind, events)
        events.append(BlockDelta(index=index, text=text, choice=self._choice, logprobs=logprobs))

    def _block(self, kind: Kind, events: list[StreamEvent], audio_id: str | None = None) -> int:
        """The open block of a kind, or a new one."""
        if self._open_kind == kind:
            return self._open
        self._stop(events)
        block: Block
        if kind == "text":
            block = Text()
        elif kind == "thinking":
            block = Thinking(format=FAMILY)
        elif kind == "refusal":
            block = Refusal()
        else:
            block = Audio(source=Source(kind="data", value=""), id=audio_id)
        self._open_kind = kind
        self._open = self._begin(block, events)
        return self._open

    def _begin(self, block: Block, events: list[StreamEvent]) -> int:
        index = self._blocks
        self._blocks += 1
        events.append(BlockStart(index=index, block=block, choice=self._choice))
        return index

    def _stop(self, events: list[StreamEvent]) -> None:
        if self._open_kind is not None:
            events.append(BlockStop(index=self._open, choice=self._choice))
            self._open_kind = None

    def _whole(self, block: Block, events: list[StreamEvent]) -> None:
        self._stop(events)
        index = self._begin(block, events)
        events.append(BlockStop(index=index, choice=self._choice))

    def _parts(self, content: list[Raw], events: list[StreamEvent]) -> None:
        for block in parts(content):
            if isinstance(block, Text):
                if block.text:
                    self._more("text", block.text, events)
            elif isinstance(block, Thinking):
                if block.text:
                    self._thought = True
                    self._more("thinking", block.text, events)
            elif isinstance(block, Refusal):
                self._more("refusal", block.text, events)
            else:
                self._whole(block, events)

    def _signed(self, blocks: list[ThinkingBlock], events: list[StreamEvent]) -> None:
        """Proof of reasoning. Its words are repeated here unless no other field says them."""
        for block in blocks:
            if block.thinking and not self._thought:
                self._more("thinking", block.thinking, events)
            if block.signature or block.data:
                index = self._block("thinking", events)
                if block.signature:
                    events.append(BlockDelta(index=index, signature=block.signature, choice=self._choice))
                if block.data:
                    events.append(BlockDelta(index=index, redacted=block.data, choice=self._choice))
                self._stop(events)

    # -------------------------------------------------------------- calls

    def _call_delta(self, delta: Call, events: list[StreamEvent]) -> None:
        if delta.custom is not None:
            name, arguments = delta.custom.name, delta.custom.input or ""
        elif delta.function is not None:
            name, arguments = delta.function.name, argument_text(delta.function.arguments)
        else:
            name, arguments = None, ""
        call = self._calls.which(delta, name)
        if name and not call.name:
            call.name = name
        signature = call_signature(delta.extra_content)
        if call.block is None:
            call.arguments.append(arguments)
            call.signature = signature or call.signature
            if call.name:
                self._begin_call(call, events)
            return
        if arguments:
            call.arguments.append(arguments)
            events.append(BlockDelta(index=call.block, arguments=arguments, choice=self._choice))
        if signature and signature != call.signature:
            call.signature = signature
            events.append(BlockDelta(index=call.block, signature=signature, choice=self._choice))

    def _begin_call(self, call: CallSoFar, events: list[StreamEvent]) -> None:
        self._stop(events)
        place = self._calls.all.index(call)
        call_id = call.id or made_id(self._answer_id, self._choice, place)
        if call_id in self._ids:
            call_id = f"{call_id}_{place}"
        self._ids.add(call_id)
        block = ToolCall(
            id=call_id, name=call.name, arguments="", custom=call.custom, signature=call.signature
        )
        call.block = self._begin(block, events)
        held = "".join(call.arguments)
        if held:
            events.append(BlockDelta(index=call.block, arguments=held, choice=self._choice))

    # -------------------------------------------------------------- the end

    def close(self, events: list[StreamEvent]) -> None:
        self._stop(events)
        for call in self._calls.all:
            if call.block is None:
                self._begin_call(call, events)
            assert call.block is not None
            if not call.custom and not any(piece.strip() for piece in call.arguments):
                events.append(BlockDelta(index=call.block, arguments="{}", choice=self._choice))
            events.append(BlockStop(index=call.block, choice=self._choice))
        if self._details:
            self._whole(details_block(self._details), events)
        events.append(
            Finished(
                finish=finish(self.reason, called=bool(self._calls.all), refused=self._refused),
                stop_sequence=self._stop_sequence,
                choice=self._choice,
            )
        )


def read_failure(error: Raw) -> Failed:
    """An error event's object; its code or status is the HTTP status it would have been."""
    status = error_status(b'{"error":' + bytes(error) + b"}")
    try:
        said = _decode_error(error)
    except (msgspec.DecodeError, RecursionError):
        return Failed(message=bytes(error)[:500].decode(errors="replace"), status=status)
    return Failed(
        message=(said.message or "The provider reported an error.")[:2000],
        status=status,
        kind=said.type or "api_error",
        code=None if said.code is None else str(said.code),
    )
