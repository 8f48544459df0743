"""Errors in the shape of Google's APIs: ``{"error": {"code", "message", "status", "details"}}``.

``status`` is the name of the ``google.rpc.Code`` that goes with the HTTP status. ``details`` hold what a program may
want: ``ErrorInfo`` with our stable code, ``BadRequest`` with the field, ``RetryInfo`` with the seconds to wait.
"""

from __future__ import annotations

import msgspec

from tollway.errors import GatewayError, UpstreamError

_encode = msgspec.json.Encoder().encode
_TYPE = "type.googleapis.com/google.rpc."

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def status_name(status: int) -> str:
    found = STATUSES.get(status)
    if found is not None:
        return found
    return "INVALID_ARGUMENT" if 400 <= status < 500 else "INTERNAL"


def kind_of(status: int) -> str:
    """The hub's kind for a status that Google reported in a stream."""
    found = _KINDS.get(status)
    if found is not None:
        return found
    return "invalid_request_error" if 400 <= status < 500 else "api_error"


def error_object(
    status: int, message: str, details: list[dict[str, object]] | None = None, name: str | None = None
) -> dict[str, object]:
    told: dict[str, object] = {"code": status, "message": message, "status": name or status_name(status)}
    if details:
        told["details"] = details
    return {"error": told}


def write_error(error: GatewayError) -> bytes:
    """The JSON body of a refusal. A provider that speaks this format is quoted with its own status name."""
    status = error.http_status
    metadata = {
        name: value if isinstance(value, str) else _encode(value).decode()
        for name, value in error.details.items()
        if value is not None
    }
    info: dict[str, object] = {
        "@type": f"{_TYPE}ErrorInfo",
        "reason": error.error_code.upper(),
        "domain": "tollway",
    }
    if metadata:
        info["metadata"] = metadata
    details = [info]
    if error.param:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    wait = error.headers.get("retry-after")
    if wait is None and isinstance(error, UpstreamError) and error.retry_after is not None:
        wait = format(error.retry_after, "g")
    if wait is not None and wait.replace(".", "", 1).isdecimal():
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{wait}s"})
    named = error.upstream_code if isinstance(error, UpstreamError) else None
    return _encode(
        error_object(status, error.message, details, named if named in STATUSES.values() else None)
    )
