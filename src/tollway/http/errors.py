"""Refusals as answers: status, headers and a body in the client's own dialect. Never a stack trace, never a secret."""

from __future__ import annotations

from collections.abc import Callable

from tollway.errors import BudgetExceeded, GatewayError, UpstreamError
from tollway.wire.codecs import codec
from tollway.wire.formats import openai_errors


def _by(format: str) -> Callable[[GatewayError], bytes]:
    """A dialect's own body; its codec is imported with the first refusal in it."""
    return lambda error: codec(format).write_error(error)


BODIES: dict[str, Callable[[GatewayError], bytes]] = {
    "openai": openai_errors.error_body,
    "anthropic": _by("anthropic.messages"),
    "gemini": _by("gemini.generate"),
    "cohere": _by("cohere.chat"),
}

_JSON = b"content-type: application/json\r\n"


def refusal(
    error: GatewayError, request_id: str, dialect: str = "openai", budget_status: int = 402
) -> tuple[int, bytes, bytes]:
    """(status, header lines, body). ``budget_status`` is what the operator wants for an exhausted budget."""
    status = error.http_status
    if isinstance(error, BudgetExceeded):
        status = budget_status
    if not 400 <= status <= 599:
        status = 502
    lines = [_JSON, b"x-tollway-request-id: ", request_id.encode(), b"\r\n"]
    if isinstance(error, UpstreamError):
        lines += [b"x-tollway-provider: ", error.provider.encode("ascii", "replace"), b"\r\n"]
        if error.retry_after is not None and "retry-after" not in error.headers:
            lines.append(b"retry-after: %d\r\n" % max(round(error.retry_after), 0))
    if dialect == "anthropic":
        lines += [b"request-id: ", request_id.encode(), b"\r\n"]
    for name, value in error.headers.items():
        clean = value.replace("\r", " ").replace("\n", " ").encode("ascii", "replace")
        lines += [name.encode("ascii"), b": ", clean, b"\r\n"]
    return status, b"".join(lines), BODIES[dialect](error)
