"""The events of one answer folded into the whole answer, so that a stream and its whole form give the same message."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

import msgspec
from msgspec import Raw, structs

from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    BlockStart,
    Choice,
    Citation,
    Completion,
    Finished,
    Metered,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.gemini_generate.shapes import given

_contents = msgspec.json.Decoder(dict[str, list[Raw]]).decode


class _Grown:
    __slots__ = ("audio", "block", "citations", "pieces", "redacted", "signature")

    def __init__(self, block: Block) -> None:
        self.block = block
        self.pieces: list[str] = []
        self.audio: list[str] = []
        self.citations: list[Citation] = []
        self.signature: str | None = None
        self.redacted: str | None = None

    def done(self) -> Block:
        block = self.block
        if isinstance(block, Text):
            return structs.replace(
                block,
                text=block.text + "".join(self.pieces),
                citations=(*block.citations, *self.citations),
                signature=self.signature or block.signature,
            )
        if isinstance(block, Thinking):
            text = block.text + "".join(self.pieces)
            return structs.replace(
                block,
                text=text,
                signature=self.signature or block.signature,
                redacted=self.redacted or block.redacted,
            )
        if isinstance(block, ToolCall):
            return structs.replace(block, arguments=block.arguments + "".join(self.pieces))
        if isinstance(block, Audio) and self.audio:
            return structs.replace(block, source=structs.replace(block.source, value=_joined(self.audio)))
        return block


def _joined(pieces: list[str]) -> str:
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join(base64.b64decode(piece) for piece in pieces)).decode()
    except binascii.Error:
        raise Unreadable("a piece of audio is not base64") from None


def fold(events: Iterable[StreamEvent]) -> Completion:
    """The answer that the events of this format's own reader tell."""
    start, metered = Start(), None
    choices: dict[int, list[_Grown]] = {}
    finished: dict[int, Finished] = {}
    logprobs: dict[int, list[Raw]] = {}
    for event in events:
        if isinstance(event, BlockDelta):
            grown = choices[event.choice][event.index]
            if event.text is not None:
                grown.pieces.append(event.text)
            elif event.arguments is not None:
                grown.pieces.append(event.arguments)
            elif event.redacted is not None:
                grown.redacted = event.redacted
            elif event.signature is not None:
                grown.signature = event.signature
            elif event.audio is not None:
                grown.audio.append(event.audio)
            elif event.citation is not None:
                grown.citations.append(event.citation)
            if given(event.logprobs):
                logprobs.setdefault(event.choice, []).extend(_contents(event.logprobs)["content"])
        elif isinstance(event, BlockStart):
            choices.setdefault(event.choice, []).append(_Grown(event.block))
        elif isinstance(event, Finished):
            finished[event.choice] = event
        elif isinstance(event, Metered):
            metered = event
        elif isinstance(event, Start):
            start = event
    return Completion(
        id=start.id,
        model=start.model,
        created=start.created,
        choices=tuple(
            Choice(
                blocks=tuple(grown.done() for grown in choices.get(number, ())),
                finish=finished[number].finish,
                logprobs=Raw(msgspec.json.encode({"content": logprobs[number]}))
                if number in logprobs
                else Raw(),
            )
            for number in sorted(finished)
        ),
        usage=metered.usage if metered else None,
        raw_usage=metered.raw if metered else Raw(),
        service_tier=metered.service_tier if metered else None,
    )
