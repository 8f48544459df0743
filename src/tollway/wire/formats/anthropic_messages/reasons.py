"""Why an answer ended and what kind of error happened: the API's names and ours, both ways. Tables only."""

from __future__ import annotations

from collections.abc import Iterable

from tollway.wire.conversation import Block, Finish, ToolCall

_READ: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "compaction": "pause",
    "refusal": "refusal",
}

_WRITTEN: dict[Finish, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "error": "end_turn",
}

_KIND_OF_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_STATUS_OF_KIND = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def read_reason(reason: str | None) -> Finish:
    """A ``stop_reason`` in our words; one we do not know is an ordinary end."""
    return _READ.get(reason or "", "stop")


def write_reason(finish: Finish, stop_sequence: str | None, calls: bool) -> str:
    """Our reason as a ``stop_reason``. ``calls``: the answer holds tool calls; then a plain end is ``tool_use``, since
    agents look at nothing else to know that they have to act. The API has no name for ``error``."""
    if finish == "stop":
        if stop_sequence is not None:
            return "stop_sequence"
        if calls:
            return "tool_use"
    return _WRITTEN[finish]


def has_calls(blocks: Iterable[Block]) -> bool:
    return any(isinstance(block, ToolCall) for block in blocks)


def error_kind(status: int, kind: str | None = None) -> str:
    """The API's error type: ``kind`` where that is one of its own, else by HTTP status."""
    if kind is not None and kind in _STATUS_OF_KIND and kind not in ("api_error", "invalid_request_error"):
        return kind
    found = _KIND_OF_STATUS.get(status)
    if found is not None:
        return found
    return "invalid_request_error" if 400 <= status < 500 else "api_error"


def error_status(kind: str) -> int:
    """The HTTP status that an error type stands for; 502 for one we do not know."""
    return _STATUS_OF_KIND.get(kind, 502)
