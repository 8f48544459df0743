"""Anthropic's error object: ``{"type": "error", "error": {"type", "message"}, "request_id"}``, and its event."""

from __future__ import annotations

import msgspec

from tollway.simulator.answer import Refusal
from tollway.simulator.knobs import Knobs
from tollway.simulator.track import event

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Types by status, as documented."""


def error_body(refusal: Refusal) -> bytes:
    fallback = "invalid_request_error" if refusal.status < 500 else "api_error"
    # A knob's own type counts; the engine's neutral ones are OpenAI's words.
    kind = KINDS.get(refusal.status, fallback)
    if refusal.kind not in (None, "invalid_request_error"):
        kind = str(refusal.kind)
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": kind, "message": refusal.message},
            "request_id": f"req_{refusal.serial}",
        }
    )


def invalid(message: str) -> Refusal:
    return Refusal(400, message)


def error_event(knobs: Knobs) -> bytes:
    kind = knobs.error_type or "overloaded_error"
    message = knobs.error_message or "Overloaded"
    return event({"type": "error", "error": {"type": kind, "message": message}}, "error")
