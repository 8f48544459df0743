"""The dialect's error object, ``{"type": "error", "error": {"type", "message"}}``, with details beside the message."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.errors import GatewayError, UpstreamError
from tollway.wire.conversation import Failed
from tollway.wire.formats.anthropic_messages.reasons import error_kind

_encode = msgspec.json.Encoder().encode


def write_error(error: GatewayError) -> bytes:
    """The JSON body of a refusal. The type follows the HTTP status, or is the provider's own where it is one of the
    dialect's; ``code``, ``param`` and the details a program may want stand beside."""
    kind = error.upstream_kind if isinstance(error, UpstreamError) else None
    fields: dict[str, Any] = {
        **error.details,
        "type": error_kind(error.http_status, kind),
        "message": error.message,
        "code": error.error_code,
    }
    if error.param is not None:
        fields["param"] = error.param
    return _encode({"type": "error", "error": fields})


def error_event(failed: Failed) -> bytes:
    """The event that ends a stream which had begun. Nothing follows it."""
    fields = {"type": error_kind(failed.status, failed.kind), "message": failed.message}
    if failed.code is not None:
        fields["code"] = failed.code
    return b"event: error\ndata: " + _encode({"type": "error", "error": fields}) + b"\n\n"
