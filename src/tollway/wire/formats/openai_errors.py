"""The OpenAI dialect's error object, ``{"error": {"message", "type", "param", "code"}}``, with details beside them."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.errors import GatewayError, UpstreamError

_encode = msgspec.json.Encoder().encode


def error_body(error: GatewayError) -> bytes:
    """The JSON body of a refusal. ``details`` (budget, held, reset time, provider …) stand beside the four fields."""
    kind = error.kind
    if isinstance(error, UpstreamError) and error.upstream_kind:
        kind = error.upstream_kind
    fields: dict[str, Any] = {
        "message": error.message,
        "type": kind,
        "param": error.param,
        "code": error.error_code,
        **error.details,
    }
    return _encode({"error": fields})


def error_event(error: GatewayError) -> bytes:
    """The event that ends a stream which had begun: the error object as data, as OpenAI's SDKs expect it."""
    return b"data: " + error_body(error) + b"\n\n"
