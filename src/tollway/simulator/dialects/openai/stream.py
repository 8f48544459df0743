"""How an OpenAI stream ends: with ``[DONE]``, without it, or with an error in the middle."""

from __future__ import annotations

import msgspec

from tollway.simulator.answer import Answer
from tollway.simulator.knobs import Knobs

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


def error_event(knobs: Knobs) -> bytes:
    error = {
        "message": knobs.error_message or "Simulated error in the middle of a stream.",
        "type": knobs.error_type or "server_error",
        "param": None,
        "code": knobs.error_code,
    }
    return b"data: %b\n\n" % _encode({"error": error})


def stream(
    ident: str, events: list[bytes], tokens: list[int], usage: bytes | None, usage_at: int, knobs: Knobs
) -> Answer:
    """``tokens`` says what each event finished; events behind the last of them (usage) finish none."""
    if knobs.error_event is not None:
        events = [*events[: knobs.error_event], error_event(knobs)]
        tokens = tokens[: knobs.error_event]
        if usage_at >= knobs.error_event:
            usage = None
    elif not knobs.no_done:
        events.append(DONE)
    return Answer(
        ident,
        events,
        streamed=True,
        content_type=b"text/event-stream; charset=utf-8",
        headers=b"cache-control: no-cache\r\n",
        usage=usage,
        usage_at=usage_at,
        event_tokens=tokens,
    )
