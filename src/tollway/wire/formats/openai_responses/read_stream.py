"""A provider's event stream of the Responses API into the hub's events.

Blocks open with the first event that tells of them and close with their ``…done``. What only a ``done`` event or the
closing response says (texts without deltas, whole items) is made up for, so that servers which leave events out lose
nothing. Progress of tools the provider runs is passed over: their item comes whole when it is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from tollway.wire import decoding, sse
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import End, Failed, Finished, Metered, Ping, Start, StreamEvent
from tollway.wire.formats.openai_responses import shapes
from tollway.wire.formats.openai_responses.read_answer import finish_of
from tollway.wire.formats.openai_responses.stream_items import StreamItems
from tollway.wire.formats.openai_usage import read_usage

_event = msgspec.json.Decoder(shapes.Event)
_response = msgspec.json.Decoder(shapes.Response)
_error = msgspec.json.Decoder(shapes.AnswerError)

_BEGINNINGS = frozenset(("response.created", "response.queued", "response.in_progress"))
_ENDS = frozenset(("response.completed", "response.incomplete", "response.failed", "response.cancelled"))
_LIFE = frozenset(("keepalive", "ping"))
_ERRORS = frozenset(("error", "response.error", ""))
"""An error without a type is how servers of the chat format tell one. Other events may hold the error of a tool."""
_FAILED = ("failed", "cancelled")
_STATUS = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "authentication_error": 401,
}
"""The HTTP status that an error's code or type stands for; 502 where it is none of these."""


class ResponseReader:
    """The state of one stream."""

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._out: list[StreamEvent] = []
        self._items = StreamItems(self._out)
        self._started = False
        self._over = False

    def feed(self, data: bytes) -> list[StreamEvent]:
        block = self._splitter.feed(data)
        if not block:
            return []
        for part in sse.split(block):
            self._frame(part)
        return self._taken()

    def finish(self) -> list[StreamEvent]:
        rest = self._splitter.rest()
        if rest.strip():
            # A last event without its blank line counts, one that was torn off does not.
            with contextlib.suppress(Unreadable):
                self._frame(rest)
        if not self._over:
            self._over = True
            self._out.append(Failed(message="The provider's stream broke off before the response was over."))
        return self._taken()

    def _taken(self) -> list[StreamEvent]:
        out = list(self._out)
        self._out.clear()
        return out

    def _frame(self, part: bytes) -> None:
        if self._over:
            return
        data = sse.parse(part).data
        if data is None:
            if part.startswith(b":"):
                self._out.append(Ping())
            return
        if not data.strip() or data.strip() == b"[DONE]":
            return
        event = decoding.answer(_event, data, "an event")
        handler = _HANDLERS.get(event.type)
        if handler is not None:
            if not self._started:
                self._begin(event)
            handler(self._items, event)
        elif event.type in _BEGINNINGS:
            self._begin(event)
        elif event.type in _ENDS:
            self._end(event)
        elif event.type in _ERRORS and (event.type or decoding.given(event.error)):
            self._read_error(event)
        elif event.type in _LIFE:
            self._out.append(Ping())

    def _begin(self, event: shapes.Event) -> None:
        if self._started:
            return
        self._started = True
        found = shapes.Response()
        if decoding.given(event.response):
            found = decoding.answer(_response, event.response, "the response")
        self._out.append(
            Start(
                id=found.id or "",
                model=found.model or "",
                created=int(found.created_at or 0),
                service_tier=found.service_tier,
            )
        )

    def _end(self, event: shapes.Event) -> None:
        if not decoding.given(event.response):
            raise Unreadable(f"{event.type} holds no response")
        self._begin(event)
        found = decoding.answer(_response, event.response, "the response")
        if not self._items.seen:
            for index, raw in enumerate(found.output or ()):
                self._items.item(index, raw)
        self._items.close_all()
        # Some servers close with a response that still says it is in progress; the event's name is what counts.
        found.status = event.type.removeprefix("response.")
        failed = found.status in _FAILED
        if not failed:
            self._out.append(Finished(finish=finish_of(found, self._items.seen)))
        usage = read_usage(found.usage) if decoding.given(found.usage) else None
        if usage is not None:
            self._out.append(Metered(usage=usage, raw=found.usage, service_tier=found.service_tier))
        if failed:
            self._fail(found.error or shapes.AnswerError(), "The provider's response failed.")
            return
        self._over = True
        self._out.append(End())

    def _read_error(self, event: shapes.Event) -> None:
        error = shapes.AnswerError(code=event.code, message=event.message)
        if decoding.given(event.error):
            error = decoding.answer(_error, event.error, "an error event")
        self._fail(error, "The provider reported an error.")

    def _fail(self, error: shapes.AnswerError, otherwise: str) -> None:
        code = None if error.code is None else str(error.code)
        status = _STATUS.get(code or "") or _STATUS.get(error.type or "") or 502
        if code is not None and code.isdecimal() and len(code) == 3 and "400" <= code <= "599":
            status = int(code)
        self._over = True
        self._out.append(
            Failed(
                message=str(error.message or otherwise),
                status=status,
                code=code,
                kind=error.type or "api_error",
            )
        )


_HANDLERS: dict[str, Callable[[StreamItems, shapes.Event], None]] = {
    "response.output_item.added": StreamItems.added,
    "response.output_item.done": StreamItems.done,
    "response.content_part.added": StreamItems.part_added,
    "response.content_part.done": StreamItems.part_done,
    "response.output_text.delta": StreamItems.text_delta,
    "response.output_text.done": StreamItems.text_done,
    "response.output_text.annotation.added": StreamItems.annotated,
    "response.refusal.delta": StreamItems.refusal_delta,
    "response.refusal.done": StreamItems.refusal_done,
    "response.function_call_arguments.delta": StreamItems.arguments_delta,
    "response.custom_tool_call_input.delta": StreamItems.arguments_delta,
    "response.reasoning_summary_text.delta": StreamItems.summary_delta,
    "response.reasoning_text.delta": StreamItems.thought_delta,
}
