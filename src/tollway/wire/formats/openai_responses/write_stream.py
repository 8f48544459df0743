"""An answer written as the API's events, and as one object: the same events, kept to themselves.

A stream is ``response.created`` and ``response.in_progress``, the items one after the other, and one closing event
that holds the whole response; every event is numbered. There is no ``[DONE]`` and no sign of life in this dialect. A
failure is an ``error`` event, flat as documented and with the error object beside it as the service sends it (SDKs
raise on that one), and ``response.failed`` behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire.conversation import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Completion,
    Conversation,
    End,
    Failed,
    Finish,
    Finished,
    Metered,
    Start,
    StreamEvent,
    Text,
)
from tollway.wire.formats.openai_responses import logprobs
from tollway.wire.formats.openai_responses.answer import SERVER_ERROR, echo, response, status_of
from tollway.wire.formats.openai_responses.names import response_id
from tollway.wire.formats.openai_responses.output import Output
from tollway.wire.formats.openai_responses.settings import SERVICE_TIERS
from tollway.wire.formats.openai_responses.shapes import encode
from tollway.wire.one_at_a_time import OneAtATime

_CODE_OF_STATUS = {400: "invalid_prompt", 429: "rate_limit_exceeded"}


class ResponseWriter:
    """The state of one answer. Every event's frame is gathered until ``write`` hands it out."""

    def __init__(self, conversation: Conversation) -> None:
        self._echo = echo(conversation)
        self._model = conversation.model
        self._line = OneAtATime()
        self._output = Output(conversation, self._emit)
        self._frames: list[bytes] = []
        self._number = 0
        self._start: Start | None = None
        self._finish: Finish = "stop"
        self._usage: Usage | None = None
        self._cost: str | None = None
        self._tier: str | None = None
        self._over = False

    def write(self, events: Sequence[StreamEvent]) -> bytes:
        for event in self._line.pass_on(events):
            self._one(event)
        frames = b"".join(self._frames)
        self._frames.clear()
        return frames

    def _one(self, event: StreamEvent) -> None:
        if self._over:
            return
        if isinstance(event, BlockDelta):
            self._output.grow(event)
        elif isinstance(event, BlockStart):
            self._begin()
            self._output.start(event.block)
        elif isinstance(event, BlockStop):
            self._output.stop()
        elif isinstance(event, Start):
            self._begin(event)
        elif isinstance(event, Finished):
            self._finish = event.finish
        elif isinstance(event, Metered):
            self._usage = event.usage
            self._cost = event.cost
            self._tier = event.service_tier or self._tier
        elif isinstance(event, Failed):
            self._fail(event)
        elif isinstance(event, End):
            self._end()

    def _emit(self, kind: str, fields: dict[str, object]) -> None:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        data = encode(event)
        if b"\n" in data or b"\r" in data:
            # Of values passed on as they came; in JSON a line end is never part of a string.
            data = data.replace(b"\n", b" ").replace(b"\r", b" ")
        self._frames.append(b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n")

    def _begin(self, start: Start | None = None) -> None:
        if self._start is not None:
            return
        self._start = start or Start()
        self._output.answer_id = self._start.id
        self._usage = self._start.usage
        self._tier = self._start.service_tier
        begun = self._response("in_progress", usage=False)
        self._emit("response.created", {"response": begun})
        self._emit("response.in_progress", {"response": begun})

    def _response(
        self,
        status: str,
        *,
        usage: bool = True,
        error: dict[str, object] | None = None,
        reason: str | None = None,
    ) -> Raw:
        start = self._start or Start()
        return response(
            answer_id=response_id(start.id),
            model=start.model or self._model,
            created=start.created,
            status=status,
            output=self._output.items,
            echoed=self._echo,
            usage=self._usage if usage else None,
            cost=self._cost,
            service_tier=self._tier if self._tier in SERVICE_TIERS else None,
            error=error,
            reason=reason,
        )

    def _end(self) -> None:
        self._begin()
        self._over = True
        status, reason = status_of(self._finish, self._output.refused)
        self._output.close("incomplete" if status != "completed" else "completed")
        error: dict[str, object] | None = dict(SERVER_ERROR) if status == "failed" else None
        self._emit(f"response.{status}", {"response": self._response(status, error=error, reason=reason)})

    def _fail(self, failed: Failed) -> None:
        self._begin()
        self._over = True
        self._output.close("incomplete")
        code = failed.code or _CODE_OF_STATUS.get(failed.status, "server_error")
        error: dict[str, object] = {"code": code, "message": failed.message, "param": None}
        self._emit("error", {**error, "error": {"type": failed.kind, **error}})
        told: dict[str, object] = {"code": code, "message": failed.message}
        self._emit("response.failed", {"response": self._response("failed", error=told)})


class _WholeWriter(ResponseWriter):
    """The same answer without events: what the last of them would hold."""

    def _emit(self, kind: str, fields: dict[str, object]) -> None:
        """Nobody listens."""

    def whole(self, answer: Completion) -> bytes:
        self._begin(
            Start(
                id=answer.id,
                model=answer.model,
                created=answer.created,
                usage=answer.usage,
                service_tier=answer.service_tier,
            )
        )
        self._cost = answer.cost
        choice = answer.choices[0] if answer.choices else None
        if choice is not None:
            tokens = logprobs.tokens(choice.logprobs)
            for block in choice.blocks:
                if tokens and isinstance(block, Text):
                    self._output.start(Text())
                    self._output.say(block.text, logprobs.taken(tokens, block.text))
                    for citation in block.citations:
                        self._output.grow(BlockDelta(index=0, citation=citation))
                else:
                    self._output.start(block)
                self._output.stop()
            self._finish = choice.finish
        status, reason = status_of(self._finish, self._output.refused)
        self._output.close("incomplete" if status != "completed" else "completed")
        error: dict[str, object] | None = dict(SERVER_ERROR) if status == "failed" else None
        return bytes(self._response(status, error=error, reason=reason))


def write_answer(answer: Completion, conversation: Conversation) -> bytes:
    return _WholeWriter(conversation).whole(answer)
