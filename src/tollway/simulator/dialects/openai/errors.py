"""OpenAI's error object: ``{"error": {"message", "type", "param", "code"}}``, and what goes with a bare
status."""

from __future__ import annotations

import msgspec

from tollway.simulator.answer import Refusal

KINDS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    408: ("server_error", "request_timeout"),
    409: ("invalid_request_error", "conflict"),
    413: ("invalid_request_error", "request_too_large"),
    422: ("invalid_request_error", "unprocessable_entity"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    502: ("server_error", "bad_gateway"),
    503: ("server_error", "service_unavailable"),
    504: ("server_error", "gateway_timeout"),
    529: ("server_error", "overloaded"),
}
"""Type and code by status; the status decides where a request asks for no others."""


def error_body(refusal: Refusal) -> bytes:
    fallback = "invalid_request_error" if refusal.status < 500 else "server_error"
    kind, code = KINDS.get(refusal.status, (fallback, None))
    # A refusal that names its type says everything itself: its code may well be null.
    if refusal.kind is not None:
        kind, code = refusal.kind, refusal.code
    elif refusal.code is not None:
        code = refusal.code
    return msgspec.json.encode(
        {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": code}}
    )


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    return Refusal(400, message, kind="invalid_request_error", code=code, param=param)


MOST_USER = 64


def check_user(user: object) -> None:
    """Raises the Refusal of an end user's id that is too long."""
    if isinstance(user, str) and len(user) > MOST_USER:
        raise invalid(
            f"Invalid 'user': string too long. Expected a string with maximum length {MOST_USER}, but got a string "
            f"with length {len(user)} instead.",
            "user",
            "string_above_max_length",
        )
