"""An answer of generateContent, whole or in the pieces of its stream, read into the hub.

Google gives no end mark: candidates are finished when the bytes end. Safety ratings and average log probabilities are
not carried. A refused prompt (``promptFeedback`` and no candidate) is a choice that ended with ``content_filter``.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    BlockStart,
    BlockStop,
    Completion,
    End,
    Failed,
    Finished,
    Metered,
    Refusal,
    Start,
    StreamEvent,
)
from tollway.wire.formats.gemini_generate.candidate import Candidate
from tollway.wire.formats.gemini_generate.errors import kind_of
from tollway.wire.formats.gemini_generate.fold import fold
from tollway.wire.formats.gemini_generate.grounding import searches
from tollway.wire.formats.gemini_generate.shapes import (
    Answer,
    PromptFeedback,
    RpcError,
    before_gemini_3,
    given,
)
from tollway.wire.formats.gemini_generate.usage import read_tier, read_usage

_decode = msgspec.json.Decoder(Answer).decode
_decode_error = msgspec.json.Decoder(RpcError, strict=False).decode


class Pieces:
    """What an answer has told so far. ``take`` gives the events of a piece, ``close`` those of the end."""

    __slots__ = ("_blocked", "_candidates", "_failed", "_model", "_started", "_usage", "seen")

    def __init__(self) -> None:
        self._started = False
        self._failed = False
        self._model = ""
        self._usage = Raw()
        self._blocked: PromptFeedback | None = None
        self._candidates: dict[int, Candidate] = {}
        self.seen = False
        """Whether anything came at all."""

    def take(self, data: bytes | Raw) -> list[StreamEvent]:
        """Events of one JSON object. Raises Unreadable."""
        try:
            told = _decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Unreadable(f"an answer of Gemini cannot be read: {error}") from None
        out: list[StreamEvent] = []
        if self._failed:
            return out
        self.seen = True
        if not self._started and not given(told.error):
            self._start(told, out)
        if given(told.error):
            self._fail(told.error, out)
            return out
        for told_candidate in told.candidates or ():
            number = told_candidate.index
            candidate = self._candidates.get(number)
            if candidate is None:
                candidate = self._candidates[number] = Candidate(number, told.response_id or "")
            try:
                candidate.take(told_candidate, out)
            except (BadRequest, msgspec.DecodeError, RecursionError) as error:
                raise Unreadable(f"a candidate of Gemini cannot be read: {error}") from None
        if given(told.usage_metadata):
            self._usage = told.usage_metadata
        if told.prompt_feedback is not None and told.prompt_feedback.block_reason:
            self._blocked = told.prompt_feedback
        return out

    def close(self, *, whole: bool) -> list[StreamEvent]:
        """Events of the end. In a stream (not ``whole``) a candidate without a finish reason was broken off."""
        out: list[StreamEvent] = []
        if self._failed:
            return out
        if not self._started or (not self._candidates and self._blocked is None and not whole):
            return self._broken(out, "The provider's stream ended before it said anything.")
        for candidate in self._candidates.values():
            if candidate.finish_reason is None and not whole:
                return self._broken(out, "The provider's stream broke off before its end.")
        if not self._candidates and self._blocked is not None:
            reason = self._blocked.block_reason or "OTHER"
            said = self._blocked.block_reason_message or f"The prompt was blocked by the provider: {reason}."
            out.append(BlockStart(index=0, block=Refusal(text=said)))
            out.append(BlockStop(index=0))
            out.append(Finished(finish="content_filter"))
        for number in sorted(self._candidates):
            self._candidates[number].finish(out)
        self._meter(out)
        out.append(End())
        return out

    def _start(self, told: Answer, out: list[StreamEvent]) -> None:
        self._started = True
        self._model = told.model_version or ""
        out.append(
            Start(
                id=told.response_id or "",
                model=self._model,
                created=_seconds(told.create_time),
                usage=read_usage(told.usage_metadata),
            )
        )

    def _meter(self, out: list[StreamEvent]) -> None:
        found = sum(searches(candidate.grounding) for candidate in self._candidates.values())
        if found and before_gemini_3(self._model):
            found = 1  # charged by the grounded prompt; by the query since Gemini 3
        usage = read_usage(self._usage, found)
        if usage is not None:
            out.append(Metered(usage=usage, raw=self._usage, service_tier=read_tier(self._usage)))

    def _broken(self, out: list[StreamEvent], message: str) -> list[StreamEvent]:
        for number in sorted(self._candidates):
            self._candidates[number].close(out)
        self._meter(out)
        self._failed = True
        out.append(Failed(message=message, status=502, code="upstream_malformed"))
        return out

    def _fail(self, raw: Raw, out: list[StreamEvent]) -> None:
        self._failed = True
        try:
            error = _decode_error(raw)
        except (msgspec.DecodeError, RecursionError):
            error = RpcError(message="The provider reported an error that cannot be read.")
        for number in sorted(self._candidates):
            self._candidates[number].close(out)
        self._meter(out)
        status = error.code if 400 <= error.code <= 599 else 502
        out.append(
            Failed(
                message=error.message or "The provider reported an error.",
                status=status,
                kind=kind_of(status),
                code=error.status,
            )
        )


def _seconds(time: str | None) -> int:
    if not time:
        return 0
    try:
        return int(datetime.fromisoformat(time).timestamp())
    except ValueError:
        return 0


def read_answer(body: bytes) -> Completion:
    """A whole answer. Raises Unreadable for anything else, an error object included."""
    pieces = Pieces()
    events = pieces.take(body)
    events += pieces.close(whole=True)
    for event in events:
        if isinstance(event, Failed):
            raise Unreadable(f"Gemini answered with an error: {event.message}")
    return fold(events)
