"""Google's error object: ``{"error": {"code", "message", "status", "details"}}``."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tollway.simulator.answer import Refusal
from tollway.simulator.knobs import Knobs

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""Canonical codes by status."""

TYPES = "type.googleapis.com/google.rpc."

_AFTER = re.compile(rb"retry-after: (\d+)\r\n")


def error_body(refusal: Refusal) -> bytes:
    return msgspec.json.encode({"error": _error(refusal)})


def _error(refusal: Refusal) -> dict[str, Any]:
    status = STATUSES.get(refusal.status, "INVALID_ARGUMENT" if refusal.status < 500 else "UNKNOWN")
    if refusal.kind not in (None, "invalid_request_error"):
        status = str(refusal.kind)
    error: dict[str, Any] = {"code": refusal.status, "message": refusal.message, "status": status}
    details: list[dict[str, Any]] = []
    if refusal.code is not None:
        reason = {"reason": refusal.code, "domain": "googleapis.com"}
        details.append({"@type": TYPES + "ErrorInfo", **reason})
    if refusal.param is not None:
        violations = [{"field": refusal.param, "description": refusal.message}]
        details.append({"@type": TYPES + "BadRequest", "fieldViolations": violations})
    after = _AFTER.search(refusal.headers)
    if after is not None:
        details.append({"@type": TYPES + "RetryInfo", "retryDelay": after[1].decode() + "s"})
    if details:
        error["details"] = details
    return error


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    return Refusal(400, message, param=param, code=code)


def stream_error(knobs: Knobs) -> dict[str, Any]:
    """What a stream says that breaks off."""
    message = knobs.error_message or "The model is overloaded. Please try again later."
    return {"error": {"code": 503, "message": message, "status": knobs.error_type or "UNAVAILABLE"}}
