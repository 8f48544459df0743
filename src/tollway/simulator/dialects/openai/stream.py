"""How an OpenAI stream ends: with ``[DONE]``, without it, or with an error in the middle."""

from __future__ import annotations

from tollway.simulator.answer import Answer
from tollway.simulator.knobs import Knobs

DONE = b"data: [DONE]\n\n"

ERROR_EVENT = (
    b'data: {"error":{"message":"The server had an error while processing your request. Sorry about that!",'
    b'"type":"server_error","param":null,"code":null}}\n\n'
)


def stream(
    ident: str, events: list[bytes], tokens: list[int], usage: bytes | None, usage_at: int, knobs: Knobs
) -> Answer:
    """``tokens`` says what each event finished; events behind the last of them (usage) finish none."""
    if knobs.error_event is not None:
        events = [*events[: knobs.error_event], ERROR_EVENT]
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
